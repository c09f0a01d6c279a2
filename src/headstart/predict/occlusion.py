"""What an answer loses when a part of the sample is taken away: for any network, graphs too."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from headstart.errors import DataError
from headstart.types import FloatArray

Score = Callable[[Iterable[FloatArray]], FloatArray]
"""From prepared samples to one number each that grows with what is explained."""

CELLS = 8
"""A picture is covered in windows of two by two of 8 by 8 cells: 49 of them."""

WINDOWS = 64
"""A text is left out in at most so many pieces."""

# Scripts that write no spaces between words are read sign by sign.
_UNSPACED = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a text.

    Attributes:
        text: The word, with the punctuation that stands at it.
        start: Its first character in the text, from 0.
        end: The character after its last.
        side: 0 in the only or the first text, 1 in the second of a pair.
    """

    text: str
    start: int
    end: int
    side: int = 0


def words_of(text: str, side: int = 0) -> list[Word]:
    """Return the words of a text: what white space separates, and single signs of Chinese and kin.

    Args:
        text: The text.
        side: Which of a pair it is, 0 or 1.

    Returns:
        The words in their order; together they hold everything but the white space.
    """
    return [Word(m.group(), m.start(), m.end(), side) for m in _WORD.finditer(text)]


def occlude_picture(
    score: Score, size: tuple[int, int], covered: Callable[[slice, slice], FloatArray]
) -> FloatArray:
    """Return how much is lost when a place of a picture is covered.

    Windows slide over it by half their width; a cell's figure is the mean over the windows that
    cover it.

    Args:
        score: What is explained; it is given one sample after the other.
        size: Height and width of the picture, in pixels.
        covered: From rows and columns to the prepared sample with these covered.

    Returns:
        float32 [8, 8]: positive where the covered part spoke for it.

    Source:
        Zeiler and Fergus, Visualizing and Understanding Convolutional Networks (2014), section 4.2.
    """
    rows, columns = (np.linspace(0, pixels, CELLS + 1).round().astype(int) for pixels in size)
    corners = [(i, j) for i in range(CELLS - 1) for j in range(CELLS - 1)]

    def samples() -> Iterator[FloatArray]:
        yield covered(slice(0, 0), slice(0, 0))
        for i, j in corners:
            yield covered(slice(rows[i], rows[i + 2]), slice(columns[j], columns[j + 2]))

    whole, *others = score(samples())
    lost = np.zeros((CELLS, CELLS), np.float32)
    times = np.zeros((CELLS, CELLS), np.float32)
    for (i, j), other in zip(corners, others, strict=True):
        lost[i : i + 2, j : j + 2] += whole - other
        times[i : i + 2, j : j + 2] += 1
    return lost / times


def occlude_words(
    score: Score,
    prepare: Callable[[Sequence[str]], FloatArray],
    texts: Sequence[str],
    words: Sequence[Word],
) -> tuple[FloatArray, int]:
    """Return how much is lost when a word is left out.

    Of more than `WINDOWS` words several neighbours are left out at a time, and each of them gets
    what their window gets.

    Args:
        score: What is explained.
        prepare: From the text, or the two texts of a pair, to what the network takes.
        texts: The text, or the two of a pair.
        words: Which of its words, in order.

    Returns:
        float32, one for each word, positive where it spoke for what is explained; and how many
        words were left out at a time.
    """
    at_once = max(1, -(-len(words) // WINDOWS))
    windows = [range(i, min(i + at_once, len(words))) for i in range(0, len(words), at_once)]
    rows, kept = [prepare(texts)], []
    for window in windows:
        try:
            rows.append(prepare(_without(texts, [words[i] for i in window])))
        except DataError:
            continue  # nothing is left: a text of one word cannot be read without it
        kept.append(window)
    whole, *others = score(rows)
    lost = np.zeros(len(words), np.float32)
    for window, other in zip(kept, others, strict=True):
        lost[list(window)] = whole - other
    return lost, at_once


def _without(texts: Sequence[str], words: Sequence[Word]) -> list[str]:
    left = list(texts)
    for word in reversed(words):  # from the end, so that the places before it stay true
        text = left[word.side]
        before, after = text[: word.start], text[word.end :]
        if before.endswith(" ") or not before:
            after = after.removeprefix(" ")
        left[word.side] = before + after
    return left
