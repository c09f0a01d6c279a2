"""What a ranking comes to: who is dominated, who cannot be told from the best, what to take."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from headstart.compare.paired import mcnemar_exact
from headstart.compare.tests import LEVEL, holm
from headstart.evaluate.transferability import RankCorrelation, kendall, spearman
from headstart.report.cost_plotting import front
from headstart.types import JsonDict

Right = npt.NDArray[np.bool_]


def judge(entries: Sequence[JsonDict], right: Mapping[str, Right], noun: str) -> JsonDict:
    """Mark what is dominated and what cannot be told from the best, and say what to take.

    An entry is dominated where another is at least as accurate and at least as fast (median time
    of a single sample), and better in one. It is indistinguishable from the best where a test on
    the same samples does not tell the two apart: McNemar's exact test, whose p-value is 0.05 or
    more after Holm's correction for all networks. Intervals of the accuracies say less: what both
    tell right, or both wrong, widens them though it compares nothing.

    Args:
        entries: The networks; those with scores get ``dominated_by``, ``indistinguishable`` and
            ``against_best``.
        right: Whether each sample was told right by the probe, by key, bool [n].
        noun: What one sample is.

    Returns:
        ``name``, ``best``, the keys of those that are ``indistinguishable``, and ``sentence``.
    """
    ranked = [one for one in entries if one["scores"] is not None]
    for one in entries:
        one["dominated_by"] = one["indistinguishable"] = one["against_best"] = None
    accuracies = [one["scores"]["probe"]["accuracy"] for one in ranked]
    times = [one["latency"]["1"]["p50_ms"] for one in ranked]
    kept = front(times, [a["value"] for a in accuracies])
    best = max(range(len(ranked)), key=lambda i: (accuracies[i]["value"], -times[i]))
    for i, one in enumerate(ranked):
        if not kept[i]:
            one["dominated_by"] = _dominator(i, times, [a["value"] for a in accuracies], ranked)
    _against_best(ranked, best, right)
    for one in ranked:
        against = one["against_best"]
        one["indistinguishable"] = against is None or against["p_holm"] >= LEVEL
    able = [i for i, one in enumerate(ranked) if one["indistinguishable"]]
    chosen = min(able, key=lambda i: (times[i], -accuracies[i]["value"]))
    return {
        "name": ranked[chosen]["key"],
        "best": ranked[best]["key"],
        "indistinguishable": [ranked[i]["key"] for i in able],
        "sentence": _sentence(ranked, chosen, best, able, times, noun),
    }


def _against_best(ranked: Sequence[JsonDict], best: int, right: Mapping[str, Right]) -> None:
    """Test each network against the best on the same samples."""
    reference = right[ranked[best]["key"]]
    others = [one for i, one in enumerate(ranked) if i != best]
    counts = [
        (int((right[o["key"]] & ~reference).sum()), int((~right[o["key"]] & reference).sum()))
        for o in others
    ]
    for one, (own, best_only), p in zip(
        others, counts, holm([mcnemar_exact(a, b) for a, b in counts]), strict=True
    ):
        one["against_best"] = {"only": own, "best_only": best_only, "p_holm": float(f"{p:.6g}")}


def _dominator(
    place: int, times: Sequence[float], values: Sequence[float], ranked: Sequence[JsonDict]
) -> str:
    """Return the most accurate of those that are at least as good in both."""
    better = [
        i
        for i in range(len(times))
        if times[i] <= times[place]
        and values[i] >= values[place]
        and (times[i] < times[place] or values[i] > values[place])
    ]
    return str(ranked[max(better, key=lambda i: (values[i], -times[i]))]["key"])


def _sentence(
    ranked: Sequence[JsonDict],
    chosen: int,
    best: int,
    able: Sequence[int],
    times: Sequence[float],
    noun: str,
) -> str:
    def told(i: int) -> str:
        score = ranked[i]["scores"]["probe"]["accuracy"]
        interval = f"{100 * score['low']:.1f}–{100 * score['high']:.1f}%"
        return f"{100 * score['value']:.1f}%, {interval}"

    name, time_text = ranked[chosen]["key"], f"{times[chosen]:.1f} ms a {noun}"
    if len(ranked) == 1:
        return f"{name} is the only candidate: {told(chosen)}, {time_text}."
    if chosen == best:
        also = f"; the fastest of {len(able)} that cannot be told apart" if len(able) > 1 else ""
        return f"Take {name}: the most accurate ({told(best)}){also}, {time_text}."
    return (
        f"Take {name} ({told(chosen)}): the fastest of {len(able)} that cannot be told from the "
        f"best, {ranked[best]['key']} ({told(best)}); {time_text} against {times[best]:.1f} ms."
    )


def agreement(entries: Sequence[JsonDict]) -> list[JsonDict]:
    """Return how well each cheap score predicted the order of the probe's accuracy.

    Args:
        entries: The networks.

    Returns:
        For each of ``logme``, ``leep`` and ``knn``: rank correlations, with how many networks they
        rest on.
    """
    out = []
    ranked = [one["scores"] for one in entries if one["scores"] is not None]
    for score in ("logme", "leep", "knn"):
        pairs = [
            (s[score]["value"] if score == "knn" else s[score], s["probe"]["accuracy"]["value"])
            for s in ranked
            if s[score] is not None
        ]
        a, b = (np.array([p[i] for p in pairs], dtype=np.float64) for i in (0, 1))
        out.append(
            {
                "score": score,
                "n": len(pairs),
                "spearman": _json(spearman(a, b)),
                "kendall": _json(kendall(a, b)),
            }
        )
    return out


def _json(found: RankCorrelation) -> JsonDict:
    return {
        "value": None if found.value is None else round(found.value, 10),
        "p": None if found.p is None else round(found.p, 10),
    }
