"""How much of a figure is the luck of the seed: the same training, repeated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from headstart.config import schema
from headstart.types import FloatArray, Goal, IntArray, JsonDict

_LEAST = 1e-12  # probabilities are clipped here, as where the loss is reported


@dataclass(frozen=True, slots=True)
class Repeat:
    """What one seed reached.

    Attributes:
        seed: The seed.
        figures: Split -> metric -> value: accuracy and loss, or mse and mae of a regression.
    """

    seed: int
    figures: Mapping[str, Mapping[str, float]]


def repeat_of(
    seed: int, splits: Mapping[str, tuple[IntArray | FloatArray, FloatArray]], goal: Goal
) -> Repeat:
    """Return what one seed reached.

    Args:
        seed: The seed.
        splits: What is true and what was said by split: class indices [n] and probabilities
            [n, classes], or numbers [n] twice.
        goal: Which of the two.

    Returns:
        Its figures.
    """

    def figures(truth: IntArray | FloatArray, said: FloatArray) -> dict[str, float]:
        if goal == "regression":
            errors = said.astype(np.float64) - truth
            return {"mse": float(np.square(errors).mean()), "mae": float(np.abs(errors).mean())}
        own = said[np.arange(len(truth)), truth.astype(np.int64)].astype(np.float64)
        return {
            "accuracy": float((said.argmax(axis=1) == truth).mean()),
            "loss": float(-np.log(np.clip(own, _LEAST, 1)).mean()),
        }

    return Repeat(seed, {split: figures(*pair) for split, pair in splits.items()})


def seeds_record(part: schema.TrainedPart, repeats: Sequence[Repeat]) -> JsonDict | None:
    """Return what results.json says of a model with several seeds.

    Args:
        part: The model.
        repeats: What each seed reached; seeds that diverged are missing.

    Returns:
        ``seeds``, and by split and metric ``values``, ``mean`` and ``sd`` (of the sample, n - 1);
        None where there are not two.
    """
    if part.seeds == 1 or len(repeats) < 2:
        return None
    record: JsonDict = {"asked": part.seeds, "seeds": [r.seed for r in repeats]}
    for split, metrics in repeats[0].figures.items():
        record[split] = {}
        for metric in metrics:
            values = [r.figures[split][metric] for r in repeats]
            record[split][metric] = {
                "values": [round(v, 10) for v in values],
                "mean": round(float(np.mean(values)), 10),
                "sd": round(float(np.std(values, ddof=1)), 10),
            }
    return record


__all__ = ["Repeat", "repeat_of", "seeds_record"]
