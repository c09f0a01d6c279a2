"""The training loop, one for every model.

source   where the batches come from: stored features, or pictures through the frozen prefix
optim    optimisers and schedules with one set of hyperparameters per member
loop     the loop: yields one record per member, epoch and split
"""

from headstart.train.loop import EarlyStopping, Outcome, TrainPlan, fit, predict_probabilities
from headstart.train.optim import (
    Hyperparameters,
    OptimizerKind,
    ScheduleSpec,
    build_optimizer,
    learning_rate_factor,
)
from headstart.train.source import CachedSource, FeatureSource, StandardSource

__all__ = [
    "CachedSource",
    "EarlyStopping",
    "FeatureSource",
    "Hyperparameters",
    "OptimizerKind",
    "Outcome",
    "ScheduleSpec",
    "StandardSource",
    "TrainPlan",
    "build_optimizer",
    "fit",
    "learning_rate_factor",
    "predict_probabilities",
]
