"""Samples in, class probabilities out: the same preparation and network as in training."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from headstart._util.devices import full_float32
from headstart.backbones.base import INPUT, Backbone
from headstart.backbones.registry import load_backbone
from headstart.data.encode import converter, stack
from headstart.data.text import pair_bytes, text_bytes
from headstart.errors import DataError, WeightsError
from headstart.predict.saved import TrainedModel, load_model
from headstart.types import FloatArray, InputSpec, TextSpec

Sample = bytes | str | Path | tuple[str, str]

_AT_ONCE = 32


class Predictor:
    """A saved model, ready to predict."""

    def __init__(self, trained: TrainedModel, backbone: Backbone, device: torch.device) -> None:
        """Bring the parts together.

        Args:
            trained: The model.
            backbone: The network that it was trained on; the trained weights are put into it.
            device: Where to compute.

        Raises:
            WeightsError: The backbone is not the one that the model was trained on.
        """
        model = trained.model
        found = backbone.digest(model.cut)
        if found != model.backbone_digest:
            raise WeightsError(
                f"{model.backbone}: expected the weights that this model was trained on (digest "
                f"{model.backbone_digest[:12]}…), got {found[:12]}…"
            )
        trained.load_into(backbone)
        backbone.to(device)
        self.model = model
        self._network = backbone.prefix(model.head_cut)
        self._head = trained.head().to(device)
        self._convert = converter(model.input_spec)
        self._device = device

    @classmethod
    def load(
        cls, folder: Path, *, device: torch.device, allow_network: bool = False
    ) -> "Predictor":
        """Load a saved model and its backbone.

        Args:
            folder: A model's folder in a run, such as ``runs/…/models/NAME``.
            device: Where to compute.
            allow_network: Whether missing backbone weights may be downloaded.

        Returns:
            The predictor.
        """
        return cls(*load_parts(folder, allow_network=allow_network), device)

    @property
    def classes_(self) -> npt.NDArray[np.str_]:
        """Class names in the order of the columns, as scikit-learn calls them."""
        return np.array(self.model.classes)

    def predict_proba(self, samples: Sequence[Sample]) -> FloatArray:
        """Return class probabilities, as scikit-learn calls it.

        So a model of a run can vote beside other classifiers (`estimators.PrefitEnsemble`).

        Args:
            samples: n paths or encoded pictures; or n texts, or pairs of texts.

        Returns:
            float32, shape [n, classes]; rows sum to 1.

        Raises:
            DataError: A sample cannot be read or decoded.
        """
        found = []
        for position, sample in enumerate(samples):
            try:
                found.append(self._read(sample))
            except DataError as error:
                raise DataError(f"sample {position}: {error}") from error
        return self.predict(found)

    @torch.inference_mode()
    def predict(self, samples: Sequence[bytes]) -> FloatArray:
        """Return class probabilities, or the values of a regression.

        What is said of a sample does not depend on the others but for rounding; texts are computed
        by length, so that little is spent on padding, and come back in the order of `samples`.

        Args:
            samples: Bytes of n samples: encoded pictures (JPEG, PNG …), texts in UTF-8, pairs as
                `headstart.data.text.pair_bytes` makes them, sequences of float32.

        Returns:
            float32: shape [n, classes], rows summing to 1; or [n] of a regression.

        Raises:
            DataError: A sample cannot be decoded; it is named by its position, from 0.
        """
        spec = self.model.input_spec
        rows = [self._prepared(i, data) for i, data in enumerate(samples)]
        order = range(len(rows))
        if not isinstance(spec, InputSpec):
            order = sorted(order, key=lambda i: len(rows[i]))  # type: ignore[assignment]
        out = np.empty((len(rows), self.model.outputs), dtype=np.float32)
        for start in range(0, len(rows), _AT_ONCE):
            chosen = list(order[start : start + _AT_ONCE])
            x = torch.from_numpy(stack([rows[i] for i in chosen], spec)).to(self._device)
            with full_float32():
                z = self._network(x).reshape(len(chosen), -1)
                logits = self._head(z)[0].float()
            if self.model.goal == "classification":
                logits = torch.softmax(logits / self.model.temperature, dim=-1)
            out[chosen] = logits.cpu().numpy()
        return out[:, 0] if self.model.goal == "regression" else out

    def _prepared(self, position: int, data: bytes) -> FloatArray:
        try:
            return self._convert(data)
        except DataError as error:
            raise DataError(f"sample {position}: {error}") from error

    def _read(self, sample: Sample) -> bytes:
        """Return a sample's bytes; a plain word is a text to a model of texts, else a path."""
        if isinstance(sample, bytes):
            return sample
        spec = self.model.input_spec
        if isinstance(sample, tuple):
            if not isinstance(spec, TextSpec) or spec.pairs == "single":
                noun = "text" if isinstance(spec, TextSpec) else "file"
                raise DataError(f"expected one {noun}, got {len(sample)}: {sample!r:.60}")
            return pair_bytes(*sample)
        if isinstance(spec, TextSpec) and isinstance(sample, str):
            return text_bytes(sample)
        try:
            return Path(sample).read_bytes()
        except OSError as error:
            raise DataError(f"{sample}: {error}") from error


def load_parts(folder: Path, *, allow_network: bool = False) -> tuple[TrainedModel, Backbone]:
    """Load a saved model, and the network that it was trained on.

    Args:
        folder: A model's folder in a run, such as ``runs/…/models/NAME``.
        allow_network: Whether missing backbone weights may be downloaded.

    Returns:
        The model, and its backbone as it was before its training: `Predictor` compares the two and
        puts the trained weights in.
    """
    trained = load_model(folder)
    model = trained.model
    spec = model.input_spec
    pictures = spec if isinstance(spec, InputSpec) else None
    backbone = load_backbone(
        model.backbone,
        # Where nothing was frozen the file holds every weight: none need be found elsewhere. Of
        # a language model of another run the folder is needed all the same: it says how large
        # the network is.
        weights="random" if model.cut == INPUT else model.backbone_weights,
        seed=model.backbone_seed,
        allow_network=allow_network,
        fit=None if pictures is None else pictures.fit,
        image_size=pictures.height
        if pictures is not None and pictures.height == pictures.width
        else None,
        text=model.options.text,
        series=model.options.series,
    )
    return trained, backbone
