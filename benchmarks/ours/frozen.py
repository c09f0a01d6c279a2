"""Headstart: frozen transfer by its classifier, from an empty feature store."""

import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.contender import Answer, Job, answer, listed
from benchmarks.ours import floors
from benchmarks.ours.libraries import PACKAGES, import_all
from benchmarks.ours.prepare import MOBILENET
from headstart.backbones.registry import load_backbone
from headstart.estimators import HeadstartClassifier


def classifier(job: Job, epochs: int, cache: str) -> HeadstartClassifier:
    """Return the classifier that has the settings of the other contenders."""
    return HeadstartClassifier(
        MOBILENET,
        weights=job["torch_weights"],
        head="linear",
        epochs=epochs,
        learning_rate=job["learning_rate"],
        momentum=job["momentum"],
        batch_size=job["batch_size"],
        cache=cache,
        device="cpu",
        random_state=job["seed"],
    )


def work(job: Job) -> Answer:
    """Fit on the training photographs and predict the others; then, untimed, with fewer epochs."""
    torch.set_num_threads(job["threads"])
    (train, labels), (val, expected) = listed(job["train"]), listed(job["val"])
    with tempfile.TemporaryDirectory() as cache:
        start = time.perf_counter()
        model = classifier(job, job["epochs"], cache).fit(train, labels)
        model.predict(val)
        seconds = time.perf_counter() - start
        # Stored features are those of the same network: only the head is trained again.
        fewer = classifier(job, job["compared_epochs"], cache).fit(train, labels).predict(val)
    right = np.array(expected)
    backbone = load_backbone(MOBILENET, weights=Path(job["torch_weights"]))
    return {
        "seconds": seconds,
        "compared_accuracy": float((fewer == right).mean()),
        "samples": len(val),
        **floors.frozen([*train, *val], backbone),
    }


if __name__ == "__main__":
    import_all()
    answer(work, PACKAGES)
