"""What is trained on features: linear and MLP heads, whole sweeps as one batch, closed forms."""
