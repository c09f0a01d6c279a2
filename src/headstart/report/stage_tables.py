"""Tables of staged training: what each stage trains, and where its features and seconds went."""

from collections.abc import Mapping, Sequence
from typing import Any

from headstart.report import kinds, lookup, nouns
from headstart.report.records import Column, Facts, Row, Table
from headstart.report.text import MISSING, align, capital, count, durations, megabytes, setting
from headstart.types import JsonDict

# What the table of stages has a column for.
SHOWN = ("name", "trainable", "epochs", "optimizer.kind", "optimizer.learning_rate")

_SHORT = 16  # a name that no line may break in

Entry = tuple[JsonDict, int, JsonDict]


def _entries(results: JsonDict) -> list[Entry]:
    """Return every stage with its model and position, where a run trained in stages at all."""
    if not kinds.staged(results):
        return []
    return [(m, i, s) for m in kinds.trained(results) for i, s in enumerate(kinds.stages(m))]


def _heads(entries: Sequence[Entry]) -> tuple[tuple[Column, Sequence[str]], ...]:
    """Return the columns that say which stage of which model a row is about."""
    return (
        (Column("Model"), [str(m.get("title") or m["name"]) for m, _, _ in entries]),
        (Column("Stage"), [stage_name(s, i) for _, i, s in entries]),
    )


def stage_name(stage: Mapping[str, Any], position: int) -> str:
    """Return a stage's number and name: 2 last 3."""
    name = str(stage.get("name") or stage.get("trainable") or "")
    text = f"{position + 1} {name}".strip()
    return text.replace(" ", "\u00a0") if len(text) < _SHORT else text


def _rows(
    entries: Sequence[Entry], columns: Sequence[tuple[Column, Sequence[str]]], cited: bool
) -> tuple[Row, ...]:
    return tuple(
        Row(
            tuple(texts[k] for _, texts in columns),
            refs=(f"models/{m['name']}/stages/{i}",) if cited else (),
        )
        for k, (m, i, _) in enumerate(entries)
    )


def stages(results: JsonDict) -> Table | None:
    """Return what each stage of each model trains, how, and how long."""
    entries = _entries(results)
    if not entries:
        return None
    found = [s for _, _, s in entries]
    columns = [*_heads(entries)]
    trainable = [str(s.get("trainable") or MISSING) for s in found]
    if any(s.get("name") not in (None, s.get("trainable")) for s in found):
        columns.append((Column("Trained"), trainable))
    columns += [
        (Column("Frozen up to"), [_cut(s) for s in found]),
        (Column("Optimizer"), [str(s.get("optimizer") or MISSING) for s in found]),
        (Column("Learning rate", "right"), align([_rate(s) for s in found])),
        (Column("run", "right", "Epochs"), [count(s.get("epochs")) for s in found]),
        (Column("kept", "right", "Epochs"), [count(s.get("best_epoch")) for s in found]),
    ]
    if any(_steps(s) != "float32" for s in found):
        columns.append((Column("Steps in"), [_steps(s) for s in found]))
    for head, key in (("trained", "parameters_trainable"), ("frozen", "parameters_frozen")):
        columns.append((Column(head, "right", "Parameters"), [count(s.get(key)) for s in found]))
    return Table(
        key="stages",
        caption="Stages of training, in order; the epoch that was kept counts from the start of "
        "its stage.",
        columns=tuple(column for column, _ in columns),
        rows=_rows(entries, columns, cited=True),
        priority=2,
    )


def _cut(stage: Mapping[str, Any]) -> str:
    cut = stage.get("cut")
    return "nothing" if cut == "input" else str(cut or MISSING)


def _steps(stage: Mapping[str, Any]) -> str:
    return f"{stage.get('precision', 'float32')}{', compiled' * bool(stage.get('compiled'))}"


def _rate(stage: Mapping[str, Any]) -> str:
    rate = stage.get("learning_rate")  # 0 where the optimizer has none
    return setting(float(rate)) if rate else MISSING


def costs(results: JsonDict) -> Table | None:
    """Return where each stage's features came from, its seconds, and its room on the disk."""
    entries = [(m, i, s) for m, i, s in _entries(results) if s.get("features")]
    if not entries:
        return None
    found = [s for _, _, s in entries]
    extraction = [s.get("extraction_seconds") for s in found]
    unit, texts = durations([*extraction, *(s.get("wall_seconds") for s in found)])
    columns = [*_heads(entries), (Column("Features"), [str(s["features"]) for s in found])]
    if any(s.get("replayed_from") for s in found):
        replayed = [str(s.get("replayed_from") or MISSING) for s in found]
        columns.append((Column("Replayed from"), replayed))
    columns += [
        (Column("extraction", "right", f"Time, {unit}"), texts[: len(found)]),
        (Column("all", "right", f"Time, {unit}"), texts[len(found) :]),
        (Column("Disk, MB", "right"), [megabytes(s.get("disk_bytes")) for s in found]),
    ]
    return Table(
        key="stage-costs",
        caption="What each stage cost. Stored features are computed once, from the "
        f"{nouns.many(results)} or by replaying those of an earlier cut; recomputed ones at every "
        "step.",
        columns=tuple(column for column, _ in columns),
        rows=_rows(entries, columns, cited=False),
        priority=3,
    )


def settings(results: JsonDict) -> tuple[Table | None, Facts]:
    """Return the settings in which stages differ, and those that all of them share.

    Args:
        results: The content of results.json.

    Returns:
        A table, or None where no stage differs from the others; and the shared settings.
    """
    entries = [e for e in _entries(results) if _own(e)]
    given = [_own(e) for e in entries]
    keys = list(dict.fromkeys(k for own in given for k in own))
    shared = [k for k in keys if all(k in own and own[k] == given[0][k] for own in given)]
    names = _names(keys)
    facts = Facts(tuple((capital(names[k]), setting(given[0][k])) for k in shared), priority=5)
    texts = [
        ", ".join(
            f"{names[k]} {setting(v)}" for k, v in own.items() if k not in shared and not _off(v)
        )
        for own in given
    ]
    if not any(texts):
        return None, facts
    kept = [(e, text) for e, text in zip(entries, texts, strict=True) if text]
    entries = [entry for entry, _ in kept]
    columns = (*_heads(entries), (Column("Settings"), [text for _, text in kept]))
    table = Table(
        key="stage-settings",
        caption="Further settings in which stages differ; what is 0 or off is not listed.",
        columns=tuple(column for column, _ in columns),
        rows=_rows(entries, columns, cited=False),
        priority=4,
    )
    return table, facts


def _own(entry: Entry) -> dict[str, Any]:
    """Return the settings of one stage that have no column in the table of stages."""
    model, position, _ = entry
    own = lookup.stage_settings(model, position)
    return {k: v for k, v in own.items() if k.split(".")[0] not in SHOWN and k not in SHOWN}


def _off(value: Any) -> bool:
    return value in (0, False, "none", "auto")


def _names(keys: Sequence[str]) -> dict[str, str]:
    names = lookup.setting_names(keys)
    for key in keys:
        owner, _, group = key.partition(".")
        if owner == "learning_rates":
            names[key] = f"learning rate of {group}"
    return names
