"""Small networks, features and pictures, and what drains, stops and resumes their training."""

import hashlib
import io
import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor, nn

from headstart.backbones.base import Weights
from headstart.backbones.chain import Chain, Network
from headstart.errors import StoppedError
from headstart.train import Outcome, drain
from headstart.train.checkpoint import Saved
from headstart.types import InputSpec, JsonDict, StepRecord

CPU = torch.device("cpu")
WIDTH, CLASSES = 16, 4
SPEC = InputSpec(
    height=8,
    width=8,
    resize=8,
    interpolation="bilinear",
    mean=(0.5, 0.4, 0.3),
    std=(0.2, 0.2, 0.25),
)


def data(n: int = 160, shape: tuple[int, ...] = (WIDTH,)) -> tuple[np.ndarray, np.ndarray]:
    """Make features in one cloud for each class, and their labels."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, n)
    centres = rng.normal(size=(CLASSES, *shape))
    return (centres[labels] + rng.normal(size=(n, *shape))).astype(np.float32), labels


def splits(train: int, val: int) -> dict[str, np.ndarray]:
    return {"train": np.arange(train), "val": np.arange(train, train + val)}


def tiny_network(
    seed: int = 0, *, dropout: float = 0.3, norm: Callable[[int], nn.Module] = nn.BatchNorm2d
) -> Chain:
    """Make a backbone of a thousand parameters: stem, block.0, block.1, pooled (6)."""

    def stage(inputs: int, outputs: int, stride: int) -> nn.Module:
        conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)
        return nn.Sequential(conv, norm(outputs), nn.ReLU(), nn.Dropout(dropout))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        stages = (
            ("stem", stage(3, 4, 2)),
            ("block.0", stage(4, 5, 1)),
            ("block.1", stage(5, 6, 1)),
            ("pooled", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())),
        )
    weights = Weights("random", f"seed {seed}", "none")
    return Chain("tiny/chain", Network("tiny/chain", stages, None, SPEC, weights, 1000))


def timeless(records: Sequence[StepRecord]) -> list[StepRecord]:
    """Leave out what no two trainings share."""
    return [replace(record, seconds=0.0) for record in records]


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def assert_same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> None:
    """Compare bit by bit."""
    assert a.keys() == b.keys()
    different = [name for name in a if not torch.equal(a[name], b[name])]
    assert not different, different


@dataclass
class Memory:
    """A checkpoint as files would keep it; asks to stop after certain steps of this program."""

    saved: Saved | None = None
    stop_after: int | None = None
    every_step: bool = False
    by_time: bool = False
    steps: int = 0
    all: list[Saved] = field(default_factory=list)

    @property
    def stopping(self) -> bool:
        return self.steps == self.stop_after

    def load(self) -> Saved | None:
        return self.saved

    def due(self) -> bool:
        self.steps += 1
        return self.stopping or self.every_step

    def save(self, tensors: Mapping[str, Tensor], record: JsonDict) -> None:
        plain = {k: v.detach().contiguous().clone() for k, v in tensors.items()}
        through = safetensors.torch.load(safetensors.torch.save(plain))
        self.saved = Saved(through, json.loads(json.dumps(record, allow_nan=False)))
        self.all.append(self.saved)


Training = Callable[
    [Memory | None], tuple[nn.Module, Generator[StepRecord, None, tuple[Outcome, ...]]]
]


def stop_and_go(
    make: Training, saved: Saved | None, stop_after: int | None
) -> tuple[Saved | None, nn.Module, list[StepRecord], tuple[Outcome, ...] | None]:
    """Train in new objects from what was saved, and stop after some steps (outcomes: None)."""
    memory = Memory(saved, stop_after)
    model, steps = make(memory)
    try:
        records, outcomes = drain(steps)
    except StoppedError:
        return memory.saved, model, [], None
    return memory.saved, model, records, outcomes


@dataclass
class Batches:
    """A source of given batches: the same in every epoch; counts those that were taken."""

    batches: list[tuple[Tensor, Tensor]]
    val: tuple[Tensor, Tensor]
    spoil: Callable[[int, Tensor], Tensor] | None = None
    taken: int = 0
    ready: bool = True

    @property
    def width(self) -> int:
        return self.batches[0][0].shape[-1]

    @property
    def steps_per_epoch(self) -> int:
        return len(self.batches)

    def train(self, epoch: int, skip: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        for z, y in self.batches[skip:]:
            self.taken += 1
            yield (z if self.spoil is None else self.spoil(epoch, z)), y

    def split(self, name: str) -> Iterator[tuple[Tensor, Tensor]]:
        assert name == "val"
        yield self.val


class Pictures:
    """Small PNGs in memory."""

    def __init__(self, count: int, size: int = 8) -> None:
        random = np.random.default_rng(0)
        self._encoded = []
        for _ in range(count):
            buffer = io.BytesIO()
            pixels = random.integers(0, 256, (size, size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(buffer, "png")
            self._encoded.append(buffer.getvalue())

    @property
    def names(self) -> Sequence[str]:
        return [f"{number}.png" for number in range(len(self._encoded))]

    @property
    def digests(self) -> Sequence[str]:
        return [hashlib.sha256(encoded).hexdigest() for encoded in self._encoded]

    def __len__(self) -> int:
        return len(self._encoded)

    def read(self, index: int) -> bytes:
        return self._encoded[index]
