"""What a report says, as frozen records: made once by `view`, rendered by `html` and by `pdf`."""

from dataclasses import dataclass
from typing import Literal

from headstart.report.pictures import Picture
from headstart.report.plots import Plot

Align = Literal["left", "right"]


@dataclass(frozen=True, slots=True)
class Citation:
    """A place in the report that a sentence rests on.

    Attributes:
        text: As the reader sees it: ``Table 2, row c``.
        anchor: The identifier of that row or table in this rendering.
    """

    text: str
    anchor: str


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        title: Its head.
        align: Words stand flush left, figures flush right.
        group: Neighbouring columns with the same group share a second head above theirs.
        code: Whether the cells are names for a machine, set in a typewriter face.
    """

    title: str
    align: Align = "left"
    group: str = ""
    code: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table.

    Attributes:
        cells: The text of each cell.
        refs: What a sentence may cite this row by, such as ``models/a``.
        strong: Whether it is the chosen one.
        rests_on: References of the rows that this row itself rests on.
        label: The letter that citations use; given by `numbering`.
        citations: `rests_on` as the reader sees them; given by `numbering`.
    """

    cells: tuple[str, ...]
    refs: tuple[str, ...] = ()
    strong: bool = False
    rests_on: tuple[str, ...] = ()
    label: str = ""
    citations: tuple[Citation, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """A table with its caption.

    Attributes:
        key: Its identifier in the report.
        caption: What it shows, a full sentence.
        columns: Heads and alignment.
        rows: The rows.
        refs: What a sentence may cite the whole table by.
        note: What must be known to read it, set below.
        priority: 1 is needed, 5 is the first to go where pages are limited.
        evidence: Head of a last column with each row's citations, or empty.
        number: Its number in the report; given by `numbering`.
    """

    key: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    refs: tuple[str, ...] = ()
    note: str = ""
    priority: int = 3
    evidence: str = ""
    number: int = 0
    kind: Literal["table"] = "table"

    @property
    def labelled(self) -> bool:
        """Whether rows can be cited, and so carry letters."""
        return any(row.refs for row in self.rows)


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart with its caption.

    Attributes:
        key: Its identifier in the report.
        caption: What it shows and how to read it.
        alt: The same for those who cannot see it.
        plot: The data to draw.
        priority: 1 is needed, 5 is the first to go where pages are limited.
        number: Its number in the report; given by `numbering`.
    """

    key: str
    caption: str
    alt: str
    plot: Plot
    priority: int = 3
    number: int = 0
    kind: Literal["figure"] = "figure"


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Running text, shown literally."""

    text: str
    strong: bool = False
    kind: Literal["paragraph"] = "paragraph"


@dataclass(frozen=True, slots=True)
class Sentence:
    """One piece of advice.

    Attributes:
        topic: What it is about, for people.
        text: The sentence or sentences.
        rests_on: References of the rows that it rests on.
        citations: The same as the reader sees them; given by `numbering`.
    """

    topic: str
    text: str
    rests_on: tuple[str, ...]
    citations: tuple[Citation, ...] = ()


@dataclass(frozen=True, slots=True)
class Advice:
    """The conclusions, in order."""

    sentences: tuple[Sentence, ...]
    kind: Literal["advice"] = "advice"


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and values in two columns, too small for a table.

    Attributes:
        items: Pairs of name and value.
        priority: 1 is needed, 5 is the first to go where pages are limited.
    """

    items: tuple[tuple[str, str], ...]
    priority: int = 3
    kind: Literal["facts"] = "facts"


@dataclass(frozen=True, slots=True)
class Command:
    """Something to type into a terminal, shown literally."""

    text: str
    kind: Literal["command"] = "command"


@dataclass(frozen=True, slots=True)
class Quote:
    """A text that a model wrote, shown literally.

    Attributes:
        text: What it wrote.
        about: How it came to be, set below.
        priority: 1 is needed, 5 is the first to go where pages are limited.
    """

    text: str
    about: str
    priority: int = 3
    kind: Literal["quote"] = "quote"


@dataclass(frozen=True, slots=True)
class Shot:
    """One picture of a contact sheet.

    Attributes:
        picture: The picture, or None where its file cannot be shown: a frame stands in its place.
        alt: What it is, for those who cannot see it.
        lines: What is said below it, a few short lines; the first is set in bold.
    """

    picture: Picture | None
    alt: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sheet:
    """A contact sheet: small pictures side by side, each with what is to be said of it.

    Attributes:
        key: Its identifier in the report.
        caption: What it shows and in which order.
        shots: The pictures, the most important first.
        priority: 1 is needed, 5 is the first to go where pages are limited.
        note: How many were left out, or empty.
        number: Its number among the figures; given by `numbering`.
    """

    key: str
    caption: str
    shots: tuple[Shot, ...]
    priority: int = 3
    note: str = ""
    number: int = 0
    kind: Literal["sheet"] = "sheet"


Block = Table | Figure | Paragraph | Advice | Facts | Command | Quote | Sheet


@dataclass(frozen=True, slots=True)
class Section:
    """A numbered section."""

    key: str
    title: str
    blocks: tuple[Block, ...]
    number: int = 0


@dataclass(frozen=True, slots=True)
class KeyFigure:
    """One of the few figures that a reader in a hurry wants: shown large under the title."""

    label: str
    value: str
    detail: str


@dataclass(frozen=True, slots=True)
class ReportView:
    """Everything a report shows, each number with its text made.

    Attributes:
        title: The study's title.
        subtitle: The experiment's name, profile and date.
        created: When the results were written, ISO 8601, or empty.
        abstract: The key results, a few sentences.
        key_figures: Three or four figures in large type.
        sections: The body.
        left_out: What a shortened report leaves out, in words, or empty.
    """

    title: str
    subtitle: str
    created: str
    abstract: tuple[str, ...]
    key_figures: tuple[KeyFigure, ...]
    sections: tuple[Section, ...]
    left_out: str = ""
