"""`transformers/NAME`: encoders of texts, from the hub's cache or a folder, safetensors only."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from headstart._util.hashing import digest_file
from headstart._util.imports import optional
from headstart.backbones.base import TextOptions, Weights
from headstart.backbones.chain import Network
from headstart.backbones.transformers_files import (
    CONFIG,
    PACKAGED,
    Home,
    given_tokenizer,
    local_folder,
    own_tokenizer,
    read_json_file,
    read_weights,
    stated_license,
    weights_files,
)
from headstart.backbones.transformers_known import KNOWN, Known, known, spellings
from headstart.backbones.transformers_stages import (
    Embed,
    Reading,
    Saved,
    Whole,
    stored_tensors,
    take_apart,
)
from headstart.backbones.weights import (
    HUB_FILE,
    PRETRAINED,
    RANDOM,
    State,
    count_parameters,
    file_weights,
    misfits,
    random_weights,
    seeded,
)
from headstart.errors import ConfigError, WeightsError
from headstart.types import JsonDict, TextSpec

_LONGEST = 512  # where neither the user nor the network says less

# What of a configuration changes what the common encoders compute; shapes are in the weights.
_MEANINGFUL = (
    "num_attention_heads",
    "n_heads",
    "hidden_act",
    "activation",
    "layer_norm_eps",
    "num_hidden_layers",
    "num_hidden_groups",
    "type_vocab_size",
)
# What of a configuration never does: names, versions, other tasks, the way of computing.
_MEANINGLESS = (
    "architectures",
    "dtype",
    "id2label",
    "label2id",
    "output_attentions",
    "output_hidden_states",
    "problem_type",
    "return_dict",
    "torch_dtype",
    "transformers_version",
    "use_cache",
)


def names() -> tuple[str, ...]:
    """Return the names of the networks that can be built without their files."""
    return tuple(KNOWN)


def build(
    name: str, weights: str | Path, seed: int, allow_network: bool, text: TextOptions
) -> Network:
    """Build an encoder and take it apart.

    Args:
        name: A repository of the hub, such as ``albert-base-v2``, or a folder: ``./model``.
        weights: ``pretrained``, ``random``, or a .safetensors file or a folder with one.
        seed: For random weights.
        allow_network: Whether files may be downloaded.
        text: How texts are read.

    Returns:
        The parts.

    Raises:
        ConfigError: The network or its options are not usable.
        WeightsError: Files are missing, damaged or of another network.
        MissingExtraError: The package transformers is not installed.
    """
    full = f"transformers/{name}"
    optional("transformers", "text", full)
    home = Home(full, local_folder(name), spellings(name), allow_network)
    return build_from(home, weights, seed, text, known(name))


def build_from(
    home: Home,
    weights: str | Path,
    seed: int,
    text: TextOptions,
    published: Known | None = None,
    max_length: int | None = None,
    record: Weights | None = None,
) -> Network:
    """Build an encoder from its files and take it apart.

    Args:
        home: Where its files are.
        weights: As for `build`.
        seed: As for `build`.
        text: As for `build`.
        published: What is known of it without its files (`transformers_known.Known`), or None.
        max_length: Tokens at most where the user does not say.
        record: Where pretrained weights came from, where that is known better than from the files.

    Returns:
        The parts.

    Raises:
        ConfigError: The network or its options are not usable.
        WeightsError: Files are missing, damaged or of another network.
    """
    files: tuple[Path, ...] = ()
    if weights == PRETRAINED:
        files = _own_weights(home)
    elif weights != RANDOM:
        files = weights_files(home.name, weights)
    config = _configuration(home, None if published is None else published.config)
    tokenizer = _tokenizer(home, text)
    model = _model(home.name, config, seed)
    if weights == RANDOM:
        record = random_weights(seed)
    else:
        _load(model, read_weights(files), files[0], pooler=text.pooling == "pooler")
        if weights != PRETRAINED:
            record = file_weights(files[0])
        elif record is None:
            record = _origin(home, files[0], "" if published is None else published.license)
    reading = _reading(home.name, model, tokenizer, text)
    spec = _spec(home.name, tokenizer, reading, text, max_length)
    return _network(home.name, model, reading, text, spec, record)


def _network(
    name: str, model: Any, reading: Reading, text: TextOptions, spec: TextSpec, record: Weights
) -> Network:
    """Take a model with its weights apart."""
    stages = take_apart(name, model, reading, text)
    used = stored_tensors(stages)
    first = stages[0][1]
    assert isinstance(first, Embed | Whole)
    rest = {key: t.detach().clone() for key, t in model.state_dict().items() if key not in used}
    first.saved = Saved(_lasting(model), rest)
    return Network(
        architecture=_architecture(model.config, reading, text, whole=isinstance(first, Whole)),
        stages=stages,
        classifier=None,
        input_spec=spec,
        weights=record,
        parameters_total=count_parameters(model),
    )


def _own_weights(home: Home) -> tuple[Path, ...]:
    path = home.find(HUB_FILE)
    if path is not None and home.find(CONFIG) is not None:
        return (path,)
    if path is None and home.folder is not None and home.find(f"{HUB_FILE}.index.json"):
        return weights_files(home.name, home.folder)
    raise home.missing(CONFIG, HUB_FILE)


def _origin(home: Home, path: Path, published: str) -> Weights:
    license_ = stated_license(home) or published or "unknown"
    if home.folder is not None:
        origin = f"{home.folder.name}/{path.name} (sha256 {digest_file(path)[:16]})"
    else:
        # In the hub's cache a file lies in a folder named after the commit it was published with.
        revision = path.parent.name[:12]
        origin = f"huggingface.co/{home.repositories[0]} ({HUB_FILE}, revision {revision})"
    return Weights(kind=PRETRAINED, origin=origin, license=license_)


def _configuration(home: Home, published: JsonDict | None) -> Any:
    """Return the library's configuration, from config.json or from published numbers."""
    path = home.find(CONFIG)
    if path is None and published is None:
        raise home.missing(CONFIG)
    values = dict(published or {}) if path is None else read_json_file(path)
    origin = home.name if path is None else str(path)
    mapping = optional("transformers", "text", home.name).CONFIG_MAPPING
    kind = values.get("model_type")
    if kind not in mapping:
        raise ConfigError(
            f"{origin}: expected a model_type that transformers knows, got {kind!r}. Models that "
            "bring code of their own are never run"
        )
    values.pop("auto_map", None)
    try:
        return mapping[kind].from_dict(values)
    except Exception as error:  # each configuration checks its values in its own way
        reason = f"{type(error).__name__}: {error}".replace("\n", " ")
        raise WeightsError(f"{origin}: not the configuration of a {kind}: {reason}") from error


def _model(name: str, config: Any, seed: int) -> Any:
    """Build the bare encoder with random weights, in float32."""
    transformers = optional("transformers", "text", name)
    # The fused attention is several times faster; the few models that have none say so.
    for attention in ("sdpa", "eager"):
        with seeded(seed, f"transformers/{config.model_type}"):
            try:
                model = transformers.AutoModel.from_config(
                    config, attn_implementation=attention, dtype=torch.float32
                )
            except (ValueError, TypeError, KeyError, ImportError, AttributeError) as error:
                reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            else:
                return model.eval()
    raise ConfigError(f"{name}: transformers cannot build it: {reason}")


def _load(model: Any, state: State, path: Path, *, pooler: bool) -> None:
    """Load a file's tensors into the bare encoder; heads of other tasks are left out."""
    expected = model.state_dict()
    prefix = f"{model.base_model_prefix}."
    renamed = {}
    for key, tensor in state.items():
        short = key.removeprefix(prefix)
        # The oldest files call the two vectors of a layer norm gamma and beta.
        short = short.replace("LayerNorm.gamma", "LayerNorm.weight")
        renamed[short.replace("LayerNorm.beta", "LayerNorm.bias")] = tensor
    # What belongs to a part of the encoder and is unknown to it means another encoder; tables of
    # positions, which older versions stored, mean nothing.
    parts = {key.partition(".")[0] for key in expected}
    state = {
        key: tensor
        for key, tensor in renamed.items()
        if key.partition(".")[0] in parts and not key.endswith((".position_ids", ".token_type_ids"))
    }
    if not pooler:
        # Networks trained without a pooler are published without one.
        own = {key: t for key, t in expected.items() if key.startswith("pooler.")}
        state = {**own, **state}
    problem = misfits(expected, state)
    if problem:
        raise WeightsError(f"{path}: these weights belong to another network: {problem}")
    model.load_state_dict(state, strict=True)


def _tokenizer(home: Home, text: TextOptions) -> str:
    if text.tokenizer is None:
        return own_tokenizer(
            home,
            "Put it there, or name another with the option 'tokenizer': a tokenizer.json, the "
            f"folder of a model, or {PACKAGED!r}",
        )
    return given_tokenizer(text.tokenizer)


def _reading(name: str, model: Any, tokenizer: str, text: TextOptions) -> Reading:
    """Say how tokens enter a model, and make sure that it knows all of the tokenizer's."""
    config = model.config
    padding = getattr(config, "pad_token_id", None)
    padding = 0 if padding is None else int(padding)
    # RoBERTa and its kin count positions from behind the id of padding.
    embeddings = getattr(model, "embeddings", None)
    offset = padding + 1 if hasattr(embeddings, "padding_idx") else 0
    typed = hasattr(embeddings, "token_type_embeddings")
    positions = getattr(config, "max_position_embeddings", None)
    vocabulary = int(config.vocab_size)
    largest = max(parsed(tokenizer).get_vocab(with_added_tokens=True).values(), default=0)
    if largest >= vocabulary:
        raise ConfigError(
            f"tokenizer: its ids go up to {largest}, and {name} knows those below {vocabulary}: "
            "it belongs to another network"
        )
    return Reading(
        vocabulary=vocabulary,
        padding=padding,
        offset=offset,
        types=int(config.type_vocab_size) if typed else 0,
        longest=_LONGEST if positions is None or positions < 1 else int(positions) - offset,
        separately=text.pairs == "separately",
    )


def parsed(tokenizer: str) -> Any:
    """Return the tokenizer object of its JSON."""
    return optional("tokenizers", "text", "reading texts").Tokenizer.from_str(tokenizer)


def _spec(
    name: str, tokenizer: str, reading: Reading, text: TextOptions, default: int | None
) -> TextSpec:
    together = text.pairs == "together"
    special = parsed(tokenizer).num_special_tokens_to_add(together)
    least = special + (2 if together else 1)
    own = reading.longest if default is None else min(default, reading.longest)
    length = min(own, _LONGEST) if text.max_length is None else text.max_length
    if not least <= length <= reading.longest:
        raise ConfigError(
            f"max_length: {name} takes {least} to {reading.longest} tokens with its special ones, "
            f"got {length}"
        )
    return TextSpec(
        tokenizer=tokenizer, max_length=length, pairs=text.pairs, strip_markup=text.strip_markup
    )


def _architecture(config: Any, reading: Reading, text: TextOptions, *, whole: bool) -> str:
    """Say what the stages compute apart from their weights, in words of no library's version."""
    values: Mapping[str, Any] = config.to_dict()
    if whole:
        # Of a network that is not known everything may matter.
        meaning = {
            key: value
            for key, value in values.items()
            if key not in _MEANINGLESS and not key.startswith("_") and value is not None
        }
    else:
        meaning = {key: values[key] for key in _MEANINGFUL if key in values}
    meaning |= {
        "offset": reading.offset,
        "pooling": text.pooling or "mean",
        "separately": reading.separately,
    }
    return f"transformers/{config.model_type} {json.dumps(meaning, sort_keys=True, default=str)}"


def _lasting(model: Any) -> JsonDict:
    """Return a model's configuration as plain JSON values, without where it was read from."""
    values = json.loads(model.config.to_json_string(use_diff=False))
    values = {key: value for key, value in values.items() if not key.startswith("_")}
    return {**values, "architectures": [type(model).__name__], "dtype": "float32"}
