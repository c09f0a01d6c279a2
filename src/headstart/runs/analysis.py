"""What is looked into once the models are there: mistakes, near-copies, labels, how much data."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headstart._util.seeding import generator
from headstart.config import schema
from headstart.data.dataset import Dataset
from headstart.errors import DataError
from headstart.evaluate import wilson
from headstart.evaluate.labels import suspicious_labels
from headstart.evaluate.learning_curve import (
    Estimate,
    Forecast,
    PowerLaw,
    fit_power_law,
    verdict,
)
from headstart.features.table import Features
from headstart.heads import CrossValidated, cross_validate
from headstart.heads.cross_validation import DIRECTIONS, leading
from headstart.report.error_advice import TRUSTED_PROBE
from headstart.runs.bench import Bench, StoppableProgress
from headstart.runs.excerpts import excerpt
from headstart.runs.folds import FOLDS, make_folds
from headstart.runs.near_copies import candidates, confirmed, drawn, near_copies_record
from headstart.runs.record import score_json
from headstart.runs.result import PartResult
from headstart.types import FloatArray, IntArray, JsonDict, Predictions

SHARES = (0.05, 0.1, 0.25, 0.5, 1.0)
DRAWS = 4
"""How often each share of the labels but the whole is drawn."""
_LISTED = 100
FORECAST = (1, 2, 4)
"""Multiples of the labels that there are."""


@dataclass(frozen=True, slots=True)
class Frozen:
    """Frozen features of all samples, as they were stored for a part.

    Attributes:
        backbone: Key of the network.
        bench: The part's bench.
        features: One row per sample of the data set.
    """

    backbone: str
    bench: Bench
    features: Features

    def rows(self, positions: IntArray) -> FloatArray:
        """Return the features of some samples, float32, shape [n, width]."""
        return self.features.gather(positions).reshape(len(positions), -1)


def analyse(
    config: schema.Analysis,
    dataset: Dataset,
    frozen: Sequence[Frozen],
    results: Mapping[str, PartResult],
    recommended: str | None,
    folder: Path,
) -> JsonDict | None:
    """Look into what the models leave open.

    Args:
        config: What is asked for.
        dataset: The samples of a classification.
        frozen: Stored features, of the recommended model's network first; there may be none.
        results: What the parts left.
        recommended: The model whose mistakes are shown, or None.
        folder: The run folder; small pictures are written into it.

    Returns:
        ``analysis`` of results.json.
    """
    record: JsonDict = {
        "model": recommended,
        "mistakes": [],
        "near_duplicates": None,
        "suspicious_labels": None,
        "learning_curves": [],
    }
    tested = {n: r.predictions["test"] for n, r in results.items() if "test" in r.predictions}
    if recommended in tested:
        record["mistakes"] = _mistakes(tested[recommended], dataset, folder, config.mistakes)
    if not frozen:
        return record
    first = frozen[0]
    if config.near_duplicates and len(dataset.splits["test"]):
        record["near_duplicates"] = _near_copies(first, dataset, tested)
    learnt = _learnt(dataset, config.max_samples)
    probes = config.suspicious_labels or config.learning_curve
    if probes and make_folds(dataset, learnt) is not None:
        probing = _probing(first, dataset, learnt)
        if config.suspicious_labels:
            record["suspicious_labels"] = _suspicious(probing, folder)
        if config.learning_curve:
            record["learning_curves"] = [
                _learning_curve(probing if one is first else _probing(one, dataset, learnt))
                for one in frozen
            ]
    return record


def _learnt(dataset: Dataset, limit: int) -> IntArray:
    """Return the positions of training and validation samples, or of a draw where they are many."""
    rows = np.sort(np.concatenate([dataset.splits["train"], dataset.splits["val"]]))
    if len(rows) > limit:
        rows = np.sort(generator("analysis").choice(rows, limit, replace=False))
    return rows


def _mistakes(test: Predictions, dataset: Dataset, folder: Path, most: int) -> list[JsonDict]:
    """Return the most confident mistakes."""
    position = {dataset.names[i]: int(i) for i in dataset.splits["test"]}
    confidence = test.probabilities.max(axis=1)
    wrong = np.flatnonzero(test.predicted != test.labels)
    order = wrong[np.argsort(-confidence[wrong], kind="stable")][:most]
    found = []
    for rank, row in enumerate(order):
        name = test.names[row]
        found.append(
            {
                "name": name,
                "label": test.classes[test.labels[row]],
                "predicted": test.classes[test.predicted[row]],
                "confidence": round(float(confidence[row]), 6),
                **_shown(dataset, position[name], folder, f"analysis/mistake-{rank + 1:02d}"),
            }
        )
    return found


def _shown(dataset: Dataset, position: int, folder: Path, relative: str) -> JsonDict:
    try:
        return excerpt(dataset, position, folder, relative)
    except (DataError, OSError):  # removed or changed since: its name must do
        return {"image": None, "text": None, "second": None}


def _near_copies(frozen: Frozen, dataset: Dataset, tested: Mapping[str, Predictions]) -> JsonDict:
    learnt = np.concatenate([dataset.splits["train"], dataset.splits["val"]])
    looked_at = drawn(learnt, dataset.splits["test"])
    split_of = {int(i): s for s in ("train", "val") for i in dataset.splits[s]}
    split_of |= {int(i): "test" for i in looked_at}
    progress = StoppableProgress(frozen.bench.progress, frozen.bench.stop)
    with progress.task("near-copies: comparing features", len(looked_at), "samples") as task:
        pairs = candidates(frozen.features, learnt, looked_at, task)
    with progress.task("near-copies: comparing contents", len(pairs), "pairs") as task:
        pairs = confirmed(pairs, dataset, task)
    return {
        "backbone": frozen.backbone,
        "cut": frozen.bench.cut,
        **near_copies_record(pairs, dataset, split_of, tested),
    }


@dataclass(frozen=True, slots=True)
class _Probing:
    """Cross-validated probes on the same samples.

    Attributes:
        frozen: Where the features come from.
        dataset: The samples.
        rows: Positions of those that are looked at.
        features: Of these, in their leading directions.
    """

    frozen: Frozen
    dataset: Dataset
    rows: IntArray
    features: FloatArray

    @property
    def labels(self) -> IntArray:
        """Their classes."""
        found: IntArray = self.dataset.labels[self.rows]
        return found

    def run(
        self, said: str, work: Sequence[tuple[float, int]], cs: Sequence[float] | None = None
    ) -> list[CrossValidated]:
        """Cross-validate the probe, once for each share of the labels and seed."""
        bench = self.frozen.bench
        progress = StoppableProgress(bench.progress, bench.stop)
        with progress.task(said, FOLDS * len(work), "folds") as task:
            return [
                cross_validate(
                    self.features,
                    self.labels,
                    len(self.dataset.classes),
                    cs=cs,
                    held_out=make_folds(self.dataset, self.rows, seed),
                    share=share,
                    directions=None,
                    seed=seed,
                    device=bench.device,
                    done=task.advance,
                )
                for share, seed in work
            ]


def _probing(frozen: Frozen, dataset: Dataset, rows: IntArray) -> _Probing:
    features = frozen.rows(rows)
    if min(features.shape) > DIRECTIONS:
        features = leading(features, DIRECTIONS)
    return _Probing(frozen, dataset, rows, features)


def _suspicious(probing: _Probing, folder: Path) -> JsonDict:
    frozen, dataset, rows = probing.frozen, probing.dataset, probing.rows
    probed = probing.run("labels: cross-validated probe", [(1.0, 0)])[0]
    labels = probing.labels
    found = suspicious_labels(labels, probed.probabilities)
    right = int((probed.probabilities.argmax(axis=1) == labels).sum())
    split_of = {int(i): s for s in ("train", "val") for i in dataset.splits[s]}
    listed = []
    for rank, place in enumerate(found.order[:_LISTED]):
        position = int(rows[place])
        given, suggested = int(labels[place]), int(found.suggested[rank])
        listed.append(
            {
                "name": dataset.names[position],
                "split": split_of[position],
                "given": dataset.classes[given],
                "suggested": dataset.classes[suggested],
                "p_given": round(float(probed.probabilities[place, given]), 6),
                "p_suggested": round(float(probed.probabilities[place, suggested]), 6),
                **_shown(dataset, position, folder, f"analysis/label-{rank + 1:02d}"),
            }
        )
    return {
        "backbone": frozen.backbone,
        "cut": frozen.bench.cut,
        "folds": FOLDS,
        "checked": len(rows),
        "probe_accuracy": score_json(wilson(right, len(rows))),
        "found": len(found.order),
        # Where the probe is wrong itself, what it disagrees with says little of the labels.
        "share": round(float(found.share), 10) if right >= TRUSTED_PROBE * len(rows) else None,
        "list": listed,
    }


def _learning_curve(probing: _Probing) -> JsonDict:
    """Train the probe on more and more of the labels, each time tested on the fold held out."""
    frozen, dataset, labels = probing.frozen, probing.dataset, probing.labels
    said = f"learning curve of {frozen.backbone}"
    # With few labels a weaker penalty may do better, never a stronger one by much: two are tried.
    whole_c = probing.run(f"{said}: penalty", [(1.0, 0)])[0].c
    rarest = int(np.bincount(labels).min()) * (FOLDS - 1) / FOLDS
    # With less than one sample of each class the draw would not be of the classes' proportions.
    shares = [share for share in SHARES if share * rarest >= 1]
    # Folds of the whole are drawn anew too: then its spread says what it says of the others.
    work = [(share, seed) for share in shares for seed in range(DRAWS)]
    probed = probing.run(said, work, (whole_c, 10 * whole_c))
    points, counts, right = [], [], []
    for index, share in enumerate(shares):
        draws = probed[index * DRAWS : (index + 1) * DRAWS]
        told = np.stack([p.probabilities.argmax(axis=1) == labels for p in draws])
        values = told.mean(axis=1)
        n = round(float(np.mean([p.trained for p in draws])))
        accuracy = {
            "mean": round(float(values.mean()), 10),
            "sd": round(float(values.std(ddof=1)), 10),
            "values": [round(float(v), 10) for v in values],
        }
        points.append({"share": share, "n": n, "accuracy": accuracy})
        counts.append(n)
        right.append(told)
    errors = [(1 - told.mean(axis=1)).tolist() for told in right]
    law = fit_power_law(counts, errors, right=right) if len(set(counts)) == len(counts) else None
    # What there is in all: the folds held some out, and more may have been left out by the limit.
    every = len(dataset.splits["train"]) + len(dataset.splits["val"])
    fit, forecast = None, []
    if law is not None:
        law = dataclasses.replace(law, n=every)
        fit = _fit_record(law, [*counts, *(factor * every for factor in FORECAST)])
        forecast = [
            {"factor": factor, **said}
            for factor, said in zip(FORECAST, fit["band"][len(counts) :], strict=True)
        ]
    return {
        "backbone": frozen.backbone,
        "cut": frozen.bench.cut,
        "labels": every,
        "points": points,
        "fit": fit,
        "forecast": forecast,
        "verdict": "unclear" if law is None else verdict(law),
    }


def _fit_record(law: PowerLaw, counts: Sequence[int]) -> JsonDict:
    def ends(one: Estimate | Forecast) -> JsonDict:
        return {end: round(getattr(one, end), 10) for end in ("value", "low", "high")}

    return {
        "form": "error = a + b * n^-c",
        **{name: ends(getattr(law, name)) for name in ("a", "b", "c")},
        "band": [{"n": n, "accuracy": ends(law.accuracy(n))} for n in counts],
    }


__all__ = ["Frozen", "analyse"]
