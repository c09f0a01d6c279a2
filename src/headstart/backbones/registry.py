"""Backbones by name: `library/name`."""

import dataclasses
import importlib
from pathlib import Path
from typing import Protocol, cast

from headstart.backbones.base import POOLED, Backbone
from headstart.backbones.chain import Chain, Network
from headstart.backbones.weights import PRETRAINED
from headstart.errors import ConfigError, nearest
from headstart.types import Fit

_ADAPTERS = {
    "timm": "headstart.backbones.timm",
    "torchvision": "headstart.backbones.torchvision",
    "packaged": "headstart.backbones.packaged",
    "headstart": "headstart.backbones.own",
}


class Adapter(Protocol):
    """What the module of one library offers."""

    def names(self) -> tuple[str, ...]:
        """Return the names of the library's networks, without the library."""
        ...

    def build(self, name: str, weights: str | Path, seed: int, allow_network: bool) -> Network:
        """Build a network and take it apart."""
        ...


def load_backbone(
    name: str,
    weights: str | Path = PRETRAINED,
    seed: int = 0,
    allow_network: bool = False,
    fit: Fit | None = None,
    image_size: int | None = None,
) -> Backbone:
    """Load a network by name, with its weights, as a chain that can be cut.

    Args:
        name: ``timm/NAME``, ``torchvision/NAME``, ``packaged/efficientnet-lite0|1|2``,
            ``headstart/resnet20|32|44|56`` or ``headstart/dcnn``. For the first two NAME may carry
            the tag of certain weights, as in ``timm/resnet50.a1_in1k`` or
            ``torchvision/resnet50.IMAGENET1K_V1``.
        weights: ``pretrained``, ``random``, or the path of a .safetensors or .pth file.
        seed: For random weights: the same seed gives the same weights, and building never moves
            torch's global random stream.
        allow_network: Whether weights that are not on this machine may be downloaded. Without it
            nothing touches the network.
        fit: How pictures are fitted to the input, where it shall differ from the network's own way.
        image_size: Height and width of the input in pixels, where they shall differ from the
            network's own; the size before a centre crop changes in proportion.

    Returns:
        The backbone, on the CPU, in eval mode.

    Raises:
        ConfigError: The name is unknown (the nearest names are said), or the network cannot be
            cut, or cannot take pictures of that size.
        WeightsError: The weights are missing, damaged or of another network.
        MissingExtraError: A package that brings the weights is not installed.
    """
    library, slash, short = name.partition("/")
    if not slash or not short or library not in _ADAPTERS:
        raise ConfigError(_unknown(name))
    network = _adapter(library).build(short, weights, seed, allow_network)
    if fit is not None:
        spec = dataclasses.replace(network.input_spec, fit=fit)
        network = dataclasses.replace(network, input_spec=spec)
    return Chain(name, network) if image_size is None else _resized(name, network, image_size)


def available_names(prefix: str = "") -> tuple[str, ...]:
    """Return the names of backbones, sorted.

    Args:
        prefix: What they begin with; one that names a library, such as ``timm/resnet``, spares the
            import of the others.

    Returns:
        Full names, without the tags of weights.
    """
    library, slash, _ = prefix.partition("/")
    wanted = [library] if slash else [known for known in _ADAPTERS if known.startswith(prefix)]
    found = [f"{key}/{n}" for key in wanted if key in _ADAPTERS for n in _adapter(key).names()]
    return tuple(sorted(full for full in found if full.startswith(prefix)))


def _adapter(library: str) -> Adapter:
    # The libraries take seconds to import: only the one that is asked for is.
    return cast(Adapter, importlib.import_module(_ADAPTERS[library]))


def _resized(name: str, network: Network, size: int) -> Chain:
    """Give a network another input size, and make sure that it can take it."""
    spec = network.input_spec
    if size < 1:
        raise ConfigError(f"image_size: expected at least 1 pixel, got {size}")
    resize = max(size, round(spec.resize * size / min(spec.height, spec.width)))
    other = dataclasses.replace(spec, height=size, width=size, resize=resize)
    own, chain = Chain(name, network), Chain(name, dataclasses.replace(network, input_spec=other))
    reason = ""
    try:
        expected, got = own.shape(POOLED), chain.shape(POOLED)
    except (AssertionError, RuntimeError, TypeError, ValueError, IndexError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
    else:
        if got != expected:
            reason = f"it would give features of shape {got} in place of {expected}"
    if reason:
        raise ConfigError(
            f"image_size: {name} cannot take pictures of {size} x {size} pixels ({reason}). Its "
            "position embeddings or its layers need its own size, or the size is too small for "
            f"it: leave image_size out, which means {spec.height} x {spec.width} pixels"
        )
    return chain


def _unknown(name: str) -> str:
    library, slash, _ = name.partition("/")
    libraries = ", ".join(f"{known}/NAME" for known in _ADAPTERS)
    if slash:
        hint = nearest(library, _ADAPTERS)
    else:
        # A name without its library: say in which it is.
        holders = [key for key in _ADAPTERS if library in _adapter(key).names()]
        full = [f"{key}/{library}" for key in holders]
        hint = f"did you mean {' or '.join(map(repr, full))}?" if full else ""
    return f"backbone: expected one of {libraries}, got {name!r}; {hint}".rstrip("; ")
