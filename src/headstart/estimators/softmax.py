"""A head trained by gradient steps, as a scikit-learn classifier."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, final, get_args

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator, ClassifierMixin

from headstart._util.devices import resolve_device
from headstart.errors import RunError
from headstart.estimators import state as states
from headstart.estimators.arrays import (
    Labels,
    expect_one_of,
    expect_positive,
    is_fitted,
    new_data,
    plain_fitted,
    restore_fitted,
    seed_of_state,
    training_data,
)
from headstart.heads import BatchedHead, HeadSpec, build_head
from headstart.train import (
    ArrayFeatures,
    CachedSource,
    Hyperparameters,
    OptimizerKind,
    ScheduleSpec,
    TrainPlan,
    build_optimizer,
    drain,
    fit,
)
from headstart.types import FloatArray, IntArray, JsonDict

_Float64Array = npt.NDArray[np.float64]

_FITTED = (
    "classes_", "mean_", "scale_", "loss_curve_", "n_iter_", "n_features_in_", "feature_names_in_",
    "_head",
)  # fmt: skip


@final
class SoftmaxProbe(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A softmax layer, or a small network with hidden layers, trained by gradient steps.

    It is Headstart's own head, trained by Headstart's own loop.

    Attributes:
        classes_: The classes, sorted, [classes].
        mean_: What is subtracted from the features, float64, [features].
        scale_: What they are divided by, float64, [features].
        loss_curve_: Mean training loss of each epoch.
        n_iter_: Epochs.
        n_features_in_: Number of features.
    """

    def __init__(
        self,
        hidden: Sequence[int] = (),
        *,
        dropout: float = 0.0,
        standardize: bool = True,
        optimizer: OptimizerKind = "sgd",
        learning_rate: float = 0.01,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        epochs: int = 50,
        batch_size: int = 32,
        device: str = "cpu",
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        """Say what shall be trained.

        Args:
            hidden: Widths of the hidden layers; none makes it a linear probe.
            dropout: Probability that a feature or hidden unit is dropped in training, in [0, 1).
            standardize: Whether each feature is centred and divided by its standard deviation in
                the training data, so that one learning rate suits features of any scale.
            optimizer: ``sgd``, ``adam``, ``adamw`` or ``rmsprop``.
            learning_rate: Step size.
            momentum: Of SGD and RMSProp.
            weight_decay: L2 penalty added to the gradient; AdamW: decay of the weights themselves.
            epochs: Passes over the training data.
            batch_size: Samples per step.
            device: Where it is trained: ``cpu``, ``cuda`` or ``auto``.
            random_state: Decides the initial weights, the order of the samples and the dropout.
                None draws from NumPy's global stream, as scikit-learn does.
        """
        self.hidden = hidden
        self.dropout = dropout
        self.standardize = standardize
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.epochs = epochs
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> Self:
        """Train.

        Args:
            X: Features, [n, features].
            y: Labels, [n]: texts or whole numbers, of at least two classes.

        Returns:
            The estimator.

        Raises:
            ValueError: A setting is out of range, or the arrays are not as they should be.
            RunError: The loss was no longer a finite number.
        """
        for name in ("learning_rate", "epochs", "batch_size"):
            expect_positive(name, getattr(self, name))
        expect_one_of("optimizer", self.optimizer, get_args(OptimizerKind))
        for width in self.hidden:
            expect_positive("hidden", width)
        features, labels, classes = training_data(self, X, y)
        mean, scale = _scaler(features, self.standardize)
        z = _standardized(features, mean, scale)
        seed = seed_of_state(self.random_state)
        head = build_head(self._spec(), z.shape[1], len(classes), [seed])
        losses = self._train(head, z, labels, seed)
        self.classes_, self.mean_, self.scale_ = classes, mean, scale
        self.loss_curve_, self.n_iter_ = losses, len(losses)
        # Predictions are made in float64: then a row's does not depend on the rows beside it.
        self._head = head.cpu().double()
        return self

    def _train(self, head: BatchedHead, z: FloatArray, labels: IntArray, seed: int) -> list[float]:
        """Train the head where it is, and return the training loss of each epoch."""
        device = resolve_device(self.device)
        head.to(device)
        rows = np.arange(len(z), dtype=np.int64)
        source = CachedSource(
            ArrayFeatures(z),
            labels,
            # The loop looks at a validation split; with keep="last" nothing is chosen by it.
            {"train": rows, "val": rows[: int(self.batch_size)]},
            seeds=[seed],
            batch_size=int(self.batch_size),
            device=device,
        )
        settings = Hyperparameters(
            learning_rate=self.learning_rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
        )
        optimizer = build_optimizer(self.optimizer, list(head.parameters()), [settings])
        plan = TrainPlan(int(self.epochs), ScheduleSpec(), (self.learning_rate,), keep="last")
        records, (outcome,) = drain(fit(head, optimizer, source, plan))
        if outcome.state == "diverged":
            raise RunError(f"SoftmaxProbe: {outcome.message}")
        return [record.loss for record in records if record.split == "train"]

    def predict_proba(self, X: npt.ArrayLike) -> _Float64Array:
        """Return class probabilities, float64 [n, classes], of features [n, features]."""
        z = torch.as_tensor(_standardized(new_data(self, X), self.mean_, self.scale_))
        with torch.no_grad():
            # In parts: a wide hidden layer of very many samples would fill the memory.
            logits = torch.cat([self._head(part.double())[0] for part in torch.split(z, 16_384)])
        probabilities: _Float64Array = torch.softmax(logits, dim=1).numpy()
        return probabilities

    def predict(self, X: npt.ArrayLike) -> Labels:
        """Return the most probable classes, [n], of features [n, features]."""
        probabilities = self.predict_proba(X)
        labels: Labels = self.classes_[probabilities.argmax(axis=1)]
        return labels

    def save(self, folder: Path | str) -> None:
        """Write the probe into a folder, as JSON and safetensors."""
        states.save(folder, self._state())

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read a probe that `save` wrote; WeightsError where there is none."""
        probe = cls.__new__(cls)
        probe._restore(states.load(cls.__name__, folder))
        return probe

    def __getstate__(self) -> dict[str, str | bytes]:
        return states.pack(self._state())

    def __setstate__(self, state: object) -> None:
        self._restore(states.unpack(type(self).__name__, state))

    def _state(self) -> states.State:
        states.expect_only(self, _FITTED)
        fitted: JsonDict | None = None
        arrays: dict[str, npt.NDArray[Any]] = {}
        if is_fitted(self):
            fitted = {**plain_fitted(self), "loss_curve": self.loss_curve_}
            fitted["hidden"] = list(self._head.spec.hidden)  # the parameter may have been changed
            arrays = {"mean": self.mean_, "scale": self.scale_}
            for name, value in self._head.state_dict().items():
                arrays[f"head.{name}"] = value.float().numpy()  # exact: they were float32
        params = states.plain_params(self.get_params(deep=False))
        return states.State(type(self).__name__, params, fitted, arrays)

    def _restore(self, state: states.State) -> None:
        states.restore_params(self, state.params)
        if state.fitted is None:
            return
        restore_fitted(self, state.fitted)
        self.loss_curve_ = state.fitted["loss_curve"]
        self.mean_, self.scale_ = state.arrays["mean"], state.arrays["scale"]
        spec = HeadSpec(tuple(state.fitted["hidden"]))
        head = build_head(spec, self.n_features_in_, len(self.classes_), [0])
        weights = {
            name.removeprefix("head."): torch.as_tensor(value)
            for name, value in state.arrays.items()
            if name.startswith("head.")
        }
        head.load_state_dict(weights)
        self._head = head.double().eval()

    def _spec(self) -> HeadSpec:
        return HeadSpec(tuple(int(width) for width in self.hidden), self.dropout)


def _scaler(features: npt.NDArray[Any], standardize: bool) -> tuple[_Float64Array, _Float64Array]:
    width = features.shape[1]
    if not standardize:
        return np.zeros(width), np.ones(width)
    mean = features.mean(axis=0, dtype=np.float64)
    spread = features.std(axis=0, dtype=np.float64)
    # A feature that does not vary has a spread of rounding errors: it is left at its scale.
    return mean, np.where(spread > 1e-12 * np.abs(mean), spread, 1.0)


def _standardized(
    features: npt.NDArray[Any], mean: _Float64Array, scale: _Float64Array
) -> FloatArray:
    return ((features - mean) / scale).astype(np.float32)
