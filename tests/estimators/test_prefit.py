"""An ensemble of fitted classifiers of any kind, columns matched by class."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB

import headstart.estimators
from headstart.errors import ConfigError, DataError
from headstart.estimators import LogisticProbe, PrefitEnsemble
from headstart.predict import fit_weights, greedy_selection, hard_vote

RAW, DIGITS = load_digits(return_X_y=True)
X = RAW + np.random.default_rng(0).normal(scale=4, size=RAW.shape)
Y = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])[
    DIGITS
]
FIT, VAL, TEST = slice(0, 500), slice(500, 900), slice(900, None)


@dataclass
class Turned:
    """A classifier of no library, whose columns are in another order."""

    inner: Any

    @property
    def classes_(self) -> list[Any]:
        return self.inner.classes_.tolist()[::-1]

    def predict_proba(self, X: npt.NDArray[Any]) -> list[list[float]]:
        return self.inner.predict_proba(X)[:, ::-1].tolist()


@pytest.fixture(scope="module")
def members() -> dict[str, Any]:
    return {
        "probe": LogisticProbe(C=1e-4).fit(X[FIT], Y[FIT]),
        "forest": RandomForestClassifier(7, max_depth=4, random_state=0).fit(X[FIT], Y[FIT]),
        "bayes": Turned(GaussianNB().fit(X[FIT], Y[FIT])),
    }


def stack(members: dict[str, Any], part: slice) -> npt.NDArray[np.float64]:
    turned = members["bayes"].inner
    own = [members["probe"], members["forest"], turned]
    return np.stack([model.predict_proba(X[part]) for model in own])


def test_soft_and_hard_need_no_fitting(members: dict[str, Any]) -> None:
    soft = PrefitEnsemble(members)
    expected = stack(members, TEST).mean(axis=0)
    np.testing.assert_allclose(soft.predict_proba(X[TEST]), expected, rtol=1e-12)
    np.testing.assert_array_equal(soft.predict(X[TEST]), soft.classes_[expected.argmax(axis=1)])
    hard = PrefitEnsemble(members, "hard").predict_proba(X[TEST])
    np.testing.assert_array_equal(hard, hard_vote(stack(members, TEST)))


def test_it_is_the_voting_classifier_of_scikit_learn(members: dict[str, Any]) -> None:
    models = [("a", LogisticRegression(C=1e-4, max_iter=500)), ("b", GaussianNB())]
    theirs = VotingClassifier(models, voting="soft").fit(X[FIT], Y[FIT])
    ours = PrefitEnsemble({name: model.fit(X[FIT], Y[FIT]) for name, model in models})
    np.testing.assert_array_equal(ours.predict_proba(X[TEST]), theirs.predict_proba(X[TEST]))
    np.testing.assert_array_equal(ours.predict(X[TEST]), theirs.predict(X[TEST]))


def test_weights_come_from_the_validation_data(members: dict[str, Any]) -> None:
    labels = np.searchsorted(np.unique(Y), Y[VAL])
    for voting, rule in (("weighted", fit_weights), ("greedy", greedy_selection)):
        ensemble = PrefitEnsemble(members, voting)
        with pytest.raises(NotFittedError, match="call fit_weights"):
            ensemble.predict(X[TEST])
        assert ensemble.fit_weights(X[VAL], Y[VAL].tolist()) is ensemble
        assert ensemble.weights_ is not None
        np.testing.assert_allclose(ensemble.weights_, rule(stack(members, VAL), labels))
        assert max(ensemble.weights_) > 0.4
        expected = np.average(stack(members, TEST), axis=0, weights=ensemble.weights_)
        np.testing.assert_allclose(ensemble.predict_proba(X[TEST]), expected)
    assert PrefitEnsemble(members).fit_weights(X[VAL], Y[VAL]).weights_ == (1 / 3,) * 3


def test_what_does_not_fit_together_is_said(members: dict[str, Any]) -> None:
    few = LogisticProbe(C=1e-4).fit(X[FIT][DIGITS[FIT] != 3], Y[FIT][DIGITS[FIT] != 3])
    with pytest.raises(DataError, match="few lacks the class 'three', which probe has"):
        PrefitEnsemble({**members, "few": few})
    with pytest.raises(DataError, match="few lacks the class 'three', which probe has"):
        PrefitEnsemble({"few": few, "probe": members["probe"]})
    with pytest.raises(ConfigError, match="unknown kind 'loud'"):
        PrefitEnsemble(members, "loud")
    with pytest.raises(ConfigError, match="at least one member"):
        PrefitEnsemble({})
    weighted = PrefitEnsemble(members, "weighted")
    with pytest.raises(DataError, match="'ten' is not among the classes"):
        weighted.fit_weights(X[:2], ["one", "ten"])
    with pytest.raises(DataError, match="one label for each of 3 samples, got 2"):
        weighted.fit_weights(X[:3], ["one", "two"])


def test_the_public_names() -> None:
    names = ["HeadstartClassifier", "LogisticProbe", "PrefitEnsemble", "SoftmaxProbe"]
    assert headstart.estimators.__all__ == names
    for name in names:
        assert getattr(headstart.estimators, name).__name__ == name
    assert dir(headstart.estimators) == names
    with pytest.raises(AttributeError, match="has no attribute 'Logistic'"):
        headstart.estimators.Logistic  # noqa: B018
