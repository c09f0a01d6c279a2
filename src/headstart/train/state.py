"""A model's tensors by name, those that several modules share once."""

from collections.abc import Mapping

from torch import Tensor, nn

from headstart.backbones.shared import first_names


def own_state(model: nn.Module) -> dict[str, Tensor]:
    """Return a model's state dict without the names of tensors that stand in it before."""
    state = model.state_dict()
    first = first_names(state)
    return {name: value for name, value in state.items() if first[name] == name}


def load_own_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put back what `own_state` returned, in this model or one of the same architecture."""
    missing = own_state(model).keys() - state.keys()
    assert not missing, f"the state is of another model: it lacks {sorted(missing)[:3]}"
    model.load_state_dict(dict(state), strict=False)
