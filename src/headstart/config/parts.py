"""The parts of a study: models, sweeps, pretrained classifiers as they are, ensembles."""

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from headstart.config.heads import Head, LinearHead
from headstart.config.training import (
    SGD,
    Constant,
    EarlyStoppingConfig,
    Loss,
    OptimizerConfig,
    Schedule,
    StageConfig,
)
from headstart.config.values import Count, Name, Strict, by_shape


class ModelPart(Strict):
    """One model: a backbone, and a head that is trained alone or with parts of the backbone."""

    kind: Literal["model"]
    extends: Name | None = None
    """Take everything that is not said here from this earlier part."""
    title: str = ""
    """What a reader sees; empty: the part's name."""
    backbone: Name | None = None
    """Key of one of `backbones`; null: the first."""
    mode: Literal["cached", "standard"] = "cached"
    """cached: features are computed once; standard: the frozen network runs at every step."""
    head: Head = LinearHead()
    optimizer: OptimizerConfig = SGD()
    schedule: Schedule = Constant()
    loss: Loss = Loss()
    epochs: Count = 20
    """Passes over the training split."""
    batch_size: Count = 32
    """Samples per optimiser step."""
    seed: int = 0
    """Decides initial weights, dropout and the order of samples."""
    early_stopping: EarlyStoppingConfig | None = None
    keep: Literal["best", "last"] = "best"
    """Which weights to end with: of the best validation loss (or the figure that early stopping
    watches), or of the last epoch."""
    stages: Annotated[tuple[StageConfig, ...], Field(min_length=1)] | None = None
    """Stages of training, one after the other; null: the head alone, on the frozen backbone."""
    from_scratch: bool = False
    """Train the same network from random weights: every stage trains all of it."""
    labels_per_class: Count | None = None
    """Train on this many samples of each class only; smaller draws are inside larger ones."""
    best_of: Name | None = None
    """Start from the best settings that this earlier sweep found."""


class Select(Strict):
    """How a sweep's best member is chosen; the test split has no say."""

    metric: Literal["accuracy", "loss"] = "accuracy"
    """Validation figure; ties in accuracy are broken by validation loss."""


class SweepPart(ModelPart):
    """A grid of models that differ in numbers; on cached features they train as one batch."""

    kind: Literal["sweep"]  # type: ignore[assignment]
    grid: Annotated[
        dict[str, Annotated[tuple[float | int, ...], Field(min_length=1)]], Field(min_length=1)
    ]
    """Dotted keys such as optimizer.learning_rate, each with values to try; all combinations."""
    select: Select = Select()


class ZeroShotPart(Strict):
    """A pretrained classifier as it is, on a data set whose classes are among its own."""

    kind: Literal["zero_shot"]
    title: str = ""
    """What a reader sees; empty: the part's name."""
    backbone: Name | None = None
    """Key of one of `backbones`; null: the first."""
    wordnet: dict[str, str] = Field(default_factory=dict)
    """WordNet ids of classes whose names are neither such an id nor a name of ImageNet's."""
    top_images: Annotated[
        Annotated[Count, Tag("~number")]
        | Annotated[tuple[str, ...], Field(min_length=1), Tag("~list")],
        Discriminator(by_shape),
    ] = 3
    """Pictures of the test split to show with the ten most probable classes: how many (a seeded
    draw), or their names."""
    seed: int = 0
    """Draws the pictures to show."""


class EnsemblePart(Strict):
    """Earlier parts that vote."""

    kind: Literal["ensemble"]
    title: str = ""
    """What a reader sees; empty: the part's name."""
    members: Annotated[tuple[Name, ...], Field(min_length=2)]
    """Names of earlier parts."""
    voting: Literal["soft", "weighted", "hard", "greedy"] = "soft"
    """soft: mean of the probabilities; weighted: weights that fit validation best; hard: one vote
    each; greedy: members picked one by one while validation gains."""


TrainedPart = ModelPart | SweepPart
Part = Annotated[ModelPart | SweepPart | ZeroShotPart | EnsemblePart, Field(discriminator="kind")]
