"""From an experiment to a run folder: build, run, record, go on.

runner     a whole run, and going on with one
study      data and backbones in memory, everything checked; its parts run one by one
plan       which parts run, in which order
part       one model or sweep, from features to predictions
frozen     training on a frozen network
staged     training in stages, and from scratch
training   what both share
zero_shot  a pretrained classifier as it is
ensemble   earlier parts that vote
bench      what parts share: features, checkpoints, timing
notebook   what a training in progress must remember besides its checkpoints
build      the one place that turns configuration into objects
result     what a part leaves, in memory and on the disk
record     the files of a run folder
alive      whether a process is at work on a run
index      the page of all runs of a folder
summary    records of models and sweeps, comparisons, targets
"""
