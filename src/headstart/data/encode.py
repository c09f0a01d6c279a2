"""From a sample's bytes to the array that a network takes: pictures, texts, series of numbers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from headstart._util.imports import optional
from headstart._util.progress import SilentProgress
from headstart.data.augment import augment
from headstart.data.image import decode, normalise, transform
from headstart.data.resample import Pixels
from headstart.data.text import decode_text, pair_of, strip_markup
from headstart.errors import DataError
from headstart.types import (
    FloatArray,
    ImageSet,
    InputSpec,
    IntArray,
    Progress,
    SeriesSpec,
    Spec,
    TextSpec,
    View,
)


class Encode(Protocol):
    """From a sample's position to its array."""

    def __call__(self, index: int, out: FloatArray | None = None) -> FloatArray:
        """Return a sample's array; a picture's is written to `out`, where that is given."""
        ...


class TextEncoder:
    """Texts, or pairs of texts, to tokens; safe to use from several threads."""

    def __init__(self, spec: TextSpec) -> None:
        """Read the tokenizer.

        Args:
            spec: What tokenizer, and how it is used.

        Raises:
            MissingExtraError: The library `tokenizers` is not installed.
            DataError: The tokenizer cannot be read.
        """
        self._spec = spec
        self._cut = _tokenizer(spec)
        self._cut.enable_truncation(spec.max_length, strategy="longest_first")

    def encode(self, data: bytes) -> FloatArray:
        """Return a sample's tokens.

        Args:
            data: The text, or the pair as `headstart.data.text.pair_bytes` made it.

        Returns:
            float32 [length, 2]: ids and segments (see `headstart.types.TextSpec`).

        Raises:
            DataError: There is no token in it.
        """
        sequences = self._sequences(data, self._cut)
        ids = [i for encoding in sequences for i in encoding.ids]
        if not ids:
            raise DataError("there is no word in it")
        if self._spec.pairs == "together":
            segments = [t + 1 for t in sequences[0].type_ids]
        else:
            segments = [n for n, one in enumerate(sequences, start=1) for _ in one.ids]
        return np.array([ids, segments], dtype=np.float32).T.copy()

    def lengths(self, data: bytes) -> tuple[int, int]:
        """Return a sample's number of tokens: those that `encode` gives, and what there were."""
        found = [len(encoding.ids) for encoding in self._sequences(data, self._whole)]
        return sum(min(n, self._spec.max_length) for n in found), sum(found)

    @cached_property
    def _whole(self) -> Any:
        return _tokenizer(self._spec)  # reading one takes as long as reading some forty texts by it

    def _sequences(self, data: bytes, tokenizer: Any) -> list[Any]:
        if self._spec.pairs == "single":
            return [tokenizer.encode(self._clean(decode_text(data)[0]))]
        first, second = (self._clean(text) for text in pair_of(data))
        if self._spec.pairs == "together":
            return [tokenizer.encode(first, second)]
        return [tokenizer.encode(first), tokenizer.encode(second)]

    def _clean(self, text: str) -> str:
        return strip_markup(text) if self._spec.strip_markup else text


def _tokenizer(spec: TextSpec) -> Any:
    tokenizers = optional("tokenizers", "text", "texts")
    try:
        tokenizer = tokenizers.Tokenizer.from_str(spec.tokenizer)
    except Exception as error:  # the library raises bare Exceptions
        raise DataError(
            f"the tokenizer cannot be read: expected the JSON of the library `tokenizers`, "
            f"but {error}"
        ) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def encoder(
    samples: ImageSet,
    spec: Spec,
    view: View | None = None,
    fitted: Mapping[str, Pixels] | None = None,
) -> Encode:
    """Return a function from a sample's position to its array; safe to call in threads.

    Args:
        samples: The encoded samples.
        spec: How each is prepared.
        view: The random changes to pictures, or None; only pictures have views.
        fitted: Pictures that `headstart.data.image.fit_pixels` made before, by digest: they are
            not read and decoded again. They have no view.

    Returns:
        A function that gives float32: [3, height, width], or [length, width + 1] (see
        `headstart.types`); it raises `DataError`, beginning with the sample's name, where the
        sample cannot be read.
    """
    if isinstance(spec, InputSpec):
        prepared = _pictures(samples, spec, view, fitted)
    else:
        assert view is None, "only pictures have views"
        convert = converter(spec)

        def prepared(index: int, out: FloatArray | None = None) -> FloatArray:
            assert out is None, "sequences have lengths of their own"
            return convert(samples.read(index))

    def read(index: int, out: FloatArray | None = None) -> FloatArray:
        try:
            return prepared(index, out)
        except (DataError, OSError) as error:
            raise DataError(f"{samples.names[index]}: {error}") from error

    return read


def _pictures(
    samples: ImageSet, spec: InputSpec, view: View | None, fitted: Mapping[str, Pixels] | None
) -> Encode:
    digests = samples.digests

    def prepared(index: int, out: FloatArray | None = None) -> FloatArray:
        if view is not None:
            return augment(decode(samples.read(index)), spec, view, digests[index], out)
        pixels = None if fitted is None else fitted.get(digests[index])
        if pixels is not None:
            return normalise(pixels, spec, out)
        return transform(decode(samples.read(index)), spec, out)

    return prepared


def converter(spec: Spec) -> Callable[[bytes], FloatArray]:
    """Return a function from a sample's bytes to its array, float32; safe to call in threads."""
    if isinstance(spec, TextSpec):
        return TextEncoder(spec).encode
    if isinstance(spec, SeriesSpec):
        series = spec
        return lambda data: _series(data, series)
    pictures = spec
    return lambda data: transform(decode(data), pictures)


def _series(data: bytes, spec: SeriesSpec) -> FloatArray:
    step = 4 * spec.channels
    if not data or len(data) % step or len(data) > step * spec.max_length:
        raise DataError(
            f"expected 1 to {spec.max_length} steps of {spec.channels} float32 numbers "
            f"({step} bytes a step), got {len(data)} bytes"
        )
    values = np.frombuffer(data, dtype="<f4").reshape(-1, spec.channels)
    return np.concatenate([values, np.ones((len(values), 1), "<f4")], axis=1, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long samples are.

    Attributes:
        kept: Tokens or steps of each sample as a network gets it, int64, shape [n].
        whole: The same before anything was cut off.
    """

    kept: IntArray
    whole: IntArray


def measure_lengths(
    samples: ImageSet,
    indices: Sequence[int] | IntArray,
    spec: TextSpec | SeriesSpec,
    progress: Progress | None = None,
) -> Lengths:
    """Return how long samples are, in the order of `indices`.

    Args:
        samples: The encoded samples.
        indices: Which of them.
        spec: How they are prepared.
        progress: Where to show how far it is, or None.

    Returns:
        The lengths.

    Raises:
        DataError: A sample cannot be read, or there is nothing in it; it is named.
    """
    found: list[tuple[int, int]] = []
    texts = TextEncoder(spec) if isinstance(spec, TextSpec) else None
    shown = SilentProgress() if progress is None else progress
    with shown.task("measuring lengths", len(indices), "samples") as task:
        for index in indices:
            try:
                data = samples.read(int(index))
                if texts is not None:
                    length = texts.lengths(data)
                else:
                    assert isinstance(spec, SeriesSpec)
                    length = (len(data) // (4 * spec.channels),) * 2
                if not length[0]:
                    raise DataError("there is no word in it")
            except (DataError, OSError) as error:
                raise DataError(f"{samples.names[int(index)]}: {error}") from error
            found.append(length)
            task.advance()
    table = np.array(found, dtype=np.int64).reshape(len(found), 2)
    return Lengths(table[:, 0], table[:, 1])


def stack(rows: Sequence[FloatArray], spec: Spec, length: int | None = None) -> FloatArray:
    """Make one batch of samples; sequences are filled up with zeros at their ends.

    Args:
        rows: Arrays of `encoder`, at least one.
        spec: What they were prepared by.
        length: Fill up to this length; None: to the longest of them.

    Returns:
        float32 [n, *shape]; a view where it is of one picture.
    """
    if isinstance(spec, InputSpec):
        # One picture is not copied: it is what somebody waits for.
        return rows[0][np.newaxis] if len(rows) == 1 else np.stack(rows)
    longest = max(len(row) for row in rows) if length is None else length
    out = np.zeros((len(rows), longest, rows[0].shape[1]), dtype=np.float32)
    for place, row in zip(out, rows, strict=True):
        place[: len(row)] = row
    return out
