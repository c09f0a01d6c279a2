"""The preflight scan: one pass over all pictures before anything is trained on them."""

import hashlib
import statistics
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from headstart.data.facts import Fact, FactCache
from headstart.data.image import Probe, probe
from headstart.data.rows import Row, Source
from headstart.errors import DataError
from headstart.types import JsonDict, Progress

_EXAMPLES = 5
_SAVE_EVERY = 2000
# One class with this many times the pictures of another deserves a word.
_IMBALANCE = 10


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A picture that is not used, and why.

    Attributes:
        name: The picture's name in its source.
        reason: Why, as a person would say it.
    """

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Preflight:
    """What the scan found; positions count into `rows`, which are the source's rows.

    Attributes:
        origin: Where the pictures come from.
        classes: Names of the classes.
        rows: All pictures, readable or not.
        digests: SHA-256 of each picture's bytes; empty where even the bytes cannot be read.
        probes: Size, mode, flags and pixel digest of each picture; None for one in quarantine.
        quarantined: The pictures that cannot be decoded, with the reason.
        copies: Positions of pictures with the same decoded pixels, two or more each.
        notes: What the source said it did not use.
        decoded: How many pictures were decoded in this scan.
        reused: How many pictures were known by their content from an earlier scan.
        left_out: Everything that is not used: after the scan the quarantined pictures, after
            `headstart.data.dataset.prepare` also what that left out.
    """

    origin: str
    classes: tuple[str, ...]
    rows: tuple[Row, ...]
    digests: tuple[str, ...]
    probes: tuple[Probe | None, ...]
    quarantined: tuple[LeftOut, ...]
    copies: tuple[tuple[int, ...], ...]
    notes: tuple[str, ...]
    decoded: int
    reused: int
    left_out: tuple[LeftOut, ...]

    @property
    def pixel_digests(self) -> tuple[str | None, ...]:
        """Digest of each picture's decoded pixels; None for one in quarantine."""
        return tuple(None if one is None else one.pixels for one in self.probes)

    @property
    def copies_across_splits(self) -> tuple[tuple[int, ...], ...]:
        """Those of `copies` that lie in more than one declared split."""
        return tuple(
            same for same in self.copies if len({self.rows[index].split for index in same}) > 1
        )

    @property
    def conflicts(self) -> tuple[tuple[int, ...], ...]:
        """Those of `copies` that have more than one label."""
        return tuple(
            same for same in self.copies if len({self.rows[index].label for index in same}) > 1
        )

    def counts(self) -> dict[str, dict[str, int]]:
        """Return readable pictures by declared split (``all`` where none is) and class name."""
        table: dict[str, dict[str, int]] = {}
        for row, one in zip(self.rows, self.probes, strict=True):
            of_split = table.setdefault(row.split or "all", dict.fromkeys(self.classes, 0))
            of_split[self.classes[row.label]] += one is not None
        order = ("train", "val", "test", "all")
        return {split: table[split] for split in order if split in table}

    def sizes(self) -> JsonDict:
        """Return ``min``, ``median`` and ``max`` as [width, height], each side on its own."""
        widths = [one.width for one in self.probes if one is not None]
        heights = [one.height for one in self.probes if one is not None]
        if not widths:
            return {"min": None, "median": None, "max": None}
        return {
            "min": [min(widths), min(heights)],
            "median": [int(statistics.median(widths)), int(statistics.median(heights))],
            "max": [max(widths), max(heights)],
        }

    def modes(self) -> dict[str, int]:
        """Return how many pictures have which of Pillow's modes, the most common first."""
        return dict(Counter(one.mode for one in self.probes if one is not None).most_common())

    def problems(self) -> list[JsonDict]:
        """Return what deserves a look, as ``results.json`` has it: the gravest first.

        Returns:
            Records with ``kind``, ``severity`` (``error``, ``warning`` or ``note``), ``count``,
            ``text`` and up to five ``examples``.
        """
        found = [
            *self._quarantine_problems(),
            *self._copy_problems(),
            *self._class_problems(),
            *self._mode_problems(),
        ]
        found += [_problem("source", "note", 1, text + ".", []) for text in self.notes]
        gravity = {"error": 0, "warning": 1, "note": 2}
        return sorted(found, key=lambda problem: gravity[problem["severity"]])

    def _quarantine_problems(self) -> Iterator[JsonDict]:
        if self.quarantined:
            count = len(self.quarantined)
            yield _problem(
                "unreadable",
                "error",
                count,
                f"{_pictures(count)} cannot be read and are left out.",
                [f"{one.name}: {one.reason}" for one in self.quarantined],
            )

    def _copy_problems(self) -> Iterator[JsonDict]:
        across = self.copies_across_splits
        gone = {one.name for one in self.left_out}
        leaks = [
            same
            for same in across
            if len({self.rows[i].split for i in same if self.rows[i].name not in gone}) > 1
        ]
        if across:
            count = sum(len(same) for same in across)
            yield _problem(
                "duplicate-across-splits",
                "error" if leaks else "warning",
                count,
                f"{_pictures(count)} with the same pixels lie in different splits"
                + (
                    ": what is tested was seen in training."
                    if leaks
                    else "; the copies of what is tested are left out of training."
                ),
                [self._together(same) for same in leaks or across],
            )
        parted = self._parted_groups()
        if parted:
            yield _problem(
                "group-across-splits",
                "warning",
                len(parted),
                f"{len(parted)} groups lie in more than one of the declared splits.",
                parted,
            )
        if self.conflicts:
            count = sum(len(same) for same in self.conflicts)
            yield _problem(
                "conflicting-labels",
                "warning",
                count,
                f"{_pictures(count)} with the same pixels carry different labels.",
                [self._together(same) for same in self.conflicts],
            )
        within = [same for same in self.copies if same not in set(across)]
        if within:
            count = sum(len(same) - 1 for same in within)
            yield _problem(
                "duplicate",
                "note",
                count,
                f"{_pictures(count)} repeat another one pixel by pixel; splits that Headstart "
                "makes keep them together.",
                [self._together(same) for same in within],
            )

    def _class_problems(self) -> Iterator[JsonDict]:
        totals = Counter[str]()
        for of_split in self.counts().values():
            totals.update(of_split)
        small = [name for name in self.classes if totals[name] < 3]
        if small:
            yield _problem(
                "small-class",
                "warning",
                len(small),
                f"{len(small)} of {len(self.classes)} classes have fewer than 3 readable pictures: "
                "too few for training, validation and test.",
                [f"{name}: {totals[name]}" for name in small],
            )
        filled = {name: count for name, count in totals.items() if count}
        if len(filled) > 1 and max(filled.values()) > _IMBALANCE * min(filled.values()):
            most, least = max(filled, key=lambda n: filled[n]), min(filled, key=lambda n: filled[n])
            yield _problem(
                "imbalance",
                "warning",
                len(filled),
                f"the largest class has {filled[most] / filled[least]:.0f} times the pictures of "
                "the smallest: look at per-class figures, not at accuracy alone.",
                [f"{most}: {filled[most]}", f"{least}: {filled[least]}"],
            )

    def _mode_problems(self) -> Iterator[JsonDict]:
        kinds: tuple[tuple[str, str, list[bool]], ...] = (
            (
                "animated",
                "with several frames or pages: the first is used.",
                [one is not None and one.frames > 1 for one in self.probes],
            ),
            (
                "16-bit",
                "with more than 8 bits per channel: scaled to 8.",
                [one is not None and one.deep for one in self.probes],
            ),
            (
                "cmyk",
                "in CMYK: converted to RGB without a colour profile.",
                [one is not None and one.mode == "CMYK" for one in self.probes],
            ),
            (
                "alpha",
                "with transparency: laid over white.",
                [one is not None and one.alpha for one in self.probes],
            ),
            (
                "exif-rotated",
                "stored turned or mirrored: the EXIF orientation is applied.",
                [one is not None and one.turned for one in self.probes],
            ),
        )
        for kind, text, flags in kinds:
            names = [row.name for row, flag in zip(self.rows, flags, strict=True) if flag]
            if names:
                yield _problem(kind, "note", len(names), f"{_pictures(len(names))} {text}", names)

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


def scan(
    source: Source, *, workers: int, progress: Progress, cache_dir: Path | None = None
) -> Preflight:
    """Read, hash and decode every picture once, in threads, and gather what was found.

    Args:
        source: The pictures; only reading is asked of it.
        workers: Threads, at least 1.
        progress: Where to show the advance.
        cache_dir: Folder in which facts are remembered by the pictures' content: a second scan
            reads and hashes every picture and decodes none. None remembers nothing.

    Returns:
        What was found. A picture that cannot be read or decoded is in quarantine; nothing is
        replaced or repaired.
    """
    cache = FactCache(cache_dir)
    digests: list[str] = []
    facts: list[Fact] = []
    fresh: dict[str, Fact] = {}
    decoded = reused = 0
    try:
        with progress.task("checking pictures", len(source.rows), "images") as task:
            for digest, fact, known in _examine_all(source, cache, workers):
                digests.append(digest)
                facts.append(fact)
                reused += known
                decoded += not known and digest != ""
                if not known and digest:
                    fresh[digest] = fact
                if len(fresh) >= _SAVE_EVERY:
                    cache.put(fresh)
                    fresh.clear()
                task.advance()
        cache.put(fresh)
    finally:
        cache.close()
    if cache.trouble:
        progress.say(cache.trouble)
    quarantined = tuple(
        LeftOut(row.name, fact)
        for row, fact in zip(source.rows, facts, strict=True)
        if isinstance(fact, str)
    )
    probes = tuple(fact if isinstance(fact, Probe) else None for fact in facts)
    return Preflight(
        origin=source.origin,
        classes=source.classes,
        rows=source.rows,
        digests=tuple(digests),
        probes=probes,
        quarantined=quarantined,
        copies=_copies(probes),
        notes=source.notes,
        decoded=decoded,
        reused=reused,
        left_out=quarantined,
    )


def _examine_all(
    source: Source, cache: FactCache, workers: int
) -> Iterator[tuple[str, Fact, bool]]:
    """Give (digest, fact, whether it was known) of each row, in order."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="headstart-scan")
    waiting: deque[Future[tuple[str, Fact, bool]]] = deque()
    try:
        for index in range(len(source.rows)):
            waiting.append(pool.submit(_examine, source, index, cache))
            if len(waiting) >= 8 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _examine(source: Source, index: int, cache: FactCache) -> tuple[str, Fact, bool]:
    try:
        data = source.read(index)
    except (DataError, OSError) as error:
        return "", f"cannot be read: {error}", False
    digest = hashlib.sha256(data).hexdigest()
    known = cache.get(digest)
    if known is not None:
        return digest, known, True
    try:
        return digest, probe(data), False
    except DataError as error:
        return digest, str(error), False


def _copies(probes: tuple[Probe | None, ...]) -> tuple[tuple[int, ...], ...]:
    alike: defaultdict[str, list[int]] = defaultdict(list)
    for index, one in enumerate(probes):
        if one is not None:
            alike[one.pixels].append(index)
    return tuple(tuple(same) for same in alike.values() if len(same) > 1)


def _problem(kind: str, severity: str, count: int, text: str, examples: list[str]) -> JsonDict:
    return {
        "kind": kind,
        "severity": severity,
        "count": count,
        "text": text,
        "examples": examples[:_EXAMPLES],
    }


def _pictures(count: int) -> str:
    return "1 picture" if count == 1 else f"{count:,} pictures"
