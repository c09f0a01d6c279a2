"""Folds of training and validation samples, for probes that are tested on what they did not see."""

import warnings

import numpy as np

from headstart.data.dataset import Dataset
from headstart.data.split import joined_groups
from headstart.heads import stratified_folds
from headstart.types import IntArray

FOLDS = 5


def make_folds(dataset: Dataset, rows: IntArray, seed: int = 0) -> IntArray | None:
    """Share samples out over the folds, by class in proportion.

    Samples of one declared group, and copies of one content, are never parted.

    Args:
        dataset: The samples.
        rows: Positions of those to share out.
        seed: Decides who goes where.

    Returns:
        The fold of each, int64, shape [n]; five folds, or as many as there are groups. None where
        that cannot be: there is one group, or a class has all of its samples in one fold, so that
        nobody could learn it there.
    """
    labels, report = dataset.labels[rows], dataset.report
    places = [int(p) for p in dataset.positions[rows]]
    contents = report.contents
    groups = joined_groups([report.rows[p].group for p in places], [contents[p] for p in places])
    distinct = len(set(groups))
    out = np.zeros(len(rows), dtype=np.int64)
    if distinct == len(groups):
        out = stratified_folds(labels, FOLDS, seed)
    elif distinct > 1:
        from sklearn.model_selection import StratifiedGroupKFold

        with warnings.catch_warnings():
            # That a class has fewer samples than folds is seen below.
            warnings.simplefilter("ignore", UserWarning)
            split = StratifiedGroupKFold(min(FOLDS, distinct), shuffle=True, random_state=seed)
            for fold, (_, held_out) in enumerate(split.split(labels, labels, groups)):
                out[held_out] = fold
    spread = all(len(np.unique(out[labels == one])) > 1 for one in np.unique(labels))
    return out if spread else None
