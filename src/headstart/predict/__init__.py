"""Trained models as files, and what they predict, alone and together."""

from headstart.predict.answers import answer, failed
from headstart.predict.bundle import Bundle, load_bundle, verify_bundle
from headstart.predict.bundle_info import BundleInfo
from headstart.predict.bundle_samples import StoredSample
from headstart.predict.bundle_write import write_bundle
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
    "Bundle",
    "BundleInfo",
    "Ensemble",
    "Predictor",
    "SavedModel",
    "StoredSample",
    "TrainedModel",
    "Voting",
    "align",
    "answer",
    "combine",
    "failed",
    "fit_ensemble",
    "fit_weights",
    "greedy_selection",
    "hard_vote",
    "load_bundle",
    "load_model",
    "save_model",
    "soft_vote",
    "trained_tensors",
    "verify_bundle",
    "write_bundle",
]
