"""Follows every number that a report shows back to results.json or a history.

`python tests/report/number_tracer.py RUN…` prints what it cannot follow. A number counts as traced

- as an *interval*, where it is written with its interval and one score of the results (or the
  difference of two) has all three;
- as *cited*, where the rows that its sentence or table row rests on hold it, or a difference, ratio
  or sum of what they hold;
- as *known*, where some value of the run is it, in a place that cites nothing;
- as *shown*, where it says how many rows are shown;
- as a *rule*, where it is a limit that the report's own rules state.

Words that come from the results as they are (titles, notes, names of files) are not looked into.
"""

import json
import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from number_pool import Path_, Pool, Token, collect, shows, with_derived

from headstart.report import ReportView, build_view, fit_advice
from headstart.report.advice import AGREEMENT_WANTED
from headstart.report.load import Run, load_run
from headstart.report.plots import EstimatePlot
from headstart.report.records import Advice, Facts, Figure, Paragraph, Quote, Sheet, Table
from headstart.report.text import day

_NUMBER = r"[+−-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?"
_UNITS = r"%|×(?!\s?\d)|ms|s|min|h|GB|MB|kB|bytes|MiB|points"
_TOKEN = re.compile(
    rf"(?<![\w.,])(?P<number>{_NUMBER})(?:\s?×\s?10(?P<power>[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+))?"
    rf"(?:\s?(?P<unit>{_UNITS})(?![\w/]|\s?×|\s\d))?(?![\w])"
)
_TRIPLE = re.compile(
    rf"(?P<value>{_NUMBER})(?P<points>%| points)? \((?P<low>{_NUMBER})%?"
    rf"(?:–| to )(?P<high>{_NUMBER})(?P<unit>%)?(?=\)|; p)"
)
_RANGE = re.compile(rf"^(?P<low>{_NUMBER})(?:–| to )(?P<high>{_NUMBER})%?$")
_LIMIT = "< 10⁻³⁰⁰"  # of a p-value that is too small to be told apart from others
_POWERS = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
# What turns a stored value into a shown one.
_FACTORS = {
    "%": (100.0,),
    "points": (100.0,),
    "s": (1.0,),
    "ms": (1e3, 1.0),
    "min": (1 / 60,),
    "h": (1 / 3600,),
    "GB": (1e-9,),
    "MB": (1e-6,),
    "kB": (1e-3,),
    "MiB": (2.0**-20,),
    "bytes": (1.0,),
    "×": (1.0,),
}
_KINDS = {"s": "time", "ms": "time", "min": "time", "h": "time"}
_KINDS |= {"GB": "size", "MB": "size", "kB": "size", "MiB": "size", "bytes": "size"}
_OF_CLASSES = ("per_class", "confusion")  # what sentences on models do not speak of
_RULES = (
    *(100 * AGREEMENT_WANTED, 100 * fit_advice.RISE, 100 * fit_advice.STILL_FALLING),
    *(fit_advice.LEAST_EPOCHS, 95.0, 90.0, 0.05),
)


@dataclass(frozen=True, slots=True)
class Place:
    """A text of the report, and what it rests on.

    Attributes:
        where: For the reader of a complaint.
        text: As it is shown.
        refs: References of the rows that it cites; empty where it cites none.
        head: Titles of its column; empty outside tables.
        shown: How many rows or pictures are shown, where the text may say so.
    """

    where: str
    text: str
    refs: tuple[str, ...] = ()
    head: str = ""
    shown: int | None = None


@dataclass(frozen=True, slots=True)
class Traced:
    """A number of the report, and how it was followed: `how` is empty where it was not."""

    place: Place
    token: str
    how: str


def strings(value: Any) -> Iterator[str]:
    """Yield every text below a JSON value, keys too, without the report's own sentences."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, child in value.items():
            yield str(key)
            if key != "recommendation":
                yield from strings(child)
    elif isinstance(value, list):
        for child in value:
            yield from strings(child)


class Tracer:
    """Follows the numbers of one run's report."""

    def __init__(self, run: Run) -> None:
        self.run = run
        results = with_derived(run.results)
        self.results = results
        drawn = [(("estimates", "#"), float(len(e))) for e in run.estimates.values()]
        self.everything = Pool([*collect(results), *self._curves(list(run.histories)), *drawn])
        said = {" ".join(s.split()) for s in strings(results)}
        said |= {s.rstrip(".") for s in said} | {s.split(",")[0] for s in said}
        said |= {day(s) for s in said}  # a moment is shown as its day
        # A text of digits alone would hide numbers: it is a value like any other.
        self.quoted = sorted((s for s in said if _is_text(s)), key=len, reverse=True)
        self.digits = {s for s in said if not any(c.isalpha() for c in s)}
        self._pools: dict[tuple[tuple[str, ...], bool], Pool] = {}

    def _curves(self, names: Sequence[str]) -> Iterator[tuple[Path_, float]]:
        """Yield what curves hold, and how far they rise, fall and lie apart."""
        for name in names:
            by_split: dict[str, list[float]] = {}
            for step in self.run.histories.get(name, ()):
                yield (name, step.split, "epoch"), float(step.epoch)
                for key in ("loss", "accuracy", "learning_rate", "seconds"):
                    value = getattr(step, key)
                    if math.isfinite(value):
                        yield (name, step.split, key), value
                if math.isfinite(step.loss):
                    by_split.setdefault(step.split, []).append(step.loss)
            yield from self._changes(name, by_split)

    @staticmethod
    def _changes(name: str, by_split: Mapping[str, list[float]]) -> Iterator[tuple[Path_, float]]:
        forms = (lambda v: v, lambda v: np.exp(np.minimum(v, 50.0)))  # loss, and perplexity
        for form in forms:
            losses = {k: form(np.array(v)) for k, v in by_split.items()}
            val, train = losses.get("val", np.zeros(0)), losses.get("train", np.zeros(0))
            for values in (val, train):
                yield from (((name, "curve", "level"), float(v)) for v in values)
            if len(val) > 1:
                window = max(1, len(val) // 4)
                yield (name, "curve", "window"), float(window)
                for before in (val.min(), val[-1 - window]):
                    yield (name, "curve", "change"), abs(float(val[-1] / max(before, 1e-12) - 1))
            n = min(len(val), len(train))
            yield from (((name, "curve", "gap"), float(v)) for v in (val[:n] - train[:n]))
            yield (name, "curve", "epochs"), float(n)

    def pool(self, place: Place) -> Pool:
        """Return what the rows that a text cites hold; everything where it cites none."""
        key = place.refs
        prose = not place.head
        if not key:
            return self.everything
        if (key, prose) not in self._pools:
            leaves: list[tuple[Path_, float]] = [
                ((str(len(key)), "rows"), float(len(key))),
                *collect(self.results.get("data") or {}, ("data",)),
            ]
            for ref in dict.fromkeys(key):
                owner, name = self._owner(ref)
                if prose and isinstance(owner, Mapping):
                    owner = {k: v for k, v in owner.items() if k not in _OF_CLASSES}
                leaves += collect(owner, (ref,))
                leaves += self._curves([name] if name else [])
                if ref.startswith("models/"):
                    leaves += self._behind(owner)
            self._pools[key, prose] = Pool(leaves)
        return self._pools[key, prose]

    def _behind(self, model: Mapping[str, Any]) -> Iterator[tuple[Path_, float]]:
        """Yield what a model's row also rests on: its backbone, and the members of a vote."""
        for entry in self.results["backbones"]:
            if entry.get("key") == model.get("backbone"):
                yield from collect(entry, ("backbone",))
        for name in (model.get("ensemble") or {}).get("members") or ():
            member, curves = self._owner(f"models/{name}")
            yield from collect(member, (str(name),))
            yield from self._curves([curves])

    def _owner(self, ref: str) -> tuple[Any, str]:
        """Return the record that a reference means, and the name of its curves."""
        kind, _, rest = ref.partition("/")
        entries = self.results.get(kind)
        if kind in ("models", "sweeps", "backbones"):
            found = [
                e for e in entries or () if rest in _names(e) or rest.startswith(_names(e, "/"))
            ]
            if not found:
                return {}, ""
            owner = max(found, key=lambda e: len(str(e.get("name") or e.get("key"))))
            curves = str(owner.get("name"))
            return owner, curves if kind == "models" else f"sweeps/{curves}"
        value: Any = self.results
        for step in ref.split("/"):
            if isinstance(value, list) and step.isdigit() and int(step) < len(value):
                value = value[int(step)]
            elif isinstance(value, Mapping) and step in value:
                value = value[step]
            else:
                break
        return value, ""

    def trace(self, place: Place) -> Iterator[Traced]:
        """Follow the numbers of one text."""
        text = " ".join(place.text.split())
        if text in self.digits:
            yield Traced(place, text, "known")
            return
        text = self._without_quotes(text)
        scores = self.pool(place).scores if place.refs else self.everything.scores
        for match in list(_TRIPLE.finditer(text)):
            tokens = [_token(match[k], "") for k in ("value", "low", "high")]
            # Three figures that belong together are those of one score, or wrong.
            how = "interval" if _of_one_score(tokens, scores) else ""
            yield Traced(place, match.group(), how)
            text = text.replace(match.group(), "…", 1)
        for match in _TOKEN.finditer(text):
            yield Traced(place, match.group(), self._how(place, text, match))

    def _without_quotes(self, text: str) -> str:
        for said in self.quoted:
            if said in text:
                text = re.sub(rf"(?<!\w){re.escape(said)}(?!\w)", "…", text)
        text = text.replace(_LIMIT, "<")
        return text.replace("95% interval", "interval").replace("1:1", "")

    def _how(self, place: Place, text: str, match: re.Match[str]) -> str:
        token = _token(match["number"], match["unit"] or "", match["power"])
        if text[: match.start()].endswith("p = "):  # two digits that only a p-value may be
            return "cited" if self.pool(place).has_p(token) else ""
        if self._holds(self.pool(place), token, place, text):
            return "cited" if place.refs else "known"
        if place.shown is not None and token.value == place.shown:
            return "shown"
        if any(token.shows(rule, 1.0) for rule in _RULES):
            return "rule"
        return ""

    def _holds(self, pool: Pool, token: Token, place: Place, text: str) -> bool:
        """Whether some stored or computed value of a fitting kind is the token."""
        unit = token.unit or _unit_of(place.head)
        found = False
        if unit == "%" or (not place.head and f"{token.text}–" in text):
            found = _share_of_counts(token, text) or pool.has(token, ("share",), 100.0)
            found = found or (unit == "%" and pool.has(token, ("figure", "count"), 100.0))
        if unit == "points" or (token.text[0] in "+−" and not place.head):
            computed = (pool.differences, pool.doublings)
            found = found or any(shows(token, v, 100.0) for v in computed)
            found = found or pool.has(token, ("share",), 100.0)  # a stored difference
        if unit == "×":
            kinds = ("figure", "count", "share")
            found = pool.has(token, kinds) or shows(token, pool.ratios, 1.0)
        elif unit in _KINDS:
            found = any(pool.has(token, (_KINDS[unit],), f) for f in _FACTORS[unit])
        return found or (not unit and _plain(pool, token, place, text))


def _plain(pool: Pool, token: Token, place: Place, text: str) -> bool:
    """Whether a number without a unit is a stored one."""
    # What a user has set is shown as it is, not rounded.
    exact = replace(token, half=1e-9 * abs(token.value))
    if pool.has(exact, ("setting", "count")):
        return True
    if token.text[0] in "+−" and shows(token, pool.differences, 1.0):
        return True
    if place.head:
        return pool.has(token, ("figure", "count", "share", "time"))
    # In sentences measured figures have three digits.
    digits = len(token.text.replace(".", "").strip("+−0,"))
    kinds = ("figure", "share", "time" if "ms" in text else "")
    whole = "." not in token.text and pool.has(token, ("count", "figure"))
    return whole or ((digits > 2 or token.power or token.half < 0.004) and pool.has(token, kinds))


def _names(entry: Mapping[str, Any], after: str = "") -> tuple[str, ...]:
    """Return what a reference may call a record, with what follows it."""
    return tuple(f"{entry[k]}{after}" for k in ("name", "key") if entry.get(k))


def _is_text(text: str) -> bool:
    return any(c.isdigit() for c in text) and any(c.isalpha() for c in text)


def _token(number: str, unit: str, power: str | None = None) -> Token:
    plain = number.replace(",", "").replace("−", "-")
    decimals = len(plain.partition(".")[2])
    scale = 10.0 ** int(power.translate(_POWERS)) if power else 1.0
    return Token(number, float(plain) * scale, 0.5 * 10.0**-decimals * scale, unit, bool(power))


def _unit_of(head: str) -> str:
    """Return the unit that the head of a column gives, or nothing."""
    units = {", %": "%", "points": "points", ", MB": "MB", "MiB": "MiB", "ms": "ms"}
    units |= {", s": "s", ", min": "min", ", h": "h"}
    for word, unit in units.items():
        if re.search(rf"{re.escape(word)}(?!\w)", head):
            return unit
    return "%" if head.strip().endswith("%") else ""


def _share_of_counts(token: Token, text: str) -> bool:
    """Whether a percentage is the ratio of two counts of the same text: 20 of 200 (10.0%)."""
    for part, whole in re.findall(rf"({_NUMBER}) of ({_NUMBER})", text):
        a, b = (float(n.replace(",", "")) for n in (part, whole))
        if b and token.shows(a / b, 100.0):
            return True
    return False


def _of_one_score(tokens: Sequence[Token], scores: Sequence[Sequence[float]]) -> bool:
    """Whether value, low and high are those of one score, in shares or plain, either way round."""
    for score in scores:
        for factor in (1.0, 100.0):
            if all(t.shows(v, factor) for t, v in zip(tokens, score, strict=True)):
                return True
            turned = (-score[0], -score[2], -score[1])
            if all(t.shows(v, factor) for t, v in zip(tokens, turned, strict=True)):
                return True
    return False


def places(view: ReportView) -> Iterator[Place]:
    """Yield every text of a report."""
    yield Place("title", view.title)
    yield Place("subtitle", view.subtitle)
    for i, text in enumerate(view.abstract):
        yield Place(f"summary {i + 1}", text, _refs_of(view, text))
    for figure in view.key_figures:
        yield Place(
            f"key figure {figure.label}", f"{figure.label}: {figure.value} ({figure.detail})"
        )
    for section in view.sections:
        for block in section.blocks:
            yield from _block_places(section.title, block)


def _refs_of(view: ReportView, text: str) -> tuple[str, ...]:
    """Return what the advice of the same words rests on."""
    blocks = [b for s in view.sections for b in s.blocks if isinstance(b, Advice)]
    return next((s.rests_on for b in blocks for s in b.sentences if s.text == text), ())


def _block_places(title: str, block: Any) -> Iterator[Place]:
    match block:
        case Table():
            yield from _table_places(block)
        case Figure():
            caption = block.caption
            if isinstance(block.plot, EstimatePlot):
                caption = caption.replace(f"; {len(block.plot.points)} of", "; of")
            yield Place(f"Figure {block.number}, caption", caption)
            yield Place(f"Figure {block.number}, alt", block.alt)
        case Paragraph():
            yield Place(f"{title}, paragraph", block.text)
        case Advice():
            for sentence in block.sentences:
                yield Place(f"advice on {sentence.topic}", sentence.text, sentence.rests_on)
        case Facts():
            for name, value in block.items:
                yield Place(f"{title}, {name}", value, head=name)
        case Sheet():
            text = f"{block.caption} {block.note}"
            yield Place(f"Figure {block.number}, caption", text, shown=len(block.shots))
            for shot in block.shots:
                for line in shot.lines:
                    yield Place(f"Figure {block.number}, a picture", line)
        case Quote():
            yield Place(f"{title}, below a quotation", block.about)


def _table_places(table: Table) -> Iterator[Place]:
    where = f"Table {table.number} ({table.key})"
    for part, text in (("caption", table.caption), ("note", table.note)):
        yield Place(f"{where}, {part}", text, table.refs, shown=len(table.rows))
    for column in table.columns:
        yield Place(f"{where}, head", f"{column.group} {column.title}")
    for row in table.rows:
        refs = row.refs or table.refs
        skip = -1
        for i, (column, cell) in enumerate(zip(table.columns, row.cells, strict=True)):
            if i == skip or column.code:
                continue
            head = f"{column.group} {column.title}"
            head += ", %" if "in per cent" in table.caption else ""
            following = row.cells[i + 1] if i + 1 < len(row.cells) else ""
            shown = cell
            if re.fullmatch(_NUMBER, cell) and _RANGE.match(following):
                # A score and its interval stand in neighbouring cells.
                shown, skip = f"{cell} ({following})", i + 1
            name = row.cells[0] if i else column.title
            yield Place(f"{where}, row {name!r}, {head.strip()!r}", shown, refs, head)


def trace_view(run: Run, view: ReportView) -> list[Traced]:
    """Follow every number of a report.

    Args:
        run: The run.
        view: Its report.

    Returns:
        Every number that the report shows, in order; `how` is empty where it leads nowhere.
    """
    tracer = Tracer(run)
    return [traced for place in places(view) for traced in tracer.trace(place)]


def untraced(run_folder: Path) -> list[Traced]:
    """Return the numbers of a run's report that lead nowhere."""
    return [t for t in trace_view(load_run(run_folder), build_view(run_folder)) if not t.how]


def main(arguments: Sequence[str]) -> int:
    """Print for each run folder what cannot be followed; return 1 where there is anything."""
    failed = 0
    for folder in map(Path, arguments):
        found = trace_view(load_run(folder), build_view(folder))
        counts = {how: sum(t.how == how for t in found) for how in sorted({t.how for t in found})}
        print(f"{folder.name}: {len(found)} numbers, {json.dumps(counts)}")
        for traced in found:
            if not traced.how:
                failed = 1
                print(f"  {traced.token!r} in {traced.place.where}: {traced.place.text[:300]!r}")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
