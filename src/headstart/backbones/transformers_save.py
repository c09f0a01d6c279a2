"""Writing an encoder, trained further or not, so that plain transformers can load it."""

import json
from pathlib import Path
from typing import Any

import torch

from headstart._util.files import write_bytes, write_json, write_text
from headstart._util.imports import optional
from headstart.backbones.base import INPUT, POOLED, Backbone
from headstart.backbones.transformers_files import CONFIG, TOKENIZER
from headstart.backbones.transformers_stages import Embed, Saved, Whole, stored_tensors
from headstart.backbones.weights import HUB_FILE
from headstart.errors import ConfigError
from headstart.types import JsonDict, TextSpec


def save_transformers(backbone: Backbone, folder: Path) -> None:
    """Write a backbone as a model of transformers, with its weights as they are now.

    ``AutoModel.from_pretrained(folder)`` then gives the same last hidden state, and
    ``AutoTokenizer.from_pretrained(folder)`` the same tokens; ``transformers/FOLDER`` loads it as a
    backbone again. What lies behind the last layer is not part of it: a pooling that was trained
    (``attention``), a classifier.

    Args:
        backbone: One of ``transformers/NAME`` or ``packaged/minilm-l6``.
        folder: Where config.json, model.safetensors, tokenizer.json and tokenizer_config.json go.

    Raises:
        ConfigError: The backbone is of another library.
    """
    import safetensors.torch

    stages = backbone.modules(INPUT, POOLED)
    saved, spec = _saved(backbone), backbone.input_spec
    if saved is None or not isinstance(spec, TextSpec):
        raise ConfigError(
            f"only backbones of transformers can be saved for transformers, not {backbone.name}"
        )
    state = {**saved.rest, **stored_tensors(stages)}
    # Clones: safetensors refuses tensors that share memory.
    lasting = {key: t.detach().to("cpu", torch.float32, copy=True) for key, t in state.items()}
    content = safetensors.torch.save(
        {key: t.contiguous() for key, t in lasting.items()}, metadata={"format": "pt"}
    )
    write_bytes(folder / HUB_FILE, content)
    write_json(folder / CONFIG, saved.config)
    write_text(folder / TOKENIZER, spec.tokenizer)
    write_json(folder / "tokenizer_config.json", tokenizer_config(spec, saved.config))


def configuration(backbone: Backbone) -> JsonDict | None:
    """Return the library's configuration of a backbone, or None where it is of another library."""
    saved = _saved(backbone)
    return None if saved is None else dict(saved.config)


def _saved(backbone: Backbone) -> Saved | None:
    first = backbone.modules(INPUT, POOLED)[0][1]
    return first.saved if isinstance(first, Embed | Whole) else None


def tokenizer_config(spec: TextSpec, config: JsonDict) -> JsonDict:
    """Say what tokenizer.json leaves out, such as which tokens are the special ones.

    Args:
        spec: How texts are read.
        config: The library's configuration of the network.

    Returns:
        The content of tokenizer_config.json.
    """
    tokenizers = optional("tokenizers", "text", "saving a tokenizer")
    tokenizer: Any = tokenizers.Tokenizer.from_str(spec.tokenizer)
    content = json.loads(spec.tokenizer)
    model = content["model"]
    unknown = model.get("unk_token")
    if unknown is None and model.get("unk_id") is not None:
        unknown = model["vocab"][model["unk_id"]][0]  # Unigram lists its words with their scores
    added = [token["content"] for token in content.get("added_tokens") or []]
    around = tokenizer.encode("").tokens
    padding = config.get("pad_token_id")
    special = {
        "unk_token": unknown,
        "pad_token": None if padding is None else tokenizer.id_to_token(padding),
        "mask_token": next((token for token in added if "mask" in token.lower()), None),
    }
    if len(around) == 2:
        special |= {"cls_token": around[0], "sep_token": around[1]}
    inputs = ["input_ids", "attention_mask"]
    if config.get("type_vocab_size", 0) > 1:
        inputs.insert(1, "token_type_ids")
    return {
        # This class takes tokenizer.json as it is; a model's own class may build another from it.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": spec.max_length,
        "model_input_names": inputs,
        **{key: token for key, token in special.items() if token is not None},
    }
