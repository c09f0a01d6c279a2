"""Metrics with intervals: arrays in, records out.

metrics    accuracy, log loss, precision, recall and F1, per class and averaged
intervals  Wilson's interval for shares, the bootstrap for everything else
"""

from headstart.evaluate.intervals import wilson
from headstart.evaluate.metrics import ClassReport, Evaluation, evaluate_classification

__all__ = ["ClassReport", "Evaluation", "evaluate_classification", "wilson"]
