"""JSON from elsewhere: what the standard says and no more, and one kind of error for the rest."""

import json
import math
from typing import Any, NoReturn


def parse_json(data: bytes | str) -> Any:
    """Read JSON that anybody may have written.

    Args:
        data: The text; bytes are UTF-8.

    Returns:
        Its value; every number in it is finite.

    Raises:
        ValueError: It is no JSON, has NaN or Infinity (which JSON has not), a number that is too
            large for a float, or is nested too deeply.
    """
    try:
        return json.loads(data, parse_constant=_refused, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _refused(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits:.40} is too large")
    return value
