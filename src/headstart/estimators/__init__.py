"""Headstart for scikit-learn: `fit`, `predict`, `predict_proba`.

classifier  pictures in, classes out: a frozen network and a head
probes      heads alone, on arrays of features
prefit      an ensemble of classifiers that are fitted already
pictures    the many things that a user may call a picture
state       what an estimator is on the disk: JSON and safetensors, nothing that runs

Importing this package loads neither torch nor scikit-learn; its names are loaded when asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headstart.estimators.classifier import HeadstartClassifier as HeadstartClassifier
    from headstart.estimators.logistic import LogisticProbe as LogisticProbe
    from headstart.estimators.prefit import PrefitEnsemble as PrefitEnsemble
    from headstart.estimators.softmax import SoftmaxProbe as SoftmaxProbe

__all__ = ["HeadstartClassifier", "LogisticProbe", "PrefitEnsemble", "SoftmaxProbe"]

_PUBLIC = {
    "HeadstartClassifier": "headstart.estimators.classifier",
    "LogisticProbe": "headstart.estimators.logistic",
    "PrefitEnsemble": "headstart.estimators.prefit",
    "SoftmaxProbe": "headstart.estimators.softmax",
}


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        import importlib

        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {__all__}")


def __dir__() -> list[str]:
    return sorted(__all__)
