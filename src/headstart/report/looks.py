"""Says which other experiments read the same test split before."""

from collections.abc import Mapping, Sequence
from typing import Any

from headstart.report.text import day, plural
from headstart.types import JsonDict

_MOST_NAMED = 3  # in a sentence; the table names more
_MOST_LISTED = 12


def earlier(results: JsonDict) -> Sequence[Mapping[str, Any]]:
    """Return the other experiments that read the test split of a run before it did."""
    return list((results.get("test_looks") or {}).get("earlier") or ())


def sentence(results: JsonDict, most: int = _MOST_LISTED) -> str:
    """Return who read the test split before, in words.

    Args:
        results: The content of results.json.
        most: The most experiments to name.

    Returns:
        A sentence with names and days, or nothing where this run was the first.
    """
    looks = earlier(results)
    if not looks:
        return ""
    named = [_named(look) for look in looks[:most]]
    if len(looks) > most:
        named.append(plural(len(looks) - most, "other"))
    return (
        f"The test split of this run was read by {plural(len(looks), 'other experiment')} before "
        f"({'; '.join(named)}): what was chosen since may lean to it, and its scores may flatter."
    )


def advice(results: JsonDict) -> list[JsonDict]:
    """Return the sentence as advice, or nothing where this run was the first to look."""
    text = sentence(results, _MOST_NAMED)
    return [{"topic": "data", "text": text, "rows": ["test_looks"]}] if text else []


def _named(look: Mapping[str, Any]) -> str:
    name = str(look.get("study") or "an unnamed one")
    if look.get("profile"):
        name += f", profile {look['profile']}"
    date = day(look.get("when"))
    return f"{name}, {date}" if date else name
