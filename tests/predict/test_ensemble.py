"""An ensemble says what the textbook says, on any order of samples and classes."""

import itertools
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB

from headstart.errors import ConfigError, DataError
from headstart.predict import (
    align,
    combine,
    fit_ensemble,
    fit_weights,
    greedy_selection,
    hard_vote,
    soft_vote,
)
from headstart.types import Predictions

Array = npt.NDArray[np.float64]


def some_stack(
    seed: int, members: int, n: int, classes: int
) -> tuple[Array, npt.NDArray[np.int64]]:
    """Members of different skill: some know the labels well, some not at all."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    logits = rng.normal(size=(members, n, classes))
    skill = np.linspace(0, 2.5, members)
    logits += skill[:, None, None] * np.eye(classes)[labels]
    exp = np.exp(logits)
    return exp / exp.sum(axis=2, keepdims=True), labels


def as_predictions(stack: Array, labels: npt.NDArray[np.int64]) -> list[Predictions]:
    names = tuple(f"s{i}" for i in range(len(labels)))
    classes = tuple(f"c{i}" for i in range(stack.shape[2]))
    return [Predictions(names, labels, p.astype(np.float32), classes) for p in stack]


def shuffled(given: Predictions, seed: int) -> Predictions:
    """The same predictions with samples and classes in another order."""
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(len(given.names)), rng.permutation(len(given.classes))
    return Predictions(
        names=tuple(given.names[i] for i in rows),
        labels=np.argsort(columns)[given.labels[rows]],
        probabilities=given.probabilities[np.ix_(rows, columns)],
        classes=tuple(given.classes[i] for i in columns),
    )


def log_loss(stack: Array, labels: npt.NDArray[np.int64], weights: Array) -> float:
    own = stack[:, np.arange(len(labels)), labels]
    return float(-np.log(weights @ own).mean())


@pytest.fixture(scope="module")
def digits() -> tuple[VotingClassifier, VotingClassifier, Array]:
    x, y = load_digits(return_X_y=True)
    x = x + np.random.default_rng(0).normal(scale=4, size=x.shape)  # so that the models disagree
    models = [
        ("logistic", LogisticRegression(C=1e-3, max_iter=200)),
        ("forest", RandomForestClassifier(7, max_depth=4, random_state=0)),
        ("bayes", GaussianNB()),
    ]
    soft = VotingClassifier(models, voting="soft").fit(x[:600], y[:600])
    hard = VotingClassifier(models, voting="hard").fit(x[:600], y[:600])
    return soft, hard, x[600:]


def test_a_soft_vote_is_that_of_scikit_learn(
    digits: tuple[VotingClassifier, VotingClassifier, Array],
) -> None:
    theirs, _, x = digits
    stack = np.stack([model.predict_proba(x) for model in theirs.estimators_])
    ours = soft_vote(stack)
    np.testing.assert_array_equal(ours, theirs.predict_proba(x))
    np.testing.assert_array_equal(ours.argmax(axis=1), theirs.predict(x))
    weighted = VotingClassifier(theirs.estimators, voting="soft", weights=[3, 1, 2])
    weighted.estimators_, weighted.le_ = theirs.estimators_, theirs.le_
    np.testing.assert_allclose(soft_vote(stack, [3, 1, 2]), weighted.predict_proba(x), rtol=1e-14)


def test_a_hard_vote_is_that_of_scikit_learn_where_no_classes_tie(
    digits: tuple[VotingClassifier, VotingClassifier, Array],
) -> None:
    _, theirs, x = digits
    stack = np.stack([model.predict_proba(x) for model in theirs.estimators_])
    votes = stack.argmax(axis=2)
    tied = (votes[0] != votes[1]) & (votes[1] != votes[2]) & (votes[0] != votes[2])
    assert 20 < tied.sum() < len(x) / 2
    assert ((votes[0] != votes[1]) & ~tied).sum() > 100
    ours = hard_vote(stack)
    np.testing.assert_array_equal(ours.argmax(axis=1)[~tied], theirs.predict(x)[~tied])
    shares = np.stack([(votes == c).mean(axis=0) for c in range(10)], axis=1)
    np.testing.assert_allclose(ours, shares, atol=2e-6)
    # A tie goes to the class, among those with votes, that the members believe in the most.
    for row in np.flatnonzero(tied):
        among = votes[:, row]
        assert ours[row].argmax() == among[stack.mean(axis=0)[row, among].argmax()]


def test_a_tie_is_broken_among_those_who_tie() -> None:
    stack = np.array([[[0.42, 0.17, 0.41]], [[0.16, 0.43, 0.41]]])
    assert stack.mean(axis=0).argmax() == 2
    assert hard_vote(stack).argmax() == 1


def test_a_broken_tie_is_still_broken_in_float32() -> None:
    stack = np.array([[[0.6, 0.4, 0.0]], [[0.0, 0.7, 0.3]], [[0.5, 0.1, 0.4]], [[0.2, 0.8, 0.0]]])
    vote = hard_vote(stack).astype(np.float32)
    assert vote.argmax() == 1  # two votes each; means 0.325 and 0.5
    np.testing.assert_allclose(vote, [[0.5, 0.5, 0.0]], atol=1e-6)
    np.testing.assert_allclose(vote.sum(axis=1), 1, atol=1e-7)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), members=st.integers(1, 5), classes=st.integers(2, 6))
def test_the_order_of_samples_and_classes_changes_nothing(
    seed: int, members: int, classes: int
) -> None:
    stack, labels = some_stack(seed, members, 23, classes)
    straight = as_predictions(stack, labels)
    mixed = [straight[0], *(shuffled(p, seed + i) for i, p in enumerate(straight[1:]))]
    names = [f"m{i}" for i in range(members)]
    for voting in ("soft", "weighted", "hard", "greedy"):
        expected = combine(fit_ensemble(voting, names, straight), straight)
        ensemble = fit_ensemble(voting, names, mixed)
        got = combine(ensemble, mixed)
        assert (got.names, got.classes) == (expected.names, expected.classes)
        np.testing.assert_array_equal(got.labels, expected.labels)
        np.testing.assert_array_equal(got.probabilities, expected.probabilities)
        np.testing.assert_allclose(got.probabilities.sum(axis=1), 1, atol=1e-6)
        assert got.probabilities.dtype == np.float32
        assert min(ensemble.weights) >= 0
        assert sum(ensemble.weights) == pytest.approx(1)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), members=st.integers(2, 8), n=st.integers(1, 80))
def test_no_other_weights_have_a_lower_validation_loss(seed: int, members: int, n: int) -> None:
    stack, labels = some_stack(seed, members, n, 4)
    weights = fit_weights(stack, labels)
    least = log_loss(stack, labels, weights)
    # The duality gap proves it: no point of the simplex is lower by more than this.
    own = stack[:, np.arange(n), labels]
    assert (own / (weights @ own)).mean(axis=1).max() - 1 < 1e-7
    rng = np.random.default_rng(seed)
    for other in [*np.eye(members), *rng.dirichlet(np.ones(members), 200)]:
        assert log_loss(stack, labels, other) >= least - 1e-9


def test_weights_of_two_members_are_those_of_a_fine_grid() -> None:
    stack, labels = some_stack(3, 6, 200, 3)
    stack = stack[4:]
    grid = np.linspace(0, 1, 20_001)
    losses = [log_loss(stack, labels, np.array([w, 1 - w])) for w in grid]
    best = grid[int(np.argmin(losses))]
    assert 0.02 < best < 0.98
    assert fit_weights(stack, labels)[0] == pytest.approx(best, abs=1e-4)


def test_a_member_that_knows_nothing_gets_no_weight_and_twins_share() -> None:
    stack, labels = some_stack(5, 3, 300, 3)
    bad = 1 - stack[2]
    weights = fit_weights(np.stack([stack[2], stack[2], bad / bad.sum(axis=1)[:, None]]), labels)
    np.testing.assert_allclose(weights, [0.5, 0.5, 0], atol=1e-4)


def test_the_weights_are_right_even_where_the_solver_gives_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stack, labels = some_stack(3, 4, 300, 3)
    expected = fit_weights(stack, labels)
    nowhere = optimize.OptimizeResult(x=np.full(4, np.nan), success=False)
    monkeypatch.setattr(optimize, "minimize", lambda *_args, **_options: nowhere)
    np.testing.assert_allclose(fit_weights(stack, labels), expected, atol=1e-3)


def test_probabilities_of_zero_do_not_break_the_fit() -> None:
    labels = np.array([0, 1, 0, 1])
    sure = np.eye(2)[labels]
    never = np.eye(2)[1 - labels]
    np.testing.assert_allclose(fit_weights(np.stack([never, sure]), labels), [0, 1], atol=1e-6)
    half = np.stack([np.eye(2)[[0, 1, 1, 0]], np.eye(2)[[1, 0, 0, 1]], never])
    np.testing.assert_allclose(fit_weights(half, labels), [0.5, 0.5, 0], atol=1e-6)


def brute_force_greedy(stack: Array, labels: npt.NDArray[np.int64], rounds: int) -> list[int]:
    """Written again, slowly: a list of members, its mean, the best prefix."""

    def merit(bag: list[int]) -> tuple[float, float]:
        mean = stack[bag].mean(axis=0)
        own = mean[np.arange(len(labels)), labels]
        return float((mean.argmax(axis=1) == labels).mean()), -float(np.log(1 / own).mean())

    bag: list[int] = []
    prefixes = []
    for _ in range(rounds + 1):
        bag = max(([*bag, k] for k in range(len(stack))), key=merit)
        prefixes.append(bag)
    return max(prefixes, key=merit)


@pytest.mark.parametrize("seed", range(4))
def test_greedy_selection_is_caruanas(seed: int) -> None:
    stack, labels = some_stack(seed, 5, 60, 4)
    bag = brute_force_greedy(stack, labels, 12)
    expected = np.bincount(bag, minlength=5) / len(bag)
    np.testing.assert_allclose(greedy_selection(stack, labels, rounds=12), expected)


def test_greedy_selection_is_never_worse_than_the_best_member_on_validation() -> None:
    for seed in range(10):
        stack, labels = some_stack(seed, 4, 50, 3)
        weights = greedy_selection(stack, labels)
        accuracy = (soft_vote(stack, weights.tolist()).argmax(axis=1) == labels).mean()
        assert accuracy >= max((p.argmax(axis=1) == labels).mean() for p in stack)


def test_equal_members_go_to_the_first() -> None:
    stack, labels = some_stack(1, 2, 30, 3)
    same = np.stack([stack[1], stack[1], stack[1]])
    assert greedy_selection(same, labels).tolist() == [1, 0, 0]
    assert greedy_selection(same, labels, rounds=0).tolist() == [1, 0, 0]


def test_only_validation_predictions_are_used_for_fitting() -> None:
    stack, labels = some_stack(2, 3, 40, 3)
    val = as_predictions(stack, labels)
    turned = [replace(p, probabilities=p.probabilities[:, ::-1]) for p in val]
    for voting in ("weighted", "greedy"):
        ensemble = fit_ensemble(voting, "abc", val)
        assert max(ensemble.weights) > 0.5
        averaged = np.average([p.probabilities for p in val], axis=0, weights=ensemble.weights)
        np.testing.assert_allclose(combine(ensemble, val).probabilities, averaged, atol=1e-6)
        a, b = combine(ensemble, val), combine(ensemble, turned)
        np.testing.assert_array_equal(a.probabilities[:, ::-1], b.probabilities)


def test_what_does_not_belong_together_is_said_by_name() -> None:
    stack, labels = some_stack(0, 2, 5, 3)
    a, b = as_predictions(stack, labels)

    def said(*members: Predictions) -> str:
        with pytest.raises(DataError) as caught:
            fit_ensemble("soft", ["left", "right", "third"][: len(members)], members)
        return str(caught.value)

    fewer = replace(
        b, classes=("c0", "c1"), probabilities=b.probabilities[:, :2], labels=labels % 2
    )
    assert said(a, fewer).startswith("right lacks the class 'c2', which left has")
    assert said(fewer, a).startswith("left lacks the class 'c2', which right has")
    cut = replace(b, names=b.names[:3], labels=b.labels[:3], probabilities=b.probabilities[:3])
    assert said(a, cut).startswith("right lacks the sample 's3' and 1 more, which left has")
    assert said(a, a, cut).startswith("third lacks the sample 's3'")
    assert said(cut, a).startswith("left lacks the sample 's3' and 1 more, which right has")
    renamed = replace(b, classes=("c0", "c1", "cat"))
    assert said(a, renamed).startswith("right lacks the class 'c2'")
    twice = replace(b, names=("s0", "s1", "s1", "s3", "s4"))
    assert "right: expected each sample once, got 's1' more than once" in said(a, twice)
    other = labels.copy()
    other[2] = (other[2] + 1) % 3
    assert f"'s2' is 'c{other[2]}' to right and 'c{labels[2]}' to left" in said(
        a, replace(b, labels=other)
    )
    bad = b.probabilities.copy()
    bad[4, 1] = np.nan
    assert "right: expected probabilities" in said(a, replace(b, probabilities=bad))
    with pytest.raises(DataError, match=r"^member 2 lacks the class 'c2', which member 1 has"):
        align([a, fewer])


def test_what_an_ensemble_cannot_be_made_of_is_said() -> None:
    stack, labels = some_stack(0, 2, 5, 3)
    members = as_predictions(stack, labels)
    with pytest.raises(ConfigError, match=r"unknown kind 'sofd'; did you mean 'soft'"):
        fit_ensemble("sofd", "ab", members)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="at least one member"):
        fit_ensemble("soft", [], [])
    with pytest.raises(ConfigError, match="got 3 names and 2 predictions"):
        fit_ensemble("soft", "abc", members)
    with pytest.raises(ConfigError, match=r"its 2 members \(a, b\), got 1"):
        combine(fit_ensemble("soft", "ab", members), members[:1])
    for weights in ([-1, 2], [0, 0]):
        with pytest.raises(ValueError, match="none below 0"):
            soft_vote(stack, weights)


def test_align_leaves_what_is_aligned_as_it_is() -> None:
    stack, labels = some_stack(0, 3, 9, 4)
    members = as_predictions(stack, labels)
    for before, after in itertools.zip_longest(members, align(members)):
        np.testing.assert_array_equal(after.probabilities, before.probabilities)
        np.testing.assert_array_equal(after.labels, before.labels)
