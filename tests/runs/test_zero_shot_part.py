"""A pretrained classifier as it is, in a study: real photos, real weights."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from sklearn.metrics import accuracy_score

from headstart import run
from headstart._util.progress import SilentProgress
from headstart.backbones.registry import load_backbone
from headstart.data.image import decode, transform
from headstart.errors import ConfigError

STUDY = """
name: as-it-is
title: As it is
data: {{kind: auto, path: {photos}, split: {{train: 0.4, val: 0.2, test: 0.4}}}}
backbones:
  resized: {{name: packaged/efficientnet-lite0, fit: resize}}
  padded: {{name: packaged/efficientnet-lite0, fit: pad}}
cache: {{engine: torch}}
timing: {{samples: 2, repeats: 1}}
parts:
{parts}
"""


@pytest.fixture
def real_photos(tmp_path: Path) -> Path:
    """Pieces of scikit-learn's two sample photos: a flower and a Chinese palace."""
    rng = np.random.default_rng(0)
    for name, photo in zip(("palace", "daisy"), load_sample_images().images, strict=True):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(8):
            top, left = rng.integers(0, 60, 2)
            piece = Image.fromarray(photo[top : top + 360, left : left + 560]).resize((90, 58))
            piece.save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


@pytest.fixture
def go(tmp_path: Path, real_photos: Path, monkeypatch: pytest.MonkeyPatch) -> Callable:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))

    def start(parts: str) -> object:
        path = tmp_path / "study.yaml"
        path.write_text(STUDY.format(photos=real_photos, parts=parts))
        return run(path, out=tmp_path / "runs", show=SilentProgress())

    return start


def test_top_1_and_top_5_are_what_the_network_itself_says(go: Callable, real_photos: Path) -> None:
    result = go(
        "  resized: {kind: zero_shot, backbone: resized, top_images: 2}\n"
        "  padded: {kind: zero_shot, backbone: padded}\n"
        "  together: {kind: ensemble, members: [resized, padded]}\n"
    )
    backbone = load_backbone("packaged/efficientnet-lite0", fit="resize")
    resized, padded, together = result.results["models"]
    table = pq.read_table(result.folder / resized["predictions"]["test"]).to_pandas()
    batch = np.stack(
        [
            transform(decode((real_photos / name).read_bytes()), backbone.input_spec)
            for name in table.name
        ]
    )
    with torch.no_grad():
        logits = backbone.classifier(backbone.prefix("pooled")(torch.from_numpy(batch)))
    places = {"daisy": 985, "palace": 698}
    truth = torch.tensor([places[label] for label in table.label])
    top1 = float((logits.argmax(dim=1) == truth).float().mean())
    top5 = float((logits.topk(5).indices == truth[:, None]).any(dim=1).float().mean())
    metrics = resized["metrics"]["test"]
    assert metrics["top1"]["value"] == pytest.approx(top1)
    assert metrics["top5"]["value"] == pytest.approx(top5)
    assert top5 > 0
    # Among the data set's own two classes the probabilities are shared out anew.
    among = torch.softmax(logits[:, [985, 698]], dim=1).numpy()
    assert np.allclose(table[["p_0", "p_1"]].to_numpy(), among, atol=1e-4)
    accuracy = accuracy_score(table.label, table.predicted)
    assert metrics["accuracy"]["value"] == pytest.approx(accuracy)
    # What was padded is another input: nothing is taken for it that was computed for the other.
    assert padded["metrics"]["test"]["top5"]["value"] <= top5
    assert together["metrics"]["test"]["accuracy"]["n"] == len(table)
    zero_shot = resized["zero_shot"]
    assert (zero_shot["classes"], zero_shot["mapped"]) == (1000, 2)
    assert len(zero_shot["tables"]) == 2
    for one in zero_shot["tables"]:
        shown = dict(zip(table.name, logits.softmax(dim=1), strict=True))[one["image"]]
        expected = shown.topk(10)
        assert [row["index"] for row in one["rows"]] == expected.indices.tolist()
        got = [row["probability"] for row in one["rows"]]
        assert np.allclose(got, expected.values.numpy(), atol=1e-4)
        assert one["label"] in ("n11939491", "n03877845")


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("wordnet: {daisy: n99999999}", r"(?s)parts.one: .*n99999999"),
        ("top_images: [daisy/99.png]", r"parts.one.top_images: .*'daisy/99.png'.*did you mean"),
    ],
)
def test_what_cannot_be_is_told_before_any_work(
    go: Callable, tmp_path: Path, part: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        go(f"  one: {{kind: zero_shot, backbone: resized, {part}}}")
    assert not (tmp_path / "runs").exists()
