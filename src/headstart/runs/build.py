"""From configuration to what trains: heads, optimisers, plans."""

import itertools
import json
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from headstart.config import schema
from headstart.data.dataset import Dataset
from headstart.heads import BatchedHead, HeadSpec, build_head
from headstart.train import (
    EarlyStopping,
    Hyperparameters,
    ScheduleSpec,
    TrainPlan,
    pays_to_compile,
    step_precision,
)
from headstart.types import Augmentation, IntArray


def members_of(part: schema.TrainedPart) -> tuple[dict[str, float | int], ...]:
    """Return each member's settings: the grid of a sweep, the seeds of a model with several."""
    if not isinstance(part, schema.SweepPart):
        if part.seeds == 1:
            return ({},)
        return tuple({"seed": part.seed + repeat} for repeat in range(part.seeds))
    if part.grid is None:
        return part.tried
    keys = list(part.grid)
    return tuple(
        dict(zip(keys, values, strict=True)) for values in itertools.product(*part.grid.values())
    )


def with_values(part: schema.TrainedPart, values: Mapping[str, float | int]) -> schema.TrainedPart:
    """Return a part with some of its numbers replaced.

    Args:
        part: A model or sweep.
        values: Dotted keys and their new values.

    Returns:
        A new, validated part of the same kind.
    """
    raw = part.model_dump()
    for key, value in values.items():
        *path, last = key.split(".")
        target = raw
        for step in path:
            target = target[step]
        # A logistic head lists the C to try: the chosen one becomes the only one.
        target[last] = [value] if isinstance(target[last], tuple | list) else value
    return type(part).model_validate_json(json.dumps(raw))


def head_spec(head: schema.Head) -> HeadSpec:
    """Return the architecture that a head's configuration means (logistic: linear)."""
    if isinstance(head, schema.LogisticHead):
        return HeadSpec()
    hidden = head.hidden if isinstance(head, schema.MLPHead) else ()
    return HeadSpec(hidden=hidden, dropout=head.dropout, normalization=head.normalization)


def new_head(head: schema.Head, width: int, classes: int, seeds: Sequence[int]) -> BatchedHead:
    """Build the head that a configuration means, one member for each seed, on the CPU."""
    zero_init = False if isinstance(head, schema.LogisticHead) else head.zero_init
    return build_head(head_spec(head), width, classes, seeds, zero_init=zero_init)


def nesterov(config: schema.OptimizerConfig) -> bool:
    """Return whether an optimiser looks ahead along its momentum; SGD alone can."""
    return isinstance(config, schema.SGD) and config.nesterov


def hyperparameters(config: schema.OptimizerConfig) -> Hyperparameters:
    """Return an optimiser's numbers."""
    known = config.model_dump(exclude={"kind", "nesterov", "weight_decay_on"})
    return Hyperparameters(**known)


def train_plan(
    part: schema.TrainedPart,
    members: Sequence[schema.TrainedPart],
    dataset: Dataset,
    train: IntArray,
) -> TrainPlan:
    """Return what the loop shall do for some members of a part.

    Args:
        part: The model or sweep.
        members: The same part with each member's values, in order.
        dataset: The data.
        train: Positions of the training split.

    Returns:
        The plan.
    """
    return TrainPlan(
        epochs=part.epochs,
        schedule=ScheduleSpec(**part.schedule.model_dump()),
        learning_rates=tuple(m.optimizer.learning_rate for m in members),
        label_smoothing=part.loss.label_smoothing,
        class_weights=_class_weights(part.loss, dataset, train),
        keep=part.keep,
        early_stopping=early_stopping(part.early_stopping),
        seed=members[0].seed,
        goal=dataset.goal,
        record_steps=part.record_steps,
        max_seconds=_seconds(part.max_minutes),
    )


def stages_of(part: schema.TrainedPart) -> tuple[schema.StageConfig, ...]:
    """Return a part's stages with everything filled in that the part says.

    Args:
        part: A model or sweep; without stages it has one that trains the head, and from scratch
            every stage trains all of the network.

    Returns:
        At least one stage.
    """
    given = part.stages if part.stages is not None else (schema.StageConfig(),)
    stages = []
    for stage in given:
        inherited = {
            field: getattr(part, field)
            for field in (
                "epochs",
                "batch_size",
                "optimizer",
                "schedule",
                "loss",
                "early_stopping",
                "keep",
            )
            if getattr(stage, field) is None
        }
        if part.from_scratch:
            inherited["trainable"] = "all"
        stages.append(stage.model_copy(update=inherited))
    return tuple(stages)


def stage_plan(
    stage: schema.StageConfig,
    index: int,
    part: schema.TrainedPart,
    dataset: Dataset,
    train: IntArray,
    *,
    device: torch.device,
    deep: bool,
    fixed: bool,
) -> TrainPlan:
    """Return what the loop shall do in one stage.

    Args:
        stage: From `stages_of`.
        index: Its place, from 0.
        part: The part.
        dataset: The data.
        train: Positions of the training split.
        device: Where torch computes.
        deep: Whether a stage of the backbone is trained, and not the head alone.
        fixed: Whether all samples have one shape.

    Returns:
        The plan of one member.
    """
    assert stage.epochs is not None
    assert stage.batch_size is not None
    assert stage.schedule is not None
    assert stage.loss is not None
    assert stage.optimizer is not None
    assert stage.keep is not None
    steps = stage.epochs * -(-len(train) // stage.batch_size)
    return TrainPlan(
        epochs=stage.epochs,
        schedule=ScheduleSpec(**stage.schedule.model_dump()),
        learning_rates=(stage.optimizer.learning_rate,),
        label_smoothing=stage.loss.label_smoothing,
        class_weights=_class_weights(stage.loss, dataset, train),
        keep=stage.keep,
        early_stopping=early_stopping(stage.early_stopping),
        stage=index,
        seed=part.seed,
        micro_batch_size=stage.micro_batch_size,
        clip_norm=stage.clip_norm,
        ema=stage.ema,
        precision=step_precision(stage.precision, device, deep=deep),
        compiled=deep and pays_to_compile(device, steps, fixed=fixed),
        goal=dataset.goal,
        record_steps=part.record_steps,
        max_seconds=_seconds(part.max_minutes),
    )


def _seconds(minutes: float | None) -> float | None:
    return None if minutes is None else 60 * minutes


def augmentation(config: schema.AugmentationConfig) -> Augmentation:
    """Return the random changes that a configuration means."""
    return Augmentation(**config.model_dump(exclude={"views"}))


def _class_weights(
    loss: schema.Loss, dataset: Dataset, train: IntArray
) -> tuple[float, ...] | None:
    if loss.class_weights != "balanced":
        return None
    classes = len(dataset.classes)
    counts = np.bincount(dataset.labels[train], minlength=classes)
    return tuple(float(len(train) / (classes * max(c, 1))) for c in counts)


def early_stopping(config: schema.EarlyStoppingConfig | None) -> EarlyStopping | None:
    """Return when a training is to stop early, or None."""
    return None if config is None else EarlyStopping(config.patience, config.metric)


def settings_of(part: schema.TrainedPart) -> dict[str, object]:
    """Return everything that decides a model's training, flat, with dotted keys."""
    dumped = part.model_dump()
    if isinstance(part.head, schema.LogisticHead):
        dumped = {k: dumped[k] for k in ("head", "seed")}
    elif part.stages is None and not part.from_scratch:
        dumped = {k: v for k, v in dumped.items() if k not in ("stages", "from_scratch")}
    else:
        # Each stage says everything; what the part says has gone into them.
        stages = {"stages": [s.model_dump() for s in stages_of(part)]}
        own = ("head", "seed", "from_scratch", "max_minutes")
        dumped = {k: dumped[k] for k in own} | stages
    # What a record says of its own accord, or what is no setting of the training.
    structure = {
        *("kind", "extends", "title", "backbone", "grid", "search", "tried", "select", "best_of"),
        *("mode", "labels_per_class", "seeds", "calibrate"),
    }
    if part.max_minutes is None:
        structure.add("max_minutes")
    return flattened({k: v for k, v in dumped.items() if k not in structure})


def flattened(settings: Mapping[str, object]) -> dict[str, object]:
    """Return nested settings flat, with dotted keys; lists of mappings count from 0."""
    flat: dict[str, object] = {}

    def walk(prefix: str, value: object) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{prefix}.{key}" if prefix else key, inner)
        elif isinstance(value, tuple | list) and any(isinstance(v, dict) for v in value):
            for index, inner in enumerate(value):
                walk(f"{prefix}.{index}", {k: v for k, v in inner.items() if v is not None})
        else:
            flat[prefix] = list(value) if isinstance(value, tuple) else value

    walk("", dict(settings))
    return flat
