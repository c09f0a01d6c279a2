"""The random streams of a training: torch's own, apart from everybody else's, and the model's."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import final

import torch
from torch import Tensor, nn

from headstart._util.seeding import seed_of
from headstart.train.checkpoint import Saved
from headstart.train.plan import Streams, TrainPlan


@final
class RandomStreams:
    """What one process of a training draws from."""

    def __init__(self, model: nn.Module, plan: TrainPlan, rank: int) -> None:
        """Seed the streams; torch's are put in place by `drawing`.

        Args:
            model: Streams of its own are saved if it has the methods of `Streams`.
            plan: With the seed.
            rank: Which process this is: each but the first draws differently.
        """
        self._model, self._plan, self._rank = model, plan, rank
        device = next(model.parameters()).device
        seed = seed_of("training", plan.seed, plan.stage, *self._others(0, 0))
        self._cuda = [device] if device.type == "cuda" else []
        self._streams = {
            stream.type: torch.Generator(stream).manual_seed(seed).get_state()
            for stream in (torch.device("cpu"), *self._cuda)
        }
        if device.type == "mps":
            torch.mps.manual_seed(seed)  # its stream cannot be put aside

    @contextlib.contextmanager
    def drawing(self) -> Iterator[None]:
        """Let torch draw from the training's own stream, and from what it was before afterwards."""
        with torch.random.fork_rng(devices=self._cuda):
            self._set(self._streams)
            yield
            self._streams = self._get()

    def state(self) -> dict[str, Tensor]:
        """Return where all streams are, inside `drawing`."""
        own = self._model.random_state() if isinstance(self._model, Streams) else {}
        return {
            **{f"torch.{name}": state for name, state in self._get().items()},
            **{f"model.{name}": state for name, state in own.items()},
        }

    def load(self, saved: Saved, epoch: int, step: int) -> None:
        """Go on where the streams of the first process were, inside `drawing`.

        Args:
            saved: With the group ``random``.
            epoch: Where the training goes on; another process draws anew from there.
            step: The steps of the epoch that are done.
        """
        if self._rank:
            torch.manual_seed(seed_of("training", self._plan.seed, *self._others(epoch, step)))
        else:
            self._set(saved.under("random.torch"))
        if isinstance(self._model, Streams):
            self._model.load_random_state(saved.under("random.model"))

    def _others(self, epoch: int, step: int) -> tuple[object, ...]:
        """Return what tells the random stream of another process than the first from that."""
        return ("process", self._rank, epoch, step) if self._rank else ()

    def _get(self) -> dict[str, Tensor]:
        return {
            "cpu": torch.get_rng_state(),
            **{device.type: torch.cuda.get_rng_state(device) for device in self._cuda},
        }

    def _set(self, streams: Mapping[str, Tensor]) -> None:
        torch.set_rng_state(streams["cpu"])
        for device in self._cuda:
            if device.type in streams:  # not in a checkpoint that was written on the CPU
                torch.cuda.set_rng_state(streams[device.type], device)
