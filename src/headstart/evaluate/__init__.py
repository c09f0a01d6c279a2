"""Metrics with intervals: arrays in, records out.

metrics    accuracy, log loss, precision, recall, F1 and AUC, per class and averaged
regression squared and absolute error
language   perplexity of a text
intervals  Wilson's and Clopper-Pearson's intervals for shares, the BCa bootstrap for means
resampling macro averages and F1: the BCa bootstrap of a confusion matrix
auc        the area under the ROC curve
calibration whether the confidence fits the accuracy: ECE, reliability diagram, temperature
diversity  how different the mistakes of several classifiers are
timing     the time of the prediction step alone
zero_shot  a pretrained classifier as it is: top-1, top-5, tables
"""

from headstart.evaluate.calibration import (
    Bin,
    Reliability,
    fit_temperature,
    reliability,
    with_temperature,
)
from headstart.evaluate.diversity import Diversity, PairDiversity, measure_diversity
from headstart.evaluate.intervals import bca_mean, clopper_pearson, wilson
from headstart.evaluate.language import perplexity
from headstart.evaluate.metrics import ClassReport, Evaluation, evaluate_classification
from headstart.evaluate.regression import evaluate_regression
from headstart.evaluate.timing import PredictionTime, time_prediction
from headstart.evaluate.zero_shot import (
    NamedClass,
    TopRow,
    ZeroShot,
    evaluate_zero_shot,
    restrict,
    top_table,
)

__all__ = [
    "Bin",
    "ClassReport",
    "Diversity",
    "Evaluation",
    "NamedClass",
    "PairDiversity",
    "PredictionTime",
    "Reliability",
    "TopRow",
    "ZeroShot",
    "bca_mean",
    "clopper_pearson",
    "evaluate_classification",
    "evaluate_regression",
    "evaluate_zero_shot",
    "fit_temperature",
    "measure_diversity",
    "perplexity",
    "reliability",
    "restrict",
    "time_prediction",
    "top_table",
    "wilson",
    "with_temperature",
]
