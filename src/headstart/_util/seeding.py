"""Random streams that are named, so that no two uses ever share one by accident."""

import hashlib

import numpy as np


def seed_of(*parts: object) -> int:
    """Return a 63-bit seed made of all parts, the same on every machine and in every process.

    Args:
        *parts: What the stream is for: a purpose, the user's seed, an epoch, a class name …

    Returns:
        A number in [0, 2**63).
    """
    text = "\x1f".join(f"{type(p).__name__}:{p}" for p in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*parts: object) -> np.random.Generator:
    """Return NumPy's PCG64 generator seeded by all parts (see `seed_of`)."""
    return np.random.Generator(np.random.PCG64(seed_of(*parts)))
