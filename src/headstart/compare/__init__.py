"""Paired comparisons between models on the same samples."""
