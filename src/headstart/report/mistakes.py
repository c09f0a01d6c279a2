"""The mistakes that a model was most confident of: a contact sheet of pictures, or texts."""

from collections.abc import Mapping, Sequence
from typing import Any

from headstart.report import lookup, nouns
from headstart.report.load import Run
from headstart.report.records import Block, Column, Paragraph, Quote, Row, Sheet, Shot, Table
from headstart.report.text import excerpt, percent

_MOST_PICTURES = 40
_MOST_TEXTS = 12
_KEPT_TEXTS = 4  # where pages are few
_LONGEST_TEXT = 420  # characters


def blocks(run: Run) -> tuple[Block, ...]:
    """Return the mistakes of the analysed model, the most confident first.

    Args:
        run: The run; its analysis may be missing.

    Returns:
        A contact sheet where the mistakes are pictures, quotations where they are texts, else a
        table of names; nothing where there are no mistakes.
    """
    analysis = run.results.get("analysis") or {}
    mistakes: Sequence[Mapping[str, Any]] = analysis.get("mistakes") or ()
    if not mistakes:
        return ()
    owner = lookup.quoted(run.results, str(analysis.get("model")))
    opening = Paragraph(
        f"A look pays most where {owner} is wrong and sure of it, for there a label may be wrong, "
        f"two classes may overlap, or training may lack a kind of {nouns.one(run.results)}:"
    )
    if any(m.get("image") for m in mistakes):
        return (opening, _sheet(run, owner, mistakes[:_MOST_PICTURES]))
    if any(m.get("text") for m in mistakes):
        return (opening, *_quotes(run, mistakes[:_MOST_TEXTS]))
    return (_table(run, owner, mistakes[:_MOST_PICTURES]),)


def _sheet(run: Run, owner: str, mistakes: Sequence[Mapping[str, Any]]) -> Sheet:
    shots = []
    for mistake in mistakes:
        true, predicted, confidence = _words(run, mistake)
        name = str(mistake.get("name") or "")
        lines = [f"predicted {predicted}", f"true {true}"]
        lines += [f"confidence {confidence}"] if confidence else []
        shots.append(
            Shot(
                run.pictures.get(str(mistake.get("image"))),
                f"{nouns.one(run.results).capitalize()} {name}".strip(),
                (*lines, name),
            )
        )
    missing = " An empty frame stands for a picture that could not be shown."
    return Sheet(
        key="mistakes",
        caption=f"The test {nouns.many(run.results)} on which {owner} is most confident of a wrong "
        f"class, the most confident first.{missing if any(not s.picture for s in shots) else ''}",
        shots=tuple(shots),
        priority=3,
    )


def _quotes(run: Run, mistakes: Sequence[Mapping[str, Any]]) -> tuple[Quote, ...]:
    quotes = []
    for i, mistake in enumerate(mistakes):
        true, predicted, confidence = _words(run, mistake)
        about = f"Predicted {predicted}, true {true}"
        about += f", confidence {confidence}" if confidence else ""
        about += f" ({mistake['name']})." if mistake.get("name") else "."
        parts = [mistake.get("text"), mistake.get("second")]
        text = "\n".join(excerpt(str(part), _LONGEST_TEXT) for part in parts if part)
        quotes.append(Quote(text, about, priority=3 if i < _KEPT_TEXTS else 5))
    return tuple(quotes)


def _table(run: Run, owner: str, mistakes: Sequence[Mapping[str, Any]]) -> Table:
    rows = []
    for mistake in mistakes:
        true, predicted, confidence = _words(run, mistake, sign="")
        rows.append(Row((str(mistake.get("name") or ""), true, predicted, confidence)))
    noun = nouns.one(run.results)
    return Table(
        key="mistakes",
        caption=f"The test {noun}s on which {owner} is most confident of a wrong class.",
        columns=(
            Column(noun.capitalize(), code=True),
            Column("True class"),
            Column("Predicted"),
            Column("Confidence, %", "right"),
        ),
        rows=tuple(rows),
        priority=3,
    )


def _words(run: Run, mistake: Mapping[str, Any], sign: str = "%") -> tuple[str, str, str]:
    """Return the true class, the predicted one, and the confidence, or nothing in its place."""
    words = lookup.class_words(run.results)
    true, predicted = (str(mistake.get(k)) for k in ("label", "predicted"))
    confidence = mistake.get("confidence")
    return (
        words.get(true, true),
        words.get(predicted, predicted),
        "" if confidence is None else percent(confidence, sign=sign),
    )
