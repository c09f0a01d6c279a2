"""Bundles made by hand whose reasons are known beforehand."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn

from headstart.backbones.base import Backbone
from headstart.backbones.chain import Chain, Network
from headstart.backbones.weights import random_weights
from headstart.data.encode import converter, stack
from headstart.heads import HeadSpec, build_head
from headstart.predict.inside import Inside
from headstart.types import FloatArray, Goal, InputSpec, Spec, TextSpec

CPU = torch.device("cpu")
SIDE = 32
PICTURES = InputSpec(SIDE, SIDE, SIDE, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
COLOURS = ("red", "green", "blue")
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(5, 30)))


@dataclass(frozen=True)
class Facts:
    goal: Goal
    classes: tuple[str, ...]
    spec: Spec


class Torch:
    """A chain and a linear head."""

    def __init__(
        self,
        backbone: Backbone,
        classes: Sequence[str] = COLOURS,
        *,
        weight: torch.Tensor | None = None,
        goal: Goal = "classification",
        graph: bool = False,
    ) -> None:
        self.info = Facts(goal, tuple(classes), backbone.input_spec)
        self.batch_size = 16
        outputs = 1 if goal == "regression" else len(classes)
        head = build_head(HeadSpec(), backbone.shape("pooled")[0], outputs, [3]).eval()
        if weight is not None:
            head.layers[0].weight.data[0] = weight
            head.layers[0].bias.data.zero_()
        self.inside = Inside(backbone, head, "pooled", backbone.input_spec, CPU)
        self._graph = graph
        self._convert = converter(backbone.input_spec)

    def prepare(self, data: bytes) -> FloatArray:
        return self._convert(data)

    @torch.no_grad()
    def predict_prepared(self, rows: Sequence[FloatArray]) -> FloatArray:
        x = torch.from_numpy(stack(rows, self.info.spec))
        logits = self.inside.logits(self.inside.activation(x, "pooled"), "pooled")
        if self.info.goal == "regression":
            return np.asarray(logits[:, 0].numpy())
        return np.asarray(torch.softmax(logits, dim=1).numpy())

    def explainer(self) -> Inside | None:
        return None if self._graph else self.inside


class Told:
    """Says what a function says of a sample's bytes; it has no network to look into."""

    batch_size = 8

    def __init__(self, spec: Spec, tell: Callable[[FloatArray], float], prepare: object) -> None:
        self.info = Facts("classification", ("yes", "no"), spec)
        self.asked = 0
        self._tell = tell
        self.prepare: Callable[[bytes], FloatArray] = prepare  # type: ignore[assignment]

    def predict_prepared(self, rows: Sequence[FloatArray]) -> FloatArray:
        assert len(rows) <= self.batch_size
        self.asked += len(rows)
        logits = np.array([self._tell(row) for row in rows], dtype=np.float64)
        yes = 1 / (1 + np.exp(-logits))
        return np.stack([yes, 1 - yes], axis=1).astype(np.float32)

    def explainer(self) -> Inside | None:
        return None


class Mean(nn.Module):
    """Global average pooling of [n, channels, rows, columns] or [n, rows, columns, channels]."""

    def __init__(self, *, channels_last: bool = False) -> None:
        super().__init__()
        self.axes = (1, 2) if channels_last else (2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=self.axes)


class Last(nn.Module):
    """Channels to the end."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(0, 2, 3, 1)


class Tokens(nn.Module):
    """[n, channels, rows, columns] to one token for each place."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(2).transpose(1, 2)


def chain(spec: Spec, *stages: tuple[str, nn.Module]) -> Chain:
    return Chain("made/by-hand", Network("made", stages, None, spec, random_weights(0), 0))


def colours(*, channels_last: bool = False) -> Chain:
    """Colours averaged over squares of 4 pixels, then over the picture."""
    squares: nn.Module = nn.Sequential(nn.AvgPool2d(4), nn.ReLU())
    if channels_last:
        squares = nn.Sequential(squares, Last())
    return chain(PICTURES, ("squares", squares), ("pooled", Mean(channels_last=channels_last)))


def encoded(pixels: npt.NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def planted(rows: slice, columns: slice, colour: tuple[int, int, int] = (255, 0, 0)) -> bytes:
    """Return a dark grey picture with a patch of one colour."""
    pixels = np.full((SIDE, SIDE, 3), 100, np.uint8)
    pixels[rows, columns] = colour
    return encoded(pixels)


def text_spec(
    max_length: int = 12, pairs: str = "single", *, strip_markup: bool = False
) -> TextSpec:
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return TextSpec(tokenizer.to_str(), max_length, pairs, strip_markup)  # type: ignore[arg-type]
