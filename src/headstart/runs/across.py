"""Several finished runs side by side: scores, costs, what was set otherwise, paired tests."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path

from headstart.config.load import read_yaml
from headstart.errors import ConfigError, HeadstartError, RunError, nearest
from headstart.report import lookup, measures
from headstart.report.measures import Measure
from headstart.report.text import Measured, plural
from headstart.runs.across_entries import Entry, read_entries
from headstart.runs.across_pairs import Paired, readers_of_one_split, source_of, test_on
from headstart.runs.build import flattened
from headstart.runs.record import EXPERIMENT_NAME
from headstart.types import JsonDict

_ALL_PAIRS = 10  # with more parts each is compared with the chosen one alone
_SHARES = ("accuracy", "precision", "recall", "f1", "top", "auc")
# What a run's experiment says besides how it computes; parts are compared by their own settings.
_WORDS = ("name", "title", "description", "notes", "parts", "targets", "comparisons", "report")


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting that is not the same everywhere.

    Attributes:
        name: Its dotted key, after ``part``, ``study``, ``backbone``, ``data`` or ``environment``.
        values: Its value in each entry, in their order; None where it has none.
    """

    name: str
    values: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Across:
    """Parts of several runs, compared.

    Attributes:
        measure: The figure that is compared, and how it is written.
        split: Where: ``test``, ``val`` or ``test-NAME``.
        entries: The parts, the one to choose by validation first (`lookup.preferred`); where
            nothing is chosen as they came.
        best: The number of the part that validation chooses; None where no part has a score, or
            where the tasks are not the same.
        group: Numbers of the parts that validation cannot tell from it, itself included.
        settings: What is not the same everywhere.
        tests: Paired tests on `split`.
        caution: What to bear in mind of a test split that several runs have read, or None.
    """

    measure: Measure
    split: str
    entries: tuple[Entry, ...]
    best: int | None
    group: tuple[int, ...]
    settings: tuple[Setting, ...]
    tests: Paired
    caution: str | None

    def describe(self) -> JsonDict:
        """Return it as JSON-like values."""
        metric = self.measure.key
        return {
            "split": self.split,
            "metric": metric,
            "higher_is_better": self.measure.higher,
            "entries": [
                {
                    "number": entry.number,
                    "run": str(entry.folder),
                    "part": entry.part,
                    "backbone": None if entry.backbone is None else entry.backbone["name"],
                    "score": _json(entry.score(self.split, metric)),
                    "validation": _json(entry.score("val", metric)),
                    "wall_seconds": round(entry.seconds, 3),
                    "parameters_total": entry.model["parameters_total"],
                    "size_bytes": entry.model["size_bytes"],
                    "latency_ms": entry.latency_ms,
                }
                for entry in self.entries
            ],
            "best_by_validation": self.best,
            "indistinguishable_by_validation": list(self.group),
            "settings": [{"name": s.name, "values": list(s.values)} for s in self.settings],
            "tests": {
                "method": self.tests.method,
                "correction": "holm",
                "pairs": [_pair(asdict(pair)) for pair in self.tests.pairs],
                "unpaired": [_pair(asdict(pair)) for pair in self.tests.unpaired],
            },
            "caution": self.caution,
        }


def compare_runs(
    runs: Sequence[str | Path],
    *,
    split: str = "test",
    metric: str | None = None,
    every: bool = False,
) -> Across:
    """Compare parts of finished runs.

    Args:
        runs: Run folders, of which the recommended part is taken, or ``RUN/PART``.
        split: ``test``, ``val``, or ``test-NAME`` of a further test set.
        metric: A figure of results.json; None for accuracy, squared error or perplexity.
        every: Whether to take every part of a run that has a score, not the recommended one.

    Returns:
        The comparison.

    Raises:
        RunError: There is no such run or part, a run is not complete, or runs do not go together.
        ConfigError: There are fewer than two parts, or no such split or metric.
    """
    entries = read_entries(runs, every=every)
    if len(entries) < 2:
        raise ConfigError(
            f"compare: expected at least two runs or parts, got {len(entries)}: give two run "
            "folders, RUN/PART, or --all for every part of a run"
        )
    measure = _measure(entries, split, metric, every)
    if every:
        entries = [e for e in entries if e.score(split, measure.key) is not None]
    alike = len({_task(entry) for entry in entries}) == 1
    ordered, ranked = _ordered(entries, measure) if alike else (entries, 0)
    entries = _numbered(ordered)
    with_val = entries[:ranked]
    best = with_val[0] if with_val else None
    sources = {e.key: source_of(e.folder, e.part, e.results) for e in entries}
    pairs = [(a.key, b.key) for a, b in combinations(entries, 2)]
    if len(entries) > _ALL_PAIRS:
        pairs = [pair for pair in pairs if pair[0] == entries[0].key]
    goal = measures.goal(entries[0].results)
    return Across(
        measure=measure,
        split=split,
        entries=tuple(entries),
        best=None if best is None else best.number,
        group=() if best is None else _group(best, with_val, measure),
        settings=differing(entries),
        tests=test_on(sources, pairs, split, goal, measure.key),
        caution=_caution(entries, split) if split.startswith("test") else None,
    )


def differing(entries: Sequence[Entry]) -> tuple[Setting, ...]:
    """Return every setting, fact of the data and version that is not the same everywhere."""
    flat = [_facts(entry) for entry in entries]
    names = dict.fromkeys(name for facts in flat for name in facts)
    rows = (Setting(name, tuple(facts.get(name) for facts in flat)) for name in names)
    return tuple(row for row in rows if any(value != row.values[0] for value in row.values))


def _measure(entries: Sequence[Entry], split: str, metric: str | None, every: bool) -> Measure:
    """Return the figure to compare, which every part that was named must have."""
    goals = {measures.goal(e.results) for e in entries}
    if len(goals) > 1:
        kinds = ", ".join(f"{e.run}: {measures.goal(e.results)}" for e in entries)
        raise RunError(f"compare: expected runs of one kind, got {kinds}")
    chosen = measures.chosen_by(entries[0].results)
    splits = dict.fromkeys(s for e in entries for s in e.model["metrics"])
    if split not in splits:
        raise ConfigError(
            f"split: expected one that was measured, got {split!r}: {nearest(split, splits)}"
        )
    key = chosen.key if metric is None else metric
    known = dict.fromkeys(m for e in entries for m in e.model["metrics"].get(split, {}))
    if key not in known:
        raise ConfigError(
            f"metric: expected one that was measured on {split}, got {key!r}: {nearest(key, known)}"
        )
    lacking = [f"{e.run}/{e.part}" for e in entries if e.score(split, key) is None]
    if lacking and not every:
        raise ConfigError(
            f"metric: expected {key} on {split} of every part, got none of {', '.join(lacking)}"
        )
    return chosen if key == chosen.key else _other(key)


def _other(key: str) -> Measure:
    words = key.replace("_", " ")
    share = key.startswith(_SHARES)
    return Measure(key, words, words, share, None if share else 3, "")


def _task(entry: Entry) -> object:
    """Return what two parts must share for their figures to be on one scale."""
    data = entry.results["data"]
    # A perplexity hangs on the vocabulary and its text; an accuracy on the classes.
    return (
        data["fingerprint"]
        if measures.goal(entry.results) == "language"
        else frozenset(data["classes"])
    )


def _ordered(entries: Sequence[Entry], measure: Measure) -> tuple[list[Entry], int]:
    """Return parts, those to choose first as in a run's report, and how many validation ranks."""
    ranked = lookup.preferred([e.model for e in entries], "val", measure)
    place = {id(model): position for position, model in enumerate(ranked)}
    found = sorted(entries, key=lambda e: place.get(id(e.model), len(ranked)))
    return found, len(ranked)


def _numbered(entries: Iterable[Entry]) -> list[Entry]:
    return [replace(entry, number=number) for number, entry in enumerate(entries, 1)]


def _group(best: Entry, entries: Sequence[Entry], measure: Measure) -> tuple[int, ...]:
    """Return the parts that validation cannot tell from the best one.

    By a paired test where both predicted the same validation samples, else by the report's rule:
    the worse lies inside the interval of the better.
    """
    sources = {e.key: source_of(e.folder, e.part, e.results) for e in entries}
    pairs = [(best.key, e.key) for e in entries if e is not best]
    goal = measures.goal(best.results)
    tested = {t.b: t for t in test_on(sources, pairs, "val", goal, measure.key).pairs}
    first = best.score("val", measure.key)
    found = [best.number]
    for entry in entries:
        own = entry.score("val", measure.key)
        if entry is best or own is None or first is None:
            continue
        test = tested.get(entry.key)
        apart = measure.apart(first, own) if test is None else test.distinguishable
        # An ensemble may have the better score, and stand behind a single model all the same.
        if not apart or measure.rank(own) < measure.rank(first):
            found.append(entry.number)
    return tuple(found)


def _facts(entry: Entry) -> dict[str, object]:
    """Return everything about a part that may explain its figures, flat."""
    model, results = entry.model, entry.results
    own: JsonDict = {k: model[k] for k in ("mode", "head", "labels_per_class", "seed")}
    own |= {"kind": model.get("kind", "model")}
    own |= {"from_scratch": model.get("from_scratch", False), **model["hyperparameters"]}
    try:
        study = flattened(read_yaml(entry.folder / EXPERIMENT_NAME))
    except HeadstartError:
        study = {}  # a folder that somebody cleaned up: results.json says the rest
    backbone = entry.backbone or {}
    data = results["data"]
    counts = {split: sum(classes.values()) for split, classes in data.get("counts", {}).items()}
    counts = counts or data.get("tokens", {})
    groups = {
        "part": flattened(own),
        "study": {k: v for k, v in study.items() if k.partition(".")[0] not in (*_WORDS, "data")},
        "backbone": flattened({k: backbone.get(k) for k in ("name", "cut", "weights", "digest")}),
        "input": flattened(backbone.get("input", {})),
        "data": {
            **{k: v for k, v in study.items() if k.startswith("data.")},
            "origin": data["origin"],
            "fingerprint": data["fingerprint"],
            **{f"{split} samples": n for split, n in counts.items()},
        },
        "environment": flattened(results["environment"]),
    }
    found = {}
    for group, facts in groups.items():
        for name, value in facts.items():
            # A setting of a single backbone is that part's business; others did not take part.
            if not name.startswith("backbones."):
                found[f"{group}.{name.removeprefix(group + '.')}"] = value
    return found


def _caution(entries: Sequence[Entry], split: str) -> str | None:
    """Return what to bear in mind of a test split that was read more than once."""
    goal = measures.goal(entries[0].results)
    sources = {e.key: source_of(e.folder, e.part, e.results) for e in entries}
    readers = readers_of_one_split(sources, split, goal)
    folders = {e.folder.resolve() for e in entries if e.key in readers}
    # A run that is compared may stand among the earlier looks of another: it counts once. Its
    # command tells nothing: the same one may have run an experiment file that was edited since.
    compared = {e.results.get("created") for e in entries}
    earlier = {
        (look["study"], look["profile"], look["when"])
        for entry in entries
        if entry.key in readers
        for look in (entry.results.get("test_looks") or {}).get("earlier", ())
        if look["when"] not in compared
    }
    if len(folders) + len(earlier) < 2:
        return None
    besides = f", and {plural(len(earlier), 'earlier study', 'earlier studies')} before them"
    return (
        f"{plural(len(folders), 'run')} compared here read this {split} split"
        + (besides if earlier else "")
        + ": choosing among them by its figures flatters the one chosen; choose by validation."
    )


def _json(score: Measured | None) -> JsonDict | None:
    return None if score is None else asdict(score)


def _pair(pair: JsonDict) -> JsonDict:
    """Return a pair with the numbers of its parts."""
    return {**pair, "a": int(pair["a"]), "b": int(pair["b"])}
