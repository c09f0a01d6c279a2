"""The experiment file: schema, loading, errors that help.

schema   strict, frozen pydantic models
load     YAML, profiles, `extends`, overrides, cross-references
explain  every problem at once, each with its key, value, what was expected, the nearest name
"""

from headstart.config.load import load_experiment, shipped_experiments
from headstart.config.schema import Experiment

__all__ = ["Experiment", "load_experiment", "shipped_experiments"]
