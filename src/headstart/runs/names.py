"""Names of folders and studies, made of the names of data."""

import re
from pathlib import Path


def study_name(place: str) -> str:
    """Return the name of some data, fit for a folder.

    Args:
        place: Path of a folder, an archive or a table.

    Returns:
        The last part of the path without endings such as ``.tar.gz``; what is neither a letter from
        A to Z nor a digit, a point, a hyphen or an underline becomes a hyphen. At most 60
        characters; ``data`` where nothing is left.
    """
    stem = re.sub(r"(\.tar)?\.[A-Za-z0-9]{1,8}$", "", Path(place).expanduser().resolve().name)
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:60] or "data"
