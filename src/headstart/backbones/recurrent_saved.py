"""A trained language model as files, and as a backbone.

    language.json         the architecture, what is known of the training, and SHA-256 of
    language.safetensors  the weights
    tokenizer.json        the tokenizer of its vocabulary, as the library `tokenizers` reads it

The JSON is written last, so that where it is, the others are whole.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from headstart._util import files
from headstart._util.hashing import digest_bytes
from headstart.backbones.base import Weights
from headstart.backbones.chain import Network
from headstart.backbones.ragged import Pooling
from headstart.backbones.recurrent import LanguageNetwork, RecurrentSpec
from headstart.backbones.recurrent_stages import architecture, language_stages
from headstart.backbones.weights import (
    PRETRAINED,
    RANDOM,
    count_parameters,
    misfits,
    random_weights,
    seeded,
)
from headstart.errors import ConfigError, WeightsError
from headstart.types import JsonDict, Pairs, TextSpec

FORMAT_VERSION = 1
RECORD = "language.json"
_WEIGHTS = "language.safetensors"
_TOKENIZER = "tokenizer.json"
_MAX_LENGTH = 512  # tokens: a recurrent network has no limit of its own


@dataclass(frozen=True, slots=True)
class SavedLanguage:
    """A language model as it was saved.

    Attributes:
        spec: Its architecture.
        tokenizer: The JSON of its tokenizer.
        about: What is known of its training.
        tensors: Its weights by name.
        sha256: Digest of the file of the weights.
    """

    spec: RecurrentSpec
    tokenizer: str
    about: JsonDict
    tensors: Mapping[str, Tensor]
    sha256: str

    def network(self) -> LanguageNetwork:
        """Return the language model, in eval mode."""
        # The weights that it begins with are replaced.
        with seeded(0, "headstart/language"):
            network = LanguageNetwork(self.spec)
        # A decoder that is tied has no weights of its own: it gets them with the words' vectors.
        network.load_state_dict(dict(self.tensors), strict=False)
        return network.eval()


def save_language_model(
    folder: Path, network: LanguageNetwork, tokenizer: str, about: JsonDict
) -> None:
    """Write a language model.

    Args:
        folder: Where; it is made.
        network: The model; its carried state is not saved.
        tokenizer: The JSON of the tokenizer of its vocabulary.
        about: What is known of its training, such as ``origin`` (the data, in words),
            ``license`` and perplexities; plain JSON values.
    """
    # By parameters, not by the state dict: a tensor that is tied has one name there.
    tensors = {name: p.detach().cpu().contiguous() for name, p in network.named_parameters()}
    weights = safetensors.torch.save(tensors)
    text = tokenizer.encode()
    files.write_bytes(folder / _WEIGHTS, weights)
    files.write_bytes(folder / _TOKENIZER, text)
    record = {
        "format_version": FORMAT_VERSION,
        "spec": network.spec.describe(),
        "vocabulary": network.spec.inputs,
        "about": about,
        "files": {_WEIGHTS: digest_bytes(weights), _TOKENIZER: digest_bytes(text)},
    }
    files.write_json(folder / RECORD, record)


def load_language_model(folder: Path) -> SavedLanguage:
    """Read what `save_language_model` wrote.

    Args:
        folder: Where it is.

    Returns:
        The model, and what belongs to it.

    Raises:
        WeightsError: There is no language model, or it is damaged or of another version.
    """
    path = folder / RECORD
    if not path.is_file():
        raise WeightsError(
            f"{folder}: expected a language model ({RECORD}), and there is none: train one with a "
            "model of the kind language_model"
        )
    try:
        record = files.read_json(path)
        version = record["format_version"]
        if version != FORMAT_VERSION:
            raise WeightsError(f"{path}: expected version {FORMAT_VERSION}, got {version}")
        data = {name: (folder / name).read_bytes() for name in (_WEIGHTS, _TOKENIZER)}
        for name, content in data.items():
            if digest_bytes(content) != record["files"][name]:
                raise WeightsError(
                    f"{folder / name} does not fit its checksum in {RECORD}: it is damaged, or "
                    "from another training; train the language model again, or copy it again"
                )
        spec, about = recurrent_spec(record["spec"]), dict(record["about"])
        tokenizer = data[_TOKENIZER].decode()
        words = len(json.loads(tokenizer)["model"]["vocab"])
        tensors = safetensors.torch.load(data[_WEIGHTS])
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        ConfigError,
        safetensors.SafetensorError,
    ) as e:
        raise WeightsError(f"{path}: expected a language model, but {e!r}") from e
    problem = misfits(dict(_unique(spec)), tensors)
    if words != spec.inputs:
        problem = f"the tokenizer has {words} words, and the network {spec.inputs}"
    if problem:
        raise WeightsError(f"{folder}: the weights belong to another network: {problem}")
    return SavedLanguage(spec, tokenizer, about, tensors, record["files"][_WEIGHTS])


def build_saved(
    name: str,
    folder: Path,
    weights: str = PRETRAINED,
    seed: int = 0,
    *,
    max_length: int | None = None,
    pooling: Pooling | None = None,
    pairs: Pairs = "single",
    strip_markup: bool = False,
) -> Network:
    """Take a saved language model apart, without its decoder, as a backbone for texts.

    Args:
        name: The backbone's name, such as ``run:runs/words/lstm``.
        folder: Where `save_language_model` wrote it.
        weights: ``pretrained``: its own; ``random``: the same architecture and vocabulary with
            weights drawn from `seed`, to compare with.
        seed: For random weights.
        max_length: Words of a text at most; None for 512.
        pooling: How a text's words become one vector; None for the largest value of each channel.
        pairs: ``single`` texts, or pairs whose texts are read ``separately``.
        strip_markup: Whether tags are taken out of the texts.

    Returns:
        The parts.

    Raises:
        ConfigError: An option is not one that recurrent networks have.
        WeightsError: There is no language model, or it is damaged.
    """
    if weights not in (PRETRAINED, RANDOM):
        raise ConfigError(
            f"{name}: weights: expected 'pretrained' (those of the run) or 'random', got "
            f"{weights!r}"
        )
    if max_length is not None and max_length < 1:
        raise ConfigError(f"{name}: max_length: expected at least 1, got {max_length}")
    saved = load_language_model(folder)
    if weights == PRETRAINED:
        network = saved.network()
        origin = f"{saved.about.get('origin', 'a language model')} (sha256 {saved.sha256[:16]})"
        record = Weights(PRETRAINED, origin, str(saved.about.get("license", "unknown")))
    else:
        with seeded(seed, "headstart/language"):
            network = LanguageNetwork(saved.spec)
        record = random_weights(seed)
    spec = TextSpec(
        tokenizer=saved.tokenizer,
        max_length=_MAX_LENGTH if max_length is None else max_length,
        pairs=pairs,
        strip_markup=strip_markup,
    )
    return _apart(name, network, pooling, spec, record)


def build_unloaded(
    name: str, spec: RecurrentSpec, pooling: Pooling | None, text: TextSpec
) -> Network:
    """Build the backbone of a language model without its file, with weights to be replaced.

    Args:
        name: The backbone's name, for messages.
        spec: The architecture of the language model.
        pooling: As for `build_saved`.
        text: How texts are read.

    Returns:
        The parts.

    Raises:
        ConfigError: An option is not one that recurrent networks have.
    """
    with seeded(0, "headstart/language"):
        network = LanguageNetwork(spec)
    return _apart(name, network, pooling, text, random_weights(0))


def _apart(
    name: str, network: LanguageNetwork, pooling: Pooling | None, text: TextSpec, record: Weights
) -> Network:
    if text.pairs == "together":
        raise ConfigError(
            f"{name}: pairs: expected 'separately', got 'together': a recurrent network reads each "
            "text of a pair by itself"
        )
    chosen: Pooling = "max" if pooling is None else pooling
    return Network(
        architecture=architecture(network.spec, chosen, text.pairs),
        stages=language_stages(network, pooling=chosen, separately=text.pairs == "separately"),
        classifier=None,
        input_spec=text,
        weights=record,
        parameters_total=count_parameters(network),
    )


def recurrent_spec(record: Mapping[str, Any]) -> RecurrentSpec:
    """Return the architecture that `RecurrentSpec.describe` described.

    Args:
        record: Its values.

    Returns:
        The architecture.

    Raises:
        ValueError: Keys are missing, or there are others.
        ConfigError: A value is out of its range.
    """
    expected = {field.name for field in fields(RecurrentSpec)}
    if set(record) != expected:
        raise ValueError(f"spec: expected {sorted(expected)}, got {sorted(record)}")
    spec = RecurrentSpec(**record)
    spec.check()
    return spec


def _unique(spec: RecurrentSpec) -> Mapping[str, Tensor]:
    """Return the weights of such a network by name, without the room for their values."""
    import torch

    with torch.device("meta"):
        return dict(LanguageNetwork(spec).named_parameters())
