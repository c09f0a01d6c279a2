"""How a model is trained: optimisers, schedules, loss, stages."""

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from headstart.config.values import (
    Count,
    Momentum,
    NonNegative,
    Positive,
    Share,
    Strict,
    by_shape,
)


class SGD(Strict):
    """Stochastic gradient descent."""

    kind: Literal["sgd"] = "sgd"
    learning_rate: Positive = 0.01
    momentum: Momentum = 0.0
    nesterov: bool = False
    weight_decay: NonNegative = 0.0
    weight_decay_on: Literal["all", "weights"] = "all"
    """weights: biases and the numbers of normalisations do not decay."""


class Adam(Strict):
    """Adam (Kingma, Ba 2015), weight decay as an L2 penalty."""

    kind: Literal["adam"]
    learning_rate: Positive = 0.001
    beta1: Momentum = 0.9
    beta2: Momentum = 0.999
    epsilon: Positive = 1e-8
    weight_decay: NonNegative = 0.0
    weight_decay_on: Literal["all", "weights"] = "all"
    """weights: biases and the numbers of normalisations do not decay."""


class AdamW(Strict):
    """Adam with decoupled weight decay (Loshchilov, Hutter 2019)."""

    kind: Literal["adamw"]
    learning_rate: Positive = 0.001
    beta1: Momentum = 0.9
    beta2: Momentum = 0.999
    epsilon: Positive = 1e-8
    weight_decay: NonNegative = 0.01
    weight_decay_on: Literal["all", "weights"] = "all"
    """weights: biases and the numbers of normalisations do not decay."""


class RMSProp(Strict):
    """RMSProp (Tieleman, Hinton 2012)."""

    kind: Literal["rmsprop"]
    learning_rate: Positive = 0.001
    alpha: Momentum = 0.99
    momentum: Momentum = 0.0
    epsilon: Positive = 1e-8
    weight_decay: NonNegative = 0.0
    weight_decay_on: Literal["all", "weights"] = "all"
    """weights: biases and the numbers of normalisations do not decay."""


OptimizerConfig = Annotated[SGD | Adam | AdamW | RMSProp, Field(discriminator="kind")]


class Warm(Strict):
    """What every schedule can begin with."""

    warmup_epochs: NonNegative = 0.0
    """Epochs, or a part of one, in which the learning rate rises linearly from near zero."""


class Constant(Warm):
    """The same learning rate throughout."""

    kind: Literal["constant"] = "constant"


class Step(Warm):
    """× gamma after every `every` epochs."""

    kind: Literal["step"]
    gamma: Positive = 0.1
    every: Count = 10


class Exponential(Warm):
    """× gamma after every epoch."""

    kind: Literal["exponential"]
    gamma: Positive = 0.9


class Cosine(Warm):
    """From the learning rate to zero along half a cosine."""

    kind: Literal["cosine"]


class Linear(Warm):
    """From the learning rate to zero along a straight line."""

    kind: Literal["linear"]


class InverseTime(Warm):
    """Divided by 1 + decay × (steps done): Keras's `decay`."""

    kind: Literal["inverse_time"]
    decay: Positive = 1e-4


Schedule = Annotated[
    Constant | Step | Exponential | Cosine | Linear | InverseTime, Field(discriminator="kind")
]


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


class AugmentationConfig(Strict):
    """Random changes to the pictures that train; validation and test see them as they are."""

    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Turn by up to so many degrees either way."""
    crop: Annotated[float, Field(gt=0, le=1)] | None = None
    """Cut out a rectangle of this share of the area or more, and stretch it to the input."""
    shift: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Move by up to this share of the height and width."""
    flip: bool = False
    """Mirror left and right, every second time."""
    vertical_flip: bool = False
    """Mirror top and bottom, every second time."""
    brightness: Share = 0.0
    contrast: Share = 0.0
    saturation: Share = 0.0
    erase: Share = 0.0
    """Probability that a rectangle becomes the mean colour."""
    views: Count | None = None
    """Draw this many versions of each picture once, store their features, and use them in turn;
    null: new draws in every epoch, which nothing can store."""


class Last(Strict):
    """The last stages of the backbone that have weights, besides the head."""

    last: Count


Trainable = Annotated[
    Annotated[Literal["head", "all"], Tag("~text")]
    | Annotated[Last, Tag("~keys")]
    | Annotated[tuple[str, ...], Field(min_length=1), Tag("~list")],
    Discriminator(by_shape),
]


class StageConfig(Strict):
    """One stage of a training: what learns, how, for how long. What is null is as in the part."""

    name: Annotated[str, Field(min_length=1, max_length=60)] | None = None
    """What a reader sees; null: what is trainable."""
    trainable: Trainable = "head"
    """head; all; {last: 3} (that many stages with weights, and the head); or names of backbone
    stages or groups, such as [layer4] (and the head)."""
    epochs: Count | None = None
    batch_size: Count | None = None
    """Samples per optimiser step."""
    micro_batch_size: Count | None = None
    """Samples that are in memory at once; gradients add up to `batch_size`."""
    optimizer: OptimizerConfig | None = None
    learning_rates: dict[str, Positive] = Field(default_factory=dict)
    """Learning rates of groups, where they differ: head, or names of backbone stages or groups."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Each backbone stage learns at this factor of the rate of the stage after it."""
    schedule: Schedule | None = None
    loss: Loss | None = None
    early_stopping: EarlyStoppingConfig | None = None
    keep: Literal["best", "last"] | None = None
    batch_norm: Literal["follow", "frozen", "train"] = "follow"
    """follow: BatchNorm is frozen where its stage is, and learns where it learns; frozen: no
    BatchNorm of the backbone learns or moves; train: all of them do, also in frozen stages."""
    augmentation: AugmentationConfig | None = None
    mixup: Positive | None = None
    """Blend each picture with another (Zhang et al. 2018): alpha of the Beta distribution."""
    cutmix: Positive | None = None
    """Paste a piece of another picture (Yun et al. 2019): alpha of the Beta distribution."""
    clip_norm: Positive | None = None
    """Scale the gradients down where their norm is above this."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Keep a running average of the weights, of this decay per step, and use it."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """What the forward pass of the training steps computes in; weights stay float32. auto: bfloat16
    on a GPU that computes in it, where stages of the backbone are trained; else float32."""
    features: Literal["auto", "stored", "recomputed"] = "auto"
    """What the frozen part computes: stored once, or recomputed at every step; auto: what is
    faster and fits on the disk."""
