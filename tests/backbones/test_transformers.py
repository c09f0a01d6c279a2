"""`transformers/NAME`: files, tokenizers, options, published sizes, and what is refused."""

import json
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import safetensors.torch
import tokenizers
import torch
import transformers
from tokenizers import models, pre_tokenizers, processors

from headstart.backbones.base import TextOptions, Weights
from headstart.backbones.parts import shared_stages
from headstart.backbones.registry import available_names, load_backbone
from headstart.backbones.transformers_known import KNOWN
from headstart.backbones.weights import count_parameters
from headstart.errors import ConfigError, MissingExtraError, WeightsError
from headstart.types import TextSpec

SIZES = {
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 24,
    "vocab_size": 20,
}


def write_tokenizer(folder: Path, words: int = 20) -> None:
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(5, words))]
    known = {word: i for i, word in enumerate(vocabulary)}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(known, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_truncation(7)
    tokenizer.enable_padding(length=7)
    tokenizer.save(str(folder / "tokenizer.json"))


def bert(seed: int = 1, **changes: int) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return transformers.BertModel(transformers.BertConfig(**{**SIZES, **changes})).eval()


@pytest.fixture(scope="session")
def saved_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    bert().save_pretrained(folder)
    write_tokenizer(folder)
    return folder


@pytest.fixture
def folder(saved_bert: Path, tmp_path: Path) -> Path:
    """A folder of a model that a test may damage."""
    return Path(shutil.copytree(saved_bert, tmp_path / "model"))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    return cache


def digest(folder: Path, **options: Any) -> str:
    return load_backbone(f"transformers/{folder}", **options).digest("pooled")


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("albert-base-v2", 11_683_584),
        ("bert-base-uncased", 109_482_240),
        ("bert-base-cased", 108_310_272),
        ("distilbert-base-uncased", 66_362_880),
        ("roberta-base", 124_645_632),
        ("google/electra-small-discriminator", 13_483_008),  # by hand: without its own head
        ("sentence-transformers/all-MiniLM-L6-v2", 22_713_216),
    ],
)
def test_known_numbers_give_the_published_sizes(name: str, count: int) -> None:
    config = transformers.CONFIG_MAPPING[KNOWN[name].config["model_type"]].from_dict(
        dict(KNOWN[name].config)
    )
    with torch.device("meta"):
        assert count_parameters(transformers.AutoModel.from_config(config)) == count


def test_albert_shares_one_layer_among_twelve_stages(folder: Path, no_network: None) -> None:
    text = TextOptions(tokenizer=folder)
    backbone = load_backbone("transformers/albert-base-v2", weights="random", text=text)
    layers = tuple(f"layer.{i}" for i in range(12))
    assert tuple(backbone.stages) == ("embeddings", *layers, "pooled")
    assert backbone.parameters_total == 11_683_584
    pooler = 768 * 768 + 768  # not in use when tokens are averaged
    assert count_parameters(backbone.suffix("input")) == 11_683_584 - pooler
    assert shared_stages(backbone) == (layers,)
    assert shared_stages(load_backbone("headstart/resnet20", weights="random")) == ()
    # A training step moves all twelve.
    optimizer = torch.optim.SGD(backbone.suffix("input").parameters(), lr=0.1)
    x = torch.tensor([[[2.0, 1.0], [7.0, 1.0], [3.0, 1.0]]])
    before = backbone.prefix("layer.0")(x)
    backbone.suffix("input")(x).square().sum().backward()
    optimizer.step()
    assert not torch.equal(backbone.prefix("layer.0")(x), before)


def test_random_weights_come_from_the_seed_alone(saved_bert: Path) -> None:
    state = torch.get_rng_state()
    first = digest(saved_bert, weights="random", seed=5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert digest(saved_bert, weights="random", seed=5) == first
    assert digest(saved_bert, weights="random", seed=6) != first != digest(saved_bert)


def test_a_folder_says_where_its_weights_came_from(folder: Path, no_network: None) -> None:
    (folder / "README.md").write_text("---\nlanguage: en\nlicense: mit\n---\n# Model\n")
    weights = load_backbone(f"transformers/{folder}").weights
    assert (weights.kind, weights.license) == ("pretrained", "mit")
    assert re.fullmatch(r"model/model.safetensors \(sha256 [0-9a-f]{16}\)", weights.origin)


def test_relative_folders_begin_with_a_dot(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    # Where a folder lies is no part of what it computes.
    assert load_backbone("transformers/./model").digest("pooled") == digest(folder)


def test_weights_may_be_another_file_or_folder(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    bert(seed=2).save_pretrained(other)
    of_folder = load_backbone(f"transformers/{folder}", weights=other)
    of_file = load_backbone(f"transformers/{folder}", weights=other / "model.safetensors")
    assert of_folder.digest("pooled") == of_file.digest("pooled") != digest(folder)
    assert of_folder.weights.kind == "file"


def test_weights_in_parts_are_read_by_their_index(folder: Path) -> None:
    whole = digest(folder)
    state = safetensors.torch.load_file(folder / "model.safetensors")
    parts = {key: f"part-{i % 2}.safetensors" for i, key in enumerate(state)}
    for part in set(parts.values()):
        own = {key: t for key, t in state.items() if parts[key] == part}
        safetensors.torch.save_file(own, folder / part)
    (folder / "model.safetensors").unlink()
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": parts}))
    assert digest(folder) == whole
    safetensors.torch.save_file(state, folder.parent / "secret.safetensors")
    index.write_text(json.dumps({"weight_map": {**parts, "x": "../secret.safetensors"}}))
    with pytest.raises(WeightsError, match="expected the names of files beside it"):
        digest(folder)
    index.write_text(json.dumps({"weight_map": ["part-0.safetensors"]}))
    with pytest.raises(WeightsError, match="expected the names of files beside it"):
        digest(folder)


def test_heads_and_names_of_old_checkpoints_are_understood(folder: Path) -> None:
    expected = digest(folder)
    path = folder / "model.safetensors"
    state = {f"bert.{key}": t for key, t in safetensors.torch.load_file(path).items()}
    state = {
        key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("Norm.bias", "Norm.beta"): t
        for key, t in state.items()
        if "pooler" not in key  # trained without one
    }
    state["bert.embeddings.position_ids"] = torch.arange(24)[None]
    state["cls.predictions.bias"] = torch.zeros(20)
    safetensors.torch.save_file(state, path)
    assert digest(folder) == expected
    with pytest.raises(WeightsError, match=r"another network: .*missing: pooler\.dense"):
        digest(folder, text=TextOptions(pooling="pooler"))


@pytest.mark.parametrize(
    "changes", [{"hidden_size": 16}, {"num_hidden_layers": 1}, {"num_hidden_layers": 3}]
)
def test_weights_of_another_network_are_refused(folder: Path, changes: dict[str, int]) -> None:
    bert(**changes).save_pretrained(folder.parent / "other")
    shutil.copy(folder.parent / "other" / "model.safetensors", folder)
    with pytest.raises(WeightsError, match="these weights belong to another network"):
        digest(folder)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("model.safetensors", cut_short, "damaged, or not a safetensors file"),
        ("model.safetensors", Path.unlink, r"expected the files config.json, model.safetensors in"),
        ("config.json", cut_short, "damaged, or not a JSON file"),
        ("config.json", Path.unlink, r"expected the files config.json.* not all are there"),
        ("config.json", lambda p: p.write_text("[1]"), "expected a JSON object, got list"),
        ("config.json", lambda p: p.write_text('{"model_type": "bert9"}'), "got 'bert9'"),
        (
            "config.json",
            lambda p: p.write_text('{"model_type": "bert", "hidden_size": "many"}'),
            "not the configuration of a bert",
        ),
        ("tokenizer.json", cut_short, "damaged, or not a tokenizer"),
        ("tokenizer.json", lambda p: p.write_bytes(b"\xff\xfe"), "damaged, or not a tokenizer"),
        ("tokenizer.json", Path.unlink, r"its tokenizer.*option 'tokenizer'"),
    ],
)
def test_damaged_and_missing_files_are_named(
    folder: Path, file: str, change: Callable[[Path], object], said: str
) -> None:
    change(folder / file)
    with pytest.raises((ConfigError, WeightsError), match=said) as caught:
        digest(folder)
    assert str(folder) in str(caught.value) or file == "tokenizer.json"


def test_pickles_are_never_read(folder: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    (folder / "model.safetensors").unlink()
    path = folder / "pytorch_model.bin"
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(WeightsError, match="weights in pickle files are never read"):
        digest(folder)
    with pytest.raises(WeightsError, match="pickle files can run any code"):
        digest(folder, weights=path)
    assert not (tmp_path / "ran").exists()


def test_code_that_a_model_brings_is_never_run(folder: Path, tmp_path: Path) -> None:
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    config = json.loads((folder / "config.json").read_text())
    auto = {"AutoConfig": "code.Config", "AutoModel": "code.Model"}
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": auto}))
    digest(folder)  # the library's own class is used
    (folder / "config.json").write_text(json.dumps({"model_type": "mine", "auto_map": auto}))
    with pytest.raises(ConfigError, match="bring code of their own are never run"):
        digest(folder)
    assert not (tmp_path / "ran").exists()


def test_without_the_hub_one_error_names_the_files_and_three_ways(
    hub: Path, no_network: None
) -> None:
    with pytest.raises(WeightsError) as caught:
        load_backbone("transformers/albert-base-v2")
    message = str(caught.value)
    assert message.startswith("transformers/albert-base-v2: the pretrained weights are not on")
    files = "config.json, model.safetensors, tokenizer.json"
    assert f"wanted: {files} of huggingface.co/albert-base-v2" in message
    assert f"looked in: {hub / 'models--albert-base-v2'}" in message
    assert "hf download albert-base-v2 config.json model.safetensors tokenizer.json" in message
    assert "packaged/minilm-l6" in message
    with pytest.raises(WeightsError, match=r"option 'tokenizer': .*'packaged/minilm-l6'"):
        load_backbone("transformers/albert-base-v2", weights="random")
    with pytest.raises(WeightsError, match=r"wanted: config.json.*huggingface.co/me/mine"):
        load_backbone("transformers/me/mine", weights="random")


@pytest.mark.parametrize("asked", ["albert-base-v2", "albert/albert-base-v2"])
def test_the_hubs_cache_is_enough(folder: Path, hub: Path, no_network: None, asked: str) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = hub / "models--albert--albert-base-v2"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    shutil.copytree(folder, repository / "snapshots" / commit)
    backbone = load_backbone(f"transformers/{asked}")
    assert backbone.digest("pooled") == digest(folder)
    origin = f"huggingface.co/{asked} (model.safetensors, revision {commit[:12]})"
    assert backbone.weights == Weights("pretrained", origin, "apache-2.0")


def test_the_tokenizer_travels_whole_without_padding_and_truncation(folder: Path) -> None:
    options = TextOptions(max_length=11, pairs="together", strip_markup=True)
    spec = load_backbone(f"transformers/{folder}", text=options).input_spec
    assert isinstance(spec, TextSpec)
    assert (spec.max_length, spec.pairs, spec.strip_markup) == (11, "together", True)
    tokenizer = tokenizers.Tokenizer.from_str(spec.tokenizer)
    assert (tokenizer.padding, tokenizer.truncation) == (None, None)
    assert tokenizer.encode("w5 w6 w7 w8 w9 w10").ids == [2, 5, 6, 7, 8, 9, 10, 3]


def test_another_tokenizer_is_a_file_a_folder_or_the_packaged_one(
    folder: Path, tmp_path: Path
) -> None:
    def chosen(tokenizer: str | Path) -> str:
        options = TextOptions(tokenizer=tokenizer)
        spec = load_backbone(f"transformers/{folder}", text=options).input_spec
        assert isinstance(spec, TextSpec)
        return spec.tokenizer

    other = tmp_path / "other"
    other.mkdir()
    write_tokenizer(other, words=10)
    assert chosen(other) == chosen(str(other / "tokenizer.json")) != chosen(folder)
    with pytest.raises(ConfigError, match=r"ids go up to 30521, and .* knows those below 20"):
        chosen("packaged/minilm-l6")
    with pytest.raises(ConfigError, match="no such file or folder"):
        chosen("packaged/minilm")


def test_an_older_tokenizer_is_converted(folder: Path) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "##ly"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("\n".join(words))
    spec = load_backbone(f"transformers/{folder}").input_spec
    assert isinstance(spec, TextSpec)
    encoding = tokenizers.Tokenizer.from_str(spec.tokenizer).encode("Badly good")
    assert encoding.tokens == ["[CLS]", "bad", "##ly", "good", "[SEP]"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_length": 25}, r"max_length: .* takes 3 to 24 tokens .* got 25"),
        ({"max_length": 2}, "got 2"),
        ({"max_length": 4, "pairs": "together"}, "takes 5 to 24 tokens"),
    ],
)
def test_lengths_that_a_network_cannot_take_are_refused(
    folder: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        load_backbone(f"transformers/{folder}", text=TextOptions(**options))


def test_the_length_is_the_networks_own_and_512_at_most(folder: Path, tmp_path: Path) -> None:
    def longest(config: Any) -> int:
        model = transformers.AutoModel.from_config(config)
        model.save_pretrained(tmp_path / "long")
        shutil.copy(folder / "tokenizer.json", tmp_path / "long")
        spec = load_backbone(f"transformers/{tmp_path / 'long'}").input_spec
        assert isinstance(spec, TextSpec)
        return spec.max_length

    assert longest(transformers.BertConfig(**SIZES)) == 24
    assert longest(transformers.BertConfig(**{**SIZES, "max_position_embeddings": 600})) == 512
    # Its positions begin behind the id of padding.
    assert longest(transformers.XLMRobertaConfig(**SIZES, pad_token_id=1, type_vocab_size=1)) == 22


def test_options_of_pictures_and_of_texts_do_not_mix(folder: Path) -> None:
    name = f"transformers/{folder}"
    with pytest.raises(ConfigError, match=r"fit: transformers/.* reads texts"):
        load_backbone(name, fit="pad")
    with pytest.raises(ConfigError, match=r"image_size: .* reads texts"):
        load_backbone(name, image_size=32)
    with pytest.raises(ConfigError, match="headstart/dcnn takes pictures"):
        load_backbone("headstart/dcnn", weights="random", text=TextOptions())


def test_a_network_that_reads_no_plain_texts_is_refused(folder: Path) -> None:
    config = {"model_type": "t5", "d_model": 8, "d_kv": 4, "num_heads": 2, "num_layers": 1}
    (folder / "config.json").write_text(json.dumps({**config, "d_ff": 8, "vocab_size": 20}))
    with pytest.raises(ConfigError, match="cannot be used as a backbone: a T5Model"):
        digest(folder, weights="random")


def test_names_are_listed_without_the_library() -> None:
    assert "transformers/albert-base-v2" in available_names("transformers/")
    with pytest.raises(ConfigError, match="'transformers/bert-base-uncased'"):
        load_backbone("bert-base-uncased")


def test_without_the_library_the_extra_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'headstart\[text\]'"):
        digest(folder)
