"""Samples to time prediction on: the user's own, or made up."""

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from headstart._util.seeding import generator
from headstart.data.folder import is_picture
from headstart.data.text import pair_bytes, text_bytes
from headstart.data.text_source import open_text
from headstart.data.tree import natural_key
from headstart.errors import DataError
from headstart.types import InputSpec, Noun, SeriesSpec, Spec, TextSpec

_WIDTH, _HEIGHT = 500, 375  # of made pictures, the usual size of ImageNet's
_WORDS = (
    "the of and to in is that it was for on are with they at be this from have or by one had not "
    "but what all were when we there can an your which their said if do will each about how up out "
    "them then she many some so these would other into has more her two like him see time could no "
    "make than first been its who now people my made over did down only way find use may water long"
)


@dataclass(frozen=True, slots=True)
class TimedSamples:
    """Samples, and where they come from.

    Attributes:
        data: Their bytes: encoded pictures, texts, pairs, sequences.
        origin: In words, for a reader.
    """

    data: tuple[bytes, ...]
    origin: str


def noun_of(spec: Spec) -> Noun:
    """Return what one sample is."""
    if isinstance(spec, InputSpec):
        return "picture"
    if isinstance(spec, SeriesSpec):
        return "sequence"
    return "text" if spec.pairs == "single" else "pair"


def gather(paths: Sequence[Path], spec: Spec, limit: int) -> TimedSamples:
    """Read samples, or make some up where no path is given.

    Args:
        paths: Pictures and folders of pictures; or .txt files (each a text), folders of these, and
            tables and folders as `headstart.data.text_source.open_text` takes them.
        spec: What the models take; of several models any one's.
        limit: At most so many samples, evenly spread over all that there are.

    Returns:
        At least one sample.

    Raises:
        DataError: There is none, or these samples cannot be given.
    """
    noun = noun_of(spec)
    if not paths:
        made = tuple(_made_up(spec, number) for number in range(limit))
        return TimedSamples(made, f"{limit} made up ({_how_made(spec)})")
    if noun == "sequence":
        raise DataError("sequences of numbers are made up here: leave the data out")
    if noun == "picture":
        found: list[Path | bytes] = [one for path in paths for one in _files(path, is_picture)]
    else:
        found = [one for path in paths for one in _texts(path, noun)]
    chosen = [found[i * len(found) // limit] for i in range(limit)] if len(found) > limit else found
    if not chosen:
        raise DataError(f"{', '.join(map(str, paths))}: expected a {noun} at least, found none")
    data = tuple(one if isinstance(one, bytes) else one.read_bytes() for one in chosen)
    origin = f"{len(data)} of the {len(found)} in {', '.join(map(str, paths))}"
    return TimedSamples(data, origin)


def _files(path: Path, wanted: Callable[[str], bool]) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"{path}: expected a file or a folder, and there is nothing")
    inside = [one for one in path.rglob("*") if one.is_file() and wanted(str(one))]
    return sorted(inside, key=lambda one: natural_key(str(one)))


def _texts(path: Path, noun: Noun) -> list[Path | bytes]:
    if noun == "text" and (path.is_dir() or path.suffix.lower() == ".txt"):
        files = _files(path, lambda name: name.lower().endswith(".txt"))
        if files:
            return [*files]
    source = open_text(str(path))
    try:
        if source.noun != noun:
            raise DataError(f"{path}: expected {noun}s, which the models take, got {source.noun}s")
        return [source.read(index) for index in range(len(source.rows))]
    finally:
        source.close()


def _how_made(spec: Spec) -> str:
    if isinstance(spec, InputSpec):
        return f"JPEG, {_WIDTH} x {_HEIGHT} pixels, smooth colours and noise"
    if isinstance(spec, TextSpec):
        return "frequent English words in random order, 20 to 400 of them"
    return f"noise, {max(spec.max_length // 2, 1)} to {spec.max_length} steps"


def _made_up(spec: Spec, number: int) -> bytes:
    rng = generator("benchmark", number)
    if isinstance(spec, InputSpec):
        coarse = rng.integers(0, 256, size=(9, 12, 3), dtype=np.uint8)
        smooth = Image.fromarray(coarse).resize((_WIDTH, _HEIGHT), Image.Resampling.BICUBIC)
        noise = rng.normal(0, 6, size=(_HEIGHT, _WIDTH, 3))
        pixels = np.clip(np.asarray(smooth) + noise, 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
        return buffer.getvalue()
    if isinstance(spec, SeriesSpec):
        steps = int(rng.integers(max(spec.max_length // 2, 1), spec.max_length + 1))
        return rng.normal(size=(steps, spec.channels)).astype("<f4").tobytes()

    def words() -> str:
        count = round(math.exp(rng.uniform(math.log(20), math.log(400))))
        return " ".join(rng.choice(_WORDS.split(), size=count))

    return text_bytes(words()) if spec.pairs == "single" else pair_bytes(words(), words())
