"""What frozen features depend on, as one digest: the name of their folder in the store."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from headstart._util.hashing import digest_json
from headstart.backbones.base import Backbone
from headstart.data.augment import AUGMENT_VERSION
from headstart.types import JsonDict, Spec, View

Dtype = Literal["float32", "float16"]

FORMAT_VERSION = 1
"""Goes up when the layout or the meaning of stored features changes: old entries are not read."""


@dataclass(frozen=True, slots=True)
class FeatureKey:
    """Everything that decides what the features of a given picture are.

    The picture itself is the other half: inside a key a sample is known by the SHA-256 of its
    encoded bytes. No name and no path takes part, so a picture that lies in two data sets is
    extracted once, and a picture of which one pixel changes is a new one.

    Attributes:
        backbone: Digest of what the prefix computes: architecture, weights, buffers.
        cut: Name of the stage after which the network is cut.
        input: How samples are prepared.
        dtype: How features are stored.
        format_version: Layout of the stored files.
        view: The random changes to the pictures, or None where they are as they are.
    """

    backbone: str
    cut: str
    input: Spec
    dtype: Dtype
    format_version: int = FORMAT_VERSION
    view: View | None = None

    def parts(self) -> JsonDict:
        """Return the parts as JSON-like values, readable by people; no view is no part."""
        parts = {**asdict(self), "input": self.input.describe()}
        if self.view is None:
            del parts["view"]
        else:
            parts["view"]["version"] = AUGMENT_VERSION
        return parts

    def digest(self) -> str:
        """Return the key: 64 hex digits that change when any part does."""
        return digest_json(self.parts())


def feature_key(
    backbone: Backbone,
    cut: str,
    dtype: Dtype,
    view: View | None = None,
    digests: Mapping[str, str] | None = None,
) -> FeatureKey:
    """Return the key of a backbone's features at a cut.

    Args:
        backbone: The network, with the weights of this moment.
        cut: Where it is cut; a group's name means its last stage, and gives the same key.
        dtype: How features are stored.
        view: The random changes to the pictures, or None where they are as they are.
        digests: What ``backbone.digests(cut)`` says, where that is known already.

    Returns:
        The key.
    """
    name = backbone.resolve(cut)
    digest = backbone.digest(cut) if digests is None else digests[name]
    return FeatureKey(digest, name, backbone.input_spec, dtype, view=view)
