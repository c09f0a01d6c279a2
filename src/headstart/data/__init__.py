"""Pictures and labels: sources, preflight checks, splits, loading."""
