"""The training loop, one for every model.

language    batches of running text
order       in which order samples are visited
mixing      MixUp and CutMix
gathered    features by position
source      where the batches come from: stored features, or pictures through the frozen prefix
optim       optimisers with one set of settings per member
grouped     optimisers with one learning rate per group
schedule    how the learning rate changes
plan        what the loop is told
loop        the loop: yields one record per member, epoch and split
keeper      who is best so far, who has stopped
autograd    losses and gradients of any model
acceleration  what its steps do on a GPU besides: bfloat16, compiling
linear      the same of linear heads in closed form
linear_epoch  a whole epoch of linear heads by SGD
span        the same where samples are fewer than features
steps       which of these make the steps
team        several processes that train one model
figures     losses, right answers and probabilities of logits
gradients   loss scaling, clipping, averaging of weights
checkpoint  a training in progress as two files
stages      what a stage trains, and where the network is cut for it
"""

from headstart.train.acceleration import pays_to_compile, step_precision
from headstart.train.checkpoint import Checkpoint, CheckpointFolder
from headstart.train.figures import evaluate, predict_probabilities, predict_split
from headstart.train.gathered import ArrayFeatures
from headstart.train.grouped import ParameterGroup, build_grouped_optimizer
from headstart.train.keeper import EarlyStopping, Outcome
from headstart.train.language import LanguageSource, token_nll
from headstart.train.linear_epoch import Whole
from headstart.train.loop import drain, fit
from headstart.train.mixing import Mixing
from headstart.train.optim import (
    Hyperparameters,
    Optimizer,
    OptimizerKind,
    build_optimizer,
)
from headstart.train.plan import Judge, Precision, TrainPlan
from headstart.train.schedule import ScheduleSpec, learning_rate_factor
from headstart.train.source import (
    CachedSource,
    FeatureSource,
    Paced,
    StandardSource,
)
from headstart.train.span import Held
from headstart.train.stages import StageCut, cut_for, rates_of
from headstart.train.team import ALONE, Team, current_team

__all__ = [
    "ALONE",
    "ArrayFeatures",
    "CachedSource",
    "Checkpoint",
    "CheckpointFolder",
    "EarlyStopping",
    "FeatureSource",
    "Held",
    "Hyperparameters",
    "Judge",
    "LanguageSource",
    "Mixing",
    "Optimizer",
    "OptimizerKind",
    "Outcome",
    "Paced",
    "ParameterGroup",
    "Precision",
    "ScheduleSpec",
    "StageCut",
    "StandardSource",
    "Team",
    "TrainPlan",
    "Whole",
    "build_grouped_optimizer",
    "build_optimizer",
    "current_team",
    "cut_for",
    "drain",
    "evaluate",
    "fit",
    "learning_rate_factor",
    "pays_to_compile",
    "predict_probabilities",
    "predict_split",
    "rates_of",
    "step_precision",
    "token_nll",
]
