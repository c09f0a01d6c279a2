"""Frozen features of texts: by length, against everything filled up to 512 tokens.

The second is what most scripts do: the library's own tokenizer and network, `padding="max_length"`,
batches of 32, mean pooling. Both compute the same features, and their largest difference is printed
beside the ratio. The first pays for measuring the texts and for writing what it computes.
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.reviews import Texts, made, read
from headstart._util.progress import SilentProgress
from headstart.backbones.base import TextOptions
from headstart.backbones.registry import load_backbone
from headstart.backbones.transformers_packaged import package_folder
from headstart.features.extract import extract
from headstart.features.store import FeatureStore

LONGEST = 512
BATCH = 32
CPU = torch.device("cpu")


@torch.inference_mode()
def filled_up(texts: Sequence[str]) -> np.ndarray:
    """Compute mean-pooled features the usual way."""
    from transformers import AutoModel, AutoTokenizer

    folder = package_folder()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    rows = []
    for start in range(0, len(texts), BATCH):
        batch = tokenizer(
            list(texts[start : start + BATCH]),
            padding="max_length",
            truncation=True,
            max_length=LONGEST,
            return_tensors="pt",
        )
        hidden = model(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1)
        rows.append(((hidden * mask).sum(1) / mask.sum(1)).numpy())
    return np.concatenate(rows)


def by_length(texts: Sequence[str], store: Path) -> np.ndarray:
    """Compute the same features by Headstart, with a cold cache."""
    backbone = load_backbone("packaged/minilm-l6", text=TextOptions(max_length=LONGEST))
    found = extract(
        Texts(texts),
        range(len(texts)),
        backbone,
        "pooled",
        store=FeatureStore(store),
        device=CPU,
        progress=SilentProgress(),
    )
    return found.features.load()


def texts_by_length(texts: Sequence[str]) -> str:
    """Return a line of the table."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        ours = by_length(texts, Path(folder))
    middle = time.perf_counter()
    theirs = filled_up(texts)
    end = time.perf_counter()
    apart = float(np.abs(ours - theirs).max())
    return (
        f"| frozen MiniLM-L6 of {len(texts):,} texts by length ({middle - start:.1f} s), against "
        f"all filled up to {LONGEST} tokens ({end - middle:.1f} s); features differ by {apart:.0e} "
        f"at most | {(end - middle) / (middle - start):.1f}× |"
    )


def main() -> None:
    """Measure on a data set of texts, or on made ones: python -m benchmarks.texts [FOLDER] [N]."""
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    rows = read(Path(sys.argv[1]), count) if len(sys.argv) > 1 else made(count)
    print(texts_by_length([text for text, _ in rows]))


if __name__ == "__main__":
    main()
