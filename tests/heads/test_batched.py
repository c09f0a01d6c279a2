import numpy as np
import pytest
import torch

from headstart.heads import HeadSpec, build_head, take_member

SPECS = [
    HeadSpec(),
    HeadSpec(dropout=0.4),
    HeadSpec(normalization="layer"),
    HeadSpec(normalization="batch"),
    HeadSpec(hidden=(7,), dropout=0.3, normalization="batch"),
    HeadSpec(hidden=(7, 5), normalization="layer"),
]


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("seeds", [[3, 3, 3], [0, 1, 2]])
def test_a_member_computes_in_a_batch_what_it_computes_alone(
    spec: HeadSpec, seeds: list[int]
) -> None:
    together = build_head(spec, 11, 4, seeds)
    alone = [build_head(spec, 11, 4, [seed]) for seed in seeds]
    for step in range(3):
        x = torch.from_numpy(np.random.default_rng(step).normal(size=(6, 11)).astype("float32"))
        both = together(x)
        assert both.shape == (3, 6, 4)
        for member, head in enumerate(alone):
            torch.testing.assert_close(both[member], head(x)[0], rtol=1e-5, atol=1e-6)
    together.eval()
    for member, head in enumerate(alone):
        # After training-mode passes the running statistics must agree too.
        torch.testing.assert_close(together(x)[member], head.eval()(x)[0], rtol=1e-5, atol=1e-6)


def test_members_may_see_different_samples() -> None:
    head = build_head(HeadSpec(hidden=(5,), normalization="batch"), 8, 3, [0, 1])
    x = torch.randn(2, 6, 8)
    out = head(x)
    for member, seed in enumerate([0, 1]):
        alone = build_head(HeadSpec(hidden=(5,), normalization="batch"), 8, 3, [seed])
        torch.testing.assert_close(out[member], alone(x[member])[0], rtol=1e-5, atol=1e-6)


def test_one_member_is_torchs_own_linear_layer() -> None:
    head = build_head(HeadSpec(), 9, 4, [5])
    linear = torch.nn.Linear(9, 4)
    linear.load_state_dict(
        {"weight": head.state_dict()["layers.0.weight"][0], "bias": head.layers[0].bias[0].detach()}
    )
    x = torch.randn(3, 9)
    torch.testing.assert_close(head(x)[0], linear(x))


@pytest.mark.parametrize("kind", ["layer", "batch"])
def test_normalisation_is_torchs_own(kind: str) -> None:
    head = build_head(HeadSpec(normalization=kind), 9, 4, [0])
    other = torch.nn.LayerNorm(9) if kind == "layer" else torch.nn.BatchNorm1d(9)
    norm = head.norms[0]
    for _ in range(3):
        x = torch.randn(8, 9) * 3 + 1
        torch.testing.assert_close(norm(x)[0], other(x), rtol=1e-4, atol=1e-5)
    norm.eval(), other.eval()
    torch.testing.assert_close(norm(x)[0], other(x), rtol=1e-4, atol=1e-5)


def test_initial_weights_follow_torchs_distribution() -> None:
    head = build_head(HeadSpec(), 400, 50, [0])
    weight = head.layers[0].weight.detach()
    bound = 1 / np.sqrt(400)
    assert weight.abs().max() <= bound
    assert abs(float(weight.std()) - bound / np.sqrt(3)) < 0.02 * bound


def test_building_does_not_touch_the_global_generator() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    build_head(HeadSpec(hidden=(4,), dropout=0.5), 6, 3, [0])(torch.ones(2, 6))
    assert torch.equal(torch.rand(3), expected)


def test_zero_init_makes_all_classes_equally_probable() -> None:
    head = build_head(HeadSpec(hidden=(4,)), 6, 3, [0, 1], zero_init=True)
    assert torch.equal(head(torch.randn(5, 6)), torch.zeros(2, 5, 3))


def test_a_member_can_be_taken_out() -> None:
    spec = HeadSpec(hidden=(7,), normalization="batch")
    head = build_head(spec, 11, 4, [0, 1, 2])
    x = torch.randn(6, 11)
    head(x)
    member = take_member(head, 1, 11, 4)
    torch.testing.assert_close(member(x)[0], head.eval()(x)[1])


@pytest.mark.parametrize("dropout", [-0.1, 1.0])
def test_impossible_dropout_is_refused(dropout: float) -> None:
    with pytest.raises(ValueError, match="probability"):
        build_head(HeadSpec(dropout=dropout), 3, 2, [0])


def test_a_last_batch_of_one_sample_does_not_move_the_statistics() -> None:
    head = build_head(HeadSpec(normalization="batch"), 5, 3, [0, 1])
    head(torch.randn(16, 5))
    before = {k: v.clone() for k, v in head.state_dict().items()}
    assert torch.isfinite(head(torch.randn(1, 5))).all()
    for key, value in head.state_dict().items():
        assert torch.equal(value, before[key])
