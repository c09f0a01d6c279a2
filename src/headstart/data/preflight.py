"""What the preflight scan found, and what of it deserves a look."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from headstart.data.image import Probe
from headstart.data.rows import Row, counted
from headstart.data.split import rank, split_order
from headstart.types import JsonDict, Noun

_EXAMPLES = 5
# One class with this many times the samples of another deserves a word.
_IMBALANCE = 10
# A text with this many times the words of the median is more likely several texts run together.
_LONG = 100
# By what two samples are the same, and how one compares them.
_SAME: dict[Noun, tuple[str, str]] = {
    "picture": ("pixels", "pixel by pixel"),
    "text": ("words", "word by word"),
    "pair": ("words", "word by word"),
    "sequence": ("numbers", "number by number"),
}


@dataclass(frozen=True, slots=True)
class SequenceProbe:
    """What one text, pair of texts or sequence of numbers is, found by reading it once.

    Attributes:
        length: Words (what white space separates), of both texts of a pair; or steps.
        content: SHA-256 of the words or numbers: equal for texts that differ in white space only.
        problem: What is wrong with the encoding of a text in a few words, or None.
    """

    length: int
    content: str
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A sample that is not used, and why.

    Attributes:
        name: The sample's name in its source.
        reason: Why, as a person would say it.
    """

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Preflight:
    """What the scan found; positions count into `rows`, which are the source's rows.

    Attributes:
        origin: Where the samples come from.
        classes: Names of the classes.
        rows: All samples, usable or not.
        digests: SHA-256 of each sample's bytes; empty where even the bytes cannot be read.
        probes: What each sample is, such as the size of a picture or the words of a text, and a
            digest of its content; None for one in quarantine.
        quarantined: The samples that cannot be decoded or are empty, with the reason.
        copies: Positions of samples with the same content (pixels, words), two or more each.
        notes: What the source said it did not use.
        decoded: How many samples were decoded in this scan.
        reused: How many samples were known by their content from an earlier scan.
        left_out: Everything that is not used: after the scan the quarantined samples, after
            `headstart.data.dataset.prepare` also what that left out.
        noun: What one sample is.
    """

    origin: str
    classes: tuple[str, ...]
    rows: tuple[Row, ...]
    digests: tuple[str, ...]
    probes: tuple[Probe | SequenceProbe | None, ...]
    quarantined: tuple[LeftOut, ...]
    copies: tuple[tuple[int, ...], ...]
    notes: tuple[str, ...]
    decoded: int
    reused: int
    left_out: tuple[LeftOut, ...]
    noun: Noun = "picture"

    @property
    def contents(self) -> tuple[str | None, ...]:
        """Digest of each sample's content; None for one in quarantine."""
        return tuple(None if one is None else one.content for one in self.probes)

    @property
    def same(self) -> str:
        """What is the same in two samples that are copies: ``pixels``, ``words``, ``numbers``."""
        return _SAME[self.noun][0]

    @property
    def copies_across_splits(self) -> tuple[tuple[int, ...], ...]:
        """Those of `copies` of which one is trained on, say, and one is tested on, as declared.

        Two test sets may share samples.
        """
        return tuple(same for same in self.copies if self._spans(same))

    @property
    def conflicts(self) -> tuple[tuple[int, ...], ...]:
        """Those of `copies` that have more than one label."""
        return tuple(
            same for same in self.copies if len({self.rows[index].label for index in same}) > 1
        )

    def counts(self) -> dict[str, dict[str, int]]:
        """Return usable samples by declared split (``all`` where none is) and class name."""
        table: dict[str, dict[str, int]] = {}
        for row, one in zip(self.rows, self.probes, strict=True):
            of_split = table.setdefault(row.split or "all", dict.fromkeys(self.classes, 0))
            of_split[self.classes[row.label]] += one is not None
        order = [*split_order(set(table) - {"all"}), "all"]
        return {split: table[split] for split in order if split in table}

    def sizes(self) -> JsonDict:
        """Return ``min``, ``median`` and ``max``.

        Returns:
            Of pictures [width, height] in pixels, each side on its own; of texts their words, of
            sequences their steps; None where there is nothing.
        """
        if self.noun != "picture":
            lengths = [one.length for one in self.probes if isinstance(one, SequenceProbe)]
            if not lengths:
                return {"min": None, "median": None, "max": None}
            median = int(statistics.median(lengths))
            return {"min": min(lengths), "median": median, "max": max(lengths)}
        pictures = self._pictures()
        if not pictures:
            return {"min": None, "median": None, "max": None}
        widths, heights = zip(*((one.width, one.height) for _, one in pictures), strict=True)
        return {
            "min": [min(widths), min(heights)],
            "median": [int(statistics.median(widths)), int(statistics.median(heights))],
            "max": [max(widths), max(heights)],
        }

    def modes(self) -> dict[str, int]:
        """Return how many pictures have which of Pillow's modes, the most common first."""
        return dict(Counter(one.mode for _, one in self._pictures()).most_common())

    def problems(self) -> list[JsonDict]:
        """Return what deserves a look, as ``results.json`` has it: the gravest first.

        Returns:
            Records with ``kind``, ``severity`` (``error``, ``warning`` or ``note``), ``count``,
            ``text`` and up to five ``examples``.
        """
        found = [
            *self._quarantine_problems(),
            *self._copy_problems(),
            *self._text_problems(),
            *self._class_problems(),
            *self._mode_problems(),
        ]
        found += [problem_record("source", "note", 1, text + ".", []) for text in self.notes]
        gravity = {"error": 0, "warning": 1, "note": 2}
        return sorted(found, key=lambda problem: gravity[problem["severity"]])

    def _quarantine_problems(self) -> Iterator[JsonDict]:
        if self.quarantined:
            count = len(self.quarantined)
            yield problem_record(
                "unreadable",
                "error",
                count,
                f"{counted(count, self.noun)} cannot be read and are left out."
                if self.noun == "picture"
                else f"{counted(count, self.noun)} left out: empty, or not readable.",
                [f"{one.name}: {one.reason}" for one in self.quarantined],
            )

    def _copy_problems(self) -> Iterator[JsonDict]:
        across = self.copies_across_splits
        gone = {one.name for one in self.left_out}
        leaks = [
            same
            for same in across
            if self._spans(tuple(i for i in same if self.rows[i].name not in gone))
        ]
        if across:
            count = sum(len(same) for same in across)
            yield problem_record(
                "duplicate-across-splits",
                "error" if leaks else "warning",
                count,
                f"{counted(count, self.noun)} with the same {self.same} lie in different splits"
                + (
                    ": what is tested was seen in training."
                    if leaks
                    else "; the copies of what is tested are left out of training."
                ),
                [self._together(same) for same in leaks or across],
            )
        parted = self._parted_groups()
        if parted:
            yield problem_record(
                "group-across-splits",
                "warning",
                len(parted),
                f"{len(parted)} groups lie in more than one of the declared splits.",
                parted,
            )
        if self.conflicts:
            count = sum(len(same) for same in self.conflicts)
            yield problem_record(
                "conflicting-labels",
                "warning",
                count,
                f"{counted(count, self.noun)} with the same {self.same} carry different labels.",
                [self._together(same) for same in self.conflicts],
            )
        within = [same for same in self.copies if not self._spans(same)]
        if within:
            count = sum(len(same) - 1 for same in within)
            yield problem_record(
                "duplicate",
                "note",
                count,
                f"{counted(count, self.noun)} repeat another one {_SAME[self.noun][1]}; "
                "splits that Headstart makes keep them together.",
                [self._together(same) for same in within],
            )

    def _text_problems(self) -> Iterator[JsonDict]:
        if self.noun not in ("text", "pair"):
            return
        found: defaultdict[str, list[str]] = defaultdict(list)
        for row, one in zip(self.rows, self.probes, strict=True):
            if isinstance(one, SequenceProbe) and one.problem is not None:
                found[one.problem].append(row.name)
        for problem, names in found.items():
            yield problem_record(
                "encoding",
                "warning",
                len(names),
                f"{counted(len(names), self.noun)}: {problem}.",
                names,
            )

        median = self.sizes()["median"]
        long = [
            f"{row.name}: {one.length:,} words"
            for row, one in zip(self.rows, self.probes, strict=True)
            if isinstance(one, SequenceProbe) and one.length > _LONG * median
        ]
        if long:
            yield problem_record(
                "long",
                "warning",
                len(long),
                f"{counted(len(long), self.noun)} with more than {_LONG} times the words of the "
                "median: texts may have run together.",
                long,
            )

    def _class_problems(self) -> Iterator[JsonDict]:
        totals = Counter[str]()
        for of_split in self.counts().values():
            totals.update(of_split)
        small = [name for name in self.classes if totals[name] < 3]
        if small:
            usable = "readable" if self.noun == "picture" else "usable"
            yield problem_record(
                "small-class",
                "warning",
                len(small),
                f"{len(small)} of {len(self.classes)} classes have fewer than 3 {usable} "
                f"{self.noun}s: too few for training, validation and test.",
                [f"{name}: {totals[name]}" for name in small],
            )
        filled = {name: count for name, count in totals.items() if count}
        if len(filled) > 1 and max(filled.values()) > _IMBALANCE * min(filled.values()):
            most, least = max(filled, key=lambda n: filled[n]), min(filled, key=lambda n: filled[n])
            yield problem_record(
                "imbalance",
                "warning",
                len(filled),
                f"the largest class has {filled[most] / filled[least]:.0f} times the "
                f"{self.noun}s of the smallest: look at per-class figures, not at accuracy alone.",
                [f"{most}: {filled[most]}", f"{least}: {filled[least]}"],
            )

    def _mode_problems(self) -> Iterator[JsonDict]:
        pictures = self._pictures()
        kinds: tuple[tuple[str, str, list[str]], ...] = (
            (
                "animated",
                "with several frames or pages: the first is used.",
                [name for name, one in pictures if one.frames > 1],
            ),
            (
                "16-bit",
                "with more than 8 bits per channel: scaled to 8.",
                [name for name, one in pictures if one.deep],
            ),
            (
                "cmyk",
                "in CMYK: converted to RGB without a colour profile.",
                [name for name, one in pictures if one.mode == "CMYK"],
            ),
            (
                "alpha",
                "with transparency: laid over white.",
                [name for name, one in pictures if one.alpha],
            ),
            (
                "exif-rotated",
                "stored turned or mirrored: the EXIF orientation is applied.",
                [name for name, one in pictures if one.turned],
            ),
        )
        for kind, text, names in kinds:
            if names:
                sentence = f"{counted(len(names), self.noun)} {text}"
                yield problem_record(kind, "note", len(names), sentence, names)

    def _pictures(self) -> list[tuple[str, Probe]]:
        """Return name and probe of all pictures that can be read."""
        pairs = zip(self.rows, self.probes, strict=True)
        return [(row.name, one) for row, one in pairs if isinstance(one, Probe)]

    def _spans(self, same: tuple[int, ...]) -> bool:
        return len({rank(self.rows[index].split) for index in same}) > 1

    def _parted_groups(self) -> list[str]:
        splits: defaultdict[str, set[str | None]] = defaultdict(set)
        for row in self.rows:
            if row.group is not None:
                splits[row.group].add(row.split)
        return [group for group, where in splits.items() if len(where) > 1]

    def _together(self, same: tuple[int, ...]) -> str:
        return " = ".join(
            f"{self.rows[index].name} ({self.classes[self.rows[index].label]})" for index in same
        )


def problem_record(
    kind: str, severity: str, count: int, text: str, examples: Sequence[str] = ()
) -> JsonDict:
    """Return what deserves a look as ``results.json`` has it, with a few examples."""
    return {
        "kind": kind,
        "severity": severity,
        "count": count,
        "text": text,
        "examples": list(examples[:_EXAMPLES]),
    }
