"""Folds of training and validation samples, for probes that are tested on what they did not see."""

import numpy as np

from headstart.data.dataset import Dataset
from headstart.data.split import joined_groups
from headstart.heads import stratified_folds
from headstart.types import IntArray

FOLDS = 5


def make_folds(dataset: Dataset, rows: IntArray, seed: int = 0) -> IntArray:
    """Share samples out over the folds, by class in proportion.

    Samples of one declared group, and copies of one content, are never parted.

    Args:
        dataset: The samples.
        rows: Positions of those to share out.
        seed: Decides who goes where.

    Returns:
        The fold of each, int64, shape [n].
    """
    labels, report = dataset.labels[rows], dataset.report
    places = [int(p) for p in dataset.positions[rows]]
    contents = report.contents
    groups = joined_groups([report.rows[p].group for p in places], [contents[p] for p in places])
    if len(set(groups)) == len(groups):
        return stratified_folds(labels, FOLDS, seed)
    from sklearn.model_selection import StratifiedGroupKFold

    out = np.zeros(len(rows), dtype=np.int64)
    split = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    for fold, (_, held_out) in enumerate(split.split(labels, labels, groups)):
        out[held_out] = fold
    return out
