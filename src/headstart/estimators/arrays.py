"""What the estimators share: arrays of features and labels, checked as scikit-learn checks them."""

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from headstart.errors import nearest
from headstart.estimators import state as states
from headstart.types import IntArray, JsonDict

Labels = npt.NDArray[Any]


def training_data(
    estimator: Any, X: npt.ArrayLike, y: npt.ArrayLike
) -> tuple[npt.NDArray[Any], IntArray, Labels]:
    """Check what `fit` was given, and remember the features' number and names.

    Args:
        estimator: Whose `fit`.
        X: Features, [n, features].
        y: Labels, [n].

    Returns:
        Features, float32 or float64 [n, features]; class indices, int64 [n]; the classes, sorted.

    Raises:
        ValueError: They are not finite numbers, do not fit together or are all of one class.
    """
    X, y = validate_data(estimator, X, y, dtype=(np.float64, np.float32))
    labels, classes = encode_labels(y)
    return np.require(X, requirements=["C", "W"]), labels, classes  # torch wants them writable


def new_data(estimator: Any, X: npt.ArrayLike) -> npt.NDArray[Any]:
    """Check features to predict, [n, features]; a fitted estimator's own number is expected."""
    check_is_fitted(estimator)
    features: npt.NDArray[Any] = validate_data(
        estimator, X, reset=False, dtype=(np.float64, np.float32)
    )
    return features


def encode_labels(y: npt.ArrayLike) -> tuple[IntArray, Labels]:
    """Turn labels into class indices.

    Args:
        y: Labels, [n].

    Returns:
        Indices, int64 [n], and the classes, sorted.

    Raises:
        ValueError: They are not labels of classes, or all of one class.
    """
    check_classification_targets(y)
    classes, indices = np.unique(np.asarray(y), return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"y: expected at least two classes, got 1 class ({classes.tolist()[0]!r})")
    return indices.astype(np.int64), classes


def seed_of_state(random_state: int | np.random.RandomState | None) -> int:
    """Return the seed that scikit-learn's `random_state` stands for; an integer is itself."""
    if isinstance(random_state, int | np.integer):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))


def expect_positive(name: str, value: float) -> None:
    """Raise ValueError where a setting is not above 0."""
    if not value > 0:
        raise ValueError(f"{name}: expected a number above 0, got {value!r}")


def expect_one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise ValueError where a setting is none of the words it may be."""
    if value not in choices:
        raise ValueError(f"{name}: unknown value {value!r}; {nearest(str(value), choices)}")


def is_fitted(estimator: Any) -> bool:
    """Return whether `fit` has come to its end."""
    return hasattr(estimator, "classes_")


def plain_fitted(estimator: Any) -> JsonDict:
    """Return what all fitted estimators have, as JSON-like values."""
    names = getattr(estimator, "feature_names_in_", None)
    return {
        "classes": states.plain_labels(estimator.classes_),
        "features": estimator.n_features_in_,
        "feature_names": None if names is None else states.plain_labels(names),
        "n_iter": estimator.n_iter_,
    }


def restore_fitted(estimator: Any, fitted: JsonDict) -> None:
    """Set what `plain_fitted` wrote down."""
    estimator.classes_ = states.restore_labels(fitted["classes"])
    estimator.n_features_in_ = fitted["features"]
    estimator.n_iter_ = fitted["n_iter"]
    if fitted["feature_names"] is not None:
        estimator.feature_names_in_ = states.restore_labels(fitted["feature_names"])
