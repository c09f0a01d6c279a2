"""Samples and labels: sources, preflight checks, splits, loading."""
