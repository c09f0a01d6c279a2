"""What cannot go together in a part with stages, found on the raw values."""

from typing import Any

from headstart.config.explain import Problem


def check_stages(where: str, part: dict[str, Any]) -> list[Problem]:
    """Return the problems of a part's head, mode and stages.

    Args:
        where: The part's dotted key.
        part: Its raw values, of any shape.

    Returns:
        The problems found; wrong shapes are left to the schema.
    """
    problems: list[Problem] = []
    head = part.get("head")
    logistic = isinstance(head, dict) and head.get("kind") == "logistic"
    stages = part.get("stages")
    staged = stages is not None or part.get("from_scratch") is True
    if logistic and part.get("mode") == "standard":
        expected = "cached with a logistic head, which has no steps"
        problems.append(Problem(f"{where}.mode", "'standard'", expected))
    if not staged:
        return problems
    if logistic:
        expected = "linear or mlp in a training with stages"
        problems.append(Problem(f"{where}.head.kind", "'logistic'", expected))
    if part.get("mode") == "standard":
        expected = "nothing in a training with stages: each stage has `features`"
        problems.append(Problem(f"{where}.mode", "'standard'", expected))
    for index, stage in enumerate(stages if isinstance(stages, list) else []):
        if isinstance(stage, dict):
            problems += _stage(f"{where}.stages.{index}", stage, part)
    return problems


def _stage(where: str, stage: dict[str, Any], part: dict[str, Any]) -> list[Problem]:
    problems: list[Problem] = []
    augmentation = stage.get("augmentation")
    fresh = isinstance(augmentation, dict) and augmentation.get("views") is None
    reasons = {
        "all of the network is trained": stage.get("trainable") == "all"
        or part.get("from_scratch") is True,
        "BatchNorm moves in frozen stages (batch_norm: train)": stage.get("batch_norm") == "train",
        "mixup and cutmix blend pictures anew at every step": stage.get("mixup") is not None
        or stage.get("cutmix") is not None,
        "the augmentation draws anew in every epoch; give it `views` to store some": fresh,
    }
    if stage.get("features") == "stored":
        problems += [
            Problem(f"{where}.features", "'stored'", "auto or recomputed", reason)
            for reason, holds in reasons.items()
            if holds
        ]
    optimizer = stage.get("optimizer")
    settings = optimizer if isinstance(optimizer, dict) else {}
    if settings.get("nesterov") is True and settings.get("momentum", 0) == 0:
        expected = "a momentum above 0 with it"
        problems.append(Problem(f"{where}.optimizer.nesterov", "true", expected))
    size = stage.get("batch_size", part.get("batch_size", 32))
    micro = stage.get("micro_batch_size")
    if isinstance(micro, int) and isinstance(size, int) and micro > size:
        expected = f"at most batch_size, {size}"
        problems.append(Problem(f"{where}.micro_batch_size", str(micro), expected))
    return problems
