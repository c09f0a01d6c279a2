"""Recurrent networks against torch's own, and what a language model carries and drops."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from headstart.backbones.recurrent import (
    LanguageNetwork,
    RecurrentLayer,
    RecurrentSpec,
    embed,
    locked_dropout,
)
from headstart.errors import ConfigError

REFERENCES = {"elman": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
SPEC = RecurrentSpec("lstm", 11, 5, 7, layers=2)


@pytest.fixture(autouse=True)
def own_stream() -> None:
    torch.manual_seed(3)


def ids(batch: int = 3, length: int = 9) -> torch.Tensor:
    return torch.randint(0, SPEC.inputs, (batch, length))


def reference(network: LanguageNetwork) -> nn.Module:
    """Return torch's own layers with the same weights, one stack."""
    spec = network.spec
    made = REFERENCES[spec.cell](spec.embedding, spec.hidden, spec.layers, batch_first=True)
    for i, layer in enumerate(network.layers):
        for name, value in layer.named_parameters():
            getattr(made, f"{name}_l{i}").data.copy_(value.data)
    return made


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", REFERENCES)
def test_without_regularisation_it_is_the_plain_network(cell: str, layers: int) -> None:
    network = LanguageNetwork(replace(SPEC, cell=cell, layers=layers))
    z = ids()
    hidden, _ = reference(network)(network.embedding(z))
    expected = network.decoder(hidden).reshape(1, -1, SPEC.inputs)
    for training in (True, False):
        network.train(training)
        network.reset()
        torch.testing.assert_close(network(z), expected)
        network.reset()
        torch.testing.assert_close(network(z.float()), expected)


@pytest.mark.parametrize("cell", REFERENCES)
def test_a_text_in_two_pieces_is_one_long_pass(cell: str) -> None:
    network = LanguageNetwork(replace(SPEC, cell=cell)).eval()
    z = ids(2, 12)
    whole = network(z).view(2, 12, -1)
    network.reset()
    first, second = network(z[:, :5]).view(2, 5, -1), network(z[:, 5:]).view(2, 7, -1)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole)
    fresh = LanguageNetwork(replace(SPEC, cell=cell)).eval()
    fresh.load_state_dict(network.state_dict())
    assert not torch.allclose(fresh(z[:, 5:]).view(2, 7, -1), second)


def test_gradients_end_where_a_piece_begins() -> None:
    network = LanguageNetwork(SPEC).train()
    network(ids())
    network(ids()).sum().backward()  # would fail if it reached into the graph of the first call
    assert all(not state.requires_grad for state in network.random_state().values())


def test_the_carried_state_can_be_saved_and_kept_in_part() -> None:
    network, other = LanguageNetwork(SPEC).eval(), LanguageNetwork(SPEC).eval()
    other.load_state_dict(network.state_dict())
    z = ids()
    network(z)
    assert set(network.random_state()) == {"0.0", "0.1", "1.0", "1.1"}
    other.load_random_state(network.random_state())
    torch.testing.assert_close(network(z), other(z))
    with pytest.raises(ValueError, match="expected the 3 texts of the call before"):
        network(z[:2])
    network.keep(2)
    torch.testing.assert_close(network(z[:2])[0], other(z)[0][:18])
    other.load_random_state({})
    assert other.random_state() == {}
    assert "states" not in "".join(network.state_dict())


def test_tied_weights_are_one_tensor_and_make_the_last_layer_narrow() -> None:
    network = LanguageNetwork(replace(SPEC, tied=True, layers=3))
    assert network.decoder.weight is network.embedding.weight
    assert [layer.weight_hh.shape[1] for layer in network.layers] == [7, 7, 5]
    lstm = 4 * 7 * (5 + 7 + 2) + 4 * 7 * (7 + 7 + 2) + 4 * 5 * (7 + 5 + 2)
    assert sum(p.numel() for p in network.parameters()) == 11 * 5 + 11 + lstm
    assert network(ids()).shape == (1, 27, 11)


def test_a_medium_network_has_the_published_size() -> None:
    """AWD-LSTM on WikiText-2: 33 million parameters (Merity, Keskar, Socher 2017, table 2)."""
    with torch.device("meta"):
        network = LanguageNetwork(RecurrentSpec("lstm", 33_278, 400, 1150, layers=3, tied=True))
    assert sum(p.numel() for p in network.parameters()) == 33_556_078


def test_locked_dropout_drops_the_same_channels_at_all_steps() -> None:
    x = torch.ones(50, 6, 40)
    out = locked_dropout(x, 0.3, True)
    assert torch.equal(out, out[:, :1].expand_as(out))
    assert not torch.equal(out[0], out[1])
    assert {round(v, 4) for v in out.unique().tolist()} == {0.0, round(1 / 0.7, 4)}
    assert float((out == 0).float().mean()) == pytest.approx(0.3, abs=0.05)
    assert locked_dropout(x, 0.3, False) is x


def test_word_dropout_drops_a_word_wherever_it_stands() -> None:
    table = nn.Embedding(200, 4)
    words = torch.arange(200).repeat(2, 3)
    out = embed(table, words, 0.4, True).view(2, 3, 200, 4)
    assert torch.equal(out, out[:1, :1].expand_as(out))
    gone = (out[0, 0] == 0).all(dim=1)
    assert 50 < int(gone.sum()) < 110
    torch.testing.assert_close(out[0, 0][~gone], table.weight[~gone] / 0.6)
    torch.testing.assert_close(embed(table, words, 0.4, False), table(words))


def test_weight_dropping_zeroes_hidden_to_hidden_weights_in_training_alone() -> None:
    plain, dropped = RecurrentLayer("gru", 3, 6), RecurrentLayer("gru", 3, 6, 0.5)
    dropped.load_state_dict(plain.state_dict())
    x = torch.randn(2, 5, 3)
    plain.eval()
    dropped.eval()
    torch.testing.assert_close(dropped(x)[0], plain(x)[0])
    dropped.train()
    out = dropped(x)[0]
    assert not torch.allclose(out, plain(x)[0])
    # The first step has no hidden state yet: only what comes from it is touched.
    torch.testing.assert_close(out[:, 0], plain(x)[0][:, 0])
    dropped.weight_hh.grad = None
    out.sum().backward()
    zeros = float((dropped.weight_hh.grad == 0).float().mean())
    assert 0.3 < zeros < 0.7
    # The weights themselves stay: a mask is drawn for each call.
    torch.testing.assert_close(dropped.weight_hh, plain.weight_hh)
    assert not torch.allclose(dropped(x)[0], out)


def test_the_penalty_is_the_published_one() -> None:
    network = LanguageNetwork(replace(SPEC, alpha=2.0, beta=3.0)).train()
    z = ids()
    network(z)
    hidden, _ = reference(network)(network.embedding(z))
    expected = 2 * (hidden**2).mean() + 3 * ((hidden[:, 1:] - hidden[:, :-1]) ** 2).mean()
    torch.testing.assert_close(network.penalty(), expected)
    network.penalty().backward()
    assert network.layers[0].weight_ih.grad is not None
    network(z[:, :1])  # one step has no differences
    assert torch.isfinite(network.penalty())
    network.eval()
    network(z[:, :1])
    assert float(network.penalty()) == 0
    plain = LanguageNetwork(SPEC).train()
    plain(z)
    assert float(plain.penalty()) == 0


def test_dropout_of_the_output_is_in_the_large_activations_penalty() -> None:
    network = LanguageNetwork(replace(SPEC, alpha=1.0, dropout_output=0.5)).train()
    z = ids(64)
    network(z)
    hidden, _ = reference(network)(network.embedding(z))
    # Half of the activations are dropped and the rest is doubled: the mean square doubles.
    assert (network.penalty() / (hidden**2).mean()).item() == pytest.approx(2.0, rel=0.15)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cell": "lstn"}, "cell: expected elman, gru, lstm"),
        ({"hidden": 0}, "hidden: expected at least 1"),
        ({"dropout_weight": 1.0}, r"dropout_weight: expected a share in \[0, 1\)"),
        ({"embedding": 0, "tied": True}, "embedding: expected at least 1"),
        ({"embedding": 0}, "for a language model"),
        ({"beta": -1.0}, "alpha and beta"),
    ],
)
def test_impossible_networks_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LanguageNetwork(replace(SPEC, **changes))
