"""Pictures in, class probabilities out: the same decoding, transform and network as in training."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from headstart._util.devices import full_float32
from headstart.backbones.base import INPUT, Backbone
from headstart.backbones.registry import load_backbone
from headstart.data.image import decode, transform
from headstart.errors import DataError, WeightsError
from headstart.predict.saved import TrainedModel, load_model
from headstart.types import FloatArray


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
        trained = load_model(folder)
        model = trained.model
        spec = model.input_spec
        backbone = load_backbone(
            model.backbone,
            # Where nothing was frozen the file holds every weight: none need be found elsewhere.
            weights="random" if model.cut == INPUT else model.backbone_weights,
            seed=model.backbone_seed,
            allow_network=allow_network,
            fit=spec.fit,
            image_size=spec.height if spec.height == spec.width else None,
        )
        return cls(trained, backbone, device)

    @property
    def classes_(self) -> npt.NDArray[np.str_]:
        """Class names in the order of the columns, as scikit-learn calls them."""
        return np.array(self.model.classes)

    def predict_proba(self, pictures: Sequence[bytes | str | Path]) -> FloatArray:
        """Return class probabilities of files or encoded pictures, as scikit-learn calls it.

        So a model of a run can vote beside other classifiers (`estimators.PrefitEnsemble`).

        Args:
            pictures: Paths or encoded pictures, n of them.

        Returns:
            float32, shape [n, classes]; rows sum to 1.

        Raises:
            DataError: A picture cannot be read or decoded.
        """
        rows = []
        for picture in pictures:
            try:
                data = picture if isinstance(picture, bytes) else Path(picture).read_bytes()
                rows.append(self.predict([data]))
            except (DataError, OSError) as error:
                where = "a picture" if isinstance(picture, bytes) else str(picture)
                raise DataError(f"{where}: {error}") from error
        return np.concatenate(rows)

    @torch.inference_mode()
    def predict(self, pictures: Sequence[bytes]) -> FloatArray:
        """Return class probabilities of encoded pictures.

        Args:
            pictures: Encoded pictures (JPEG, PNG …), n of them.

        Returns:
            float32, shape [n, classes]; rows sum to 1.

        Raises:
            DataError: A picture cannot be decoded.
        """
        batch = np.stack([transform(decode(p), self.model.input_spec) for p in pictures])
        x = torch.from_numpy(batch).to(self._device)
        with full_float32():
            z = self._network(x).reshape(len(pictures), -1)
        probabilities = torch.softmax(self._head(z)[0].float(), dim=-1)
        return np.asarray(probabilities.cpu().numpy(), dtype=np.float32)
