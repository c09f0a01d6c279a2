"""The layers that are put on a backbone."""

from typing import Annotated, Literal

from pydantic import Field

from headstart.config.values import Count, Positive, Strict


class LinearHead(Strict):
    """One affine layer and a softmax."""

    kind: Literal["linear"] = "linear"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability that a feature is dropped in training."""
    normalization: Literal["none", "layer", "batch"] = "none"
    """Normalisation of the features."""
    zero_init: bool = False
    """Start from zero weights (every class equally probable) and not from random ones."""


class MLPHead(Strict):
    """Hidden layers with ReLU, then an affine layer and a softmax."""

    kind: Literal["mlp"]
    hidden: Annotated[tuple[Count, ...], Field(min_length=1)] = (256,)
    """Widths of the hidden layers."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability that a feature or hidden unit is dropped in training."""
    normalization: Literal["none", "layer", "batch"] = "none"
    """Normalisation of the features and hidden layers."""
    zero_init: bool = False
    """Start the last layer from zero weights."""


class LogisticHead(Strict):
    """Multinomial logistic regression solved to its optimum; validation chooses C."""

    kind: Literal["logistic"]
    c: Annotated[tuple[Positive, ...], Field(min_length=1)] = (0.01, 0.1, 1.0)
    """Inverse strengths of the L2 penalty to try, as scikit-learn's C."""


Head = Annotated[LinearHead | MLPHead | LogisticHead, Field(discriminator="kind")]
