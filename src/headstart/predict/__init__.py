"""Trained models as files, and what they predict, alone and together."""

from headstart.predict.ensemble import (
    Ensemble,
    Voting,
    align,
    combine,
    fit_ensemble,
    fit_weights,
    greedy_selection,
    hard_vote,
    soft_vote,
)
from headstart.predict.predictor import Predictor
from headstart.predict.saved import (
    BackboneOptions,
    SavedModel,
    TrainedModel,
    load_model,
    save_model,
    trained_tensors,
)

__all__ = [
    "BackboneOptions",
    "Ensemble",
    "Predictor",
    "SavedModel",
    "TrainedModel",
    "Voting",
    "align",
    "combine",
    "fit_ensemble",
    "fit_weights",
    "greedy_selection",
    "hard_vote",
    "load_model",
    "save_model",
    "soft_vote",
    "trained_tensors",
]
