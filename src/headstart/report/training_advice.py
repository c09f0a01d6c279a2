"""Rules on the roles of pretrained weights and of frozen layers."""

from collections.abc import Sequence

from headstart.report import differences, kinds, lookup, measures
from headstart.report.differences import Difference
from headstart.report.text import Measured, count, duration, listing, plural, points
from headstart.types import JsonDict

_MOST_PAIRS = 6


def transfer(results: JsonDict, ranked: Sequence[JsonDict]) -> list[JsonDict]:
    """Return what pretrained weights brought, against random ones of the same network.

    Args:
        results: The content of results.json.
        ranked: The finished models, the one to choose first.

    Returns:
        One sentence per model from scratch that has a pretrained counterpart.
    """
    said = []
    trained = [m for m in ranked if kinds.is_trained(m)]
    for scratch in (m for m in trained if kinds.from_scratch(m)):
        same = [
            m
            for m in trained
            if not kinds.from_scratch(m)
            and kinds.network(results, m) == kinds.network(results, scratch)
        ]
        difference = differences.between(results, same[0], scratch) if same else None
        if difference is None:
            continue
        one, other = (lookup.quoted(results, m["name"]) for m in (same[0], scratch))
        text = (
            f"{one}, pretrained, against {other}, the same network from random weights: "
            f"{difference.text}"
        )
        text += {
            "better": ": transfer learning is a real gain.",
            "worse": ": here training from scratch is better.",
            "same": f". {difference.reason}The two cannot be told apart: the pretrained weights "
            "bring no gain that could be measured.",
            "unknown": ". Without intervals there is no verdict.",
        }[difference.outcome]
        text += _budgets(results, same[0], scratch)
        said.append(_sentence("transfer", text, same[0], scratch, difference))
    return said


def _budgets(results: JsonDict, one: JsonDict, other: JsonDict) -> str:
    """Say how long both trained, and how much of the network."""
    parts = []
    for model in (one, other):
        epochs = [s["epochs"] for s in kinds.stages(model) if s.get("epochs")]
        seconds = lookup.training_seconds(model)
        weights = _most_trained(model)
        words = [f"{count(weights)} parameters"] if weights is not None else []
        if epochs:
            run = "\u00a0+\u00a0".join(count(n) for n in epochs)  # no line may break inside
            words.append(f"over {run} epochs")
        if seconds is not None:
            words.append(f"in {duration(seconds)}")
        if not words:
            return ""
        parts.append(f"{lookup.quoted(results, model['name'])} trained {' '.join(words)}")
    return f" {parts[0]}; {parts[1]}."


def _most_trained(model: JsonDict) -> int | None:
    """Return the parameters of the stage that trains most."""
    known = [n for s in kinds.stages(model) if (n := s.get("parameters_trainable")) is not None]
    return max(known) if known else model.get("parameters_trainable")


def frozen(results: JsonDict, ranked: Sequence[JsonDict]) -> list[JsonDict]:
    """Return what releasing frozen layers gained or lost, and what it cost.

    Args:
        results: The content of results.json.
        ranked: The finished models, the one to choose first.

    Returns:
        One sentence per fine-tuned model that has a counterpart with the head alone trained, after
        a summary where there are several.
    """
    trained = [m for m in ranked if kinds.is_trained(m)]
    pretrained = [m for m in trained if not kinds.from_scratch(m)]
    said: list[JsonDict] = []
    outcomes: list[tuple[str, JsonDict]] = []
    # The same training done two ways, to compare their times, is one training here.
    again = {p["b"] for p in results.get("comparisons") or () if p.get("speedup") is not None}
    for tuned in (m for m in pretrained if kinds.beyond_head(m) and m["name"] not in again):
        network = kinds.network(results, tuned)
        heads = [
            m
            for m in pretrained
            if kinds.stages(m) and not kinds.beyond_head(m) and kinds.network(results, m) == network
        ]
        heads.sort(key=lambda m: _head(m) != _head(tuned))  # the same kind of head first
        difference = differences.between(results, tuned, heads[0]) if heads else None
        if difference is None:
            continue
        text = _released(results, tuned, heads[0], difference)
        said.append(_sentence("frozen", text, heads[0], tuned, difference))
        outcomes.append((difference.outcome, tuned))
    if len(said) > 1:
        said.insert(0, _summary(outcomes))
    return said[: _MOST_PAIRS + 1]


def _head(model: JsonDict) -> str:
    return str((model.get("head") or {}).get("kind"))


def _released(results: JsonDict, tuned: JsonDict, head: JsonDict, difference: Difference) -> str:
    """Return what one fine-tuned model shows against its frozen counterpart."""
    one, other = (lookup.quoted(results, m["name"]) for m in (tuned, head))
    text = f"{one} against {other}, whose backbone stays frozen: {difference.text}"
    text += {
        "better": ": releasing layers is a real gain.",
        "worse": f": releasing layers {_loses(results)}.",
        "same": ". The two cannot be told apart: freezing costs nothing that could be measured.",
        "unknown": ". Without intervals there is no verdict.",
    }[difference.outcome]
    if _head(tuned) != _head(head):
        text += f" Their heads differ too ({_head(tuned)}, {_head(head)})."
    weights = [_most_trained(m) for m in (tuned, head)]
    if weights[0] is not None and weights[1] is not None:
        text += f" It trains {count(weights[0])} parameters ({kinds.recipe(tuned)}) "
        text += f"instead of {count(weights[1])}"
        seconds = [lookup.training_seconds(m) for m in (tuned, head)]
        if seconds[0] is not None and seconds[1] is not None:
            text += f", and takes {duration(seconds[0])} instead of {duration(seconds[1])}"
        text += "."
    return text + _overfitting(tuned, head)


def _loses(results: JsonDict) -> str:
    measure = measures.chosen_by(results)
    return f"loses {measure.words}" if measure.higher else f"raises the {measure.words}"


def _overfitting(tuned: JsonDict, head: JsonDict) -> str:
    """Say how far training accuracy lies above test accuracy, with and without frozen layers."""
    gaps = [_gap(m) for m in (tuned, head)]
    if gaps[0] is None or gaps[1] is None:
        return ""
    text = (
        f" Training accuracy lies {_above(gaps[1])} test accuracy with frozen layers, "
        f"{_above(gaps[0])} it without"
    )
    first, second = gaps[0].interval, gaps[1].interval
    if first is None or second is None:
        return text + "."
    if first[0] > second[1]:
        return text + ": it overfits more."
    if first[1] < second[0]:
        return text + ": it overfits less."
    return text + "; the difference lies within the intervals."


def _above(gap: Measured) -> str:
    words = points(abs(gap.value)).lstrip("+")
    return f"{words} points {'above' if gap.value >= 0 else 'below'}"


def _gap(model: JsonDict) -> Measured | None:
    """Return training minus test accuracy; its interval holds every pair of the two intervals."""
    train, test = (lookup.metric(model, s, "accuracy") for s in ("train", "test"))
    if train is None or test is None:
        return None
    value = train.value - test.value
    if train.interval is None or test.interval is None:
        return Measured(value)
    (low, high), (least, most) = train.interval, test.interval
    return Measured(value, low - most, high - least)


def _summary(outcomes: Sequence[tuple[str, JsonDict]]) -> JsonDict:
    """Return how often releasing layers gained, over all pairs."""
    words = (
        ("better", "a real gain"),
        ("same", "no difference that could be told from noise"),
        ("worse", "a loss"),
        ("unknown", "no interval to judge by"),
    )
    parts = []
    for outcome, verdict in words:
        number = sum(o == outcome for o, _ in outcomes)
        if number:
            parts.append(f"{verdict} in {count(number)}")
    text = (
        f"Releasing frozen layers, in {plural(len(outcomes), 'pair')} of models: {listing(parts)}."
    )
    rows = [f"models/{m['name']}" for _, m in outcomes]
    return {"topic": "frozen", "text": text, "rows": rows}


def _sentence(
    topic: str, text: str, one: JsonDict, other: JsonDict, difference: Difference
) -> JsonDict:
    rows = [f"models/{m['name']}" for m in (one, other)]
    rows += difference.rows
    rows += [
        f"models/{m['name']}/stages/{i}"
        for m in (one, other)
        for i, _ in enumerate(kinds.stages(m))
    ]
    return {"topic": topic, "text": text, "rows": rows}
