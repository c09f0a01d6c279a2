"""An ensemble of classifiers that are fitted already, of any library."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import NotFittedError

from headstart.errors import ConfigError, DataError
from headstart.estimators.arrays import Labels
from headstart.predict import Voting
from headstart.predict.ensemble import check_voting, vote, voting_weights
from headstart.types import IntArray

_Float64Array = npt.NDArray[np.float64]


class Classifier(Protocol):
    """What a member must offer: scikit-learn's names."""

    @property
    def classes_(self) -> npt.ArrayLike:
        """The classes, in the order of the columns of `predict_proba`."""
        ...

    def predict_proba(self, X: Any) -> npt.ArrayLike:
        """Return class probabilities, [n, classes]."""
        ...


class PrefitEnsemble:
    """Several fitted classifiers as one: a mean of their probabilities, or a vote.

    Members are anything with `predict_proba` and ``classes_``: Headstart's classifiers,
    scikit-learn's, pipelines, or a few lines of your own. Their columns are matched by class.

    Attributes:
        members: The classifiers by name.
        voting: ``soft``, ``weighted``, ``hard`` or ``greedy``.
        classes_: The classes, in the order of the first member.
        weights_: One for each member, in the order of ``members``: equal for ``soft`` and
            ``hard``; for the others there is none before `fit_weights`.
    """

    def __init__(self, members: Mapping[str, Classifier], voting: Voting = "soft") -> None:
        """Bring the members together.

        Args:
            members: Fitted classifiers by name.
            voting: ``soft``: the mean of the probabilities; ``weighted``: with the weights of
                least validation log loss; ``greedy``: with the weights of greedy selection;
                ``hard``: the share of members that say a class.

        Raises:
            ConfigError: There is no member, or the kind of voting is unknown.
            DataError: The members do not know the same classes.
        """
        if not members:
            raise ConfigError("ensemble: expected at least one member, got none")
        check_voting(voting)
        self.members = dict(members)
        self.voting: Voting = voting
        self.classes_: Labels = np.asarray(next(iter(members.values())).classes_)
        self._columns = _columns(self.members)
        self.weights_: tuple[float, ...] | None = None
        if voting in ("soft", "hard"):
            self.weights_ = (1 / len(members),) * len(members)

    def fit_weights(self, X_val: Any, y_val: Sequence[Any] | npt.NDArray[Any]) -> Self:
        """Find the weights on data that the members were not fitted on.

        Args:
            X_val: Validation samples, as every member takes them.
            y_val: Their labels, [n].

        Returns:
            The ensemble.

        Raises:
            DataError: A label is not among the classes, or there is not one for each sample.
        """
        stack = self._stack(X_val)
        labels = self._indices(y_val)
        if len(labels) != stack.shape[1]:
            raise DataError(
                f"expected one label for each of {stack.shape[1]} samples, got {len(labels)}"
            )
        self.weights_ = voting_weights(self.voting, stack, labels)
        return self

    def predict_proba(self, X: Any) -> _Float64Array:
        """Return class probabilities.

        Args:
            X: Samples, as every member takes them.

        Returns:
            float64, [n, classes], in the order of ``classes_``; rows sum to 1.

        Raises:
            NotFittedError: The weights must be fitted before (scikit-learn's exception).
        """
        if self.weights_ is None:
            raise NotFittedError(
                f"PrefitEnsemble(voting={self.voting!r}): call fit_weights(X_val, y_val) first"
            )
        return vote(self.voting, self._stack(X), self.weights_)

    def predict(self, X: Any) -> Labels:
        """Return the class with the highest figure of `predict_proba` for each sample, [n]."""
        labels: Labels = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return labels

    def _stack(self, X: Any) -> _Float64Array:
        """Return the members' probabilities, [m, n, classes], in the order of ``classes_``."""
        return np.stack(
            [
                np.asarray(member.predict_proba(X), dtype=np.float64)[:, columns]
                for member, columns in zip(self.members.values(), self._columns, strict=True)
            ]
        )

    def _indices(self, y: Sequence[Any] | npt.NDArray[Any]) -> IntArray:
        place = {label: index for index, label in enumerate(self.classes_.tolist())}
        labels = np.asarray(y).tolist()
        unknown = [label for label in labels if label not in place]
        if unknown:
            raise DataError(f"y_val: {unknown[0]!r} is not among the classes {list(place)}")
        return np.array([place[label] for label in labels], dtype=np.int64)


def _columns(members: Mapping[str, Classifier]) -> list[IntArray]:
    """Return for each member where the first member's classes stand in its own."""
    known = {name: np.asarray(member.classes_).tolist() for name, member in members.items()}
    first, wanted = next(iter(known.items()))
    for name, own in known.items():
        for lacking, there, has in ((set(wanted) - set(own), name, first),
                                    (set(own) - set(wanted), first, name)):  # fmt: skip
            if lacking:
                raise DataError(
                    f"{there} lacks the class {min(lacking, key=str)!r}, which {has} has: the "
                    "members of an ensemble must know the same classes"
                )
    return [np.array([own.index(c) for c in wanted], dtype=np.int64) for own in known.values()]
