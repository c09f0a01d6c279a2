"""The numbers of a run that its report may show, told apart by what they are."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

Path_ = tuple[str, ...]
NONE = np.zeros(0)


@dataclass(frozen=True, slots=True)
class Token:
    """A number as it is shown."""

    text: str
    value: float
    half: float  # of the last digit shown
    unit: str
    power: bool = False

    def shows(self, stored: float, factor: float) -> bool:
        """Whether a stored value, rounded to the digits shown, is this number."""
        return abs(stored * factor - self.value) <= self.half * (1 + 1e-6) + 1e-12


@dataclass
class Pool:
    """The numbers that a text may show, told apart by what they are: no share is a time."""

    leaves: list[tuple[Path_, float]] = field(default_factory=list)

    @cached_property
    def by_kind(self) -> dict[str, np.ndarray]:
        """Stored values, and sums of what hangs together, ascending."""
        found: dict[str, list[float]] = {}
        groups: dict[tuple[str, Path_], list[float]] = {}
        for path, value in self.leaves:
            kind = kind_of(path, value)
            found.setdefault(kind, []).append(value)
            if kind in ("count", "time", "size"):
                # The same field of neighbours, and the fields of one record.
                groups.setdefault((kind, (*path[:-2], path[-1])), []).append(value)
                groups.setdefault((kind, (*path[:-1], "*")), []).append(value)
            elif kind == "share":
                groups.setdefault((kind, (*path[:-3], *path[-2:])), []).append(value)
        for (kind, _), values in groups.items():
            if len(values) > 1:
                found[kind].append(float(np.mean(values) if kind == "share" else sum(values)))
        return {kind: _ascending(values) for kind, values in found.items()}

    def has(self, token: Token, kinds: Sequence[str], factor: float = 1.0) -> bool:
        """Whether a value of one of the kinds, times the factor, is shown by the token."""
        return any(shows(token, self.by_kind.get(k, NONE), factor) for k in kinds)

    def has_p(self, token: Token) -> bool:
        """Whether a p-value is shown by the token."""
        ps = (v for path, v in self.leaves if path[-1] in ("p", "p_holm"))
        return any(token.shows(p, 1.0) for p in ps)

    @cached_property
    def differences(self) -> np.ndarray:
        """Differences of scores that have the same name, and per doubling of the labels."""
        return self._paired(("share", "figure"), lambda a, b: a - b)

    @cached_property
    def ratios(self) -> np.ndarray:
        """How many times longer, larger or more one is than another of the same name."""
        return self._paired(("time", "size", "count", "figure"), lambda a, b: a / b)

    def _paired(self, kinds: Sequence[str], how: Any) -> np.ndarray:
        by_key: dict[Path_, list[float]] = {}
        for path, value in self.leaves:
            if kind_of(path, value) in kinds:
                names = tuple(step for step in path[1:] if not step.isdigit())
                by_key.setdefault(names[-2:], []).append(value)
        found: list[float] = []
        for values in by_key.values():
            v = np.unique(values)[:300]
            with np.errstate(divide="ignore", invalid="ignore"):
                made = how(v[:, None], v[None, :]).ravel()
            found += made[np.isfinite(made)].tolist()
        return _ascending(found)

    @cached_property
    def doublings(self) -> np.ndarray:
        """Gains of accuracy per doubling of the labels, between neighbours."""
        points: dict[float, list[float]] = {}
        labels = {p[0]: v for p, v in self.leaves if p[-1] == "labels_per_class"}
        for path, value in self.leaves:
            if path[-2:] == ("accuracy", "value") and path[0] in labels:
                points.setdefault(labels[path[0]], []).append(value)
        numbers = sorted(points)
        return _ascending(
            (b - a) / math.log2(m / n)
            for n, m in pairwise(numbers)
            for a in points[n]
            for b in points[m]
        )

    @cached_property
    def scores(self) -> list[tuple[float, float, float]]:
        """Values with both ends of their interval."""
        records: dict[Path_, dict[str, float]] = {}
        for path, value in self.leaves:
            records.setdefault(path[:-1], {})[path[-1]] = value
        return [
            (r["value"], r["low"], r["high"])
            for r in records.values()
            if {"value", "low", "high"} <= r.keys()
        ]


def kind_of(path: Path_, value: float) -> str:
    """Return what a stored number is: a share, time, size, count or some other figure."""
    last = path[-1]
    settings = {"hyperparameters", "head", "input", "axes", "learning_rate", "threshold"}
    kind = "figure"
    if "seconds" in last or last in ("ms", "p50_ms", "p95_ms") or "added" in path[-2:]:
        kind = "time"
    elif "bytes" in last:
        kind = "size"
    elif settings & {*path} or ("values" in path and not last.isdigit()):
        kind = "setting"  # of a sweep's member: the values of seeds and draws are scores
    elif last == "temperature" and "calibration" not in path:
        kind = "setting"
    elif value == int(value) and last not in ("value", "low", "high", "mean"):
        kind = "count"
    elif -1.0 <= value <= 1.0 and not {"loss", "mse", "mae", "perplexity"} & {*path}:
        kind = "share"
    return kind


def _ascending(values: Iterable[float]) -> np.ndarray:
    return np.array(sorted(set(values)), dtype=float)


def collect(value: Any, path: Path_ = ()) -> Iterator[tuple[Path_, float]]:
    """Yield every number below a JSON value, lengths of lists and mappings too."""
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, int | float):
        if math.isfinite(value):
            yield path, float(value)
    elif isinstance(value, Mapping):
        yield (*path, "#"), float(len(value))
        for key, child in value.items():
            yield from collect(child, (*path, str(key)))
    elif isinstance(value, list):
        yield (*path, "#"), float(len(value))
        for i, child in enumerate(value):
            yield from collect(child, (*path, str(i)))


def with_derived(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return the results with what the report computes from fields of different names.

    Args:
        results: The content of results.json.

    Returns:
        The same without the report's own sentences, and with records called ``derived``: shares of
        texts that were cut off, milliseconds of the prediction per sample, totals over the splits.
    """
    found = {k: v for k, v in results.items() if k != "recommendation"}
    models = []
    samples = [(m.get("prediction") or {}).get("samples") for m in found.get("models") or ()]
    each = {
        m["name"]: 1000 * m["prediction"]["seconds"] / m["prediction"]["samples"]
        for m in found.get("models") or ()
        if (m.get("prediction") or {}).get("seconds") is not None and m["prediction"].get("samples")
    }
    for model in found.get("models") or ():
        derived: dict[str, Any] = {}
        vote = model.get("ensemble") or {}
        if model["name"] in each:
            derived["ms"] = each[model["name"]]
        if vote.get("prediction_seconds") is not None and any(samples):
            vote_ms = 1000 * vote["prediction_seconds"] / next(n for n in samples if n)
            single = [v for k, v in each.items() if k in (vote.get("members") or ())]
            derived |= {"ms": vote_ms, "added": [vote_ms - ms for ms in single]}
        models.append({**model, "derived": derived})
    for model in models:
        matrix = np.array((model.get("confusion") or {}).get("test") or [[0]])
        np.fill_diagonal(matrix, 0)
        both = np.triu(matrix + matrix.T)
        worst = np.maximum(np.triu(matrix), np.triu(matrix.T))
        order = np.argsort(-(worst + both / 1e6), axis=None, kind="stable")[:10]
        model["derived"] |= {
            "errors": int(matrix.sum()),
            "confused": int((both > 0).sum()),
            "listed": int(both.ravel()[order].sum()),
            "shares": (both.ravel()[order] / max(1, matrix.sum())).tolist(),
        }
        tested = (model.get("calibration") or {}).get("test") or {}
        for when, said in tested.items():
            total = sum(b["n"] for b in said.get("bins") or ())
            sure = sum(b["n"] * b["confidence"] for b in said.get("bins") or ())
            model["derived"][f"confidence-{when}"] = sure / max(1, total)
            right = sum(b["n"] * b["accuracy"] for b in said.get("bins") or ())
            model["derived"][f"gap-{when}"] = (sure - right) / max(1, total)
    analysis = dict(found.get("analysis") or {})
    near = analysis.get("near_duplicates")
    if near:
        scored = [
            {**m, "effect": m["accuracy"]["value"] - m["without"]["value"]} for m in near["models"]
        ]
        unlike = sum(p["train_label"] != p["test_label"] for p in near["pairs"])
        learnt = sum(n for split, n in near["checked"].items() if split != "test")
        more = {"models": scored, "unlike": unlike, "learnt": learnt}
        analysis["near_duplicates"] = {**near, **more}
    networks = []
    for entry in found.get("backbones") or ():
        cut = entry.get("truncation") or {}
        shares = {
            part: cut[part] / cut[whole]
            for part, whole in (("truncated", "texts"), ("tokens_lost", "tokens"))
            if cut.get(part) is not None and cut.get(whole)
        }
        networks.append({**entry, "derived": shares})
    data = dict(found.get("data") or {})
    counts = data.get("counts") or {}
    of_splits = [float(sum(of.values())) for of in counts.values()]
    data["derived"] = {"splits": of_splits, "all": sum(of_splits)}
    # Always answering the class that is most frequent in training.
    for of in counts.values():
        known = counts.get("train") or of
        if sum(of.values()):
            share = of.get(max(known, key=lambda c: known[c]), 0) / sum(of.values())
            data["derived"].setdefault("majority", []).append(share)
    data["derived"]["tokens"] = sum((data.get("tokens") or {}).values())
    pairs = [
        {**p, "same": round((p.get("agreement") or 0) * (p.get("agreement_n") or 0))}
        for p in found.get("comparisons") or ()
    ]
    made = {
        "comparisons": pairs,
        "models": models,
        "backbones": networks,
        "data": data,
        "analysis": analysis,
    }
    return {**found, **made}


def shows(token: Token, values: np.ndarray, factor: float) -> bool:
    """Whether some value is the token; its sign counts only where it is written."""
    signs = (1.0,) if token.text[0] in "+−-" else (1.0, -1.0)
    for sign in signs:
        ends = sorted(sign * (token.value + k * token.half) / factor for k in (-1, 1))
        slack = 1e-9 * max(abs(ends[0]), abs(ends[1]), 1e-12)
        i = np.searchsorted(values, ends[0] - slack)
        if i < len(values) and values[i] <= ends[1] + slack:
            return True
    return False
