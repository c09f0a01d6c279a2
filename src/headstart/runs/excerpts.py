"""What a report shows of a sample: a small picture, or the beginning of a text."""

import io
from pathlib import Path

import numpy as np

from headstart._util import files
from headstart.data.dataset import Dataset
from headstart.data.image import decode
from headstart.data.text import decode_text, pair_of
from headstart.types import FloatArray, JsonDict

_SIDE = 160  # pixels of the longer side
_QUALITY = 80
_CHARACTERS = 400
_GREY_SIDE = 32


def excerpt(dataset: Dataset, position: int, folder: Path, relative: str) -> JsonDict:
    """Return what shows one sample, and write its small picture where it is one.

    Args:
        dataset: The samples.
        position: Which one.
        folder: The run folder.
        relative: Path inside it, without a suffix, for the picture.

    Returns:
        ``image`` (path inside the run folder), ``text`` and ``second``; those that a sample has
        not are None.
    """
    shown: JsonDict = {"image": None, "text": None, "second": None}
    data = dataset.read(position)
    if dataset.noun == "picture":
        picture = decode(data)
        picture.thumbnail((_SIDE, _SIDE))
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=_QUALITY)
        shown["image"] = f"{relative}.jpg"
        files.write_bytes(folder / shown["image"], buffer.getvalue())
    elif dataset.noun == "text":
        shown["text"] = _short(decode_text(data)[0])
    elif dataset.noun == "pair":
        first, second = pair_of(data)
        shown["text"], shown["second"] = _short(first), _short(second)
    return shown


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= _CHARACTERS else words[: _CHARACTERS - 1].rstrip() + "…"


def grey(data: bytes) -> FloatArray:
    """Return a picture's grey values at 32 x 32, such that products are correlations.

    Args:
        data: The encoded picture.

    Returns:
        float32, shape [1024], centred and of length 1; zeros for a picture of one colour.
    """
    small = decode(data).convert("L").resize((_GREY_SIDE, _GREY_SIDE), reducing_gap=2.0)
    values = np.asarray(small, dtype=np.float32).reshape(-1)
    values = values - values.mean()
    length = float(np.linalg.norm(values))
    out: FloatArray = values / length if length > 1 else np.zeros_like(values)
    return out


def shingles(text: str) -> frozenset[str]:
    """Return all runs of three words of a text, in lower case: what copies share."""
    words = text.lower().split()
    if len(words) < 3:
        return frozenset([" ".join(words)])
    return frozenset(" ".join(words[i : i + 3]) for i in range(len(words) - 2))
