"""Where features can start from stored activations of an earlier cut, in place of pictures."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from headstart.backbones.base import INPUT
from headstart.errors import StoreError
from headstart.features.key import Dtype, FeatureKey
from headstart.features.store import FeatureStore, Index


@dataclass(frozen=True, slots=True)
class Source:
    """Stored activations of an earlier cut, of all samples that are wanted.

    Attributes:
        cut: The earlier cut, by its full name.
        key: The key of its activations.
        index: Where they lie.
        stages_left: How many stages have to run from there.
        stages_total: How many would have to run from pictures.
    """

    cut: str
    key: FeatureKey
    index: Index
    stages_left: int
    stages_total: int


def find_source(
    store: FeatureStore, key: FeatureKey, digests: Mapping[str, str], samples: Collection[str]
) -> Source | None:
    """Find the nearest earlier cut at which the store holds all of some samples.

    The activations must be those of the same network up to there, of pictures prepared and changed
    in the same way, and at least as exact as the features that are wanted.

    Args:
        store: Where to look.
        key: The key of the features that are wanted.
        digests: The network's digests at its cuts up to the key's, from the backbone.
        samples: SHA-256 of the pictures.

    Returns:
        The source, or None. Damaged activations count as missing.
    """
    cuts = list(digests)
    exact: tuple[Dtype, ...] = ("float32",)
    dtypes = exact if key.dtype == "float32" else (*exact, "float16")
    for position in range(len(cuts) - 2, cuts.index(INPUT), -1):
        cut = cuts[position]
        for dtype in dtypes:
            earlier = replace(key, backbone=digests[cut], cut=cut, dtype=dtype)
            index = _index(store, earlier)
            if index is not None and all(sample in index.rows for sample in samples):
                return Source(cut, earlier, index, len(cuts) - 1 - position, len(cuts) - 1)
    return None


def _index(store: FeatureStore, key: FeatureKey) -> Index | None:
    if not store.folder(key).is_dir():
        return None
    try:
        return store.index(key)
    except StoreError:
        return None
