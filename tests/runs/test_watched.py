"""Somebody's own source of features, which knows nothing of teams, is evaluated and watched."""

from collections.abc import Iterator

import torch
from torch import Tensor

from headstart._util.progress import SilentProgress
from headstart.heads import HeadSpec, build_head
from headstart.runs.training import Watched
from headstart.train import evaluate


class Plain:
    """Two batches, of each split the same."""

    width, steps_per_epoch, ready = 3, 2, True

    def train(self, epoch: int, skip: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        del epoch, skip
        yield from self.split("train")

    def split(self, name: str) -> Iterator[tuple[Tensor, Tensor]]:
        del name
        for _ in range(2):
            yield torch.ones(4, 3), torch.tensor([0, 1, 0, 1])

    def order(self, name: str) -> None:
        del name


def test_a_source_whose_split_takes_a_name_alone_is_enough() -> None:
    head = build_head(HeadSpec(), 3, 2, [0])
    alone = evaluate(head, Plain(), "val")  # type: ignore[arg-type]
    with SilentProgress().task("looking", 8, "samples") as task:
        watched = evaluate(head, Watched(Plain(), task), "val")  # type: ignore[arg-type]
    assert alone.accuracy.tolist() == watched.accuracy.tolist() == [0.5]
