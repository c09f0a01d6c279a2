"""What is trained on features: linear and MLP heads, whole sweeps as one batch, closed forms.

batched      linear and MLP heads with a leading axis of members
closed_form  multinomial logistic regression solved to its optimum
cross_validation  what a probe says of samples that it was not trained on
"""

from headstart.heads.batched import (
    BatchedHead,
    HeadSpec,
    Normalization,
    build_head,
    take_member,
)
from headstart.heads.closed_form import LogisticFit, fit_logistic
from headstart.heads.cross_validation import CrossValidated, cross_validate, stratified_folds
from headstart.heads.tail import BatchNormRule, Tail, stage_sizes, undecayed

__all__ = [
    "BatchNormRule",
    "BatchedHead",
    "CrossValidated",
    "HeadSpec",
    "LogisticFit",
    "Normalization",
    "Tail",
    "build_head",
    "cross_validate",
    "fit_logistic",
    "stage_sizes",
    "stratified_folds",
    "take_member",
    "undecayed",
]
