"""`timm/NAME`: the image models of timm, their hub weights and their own preprocessing."""

import math
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data import resolve_data_config
from timm.models import get_pretrained_cfg
from torch import nn

from headstart.backbones.base import Weights
from headstart.backbones.chain import Network
from headstart.backbones.timm_stages import take_apart
from headstart.backbones.weights import (
    HUB_FILE,
    PRETRAINED,
    RANDOM,
    State,
    count_parameters,
    file_weights,
    hub_file,
    misfits,
    random_weights,
    read_state,
    seeded,
    torch_hub_file,
    weights_path,
    with_classifier,
)
from headstart.errors import ConfigError, WeightsError, nearest
from headstart.types import Fit, InputSpec

# What timm's checkpoint filters and loaders raise for a state dict of another network.
_MISFIT = (RuntimeError, KeyError, ValueError, TypeError, AttributeError, IndexError)


def names() -> tuple[str, ...]:
    """Return the names of all architectures, without the tags of their weights."""
    return tuple(timm.list_models())


def build(name: str, weights: str | Path, seed: int, allow_network: bool) -> Network:
    """Build a timm model and take it apart.

    Args:
        name: Architecture, with the tag of its weights or without: ``resnet50`` or
            ``resnet50.a1_in1k``.
        weights: ``pretrained``, ``random`` or a file.
        seed: For random weights.
        allow_network: Whether weights may be downloaded.

    Returns:
        The parts.

    Raises:
        ConfigError: The name is unknown, or the model is not a chain from pixels to features.
        WeightsError: The weights are missing, damaged or of another network.
    """
    architecture = name.partition(".")[0]
    if architecture not in timm.list_models():
        raise ConfigError(f"timm has no model {architecture!r}; {nearest(architecture, names())}")
    tags = timm.list_pretrained(f"{architecture}.*")
    if "." in name and name not in tags:
        raise ConfigError(f"timm has no weights {name!r}; {nearest(name, tags)}".rstrip("; "))
    with seeded(seed, f"timm/{architecture}"):
        if weights == RANDOM:
            model, record, own = timm.create_model(name), random_weights(seed), True
        elif weights == PRETRAINED:
            model, record = _pretrained(name, allow_network)
            own = True
        else:
            path = weights_path(f"timm/{name}", weights)
            model, own = _from_state(name, read_state(path), path)
            record = file_weights(path)
    return network(name, model, record, own)


def network(name: str, model: Any, record: Weights, own_head: bool) -> Network:
    """Take a timm model apart.

    Args:
        name: Its name in timm, with or without a tag.
        model: The model, with its classifier.
        record: Where its weights came from.
        own_head: Whether the classifier belongs to the weights.

    Returns:
        The parts.
    """
    spec = input_spec(model.pretrained_cfg)
    total = count_parameters(model)
    stages, classifier = take_apart(name, model.eval(), spec)
    return Network(
        architecture=f"timm/{name.partition('.')[0]}",
        stages=stages,
        classifier=classifier if own_head else None,
        input_spec=spec,
        weights=record,
        parameters_total=total,
    )


def input_spec(pretrained_cfg: dict[str, Any]) -> InputSpec:
    """Say how timm prepares pictures for evaluation.

    timm's crop mode ``squash`` stretches (``fit="resize"``) and ``center`` crops. Two rare modes
    have no exact equal: ``squash`` with a margin (the NFNets) becomes a crop with the same margin,
    the same for square pictures, and ``border`` becomes ``resize``, which also keeps every pixel.

    Args:
        pretrained_cfg: The model's ``pretrained_cfg``.

    Returns:
        The specification.
    """
    config = resolve_data_config({}, pretrained_cfg=pretrained_cfg)
    _, height, width = config["input_size"]
    whole = config["crop_mode"] == "squash" and config["crop_pct"] == 1.0
    fit: Fit = "resize" if whole or config["crop_mode"] == "border" else "crop"
    return InputSpec(
        height=height,
        width=width,
        resize=math.floor(min(height, width) / config["crop_pct"]),
        interpolation=config["interpolation"],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        fit=fit,
    )


def _pretrained(name: str, allow_network: bool) -> tuple[nn.Module, Weights]:
    """Load published weights through timm's own loader, so that its checkpoint filters run."""
    config = get_pretrained_cfg(name)
    if config is None or not (config.hf_hub_id or config.url):
        raise WeightsError(
            f"timm/{name}: timm publishes no weights for this architecture: use a file or 'random'"
        )
    if config.hf_hub_id:
        path = hub_file(f"timm/{name}", config.hf_hub_id, allow_network)
        # In the hub's cache a file lies in a folder named after the commit it was published with.
        origin = f"huggingface.co/{config.hf_hub_id} ({HUB_FILE}, revision {path.parent.name[:12]})"
    else:
        path = torch_hub_file(f"timm/{name}", config.url, allow_network)
        origin = config.url
    overlay = {"file": str(path), "custom_load": False}
    # Read it ourselves first: damage and code are then reported in our words.
    got = read_state(path)
    try:
        model = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
    except _MISFIT as error:
        raise _misfit(timm.create_model(name), got, str(path), error) from error
    return model, Weights(kind=PRETRAINED, origin=origin, license=config.license or "unknown")


def _from_state(name: str, got: dict[str, torch.Tensor], path: Path) -> tuple[nn.Module, bool]:
    """Load a user's tensors through timm's own filters; say whether the classifier is theirs."""
    template = timm.create_model(name)
    expected = template.state_dict()
    config = template.pretrained_cfg
    heads = config.get("classifier") or ()
    heads = (heads,) if isinstance(heads, str) else heads
    keys = tuple(f"{head}.{part}" for head in heads for part in ("weight", "bias"))
    keys = tuple(key for key in keys if key in expected)
    # A classifier of other classes is replaced before loading. One that seems to be missing may
    # only have a foreign name that a filter knows, so the file is tried as it is first.
    filled, own = with_classifier(expected, got, keys)
    missing = any(key not in got for key in keys)
    attempts = ([(got, True)] if missing else []) + [(filled, own)]
    for state, is_own in attempts:
        try:
            model = timm.create_model(
                name, pretrained=True, pretrained_cfg_overlay={"state_dict": dict(state)}
            )
        except _MISFIT as error:
            failure = error
        else:
            model.pretrained_cfg.pop("state_dict", None)  # timm would keep a second copy alive
            return model, is_own
    raise _misfit(template, filled, str(path), failure) from failure


def _misfit(template: nn.Module, got: State, origin: str, error: Exception) -> WeightsError:
    problem = misfits(template.state_dict(), got) or f"{type(error).__name__}: {error}"
    return WeightsError(f"{origin}: these weights belong to another network: {problem}")
