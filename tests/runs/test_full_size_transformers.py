"""ALBERT-base-v2 and BERT-base at full size, random weights: a study, then transformers."""

from pathlib import Path

import pytest
import torch
import transformers

from headstart import run
from headstart.backbones.registry import load_backbone
from headstart.backbones.transformers_save import save_transformers
from headstart.data.wordlevel import word_tokenizer
from headstart.predict import load_model

WORDS = ("<unk>", "<eos>", "good", "bad", "film", "fine", "poor", "a", "what")


@pytest.fixture
def reviews(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    (tmp_path / "tokenizer.json").write_text(word_tokenizer(WORDS))
    rows = [f"a {('good', 'fine')[i % 2]} film {'a ' * i},pos" for i in range(6)]
    rows += [f"what a {('bad', 'poor')[i % 2]} film {'what ' * i},neg" for i in range(6)]
    (tmp_path / "reviews.csv").write_text("\n".join(["text,label", *rows]))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "parameters"), [("albert-base-v2", 11_683_584), ("bert-base-uncased", 109_482_240)]
)
def test_a_published_size_is_cut_trained_and_given_to_plain_transformers(
    name: str, parameters: int, reviews: Path
) -> None:
    study = reviews / "study.yaml"
    study.write_text(
        f"""
name: whole
title: At full size
data: {{kind: text, path: {reviews / "reviews.csv"}, split: {{train: 0.5, val: 0.25, test: 0.25}}}}
backbones:
  network:
    name: transformers/{name}
    weights: random
    tokenizer: {reviews}
    max_length: 16
    pooling: pooler
timing: {{measure: false}}
device: cpu
parts:
  tuned:
    kind: model
    epochs: 1
    batch_size: 6
    keep: last
    optimizer: {{kind: adamw, learning_rate: 1e-3, weight_decay_on: weights}}
    stages: [{{trainable: all}}]
"""
    )
    result = run(study, out=reviews / "runs")
    assert result.results["backbones"][0]["parameters_total"] == parameters

    trained = load_model(result.folder / "models" / "tuned")
    backbone = load_backbone(
        f"transformers/{name}", weights="random", text=trained.model.options.text
    )
    before = backbone.digest("pooled")
    trained.load_into(backbone)
    assert backbone.digest("pooled") != before, "a step moves the weights"

    # Two texts, the second with padding behind it.
    tokens = torch.tensor([[[7.0, 1], [2, 1], [4, 1]], [[3.0, 1], [4, 1], [0, 0]]])
    with torch.no_grad():
        whole = backbone.prefix("pooled")(tokens)
        for cut in ("input", *backbone.stages):
            again = backbone.suffix(cut).eval()(backbone.prefix(cut)(tokens))
            torch.testing.assert_close(again, whole, msg=f"cut at {cut}")

    save_transformers(backbone, reviews / "saved")
    theirs = transformers.AutoModel.from_pretrained(reviews / "saved").eval()
    with torch.no_grad():
        expected = theirs(
            input_ids=tokens[..., 0].long(), attention_mask=tokens[..., 1].long()
        ).pooler_output
    torch.testing.assert_close(whole, expected, rtol=1e-4, atol=1e-5)
