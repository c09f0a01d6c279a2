"""The probes find what scikit-learn and torch find, and come back from the disk as they were."""

import json
import pickle
import pickletools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from headstart.errors import RunError, WeightsError
from headstart.estimators import LogisticProbe, SoftmaxProbe

X, Y = load_digits(return_X_y=True)
X, Y = X[:500], Y[:500]
NAMES = np.array([f"digit {i}" for i in range(10)])[Y]


def test_the_logistic_probe_is_scikit_learns_logistic_regression() -> None:
    ours = LogisticProbe(C=0.01, tol=1e-4).fit(X, NAMES)
    theirs = LogisticRegression(C=0.01, tol=1e-10, max_iter=5000).fit(X, NAMES)
    np.testing.assert_array_equal(ours.classes_, theirs.classes_)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=2e-4)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-3)
    assert ours.score(X, NAMES) > 0.97


def test_the_logistic_probe_does_not_mind_features_far_from_zero_and_of_many_scales() -> None:
    hard = X * np.logspace(-1.5, 1.5, X.shape[1]) + 1e5
    assert LogisticProbe(C=0.01).fit(hard, Y).score(hard, Y) > 0.99


def test_a_fit_that_is_not_done_says_so() -> None:
    probe = LogisticProbe(C=100, max_iter=10)
    with pytest.warns(ConvergenceWarning, match="stopped after 10 iterations at C = 100"):
        probe.fit(X, Y)
    assert probe.n_iter_ == 10


def test_standardising_makes_the_softmax_probe_indifferent_to_the_scale() -> None:
    scales = np.logspace(-6, 6, X.shape[1])
    plain = SoftmaxProbe(epochs=5).fit(X, Y)
    scaled = SoftmaxProbe(epochs=5).fit(X * scales + 7 * scales, Y)
    np.testing.assert_allclose(
        scaled.predict_proba(X * scales + 7 * scales), plain.predict_proba(X), atol=1e-4
    )
    assert plain.score(X, Y) > 0.9
    raw = SoftmaxProbe(epochs=5, standardize=False).fit(X, Y)
    assert raw.scale_.tolist() == [1] * 64
    assert not np.allclose(raw.predict_proba(X), plain.predict_proba(X), atol=1e-2)


def test_the_softmax_probe_takes_the_steps_of_torch() -> None:
    """One epoch of whole-batch SGD with momentum, against torch's own."""
    probe = SoftmaxProbe(epochs=3, batch_size=500, standardize=False, weight_decay=0.1).fit(X, Y)
    linear = torch.nn.Linear(64, 10)
    start = SoftmaxProbe(epochs=1, batch_size=500, standardize=False, learning_rate=1e-30)
    weights = start.fit(X, Y)._head.state_dict()
    linear.weight.data = weights["layers.0.weight"][0].float()
    linear.bias.data = weights["layers.0.bias"][0].float()
    sgd = torch.optim.SGD(linear.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1)
    x, y = torch.as_tensor(X, dtype=torch.float32), torch.as_tensor(Y)
    losses = []
    for _ in range(3):
        loss = torch.nn.functional.cross_entropy(linear(x), y)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        losses.append(loss.item())
    np.testing.assert_allclose(probe.loss_curve_, losses, rtol=1e-5)
    expected = torch.softmax(linear(x), dim=1).detach().numpy()
    np.testing.assert_allclose(probe.predict_proba(X), expected, atol=1e-5)
    assert probe.n_iter_ == 3


def test_the_last_epoch_counts_whatever_the_first_samples_are_like() -> None:
    labels = Y.copy()
    labels[:8] = (labels[:8] + 1) % 10
    probe = SoftmaxProbe(learning_rate=1e-3, epochs=8, batch_size=8).fit(X, labels)
    assert probe.score(X, labels) > 0.93


def test_hidden_layers_learn_what_a_linear_probe_cannot() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(300, 2))
    ring = np.where((points**2).sum(axis=1) > 1.4, "out", "in")
    settings = {"optimizer": "adam", "learning_rate": 0.03, "epochs": 40}
    assert SoftmaxProbe((16,), **settings).fit(points, ring).score(points, ring) > 0.95
    assert SoftmaxProbe(**settings).fit(points, ring).score(points, ring) < 0.8


def test_the_seed_decides_and_torch_s_global_stream_is_left_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = (
        SoftmaxProbe((4,), dropout=0.3, epochs=2, random_state=s).fit(X, Y).predict_proba(X)
        for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    assert torch.equal(torch.get_rng_state(), before)
    state = np.random.RandomState(5)
    drawn = [SoftmaxProbe(epochs=1, random_state=state).fit(X, Y).predict_proba(X) for _ in "ab"]
    assert not np.allclose(*drawn)


LABELS = {
    "texts": NAMES,
    "objects": NAMES.astype(object),
    "numbers": Y - 3,
    "small numbers": Y.astype(np.uint8),
    "booleans": Y > 4,
    "whole floats": Y.astype(np.float64),
}


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize(
    "probe",
    [LogisticProbe(C=np.float64(1e-3)), SoftmaxProbe(epochs=2), SoftmaxProbe((5, 4), epochs=1)],
    ids=["logistic", "linear", "mlp"],
)
def test_a_probe_comes_back_from_pickle_and_from_its_folder_as_it_was(
    probe: LogisticProbe | SoftmaxProbe, labels: np.ndarray, tmp_path: Path
) -> None:
    probe = clone(probe).fit(X, labels)
    expected = probe.predict_proba(X)
    probe.save(tmp_path / "model")
    for back in (pickle.loads(pickle.dumps(probe)), type(probe).load(tmp_path / "model")):
        np.testing.assert_array_equal(back.predict_proba(X), expected)
        np.testing.assert_array_equal(back.predict(X), probe.predict(X))
        assert back.classes_.dtype == probe.classes_.dtype
        assert (back.get_params(), back.n_features_in_, back.n_iter_) == (
            probe.get_params(), 64, probe.n_iter_,
        )  # fmt: skip
        assert clone(back).fit(X, labels).predict_proba(X).tolist() == expected.tolist()


def test_what_is_not_fitted_comes_back_too_and_names_of_features_are_kept() -> None:
    back = pickle.loads(pickle.dumps(SoftmaxProbe((3,), momentum=0.5)))
    assert back.get_params() == SoftmaxProbe((3,), momentum=0.5).get_params()
    assert not hasattr(back, "classes_")
    table = pd.DataFrame(X, columns=[f"f{i}" for i in range(64)])
    back = pickle.loads(pickle.dumps(LogisticProbe(C=0.01).fit(table, Y)))
    with pytest.raises(ValueError, match="feature names"):
        back.predict(table[table.columns[::-1]])


def test_changing_a_setting_of_a_fitted_probe_does_not_change_what_is_saved() -> None:
    probe = SoftmaxProbe((5,), epochs=1).fit(X, Y)
    expected = probe.predict_proba(X)
    back = pickle.loads(pickle.dumps(probe.set_params(hidden=(9, 9))))
    np.testing.assert_array_equal(back.predict_proba(X), expected)


@pytest.mark.parametrize("probe", [LogisticProbe(C=0.01), SoftmaxProbe(epochs=1)])
def test_a_pickle_holds_only_a_class_a_text_and_bytes(probe: LogisticProbe) -> None:
    data = pickle.dumps(probe.fit(X, NAMES), protocol=4)
    named = [arg for op, arg, _ in pickletools.genops(data) if isinstance(arg, str)]
    text = next(arg for arg in named if arg.startswith("{"))
    assert json.loads(text)["estimator"] == type(probe).__name__
    # What pickle is told to import: the class, and the function that makes an empty object of it.
    allowed = {"copyreg", "_reconstructor", "__newobj__", "builtins", "object", "record", "arrays"}
    allowed |= {type(probe).__module__, type(probe).__name__}
    assert set(named) - {text} <= allowed


def test_what_cannot_be_saved_whole_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="random_state: a value of type RandomState"):
        pickle.dumps(SoftmaxProbe(random_state=np.random.RandomState(0)))
    probe = LogisticProbe(C=0.01).fit(X, Y)
    probe.note = "mine"
    with pytest.raises(TypeError, match=r"attributes \['note'\] are not its own"):
        probe.save(tmp_path)
    mixed = LogisticProbe(C=0.01).fit(X, Y)
    mixed.classes_ = mixed.classes_.astype(object)
    with pytest.raises(TypeError, match="expected texts or numbers"):
        pickle.dumps(mixed)


def test_what_is_not_a_saved_probe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="expected a saved estimator"):
        LogisticProbe.load(tmp_path / "nowhere")
    SoftmaxProbe(epochs=1).fit(X, Y).save(tmp_path)
    with pytest.raises(WeightsError, match="expected a LogisticProbe, got a SoftmaxProbe"):
        LogisticProbe.load(tmp_path)
    record = tmp_path / "estimator.json"
    whole = record.read_text()

    def said(text: str) -> str:
        record.write_text(text)
        with pytest.raises(WeightsError) as caught:
            SoftmaxProbe.load(tmp_path)
        return str(caught.value)

    assert "damaged" in said(whole[:50])
    assert "damaged" in said("[]")
    assert "expected format version 1, got 9" in said(
        whole.replace('"format_version": 1', '"format_version": 9')
    )
    assert "'epoch'; did you mean 'epochs'" in said(whole.replace('"epochs"', '"epoch"'))
    record.write_text(whole)
    (tmp_path / "estimator.safetensors").write_bytes(b"no arrays")
    with pytest.raises(WeightsError, match="damaged"):
        SoftmaxProbe.load(tmp_path)
    with pytest.raises(WeightsError, match="expected a pickled LogisticProbe"):
        LogisticProbe().__setstate__({"C": 1})


def test_settings_out_of_range_and_lost_trainings_are_said() -> None:
    for probe, message in [
        (LogisticProbe(C=0), "C: expected a number above 0, got 0"),
        (SoftmaxProbe(epochs=0), "epochs: expected a number above 0"),
        (SoftmaxProbe((4, 0)), "hidden: expected a number above 0"),
        (SoftmaxProbe(optimizer="sdg"), "optimizer: unknown value 'sdg'; did you mean 'sgd'"),
    ]:
        with pytest.raises(ValueError, match=message):
            probe.fit(X, Y)
    with pytest.raises(ValueError, match=r"at least two classes, got 1 class \(3\)"):
        LogisticProbe().fit(X[:5], [3] * 5)
    lost = SoftmaxProbe(learning_rate=1e38, epochs=5).fit
    with pytest.raises(RunError, match="SoftmaxProbe: the loss was no longer a finite number"):
        lost(X, Y)
