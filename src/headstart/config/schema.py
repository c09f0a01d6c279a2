"""The experiment file as strict, frozen models: what may be written, and what it means.

Unions are tagged by `kind`. The descriptions end up in the JSON schema (`headstart schema`), so
that editors show them.
"""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from headstart.config.data import (
    Data,
    HuggingFaceData,
    LanguageData,
    PathData,
    SampleData,
    SequenceData,
    TextData,
    TorchvisionData,
)
from headstart.config.heads import Head, LogisticHead, MLPHead
from headstart.config.parts import (
    BaselinePart,
    EnsemblePart,
    LanguageModelPart,
    ModelPart,
    Part,
    Range,
    Search,
    SweepPart,
    TrainedPart,
    ZeroShotPart,
)
from headstart.config.training import (
    SGD,
    AugmentationConfig,
    EarlyStoppingConfig,
    Last,
    Loss,
    OptimizerConfig,
    Schedule,
    StageConfig,
)
from headstart.config.values import Count, Name, NonNegativeInt, Positive, Strict, by_shape


class BackboneConfig(Strict):
    """A pretrained network and where it is cut."""

    name: str
    """timm/NAME, torchvision/NAME, transformers/NAME (of the hub, or a folder), packaged/NAME,
    headstart/NAME, or run:RUN/PART: a language model of an earlier run, RUN its folder or the name
    of its study (the latest run of it in `runs`)."""
    weights: str = "pretrained"
    """pretrained, random, or the path of a .safetensors or .pth file."""
    seed: int = 0
    """Seed of random weights."""
    image_size: Count | None = None
    """Height and width of its input in pixels; null: as it was trained."""
    fit: Literal["crop", "resize", "pad"] | None = None
    """How a picture is brought to that size; null: as `data.fit` says."""
    cut: str | None = None
    """Last frozen stage; null: the pooled features before the classifier."""
    max_length: Count | None = None
    """Texts: tokens at most, more are cut off; null: the network's own limit, 512 at most."""
    pooling: Literal["mean", "max", "first", "last", "attention", "pooler"] | None = None
    """Texts and series: how one vector is made of a sequence; attention learns it, in the stage
    `pooled`; pooler: the network's own layer on the first token (CLS); null: mean of a transformer,
    max of a language model, last of a series."""
    pairs: Literal["together", "separately"] | None = None
    """Pairs of texts: as one sequence, or each by itself and [u; v; |u - v|; u * v] of both; null:
    together in a transformer, separately in a language model."""
    tokenizer: str | None = None
    """Texts: a tokenizer's folder or tokenizer.json, where the network's own shall not be used."""
    strip_markup: bool = False
    """Texts: take HTML tags such as <br /> out first."""
    hidden: Count | None = None
    """headstart/elman, gru, lstm: width of the layers; null: 64."""
    layers: Count | None = None
    """headstart/elman, gru, lstm: how many; null: 1."""


RECOMMENDED = "recommended"


class ComparisonConfig(Strict):
    """Compare two parts on the test split: agreement, difference in accuracy, time."""

    a: Name
    b: Name


class Target(Strict):
    """A figure that the study must reach; `headstart check` fails if it does not."""

    part: Name
    """The part whose (best) model is asked; recommended: the one that validation chose."""
    metric: str
    """SPLIT.METRIC such as test.accuracy, test.perplexity or test.mse; or, with `against`, speedup,
    agreement, or gain (this part's test accuracy minus the other's; of a regression the other's
    squared error minus this one's)."""
    op: Literal[">=", ">", "<=", "<"] = ">="
    value: float
    against: Name | None = None
    """speedup, agreement, gain: the other part."""


class ReportConfig(Strict):
    """How the report looks."""

    max_pages: Count | None = 8
    """Pages of the PDF at most; null: as many as it takes."""


class Cache(Strict):
    """How frozen features are computed and kept."""

    dtype: Literal["float32", "float16"] = "float32"
    engine: Literal["auto", "torch", "onnxruntime", "openvino"] = "auto"
    """auto: the fastest on this machine that agrees with torch."""
    batch_size: Count = 32
    shared: str | None = None
    """A second home of the features, for several machines: s3://bucket/folder, /mnt/shared, or
    whatever fsspec knows; what lies there is fetched, what is computed is put there."""


class Checkpoints(Strict):
    """How often a training in progress is saved, so that `headstart resume` can go on."""

    minutes: Positive | None = 2.0
    """Minutes between two checkpoints; null: none by time."""
    steps: Count | None = None
    """Optimiser steps between two checkpoints; null: none by steps."""


class Timing(Strict):
    """How the time of the prediction step is measured."""

    measure: bool = True
    """Measure it, once for each architecture: the network's forward pass over the test split."""
    samples: Count | None = 500
    """Samples that are timed at most, the first ones; null: the whole test split."""
    repeats: Count = 3
    """Passes; the median counts."""
    batch_size: Count = 32


class Analysis(Strict):
    """What is looked into once the models are there; of classifications."""

    mistakes: NonNegativeInt = 12
    """Mistakes of the recommended model to show, the most confident first."""
    near_duplicates: bool = True
    """Look for test samples that have a near-copy among the training samples, by the frozen
    features that are stored, and score the models without them."""
    suspicious_labels: bool = True
    """Look for wrong labels among training and validation samples (confident learning)."""
    learning_curve: bool = False
    """Train a probe on 5 to 100% of the labels: are more labels wanted, or a bigger backbone?"""
    max_samples: Count = 10_000
    """Samples that the last two look at, at most; a seeded draw."""


Example = Annotated[
    Annotated[str, Tag("~text")]
    | Annotated[tuple[str, ...], Field(min_length=2, max_length=2), Tag("~list")],
    Discriminator(by_shape),
]


class Experiment(Strict):
    """A study: data, backbones, and the parts (models, sweeps, ensembles …) that are compared."""

    name: Name
    title: str
    description: str = ""
    notes: tuple[str, ...] = ()
    """Stated in the report, such as what stands in for what."""
    data: Data
    backbones: dict[Name, BackboneConfig] = Field(default_factory=dict)
    """Networks by key; a part that names none takes the first."""
    parts: Annotated[dict[Name, Part], Field(min_length=1)]
    """Models, sweeps, zero-shot classifiers and ensembles by name, in the order they run in."""
    examples: tuple[Example, ...] = ()
    """Texts, or pairs of texts, whose class every trained model is to tell in the report."""
    comparisons: tuple[ComparisonConfig, ...] = ()
    targets: tuple[Target, ...] = ()
    report: ReportConfig = ReportConfig()
    cache: Cache = Cache()
    checkpoints: Checkpoints = Checkpoints()
    timing: Timing = Timing()
    analysis: Analysis = Analysis()
    device: str = "auto"
    """auto, cpu, cuda, cuda:N."""
    workers: Count = 2
    """Threads that decode samples."""
    profile: str | None = None
    """The profile that was applied; written by Headstart."""
    profiles: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Named sets of changes to this file; `--profile` applies one."""

    @classmethod
    def load(
        cls,
        source: str,
        *,
        profile: str | None = None,
        data: str | None = None,
        overrides: tuple[str, ...] = (),
    ) -> "Experiment":
        """Load an experiment that ships with Headstart, by name, or a file.

        Args:
            source: A name that `headstart experiments` lists, or the path of a YAML file.
            profile: Which of its profiles to apply; None for the file as it stands.
            data: Where the data are; replaces `data.path` (or `data.name`).
            overrides: Changes as ``dotted.key=value``, the value in YAML.

        Returns:
            The validated experiment.

        Raises:
            ConfigError: The file is missing or not valid; the message lists every problem.
        """
        from headstart.config.load import load_experiment

        return load_experiment(source, profile=profile, data=data, overrides=overrides)


__all__ = [
    "RECOMMENDED",
    "SGD",
    "Analysis",
    "AugmentationConfig",
    "BackboneConfig",
    "BaselinePart",
    "Cache",
    "Checkpoints",
    "ComparisonConfig",
    "Data",
    "EarlyStoppingConfig",
    "EnsemblePart",
    "Experiment",
    "Head",
    "HuggingFaceData",
    "LanguageData",
    "LanguageModelPart",
    "Last",
    "LogisticHead",
    "Loss",
    "MLPHead",
    "ModelPart",
    "OptimizerConfig",
    "Part",
    "PathData",
    "Range",
    "ReportConfig",
    "SampleData",
    "Schedule",
    "Search",
    "SequenceData",
    "StageConfig",
    "SweepPart",
    "Target",
    "TextData",
    "Timing",
    "TorchvisionData",
    "TrainedPart",
    "ZeroShotPart",
]
