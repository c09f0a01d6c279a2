"""What happens to gradients before a step and to weights after it."""

import math

import pytest
import torch
from torch import nn

from headstart.train.gradients import Average, LossScale, clip


def with_gradients(*shapes: tuple[int, ...], scale: float = 1.0) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(3)
    parameters = [nn.Parameter(torch.zeros(shape)) for shape in shapes]
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator) * scale
    return parameters


def gradients(parameters: list[nn.Parameter]) -> list[torch.Tensor]:
    return [p.grad.clone() for p in parameters if p.grad is not None]


def test_each_member_is_clipped_as_torch_clips_it_alone() -> None:
    parameters = with_gradients((4, 3, 5), (4, 3), (4, 2, 2, 2))
    for parameter in parameters:
        # Far below the norm, above it, far above it, and lost.
        parameter.grad *= torch.tensor([0.01, 1.0, 50.0, math.inf]).view(
            -1, *(1,) * (parameter.dim() - 1)
        )
    before = gradients(parameters)
    clip([*parameters, nn.Parameter(torch.zeros(4, 2))], 4, 2.0)
    for member in range(3):
        alone = [nn.Parameter(torch.zeros_like(g[member])) for g in before]
        for p, gradient in zip(alone, before, strict=True):
            p.grad = gradient[member].clone()
        torch.nn.utils.clip_grad_norm_(alone, 2.0)
        for parameter, p in zip(parameters, alone, strict=True):
            torch.testing.assert_close(parameter.grad[member], p.grad, rtol=1e-6, atol=1e-8)
    assert torch.equal(parameters[0].grad[0], before[0][0])  # short ones are left alone
    lengths = [math.sqrt(sum(float(p.grad[m].square().sum()) for p in parameters)) for m in (1, 2)]
    assert lengths == pytest.approx([2.0, 2.0], rel=1e-4)


def test_a_single_model_is_clipped_as_a_whole() -> None:
    parameters = with_gradients((3, 5), (7,), scale=10)
    before = gradients(parameters)
    length = math.sqrt(sum(float(g.square().sum()) for g in before))
    clip(parameters, 1, 0.5)
    for gradient, old in zip(gradients(parameters), before, strict=True):
        torch.testing.assert_close(gradient, old * 0.5 / length, rtol=1e-4, atol=0)


def test_without_float16_the_scale_is_one_and_gradients_stay() -> None:
    scale = LossScale(enabled=False)
    parameters = with_gradients((3,))
    parameters[0].grad[0] = math.nan
    assert scale.unscale(parameters)
    assert (scale.value, scale.good_steps) == (1.0, 0)
    assert parameters[0].grad[1] == with_gradients((3,))[0].grad[1]


def test_the_scale_halves_when_a_gradient_is_lost_and_doubles_after_2000_good_steps() -> None:
    scale = LossScale(enabled=True)
    assert scale.value == 65536
    parameters = [*with_gradients((3,), (2,)), nn.Parameter(torch.zeros(1))]
    plain = gradients(parameters)
    for parameter in parameters[:2]:
        parameter.grad *= scale.value
    assert scale.unscale(parameters)
    for gradient, expected in zip(gradients(parameters), plain, strict=True):
        assert torch.equal(gradient, expected)  # a power of two costs no bit
    for lost in (math.inf, -math.inf, math.nan):
        good = scale.value
        parameters[1].grad[1] = lost
        assert not scale.unscale(parameters)
        assert (scale.value, scale.good_steps) == (good / 2, 0)
    parameters[1].grad[1] = 0.0
    for _ in range(1999):
        assert scale.unscale(parameters)
    assert scale.value == 65536 / 8
    assert scale.unscale(parameters)
    assert (scale.value, scale.good_steps) == (65536 / 4, 0)


def test_the_scale_never_falls_below_one() -> None:
    scale = LossScale(enabled=True)
    parameters = with_gradients((1,))
    parameters[0].grad[0] = math.nan
    for _ in range(40):
        assert not scale.unscale(parameters)
    assert scale.value == 1


def network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    model[2].bias.requires_grad_(False)
    return model


def move(model: nn.Module, step: int) -> None:
    """Do to all weights and buffers what a training step does."""
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.add_(torch.randn(value.shape, generator=generator))
            else:
                value.add_(1)


@pytest.mark.parametrize("decay", [0.5, 0.999])
def test_the_average_is_the_one_written_by_hand(decay: float) -> None:
    model = network()
    learned = {name for name, p in model.named_parameters() if p.requires_grad}
    expected = {k: v.double() for k, v in model.state_dict().items()}
    average = Average(model, decay)
    for step in range(1, 31):
        move(model, step)
        average.update()
        share = min(decay, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            if name in learned:
                expected[name] = share * expected[name] + (1 - share) * value.double()
            else:
                expected[name] = value.double()  # statistics and frozen weights as they are
    own = {k: v.clone() for k, v in model.state_dict().items()}
    with average.shown():
        for name, value in model.state_dict().items():
            torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-5)
    for name, value in model.state_dict().items():
        assert torch.equal(value, own[name])


def test_the_models_own_weights_come_back_after_an_error() -> None:
    model = network()
    average = Average(model, 0.9)
    move(model, 1)
    own = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(RuntimeError, match="inside"), average.shown():
        raise RuntimeError("inside")
    for name, value in model.state_dict().items():
        assert torch.equal(value, own[name])


def test_an_average_goes_on_from_its_state() -> None:
    model, other = network(), network()
    straight = Average(model, 0.9)
    for step in range(6):
        if step == 3:
            paused = {k: v.clone() for k, v in straight.state().items()}
        move(model, step)
        straight.update()
    again = Average(other, 0.9)
    for step in range(6):
        if step == 3:
            again.load_state(paused)
        move(other, step)
        if step >= 3:
            again.update()
    for name, value in straight.state().items():
        assert torch.equal(again.state()[name], value), name


def test_a_weight_that_two_modules_share_is_averaged() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    model[1].weight = model[0].weight
    start = model[0].weight.detach().clone()
    average = Average(model, 0.5)
    with torch.no_grad():
        model[0].weight.add_(1.0)
    average.update()
    with average.shown():
        share = 2 / 11
        torch.testing.assert_close(model[0].weight.detach(), start + 1 - share)
