"""The training loop, one for every model."""
