"""Backbones by name: `library/name`."""

import dataclasses
import importlib
from pathlib import Path
from typing import Protocol, cast

from headstart.backbones.base import POOLED, Backbone, SeriesOptions, TextOptions
from headstart.backbones.chain import Chain, Network
from headstart.backbones.recurrent import Cell
from headstart.backbones.weights import PRETRAINED, RANDOM
from headstart.errors import ConfigError, WeightsError, nearest
from headstart.types import Fit, InputSpec, Resampling

_ADAPTERS = {
    "timm": "headstart.backbones.timm",
    "torchvision": "headstart.backbones.torchvision",
    "packaged": "headstart.backbones.packaged",
    "headstart": "headstart.backbones.own",
}
# Networks that read texts; in `packaged` there are both kinds.
_TEXT_ADAPTERS = {
    "transformers": "headstart.backbones.transformers",
    "packaged": "headstart.backbones.transformers_packaged",
}


_CELLS: tuple[Cell, ...] = ("elman", "gru", "lstm")

RUN_PREFIX = "run:"
"""What the name of a language model of an earlier run begins with: ``run:FOLDER/PART``."""


class Adapter(Protocol):
    """What the module of one library offers."""

    def names(self) -> tuple[str, ...]:
        """Return the names of the library's networks, without the library."""
        ...

    def build(self, name: str, weights: str | Path, seed: int, allow_network: bool) -> Network:
        """Build a network and take it apart."""
        ...


class TextAdapter(Protocol):
    """What the module of one library of networks that read texts offers."""

    def names(self) -> tuple[str, ...]:
        """Return the names of well-known networks, without the library."""
        ...

    def build(
        self, name: str, weights: str | Path, seed: int, allow_network: bool, text: TextOptions
    ) -> Network:
        """Build a network and take it apart."""
        ...


def load_backbone(
    name: str,
    weights: str | Path = PRETRAINED,
    seed: int = 0,
    allow_network: bool = False,
    fit: Fit | None = None,
    image_size: int | None = None,
    text: TextOptions | None = None,
    series: SeriesOptions | None = None,
    resampling: Resampling | None = None,
) -> Backbone:
    """Load a network by name, with its weights, as a chain that can be cut.

    Args:
        name: ``timm/NAME``, ``torchvision/NAME``, ``packaged/efficientnet-lite0|1|2``,
            ``headstart/resnet20|32|44|56`` or ``headstart/dcnn``. For the first two NAME may carry
            the tag of certain weights, as in ``timm/resnet50.a1_in1k`` or
            ``torchvision/resnet50.IMAGENET1K_V1``. For texts ``packaged/minilm-l6`` or
            ``transformers/NAME``, NAME a repository of the hub such as ``albert-base-v2``, or a
            folder, as in ``transformers/./my-model`` or ``transformers//data/my-model``; or
            ``run:FOLDER/PART``, a language model of the run in FOLDER. For sequences of numbers
            ``headstart/elman``, ``headstart/gru`` or ``headstart/lstm``.
        weights: ``pretrained``, ``random``, or the path of a .safetensors or .pth file (for texts:
            of a .safetensors file or a folder that holds one).
        seed: For random weights: the same seed gives the same weights, and building never moves
            torch's global random stream.
        allow_network: Whether weights that are not on this machine may be downloaded. Without it
            nothing touches the network.
        fit: How pictures are fitted to the input, where it shall differ from the network's own way.
        image_size: Height and width of the input in pixels, where they shall differ from the
            network's own; the size before a centre crop changes in proportion.
        text: How texts are read, where that shall differ from the network's own way.
        series: What sequences of numbers are read; only networks for these take it, and need it.
        resampling: Of pictures, for a model that was trained by an earlier version.

    Returns:
        The backbone, on the CPU, in eval mode.

    Raises:
        ConfigError: The name is unknown (the nearest names are said), or the network cannot be
            cut, or cannot take pictures of that size, or options are of another kind of samples.
        WeightsError: The weights are missing, damaged or of another network.
        MissingExtraError: A package that brings the weights is not installed.
    """
    if name.startswith(RUN_PREFIX):
        return Chain(name, _of_run(name, str(weights), seed, text))
    library, slash, short = name.partition("/")
    if library == "headstart" and short in _CELLS:
        return Chain(name, _of_series(name, str(weights), seed, series))
    if not slash or not short or library not in _libraries():
        raise ConfigError(_unknown(name))
    if series is not None:
        cells = ", ".join(f"headstart/{cell}" for cell in _CELLS)
        raise ConfigError(f"{name} does not read sequences of numbers; these do: {cells}")
    if _reads_texts(library, short):
        for option, value in (("fit", fit), ("image_size", image_size)):
            if value is not None:
                raise ConfigError(
                    f"{option}: {name} reads texts, and this is for pictures: leave it out"
                )
        adapter = _text_adapter(library)
        options = TextOptions() if text is None else text
        return Chain(name, adapter.build(short, weights, seed, allow_network, options))
    if text is not None:
        raise ConfigError(
            f"{name} takes pictures, and is asked to read texts (max_length, pooling, pairs, "
            "tokenizer, strip_markup): choose packaged/minilm-l6 or transformers/NAME"
        )
    network = _adapter(library).build(short, weights, seed, allow_network)
    if fit is not None:
        spec = dataclasses.replace(_picture_spec(network), fit=fit)
        network = dataclasses.replace(network, input_spec=spec)
    if resampling is not None:
        spec = dataclasses.replace(_picture_spec(network), resampling=resampling)
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
    wanted = [library] if slash else [known for known in _libraries() if known.startswith(prefix)]
    found = [f"{key}/{name}" for key in wanted for name in _names(key)]
    return tuple(sorted(full for full in found if full.startswith(prefix)))


def _of_run(name: str, weights: str, seed: int, text: TextOptions | None) -> Network:
    from headstart.backbones.recurrent_saved import build_saved

    folder, _, part = name.removeprefix(RUN_PREFIX).rpartition("/")
    options = TextOptions() if text is None else text
    if options.pooling == "pooler":
        raise ConfigError(f"{name}: pooling: a language model has no pooler of its own")
    # Its tokenizer is its vocabulary: there can be no other.
    return build_saved(
        name,
        Path(folder) / "models" / part,
        weights,
        seed,
        max_length=options.max_length,
        pooling=options.pooling,
        pairs=options.pairs,
        strip_markup=options.strip_markup,
    )


def _of_series(name: str, weights: str, seed: int, series: SeriesOptions | None) -> Network:
    from headstart.backbones.recurrent_stages import build_series

    if series is None:
        raise ConfigError(
            f"{name} reads sequences of numbers, and the data are others: choose another backbone, "
            "or data.kind: sequence"
        )
    if weights != RANDOM:
        raise WeightsError(
            f"{name} has no published weights: use 'random', and train it (from_scratch: true)"
        )
    return build_series(
        cast(Cell, name.partition("/")[2]),
        series.channels,
        series.max_length,
        hidden=series.hidden,
        layers=series.layers,
        seed=seed,
        pooling="last" if series.pooling is None else series.pooling,
    )


def _libraries() -> tuple[str, ...]:
    return tuple(dict.fromkeys([*_ADAPTERS, *_TEXT_ADAPTERS]))


def _names(library: str) -> tuple[str, ...]:
    pictures = _adapter(library).names() if library in _ADAPTERS else ()
    series = _CELLS if library == "headstart" else ()
    return (
        *pictures,
        *series,
        *(_text_adapter(library).names() if library in _TEXT_ADAPTERS else ()),
    )


def _reads_texts(library: str, short: str) -> bool:
    if library not in _TEXT_ADAPTERS:
        return False
    # Where a library has both kinds of networks, those that read texts are known by name.
    return library not in _ADAPTERS or short in _text_adapter(library).names()


def _text_adapter(library: str) -> TextAdapter:
    return cast(TextAdapter, importlib.import_module(_TEXT_ADAPTERS[library]))


def _adapter(library: str) -> Adapter:
    # The libraries take seconds to import: only the one that is asked for is.
    return cast(Adapter, importlib.import_module(_ADAPTERS[library]))


def _picture_spec(network: Network) -> InputSpec:
    assert isinstance(network.input_spec, InputSpec), network.architecture
    return network.input_spec


def _resized(name: str, network: Network, size: int) -> Chain:
    """Give a network another input size, and make sure that it can take it."""
    spec = _picture_spec(network)
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
    libraries = ", ".join(f"{known}/NAME" for known in _libraries())
    if slash:
        hint = nearest(library, _libraries())
    else:
        # A name without its library: say in which it is.
        holders = [key for key in _libraries() if library in _names(key)]
        full = [f"{key}/{library}" for key in holders]
        hint = f"did you mean {' or '.join(map(repr, full))}?" if full else ""
    return f"backbone: expected one of {libraries}, got {name!r}; {hint}".rstrip("; ")
