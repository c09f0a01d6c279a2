"""Bundles of small encoders with random weights."""

from pathlib import Path

import tokenizers
import torch
import transformers
from tiny_bundles import write_tiny
from tokenizers import models, pre_tokenizers, processors

from headstart.backbones.base import TextOptions
from headstart.backbones.registry import load_backbone
from headstart.data.text import pair_bytes
from headstart.heads import HeadSpec, build_head
from headstart.predict import BackboneOptions, SavedModel, TrainedModel, trained_tensors
from headstart.types import Goal, TextSpec

SINGLE = ["w5 w6 w7 w8 w9", "w10", "w11 w5 w11 w12 w13 w14 w9 w15", "w19 w18 w17"]
PAIRS = [("w5 w6", "w7 w8 w9"), ("w10", "w11"), ("w12 w5 w6 w13", "w14")]


def configuration(kind: str, **changes: object) -> transformers.PretrainedConfig:
    sizes: dict[str, object] = {
        "vocab_size": 20,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 12,
        "max_position_embeddings": 24,
        "embedding_size": 8,
        # Far from nothing, so that what a layer does shows.
        "initializer_range": 0.3,
        "pad_token_id": 0,
    }
    if kind == "mpnet":
        sizes["pad_token_id"] = 1  # a number that its positions rest on
    if kind == "distilbert":
        sizes = {
            "vocab_size": 20,
            "dim": 16,
            "n_layers": 2,
            "n_heads": 2,
            "hidden_dim": 12,
            "max_position_embeddings": 24,
            "initializer_range": 0.3,
        }
    return transformers.CONFIG_MAPPING[kind].from_dict({**sizes, **changes})


def write_encoder(folder: Path, kind: str, **changes: object) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = transformers.AutoModel.from_config(configuration(kind, **changes))
        for name, parameter in model.named_parameters():
            if "LayerNorm" in name or "layer_norm" in name:
                torch.nn.init.normal_(parameter, 0.7, 0.4)
    model.save_pretrained(folder)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(5, 20))]
    known = {word: i for i, word in enumerate(vocabulary)}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(known, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(folder / "tokenizer.json"))


def write_text_bundle(
    folder: Path,
    kind: str = "bert",
    *,
    text: TextOptions | None = None,
    head: HeadSpec | None = None,
    goal: Goal = "classification",
    temperature: float = 1.7,
    **changes: object,
) -> Path:
    """Write a bundle of a small encoder and return its folder."""
    write_encoder(folder / "encoder", kind, **changes)
    options = TextOptions() if text is None else text
    network = load_backbone(f"transformers/{folder / 'encoder'}", text=options)
    for name, parameter in network.modules("input", "pooled")[-1][1].named_parameters():
        if name == "query":  # an untrained one is the mean
            torch.nn.init.normal_(parameter.data, generator=torch.Generator().manual_seed(5))
    classes = ("a", "b", "c") if goal == "classification" else ("value",)
    spec = HeadSpec() if head is None else head
    width = network.shape("pooled")[0]
    layers = build_head(spec, width, len(classes), seeds=[1])
    with torch.no_grad():
        for name, parameter in layers.named_parameters():
            if "norms" in name:
                parameter.uniform_(0.5, 2.0, generator=torch.Generator().manual_seed(2))
            else:
                parameter.mul_(3)
        for name, buffer in layers.named_buffers():
            if "running" in name:
                buffer.uniform_(0.5, 2.0, generator=torch.Generator().manual_seed(4))
    assert isinstance(network.input_spec, TextSpec)
    model = SavedModel(
        backbone=network.name,
        backbone_weights="random",
        backbone_seed=0,
        backbone_digest=network.digest("input"),
        cut="input",
        head_cut="pooled",
        input_spec=network.input_spec,
        classes=classes,
        head=spec,
        width=width,
        options=BackboneOptions(text=options),
        goal=goal,
        temperature=temperature if goal == "classification" else 1.0,
    )
    trained = TrainedModel(model, trained_tensors(network, "input", "pooled", layers))
    if options.pairs == "single":
        data = [one.encode() for one in SINGLE]
    else:
        data = [pair_bytes(*pair) for pair in PAIRS]
    write_tiny(folder / "bundle", data, (trained, network))
    return folder / "bundle"
