"""Heat maps: known identities, planted patches, and where they lie on the picture."""

import io

import numpy as np
import pytest
import torch
from explained_bundles import (
    COLOURS,
    PICTURES,
    SIDE,
    Mean,
    Tokens,
    Told,
    Torch,
    chain,
    colours,
    encoded,
    planted,
)
from PIL import Image
from torch import nn

from headstart.backbones.registry import load_backbone
from headstart.data.image import decode, transform
from headstart.errors import ConfigError, DataError
from headstart.predict.explain import explain_sample, explanations, picture_box
from headstart.predict.grad_cam import grad_cam, map_cut
from headstart.types import InputSpec, SeriesSpec

pytestmark = pytest.mark.usefixtures("one_thread")


def noise(side: int = SIDE) -> bytes:
    return encoded(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8))


def test_with_average_pooling_and_a_linear_head_it_is_the_class_activation_map() -> None:
    backbone = load_backbone("headstart/resnet20", weights="random", seed=4)
    bundle = Torch(backbone)
    row = bundle.prepare(noise())
    cut = map_cut(backbone, "pooled")
    assert cut is not None
    assert backbone.shape(cut) == (64, 8, 8)
    maps = bundle.inside.activation(torch.from_numpy(row).unsqueeze(0), cut)[0]
    largest = []
    for output in range(3):
        weights = bundle.inside.head.layers[0].weight[0, output]
        cam = torch.relu(torch.einsum("k,kij->ij", weights, maps)).detach() / 64
        found = grad_cam(bundle.inside, cut, row, output)
        np.testing.assert_allclose(found, cam, rtol=1e-4, atol=1e-7)
        largest.append(found.max())
    assert max(largest) > 0


def test_channels_are_weighted_by_their_mean_gradient() -> None:
    weights = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))

    class Weighted(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x * weights).sum(dim=(2, 3))

    backbone = chain(PICTURES, ("squares", nn.AvgPool2d(4)), ("pooled", Weighted()))
    head = torch.tensor([[1.0, -2.0, 0.5]] * 3)
    bundle = Torch(backbone, weight=head)
    row = bundle.prepare(noise())
    squares = nn.functional.avg_pool2d(torch.from_numpy(row), 4)
    expected = torch.relu(weights.mean() * torch.einsum("k,kij->ij", head[0], squares))
    assert expected.max() > 0
    np.testing.assert_allclose(grad_cam(bundle.inside, "squares", row, 0), expected, atol=1e-6)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("method", ["grad-cam", "occlusion"])
def test_a_planted_patch_is_found(method: str, channels_last: bool) -> None:
    bundle = Torch(colours(channels_last=channels_last), weight=100 * torch.eye(3))
    data = planted(slice(4, 12), slice(20, 28))
    found = explain_sample(bundle, data, label="red", method=method)  # type: ignore[arg-type]
    grid = np.array(found["grid"])
    assert grid.shape == (8, 8)
    assert found["method"] == method
    assert found["label"] == "red"
    assert grid.max() == 1
    patch = grid[1:3, 5:7]
    assert patch.min() > 0.5
    far = grid[4:, :4]  # no window that covers the patch reaches so far
    assert far.max() < 0.05


def test_an_answer_is_of_the_class_that_was_asked_for_and_of_the_likeliest_unasked() -> None:
    bundle = Torch(colours(), weight=10 * torch.eye(3))
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    pixels[:, :20] = (255, 0, 0)
    pixels[:, 24:] = (0, 0, 255)
    data = encoded(pixels)
    first = explain_sample(bundle, data)
    said = bundle.predict_prepared([bundle.prepare(data)])[0]
    assert first["label"] == "red"
    assert first["probability"] == pytest.approx(float(said[0]))
    blue = explain_sample(bundle, data, label="blue")
    assert blue["probability"] == pytest.approx(float(said[2]))
    assert np.array(first["grid"])[:, :4].min() > np.array(first["grid"])[:, 6:].max()
    assert np.array(blue["grid"])[:, 6:].min() > np.array(blue["grid"])[:, :4].max()


def test_explaining_leaves_the_network_as_it_was() -> None:
    backbone = load_backbone("headstart/resnet20", weights="random", seed=1)
    bundle = Torch(backbone)
    before, asked = backbone.digest("pooled"), bundle.predict_prepared([bundle.prepare(noise())])
    explain_sample(bundle, noise())
    assert backbone.digest("pooled") == before
    np.testing.assert_array_equal(bundle.predict_prepared([bundle.prepare(noise())]), asked)
    for _, stage in backbone.modules("input", "pooled"):
        assert not any(module.training for module in stage.modules())
        assert all(parameter.grad is None for parameter in stage.parameters())


def test_a_network_whose_tokens_have_mixed_has_no_map() -> None:
    squares, tokens = nn.AvgPool2d(4), nn.Sequential(Tokens(), nn.Linear(3, 6))

    class Pool(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean(dim=1)

    mixed = chain(PICTURES, ("squares", squares), ("tokens", tokens), ("pooled", Pool()))
    assert map_cut(mixed, "pooled") is None
    assert map_cut(mixed, "squares") == "squares"  # a head that reads the map itself
    assert explanations(Torch(mixed)) == ("occlusion",)
    assert map_cut(load_backbone("timm/test_vit", weights="random"), "pooled") is None
    one_pixel = chain(PICTURES, ("squares", squares), ("one", nn.AvgPool2d(8)), ("pooled", Mean()))
    assert map_cut(one_pixel, "pooled") == "squares"


def test_a_graph_is_explained_by_occlusion_alone() -> None:
    bundle = Torch(colours(), graph=True)
    assert explanations(bundle) == ("occlusion",)
    assert explain_sample(bundle, noise())["method"] == "occlusion"
    with pytest.raises(ConfigError, match=r"one that this model offers \(occlusion\), got 'grad"):
        explain_sample(bundle, noise(), method="grad-cam")


def test_what_takes_pixels_is_explained_on_a_picture_made_smaller() -> None:
    sizes = set()

    def prepare(data: bytes) -> np.ndarray:
        pixels = np.asarray(decode(data))
        sizes.add(pixels.shape)
        return pixels

    def redness(pixels: np.ndarray) -> float:
        return float(pixels[..., 0].mean() - pixels[..., 1].mean()) / 20

    bundle = Told(PICTURES, redness, prepare)
    pixels = np.full((1200, 600, 3), 100, np.uint8)
    pixels[:300, 300:] = (255, 0, 0)
    found = explain_sample(bundle, encoded(pixels))
    grid = np.array(found["grid"])
    assert np.unravel_index(grid.argmax(), grid.shape) in [
        (i, j) for i in (0, 1) for j in (4, 5, 6, 7)
    ]
    assert found["box"] == [0, 0, 1, 1]
    assert sizes == {(1200, 600, 3), (512, 256, 3)}


def test_where_nothing_matters_nothing_is_shown() -> None:
    bundle = Told(PICTURES, lambda row: 1.0 + 1e-4 * float(row.mean()), lambda _: ROW)
    assert np.max(explain_sample(bundle, noise())["grid"]) < 0.05


ROW = np.random.default_rng(0).normal(size=(3, SIDE, SIDE)).astype(np.float32)


def test_a_regression_is_explained_by_its_value() -> None:
    bundle = Torch(colours(), ["value"], weight=torch.tensor([[5.0, 0, 0]]), goal="regression")
    data = planted(slice(0, 8), slice(0, 8))
    found = explain_sample(bundle, data)
    assert found["label"] is found["probability"] is None
    assert found["value"] == pytest.approx(
        float(bundle.predict_prepared([bundle.prepare(data)])[0])
    )
    assert np.array(found["grid"])[:2, :2].min() > 0.9
    with pytest.raises(ConfigError, match="has no classes, got 'red'"):
        explain_sample(bundle, data, label="red")


def test_what_cannot_be_explained_is_said() -> None:
    bundle = Torch(colours())
    with pytest.raises(ConfigError, match="got 'rde'; did you mean 'red'"):
        explain_sample(bundle, noise(), label="rde")
    with pytest.raises(DataError, match="not a picture"):
        explain_sample(bundle, b"hello there")
    series = Told(SeriesSpec(1, 9), lambda _: 0.0, lambda _: ROW)
    assert explanations(series) == ()
    with pytest.raises(ConfigError, match="sequences of numbers"):
        explain_sample(series, b"\0\0\0\0")


@pytest.mark.parametrize(
    ("fit", "resize", "size"),
    [
        ("crop", 72, (300, 200)),
        ("crop", 72, (90, 400)),
        ("crop", 64, (200, 200)),
        ("crop", 40, (100, 100)),  # smaller than the crop: black around it
        ("resize", 72, (300, 120)),
        ("pad", 72, (30, 50)),
        ("pad", 72, (300, 200)),
    ],
)
def test_the_box_is_what_the_network_sees(fit: str, resize: int, size: tuple[int, int]) -> None:
    # Columns told by red, rows by green, and blue wherever there is a picture at all.
    spec = InputSpec(64, 64, resize, "bilinear", (0, 0, 0), (1, 1, 1), fit)  # type: ignore[arg-type]
    width, height = size
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.round(255 * (np.arange(width) + 0.5) / width)
    pixels[..., 1] = np.round(255 * (np.arange(height) + 0.5) / height)[:, None]
    pixels[..., 2] = 255
    seen = transform(Image.fromarray(pixels), spec)
    left, top, right, bottom = picture_box(size, spec)
    centres = (np.arange(64) + 0.5) / 64
    inside = seen[2] > 0.99
    assert inside.any()
    columns = np.broadcast_to(left + centres * (right - left), (64, 64))
    rows = np.broadcast_to((top + centres * (bottom - top))[:, None], (64, 64))
    np.testing.assert_allclose(seen[0][inside], columns[inside], atol=0.03)
    np.testing.assert_allclose(seen[1][inside], rows[inside], atol=0.03)
    outside = (columns < -0.03) | (columns > 1.03) | (rows < -0.03) | (rows > 1.03)
    assert not seen[2][outside].any()


def test_a_picture_is_explained_upright() -> None:
    # The patch lies at the top left of the stored pixels, and at the top right when turned upright.
    pixels = np.full((SIDE, SIDE, 3), 100, np.uint8)
    pixels[:8, :8] = (255, 0, 0)
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(file, "PNG", exif=exif)
    bundle = Torch(colours(), COLOURS, weight=10 * torch.eye(3))
    grid = np.array(explain_sample(bundle, file.getvalue(), label="red")["grid"])
    assert grid[:2, 6:].min() > 0.9
    assert grid[:2, :2].max() < 0.1
