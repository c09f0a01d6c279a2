"""What the analysis of a run found, and the words that its tables and sentences share."""

from collections.abc import Mapping
from typing import Any

from headstart.report.nouns import many
from headstart.types import JsonDict

NEAR_DUPLICATES = "analysis/near_duplicates"
NEAR_DUPLICATE_SCORES = "analysis/near_duplicates/models"
SUSPICIOUS_LABELS = "analysis/suspicious_labels"
LEARNING_CURVES = "analysis/learning_curves"  # with the position of one


def part(results: JsonDict, key: str) -> JsonDict | None:
    """Return what one part of the analysis found, or None where it was not made."""
    found = (results.get("analysis") or {}).get(key)
    return dict(found) if isinstance(found, Mapping) and found else None


def curves(results: JsonDict) -> list[tuple[int, JsonDict]]:
    """Return the learning curves that have at least one point, each with its position."""
    found = (results.get("analysis") or {}).get("learning_curves") or ()
    return [(i, dict(c)) for i, c in enumerate(found) if c and points(c)]


def points(curve: Mapping[str, Any]) -> list[JsonDict]:
    """Return the points of a learning curve with a mean accuracy, the fewest labels first."""
    known = [
        dict(p)
        for p in curve.get("points") or ()
        if p.get("n") and (p.get("accuracy") or {}).get("mean") is not None
    ]
    return sorted(known, key=lambda p: int(p["n"]))


def network(results: JsonDict, record: Mapping[str, Any]) -> str:
    """Return the name of the backbone whose features were looked at.

    Args:
        results: The content of results.json.
        record: A part of the analysis, with the backbone's key.

    Returns:
        Its name, or its key where the run does not say more; two networks of one name (other
        inputs, say) keep their keys in parentheses.
    """
    key = str(record.get("backbone"))
    names = {str(b.get("key")): str(b.get("name") or b.get("key")) for b in _backbones(results)}
    name = names.get(key, key)
    return name if list(names.values()).count(name) < 2 else f"{name} ({key})"


def features(results: JsonDict, record: Mapping[str, Any]) -> str:
    """Say which features were looked at: those of a backbone, up to its cut."""
    cut = record.get("cut")
    return f"features of {network(results, record)}" + (f" at the cut “{cut}”" if cut else "")


def samples(results: JsonDict, number: int) -> str:
    """Return the word for so many samples, without the number."""
    words = many(results)
    return words.removesuffix("s") if number == 1 else words


def _backbones(results: JsonDict) -> list[JsonDict]:
    return list(results.get("backbones") or ())
