"""The probes keep every rule of scikit-learn's estimators."""

from collections.abc import Callable

from sklearn.base import BaseEstimator
from sklearn.utils.estimator_checks import parametrize_with_checks

from headstart.estimators import LogisticProbe, SoftmaxProbe


@parametrize_with_checks([LogisticProbe(), SoftmaxProbe()])
def test_the_rules_of_scikit_learn(
    estimator: BaseEstimator, check: Callable[[BaseEstimator], None]
) -> None:
    check(estimator)
