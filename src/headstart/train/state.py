"""A model's tensors by name, those that several modules share once."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def own_state(model: nn.Module) -> dict[str, Tensor]:
    """Return a model's state dict without the names of tensors that stand in it before.

    The twelve layers of ALBERT are one set of weights: kept once, they take a twelfth.
    """
    seen: set[tuple[int, torch.Size, tuple[int, ...]]] = set()
    own: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        at = (value.data_ptr(), value.shape, value.stride())
        if value.numel() == 0 or at not in seen:
            own[name] = value
            seen.add(at)
    return own


def load_own_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put back what `own_state` returned, in this model or one of the same architecture."""
    missing = own_state(model).keys() - state.keys()
    assert not missing, f"the state is of another model: it lacks {sorted(missing)[:3]}"
    model.load_state_dict(dict(state), strict=False)
