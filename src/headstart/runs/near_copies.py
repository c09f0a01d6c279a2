"""Test samples with a near-copy among those that were learnt from: features propose, contents tell.

Copies that were saved again, in another size or format, have other bytes and pixels, so the digests
of the checks do not meet. Their frozen features nearly do. But so do those of two pictures of one
thing, or of two ones by different hands: a pair counts where the contents themselves agree.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from headstart._util.seeding import generator
from headstart.data.dataset import Dataset
from headstart.data.text import decode_text, pair_of
from headstart.errors import DataError
from headstart.evaluate import wilson
from headstart.evaluate.neighbours import nearest
from headstart.features.table import Features
from headstart.runs.excerpts import grey, shingles
from headstart.runs.record import score_json
from headstart.types import FloatArray, IntArray, JsonDict, Predictions, Task

ALIKE = 0.9
"""Least cosine of the centred features of a pair that is looked at."""
SAME_PICTURE = 0.99
"""Least correlation of the grey values at 32 x 32 of a pair of pictures that counts.

Photos that were saved again as JPEG of quality 30 at a third of their size still reach 0.9915; of
500 handwritten ones no two reach 0.99, and one in twenty has another at 0.98.
"""
SAME_WORDS = 0.5
"""Least share of common runs of three words (Jaccard index) of a pair of texts that counts."""
_NEIGHBOURS = 3


@dataclass(frozen=True, slots=True)
class NearCopy:
    """A pair.

    Attributes:
        learnt: Position of the training or validation sample.
        test: Position of the test sample.
        similarity: Cosine of their centred features.
    """

    learnt: int
    test: int
    similarity: float


_MOST_PAIRS = 4_000_000_000
"""Pairs of samples that are compared at most; of more test samples a draw is looked at."""


def drawn(learnt: IntArray, test: IntArray) -> IntArray:
    """Return the test samples that are looked at: all, or a seeded draw where they are many."""
    most = max(1, _MOST_PAIRS // max(1, len(learnt)))
    if len(test) <= most:
        return test
    return np.sort(generator("near copies").choice(test, most, replace=False))


def candidates(features: Features, learnt: IntArray, test: IntArray, task: Task) -> list[NearCopy]:
    """Return pairs whose features nearly agree, the nearest first.

    Args:
        features: Of all samples.
        learnt: Positions of training and validation samples.
        test: Positions of test samples.
        task: Advances by one for each test sample.

    Returns:
        For each test sample at most its three nearest.
    """
    if not len(learnt) or not len(test):
        return []
    keys = features.gather(learnt).reshape(len(learnt), -1)
    mean = keys.mean(axis=0)
    keys -= mean
    queries = features.gather(test).reshape(len(test), -1) - mean
    before = 0

    def advance(done: int) -> None:
        nonlocal before
        task.advance(done - before)
        before = done

    places, cosines = nearest(queries, keys, min(_NEIGHBOURS, len(keys)), done=advance)
    rows, columns = np.nonzero(cosines >= ALIKE)
    found = [
        NearCopy(int(learnt[places[r, c]]), int(test[r]), float(cosines[r, c]))
        for r, c in zip(rows, columns, strict=True)
    ]
    return sorted(found, key=lambda p: (-p.similarity, p.test, p.learnt))


def confirmed(pairs: Sequence[NearCopy], dataset: Dataset, task: Task) -> list[NearCopy]:
    """Return the pairs whose contents agree.

    Args:
        pairs: From `candidates`.
        dataset: The samples.
        task: Advances by one for each pair.

    Returns:
        Those pairs of pictures or texts that are near-copies; every pair of other samples.
    """
    pictures: dict[int, FloatArray] = {}
    texts: dict[int, list[frozenset[str]]] = {}
    found = []
    for pair in pairs:
        task.advance()
        try:
            if dataset.noun == "picture":
                for position in (pair.learnt, pair.test):
                    if position not in pictures:
                        pictures[position] = grey(dataset.read(position))
                same = float(pictures[pair.learnt] @ pictures[pair.test]) >= SAME_PICTURE
            elif dataset.noun in ("text", "pair"):
                for position in (pair.learnt, pair.test):
                    if position not in texts:
                        texts[position] = [shingles(t) for t in _texts(dataset, position)]
                both = zip(texts[pair.learnt], texts[pair.test], strict=True)
                # Of a pair each text: two questions about one text are no copies.
                same = all(len(a & b) / len(a | b) >= SAME_WORDS for a, b in both)
            else:
                same = True
        except (DataError, OSError):
            continue  # removed or changed since it was scanned: no statement
        if same:
            found.append(pair)
    return found


def _texts(dataset: Dataset, position: int) -> Sequence[str]:
    data = dataset.read(position)
    return pair_of(data) if dataset.noun == "pair" else (decode_text(data)[0],)


def near_copies_record(
    pairs: Sequence[NearCopy],
    dataset: Dataset,
    split_of: Mapping[int, str],
    predictions: Mapping[str, Predictions],
) -> JsonDict:
    """Return ``analysis.near_duplicates`` of results.json but for the backbone.

    Args:
        pairs: From `confirmed`.
        dataset: The samples.
        split_of: The split of each position.
        predictions: What each model says of the test split.

    Returns:
        The pairs, and each model's test accuracy with and without the samples that they touch.
    """
    touched = {dataset.names[p.test] for p in pairs}
    models = []
    for name, found in predictions.items():
        right = found.predicted == found.labels
        kept = np.array([one not in touched for one in found.names])
        if not kept.any():
            continue
        models.append(
            {
                "name": name,
                "accuracy": score_json(wilson(int(right.sum()), len(right))),
                "without": score_json(wilson(int(right[kept].sum()), int(kept.sum()))),
            }
        )
    classes = dataset.classes
    return {
        "threshold": ALIKE,
        "checked": {
            split: sum(1 for s in split_of.values() if s == split)
            for split in ("train", "val", "test")
        },
        "pairs": [
            {
                "train_name": dataset.names[p.learnt],
                "train_split": split_of[p.learnt],
                "test_name": dataset.names[p.test],
                "train_label": classes[dataset.labels[p.learnt]],
                "test_label": classes[dataset.labels[p.test]],
                "similarity": round(p.similarity, 6),
            }
            for p in pairs
        ],
        "test_samples": len(touched),
        "models": models,
    }
