"""What every source of samples gives: rows with labels, and the bytes of each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from headstart.types import Noun


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled sample of a source.

    Attributes:
        name: Name for people, unique in its source: a path inside the data set where it has one.
        label: Index into the source's classes.
        split: ``train``, ``val``, ``test`` or one more test set, ``test-NAME``, where the source
            declares it, else None.
        group: Samples of one group (one person, one object) never go to different splits.
    """

    name: str
    label: int
    split: str | None = None
    group: str | None = None


class Source(Protocol):
    """Labelled samples wherever they lie; opened by `headstart.data.source.open_source`."""

    @property
    def noun(self) -> Noun:
        """What one sample is."""
        ...

    @property
    def origin(self) -> str:
        """Where the samples come from, as a person would say it."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; `Row.label` counts into them."""
        ...

    @property
    def rows(self) -> tuple[Row, ...]:
        """All samples, in an order that depends on the content only."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What was found beside the pictures and not used, one sentence each."""
        ...

    @property
    def class_names(self) -> Mapping[str, str]:
        """Names for people by class, for the classes that are not their own names."""
        ...

    def read(self, index: int) -> bytes:
        """Return the bytes of one sample (see `Samples`); safe to call in threads."""
        ...

    def file(self, index: int) -> str | None:
        """Return the absolute path of the file whose content one sample is; None where none is."""
        ...

    def close(self) -> None:
        """Give back open files; reading afterwards may be an error."""
        ...


@dataclass(frozen=True, slots=True)
class Samples:
    """The one implementation of `Source`: every layout fills it with its own way to read.

    The bytes of a picture are its file; those of a text its file or its UTF-8; those of a pair what
    `headstart.data.text.pair_bytes` makes; those of a sequence its float32 numbers [length,
    channels].

    Attributes:
        origin: Where the samples come from, as a person would say it.
        classes: Names of the classes.
        rows: All samples.
        reader: Returns the bytes of one sample by its position; safe in threads.
        closer: Gives back open files.
        notes: What was found and not used.
        class_names: Names for people by class, such as ``goldfish, Carassius auratus`` for
            ``n01443537``; empty where the classes are their own names.
        noun: What one sample is.
        placer: Returns the absolute path of the file whose whole content these bytes are, by the
            sample's position, or None where they are not a file's; None where none is one.
    """

    origin: str
    classes: tuple[str, ...]
    rows: tuple[Row, ...]
    reader: Callable[[int], bytes]
    closer: Callable[[], None] = lambda: None
    notes: tuple[str, ...] = ()
    class_names: Mapping[str, str] = field(default_factory=dict)
    noun: Noun = "picture"
    placer: Callable[[int], str | None] | None = None

    def read(self, index: int) -> bytes:
        """Return the bytes of one sample (see `Samples`); safe to call in threads."""
        return self.reader(index)

    def file(self, index: int) -> str | None:
        """Return the absolute path of the file whose content one sample is; None where none is."""
        return None if self.placer is None else self.placer(index)

    def close(self) -> None:
        """Give back open files."""
        self.closer()


def counted(count: int, noun: str) -> str:
    """Return a number of samples in words: ``1 text``, ``1,200 pictures``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
