"""Trained models as files, and what they predict."""

from headstart.predict.predictor import Predictor
from headstart.predict.saved import SavedModel, load_model, save_model

__all__ = ["Predictor", "SavedModel", "load_model", "save_model"]
