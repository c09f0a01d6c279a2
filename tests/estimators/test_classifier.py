"""A Headstart classifier behaves as any classifier of scikit-learn, and extracts a picture once."""

import json
import pickle
import pickletools
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from little_pictures import little_pictures, quick
from PIL import Image
from sklearn.base import clone, is_classifier
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import get_tags

from headstart.backbones.registry import load_backbone
from headstart.data import encode as encode_module
from headstart.data.image import decode
from headstart.errors import ConfigError, DataError, WeightsError
from headstart.estimators import HeadstartClassifier, PrefitEnsemble
from headstart.estimators import classifier as classifier_module
from headstart.estimators import pictures as pictures_module
from headstart.estimators.pictures import decode_all
from headstart.features.extract import extract
from headstart.predict import combine, fit_ensemble, soft_vote
from headstart.types import Predictions

X, Y = little_pictures(45)
X_NEW, Y_NEW = little_pictures(30, seed=1)


@pytest.fixture
def extracted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures went through the network, for each extraction."""
    counts: list[int] = []

    def counting(*args: Any, **options: Any) -> Any:
        result = extract(*args, **options)
        counts.append(result.extracted)
        return result

    monkeypatch.setattr(classifier_module, "extract", counting)
    return counts


def test_an_interrupt_ends_the_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    waits: list[int] = []

    def slow(data: bytes) -> Image.Image:
        begun.append(len(data))
        if len(begun) == 10:
            raise KeyboardInterrupt
        time.sleep(0.01)
        return decode(data)

    def waiting(*args: Any) -> Any:
        waits.append(threading.get_ident())  # Ctrl-C is heard by the thread of the caller alone
        return decode_all(*args)

    many, labels = little_pictures(300)
    monkeypatch.setattr(pictures_module, "decode", slow)
    monkeypatch.setattr(classifier_module, "decode_all", waiting)
    with pytest.raises(KeyboardInterrupt):
        quick(workers=2).fit(many, labels)
    assert waits == [threading.get_ident()]
    assert len(begun) < 60


@pytest.mark.parametrize("head", ["logistic", "linear", "mlp"])
def test_it_learns_and_predicts(head: str) -> None:
    model = quick(head=head, hidden=(16,)).fit(X, Y)
    assert model.classes_.tolist() == ["blue", "red", "stripes"]
    probabilities = model.predict_proba(X_NEW)
    assert probabilities.shape == (30, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-12)
    predicted = model.predict(X_NEW)
    np.testing.assert_array_equal(predicted, model.classes_[probabilities.argmax(axis=1)])
    assert model.score(X_NEW, Y_NEW) == (predicted == Y_NEW).mean() > 0.8


def test_paths_images_arrays_and_bytes_give_the_same_model(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(len(X))]
    for path, pixels in zip(paths, X, strict=True):
        Image.fromarray(pixels).save(path)
    expected = quick().fit(X, Y).predict_proba(X_NEW)
    for way in (paths, [Image.open(p) for p in paths], [p.read_bytes() for p in paths]):
        np.testing.assert_array_equal(quick().fit(way, Y).predict_proba(X_NEW), expected)


def test_labels_may_be_numbers() -> None:
    numbers = np.searchsorted(["blue", "red", "stripes"], Y) * 10 - 10
    model = quick().fit(X, numbers.tolist())
    assert model.classes_.tolist() == [-10, 0, 10]
    np.testing.assert_array_equal(
        model.predict_proba(X_NEW), quick().fit(X, Y).predict_proba(X_NEW)
    )


def test_cross_validation_extracts_each_picture_once(extracted: list[int]) -> None:
    scores = cross_val_score(quick(), X, Y, cv=5)
    assert len(scores) == 5
    assert scores.mean() > 0.8
    assert sum(extracted) == len(X)
    assert len(extracted) == 10  # five folds, each fitted and scored
    assert sum(extracted[2:]) == 0  # the first fold saw them all


def test_a_grid_search_over_c_extracts_nothing_twice(extracted: list[int]) -> None:
    search = GridSearchCV(quick(), {"C": np.logspace(-4, 1, 3), "head": ["logistic"]}, cv=2)
    search.fit(list(X), Y)
    assert search.best_score_ > 0.8
    assert sum(extracted) == len(X)
    losses = [-np.log(quick(C=c).fit(X, Y).predict_proba(X).max(axis=1)).mean() for c in (1e-4, 1)]
    assert losses[0] > 2 * losses[1]
    back = pickle.loads(pickle.dumps(search.best_estimator_))
    np.testing.assert_array_equal(back.predict_proba(X_NEW), search.predict_proba(X_NEW))


def test_voting_of_scikit_learn_equals_our_own_soft_vote() -> None:
    members = [
        ("a", quick(C=1e-3)),
        ("b", quick(head="linear", epochs=20, cut="layer2")),
        ("c", quick(random_state=3, image_size=40)),
    ]
    theirs = VotingClassifier(members, voting="soft").fit(X, Y)
    own = [clone(model).fit(X, Y) for _, model in members]
    stack = np.stack([model.predict_proba(X_NEW) for model in own])
    assert len({row.tobytes() for row in stack}) == 3
    np.testing.assert_allclose(soft_vote(stack), theirs.predict_proba(X_NEW), rtol=1e-12)
    ensemble = PrefitEnsemble(dict(zip("abc", own, strict=True)))
    np.testing.assert_allclose(ensemble.predict_proba(X_NEW), theirs.predict_proba(X_NEW))
    np.testing.assert_array_equal(ensemble.predict(X_NEW), theirs.predict(X_NEW))
    # The same through stored predictions, which are float32.
    classes = tuple(own[0].classes_)
    names, labels = tuple(map(str, range(30))), np.searchsorted(classes, Y_NEW)
    stored = [Predictions(names, labels, p.astype(np.float32), classes) for p in stack]
    combined = combine(fit_ensemble("soft", "abc", stored), stored)
    np.testing.assert_allclose(combined.probabilities, theirs.predict_proba(X_NEW), atol=1e-6)
    np.testing.assert_array_equal(np.array(classes)[combined.predicted], theirs.predict(X_NEW))


def test_it_fits_into_a_pipeline_and_can_be_cloned() -> None:
    darker = FunctionTransformer(lambda pictures: [p // 2 for p in pictures])
    piped = make_pipeline(darker, quick()).fit(X, Y)
    expected = quick().fit(X // 2, Y)
    np.testing.assert_array_equal(piped.predict_proba(X_NEW), expected.predict_proba(X_NEW // 2))
    copy = clone(expected)
    assert copy.get_params() == expected.get_params()
    with pytest.raises(NotFittedError):
        copy.predict(X_NEW)
    assert is_classifier(copy)
    assert not get_tags(copy).input_tags.two_d_array


@pytest.mark.parametrize("head", ["logistic", "mlp"])
def test_it_comes_back_from_pickle_and_from_its_folder_as_it_was(head: str, tmp_path: Path) -> None:
    model = quick(head=head, hidden=(5,), epochs=2, random_state=np.int64(4), cut="layer2").fit(
        X, Y
    )
    expected = model.predict_proba(X_NEW)
    model.save(tmp_path / "model")
    for back in (
        pickle.loads(pickle.dumps(model)),
        HeadstartClassifier.load(tmp_path / "model"),
        pickle.loads(pickle.dumps(HeadstartClassifier.load(tmp_path / "model"))),
    ):
        np.testing.assert_array_equal(back.predict_proba(X_NEW), expected)
        assert (back.get_params(), back.cut_) == (model.get_params(), "layer2.2")
    written = {p.name for p in (tmp_path / "model").iterdir()}
    assert written == {"estimator.json", "estimator.safetensors"}
    words = [str(arg) for _, arg, _ in pickletools.genops(pickle.dumps(model)) if arg is not None]
    assert not [word for word in words if word.startswith(("torch", "numpy", "sklearn"))]
    assert pickle.loads(pickle.dumps(quick(C=3))).get_params() == quick(C=3).get_params()


def test_another_network_under_the_same_name_is_noticed(tmp_path: Path) -> None:
    quick().fit(X, Y).save(tmp_path)
    record = json.loads((tmp_path / "estimator.json").read_text())

    def said(**changes: Any) -> str:
        (tmp_path / "estimator.json").write_text(
            json.dumps({**record, "fitted": {**record["fitted"], **changes}})
        )
        with pytest.raises(WeightsError) as caught:
            HeadstartClassifier.load(tmp_path)
        return str(caught.value)

    assert "expected the weights that this model was fitted on" in said(seed=1)
    assert "fitted on pictures prepared as" in said(
        input={**record["fitted"]["input"], "resize": 9}
    )


def test_a_model_of_an_earlier_version_says_what_it_said(tmp_path: Path) -> None:
    larger = np.random.default_rng(0).integers(0, 256, (12, 50, 70, 3), np.uint8)
    model = quick(image_fit="resize").fit(larger, Y[:12])
    today = model.predict_proba(larger)
    model._backbone = model._load_backbone(0, False, "pillow")
    expected = model.predict_proba(larger)
    assert np.abs(today - expected).max() > 1e-5
    model.save(tmp_path)
    path = tmp_path / "estimator.json"
    record = json.loads(path.read_text())
    assert record["fitted"]["input"].pop("resampling") == "pillow"
    path.write_text(json.dumps(record))
    loaded = HeadstartClassifier.load(tmp_path)
    np.testing.assert_array_equal(loaded.predict_proba(larger), expected)


@pytest.mark.parametrize("kept", [100, 20])
def test_what_fits_into_the_memory_is_decoded_once(
    monkeypatch: pytest.MonkeyPatch, kept: int, tmp_path: Path
) -> None:
    decoded: list[bytes] = []

    def counting(data: bytes) -> Image.Image:
        decoded.append(data)
        return decode(data)

    expected = quick().fit(X, Y).predict_proba(X_NEW)
    for module in (pictures_module, encode_module):
        monkeypatch.setattr(module, "decode", counting)
    monkeypatch.setattr(pictures_module, "KEPT_BYTES", kept * 3 * 32 * 32)
    model = quick(cache=tmp_path).fit(X, Y)
    assert len(set(decoded)) == len(X)
    assert len(decoded) - len(X) == max(len(X) - kept, 0)
    np.testing.assert_array_equal(model.predict_proba(X_NEW), expected)


def test_bad_pictures_and_labels_are_said_before_anything_is_extracted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = quick().fit(X, Y)
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"\x89PNG no picture")

    def never(*args: Any, **options: Any) -> Any:
        raise AssertionError("nothing shall be extracted")

    monkeypatch.setattr(classifier_module, "extract", never)
    for attempt in (lambda: quick().fit([*X[:5], bad], Y[:6]), lambda: model.predict([X[0], bad])):
        with pytest.raises(DataError, match=r"^X\[\d\] \(.*bad\.png\): "):
            attempt()
    with pytest.raises(DataError, match=r"^X\[3\]: expected a path, a Pillow image"):
        quick().fit([*X[:3], 7], Y[:4])
    with pytest.raises(ValueError, match="at least two classes"):
        quick().fit(X[:6], ["a"] * 6)
    with pytest.raises(ValueError, match="one label per picture, got 6, 5"):
        quick().fit(X[:6], Y[:5])


GRADIENT = {"head": "mlp", "epochs": 3, "hidden": (4,)}


@pytest.mark.parametrize(
    ("base", "change"),
    [
        ({}, {"image_fit": "pad"}),
        ({}, {"image_size": 24}),
        ({}, {"random_state": 1}),
        ({}, {"cut": "layer1"}),
        ({"backbone": "packaged/efficientnet-lite0", "image_size": 32}, {"weights": "pretrained"}),
        *[
            (GRADIENT, change)
            for change in (
                {"hidden": (5,)}, {"dropout": 0.5}, {"epochs": 2}, {"learning_rate": 0.02},
                {"momentum": 0.1}, {"batch_size": 16},
            )
        ],
    ],
    ids=lambda given: next(iter(given), "base"),
)  # fmt: skip
def test_every_setting_has_its_effect(base: dict[str, Any], change: dict[str, Any]) -> None:
    model = quick().set_params(**base)
    before = model.fit(X[:18], Y[:18]).predict_proba(X_NEW[:6])
    again = clone(model).fit(X[:18], Y[:18]).predict_proba(X_NEW[:6])
    after = clone(model).set_params(**change).fit(X[:18], Y[:18]).predict_proba(X_NEW[:6])
    np.testing.assert_array_equal(again, before)
    assert np.abs(after - before).max() > 1e-5


def test_the_seed_decides_the_head_and_a_linear_head_has_no_hidden_layers() -> None:
    real = {"backbone": "packaged/efficientnet-lite0", "weights": "pretrained", "image_size": 32}

    def predicted(**settings: Any) -> list[list[float]]:
        model = quick().set_params(**real, head="linear", epochs=1, **settings)
        return model.fit(X[:12], Y[:12]).predict_proba(X_NEW[:4]).tolist()

    assert predicted(random_state=0) != predicted(random_state=1)
    assert predicted(hidden=(3,)) == predicted(hidden=(4,))


def test_reading_a_pickle_never_downloads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = quick(allow_network=True).fit(X[:6], Y[:6])
    pickled = pickle.dumps(model)
    model.save(tmp_path)
    allowed: list[bool] = []

    def watched(*args: Any, **options: Any) -> Any:
        allowed.append(options["allow_network"])
        return load_backbone(*args, **options)

    monkeypatch.setattr(classifier_module, "load_backbone", watched)
    pickle.loads(pickled)
    HeadstartClassifier.load(tmp_path)
    HeadstartClassifier.load(tmp_path, allow_network=True).fit(X[:6], Y[:6])
    assert allowed == [False, False, True, True]


def test_wrong_settings_and_labels_are_said() -> None:
    for settings, error, message in [
        ({"head": "logistc"}, ValueError, "head: unknown value 'logistc'; did you mean 'logistic'"),
        ({"cut": "layer9"}, ConfigError, "layer9"),
        ({"C": -1}, ValueError, "C: expected a number above 0"),
        ({"backbone": "headstart/resnet21"}, ConfigError, "resnet21"),
        ({"device": "gpu"}, ConfigError, "device"),
    ]:
        with pytest.raises(error, match=message):
            quick().set_params(**settings).fit(X[:6], Y[:6])


def test_the_cache_may_be_elsewhere_and_what_happens_may_be_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick(cache=tmp_path / "mine", verbose=True).fit(X, Y)
    assert list((tmp_path / "mine" / "features").rglob("*.npy"))
    assert "45 of 45 pictures to extract" in capsys.readouterr().out
    quick(cache=tmp_path / "mine").fit(X, Y)
    assert capsys.readouterr().out == ""


def test_real_weights() -> None:
    model = HeadstartClassifier(image_size=64, engine="torch", device="cpu").fit(X[:30], Y[:30])
    assert model.score(X_NEW[:12], Y_NEW[:12]) > 0.75
