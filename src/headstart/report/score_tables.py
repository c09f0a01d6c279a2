"""Tables of what each model reached: scores of all, and the members of a sweep."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from headstart.report import kinds, lookup, measures, nouns, stage_tables
from headstart.report.measures import Measure
from headstart.report.records import Column, Row, Table
from headstart.report.text import (
    MISSING,
    align,
    capital,
    count,
    decimal,
    durations,
    listing,
    percent,
    percent_cells,
    plural,
    setting,
)
from headstart.types import JsonDict

_FEW_MEMBERS = 12
_MOST_SETTINGS = 7  # columns of settings that fit beside the others on a page


def scores(results: JsonDict, recommended: str | None) -> Table | None:
    """Return the scores of all models, validation before test."""
    models = lookup.models(results)
    if not models:
        return None
    present = [
        s for s in ("val", "test") if any(lookup.metric(m, s, "accuracy") for m in models)
    ] or ["test"]
    losses = [lookup.metric(m, "test", "loss") for m in models]
    f1 = [lookup.metric(m, "test", "f1_macro") for m in models]
    unit, seconds = durations([lookup.training_seconds(m) for m in models])
    # How far training accuracy lies above test accuracy matters where layers were released.
    train = [lookup.metric(m, "train", "accuracy") for m in models]
    trained = kinds.staged(results) and any(train)
    columns = [Column("Model")]
    if trained:
        columns.append(Column("value", "right", "Training accuracy, %"))
    for split in present:
        group = f"{lookup.split_word(split).capitalize()} accuracy, %"
        columns += [Column("value", "right", group), Column("95% interval", "right", group)]
    extra: list[tuple[Column, Sequence[str]]] = []
    if any(losses):
        texts = [decimal(s.value if s else None, 3) for s in losses]
        extra.append((Column("Test loss", "right"), texts))
    if any(f1):
        texts = [percent(s.value if s else None, sign="") for s in f1]
        extra.append((Column("Macro F1, %", "right"), texts))
    if any(text != MISSING for text in seconds):
        extra.append((Column(f"Time, {unit}", "right"), seconds))
    rows = []
    for i, model in enumerate(models):
        cells = [str(model.get("title") or model["name"])]
        if not lookup.complete(model):
            cells[0] += f" ({model.get('state')})"
        if trained:
            cells += percent_cells(train[i])[:1]
        for split in present:
            cells += percent_cells(lookup.metric(model, split, "accuracy"))
        cells += [texts[i] for _, texts in extra]
        rows.append(
            Row(
                tuple(cells),
                refs=(f"models/{model['name']}",),
                strong=model["name"] == recommended,
                label=str(model.get("part") or ""),
            )
        )
    further = [lookup.split_word(s) for s in lookup.further_tests(results)]
    also = f" Another table has the scores on {listing(further)}." if further else ""
    return Table(
        key="scores",
        caption=caption(recommended) + also,
        columns=(*columns, *(column for column, _ in extra)),
        rows=with_own_letters(rows),
        note=remarks(results),
        priority=1,
    )


def caption(recommended: str | None) -> str:
    """Return the caption of a table of all models' scores."""
    bold = "; the recommended one is set in bold." if recommended is not None else "."
    return "Scores of all models" + bold


def with_own_letters(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Return rows whose labels, the parts of a study, stay where each is one letter of its own."""
    parts = [row.label for row in rows]
    if len(set(parts)) < len(parts) or any(len(part) != 1 for part in parts):
        return tuple(Row(row.cells, row.refs, row.strong) for row in rows)
    return tuple(rows)


def remarks(results: JsonDict) -> str:
    """Return what is to be said of single models below a table of scores."""
    models = lookup.models(results)
    said = [f"{m.get('title') or m['name']}: {m['message']}." for m in models if m.get("message")]
    names = [lookup.quoted(results, m["name"]) for m in kinds.baselines(results)]
    if names:
        verb = "is a reference: it says" if len(names) == 1 else "are references: they say"
        said.append(f"{listing(names)} {verb} the same of every {nouns.one(results)}.")
    return " ".join(said)


def further_tests(results: JsonDict, recommended: str | None) -> Table | None:
    """Return the scores on further test sets, beside those on the test split."""
    further = lookup.further_tests(results)
    if not further:
        return None
    measure = measures.chosen_by(results)
    splits = ["test", *further]
    models = [m for m in lookup.models(results) if lookup.metric(m, further[0], measure.key)]
    columns = [Column("Model")]
    sizes = []
    for split in splits:
        group = f"{capital(lookup.split_word(split))} {measure.head}"
        columns += [Column("value", "right", group), Column("95% interval", "right", group)]
        scores = [lookup.metric(m, split, measure.key) for m in models]
        known = [s.n for s in scores if s is not None and s.n]
        if known:
            sizes.append(f"{plural(known[0], nouns.one(results))} on {lookup.split_word(split)}")
    rows = []
    for model in models:
        cells = [str(model.get("title") or model["name"])]
        for split in splits:
            cells += measure.cells(lookup.metric(model, split, measure.key))
        rows.append(Row(tuple(cells), strong=model["name"] == recommended))
    return Table(
        key="further-tests",
        caption="Other test sets, beside the test split; none of them took part in any choice.",
        columns=tuple(columns),
        rows=tuple(rows),
        note=f"Scores rest on {listing(sizes)}." if sizes else "",
        priority=1,
    )


def class_means(results: JsonDict, recommended: str | None) -> Table | None:
    """Return the means over classes with their intervals, where the area under the curve is known.

    Args:
        results: The content of results.json.
        recommended: The name of the recommended model, or None.

    Returns:
        The table, or None where no model has it.
    """
    models = [m for m in lookup.models(results) if lookup.metric(m, "test", "auc_macro")]
    if not models:
        return None
    heads = [("precision_macro", "Precision, %"), ("recall_macro", "Recall, %")]
    heads += [("f1_macro", "F1, %"), ("auc_macro", "ROC AUC, %")]
    heads = [(k, h) for k, h in heads if any(lookup.metric(m, "test", k) for m in models)]
    rows = []
    for model in models:
        cells = [str(model.get("title") or model["name"])]
        for key, _ in heads:
            cells += percent_cells(lookup.metric(model, "test", key))
        rows.append(Row(tuple(cells), strong=model["name"] == recommended))
    return Table(
        key="class-means",
        caption="Means over classes on test.",
        columns=(
            Column("Model"),
            *(
                Column(title, "right", group)
                for _, group in heads
                for title in ("value", "95% interval")
            ),
        ),
        rows=tuple(rows),
        note="ROC AUC: the area under the curve of true against false positives, of each class "
        "against all others.",
        priority=4,
    )


def models(results: JsonDict) -> Table | None:
    """Return how the models differ: mode, backbone, settings, trained parameters, epochs."""
    entries = kinds.trained(results)
    if not entries:
        return None
    hidden = stage_tables.SHOWN if kinds.staged(results) else ()
    keys = [k for k in lookup.differing(entries) if k not in hidden]
    names = lookup.setting_names(keys)
    columns: list[tuple[Column, Sequence[str]]] = [
        (Column("Model"), [str(m.get("title") or m["name"]) for m in entries]),
        (Column("Mode"), [str(m.get("mode") or MISSING) for m in entries]),
    ]
    keyed = {str(b.get("key")): str(b.get("name")) for b in results.get("backbones") or ()}
    if len(keyed) > 1:
        used = [keyed.get(str(m.get("backbone")), str(m.get("backbone"))) for m in entries]
        columns.append((Column("Backbone"), used))
    if len(keys) > _MOST_SETTINGS:
        columns.append((Column("Settings"), _in_words(entries, names)))
        keys = []
    for key in keys:
        texts = align(lookup.settings_text(entries, key))
        columns.append((Column(capital(names[key]), "right"), texts))
    labels = [m.get("labels_per_class") for m in entries]
    if any(labels):
        columns.append((Column("Labels per class", "right"), [count(n) for n in labels]))
    trained = [m.get("parameters_trainable") for m in entries]
    # How many a stage trains is in the table of stages.
    if any(n is not None for n in trained) and not hidden:
        columns.append((Column("Trained parameters", "right"), [count(n) for n in trained]))
    epochs = [[s.get("epochs") or 0 for s in m.get("stages") or ()] for m in entries]
    if any(epochs):
        run = [" + ".join(count(n) for n in of) or MISSING for of in epochs]
        columns.append((Column("Epochs run", "right"), run))
    return Table(
        key="models",
        caption="Models, and the settings in which they differ.",
        columns=tuple(column for column, _ in columns),
        rows=tuple(Row(tuple(texts[i] for _, texts in columns)) for i in range(len(entries))),
        priority=3,
    )


def _in_words(entries: Sequence[JsonDict], names: Mapping[str, str]) -> list[str]:
    """Return each model's settings as one text: more of them than a page has columns for."""
    columns = {key: lookup.settings_text(entries, key) for key in names}
    return [
        ", ".join(
            f"{names[key]} {texts[i]}"
            for key, texts in columns.items()
            if texts[i] not in (MISSING, "none")
        )
        for i in range(len(entries))
    ]


def sweep(results: JsonDict, entry: JsonDict) -> Table:
    """Return a sweep's members in the order of the grid; where they are many, the best first."""
    split = (entry.get("select") or {}).get("split") or "val"
    measure = measures.chosen_by(results)
    members = list(enumerate(entry.get("members") or ()))
    caption = f"Sweep “{entry.get('title') or entry['name']}”"
    if len(members) > _FEW_MEMBERS:
        members.sort(key=lambda im: rank(measure, im[1], split))
        caption += ", best first"
    keys = list(lookup.axes(entry))
    names = lookup.setting_names(keys)
    axes = [align([setting(m["values"].get(k)) for _, m in members]) for k in keys]
    word = lookup.split_word(split)
    group = f"{word.capitalize()} {measure.head}"
    extra = [
        s for s in ("train", "test") if any(lookup.metric(m, s, measure.key) for _, m in members)
    ]
    lossy = any(lookup.metric(m, split, "loss") for _, m in members) or measure.digits is None
    rows = []
    for i, (index, member) in enumerate(members):
        refs = [f"sweeps/{entry['name']}/{index}"]
        if member.get("best"):
            refs.append(f"sweeps/{entry['name']}")
        loss = lookup.metric(member, split, "loss")
        others = [lookup.metric(member, s, measure.key) for s in extra]
        rows.append(
            Row(
                (
                    *(texts[i] for texts in axes),
                    *measure.cells(lookup.metric(member, split, measure.key)),
                    *([decimal(loss.value if loss else None, 3)] if lossy else []),
                    *(measure.cells(s)[0] for s in others),
                    "best" if member.get("best") else _state(member),
                ),
                refs=tuple(refs),
                strong=bool(member.get("best")),
            )
        )
    return Table(
        key=f"sweep-{entry['name']}",
        caption=f"{caption} ({entry.get('mode')} mode)." if entry.get("mode") else f"{caption}.",
        columns=(
            *(Column(capital(names[k]), "right") for k in keys),
            Column("value", "right", group),
            Column("95% interval", "right", group),
            *([Column(f"{word.capitalize()} loss", "right")] if lossy else []),
            *(Column(f"{capital(lookup.split_word(s))} {measure.head}", "right") for s in extra),
            Column("Outcome"),
        ),
        rows=tuple(rows),
        refs=(f"sweeps/{entry['name']}",),
        priority=2,
    )


def rank(measure: Measure, member: Mapping[str, Any], split: str) -> float:
    """Return a number by which a sweep's members are sorted, the best first."""
    score = lookup.metric(member, split, measure.key)
    return math.inf if score is None else measure.rank(score)


def _state(member: Mapping[str, Any]) -> str:
    return "" if lookup.complete(member) else str(member.get("state"))
