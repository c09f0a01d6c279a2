"""What the page of all runs says of each: a row of texts, with what they are sorted by."""

import datetime
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote, quote_from_bytes

from headstart.report import lookup, measures
from headstart.report.opening import shown_in_detail
from headstart.report.text import (
    MISSING,
    capital,
    clean,
    count,
    duration,
    excerpt,
    listing,
    percent,
    percent_interval,
    quantity,
    size,
)
from headstart.types import JsonDict

Kind = Literal["run", "fit", "rank", "benchmark"]
State = Literal["complete", "partial", "running", "stopped", "failed", "damaged"]

_FILES = {
    "report.html": "report",
    "report.pdf": "PDF",
    "rank.html": "report",
    "results.json": "JSON",
    "rank.json": "JSON",
    "experiment.yaml": "YAML",
}
_LONGEST_NOTE = 400  # letters
_FIT = "fit-"  # what the names of studies begin with that `headstart fit` has written


@dataclass(frozen=True, slots=True)
class Found:
    """A run, a ranking or a benchmark as its files tell it.

    Attributes:
        place: Its folder; of a benchmark its file.
        kind: Which of them; a run may turn out to be a fit.
        state: How it stands.
        note: What else there is to say of that, or an empty text.
        about: The content of run.json; empty where there is none.
        record: The content of results.json, rank.json or the benchmark's file; the same.
    """

    place: Path
    kind: Kind
    state: State
    note: str
    about: JsonDict
    record: JsonDict


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a row.

    Attributes:
        text: What it says.
        detail: What stands below it in small type, line by line, or an empty text.
        order: What rows are sorted by; None comes last.
    """

    text: str = MISSING
    detail: str = ""
    order: float | None = None


@dataclass(frozen=True, slots=True)
class RunRow:
    """A row of the page.

    Attributes:
        name: Name of the folder or file.
        kind: What it is.
        title: The study's title.
        detail: What the title leaves open and the name does not say, or an empty text.
        state: How it stands.
        note: What else there is to say of that, or an empty text.
        resume: The command that goes on with it, or an empty text.
        command: The command that repeats it, or an empty text.
        moment: When it began, in seconds since 1970; 0 where nobody knows.
        began: When it began, ISO 8601, or an empty text.
        started: The same for people.
        took: Wall time.
        model: The recommended model.
        score: Its figure on test, with the interval.
        size: Its size.
        prediction: The time that it needs for a sample.
        targets: How many of the study's targets are met.
        links: (words, address relative to the page) of each file; the first is the report if there
            is one.
    """

    name: str
    kind: Kind
    title: str
    detail: str
    state: State
    note: str = ""
    resume: str = ""
    command: str = ""
    moment: float = 0.0
    began: str = ""
    started: Cell = Cell()
    took: Cell = Cell()
    model: Cell = Cell()
    score: Cell = Cell()
    size: Cell = Cell()
    prediction: Cell = Cell()
    targets: Cell = Cell()
    links: tuple[tuple[str, str], ...] = ()

    @property
    def report(self) -> str:
        """Address of the report, or an empty text."""
        return next((href for words, href in self.links if words == "report"), "")


def row_of(found: Found) -> RunRow:
    """Return the row of a run, a ranking or a benchmark.

    Args:
        found: What its files tell.

    Returns:
        The row. Every text can be shown; none is escaped yet.

    Raises:
        LookupError: The files are not of the shape that Headstart writes; so with the other errors
            that come of using what is not there.
    """
    if found.kind == "rank":
        return _of_ranking(found)
    if found.kind == "benchmark":
        return _of_benchmark(found)
    return _of_run(found)


def broken_row(place: Path, why: str) -> RunRow:
    """Return the row of a folder that cannot be read.

    Args:
        place: The folder.
        why: What is wrong with it.

    Returns:
        The row.
    """
    name = clean(place.name)
    return RunRow(name, "run", name, "", "damaged", _note(why))


def _of_run(found: Found) -> RunRow:
    results, about = found.record, found.about
    study = results.get("experiment") or {}
    name = clean(study.get("name") or found.place.name)
    model = shown_in_detail(results) or {}
    began, started = _started(about.get("created") or results.get("created"))
    seconds = about.get("wall_seconds") or results.get("wall_seconds")
    going = found.state == "running"
    words = [name, study.get("profile") and f"profile {clean(study['profile'])}"]
    own = found.place.name.startswith(name)  # as every run names its folder
    return RunRow(
        name=clean(found.place.name),
        kind="fit" if name.startswith(_FIT) else "run",
        title=clean(study.get("title") or name),
        detail="" if own else " · ".join(filter(None, words)),
        state=found.state,
        note=_note(found.note),
        resume=_resume(found),
        command=clean(about.get("command") or study.get("command") or ""),
        moment=started.order or 0.0,
        began=began,
        started=started,
        took=Cell() if going or not seconds else Cell(duration(seconds), "", float(seconds)),
        model=_named(model, results),
        score=_score(model, results),
        size=_size(model.get("size_bytes")),
        prediction=_prediction(model, results),
        targets=_targets(results.get("targets") or ()),
        links=_links(found.place),
    )


def _of_ranking(found: Found) -> RunRow:
    record = found.record
    name = record["recommendation"]["name"]
    chosen = next(one for one in record["candidates"] if one["key"] == name)
    score = lookup.measured(chosen["scores"]["probe"]["accuracy"])
    assert score is not None
    single = float(chosen["latency"]["1"]["p50_ms"])
    noun, origin = clean(record["data"]["noun"]), clean(record["data"]["origin"])
    began, started = _started(record.get("created"))
    seconds = float(record["wall_seconds"])
    return RunRow(
        name=clean(found.place.name),
        kind="rank",
        title="Which backbone?",
        detail=f"{len(record['candidates'])} networks on {origin}",
        state=found.state,
        command=clean(record["command"]),
        moment=started.order or 0.0,
        began=began,
        started=started,
        took=Cell(duration(seconds), "", seconds),
        model=Cell(clean(name), "linear probe, frozen"),
        score=Cell(
            percent(score.value), f"{percent_interval(score)}\nout-of-fold accuracy", score.value
        ),
        size=_size(chosen["size_bytes"]),
        prediction=Cell(f"{quantity(single)}\u00a0ms", f"a {noun}\nalone", single),
        links=_links(found.place),
    )


def _of_benchmark(found: Found) -> RunRow:
    record = found.record
    names = [clean(one["name"]) for one in record["models"]]
    noun = clean(record["conditions"]["noun"])
    began, started = _started(record["conditions"]["when"])
    timed = [
        (float(timing["latency"]["p50_ms"]) / timing["latency"]["batch_size"], timing, result)
        for result in record["results"]
        for timing in result["timings"]
    ]
    model, prediction = Cell(), Cell()
    if timed:
        fastest, timing, result = min(timed, key=lambda one: one[0])
        model = Cell(clean(result["model"]), f"the fastest, in {clean(result['engine'])}")
        batch = timing["latency"]["batch_size"]
        how = "alone" if batch == 1 else f"in batches of {count(batch)}"
        prediction = Cell(f"{quantity(fastest)}\u00a0ms", f"a {noun}\n{how}", fastest)
    return RunRow(
        name=clean(found.place.name),
        kind="benchmark",
        title="How fast they predict" if len(names) > 1 else "How fast it predicts",
        detail=listing(names),
        state=found.state,
        moment=started.order or 0.0,
        began=began,
        started=started,
        model=model,
        prediction=prediction,
        links=((clean(found.place.name), _address(found.place.name)),),
    )


def _note(text: str) -> str:
    return capital(excerpt(clean(text), _LONGEST_NOTE))


def _resume(found: Found) -> str:
    goes_on = found.state in ("stopped", "failed") and bool(found.about)
    return clean(f"headstart resume {shlex.quote(str(found.place))}") if goes_on else ""


def _started(created: object) -> tuple[str, Cell]:
    """Return a moment as ISO 8601 and as a cell; nothing where it is none."""
    try:
        moment = datetime.datetime.fromisoformat(str(created))
    except ValueError:
        return "", Cell()
    text = f"{moment.day}\u00a0{moment:%b\u00a0%Y}"
    return moment.isoformat(), Cell(text, f"{moment:%H:%M}", moment.timestamp())


def _named(model: JsonDict, results: JsonDict) -> Cell:
    if not model:
        return Cell()
    networks = {b["key"]: clean(b["name"]) for b in results.get("backbones") or ()}
    words = {"ensemble": "ensemble", "zero_shot": "as it is", "baseline": "baseline"}
    kind = words.get(str(model.get("kind")), "")
    network = networks.get(model.get("backbone"), "")
    return Cell(
        clean(model.get("title") or model["name"]), "\n".join(filter(None, [network, kind]))
    )


def _score(model: JsonDict, results: JsonDict) -> Cell:
    measure = measures.chosen_by(results)
    for split in ("test", "val"):
        score = lookup.metric(model, split, measure.key)
        if score is not None:
            where = f"{lookup.split_word(split)} {measure.short}"
            interval = f"{measure.interval(score)}\n" if score.interval else ""
            return Cell(measure.value(score.value), interval + where, float(score.value))
    return Cell()


def _size(size_bytes: float | None) -> Cell:
    return Cell(size(size_bytes), "", float(size_bytes)) if size_bytes else Cell()


def _prediction(model: JsonDict, results: JsonDict) -> Cell:
    timed = model.get("prediction")
    if not timed:
        return Cell()
    each = 1000 * timed["seconds"] / timed["samples"]
    noun = clean((results.get("data") or {}).get("noun") or "picture")
    return Cell(
        f"{quantity(each)}\u00a0ms", f"a {noun}\nin batches of {count(timed['batch_size'])}", each
    )


def _targets(targets: Sequence[JsonDict]) -> Cell:
    if not targets:
        return Cell()
    met = sum(bool(target["met"]) for target in targets)
    missed = len(targets) - met
    detail = f"{count(missed)} missed" if missed else "all met"
    return Cell(f"{count(met)} of {count(len(targets))}", detail, met / len(targets))


def _links(folder: Path) -> tuple[tuple[str, str], ...]:
    return tuple(
        (words, f"{_address(folder.name)}/{quote(name)}")
        for name, words in _FILES.items()
        if (folder / name).exists()
    )


def _address(name: str) -> str:
    """Write a name as part of an address; the folders of users hold anything."""
    return f"./{quote_from_bytes(os.fsencode(name), safe='')}"
