"""Plain torch: the engine that every other one is held to."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import torch

from headstart._util.compiling import Compiled
from headstart._util.devices import full_float32
from headstart.backbones.base import INPUT, Backbone
from headstart.features.graph import frozen_copy
from headstart.features.lengths import ALONE_BEYOND, rows_at_once
from headstart.features.micro_batches import cpu_threads, in_micro_batches
from headstart.features.packed import packed
from headstart.features.sequences import each_by_itself, reads_at_once
from headstart.types import FloatArray, InputSpec

_PICTURES_IN_CACHE = 4  # eager torch runs EfficientNet-Lite0 at twice the speed it has with 32
_PICTURES_ON_DEVICE = 32


class TorchEngine:
    """Torch, channels last, on any device: the reference that the others are held to."""

    def __init__(
        self,
        backbone: Backbone,
        cut: str,
        device: torch.device,
        start: str = INPUT,
        *,
        compiled: bool = False,
    ) -> None:
        """Copy the prefix, or a slice of it, to the device.

        Args:
            backbone: The network; it is left as it is.
            cut: Where it is cut.
            device: Where to compute.
            start: The cut at which the batches are that `run` takes: pictures, unless said.
            compiled: Whether to run through torch's compiler, which the first batch waits for.
        """
        module = frozen_copy(backbone, cut, start)
        # `nn.Module.to` has no overload for both arguments at once.
        self._module = module.to(device).to(memory_format=torch.channels_last)
        self._device = device
        on_cpu = device.type == "cpu"
        self._on_cpu, self._ragged = on_cpu, backbone.ragged(start)
        spec = backbone.input_spec
        self.alone = on_cpu and self._ragged and reads_at_once(self._module)
        """Whether long sequences are computed one by one, without what fills them up."""
        self._longest = 0 if isinstance(spec, InputSpec) else spec.longest
        if self.alone:
            self._module = packed(self._module, backbone.shape(start)[-1])
        self._forward = Compiled(self._module) if compiled else self._module
        self._size = _PICTURES_IN_CACHE if on_cpu else _PICTURES_ON_DEVICE
        self._threads = cpu_threads() if on_cpu else 1
        self._pool = _one_core_each(self._threads) if on_cpu else None

    @property
    def name(self) -> Literal["torch"]:
        """The engine's name."""
        return "torch"

    @property
    def micro_batch(self) -> int:
        """How many pictures it computes at a time."""
        return self._size * self._threads

    def sequences_at_once(self, length: int) -> int:
        """Return how many sequences of a length it computes at a time, by all threads."""
        alone = self.alone and length > ALONE_BEYOND
        return (1 if alone else rows_at_once(length, self._on_cpu)) * self._threads

    def run(self, batch: FloatArray) -> FloatArray:
        """Compute features: float32 [n, *shape at the start] -> float32 [n, *shape]."""
        mapped = map if self._pool is None else self._pool.map
        if self.alone:
            return each_by_itself(self._run, batch, self._longest, mapped)
        size = rows_at_once(batch.shape[1], self._on_cpu) if self._ragged else self._size
        return in_micro_batches(self._run, batch, size, mapped)

    def run_at_once(self, batch: FloatArray) -> FloatArray:
        """Compute features of a few pictures soonest: as one batch, all cores at each layer.

        They equal those of `run` but for rounding, which depends on how many there are.
        """
        before = torch.get_num_threads()
        if not self._on_cpu or before == self._threads:
            return self._run(batch)
        torch.set_num_threads(self._threads)
        try:
            return self._run(batch)
        finally:
            torch.set_num_threads(before)

    def _run(self, chunk: FloatArray) -> FloatArray:
        rows = torch.from_numpy(chunk)
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            if self._device.type == "cuda":
                stack.enter_context(full_float32())
                rows = rows.pin_memory()
            moved = rows.to(self._device, non_blocking=True)
            if moved.ndim == 4:  # maps; sequences and vectors have one layout
                moved = moved.contiguous(memory_format=torch.channels_last)
            out = self._forward(moved)
            result: FloatArray = out.float().cpu().contiguous().numpy()
        return result


def _one_core_each(threads: int) -> ThreadPoolExecutor:
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(
        threads, thread_name_prefix="headstart-torch", initializer=_use_one_core
    )
    # A thread's own setting is also the default of threads made later. So all are made now (they
    # wait for each other: none can take the place of another), and the default is put back.
    met = threading.Barrier(threads)
    for waiting in [pool.submit(met.wait) for _ in range(threads)]:
        waiting.result()
    torch.set_num_threads(before)
    return pool


def _use_one_core() -> None:
    torch.get_num_threads()  # a thread takes the default over when it first asks, and then no more
    torch.set_num_threads(1)
