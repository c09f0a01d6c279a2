"""From an experiment to a run folder: build, run, record.

build     the one place that turns configuration into objects
plan      which parts run, in which order
part      one model or sweep, from features to predictions
record    the files of a run folder
summary   comparisons, targets
runner    the whole run
"""
