"""A bundle, opened: samples in, answers out, with nothing but the bundle's own files."""

import contextlib
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, final

import numpy as np
import torch

from headstart._util.devices import resolve_device
from headstart.data.encode import converter, stack
from headstart.data.image import decode
from headstart.errors import BundleError, DataError, EngineError, MissingExtraError, WeightsError
from headstart.features.engine import EngineName
from headstart.predict.bundle_engines import (
    GraphEngineName,
    Runner,
    exported_runner,
    graph_runner,
    torch_runner,
)
from headstart.predict.bundle_files import check_folder, is_zip, unpack
from headstart.predict.bundle_info import (
    MEMBERS,
    BundleInfo,
    ensemble_of,
    info_of,
)
from headstart.predict.bundle_network import load_network
from headstart.predict.bundle_samples import StoredSample, largest_difference, read_samples
from headstart.predict.ensemble import vote
from headstart.predict.inside import Inside
from headstart.predict.saved import load_description
from headstart.types import FloatArray, InputSpec, JsonDict, Spec

Engine = Literal["auto", "torch", "onnxruntime", "openvino"]

_ENGINES_AGREE = 1e-4  # probabilities of two engines in float32


@final
class Bundle:
    """A model that is ready to predict; safe to use from several threads."""

    def __init__(
        self,
        info: BundleInfo,
        folder: Path,
        runners: Sequence[Runner],
        cleanup: Callable[[], object],
    ) -> None:
        """Bring the parts together; `load_bundle` makes bundles.

        Args:
            info: What it is.
            folder: Its verified files.
            runners: What computes the network, or each member of an ensemble.
            cleanup: What to do when it is closed or forgotten.
        """
        self.info = info
        self.folder = folder
        self._runners = tuple(runners)
        self._inputs = tuple(dict.fromkeys(info.specs))
        self._convert = [_converter(spec, info.pixels) for spec in self._inputs]
        self._lock = threading.Lock()
        self._end = weakref.finalize(self, cleanup)

    @property
    def batch_size(self) -> int:
        """How many samples it computes best at a time."""
        return max(runner.batch_size for runner in self._runners)

    @property
    def engine(self) -> EngineName:
        """What computes it."""
        return self._runners[0].name

    def predict(self, samples: Sequence[bytes]) -> FloatArray:
        """Return class probabilities, or the values of a regression.

        Args:
            samples: Bytes of n samples: encoded pictures (JPEG, PNG …), texts in UTF-8, pairs as
                `headstart.data.text.pair_bytes` makes them, sequences of float32.

        Returns:
            float32: shape [n, classes], rows summing to 1; or [n] of a regression.

        Raises:
            DataError: A sample cannot be decoded; it is named by its position, from 0.
        """
        outputs = [self._empty()]
        # In parts, so that many samples are never all prepared at once.
        size = max(runner.most for runner in self._runners)
        for start in range(0, len(samples), size):
            rows = []
            for position, data in enumerate(samples[start : start + size], start=start):
                try:
                    rows.append(self.prepare(data))
                except DataError as error:
                    raise DataError(f"sample {position}: {error}") from error
            outputs.append(self.predict_prepared(rows))
        return np.concatenate(outputs)

    def prepare(self, data: bytes) -> FloatArray:
        """Return what the network takes for one sample; safe to call in threads.

        Args:
            data: As for `predict`.

        Returns:
            float32 [*shape]; for `predict_prepared` alone where members of an ensemble take
            different inputs: these are then in one row.

        Raises:
            DataError: It cannot be decoded.
        """
        rows = [convert(data) for convert in self._convert]
        return rows[0] if len(rows) == 1 else _joined(rows)

    def predict_prepared(self, rows: Sequence[FloatArray]) -> FloatArray:
        """Return class probabilities, or the values of a regression, of prepared samples.

        What is said of a sample does not depend on the others but for rounding.

        Args:
            rows: From `prepare`, at least one.

        Returns:
            float32: shape [n, classes], or [n] of a regression.
        """
        inputs: dict[Spec, list[FloatArray]]
        if len(self._inputs) == 1:
            inputs = {self._inputs[0]: list(rows)}
        else:
            apart = [_parted(row, self._inputs) for row in rows]
            inputs = {spec: [one[i] for one in apart] for i, spec in enumerate(self._inputs)}
        with self._lock:
            outputs = [
                self._run(runner, inputs[spec], spec)
                for runner, spec in zip(self._runners, self.info.specs, strict=True)
            ]
        ensemble = self.info.ensemble
        if ensemble is not None:
            return vote(ensemble.voting, np.stack(outputs), ensemble.weights).astype(np.float32)
        return outputs[0][:, 0] if self.info.goal == "regression" else outputs[0]

    def stored_samples(self) -> tuple[StoredSample, ...]:
        """Return the samples that the bundle brings along.

        Returns:
            The samples, with what the model said of them when the bundle was written.

        Raises:
            BundleError: Their record is damaged.
        """
        return read_samples(self.folder)

    def explainer(self) -> Inside | None:
        """Return the torch network with its cuts, loaded anew, for explanations by gradients.

        Returns:
            The network; None where the bundle holds a graph, or several networks: the reasons of
            one member are not those of the ensemble.
        """
        if self.info.engine != "torch" or self.info.ensemble is not None:
            return None
        trained, backbone = load_network(self.folder / self.info.folders[0])
        model, head = trained.model, trained.head().requires_grad_(False)
        backbone.prefix(model.head_cut)  # frozen: gradients are of activations, not of weights
        return Inside(backbone, head, model.head_cut, model.input_spec, torch.device("cpu"))

    def close(self) -> None:
        """Remove what was unpacked; the bundle is not to be used any more."""
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _empty(self) -> FloatArray:
        regression = self.info.goal == "regression"
        return np.empty((0,) if regression else (0, len(self.info.classes)), dtype=np.float32)

    def _run(self, runner: Runner, rows: Sequence[FloatArray], spec: Spec) -> FloatArray:
        order = list(range(len(rows)))
        if not isinstance(spec, InputSpec):
            order.sort(key=lambda i: len(rows[i]))  # so that little is spent on padding
        out: FloatArray | None = None
        for start in range(0, len(rows), runner.most):
            chosen = order[start : start + runner.most]
            found = runner.run(stack([rows[i] for i in chosen], spec))
            if out is None:
                out = np.empty((len(rows), found.shape[1]), dtype=np.float32)
            out[chosen] = found
        assert out is not None, "expected at least one sample"
        return out


def load_bundle(
    path: Path,
    *,
    device: torch.device | None = None,
    engine: Engine | None = None,
    threads: int | None = None,
) -> Bundle:
    """Open a bundle: verify its files and load its network.

    Args:
        path: Its folder, or its ``.headstart`` file, which is unpacked for as long as it is open.
        device: Where torch computes; None: on CUDA where there is one, else on the CPU.
        engine: What computes. None: what the bundle was written for. A torch bundle may be
            computed by another: its network is exported, and its answers for the stored samples
            are compared; ``auto`` takes ONNX Runtime for pictures where that works, else torch.
        threads: How many compute on the CPU; None: as many as torch may.

    Returns:
        The bundle.

    Raises:
        BundleError: A file is missing, was changed, or does not belong there.
        EngineError: The engine cannot compute this network, or does not agree with torch.
        MissingExtraError: The engine's package is not installed.
    """
    folder, manifest, cleanup = _opened(path)
    with contextlib.ExitStack() as failing:
        failing.callback(cleanup)
        info = _info(path, folder, manifest)
        where = resolve_device("auto") if device is None else device
        runners = _runners(path, folder, info, where, engine, threads)
        failing.pop_all()
    return Bundle(info, folder, runners, cleanup)


def verify_bundle(path: Path) -> BundleInfo:
    """Verify a bundle's files; no network is built.

    Args:
        path: Its folder, or its ``.headstart`` file.

    Returns:
        What it is.

    Raises:
        BundleError: A file is missing, was changed, or does not belong there.
    """
    folder, manifest, cleanup = _opened(path)
    try:
        info = _info(path, folder, manifest)
        read_samples(folder)
        return info
    finally:
        cleanup()


def _opened(path: Path) -> tuple[Path, JsonDict, Callable[[], object]]:
    """Return a bundle's verified folder, its manifest, and what to do with it in the end."""
    if not is_zip(path):
        return path, check_folder(path), lambda: None
    folder = Path(tempfile.mkdtemp(prefix="headstart-bundle-"))

    def remove() -> None:
        shutil.rmtree(folder, ignore_errors=True)

    try:
        return folder, unpack(path, folder), remove
    except BaseException:
        remove()
        raise


def _info(path: Path, folder: Path, manifest: JsonDict) -> BundleInfo:
    ensemble = ensemble_of(path, manifest)
    places = ["."] if ensemble is None else [f"{MEMBERS}/{name}" for name in ensemble.members]
    try:
        models = tuple(load_description(folder / place) for place in places)
    except WeightsError as error:
        # Of a zip they lie in a folder that nobody knows.
        raise BundleError(str(error).replace(str(folder), str(path))) from error
    return info_of(path, manifest, models)


def _converter(spec: Spec, pixels: bool) -> Callable[[bytes], FloatArray]:
    if pixels:
        return lambda data: np.asarray(decode(data))
    return converter(spec)


def _runners(
    path: Path,
    folder: Path,
    info: BundleInfo,
    device: torch.device,
    engine: Engine | None,
    threads: int | None,
) -> list[Runner]:
    if info.graph is not None:
        own: GraphEngineName = "onnxruntime" if info.engine == "onnxruntime" else "openvino"
        if engine not in (None, "auto", own):
            raise EngineError(
                f"{path}: a bundle for the engine {own!r} is computed by that alone, not by "
                f"{engine!r}: leave the engine out, or take the bundle that it was exported from"
            )
        graph = folder / info.graph
        return [graph_runner(own, graph, info.spec, pixels=info.pixels, threads=threads)]
    if engine in ("onnxruntime", "openvino"):
        return _exported(path, folder, info, engine, threads)
    if engine == "auto" and info.task == "image" and device.type == "cpu":
        with contextlib.suppress(EngineError, MissingExtraError):
            return _exported(path, folder, info, "onnxruntime", threads)
    return [torch_runner(folder / place, device, threads) for place in info.folders]


def _exported(
    path: Path, folder: Path, info: BundleInfo, engine: GraphEngineName, threads: int | None
) -> list[Runner]:
    """Load a torch bundle's networks on another engine, and compare what is said of its samples."""
    runners = [exported_runner(engine, folder / place, threads) for place in info.folders]
    samples = read_samples(folder)
    if not samples:
        raise EngineError(f"{path}: no stored samples to compare the engine {engine!r} on")
    # Not closed: that would remove the folder.
    bundle = Bundle(info, folder, runners, lambda: None)
    said = bundle.predict([sample.data for sample in samples])
    worst = largest_difference(said, samples)
    if not worst <= max(_ENGINES_AGREE, info.tolerance):
        raise EngineError(
            f"{path}: the engine {engine!r} does not agree with torch on the stored samples: "
            f"largest difference {worst:.2g}, expected at most {_ENGINES_AGREE:g}: choose the "
            "engine 'torch'"
        )
    return runners


def _joined(rows: Sequence[FloatArray]) -> FloatArray:
    """Put one sample's inputs of several networks into one row, each behind its length."""
    parts: list[FloatArray] = []
    for row in rows:
        parts += [np.array([len(row)], dtype=np.float32), row.ravel()]
    return np.concatenate(parts)


def _parted(row: FloatArray, specs: Sequence[Spec]) -> list[FloatArray]:
    return list(_each(row, specs))


def _each(row: FloatArray, specs: Sequence[Spec]) -> Iterator[FloatArray]:
    for spec in specs:
        length, row = int(row[0]), row[1:]
        if isinstance(spec, InputSpec):
            shape: tuple[int, ...] = (length, spec.height, spec.width)
        else:
            shape = (length, getattr(spec, "channels", 1) + 1)
        size = int(np.prod(shape))
        yield row[:size].reshape(shape)
        row = row[size:]
