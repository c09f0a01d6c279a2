"""One prediction in the words in which all commands and the server give it."""

from typing import Protocol

import numpy as np

from headstart.types import FloatArray, Goal, JsonDict


class Answering(Protocol):
    """What has to be known of a model to say what its numbers mean."""

    @property
    def goal(self) -> Goal:
        """What the model tells."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the probabilities."""
        ...


def answer(info: Answering, name: str, row: FloatArray | float, top: int = 5) -> JsonDict:
    """Return one prediction as JSON-like values.

    Args:
        info: Of the model.
        name: What the sample is called.
        row: Class probabilities [classes]; or the value of a regression.
        top: How many classes are told at most, the most probable first.

    Returns:
        ``{"input", "label", "probability", "top": [{"label", "probability"}, …]}``, or
        ``{"input", "value"}``.
    """
    if info.goal == "regression":
        return {"input": name, "value": float(np.asarray(row).reshape(()))}
    probabilities = np.asarray(row)
    # The first of equals, as everywhere else.
    order = np.argsort(-probabilities, kind="stable")[: max(top, 1)]
    best = [{"label": info.classes[i], "probability": float(probabilities[i])} for i in order]
    return {"input": name, **best[0], "top": best[: max(top, 0)]}


def failed(name: str, reason: str) -> JsonDict:
    """Return what stands for a sample that could not be read: ``{"input", "error"}``."""
    return {"input": name, "error": reason}
