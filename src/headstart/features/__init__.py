"""Frozen features: computed once, by the fastest engine that is right, and stored by content."""
