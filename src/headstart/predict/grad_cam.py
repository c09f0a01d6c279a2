"""Where in a picture the network found its answer: Grad-CAM at the last map of the chain."""

import numpy as np
import torch

from headstart.backbones.base import Backbone
from headstart.predict.inside import Inside
from headstart.types import FloatArray, InputSpec


def map_cut(backbone: Backbone, head_cut: str) -> str | None:
    """Return the last cut where an activation is still a map of the picture.

    Args:
        backbone: The network.
        head_cut: The stage that the head reads.

    Returns:
        The cut; None where what is pooled is no map, as in a transformer, whose tokens have mixed.
    """
    if not isinstance(backbone.input_spec, InputSpec):
        return None
    stages = list(backbone.stages)
    for cut in reversed(stages[: stages.index(backbone.resolve(head_cut)) + 1]):
        shape = backbone.shape(cut)
        if len(shape) == 3 and _positions(shape, backbone.input_spec) > 1:
            return cut
        if len(shape) == 2:
            return None
    return None


def grad_cam(inside: Inside, cut: str, picture: FloatArray, output: int) -> FloatArray:
    """Return how much each place of a map speaks for an output.

    With A the maps, [channels, rows, columns], and y the output's logit:
    a_k = mean over the places of dy/dA_k, and the answer is max(0, sum over k of a_k A_k). Where
    global average pooling and a linear head follow, a_k is the head's weight over the number of
    places, and this is the class activation map of Zhou et al. (2016), its negative part cut off.

    Args:
        inside: The network.
        cut: Where the map stands, from `map_cut`.
        picture: The prepared picture, float32 [3, height, width].
        output: Which of the logits.

    Returns:
        float32 [rows, columns], from 0.

    Source:
        Selvaraju et al., Grad-CAM (2017), equations 1 and 2.
    """
    x = torch.from_numpy(picture).unsqueeze(0).to(inside.device)
    maps = inside.activation(x, cut)
    _, gradient = inside.gradient(maps, cut, output)
    assert isinstance(inside.spec, InputSpec)
    channels = _channel_axis(tuple(maps.shape[1:]), inside.spec)
    places = tuple(axis for axis in range(3) if axis != channels)
    weights = gradient[0].mean(dim=places, keepdim=True)
    found = torch.relu((weights * maps[0]).sum(dim=channels))
    return np.asarray(found.cpu().numpy(), dtype=np.float32)


def _positions(shape: tuple[int, ...], spec: InputSpec) -> int:
    channels = _channel_axis(shape, spec)
    return int(np.prod([n for axis, n in enumerate(shape) if axis != channels]))


def _channel_axis(shape: tuple[int, ...], spec: InputSpec) -> int:
    """Return 0 for [channels, rows, columns], 2 for [rows, columns, channels] as of Swin."""
    # Rows are to columns as in the input; the other way round they would have to be so by chance.
    first = abs(shape[1] * spec.width - shape[2] * spec.height)
    last = abs(shape[0] * spec.width - shape[1] * spec.height)
    return 2 if last < first else 0
