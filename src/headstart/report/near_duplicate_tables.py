"""Tables about test samples that have a near-copy in training, and what they do to the scores."""

from headstart.report import evidence, lookup, nouns
from headstart.report.records import Block, Column, Paragraph, Row, Table
from headstart.report.text import count, decimal, percent_cells, plural, points
from headstart.types import JsonDict

_MOST_PAIRS = 12
_COMPARED = ("picture", "text", "pair")  # samples whose contents decide, not their features


def blocks(results: JsonDict) -> list[Block]:
    """Return the tables of near-copies across splits and of what they do to each model's accuracy.

    Args:
        results: The content of results.json.

    Returns:
        Nothing where no search was made; one paragraph where it found nothing.
    """
    near = evidence.part(results, "near_duplicates")
    if near is None:
        return []
    pairs = worst_first(near)
    if not pairs:
        return [Paragraph(_nothing(results, near))]
    models = _models(results, near)
    return [_pairs(results, near, pairs), *([models] if models is not None else [])]


def worst_first(near: JsonDict) -> list[JsonDict]:
    """Return the pairs whose labels disagree first, then the most alike.

    Args:
        near: ``analysis.near_duplicates`` of results.json.

    Returns:
        Its pairs.
    """
    return sorted(
        near.get("pairs") or (),
        key=lambda p: (
            not disagree(p),
            -float(p.get("similarity") or 0.0),
            str(p.get("test_name")),
            str(p.get("train_name")),
        ),
    )


def disagree(pair: JsonDict) -> bool:
    """Return whether the two samples of a pair carry different labels."""
    return bool(pair.get("train_label") != pair.get("test_label"))


def _how(results: JsonDict, near: JsonDict) -> str:
    """Say what counts as a near-copy."""
    how = f"{evidence.features(results, near)} with a cosine similarity"
    if near.get("threshold") is not None:
        how += f" of at least {decimal(near['threshold'], 2)}"
    if nouns.one(results) in _COMPARED:
        return f"Near-copies: {how}, and contents that agree."
    return f"Near-copies: {how}."


def _nothing(results: JsonDict, near: JsonDict) -> str:
    checked = near.get("checked") or {}
    number = checked.get("test")
    who = f"None of the {nouns.counted(results, number)} of the test split" if number else "Nothing"
    against = sum(int(checked.get(split) or 0) for split in ("train", "val"))
    where = f"the {nouns.counted(results, against)} of " if against else ""
    text = f"{who} has a near-copy among {where}training and validation."
    return f"{text} {_how(results, near)}"


def _pairs(results: JsonDict, near: JsonDict, pairs: list[JsonDict]) -> Table:
    words = lookup.class_words(results)
    noun = nouns.one(results)
    shown = pairs[:_MOST_PAIRS]
    rows = []
    for pair in shown:
        test, train = (str(pair.get(k)) for k in ("test_label", "train_label"))
        rows.append(
            Row(
                (
                    str(pair.get("test_name")),
                    str(pair.get("train_name")),
                    lookup.split_word(str(pair.get("train_split") or "train")),
                    words.get(test, test),
                    words.get(train, train),
                    decimal(pair.get("similarity"), 4),
                ),
                strong=disagree(pair),
            )
        )
    note = _how(results, near)
    if len(shown) < len(pairs):
        note += f" {count(len(shown))} of {plural(len(pairs), 'pair')}; all are in results.json."
    caption = f"Test {nouns.many(results)} with a near-copy among those that were learnt from"
    bold = any(disagree(p) for p in shown)
    return Table(
        key="near-duplicates",
        caption=caption + (", pairs whose labels disagree first and in bold." if bold else "."),
        columns=(
            Column(f"Test {noun}", code=True),
            Column("Near-copy", code=True),
            Column("in"),
            Column("of the test " + noun, group="Class"),
            Column("of the copy", group="Class"),
            Column("Similarity", "right"),
        ),
        rows=tuple(rows),
        refs=(evidence.NEAR_DUPLICATES,),
        note=note,
        priority=2,
    )


def _models(results: JsonDict, near: JsonDict) -> Table | None:
    rows = []
    for entry in near.get("models") or ():
        all_of, without = (lookup.measured(entry.get(k)) for k in ("accuracy", "without"))
        if all_of is None or without is None:
            continue
        name = str(entry.get("name"))
        rows.append(
            Row(
                (
                    lookup.title(results, name),
                    *percent_cells(all_of),
                    *percent_cells(without),
                    points(all_of.value - without.value, 2),
                )
            )
        )
    if not rows:
        return None
    noun = nouns.many(results)
    alone = "without those, %"
    return Table(
        key="near-duplicate-scores",
        caption=f"Test accuracy with and without the {noun} that have a near-copy among those that "
        "were learnt from.",
        columns=(
            Column("Model"),
            Column("value", "right", f"all test {noun}, %"),
            Column("95% interval", "right", f"all test {noun}, %"),
            Column("value", "right", alone),
            Column("95% interval", "right", alone),
            Column("Difference, points", "right"),
        ),
        rows=tuple(rows),
        refs=(evidence.NEAR_DUPLICATE_SCORES,),
        priority=2,
    )
