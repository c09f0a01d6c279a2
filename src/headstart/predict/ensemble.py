"""Several models as one: their class probabilities, aligned by name, averaged or put to a vote.

An ensemble needs no pictures and no networks: stored predictions are enough. Whatever is fitted is
fitted on validation predictions alone, so that the test split says the truth about the result.

A stack is an array of shape [m, n, classes]: m members' probabilities of the same n samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy import optimize

from headstart.errors import ConfigError, DataError, nearest
from headstart.types import IntArray, Predictions

Voting = Literal["soft", "weighted", "hard", "greedy"]

Stack = npt.NDArray[np.floating[Any]]
_Float64Array = npt.NDArray[np.float64]

_LEAST = 1e-12  # probabilities are clipped here, as where the loss is reported
_TIE = 1e-6  # by how much a broken tie leads: float32 still sees it, no reader does
_ENOUGH = 1e-9  # nats between the fitted weights and the optimum
_MAX_REFINEMENTS = 1000


@dataclass(frozen=True, slots=True)
class Ensemble:
    """How several models become one.

    Attributes:
        voting: ``soft``: the mean of the probabilities; ``weighted``: their mean with the weights
            of least validation log loss; ``hard``: the share of members that say a class;
            ``greedy``: their mean with the weights of greedy selection.
        members: Names of the members.
        weights: One for each member, none negative, sum 1; all equal for ``soft`` and ``hard``.
    """

    voting: Voting
    members: tuple[str, ...]
    weights: tuple[float, ...]


def fit_ensemble(voting: Voting, names: Sequence[str], val: Sequence[Predictions]) -> Ensemble:
    """Make an ensemble; what there is to fit is fitted on validation predictions.

    Args:
        voting: How the members are combined.
        names: The members' names.
        val: Their predictions of the validation split, in the same order.

    Returns:
        The ensemble, for `combine`.

    Raises:
        ConfigError: The kind of voting is unknown, there is no member, or there are not as many
            names as predictions.
        DataError: The predictions do not belong together (see `align`).
    """
    if len(names) != len(val):
        raise ConfigError(
            f"ensemble: expected one name for each member's predictions, got {len(names)} names "
            f"and {len(val)} predictions"
        )
    aligned = align(val, names=names)
    stack = np.stack([member.probabilities for member in aligned])
    return Ensemble(voting, tuple(names), voting_weights(voting, stack, aligned[0].labels))


def combine(ensemble: Ensemble, members: Sequence[Predictions]) -> Predictions:
    """Predict with an ensemble.

    Args:
        ensemble: From `fit_ensemble`.
        members: Predictions of one split by each member, in the order of ``ensemble.members``.

    Returns:
        The ensemble's predictions; samples and classes in the order of the first member's.

    Raises:
        ConfigError: There are not as many predictions as members.
        DataError: The predictions do not belong together (see `align`).
    """
    if len(members) != len(ensemble.members):
        raise ConfigError(
            f"ensemble: expected predictions of its {len(ensemble.members)} members "
            f"({', '.join(ensemble.members)}), got {len(members)}"
        )
    aligned = align(members, names=ensemble.members)
    stack = np.stack([member.probabilities for member in aligned])
    first = aligned[0]
    probabilities = vote(ensemble.voting, stack, ensemble.weights).astype(np.float32)
    return Predictions(first.names, first.labels, probabilities, first.classes)


def align(
    members: Sequence[Predictions], *, names: Sequence[str] | None = None
) -> tuple[Predictions, ...]:
    """Put several models' predictions into the same order of samples and of classes.

    Samples are matched by name and classes by name, whatever their order in each member.

    Args:
        members: Predictions of the same samples.
        names: What the members are called in messages; ``member 1``, ``member 2`` … where None.

    Returns:
        The predictions, all in the order of the first member.

    Raises:
        ConfigError: There is no member.
        DataError: A member lacks a sample or a class of another, has a name twice, disagrees about
            a true label, or has probabilities that are not finite numbers.
    """
    if not members:
        raise ConfigError("ensemble: expected at least one member, got none")
    called = [f"member {i + 1}" for i in range(len(members))] if names is None else list(names)
    first = members[0]
    aligned = []
    for name, member in zip(called, members, strict=True):
        pair = (name, called[0])
        rows = _order("sample", pair, member.names, first.names)
        columns = _order("class", pair, member.classes, first.classes)
        # Where the member's class number c stands in the first member's order.
        place = np.empty(len(columns), dtype=np.int64)
        place[columns] = np.arange(len(columns))
        moved = Predictions(
            names=first.names,
            labels=place[member.labels[rows]],
            probabilities=member.probabilities[np.ix_(rows, columns)],
            classes=first.classes,
        )
        _check(pair, moved, first)
        aligned.append(moved)
    return tuple(aligned)


def _order(
    what: str, pair: tuple[str, str], own: tuple[str, ...], wanted: tuple[str, ...]
) -> IntArray:
    """Return where each of the wanted names stands among a member's own."""
    name, first = pair
    place = {text: position for position, text in enumerate(own)}
    if len(place) != len(own):
        twice = next(text for position, text in enumerate(own) if place[text] != position)
        raise DataError(f"{name}: expected each {what} once, got {twice!r} more than once")
    lacking = [text for text in wanted if text not in place]
    if lacking:
        raise DataError(_lacks(what, name, first, lacking))
    if len(own) != len(wanted):
        known = set(wanted)
        raise DataError(_lacks(what, first, name, [text for text in own if text not in known]))
    return np.array([place[text] for text in wanted], dtype=np.int64)


def _lacks(what: str, name: str, other: str, lacking: Sequence[str]) -> str:
    more = f" and {len(lacking) - 1:,} more" if len(lacking) > 1 else ""
    return (
        f"{name} lacks the {what} {lacking[0]!r}{more}, which {other} has: the members of an "
        "ensemble must predict the same samples and know the same classes"
    )


def _check(pair: tuple[str, str], member: Predictions, first: Predictions) -> None:
    name, other = pair
    wrong = np.flatnonzero(member.labels != first.labels)
    if len(wrong):
        at = int(wrong[0])
        raise DataError(
            f"{name} and {other} disagree about the true class of {len(wrong):,} samples: "
            f"{member.names[at]!r} is {member.classes[member.labels[at]]!r} to {name} and "
            f"{first.classes[first.labels[at]]!r} to {other}"
        )
    finite = np.isfinite(member.probabilities).all(axis=1)
    if not finite.all():
        at = int(np.argmin(finite))
        raise DataError(
            f"{name}: expected probabilities, got numbers that are not finite for "
            f"{member.names[at]!r}: did its training diverge?"
        )


def voting_weights(voting: Voting, stack: Stack, labels: IntArray) -> tuple[float, ...]:
    """Return the weights of the members for a kind of voting.

    Args:
        voting: How the members are combined.
        stack: Their probabilities of the validation samples, [m, n, classes].
        labels: True class indices of those samples, int64, [n].

    Returns:
        One for each member, none negative, sum 1.

    Raises:
        ConfigError: The kind of voting is unknown.
    """
    check_voting(voting)
    if voting == "weighted":
        weights = fit_weights(stack, labels)
    elif voting == "greedy":
        weights = greedy_selection(stack, labels)
    else:
        weights = np.full(len(stack), 1 / len(stack))
    return tuple(float(weight) for weight in weights)


def check_voting(voting: str) -> None:
    """Raise ConfigError where a kind of voting is unknown."""
    if voting not in get_args(Voting):
        raise ConfigError(f"voting: unknown kind {voting!r}; {nearest(voting, get_args(Voting))}")


def vote(voting: Voting, stack: Stack, weights: Sequence[float]) -> _Float64Array:
    """Combine members as `voting` says: float64, [n, classes]; rows sum to 1."""
    if voting == "hard":
        return hard_vote(stack)
    # A plain mean where all weights are equal: thirds would not sum to 1 exactly.
    return soft_vote(stack, None if voting == "soft" else weights)


def soft_vote(stack: Stack, weights: Sequence[float] | None = None) -> _Float64Array:
    """Average the members' probabilities.

    Args:
        stack: Probabilities, [m, n, classes].
        weights: One for each member, of any sum above 0; equal where None.

    Returns:
        Probabilities, float64, [n, classes].

    Raises:
        ValueError: A weight is negative, or their sum is 0.
    """
    if weights is not None and (min(weights) < 0 or sum(weights) <= 0):
        raise ValueError(f"weights: expected none below 0 and a sum above 0, got {list(weights)}")
    averaged: _Float64Array = np.average(stack.astype(np.float64), axis=0, weights=weights)
    return averaged


def hard_vote(stack: Stack) -> _Float64Array:
    """Let each member vote for its most probable class.

    Args:
        stack: Probabilities, [m, n, classes].

    Returns:
        The share of the votes of each class, float64, [n, classes]. Where classes tie for the most
        votes, the one of them with the highest mean probability leads by a millionth.
    """
    members, _, classes = stack.shape
    votes = np.eye(classes)[stack.argmax(axis=2)].sum(axis=0)
    ahead = votes == votes.max(axis=1, keepdims=True)
    means = soft_vote(stack)
    winners = np.eye(classes)[np.where(ahead, means, -1.0).argmax(axis=1)]
    tied = ahead.sum(axis=1, keepdims=True) > 1
    shares: _Float64Array = votes / members
    return np.where(tied, (1 - _TIE) * shares + _TIE * winners, shares)


def fit_weights(stack_val: Stack, labels: IntArray) -> _Float64Array:
    """Find the weights with which the averaged probabilities have the least log loss.

    With p_k,i the probability that member k gives to the true class of sample i, the loss is

        f(w) = mean over i of −log(Σ_k w_k p_k,i),   w ≥ 0,   Σ_k w_k = 1.

    Each term is −log, convex and decreasing, of a function that is linear in w; so each term is
    convex, and so is their mean. The simplex is convex too: every local minimum is the global one.

    With g the gradient, Σ_k w_k g_k = −1 everywhere, and by convexity no point of the simplex has
    a loss below f(w) − (max_k(−g_k) − 1). That bound says when to stop.

    Args:
        stack_val: Probabilities of the validation samples, [m, n, classes].
        labels: Their true class indices, int64, [n].

    Returns:
        One weight for each member, float64, [m]; none negative, sum 1.

    Source: the bound is the duality gap of Jaggi 2013; the refinement is the EM step for the
    proportions of a mixture (Dempster, Laird, Rubin 1977), which never raises the loss.
    """
    own = _own(stack_val, labels)
    members = len(own)
    weights = np.full(members, 1 / members)
    if members == 1:
        return weights
    solved = optimize.minimize(
        lambda w: -np.log(np.maximum(w @ own, _LEAST)).mean(),
        weights,
        jac=lambda w: _gradient(own, w),
        method="SLSQP",
        bounds=[(0.0, 1.0)] * members,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
        options={"ftol": 1e-14, "maxiter": 500},
    )
    found = np.clip(solved.x, 0.0, None)
    if found.sum() > 0:  # not where the solver failed with NaN
        found /= found.sum()
        if _log_loss(found @ own) <= _log_loss(weights @ own):
            weights = found
    # Where the solver stopped early, on a flat stretch say, this goes the rest of the way.
    for _ in range(_MAX_REFINEMENTS):
        slopes = -_gradient(own, weights)
        if slopes.max() - 1 <= _ENOUGH:
            break
        weights = weights * slopes
        weights /= weights.sum()
    return weights


def greedy_selection(stack_val: Stack, labels: IntArray, rounds: int = 50) -> _Float64Array:
    """Build an ensemble member by member: each time the one that helps the most.

    It begins with the best member, adds one in each round (the same one may come again, which
    raises its weight), and in the end goes back to the best ensemble it has seen. Better means
    higher accuracy, or where that is equal, lower log loss. The earlier member wins a tie.

    Args:
        stack_val: Probabilities of the validation samples, [m, n, classes].
        labels: Their true class indices, int64, [n].
        rounds: How many times a member is added.

    Returns:
        Weights, float64, [m]: the share of each member's copies in the ensemble.

    Source: Caruana, Niculescu-Mizil, Crew, Ksikes, Ensemble selection from libraries of models
    (2004), sections 2 and 2.1.
    """
    stack = stack_val.astype(np.float64)
    counts = np.zeros(len(stack))
    total = np.zeros(stack.shape[1:])
    best: tuple[tuple[float, float], _Float64Array] | None = None
    for size in range(1, rounds + 2):
        merits = [_merit((total + member) / size, labels) for member in stack]
        chosen = max(range(len(stack)), key=merits.__getitem__)  # the first of equals
        counts[chosen] += 1
        total += stack[chosen]
        if best is None or merits[chosen] > best[0]:
            best = (merits[chosen], counts / size)
    assert best is not None
    return best[1]


def _merit(probabilities: _Float64Array, labels: IntArray) -> tuple[float, float]:
    right = float((probabilities.argmax(axis=1) == labels).mean())
    # Rounded, so that a sum in another order is no improvement.
    return right, -round(_log_loss(probabilities[np.arange(len(labels)), labels]), 12)


def _own(stack: Stack, labels: IntArray) -> _Float64Array:
    """Return each member's probability of each sample's true class, [m, n]."""
    own: _Float64Array = stack[:, np.arange(len(labels)), labels].astype(np.float64)
    return np.maximum(own, _LEAST)


def _log_loss(own: _Float64Array) -> float:
    return float(-np.log(np.maximum(own, _LEAST)).mean())


def _gradient(own: _Float64Array, weights: _Float64Array) -> _Float64Array:
    gradient: _Float64Array = -(own / np.maximum(weights @ own, _LEAST)).mean(axis=1)
    return gradient
