"""Training what lies after a cut is the same from stored features as from pictures, at every cut.

A stage that trains everything after a cut makes the same steps whether the activations at the cut
are stored once or computed at every step.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from headstart._util.hashing import digest_bytes
from headstart._util.progress import SilentProgress
from headstart.backbones.base import INPUT, Backbone
from headstart.backbones.registry import load_backbone
from headstart.features.extract import extract
from headstart.features.store import FeatureStore
from headstart.heads import HeadSpec, Tail, build_head
from headstart.train import (
    CachedSource,
    FeatureSource,
    Hyperparameters,
    ParameterGroup,
    ScheduleSpec,
    StandardSource,
    TrainPlan,
    build_grouped_optimizer,
    fit,
)

CPU = torch.device("cpu")
SPLITS = {"train": np.arange(6), "val": np.arange(6, 8), "test": np.arange(6, 8)}
LABELS = np.arange(8, dtype=np.int64) % 2


@dataclass(frozen=True)
class Pictures:
    """Eight encoded pictures of noise."""

    encoded: tuple[bytes, ...]

    @property
    def names(self) -> list[str]:
        return [f"{i}.png" for i in range(len(self.encoded))]

    @property
    def digests(self) -> list[str]:
        return [digest_bytes(data) for data in self.encoded]

    def __len__(self) -> int:
        return len(self.encoded)

    def read(self, index: int) -> bytes:
        return self.encoded[index]


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    rng = np.random.default_rng(0)
    encoded = []
    for _ in range(8):
        buffer = io.BytesIO()
        pixels = rng.integers(0, 256, size=(40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(buffer, "PNG")
        encoded.append(buffer.getvalue())
    return Pictures(tuple(encoded))


@pytest.fixture(
    scope="module",
    params=[
        ("timm/mobilenetv2_100", 64),
        ("timm/resnet18", 64),
        pytest.param(("timm/vgg16", 32), marks=pytest.mark.cluster),  # 20 seconds
        ("packaged/efficientnet-lite0", 64),
    ],
    ids=lambda p: p[0],
)
def backbone(request: pytest.FixtureRequest) -> Iterator[Backbone]:
    name, size = request.param
    weights = "pretrained" if name.startswith("packaged") else "random"
    # oneDNN would rearrange VGG16's fully connected layer of 400 MB at every step.
    before = torch.backends.mkldnn.set_flags(name != "timm/vgg16")
    yield load_backbone(name, weights=weights, image_size=size)
    torch.backends.mkldnn.set_flags(before[0])


def head_cut(backbone: Backbone, cut: str) -> str:
    """The pooled features; below VGG16's fully connected layers, for time, what they read."""
    stages = backbone.stages
    if "features.30" in stages and (
        cut == INPUT or stages.index(cut) < stages.index("features.30")
    ):
        return "features.30"
    return stages[-1]


def moved(backbone: Backbone, cut: str, source: FeatureSource) -> list[torch.Tensor]:
    """Train everything after the cut for one epoch, say how far each parameter moved, undo it."""
    last = head_cut(backbone, cut)
    head = build_head(HeadSpec(), int(np.prod(backbone.shape(last))), 2, seeds=[0])
    names = [name for name, _ in backbone.modules(cut, last)]
    tail = Tail(backbone, cut, last, head, trained=names, batch_norm="frozen")
    groups = [ParameterGroup(name, some, 0.01) for name, some in tail.groups().items()]
    optimizer = build_grouped_optimizer("sgd", groups, Hyperparameters(0.01))
    before = {k: v.clone() for k, v in tail.state_dict().items()}
    start = [p.detach().clone() for p in optimizer.parameters]
    plan = TrainPlan(epochs=1, schedule=ScheduleSpec(), learning_rates=(0.01,), keep="last")
    list(fit(tail, optimizer, source, plan))
    steps = [p.detach() - s for p, s in zip(optimizer.parameters, start, strict=True)]
    tail.load_state_dict(before)
    return steps


def test_cached_training_is_uncached_training_at_every_cut(
    backbone: Backbone, pictures: Pictures, tmp_path: Path
) -> None:
    store = FeatureStore(tmp_path)
    # The last cut trains the head alone; the first trains everything.
    cuts = [INPUT, *backbone.stages]
    compared = 0
    for cut in cuts:
        standard = StandardSource(
            pictures,
            LABELS,
            SPLITS,
            prefix=backbone.prefix(cut),
            spec=backbone.input_spec,
            width=int(np.prod(backbone.shape(cut))),
            seed=0,
            batch_size=6,
            workers=0,
            device=CPU,
            flat=False,
        )
        recomputed = moved(backbone, cut, standard)
        if cut == INPUT:
            continue  # nothing is frozen: there is nothing to store
        extraction = extract(
            pictures,
            range(8),
            backbone,
            cut,
            store=store,
            engine="torch",
            device=CPU,
            progress=SilentProgress(),
        )
        cached = CachedSource(
            extraction.features, LABELS, SPLITS, seeds=[0], batch_size=6, device=CPU, flat=False
        )
        stored = moved(backbone, cut, cached)
        size = torch.sqrt(sum((s.double() ** 2).sum() for s in recomputed))
        apart = torch.sqrt(
            sum(((a - b).double() ** 2).sum() for a, b in zip(stored, recomputed, strict=True))
        )
        assert size > 0
        assert apart <= 1e-3 * size, cut
        compared += 1
    assert compared == len(backbone.stages)
