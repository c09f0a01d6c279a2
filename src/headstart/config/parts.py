"""The parts of a study: models, sweeps, pretrained classifiers as they are, ensembles."""

import os
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

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
from headstart.config.values import (
    Count,
    Drop,
    Name,
    NonNegative,
    NonNegativeInt,
    Positive,
    Strict,
    by_shape,
)


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
    record_steps: Count | None = None
    """Also record the mean training loss every so many optimiser steps."""
    seeds: Count = 1
    """Train with so many seeds (`seed` and those after it): mean and standard deviation are
    reported, and the first stands for the part. Heads on cached features train as one batch."""
    calibrate: bool = False
    """Divide the logits by a temperature that is fitted on validation (Guo et al. 2017): the
    probabilities change, the classes do not."""
    max_minutes: Positive | None = None
    """End each stage's training after the epoch behind which the next would last longer."""
    labels_per_class: Count | None = None
    """Train on this many samples of each class only; smaller draws are inside larger ones."""
    best_of: Name | None = None
    """Start from the best settings that this earlier sweep found."""


class Select(Strict):
    """How a sweep's best member is chosen; the test split has no say."""

    metric: Literal["accuracy", "loss"] = "accuracy"
    """Validation figure; ties in accuracy are broken by validation loss."""


class Range(Strict):
    """Numbers between two, both included."""

    low: float
    high: float
    log: bool = False
    """Draw by the logarithm: as many from 0.001 to 0.01 as from 0.01 to 0.1."""

    @model_validator(mode="after")
    def _is_one(self) -> "Range":
        if not self.low < self.high or (self.log and self.low <= 0):
            wanted = "0 < low < high" if self.log else "low < high"
            raise ValueError(f"expected {wanted}")
        return self


class Search(Strict):
    """Settings that are chosen one after the other, by how the earlier ones did (Optuna)."""

    space: Annotated[
        dict[str, Range | Annotated[tuple[float | int, ...], Field(min_length=1)]],
        Field(min_length=1),
    ]
    """Dotted keys such as optimizer.learning_rate, each with a range or values."""
    trials: Count = 30
    """How many settings are tried."""
    sampler: Literal["tpe", "random"] = "tpe"
    """tpe: where good ones were found before (Bergstra et al. 2011); random: anywhere."""
    pruning: Literal["median", "none"] = "median"
    """median: a trial ends after the epoch, not its first, by which its best validation figure (the
    one that `select` names) is worse than the median of the earlier trials' in that epoch."""
    storage: str | None = None
    """Where trials are kept, as Optuna takes it: postgresql://…, sqlite:///…; null: in the run
    folder. The run folder's experiment.yaml keeps it as it is here, a password too."""

    @field_validator("storage")
    @classmethod
    def _is_one_for_all(cls, storage: str | None) -> str | None:
        """Name a file from the root: a relative one would be another in each working folder."""
        if storage is None:
            return None
        scheme, _, rest = storage.partition("://")
        name, mark, options = rest.removeprefix("/").partition("?")
        if scheme.partition("+")[0] != "sqlite":
            return storage
        if name in ("", ":memory:"):
            raise ValueError("expected a database that outlives the program")
        if not rest.startswith("/") or name.startswith("file:"):
            return storage  # no path, or one that its options explain
        return f"{scheme}:///{os.path.abspath(os.path.expanduser(name))}{mark}{options}"


class SweepPart(ModelPart):
    """Models that differ in numbers; a grid of them on cached features trains as one batch."""

    kind: Literal["sweep"]  # type: ignore[assignment]
    grid: (
        Annotated[
            dict[str, Annotated[tuple[float | int, ...], Field(min_length=1)]], Field(min_length=1)
        ]
        | None
    ) = None
    """Dotted keys such as optimizer.learning_rate, each with values to try; all combinations."""
    search: Search | None = None
    """In the place of a grid: settings that are searched for."""
    select: Select = Select()
    tried: tuple[dict[str, float | int], ...] = ()
    """What a search has tried; the run fills it in."""

    @model_validator(mode="after")
    def _has_one(self) -> "SweepPart":
        if (self.grid is None) == (self.search is None):
            raise ValueError("expected a grid or a search, and not both")
        return self


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


class BaselinePart(Strict):
    """What knows nothing of the input: the training mean, or the shares of the classes."""

    kind: Literal["baseline"]
    title: str = ""
    """What a reader sees; empty: the part's name."""


class Reference(Strict):
    """A published figure, for orientation."""

    name: str
    perplexity: Positive
    source: str


class LanguageModelPart(Strict):
    """A recurrent language model, trained from random weights; a backbone for later studies."""

    kind: Literal["language_model"]
    title: str = ""
    """What a reader sees; empty: the part's name."""
    cell: Literal["elman", "gru", "lstm"] = "lstm"
    embedding: Count = 200
    """Width of the word vectors."""
    hidden: Count = 200
    """Width of the recurrent layers."""
    layers: Count = 2
    tied: bool = False
    """Whether words go in and come out by the same vectors (Press, Wolf 2017; Inan et al. 2017)."""
    dropout_input: Drop = 0.0
    """Of word vectors, the same for a whole stretch of text (variational: Gal, Ghahramani 2016)."""
    dropout_hidden: Drop = 0.0
    """Between recurrent layers, likewise."""
    dropout_output: Drop = 0.0
    """Of the last recurrent layer, likewise."""
    dropout_words: Drop = 0.0
    """Of whole words of the vocabulary."""
    dropout_weight: Drop = 0.0
    """Of weights from hidden to hidden (DropConnect: Merity et al. 2017)."""
    alpha: NonNegative = 0.0
    """Penalty on large activations of the last layer (AR: Merity et al. 2017)."""
    beta: NonNegative = 0.0
    """Penalty on their change from word to word (TAR: Merity et al. 2017)."""
    optimizer: OptimizerConfig = SGD()
    schedule: Schedule = Constant()
    epochs: Count = 20
    batch_size: Count = 20
    """Stretches of text that are read side by side."""
    bptt: Annotated[int, Field(ge=2)] = 35
    """Words through which the error goes back."""
    random_bptt: bool = False
    """Draw that number anew at each step (Merity et al. 2017)."""
    clip_norm: Positive | None = 0.25
    """Scale the gradients down where their norm is above this."""
    average_after: Count | None = None
    """Average the weights once validation has been worse than so many epochs before (NT-ASGD:
    Merity et al. 2017)."""
    early_stopping: EarlyStoppingConfig | None = None
    keep: Literal["best", "last"] = "best"
    seed: int = 0
    record_steps: Count | None = None
    """Also record the mean training loss every so many optimiser steps."""
    samples: NonNegativeInt = 3
    """Texts to generate for the report."""
    sample_words: Count = 60
    temperature: Positive = 0.8
    """Below 1 likely words become likelier."""
    references: tuple[Reference, ...] = ()
    """Published figures to show beside its own."""


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
Part = Annotated[
    ModelPart | SweepPart | ZeroShotPart | BaselinePart | LanguageModelPart | EnsemblePart,
    Field(discriminator="kind"),
]
