"""Whether two runs found the same: everything in their results but times."""

import re
from typing import Any

TIMES = frozenset(
    {
        *("created", "wall_seconds", "extraction_seconds", "seconds", "images_per_second"),
        *("prediction", "test_looks", "environment"),
        *("seconds_a", "seconds_b", "speedup"),
    }
)
_DURATION = re.compile(
    r"\d[\d.,]*([ \u00a0\u202f](s|min|h)\b|× as fast)|\bthe (quickest|slowest)\b"
)


def without_times(value: Any) -> Any:
    """Return results without what differs between two runs that did the same."""
    if isinstance(value, dict):
        # What a target of a speed-up came to is a quotient of times; whether it is met is told.
        left_out = TIMES | {"got"} if value.get("metric") == "speedup" else TIMES
        return {k: without_times(v) for k, v in value.items() if k not in left_out}
    if isinstance(value, list):
        return [without_times(v) for v in value]
    return _DURATION.sub("so long", value) if isinstance(value, str) else value


def differences(a: Any, b: Any, place: str = "") -> list[str]:
    """Return where two results differ, as dotted places; nothing where they are alike."""
    if isinstance(a, dict) and isinstance(b, dict):
        return [
            found
            for key in sorted({*a, *b})
            for found in differences(a.get(key), b.get(key), f"{place}.{key}".lstrip("."))
        ]
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return [
            found
            for number, (x, y) in enumerate(zip(a, b, strict=True))
            for found in differences(x, y, f"{place}.{number}")
        ]
    return [] if a == b else [f"{place}: {str(a)[:60]!r}, {str(b)[:60]!r}"]
