"""Tables of language models: the text they read, how they are built, published references."""

from collections.abc import Mapping, Sequence
from typing import Any

from headstart.report import lookup
from headstart.report.measures import PERPLEXITY
from headstart.report.records import Block, Column, Paragraph, Quote, Row, Table
from headstart.report.text import MISSING, count, listing, percent, setting
from headstart.types import JsonDict

_MOST_SAMPLES = 4  # of one model: more say no more
_HEADS = (
    ("Cell", "cell"),
    ("Embedding", "embedding"),
    ("Hidden", "hidden"),
    ("Layers", "layers"),
    ("Tied weights", "tied"),
)


def corpus(results: JsonDict) -> Table | None:
    """Return tokens per split, and how many of them the vocabulary lacks."""
    data = results.get("data") or {}
    tokens = data.get("tokens") or {}
    if not tokens:
        return None
    unknown = data.get("unknown") or {}
    splits = [*(s for s in lookup.SPLITS if s in tokens), *(tokens.keys() - set(lookup.SPLITS))]
    rows = tuple(
        Row((lookup.split_word(s), count(tokens[s]), percent(unknown.get(s), 2, "")))
        for s in splits
    )
    words = data.get("vocabulary")
    return Table(
        key="corpus",
        caption="Tokens per split"
        + (f"; the vocabulary has {count(words)} entries." if words else "."),
        columns=(Column("Split"), Column("Tokens", "right"), Column("Unknown, %", "right")),
        rows=rows,
        note="Unknown: words that the vocabulary lacks; all of them are one token.",
        priority=2,
    )


def architectures(results: JsonDict) -> Table | None:
    """Return how the language models are built."""
    entries = _entries(results)
    if not entries:
        return None
    rows = tuple(
        Row(
            (
                str(model.get("title") or model["name"]),
                *(MISSING if about.get(k) is None else setting(about[k]) for _, k in _HEADS),
                count(model.get("parameters_total")),
            )
        )
        for model, about in entries
    )
    return Table(
        key="architectures",
        caption="Language models: recurrent layers between an embedding of the words and an output "
        "layer over the vocabulary.",
        columns=(
            Column("Model"),
            *(Column(head, "left" if key == "cell" else "right") for head, key in _HEADS),
            Column("Parameters", "right"),
        ),
        rows=rows,
        note="Tied: embedding and output layer share one matrix.",
        priority=2,
    )


def _entries(results: JsonDict) -> list[tuple[JsonDict, JsonDict]]:
    return [(m, m["language"]) for m in lookup.models(results) if m.get("language")]


def references(results: JsonDict) -> Table | None:
    """Return published perplexities, for orientation."""
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for _, about in _entries(results):
        for reference in about.get("references") or ():
            key = (str(reference.get("name")), str(reference.get("perplexity")))
            found.setdefault(key, reference)
    if not found:
        return None
    own = [
        f"{lookup.quoted(results, m['name'])} {PERPLEXITY.value(score.value)}"
        for m, _ in _entries(results)
        if (score := lookup.metric(m, "test", PERPLEXITY.key)) is not None
    ]
    return Table(
        key="references",
        caption="Published perplexities, for orientation"
        + (f". Here: {listing(own)} on test." if own else "."),
        columns=(Column("Model"), Column("Perplexity", "right"), Column("Source")),
        rows=tuple(
            Row(
                (
                    str(r.get("name") or MISSING),
                    PERPLEXITY.value(r.get("perplexity")),
                    str(r.get("source") or MISSING),
                )
            )
            for r in found.values()
        ),
        note="Perplexities compare only on the same text with the same vocabulary: where the data "
        "here are fewer or others than the published ones, they do not.",
        priority=2,
    )


def samples(results: JsonDict, model: JsonDict | None) -> tuple[Block, ...]:
    """Return texts that a model wrote.

    Args:
        results: The content of results.json.
        model: The model to quote, or None.

    Returns:
        A paragraph and quotations, or nothing where the model wrote none.
    """
    written: Sequence[JsonDict] = ((model or {}).get("language") or {}).get("samples") or ()
    if model is None or not written:
        return ()
    quotes = [
        Quote(str(s.get("text") or ""), _about(s), priority=2 if i == 0 else 4)
        for i, s in enumerate(written[:_MOST_SAMPLES])
    ]
    name = lookup.quoted(results, model["name"])
    return (Paragraph(f"{name} wrote, word by word, each drawn by its probability:"), *quotes)


def _about(sample: Mapping[str, Any]) -> str:
    parts = []
    if sample.get("start"):
        parts.append(f"begun with “{sample['start']}”")
    if sample.get("temperature") is not None:
        parts.append(f"temperature {setting(sample['temperature'])}")
    text = ", ".join(parts)
    return text[:1].upper() + text[1:]
