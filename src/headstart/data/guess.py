"""What somebody's data are, where they do not say: pictures or texts."""

from collections.abc import Mapping
from typing import Literal

from headstart.data.source import open_source
from headstart.errors import DataError


def guess_kind(place: str, columns: Mapping[str, str] | None = None) -> Literal["auto", "text"]:
    """Return how a path is to be opened: as pictures of whatever layout, or as texts.

    Args:
        place: Folder, archive or table.
        columns: Names of columns, where they were given; ``text`` and ``pair`` mean texts.

    Returns:
        ``auto`` for pictures, ``text`` for texts and pairs of texts.

    Raises:
        DataError: It is neither; the message says what is wrong with it as both.
    """
    reasons = {}
    texts = bool(columns) and bool({"text", "pair"} & set(columns or {}))
    kinds: tuple[Literal["auto", "text"], ...] = ("text",) if texts else ("auto", "text")
    for kind in kinds:
        try:
            source = open_source(kind, place, columns=columns)
        except DataError as error:
            reasons[kind] = str(error)
            continue
        found = len(source.rows)
        source.close()
        if found:
            return kind
        reasons[kind] = "nothing was found in it"
    if len(set(reasons.values())) == 1:
        raise DataError(next(iter(reasons.values())))
    raise DataError(
        f"{place}: neither pictures nor texts with labels.\n  as pictures: "
        f"{reasons.get('auto', 'not tried')}\n  as texts: {reasons['text']}"
    )
