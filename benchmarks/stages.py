"""Fine-tuning the last stage: from stored activations against recomputing them at every step.

Both are parts of one study and run in one process, each with everything it needs: the stored one
pays for choosing an engine, extraction and writing. They begin from the same weights and make the
same steps; the difference of the weights that they end with is printed beside the ratio.
"""

import io
import os
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from headstart import run
from headstart._util.progress import SilentProgress

EPOCHS = 4

STUDY = """
name: stages
title: The last stage, stored against recomputed
data: {{kind: auto, path: {data}, split: {{train: 0.7, val: 0.2, test: 0.1}}}}
backbones:
  network: {{name: {network}, weights: {weights}}}
timing: {{measure: false}}
parts:
  stored:
    kind: model
    optimizer: {{kind: sgd, learning_rate: 0.001, momentum: 0.9}}
    stages: [{{trainable: {{last: 1}}, epochs: {epochs}, features: stored}}]
  recomputed:
    kind: model
    optimizer: {{kind: sgd, learning_rate: 0.001, momentum: 0.9}}
    stages: [{{trainable: {{last: 1}}, epochs: {epochs}, features: recomputed}}]
comparisons: [{{a: stored, b: recomputed}}]
"""


def make_pictures(folder: Path, count: int) -> None:
    """Write pictures of noise around a colour, one folder for each of two classes."""
    rng = np.random.default_rng(0)
    for label, colour in (("warm", (180, 90, 60)), ("cold", (60, 90, 180))):
        (folder / label).mkdir(parents=True)
        for number in range(count // 2):
            pixels = np.clip(np.array(colour) + rng.normal(0, 60, size=(240, 320, 3)), 0, 255)
            buffer = io.BytesIO()
            Image.fromarray(pixels.astype(np.uint8)).save(buffer, "JPEG", quality=90)
            (folder / label / f"{number}.jpg").write_bytes(buffer.getvalue())


def last_stage(network: str, weights: str, pictures: int) -> str:
    """Fine-tune the last stage with weights and the head for four epochs, both ways.

    Args:
        network: Name of the backbone.
        weights: ``pretrained`` or ``random``.
        pictures: How many pictures there are.

    Returns:
        A row of the table.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_pictures(folder / "data", pictures)
        study = folder / "stages.yaml"
        text = STUDY.format(data=folder / "data", network=network, weights=weights, epochs=EPOCHS)
        study.write_text(text)
        before = os.environ.get("HEADSTART_CACHE")
        os.environ["HEADSTART_CACHE"] = str(folder / "cache")  # cold
        try:
            result = run(study, out=folder / "runs", show=SilentProgress())
        finally:
            if before is None:
                del os.environ["HEADSTART_CACHE"]
            else:
                os.environ["HEADSTART_CACHE"] = before
        (pair,) = result.results["comparisons"]
    return (
        f"| last stage of {network}, {EPOCHS} epochs, {pictures} pictures: stored against "
        f"recomputed (weights differ by {pair['weights_relative_difference']:.0e}; "
        f"{pair['seconds_b']:.0f} s -> {pair['seconds_a']:.0f} s) | {pair['speedup']:.1f}× |"
    )
