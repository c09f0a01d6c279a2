"""A network of texts as transformers' own class for classification, with the same predictions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from headstart._util.imports import optional
from headstart.backbones.base import INPUT, POOLED
from headstart.backbones.ragged import Pool
from headstart.backbones.transformers_stages import Embed, Pooler, Saved, Whole, stored_tensors
from headstart.errors import ConfigError
from headstart.export.linear import Source, linear_head
from headstart.export.transformers_layer import (
    ALBERT_LAYER,
    BERT_LAYER,
    DISTILBERT_LAYER,
    LayerNames,
    constant_for,
    decoder,
    pooling_layer,
)
from headstart.types import FloatArray, JsonDict, TextSpec

_SMALL = 2.0**-13  # tanh(x) is x up to a share of x²/3: below rounding for logits up to 20

Activation = Literal["tanh", "relu", "gelu"]


class _Head(NamedTuple):
    """What of a library's classifier stands between the first token and the logits."""

    dense: (
        str  # from the first token, [d, d]; with the prefix of the encoder where it is part of it
    )
    activation: Activation
    out: str  # to the logits, [K, d]


class _Layers(NamedTuple):
    """Where an encoder's layers are, and how a configuration counts them."""

    path: str
    names: LayerNames
    number: str
    inner: str
    heads: str


_BERT_LAYERS = _Layers(
    "encoder.layer.{}", BERT_LAYER, "num_hidden_layers", "intermediate_size", "num_attention_heads"
)
_ROBERTA_HEAD = _Head("classifier.dense", "tanh", "classifier.out_proj")
_HEADS: Mapping[str, _Head] = {
    "bert": _Head("bert.pooler.dense", "tanh", "classifier"),
    "albert": _Head("albert.pooler", "tanh", "classifier"),
    "roberta": _ROBERTA_HEAD,
    "xlm-roberta": _ROBERTA_HEAD,
    "camembert": _ROBERTA_HEAD,
    "mpnet": _ROBERTA_HEAD,
    "electra": _Head("classifier.dense", "gelu", "classifier.out_proj"),
    "distilbert": _Head("pre_classifier", "relu", "classifier"),
}
# Encoders whose attention has nothing but queries and keys in its scores.
_PLAIN: Mapping[str, _Layers] = {
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert", "electra"), _BERT_LAYERS),
    "albert": _Layers(
        "encoder.albert_layer_groups.{}.albert_layers.0",
        ALBERT_LAYER,
        "num_hidden_layers",
        "intermediate_size",
        "num_attention_heads",
    ),
    "distilbert": _Layers(
        "transformer.layer.{}", DISTILBERT_LAYER, "n_layers", "hidden_dim", "n_heads"
    ),
}


@dataclass(frozen=True, slots=True)
class TextClassifier:
    """A model of ``AutoModelForSequenceClassification``.

    Attributes:
        config: The library's configuration, as JSON-like values.
        state: The weights, by the library's names.
        added_layer: Whether a layer was added that pools (see `export.transformers_layer`).
    """

    config: JsonDict
    state: Mapping[str, Tensor]
    added_layer: bool


def text_classifier(source: Source, rows: list[FloatArray]) -> TextClassifier:
    """Return a network as transformers' own class for classification.

    Args:
        source: The network.
        rows: Some prepared samples, which say how large logits are.

    Returns:
        Configuration and weights.

    Raises:
        ConfigError: There is no such class that could compute it.
    """
    saved, kind = _saved(source)
    head = _HEADS.get(kind)
    if head is None:
        raise ConfigError(
            f"{source.name}: for networks of the kind {kind!r} Headstart does not know how "
            f"transformers classifies (known: {', '.join(sorted(_HEADS))}): export with --format "
            "onnx"
        )
    stages = source.inside.backbone.modules(INPUT, POOLED)
    base = {**saved.rest, **stored_tensors(stages)}
    weight, bias = linear_head(source)
    pool = stages[-1][1]
    if pool.separately:
        raise ConfigError(
            "pairs: separately gives two vectors and their difference and product to the head, "
            "which no class of transformers does: train with `pairs: together`, or export with "
            "--format onnx"
        )
    config = dict(saved.config)
    head_state: dict[str, Tensor]
    added: dict[str, Tensor] = {}
    if isinstance(pool, Pooler):
        own = pool.pooler.state_dict()
        dense = {key.rpartition(".")[2]: value for key, value in own.items()}
        head_state = {f"{head.dense}.{key}": value for key, value in dense.items()}
        head_state |= {f"{head.out}.weight": weight, f"{head.out}.bias": bias}
    else:
        assert isinstance(pool, Pool)
        read = weight
        if pool.kind != "first":
            read, added, config = _pooled(source, pool, weight, base, config, kind, rows)
            # Copies of layers that were one, and the new one, beside what is there.
            base = {key: v for key, v in base.items() if key not in added} | added
        head_state = _first_token(head, read, bias)
    prefix = _library_class(config).base_model_prefix
    state = {f"{prefix}.{key}": value for key, value in base.items()} | head_state
    return TextClassifier(_labelled(config, source), _complete(config, source, state), bool(added))


def build_classifier(config: JsonDict) -> Any:
    """Return the library's network with random weights, in float32 and eval mode."""
    transformers = optional("transformers", "text", "an export for transformers")
    made = transformers.CONFIG_MAPPING[config["model_type"]].from_dict(dict(config))
    return transformers.AutoModelForSequenceClassification.from_config(
        made, dtype=torch.float32
    ).eval()


def _saved(source: Source) -> tuple[Saved, str]:
    first = source.inside.backbone.modules(INPUT, POOLED)[0][1]
    saved = first.saved if isinstance(first, Embed | Whole) else None
    if saved is None or not isinstance(source.inside.spec, TextSpec):
        raise ConfigError(f"{source.name} is no network of transformers: export with --format onnx")
    return saved, str(saved.config.get("model_type"))


def _first_token(head: _Head, read: Tensor, bias: Tensor) -> dict[str, Tensor]:
    """Return a classifier that maps the first token's vector h to read @ h + bias."""
    outputs, width = read.shape
    dense, out = torch.zeros(width, width), torch.zeros(outputs, width)
    place = torch.arange(outputs)
    if head.activation == "tanh":
        # Nearly the identity where its argument is small.
        if outputs > width:
            raise _no_room(outputs, width)
        dense[:outputs] = read * _SMALL
        out[place, place] = 1 / _SMALL
    else:
        # relu(x) - relu(-x) = x, and gelu(x) - gelu(-x) = x Φ(x) + x Φ(-x) = x.
        if 2 * outputs > width:
            raise _no_room(outputs, width)
        dense[:outputs], dense[outputs : 2 * outputs] = read, -read
        out[place, place], out[place, outputs + place] = 1.0, -1.0
    return {
        f"{head.dense}.weight": dense,
        f"{head.dense}.bias": torch.zeros(width),
        f"{head.out}.weight": out,
        f"{head.out}.bias": bias,
    }


def _pooled(
    source: Source,
    pool: Pool,
    weight: Tensor,
    base: Mapping[str, Tensor],
    config: JsonDict,
    kind: str,
    rows: list[FloatArray],
) -> tuple[Tensor, dict[str, Tensor], JsonDict]:
    """Return what reads the added layer, the tensors that are new, and the new configuration."""
    layers = _PLAIN.get(kind)
    if layers is None or pool.kind not in ("mean", "attention"):
        raise ConfigError(
            f"transformers' classifier of a {kind} reads the first token, and this network pools "
            f"by {pool.kind!r}, which no layer of it can compute: train with `pooling: first`"
            + (", 'mean' or 'attention'" if layers else "")
            + ", or export with --format onnx"
        )
    # Probabilities are the same whatever is added to all logits: the smaller they are the better.
    centred = weight - weight.mean(dim=0) if len(weight) > 1 else weight
    outputs, width = centred.shape
    constant = constant_for(_logits(source, centred, rows), width)
    query = pool.query.detach().cpu() if pool.kind == "attention" else None
    made = pooling_layer(
        layers.names,
        centred,
        query,
        heads=int(config[layers.heads]),
        inner=int(config[layers.inner]),
        constant=constant,
    )
    count = int(config[layers.number])
    config = {**config, layers.number: count + 1}
    added: dict[str, Tensor] = {}
    if kind == "albert":
        config, added = _unshared(config, base, count)
    path = layers.path.format(count)
    added |= {f"{path}.{key}": value for key, value in made.items()}
    epsilon = float(config.get("layer_norm_eps", 1e-12))
    return decoder(outputs, width, constant, epsilon), added, config


def _unshared(
    config: JsonDict, base: Mapping[str, Tensor], count: int
) -> tuple[JsonDict, dict[str, Tensor]]:
    """Give each of ALBERT's layers weights of its own, so that the last may have others."""
    if int(config.get("inner_group_num", 1)) != 1:
        raise ConfigError(
            "an ALBERT with several layers in a group cannot be given one more: train with "
            "`pooling: first`, or export with --format onnx"
        )
    start = "encoder.albert_layer_groups."
    groups = int(config["num_hidden_groups"])
    copies = {}
    for layer in range(count):
        group = int(layer / (count / groups))
        for key, value in base.items():
            if key.startswith(f"{start}{group}."):
                copies[f"{start}{layer}.{key.removeprefix(f'{start}{group}.')}"] = value.clone()
    return {**config, "num_hidden_groups": count + 1}, copies


@torch.no_grad()
def _logits(source: Source, weight: Tensor, rows: list[FloatArray]) -> Tensor:
    """Return what the head says of some samples without its bias, [n, K]."""
    inside, found = source.inside, []
    for row in rows:
        x = torch.from_numpy(row).unsqueeze(0).to(inside.device)
        found.append(inside.activation(x, inside.head_cut).cpu().float() @ weight.T)
    return torch.cat(found)


def _labelled(config: JsonDict, source: Source) -> JsonDict:
    labels = {str(i): name for i, name in enumerate(source.classes)}
    regression = source.goal == "regression"
    return {
        **config,
        "architectures": [_library_class(config).__name__],
        "id2label": labels,
        "label2id": {name: i for i, name in enumerate(source.classes)},
        "problem_type": "regression" if regression else "single_label_classification",
    }


def _library_class(config: JsonDict) -> Any:
    transformers = optional("transformers", "text", "an export for transformers")
    mapping = transformers.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
    return mapping[transformers.CONFIG_MAPPING[config["model_type"]]]


def _complete(config: JsonDict, source: Source, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return exactly the tensors that the library's class has; no other is silently left out."""
    model: nn.Module = build_classifier(_labelled(config, source))
    wanted = model.state_dict()
    missing = wanted.keys() - state.keys()
    if missing:
        raise ConfigError(
            f"{source.name}: transformers' class has weights that the trained network has not "
            f"({sorted(missing)[0]!r} …): export with --format onnx"
        )
    # Of what it has not there is only a pooler that the class does not use.
    return {key: state[key].detach().cpu().float().contiguous().clone() for key in wanted}


def _no_room(outputs: int, width: int) -> ConfigError:
    return ConfigError(
        f"transformers' classifier of this network has {width} hidden units, too few for {outputs} "
        "classes that are to stay as they are: train with `pooling: pooler`, or export with "
        "--format onnx"
    )
