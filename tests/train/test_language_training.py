"""Language models in the loop: every word once, state carried, the end the same after a stop."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from train_tools import Memory, assert_same, stop_and_go, timeless, weights_of

from headstart.backbones.recurrent import LanguageNetwork, RecurrentSpec
from headstart.errors import DataError
from headstart.evaluate.language import perplexity
from headstart.train import (
    Hyperparameters,
    Optimizer,
    ParameterGroup,
    ScheduleSpec,
    TrainPlan,
    build_grouped_optimizer,
    drain,
    evaluate,
    fit,
)
from headstart.train.language import LanguageSource, token_nll

WORDS = 12
SPEC = RecurrentSpec("lstm", WORDS, 8, 16)


def network(spec: RecurrentSpec = SPEC, seed: int = 0) -> LanguageNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LanguageNetwork(spec)


def source(model: LanguageNetwork, tokens: np.ndarray | None = None, **options) -> LanguageSource:
    text = np.arange(203) % WORDS if tokens is None else tokens
    val = np.random.default_rng(1).integers(0, WORDS, 98)
    settings = {"batch_size": 4, "bptt": 7, "seed": 3, **options}
    return LanguageSource(model, {"train": text, "val": val, "test": val[:31]}, **settings)


def test_an_epoch_reads_each_stream_from_beginning_to_end() -> None:
    tokens = np.arange(203)
    for random_lengths in (False, True):
        made = source(network(), tokens, random_lengths=random_lengths)
        batches = list(made.train(1))
        assert len(batches) == made.steps_per_epoch
        read = torch.cat([z for z, _ in batches], dim=1)
        # 203 tokens in 4 streams of 50; the last of each is only predicted.
        assert torch.equal(read, torch.arange(200).view(4, 50)[:, :-1])
        for z, y in batches:
            assert torch.equal(y.view(4, -1), z + 1)


def test_random_lengths_follow_seed_and_epoch_and_are_about_as_published() -> None:
    tokens = np.zeros(400_001, dtype=np.int64)
    made = source(network(), tokens, bptt=70, batch_size=2, random_lengths=True)
    sizes = [z.shape[1] for z, _ in made.train(1)]
    again = source(network(), tokens, bptt=70, batch_size=2, random_lengths=True)
    assert sizes == [z.shape[1] for z, _ in again.train(1)]
    assert sizes != [z.shape[1] for z, _ in made.train(2)]
    assert len(sizes) == made.steps_per_epoch == len(list(made.train(2)))
    short = [n for n in sizes if n < 52]
    assert len(short) / len(sizes) == pytest.approx(0.05, abs=0.01)
    assert np.mean(short) == pytest.approx(35, abs=1.5)
    assert np.mean([n for n in sizes if n >= 52]) == pytest.approx(70, abs=1)
    for z, _ in made.train(3):
        assert made.rate() == z.shape[1] / 70
    fixed = source(network())
    assert {fixed.rate() for _ in fixed.train(1)} == {1.0}


@pytest.mark.parametrize("streams", [1, 4, 10, 500])
@pytest.mark.parametrize("bptt", [1, 7, 40])
def test_an_evaluation_predicts_every_token_but_the_first_once(streams: int, bptt: int) -> None:
    made = source(network(), np.arange(43), evaluation_batch_size=streams, bptt=bptt)
    pieces = [y for _, y in made.split("train")]
    assert sorted(torch.cat(pieces).tolist()) == list(range(1, 43))
    assert made.in_order("train", pieces).tolist() == list(range(1, 43))
    for z, y in made.split("train"):
        assert torch.equal(y.view(z.shape), z + 1)


def test_one_stream_is_one_long_pass() -> None:
    model = network()
    made = source(model, evaluation_batch_size=1)
    tokens = torch.as_tensor(np.random.default_rng(1).integers(0, WORDS, 98))
    got = token_nll(model, made, "val")
    assert got.shape == (97,)
    model.reset()
    with torch.no_grad():
        logits = model(tokens[None, :-1])[0]
    expected = torch.nn.functional.cross_entropy(logits, tokens[1:], reduction="none")
    np.testing.assert_allclose(got, expected.numpy(), rtol=1e-5)


def test_perplexity_depends_neither_on_the_pieces_nor_on_what_was_read_before() -> None:
    model = network()
    first = token_nll(model, source(model, bptt=3), "val")
    np.testing.assert_allclose(token_nll(model, source(model, bptt=50), "val"), first, rtol=1e-5)
    list(map(model, (z for z, _ in source(model, evaluation_batch_size=10).split("test"))))
    made = source(model)
    np.testing.assert_allclose(token_nll(model, made, "val"), first, rtol=1e-5)
    # And the loop's own figure is the mean of these.
    assert float(evaluate(model, made, "val").loss[0]) == pytest.approx(first.mean(), rel=1e-5)


def test_a_uniform_models_perplexity_is_its_vocabulary() -> None:
    model = network()
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    scores = perplexity(token_nll(model, source(model), "val"))
    assert scores["perplexity"].value == pytest.approx(WORDS, rel=1e-5)
    assert scores["loss"].value == pytest.approx(np.log(WORDS), rel=1e-5)


def test_texts_that_are_too_short_are_refused() -> None:
    with pytest.raises(DataError, match=r"train text: expected at least 8 tokens for a batch of 4"):
        source(network(), np.arange(7))
    with pytest.raises(ValueError, match="bptt"):
        source(network(), bptt=0)


def adam(model: LanguageNetwork) -> Optimizer:
    group = ParameterGroup("head", tuple(model.parameters()), 0.02)
    return build_grouped_optimizer("adam", [group], Hyperparameters(0.02))


def training(spec: RecurrentSpec, epochs: int, **options):
    def make(memory: Memory | None):
        model = network(spec)
        made = source(model, **options)
        optimizer = adam(model)
        plan = TrainPlan(epochs=epochs, schedule=ScheduleSpec(), learning_rates=(0.02,), seed=4)
        return model, fit(model, optimizer, made, plan, memory)

    return make


@pytest.mark.parametrize("cell", ["elman", "gru", "lstm"])
def test_a_text_that_repeats_is_learned(cell: str) -> None:
    model = network(replace(SPEC, cell=cell, tied=cell == "lstm"))
    text = np.tile(np.arange(WORDS), 60)
    made = LanguageSource(
        model,
        {"train": text, "val": text[:100], "test": text[:80]},
        batch_size=4,
        bptt=12,
        seed=0,
        random_lengths=True,
        evaluation_batch_size=1,
    )
    optimizer = adam(model)
    plan = TrainPlan(epochs=25, schedule=ScheduleSpec(), learning_rates=(0.02,), clip_norm=1.0)
    drain(fit(model, optimizer, made, plan))
    assert perplexity(token_nll(model, made, "test"))["perplexity"].value < 1.1


@pytest.mark.parametrize("stop_after", [1, 3, 7, 9])
def test_a_stopped_training_goes_on_bit_by_bit(stop_after: int) -> None:
    shares = {"dropout_words": 0.1, "dropout_weight": 0.3, "dropout_output": 0.2}
    make = training(
        replace(SPEC, **shares, layers=2, dropout_hidden=0.2), 2, random_lengths=True, bptt=9
    )
    model, steps = make(None)
    records, outcomes = drain(steps)
    saved, _, _, none = stop_and_go(make, None, stop_after)
    assert none is None
    assert any(name.startswith("random.model.") for name in saved.tensors)
    _, other, other_records, other_outcomes = stop_and_go(make, saved, None)
    assert_same(weights_of(other), weights_of(model))
    assert timeless(other_records) == timeless(records)
    assert other_outcomes == outcomes
