"""Texts with labels for the benchmarks: made ones as long as film reviews are, or real ones."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headstart._util.hashing import digest_bytes

_WORDS = ("film", "the", "plot", "was", "and", "scene", "actor", "long", "music", "story")
_TELLING = (("bad", "dull", "poor"), ("good", "great", "fine"))
_MEDIAN_WORDS, _SPREAD = 174, 0.6  # of IMDB's reviews; the longest have about 1,400 words


@dataclass(frozen=True)
class Texts:
    """Texts in memory, known by their content."""

    texts: Sequence[str]

    @property
    def names(self) -> list[str]:
        return [f"text {i}" for i in range(len(self.texts))]

    @property
    def digests(self) -> list[str]:
        return [digest_bytes(text.encode()) for text in self.texts]

    def __len__(self) -> int:
        return len(self.texts)

    def read(self, index: int) -> bytes:
        return self.texts[index].encode()


def made(count: int) -> list[tuple[str, int]]:
    """Return texts of 18 to 1,400 words, half of them below 174, each with one of two classes."""
    random = np.random.default_rng(0)
    lengths = np.exp(random.normal(np.log(_MEDIAN_WORDS), _SPREAD, count))
    found = []
    for number, length in enumerate(np.clip(lengths, 18, 1400).astype(int)):
        label = number % 2
        words = random.choice(_WORDS, length)
        telling = random.random(length) < 0.1
        words[telling] = random.choice(_TELLING[label], int(telling.sum()))
        found.append((" ".join(words), label))
    return found


def read(folder: Path, count: int) -> list[tuple[str, int]]:
    """Return the first texts of a data set with their classes, in an order drawn once."""
    from headstart.data.source import open_source

    source = open_source("text", str(folder))
    order = np.random.default_rng(0).permutation(len(source.rows))[:count]
    classes = sorted({row.label for row in source.rows})
    return [(source.read(int(i)).decode(), classes.index(source.rows[i].label)) for i in order]


def write(rows: list[tuple[str, int]], path: Path) -> str:
    """Write texts and labels as JSON lines; return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": t, "label": n}) + "\n" for t, n in rows))
    return str(path)
