"""A backbone of a few hundred parameters, pictures of a few pixels, and what watches them."""

import contextlib
import copy
import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from headstart._util.hashing import digest_json, digest_tensors
from headstart.backbones.base import Weights
from headstart.types import FloatArray, InputSpec, Task

SPEC = InputSpec(
    height=16,
    width=16,
    resize=16,
    interpolation="bilinear",
    mean=(0.5, 0.4, 0.3),
    std=(0.2, 0.2, 0.25),
)


class Watched(nn.Sequential):
    """Counts its forward passes, in copies of it too."""

    def __init__(self, calls: list[int], *modules: nn.Module) -> None:
        super().__init__(*modules)
        self.calls = _Shared(calls)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not (torch.jit.is_tracing() or torch.compiler.is_compiling()):
            self.calls.seen.append(len(x))
        return super().forward(x)


@dataclass
class _Shared:
    seen: list[int]

    def __deepcopy__(self, memo: object) -> "_Shared":
        return self


class TinyBackbone:
    """conv (4 x 8 x 8) -> pooled (6)."""

    def __init__(self, seed: int = 0, name: str = "tiny", spec: InputSpec = SPEC) -> None:
        self.name, self.input_spec = name, spec
        self.weights = Weights("random", f"seed {seed}", "none")
        self.stages = ("conv", "pooled")
        self.classifier = None
        self.calls: list[int] = []
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            norm = nn.BatchNorm2d(4)
            norm.running_mean = torch.randn(4) * 0.1
            self._conv = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), norm, nn.ReLU6())
            self._pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 6))

    @property
    def parameters_total(self) -> int:
        return sum(p.numel() for p in nn.Sequential(self._conv, self._pool).parameters())

    def resolve(self, cut: str) -> str:
        return cut

    def modules(self, start: str, stop: str) -> tuple[tuple[str, nn.Module], ...]:
        stages = (("conv", Watched(self.calls, self._conv)), ("pooled", self._pool))
        cuts = ("input", *self.stages)
        return stages[cuts.index(start) : cuts.index(stop)]

    def between(self, start: str, stop: str) -> nn.Module:
        modules = [module for _, module in self.modules(start, stop)]
        return nn.Sequential(*modules).eval().requires_grad_(False)

    def prefix(self, cut: str) -> nn.Module:
        return self.between("input", cut)

    def releasable(self, module: nn.Module) -> list[nn.Parameter]:
        return list(module.parameters())

    def clone(self) -> "TinyBackbone":
        return copy.deepcopy(self)

    def suffix(self, cut: str) -> nn.Module:
        return {"conv": self._pool, "pooled": nn.Identity()}[cut]

    def shape(self, cut: str) -> tuple[int, ...]:
        height, width = self.input_spec.height // 2, self.input_spec.width // 2
        whole = (3, self.input_spec.height, self.input_spec.width)
        return {"input": whole, "conv": (4, height, width), "pooled": (6,)}[cut]

    def ragged(self, cut: str) -> bool:
        return cut not in ("input", *self.stages)

    def digest(self, cut: str) -> str:
        return self.digests()[cut]

    def digests(self, cut: str = "pooled") -> dict[str, str]:
        cuts = ("input", *self.stages)
        return {
            name: digest_json([name, digest_tensors(self._state(name))])
            for name in cuts[: cuts.index(cut) + 1]
        }

    def _state(self, cut: str) -> dict[str, torch.Tensor]:
        return nn.Sequential(*(m for _, m in self.modules("input", cut))).state_dict()

    def to(self, device: torch.device) -> None:
        self._conv.to(device)
        self._pool.to(device)


@dataclass
class Pictures:
    """Pictures in memory; remembers which were read."""

    encoded: list[bytes]
    prefix: str = "picture"
    reads: list[int] = field(default_factory=list)

    @property
    def names(self) -> Sequence[str]:
        return [f"{self.prefix}-{number}.png" for number in range(len(self.encoded))]

    @property
    def digests(self) -> Sequence[str]:
        return [hashlib.sha256(data).hexdigest() for data in self.encoded]

    def __len__(self) -> int:
        return len(self.encoded)

    def read(self, index: int) -> bytes:
        self.reads.append(index)
        return self.encoded[index]


def pictures(count: int, seed: int = 0, size: int = 16) -> Pictures:
    """Make different small PNGs."""
    random = np.random.default_rng(seed)
    return Pictures([png(random.integers(0, 256, (size, size, 3))) for _ in range(count)])


def png(pixels: np.ndarray) -> bytes:
    """Encode pixels."""
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "png", compress_level=1)
    return buffer.getvalue()


def truth(backbone: TinyBackbone, cut: str, images: Pictures) -> FloatArray:
    """Compute features the plain way: PIL, NumPy, and the network itself one picture at a time."""
    spec = backbone.input_spec
    rows = []
    for data in images.encoded:
        pixels = np.asarray(Image.open(io.BytesIO(data)), dtype=np.float32) / 255
        pixels = (pixels - np.float32(spec.mean)) / np.float32(spec.std)
        with torch.no_grad():
            batch = torch.from_numpy(pixels.transpose(2, 0, 1)[None].copy())
            parts = {"conv": [backbone._conv], "pooled": [backbone._conv, backbone._pool]}
            rows.append(nn.Sequential(*parts[cut]).eval()(batch)[0].numpy())
    return np.stack(rows)


class Listener:
    """Progress that keeps what it was told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.tasks: list[tuple[str, int, str]] = []
        self.advanced = 0

    @contextlib.contextmanager
    def task(self, description: str, total: int, unit: str) -> Iterator[Task]:
        self.tasks.append((description, total, unit))
        yield self

    def advance(self, amount: int = 1) -> None:
        self.advanced += amount

    def say(self, message: str) -> None:
        self.said.append(message)


def with_spec(**changes: object) -> InputSpec:
    """Change the input."""
    return replace(SPEC, **changes)  # type: ignore[arg-type]


def all_files(root: Path) -> list[str]:
    """List the files of a folder, relative."""
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())


def environment_with_helpers() -> dict[str, str]:
    """Make an environment in which another process finds this file too."""
    path = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
