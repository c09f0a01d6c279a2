"""MixUp and CutMix: what a label says is what the picture shows."""

import numpy as np
import pytest
import torch
from torch import Tensor

from headstart._util.seeding import generator
from headstart.train import Mixing
from headstart.train.mixing import mix

COUNT, HEIGHT, WIDE = 6, 8, 16  # powers of two: shares of the pixels are exact in float32


def telling() -> tuple[Tensor, Tensor]:
    """Make pictures whose channels say their class: all ones in the channel of the class."""
    y = torch.tensor([3, 0, 5, 1, 4, 2])
    x = torch.nn.functional.one_hot(y, COUNT).float()[:, :, None, None]
    return x.repeat(1, 1, HEIGHT, WIDE), y


def mixed(mixing: Mixing, number: int) -> tuple[Tensor, Tensor]:
    x, y = telling()
    before = x.clone()
    out = mix(x, y, mixing, generator("test", number))
    assert torch.equal(x, before)  # the batch itself is left alone
    return out


def is_cut(x: Tensor) -> bool:
    """Say whether every pixel is that of one picture."""
    return bool(((x == 0) | (x == 1)).all())


@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
def test_mixup_blends_two_pictures_and_their_labels_by_the_same_share(alpha: float) -> None:
    _, y = telling()
    shares = set()
    for number in range(20):
        x, target = mixed(Mixing(alpha, None, COUNT), number)
        # Everywhere in the picture the same blend, and it is what the label says.
        assert torch.equal(x, x[:, :, :1, :1].expand_as(x))
        torch.testing.assert_close(x[:, :, 0, 0], target)
        assert torch.equal((target > 0).sum(dim=1).clamp(min=2), torch.full((COUNT,), 2))
        torch.testing.assert_close(target.sum(dim=1), torch.ones(COUNT))
        own = target[torch.arange(COUNT), y]
        blended = own[(target > 0).sum(dim=1) == 2]
        assert len(set(blended.tolist())) <= 1  # one share for the batch
        shares.update(blended.tolist())
    assert len(shares) > 15


def test_the_share_of_mixup_is_drawn_from_the_beta_distribution() -> None:
    x, y = torch.zeros(COUNT, 1, 1, 1), torch.arange(COUNT)
    for alpha in (0.2, 1.0, 50.0):
        draws = [mix(x, y, Mixing(alpha, None, COUNT), generator(alpha, n))[1] for n in range(400)]
        # The share is seen where a picture is not its own partner.
        blended = [t.diagonal()[(t > 0).sum(dim=1) == 2] for t in draws]
        shares = np.array([float(own[0]) for own in blended if len(own)])
        assert len(shares) > 380
        assert abs(shares.mean() - 0.5) < 0.05
        assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.2)


@pytest.mark.parametrize("alpha", [0.3, 1.0, 8.0])
def test_cutmix_labels_are_exactly_the_shares_of_pixels(alpha: float) -> None:
    shares = set()
    for number in range(30):
        x, target = mixed(Mixing(None, alpha, COUNT), number)
        assert is_cut(x)
        assert torch.equal(x.sum(dim=1), torch.ones(COUNT, HEIGHT, WIDE))
        assert torch.equal(x.mean(dim=(2, 3)), target)
        shares.update(target[(target > 0) & (target < 1)].tolist())
    assert len(shares) > 10


def test_cutmix_pastes_one_rectangle_of_the_pictures_shape_at_its_own_place() -> None:
    _, y = telling()
    places = set()
    for number in range(30):
        x, _ = mixed(Mixing(None, 1.0, COUNT), number)
        foreign = 1 - x[torch.arange(COUNT), y]
        for picture in foreign[foreign.sum(dim=(1, 2)) > 0]:
            rows, columns = picture.any(dim=1).nonzero(), picture.any(dim=0).nonzero()
            top, left = int(rows[0]), int(columns[0])
            tall, wide = len(rows), len(columns)
            assert picture[top : top + tall, left : left + wide].sum() == picture.sum()
            assert tall * wide == picture.sum()
            assert abs(wide - 2 * tall) <= 2  # the picture is twice as wide as high
            places.add((top, left, tall, wide))
    assert len({p[:2] for p in places}) > 8
    for at, length in ((0, HEIGHT), (1, WIDE)):  # up to either edge
        starts = {p[at] for p in places if p[at + 2] < length}
        ends = {p[at] + p[at + 2] for p in places if p[at + 2] < length}
        assert (min(starts), max(ends)) == (0, length)
    # What is pasted comes from the same place of the other picture.
    x, y = torch.arange(2.0 * HEIGHT * WIDE).view(2, 1, HEIGHT, WIDE), torch.tensor([0, 1])
    offset = HEIGHT * WIDE
    for number in range(20):
        out, _ = mix(x, y, Mixing(None, 1.0, 2), generator("place", number))
        assert torch.equal(out % offset, x % offset)


def test_with_both_each_batch_is_one_or_the_other_by_its_own_alpha() -> None:
    both = Mixing(0.05, 50.0, COUNT)
    cuts = 0
    for number in range(80):
        x, target = mixed(both, number)
        if is_cut(x) and bool(((target > 0.3) & (target < 0.7)).any()):
            cuts += 1  # so near a half only with cutmix's alpha
    assert 25 < cuts < 55


def test_the_same_random_numbers_give_the_same_batch() -> None:
    mixing = Mixing(0.4, 1.0, COUNT)
    for number in range(5):
        one, again, other = mixed(mixing, number), mixed(mixing, number), mixed(mixing, number + 5)
        assert torch.equal(one[0], again[0])
        assert torch.equal(one[1], again[1])
        assert not torch.equal(one[0], other[0])


def test_a_batch_of_one_is_left_as_it_is() -> None:
    x, y = telling()
    for mixing in (Mixing(0.4, None, COUNT), Mixing(None, 1.0, COUNT)):
        out, target = mix(x[:1], y[:1], mixing, generator("one"))
        torch.testing.assert_close(out, x[:1])
        torch.testing.assert_close(target, torch.nn.functional.one_hot(y[:1], COUNT).float())
