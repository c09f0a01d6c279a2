"""Tables about the models: scores, sweeps, classes, comparisons, times, targets."""

from collections.abc import Mapping, Sequence
from typing import Any

from headstart.report import lookup
from headstart.report.records import Column, Row, Table
from headstart.report.text import (
    MISSING,
    Measured,
    align,
    count,
    decimal,
    durations,
    percent,
    percent_interval,
    points,
    quantity,
    setting,
    times,
)
from headstart.types import JsonDict

_FEW_MEMBERS = 12
_FEW_CLASSES = 20
_WORST_PAIRS = 10


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
    columns = [Column("Model")]
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
        for split in present:
            cells += _accuracy(lookup.metric(model, split, "accuracy"))
        cells += [texts[i] for _, texts in extra]
        rows.append(
            Row(
                tuple(cells),
                refs=(f"models/{model['name']}",),
                strong=model["name"] == recommended,
                label=str(model.get("part") or ""),
            )
        )
    parts = [row.label for row in rows]
    if len(set(parts)) < len(parts) or any(len(part) != 1 for part in parts):
        rows = [_unlabelled(row) for row in rows]
    messages = [
        f"{m.get('title') or m['name']}: {m['message']}." for m in models if m.get("message")
    ]
    return Table(
        key="scores",
        caption="Scores of all models"
        + ("; the recommended one is set in bold." if recommended is not None else "."),
        columns=(*columns, *(column for column, _ in extra)),
        rows=tuple(rows),
        note=" ".join(messages),
        priority=1,
    )


def _unlabelled(row: Row) -> Row:
    return Row(row.cells, row.refs, row.strong)


def _accuracy(score: Measured | None) -> list[str]:
    return [percent(score.value if score else None, sign=""), percent_interval(score)]


def models(results: JsonDict) -> Table | None:
    """Return how the models differ: mode, backbone, settings, trained parameters, epochs."""
    entries = lookup.models(results)
    if not entries:
        return None
    keys = lookup.differing(entries)
    names = lookup.setting_names(keys)
    columns: list[tuple[Column, Sequence[str]]] = [
        (Column("Model"), [str(m.get("title") or m["name"]) for m in entries]),
        (Column("Mode"), [str(m.get("mode") or MISSING) for m in entries]),
    ]
    keyed = {str(b.get("key")): str(b.get("name")) for b in results.get("backbones") or ()}
    if len(keyed) > 1:
        used = [keyed.get(str(m.get("backbone")), str(m.get("backbone"))) for m in entries]
        columns.append((Column("Backbone"), used))
    for key in keys:
        texts = align([setting(lookup.hyperparameters(m).get(key)) for m in entries])
        columns.append((Column(_capital(names[key]), "right"), texts))
    labels = [m.get("labels_per_class") for m in entries]
    if any(labels):
        columns.append((Column("Labels per class", "right"), [count(n) for n in labels]))
    trained = [m.get("parameters_trainable") for m in entries]
    if any(n is not None for n in trained):
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


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def sweep(entry: JsonDict) -> Table:
    """Return a sweep's members in the order of the grid; where they are many, the best first."""
    split = (entry.get("select") or {}).get("split") or "val"
    members = list(enumerate(entry.get("members") or ()))
    caption = f"Sweep “{entry.get('title') or entry['name']}”"
    if len(members) > _FEW_MEMBERS:
        members.sort(key=lambda im: -_value(im[1], split))
        caption += ", best first"
    keys = list(lookup.axes(entry))
    names = lookup.setting_names(keys)
    axes = [align([setting(m["values"].get(k)) for _, m in members]) for k in keys]
    word = lookup.split_word(split)
    group = f"{word.capitalize()} accuracy, %"
    extra = [
        s for s in ("train", "test") if any(lookup.metric(m, s, "accuracy") for _, m in members)
    ]
    rows = []
    for i, (index, member) in enumerate(members):
        refs = [f"sweeps/{entry['name']}/{index}"]
        if member.get("best"):
            refs.append(f"sweeps/{entry['name']}")
        loss = lookup.metric(member, split, "loss")
        others = [lookup.metric(member, s, "accuracy") for s in extra]
        rows.append(
            Row(
                (
                    *(texts[i] for texts in axes),
                    *_accuracy(lookup.metric(member, split, "accuracy")),
                    decimal(loss.value if loss else None, 3),
                    *(percent(s.value if s else None, sign="") for s in others),
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
            *(Column(_capital(names[k]), "right") for k in keys),
            Column("value", "right", group),
            Column("95% interval", "right", group),
            Column(f"{word.capitalize()} loss", "right"),
            *(Column(f"{_capital(lookup.split_word(s))} accuracy, %", "right") for s in extra),
            Column("Outcome"),
        ),
        rows=tuple(rows),
        refs=(f"sweeps/{entry['name']}",),
        priority=2,
    )


def _value(member: Mapping[str, Any], split: str) -> float:
    score = lookup.metric(member, split, "accuracy")
    return -1.0 if score is None else score.value


def _state(member: Mapping[str, Any]) -> str:
    return "" if lookup.complete(member) else str(member.get("state"))


def per_class(model: JsonDict) -> Table | None:
    """Return precision and recall per class, the hardest first where there are many classes."""
    entries = (model.get("per_class") or {}).get("test") or ()
    if not entries:
        return None
    many = len(entries) > _FEW_CLASSES
    if many:
        entries = sorted(entries, key=lambda e: _f1(e).value)
    rows = []
    for entry in entries:
        precision, recall = (lookup.measured(entry.get(k)) for k in ("precision", "recall"))
        rows.append(
            Row(
                (
                    str(entry.get("class")),
                    *_accuracy(precision),
                    *_accuracy(recall),
                    percent(_f1(entry).value if entry.get("f1") else None, sign=""),
                    count(entry.get("support")),
                )
            )
        )
    title = model.get("title") or model["name"]
    return Table(
        key="per-class",
        caption=f"Precision and recall per class of “{title}” on test"
        + (", the hardest classes first." if many else "."),
        columns=(
            Column("Class"),
            Column("value", "right", "Precision, %"),
            Column("95% interval", "right", "Precision, %"),
            Column("value", "right", "Recall, %"),
            Column("95% interval", "right", "Recall, %"),
            Column("F1, %", "right"),
            Column("Pictures", "right"),
        ),
        rows=tuple(rows),
        priority=2,
    )


def _f1(entry: Mapping[str, Any]) -> Measured:
    return lookup.measured(entry.get("f1")) or Measured(0.0)


def per_class_of_all(results: JsonDict) -> Table | None:
    """Return precision and recall per class of all models side by side, where they are few."""
    chosen = [m for m in lookup.models(results) if (m.get("per_class") or {}).get("test")]
    if not 2 <= len(chosen) <= 5:
        return None
    tables = [m["per_class"]["test"] for m in chosen]
    names = [[str(e.get("class")) for e in t] for t in tables]
    if len(names[0]) > _FEW_CLASSES or any(n != names[0] for n in names):
        return None
    columns = [Column("Class")]
    for m in chosen:
        group = str(m.get("title") or m["name"])
        columns += [Column("precision", "right", group), Column("recall", "right", group)]
    rows = []
    for i, name in enumerate(names[0]):
        cells = [name]
        for t in tables:
            pair = (lookup.measured(t[i].get(k)) for k in ("precision", "recall"))
            cells += [percent(s.value if s else None, sign="") for s in pair]
        rows.append(Row(tuple(cells)))
    return Table(
        key="per-class-all",
        caption="Precision and recall per class of every model on test, in per cent.",
        columns=tuple(columns),
        rows=tuple(rows),
        priority=4,
    )


def worst_pairs(results: JsonDict, model: JsonDict) -> Table | None:
    """Return the classes most often taken for another, where the matrix is too large to read."""
    matrix = (model.get("confusion") or {}).get("test") or ()
    classes = [str(c) for c in (results.get("data") or {}).get("classes") or ()]
    if len(matrix) <= _FEW_CLASSES or len(classes) != len(matrix):
        return None
    pairs = [
        (number, i, j)
        for i, line in enumerate(matrix)
        for j, number in enumerate(line)
        if i != j and number
    ]
    pairs.sort(key=lambda p: (-p[0], p[1], p[2]))
    rows = [
        Row((classes[i], classes[j], count(number), count(sum(matrix[i]))))
        for number, i, j in pairs[:_WORST_PAIRS]
    ]
    if not rows:
        return None
    return Table(
        key="worst-pairs",
        caption="Classes most often taken for another.",
        columns=(
            Column("True class"),
            Column("Taken for"),
            Column("Pictures", "right"),
            Column("of", "right"),
        ),
        rows=tuple(rows),
        priority=2,
    )


def comparisons(results: JsonDict) -> Table | None:
    """Return the paired comparisons."""
    pairs = results.get("comparisons") or ()
    if not pairs:
        return None
    both = [p.get("seconds_a") for p in pairs] + [p.get("seconds_b") for p in pairs]
    unit, seconds = durations(both)
    timed = any(p.get("speedup") is not None for p in pairs)
    weighed = any(p.get("weights_relative_difference") is not None for p in pairs)
    rows = []
    for i, pair in enumerate(pairs):
        difference = lookup.measured(pair.get("accuracy_difference"))
        cells = [
            lookup.title(results, pair["a"]),
            lookup.title(results, pair["b"]),
            percent(pair.get("agreement"), sign=""),
            count(pair.get("agreement_n")),
            points(difference.value if difference else None),
            _difference_interval(difference),
        ]
        if weighed:
            cells.append(quantity(pair.get("weights_relative_difference"), 2))
        if timed:
            cells += [seconds[i], seconds[i + len(pairs)], times(pair.get("speedup"))]
        rows.append(Row(tuple(cells), refs=(f"comparisons/{i}",)))
    columns = [
        Column("Model A"),
        Column("Model B"),
        Column("%", "right", "Same class"),
        Column("of", "right", "Same class"),
        Column("A − B", "right", "Accuracy, points"),
        Column("95% interval", "right", "Accuracy, points"),
    ]
    if weighed:
        columns.append(Column("rel. diff.", "right", "Weights"))
    if timed:
        group = f"Time, {unit}"
        columns += [Column("A", "right", group), Column("B", "right", group)]
        columns.append(Column("Gain", "right"))
    return Table(
        key="comparisons",
        caption="Models compared picture by picture"
        + ("; the gain is B’s time over A’s." if timed else "."),
        columns=tuple(columns),
        rows=tuple(rows),
        priority=1,
    )


def _difference_interval(difference: Measured | None) -> str:
    if difference is None or difference.interval is None:
        return MISSING
    return f"{points(difference.interval[0])} to {points(difference.interval[1])}"


def times_of_models(results: JsonDict) -> Table | None:
    """Return where each model's seconds went, and how many pictures went through the backbone."""
    entries = [m for m in lookup.models(results) if m.get("stages")]
    if not entries:
        return None
    extraction = [sum(s.get("extraction_seconds") or 0.0 for s in m["stages"]) for m in entries]
    total = [lookup.training_seconds(m) for m in entries]
    unit, texts = durations([*extraction, *total])
    rows = tuple(
        Row(
            (
                str(m.get("title") or m["name"]),
                str(m.get("mode") or MISSING),
                str(m.get("engine") or MISSING),
                count(m.get("images_extracted")),
                count(m.get("images_reused")),
                texts[i],
                texts[i + len(entries)],
            )
        )
        for i, m in enumerate(entries)
    )
    return Table(
        key="times",
        caption="Pictures sent through the backbone once and stored, pictures whose features were "
        "already in the store, and time.",
        columns=(
            Column("Model"),
            Column("Mode"),
            Column("Engine"),
            Column("extracted", "right", "Features of pictures"),
            Column("reused", "right", "Features of pictures"),
            Column("extraction", "right", f"Time, {unit}"),
            Column("all", "right", f"Time, {unit}"),
        ),
        rows=rows,
        priority=4,
    )
