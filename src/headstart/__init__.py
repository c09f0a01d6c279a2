"""Headstart: transfer learning done right, in one command.

The way of the data, one direction only::

    cli                              the command line, one file per verb
    runs | estimators | serve        an experiment is run and leaves a record; scikit-learn; HTTP
    report | export                  one view of the results, as HTML and PDF; other engines
    compare                          paired comparisons between models
    train | predict | evaluate       the one training loop; bundles, predictions; metrics
    heads                            linear and MLP heads, whole sweeps as one batch
    features                         frozen features, computed once by the fastest engine
    data | backbones                 pictures, texts, sequences; networks that can be cut
    config                           the experiment file
    types, errors, _util             what everybody may use

Importing this package loads neither torch nor anything else that is heavy.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headstart.config.schema import Experiment as Experiment
    from headstart.runs.runner import RunResult as RunResult
    from headstart.runs.runner import resume as resume
    from headstart.runs.runner import run as run

__version__ = "0.1.0"

__all__ = ["Experiment", "RunResult", "__version__", "resume", "run"]

_PUBLIC = {
    "Experiment": "headstart.config.schema",
    "RunResult": "headstart.runs.runner",
    "resume": "headstart.runs.runner",
    "run": "headstart.runs.runner",
}


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        import importlib

        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'headstart' has no attribute {name!r}; it has {sorted(__all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)
