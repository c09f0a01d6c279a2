from pathlib import Path

import pytest

from headstart.backbones import candidates as module
from headstart.backbones.candidates import candidates
from headstart.backbones.registry import available_names, load_backbone


def test_what_is_named_can_be_loaded_without_a_network_cheapest_first():
    for noun in ("picture", "text", "pair"):
        found = candidates(noun)
        costs = [one.relative_cost for one in found]
        assert costs == sorted(costs)
    names = [one.name for one in candidates("picture")]
    assert names == [f"packaged/efficientnet-lite{size}" for size in "012"]
    assert [one.name for one in candidates("text")] == ["packaged/minilm-l6"]
    for name in (names[0], "packaged/minilm-l6"):
        assert load_backbone(name).weights.kind == "pretrained"


def test_sequences_of_numbers_have_no_published_networks():
    assert candidates("sequence") == ()


def test_a_package_that_is_not_installed_is_not_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "available", lambda name: "lite1" in name)
    assert [one.name for one in candidates("picture")] == ["packaged/efficientnet-lite1"]


def test_the_hubs_cache_is_looked_at(monkeypatch: pytest.MonkeyPatch):
    there = {
        ("timm/resnet18.a1_in1k", "model.safetensors"),
        ("distilbert/distilbert-base-uncased", "config.json"),
        ("distilbert/distilbert-base-uncased", "model.safetensors"),
        ("distilbert/distilbert-base-uncased", "tokenizer.json"),
        ("google-bert/bert-base-uncased", "config.json"),  # its weights are not there
    }

    def cached(repository: str, file: str, allow_network: bool) -> tuple[Path | None, str]:
        assert not allow_network
        return (Path(file) if (repository, file) in there else None), ""

    monkeypatch.setattr(module, "cached_file", cached)
    pictures = {one.name: one.source for one in candidates("picture")}
    assert pictures["timm/resnet18.a1_in1k"] == "hub cache"
    assert [n for n in pictures if n.startswith("timm/")] == ["timm/resnet18.a1_in1k"]
    texts = [one.name for one in candidates("text")]
    assert texts == ["packaged/minilm-l6", "transformers/distilbert-base-uncased"]


def test_every_network_that_is_looked_for_is_one_that_its_library_knows():
    import timm
    from timm.models import get_pretrained_cfg

    for name in module._TIMM:
        assert name in timm.list_pretrained(f"{name.partition('.')[0]}.*")
        assert get_pretrained_cfg(name).hf_hub_id == f"timm/{name}"
    known = available_names("transformers/")
    assert all(f"transformers/{name}" in known for name in module._TRANSFORMERS)
