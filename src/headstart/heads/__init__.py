"""What is trained on features: linear and MLP heads, whole sweeps as one batch, closed forms.

batched      linear and MLP heads with a leading axis of members
closed_form  multinomial logistic regression solved to its optimum
"""

from headstart.heads.batched import (
    BatchedHead,
    HeadSpec,
    Normalization,
    build_head,
    take_member,
)
from headstart.heads.closed_form import LogisticFit, fit_logistic
from headstart.heads.tail import BatchNormRule, Tail, stage_sizes, undecayed

__all__ = [
    "BatchNormRule",
    "BatchedHead",
    "HeadSpec",
    "LogisticFit",
    "Normalization",
    "Tail",
    "build_head",
    "fit_logistic",
    "stage_sizes",
    "take_member",
    "undecayed",
]
