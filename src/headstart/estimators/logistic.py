"""The linear probe without a learning rate, as a scikit-learn classifier."""

import warnings
from pathlib import Path
from typing import Self, cast, final

import numpy as np
import numpy.typing as npt
from scipy import special
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning

from headstart._util.devices import resolve_device
from headstart.estimators import state as states
from headstart.estimators.arrays import (
    Labels,
    expect_positive,
    is_fitted,
    new_data,
    plain_fitted,
    restore_fitted,
    training_data,
)
from headstart.heads import fit_logistic
from headstart.types import FloatArray

_Float64Array = npt.NDArray[np.float64]

_FITTED = (
    "classes_", "coef_", "intercept_", "n_iter_", "n_features_in_", "feature_names_in_",
)  # fmt: skip


@final
class LogisticProbe(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Multinomial logistic regression solved to its optimum: the linear probe.

    It minimises C · Σ loss + ½‖W‖², the objective of scikit-learn's ``LogisticRegression(C=C)``,
    and finds the same weights; it is faster on features of networks, whose variances span many
    orders of magnitude, since it works in their eigenbasis (`headstart.heads.fit_logistic`).

    Attributes:
        classes_: The classes, sorted, [classes].
        coef_: Weights, float64, [classes, features]; one row per class where there are two, too.
        intercept_: Biases, float64, [classes].
        n_iter_: L-BFGS iterations, in tens.
        n_features_in_: Number of features.
    """

    def __init__(
        self, C: float = 1.0, *, tol: float = 1e-2, max_iter: int = 2000, device: str = "cpu"
    ) -> None:
        """Say what shall be fitted.

        Args:
            C: Inverse strength of the penalty, above 0.
            tol: The fit is done when the weights are, provably, no farther from the optimum than
                this share of their norm. The proof is generous: in truth they are much nearer.
            max_iter: L-BFGS iterations at most.
            device: Where the sums run: ``cpu``, ``cuda`` or ``auto``.
        """
        self.C = C
        self.tol = tol
        self.max_iter = max_iter
        self.device = device

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> Self:
        """Find the optimum.

        Args:
            X: Features, [n, features].
            y: Labels, [n]: texts or whole numbers, of at least two classes.

        Returns:
            The estimator.

        Raises:
            ValueError: A setting is not positive, or the arrays are not as they should be.
        """
        for name in ("C", "tol", "max_iter"):
            expect_positive(name, getattr(self, name))
        features, labels, classes = training_data(self, X, y)
        (solved,) = fit_logistic(
            cast(FloatArray, features),
            labels,
            len(classes),
            [float(self.C)],
            device=resolve_device(self.device),
            tolerance=self.tol,
            max_iterations=self.max_iter,
        )
        if not solved.converged:
            warnings.warn(
                f"LogisticProbe: L-BFGS stopped after {solved.iterations} iterations at C = "
                f"{self.C:g} before it was provably at the optimum: try features of one scale "
                "(StandardScaler), a smaller C, or a larger max_iter",
                ConvergenceWarning,
                stacklevel=2,
            )
        self.classes_ = classes
        self.coef_, self.intercept_ = solved.weight, solved.bias
        self.n_iter_ = solved.iterations
        return self

    def predict_proba(self, X: npt.ArrayLike) -> _Float64Array:
        """Return class probabilities, float64 [n, classes], of features [n, features]."""
        features = new_data(self, X).astype(np.float64)
        probabilities: _Float64Array = special.softmax(
            features @ self.coef_.T + self.intercept_, axis=1
        )
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
        fitted, arrays = None, {}
        if is_fitted(self):
            fitted = plain_fitted(self)
            arrays = {"coef": self.coef_, "intercept": self.intercept_}
        params = states.plain_params(self.get_params(deep=False))
        return states.State(type(self).__name__, params, fitted, arrays)

    def _restore(self, state: states.State) -> None:
        states.restore_params(self, state.params)
        if state.fitted is not None:
            restore_fitted(self, state.fitted)
            self.coef_, self.intercept_ = state.arrays["coef"], state.arrays["intercept"]
