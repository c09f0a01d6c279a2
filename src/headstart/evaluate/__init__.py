"""Metrics with intervals: arrays in, records out.

metrics    accuracy, log loss, precision, recall and F1, per class and averaged
regression squared and absolute error
language   perplexity of a text
intervals  Wilson's interval for shares, the bootstrap for everything else
diversity  how different the mistakes of several classifiers are
timing     the time of the prediction step alone
zero_shot  a pretrained classifier as it is: top-1, top-5, tables
"""

from headstart.evaluate.diversity import Diversity, PairDiversity, measure_diversity
from headstart.evaluate.intervals import wilson
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
    "ClassReport",
    "Diversity",
    "Evaluation",
    "NamedClass",
    "PairDiversity",
    "PredictionTime",
    "TopRow",
    "ZeroShot",
    "evaluate_classification",
    "evaluate_regression",
    "evaluate_zero_shot",
    "measure_diversity",
    "perplexity",
    "restrict",
    "time_prediction",
    "top_table",
    "wilson",
]
