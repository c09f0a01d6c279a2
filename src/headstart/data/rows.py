"""What every source of pictures gives: rows with labels, and the bytes of each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled picture of a source.

    Attributes:
        name: Name for people, unique in its source: a path inside the data set where it has one.
        label: Index into the source's classes.
        split: ``train``, ``val`` or ``test`` where the source declares it, else None.
        group: Pictures of one group (one person, one object) never go to different splits.
    """

    name: str
    label: int
    split: str | None = None
    group: str | None = None


class Source(Protocol):
    """Labelled pictures wherever they lie; opened by `headstart.data.source.open_source`."""

    @property
    def origin(self) -> str:
        """Where the pictures come from, as a person would say it."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; `Row.label` counts into them."""
        ...

    @property
    def rows(self) -> tuple[Row, ...]:
        """All pictures, in an order that depends on the content only."""
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
        """Return the encoded bytes of one picture; safe to call in threads."""
        ...

    def close(self) -> None:
        """Give back open files; reading afterwards may be an error."""
        ...


@dataclass(frozen=True, slots=True)
class Pictures:
    """The one implementation of `Source`: every layout fills it with its own way to read.

    Attributes:
        origin: Where the pictures come from, as a person would say it.
        classes: Names of the classes.
        rows: All pictures.
        reader: Returns the encoded bytes of one picture by its position; safe in threads.
        closer: Gives back open files.
        notes: What was found and not used.
        class_names: Names for people by class, such as ``goldfish, Carassius auratus`` for
            ``n01443537``; empty where the classes are their own names.
    """

    origin: str
    classes: tuple[str, ...]
    rows: tuple[Row, ...]
    reader: Callable[[int], bytes]
    closer: Callable[[], None] = lambda: None
    notes: tuple[str, ...] = ()
    class_names: Mapping[str, str] = field(default_factory=dict)

    def read(self, index: int) -> bytes:
        """Return the encoded bytes of one picture; safe to call in threads."""
        return self.reader(index)

    def close(self) -> None:
        """Give back open files."""
        self.closer()
