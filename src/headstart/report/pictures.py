"""Reads the small pictures that a run put into its own folder, and nothing from outside it."""

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

LARGEST_BYTES = 512 * 1024  # of one picture: a report holds dozens, and must open on a phone
LARGEST_EDGE = 1024  # in pixels


@dataclass(frozen=True, slots=True)
class Picture:
    """A small picture as its file holds it.

    Attributes:
        data: The content of the file.
        kind: Its format; no other is shown.
        width: In pixels.
        height: In pixels.
    """

    data: bytes
    kind: Literal["jpeg", "png"]
    width: int
    height: int


def inside(run_folder: Path, relative: str | None) -> Path | None:
    """Return the path of a file of a run, as results.json names it.

    Args:
        run_folder: The folder that a run has written.
        relative: The path that results.json gives.

    Returns:
        The file, or None where there is none, or where the path (or what it links to) leads out of
        the folder: what results.json says may have been edited, and must not open other files.
    """
    if not relative or "\0" in relative:
        return None
    path = (run_folder / relative).resolve()
    if not path.is_relative_to(run_folder.resolve()) or not path.is_file():
        return None
    return path


def read_picture(run_folder: Path, relative: str | None) -> Picture | None:
    """Read a picture that can be shown.

    Args:
        run_folder: The folder that a run has written.
        relative: The path that results.json gives.

    Returns:
        The picture, or None where the file is not inside the run folder, is larger than
        `LARGEST_BYTES` or `LARGEST_EDGE`, or is no whole JPEG or PNG.
    """
    path = inside(run_folder, relative)
    if path is None or path.stat().st_size > LARGEST_BYTES:
        return None
    from PIL import Image, UnidentifiedImageError

    data = path.read_bytes()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, which is not shown
            with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
                width, height = image.size
                if max(width, height) > LARGEST_EDGE:
                    return None
                image.load()  # a torn file would stop the whole report when it is typeset
                return Picture(data, "png" if image.format == "PNG" else "jpeg", width, height)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError):
        return None
