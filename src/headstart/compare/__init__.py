"""Paired comparisons between models on the same samples."""

from headstart.compare.paired import (
    Pairing,
    compare_pair,
    relative_difference,
    squared_error_difference,
)

__all__ = ["Pairing", "compare_pair", "relative_difference", "squared_error_difference"]
