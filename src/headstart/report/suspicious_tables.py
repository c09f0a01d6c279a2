"""The labels that a cross-validated probe doubts: a table, and the pictures themselves."""

from collections.abc import Mapping, Sequence
from typing import Any

from headstart.report import evidence, lookup, nouns
from headstart.report.load import Run
from headstart.report.records import Block, Column, Paragraph, Row, Sheet, Shot, Table
from headstart.report.text import count, excerpt, percent, percent_score, plural
from headstart.types import JsonDict

_MOST_ROWS = 20
_ROWS_BESIDE_PICTURES = 8
_MOST_PICTURES = 24
_LONGEST_TEXT = 100  # characters of a text in the table


def blocks(run: Run) -> list[Block]:
    """Return the labels under suspicion, the worst first.

    Args:
        run: The run; its analysis may be missing.

    Returns:
        A table, and a contact sheet where the samples are pictures; one paragraph where no label
        is under suspicion; nothing where none was checked.
    """
    found = evidence.part(run.results, "suspicious_labels")
    if found is None:
        return []
    listed: Sequence[Mapping[str, Any]] = found.get("list") or ()
    if not listed:
        return [Paragraph(f"No label is under suspicion. {_probe(run.results, found)}")]
    if not any(run.pictures.get(str(entry.get("image"))) for entry in listed):
        return [_table(run.results, found, listed[:_MOST_ROWS])]
    table = _table(run.results, found, listed[:_ROWS_BESIDE_PICTURES])
    return [table, _sheet(run, listed[:_MOST_PICTURES])]


def _probe(results: JsonDict, found: JsonDict) -> str:
    """Say who suspects: the probe, how it was tested, and how good it is."""
    text = f"A probe on the {evidence.features(results, found)} judged "
    checked = found.get("checked")
    text += nouns.counted(results, checked) if checked else f"the {nouns.many(results)}"
    if found.get("folds"):
        text += f" in {plural(found['folds'], 'fold')}, each by a probe that had not seen it"
    accuracy = lookup.measured(found.get("probe_accuracy"))
    if accuracy is not None:
        text += f"; it agrees with {percent_score(accuracy)} of the labels"
    return text + "."


def _table(results: JsonDict, found: JsonDict, shown: Sequence[Mapping[str, Any]]) -> Table:
    texts = any(entry.get("text") for entry in shown)
    rows = []
    for entry in shown:
        given, suggested = _classes(results, entry)
        parts = [str(entry[k]) for k in ("text", "second") if entry.get(k)]
        rows.append(
            Row(
                (
                    str(entry.get("name")),
                    *([excerpt(" / ".join(parts), _LONGEST_TEXT)] if texts else []),
                    lookup.split_word(str(entry.get("split") or "train")),
                    given,
                    percent(entry.get("p_given"), sign=""),
                    suggested,
                    percent(entry.get("p_suggested"), sign=""),
                )
            )
        )
    number = int(found.get("found") or len(shown))
    which = f"The {count(len(shown))} most suspicious of {plural(number, 'label')}"
    note = _probe(results, found)
    if found.get("share") is not None:
        note += f" It estimates that {percent(found['share'])} of them are wrong."
    return Table(
        key="suspicious-labels",
        caption=(which if len(shown) < number else "Labels under suspicion")
        + ", the worst first: what the label says and what the probe would say, each with the "
        "probability that the probe gives it. A suspicion is no proof.",
        columns=(
            Column(nouns.one(results).capitalize(), code=True),
            *([Column("Text")] if texts else []),
            Column("Split"),
            Column("class", group="Given"),
            Column("%", "right", "Given"),
            Column("class", group="Suggested"),
            Column("%", "right", "Suggested"),
        ),
        rows=tuple(rows),
        refs=(evidence.SUSPICIOUS_LABELS,),
        note=note,
        priority=2,
    )


def _sheet(run: Run, listed: Sequence[Mapping[str, Any]]) -> Sheet:
    shots = []
    for entry in listed:
        given, suggested = _classes(run.results, entry)
        name = str(entry.get("name") or "")
        # What is suggested is what the eye must decide on: it stands first, and bold.
        lines = (
            f"{suggested}?",
            f"labelled {given}",
            f"{percent(entry.get('p_suggested'))} against {percent(entry.get('p_given'))}",
            name,
        )
        picture = run.pictures.get(str(entry.get("image")))
        shots.append(Shot(picture, f"{nouns.one(run.results).capitalize()} {name}".strip(), lines))
    return Sheet(
        key="suspicious-pictures",
        caption=f"The {nouns.many(run.results)} whose labels are most suspicious, the worst first: "
        "the class that the probe suggests, the given one, and the probabilities of both.",
        shots=tuple(shots),
        priority=3,
    )


def _classes(results: JsonDict, entry: Mapping[str, Any]) -> tuple[str, str]:
    """Return the given and the suggested class in words."""
    words = lookup.class_words(results)
    given, suggested = (str(entry.get(k)) for k in ("given", "suggested"))
    return words.get(given, given), words.get(suggested, suggested)
