"""Does the analysis find what was hidden? A leak, and flipped labels, planted into real photos.

    python -m benchmarks.evidence FOLDER

FOLDER has one folder of photos for each class. Twenty test photos are saved again as JPEG of
quality 80 into the training folder; then, apart from that, 5% of the training labels are flipped.
Each time a study runs on frozen features of EfficientNet-Lite0, and what its report found is held
against what was planted.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from headstart import run
from headstart.config.schema import Experiment

COPIES = 20
FLIPPED = 0.05
SHARES = (("train", 0.6), ("val", 0.15), ("test", 0.25))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        leak(given.folder, root / "leak", given.seed, root)
        labels(given.folder, root / "labels", given.seed, root)


def share_out(folder: Path, target: Path, seed: int) -> dict[str, list[Path]]:
    """Copy the photos into train, val and test folders; return the new paths by split."""
    draws = np.random.default_rng(seed)
    out: dict[str, list[Path]] = {split: [] for split, _ in SHARES}
    for kind in sorted(p for p in folder.iterdir() if p.is_dir()):
        photos = sorted(kind.iterdir())
        order = draws.permutation(len(photos))
        ends = np.cumsum([round(share * len(photos)) for _, share in SHARES])
        for place, index in enumerate(order):
            split = SHARES[min(int(np.searchsorted(ends, place, side="right")), 2)][0]
            path = target / split / kind.name / photos[index].name
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(photos[index], path)
            out[split].append(path)
    return out


def analysed(name: str, data: Path, out: Path) -> dict:
    """Run a study on the frozen features and return its results."""
    study = Experiment.model_validate(
        {
            "name": name,
            "title": name,
            "data": {"kind": "auto", "path": str(data)},
            "backbones": {"lite0": {"name": "packaged/efficientnet-lite0"}},
            "parts": {"probe": {"kind": "model", "head": {"kind": "logistic", "c": (0.03, 0.3)}}},
            "timing": {"measure": False},
        }
    )
    result = run(study, out=out)
    return json.loads((result.folder / "results.json").read_text())


def leak(folder: Path, data: Path, seed: int, out: Path) -> None:
    paths = share_out(folder, data, seed)
    draws = np.random.default_rng(seed)
    chosen = [paths["test"][i] for i in draws.choice(len(paths["test"]), COPIES, replace=False)]
    for path in chosen:
        copy = data / "train" / path.parent.name / f"again-{path.stem}.jpg"
        Image.open(path).convert("RGB").save(copy, "JPEG", quality=80)
    found = analysed("leak", data, out)["analysis"]["near_duplicates"]
    planted = {f"{p.parent.name}/{p.name}" for p in chosen}
    touched = {one["test_name"].removeprefix("test/") for one in found["pairs"]}
    model = found["models"][0]
    print(
        f"leak: {len(touched & planted)} of {COPIES} planted copies found, "
        f"{len(touched - planted)} other test photos called near-copies; accuracy "
        f"{model['accuracy']['value']:.3f} with them, {model['without']['value']:.3f} without"
    )
    for one in found["pairs"]:
        if one["test_name"].removeprefix("test/") not in planted:
            print(f"  other: {one['test_name']} ~ {one['train_name']} ({one['similarity']:.3f})")


def labels(folder: Path, data: Path, seed: int, out: Path) -> None:
    paths = share_out(folder, data, seed)
    draws = np.random.default_rng(seed)
    learnt = paths["train"] + paths["val"]
    kinds = sorted({p.parent.name for p in learnt})
    flipped = set()
    for index in draws.choice(len(learnt), round(FLIPPED * len(learnt)), replace=False):
        path = learnt[index]
        wrong = draws.choice([k for k in kinds if k != path.parent.name])
        shutil.move(path, path.parent.parent / wrong / f"flipped-{path.parent.name}-{path.name}")
        flipped.add(f"flipped-{path.parent.name}-{path.name}")
    found = analysed("labels", data, out)["analysis"]["suspicious_labels"]
    listed = found["list"]
    named = {Path(one["name"]).name for one in listed}
    hits = len(named & flipped)
    print(
        f"labels: {len(flipped)} of {found['checked']} flipped; {found['found']} called suspicious "
        f"and the worst {len(listed)} listed, of which {hits} were flipped: precision "
        f"{hits / max(len(named), 1):.2f}, recall {hits / len(flipped):.2f}; estimated share of "
        f"wrong labels {found['share']:.3f}"
    )


if __name__ == "__main__":
    main()
