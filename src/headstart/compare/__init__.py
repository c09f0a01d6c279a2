"""Paired comparisons between models on the same samples.

paired  where two models agree, the difference of their accuracy or error, McNemar's exact test
tests   many pairs at once, with Holm's correction: which models are indistinguishable
"""

from headstart.compare.paired import (
    Pairing,
    accuracy_difference,
    compare_pair,
    mcnemar_exact,
    relative_difference,
    squared_error_difference,
)
from headstart.compare.tests import PairTest, holm, test_estimate_pairs, test_pairs

__all__ = [
    "PairTest",
    "Pairing",
    "accuracy_difference",
    "compare_pair",
    "holm",
    "mcnemar_exact",
    "relative_difference",
    "squared_error_difference",
    "test_estimate_pairs",
    "test_pairs",
]
