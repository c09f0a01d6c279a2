"""What a sample is called: a picture, a text, a pair, a sequence or a token."""

from headstart.report.text import capital, plural
from headstart.types import JsonDict

PICTURE = "picture"


def one(results: JsonDict) -> str:
    """Return the word for one sample."""
    return str((results.get("data") or {}).get("noun") or PICTURE)


def many(results: JsonDict) -> str:
    """Return the word for several samples."""
    return one(results) + "s"


def heading(results: JsonDict) -> str:
    """Return the word for several samples as the head of a column."""
    return capital(many(results))


def counted(results: JsonDict, number: int) -> str:
    """Return a number of samples in words: 1 text, 12 texts."""
    return plural(number, one(results))
