"""Whole studies, from the ordinary to the hostile, as run folders in the making."""

from typing import Any

import report_goals
import report_stages
from report_runs import Folder, add_model, add_sweep, compare, hyperparameters, start
from report_worlds import fit, make_world

FLOWERS = ("daisy", "dandelion", "rose", "sunflower", "tulip")


NASTY = (
    "<script>alert(1)</script>",
    '#show: it => panic("x") $x^2$ *bold* _em_ @ref <lbl> `raw` \\ //c',
    "a & b \"q\" 'r' {{ 7717*7 }} {% raw %}",
    "_hidden $\\frac{1}{$ ~tilde~ <!-- &amp; -->",
    "%d {} %(x)s \\n --- ... (c) 100% #1",
)


def flowers(**given: Any) -> Folder:
    """The four parts: standard; learning rates; momenta; momenta on stored features."""
    world = make_world(FLOWERS, (100, 40, 40))
    folder = start(world, "flowers-mobilenetv2", "Flowers with a frozen MobileNetV2", **given)
    epochs = 20
    a = fit(world, 0.01, epochs=epochs)
    add_model(
        folder,
        world,
        a,
        "a",
        "Standard transfer learning",
        settings=hyperparameters(0.01, 0.0, epochs),
        mode="standard",
        seconds=(104.2, 0.0),
    )
    rates = [0.001, 0.01, 0.1]
    best, trained = add_sweep(
        folder,
        world,
        "b",
        "Learning rate",
        {"optimizer.learning_rate": rates},
        mode="standard",
        epochs=epochs,
        seconds=(108.9, 0.0),
    )
    assert best is not None
    rate = rates[best]
    add_model(
        folder,
        world,
        trained[best],
        "b",
        "Best learning rate",
        settings=hyperparameters(rate, 0.0, epochs),
        mode="standard",
        seconds=(36.3, 0.0),
    )
    momenta = [0.5, 0.9, 0.99]
    for name, title, mode, seconds in (
        ("c", "Momentum", "standard", (109.7, 0.0)),
        ("d", "Momentum, accelerated", "cached", (3.21, 2.64)),
    ):
        best, trained = add_sweep(
            folder,
            world,
            name,
            title,
            {"optimizer.momentum": momenta},
            mode=mode,
            epochs=epochs,
            fixed={"optimizer.learning_rate": rate},
            seconds=seconds,
        )
        assert best is not None
        add_model(
            folder,
            world,
            trained[best],
            name,
            f"Best {title[0].lower()}{title[1:]}",
            settings=hyperparameters(rate, momenta[best], epochs),
            mode=mode,
            seconds=seconds,
        )
    compare(folder, "d", "c", (3.21, 109.7))
    compare(folder, "c", "a", None)
    model = folder.results["models"][-1]
    got = model["metrics"]["test"]["accuracy"]["value"]
    folder.results["targets"] = [
        {
            "part": "d",
            "metric": "test.accuracy",
            "against": None,
            "op": ">=",
            "value": 0.80,
            "got": got,
            "met": got >= 0.80,
        },
        {
            "part": "d",
            "metric": "agreement",
            "against": "c",
            "op": ">=",
            "value": 0.999,
            "got": folder.results["comparisons"][0]["agreement"],
            "met": True,
        },
        {
            "part": "d",
            "metric": "speedup",
            "against": "c",
            "op": ">=",
            "value": 20,
            "got": folder.results["comparisons"][0]["speedup"],
            "met": True,
        },
    ]
    return folder


def few_labels() -> Folder:
    """A learning curve over labels per class."""
    world = make_world([str(d) for d in range(10)], (400, 50, 200), noise=1.6)
    folder = start(
        world,
        "mnist-few-labels",
        "How many labels do digits need?",
        description="How far do 10, 50, 100 and 400 labelled digits per class carry?",
        notes=[],
    )
    for n in (10, 50, 100, 400):
        trained = fit(world, 0.05, 0.9, epochs=12, per_class=n)
        add_model(
            folder,
            world,
            trained,
            f"labels-{n}",
            f"{n} labels per class",
            settings=hyperparameters(0.05, 0.9, 12),
            labels_per_class=n,
            part="labels",
            seconds=(1.0 + n / 100, 0.4),
        )
    return folder


def many_classes(classes: int = 200) -> Folder:
    """Many classes, a sweep over two axes with members that diverge, and files left out."""
    names = [f"n{i:08d} class number {i}" for i in range(classes)]
    world = make_world(names, (5, 3, 6), noise=1.2, width=32)
    folder = start(world, "tiny-imagenet", "Two hundred classes", profile="full", notes=[])
    rates, momenta = [0.01, 0.1, 1.0, 3000.0], [0.0, 0.5, 0.9]
    best, trained = add_sweep(
        folder,
        world,
        "grid",
        "Learning rate and momentum",
        {"optimizer.learning_rate": rates, "optimizer.momentum": momenta},
        mode="cached",
        epochs=6,
        seconds=(61.0, 44.0),
    )
    assert best is not None
    add_model(
        folder,
        world,
        trained[best],
        "grid",
        "Best of the grid",
        settings=hyperparameters(rates[best // 3], momenta[best % 3], 6),
        seconds=(61.0, 44.0),
    )
    add_model(
        folder,
        world,
        fit(world, 3000.0, 0.9, epochs=4),
        "wild",
        "Far too fast",
        settings=hyperparameters(3000.0, 0.9, 4),
        seconds=(1.0, 0.0),
    )
    folder.results["data"]["problems"] = [
        {
            "kind": "animated",
            "severity": "note",
            "count": 1,
            "text": "1 animated picture: its first frame is used",
            "examples": ["train/x.gif"],
        },
        {
            "kind": "unreadable",
            "severity": "error",
            "count": 40,
            "text": "40 files cannot be read as pictures and were left out",
            "examples": ["train/broken_0.jpg", "train/broken_1.jpg"],
        },
        {
            "kind": "duplicate-across-splits",
            "severity": "warning",
            "count": 3,
            "text": "3 pictures are in more than one split",
            "examples": ["train/1.jpg = test/9.jpg"],
        },
    ]
    folder.results["data"]["left_out"] = [
        {"name": f"train/some_rather_long_folder_name/broken_{i}.jpg", "reason": "truncated JPEG"}
        for i in range(40)
    ]
    return folder


def all_diverged() -> Folder:
    """Nothing came of it."""
    world = make_world(FLOWERS, (20, 10, 10))
    folder = start(world, "too-fast", "Everything diverges", notes=[])
    add_sweep(
        folder,
        world,
        "rates",
        "Learning rate",
        {"optimizer.learning_rate": [3e3, 1e4]},
        mode="cached",
        epochs=3,
    )
    add_model(
        folder,
        world,
        fit(world, 3e3, epochs=3),
        "fast",
        "Too fast",
        settings=hyperparameters(3e3, 0.0, 3),
    )
    folder.results["targets"] = [
        {
            "part": "fast",
            "metric": "test.accuracy",
            "against": None,
            "op": ">=",
            "value": 0.8,
            "got": None,
            "met": False,
        }
    ]
    return folder


def bare() -> Folder:
    """The least that results.json may hold: optional pieces missing or null."""
    world = make_world(FLOWERS, (20, 10, 10))
    folder = start(world, "bare", "Bare", description="", notes=[])
    add_model(folder, world, fit(world, 0.01, epochs=2), "m", "m", settings={})
    folder.histories.clear()
    results = folder.results
    model = results["models"][0]
    folder.predictions.clear()
    for key in ("per_class", "confusion", "stages", "history", "predictions", "engine", "message"):
        del model[key]
    for split in ("train", "val"):
        del model["metrics"][split]
    model["metrics"]["test"] = {"accuracy": model["metrics"]["test"]["accuracy"]}
    for key in ("sweeps", "comparisons", "targets", "backbones"):
        results[key] = []
    for key in ("sizes", "modes", "fingerprint"):
        del results["data"][key]
    results["environment"] = {}
    results["recommendation"] = None
    results["wall_seconds"] = None
    return folder


def hostile() -> Folder:
    """Names and texts full of characters that mean something to HTML, Typst or Matplotlib."""
    world = make_world([*NASTY, "\x00\x1b control \ud800"], (20, 10, 10))
    folder = start(
        world,
        "hostile",
        NASTY[0] + NASTY[1],
        description="\n\n".join(NASTY[:4]),
        notes=list(NASTY[:4]),
        command=f"headstart run {NASTY[2]}",
    )
    add_model(
        folder, world, fit(world, 0.01), "m", NASTY[3], settings=hyperparameters(0.01, 0.0, 20)
    )
    model = folder.results["models"][0]
    model["history"] = "models/m/history.parquet"
    model["predictions"] = {}
    folder.predictions.clear()
    folder.results["data"]["problems"] = [
        {
            "kind": NASTY[0],
            "severity": "error",
            "count": 1,
            "text": NASTY[1],
            "examples": [NASTY[2]],
        }
    ]
    folder.results["data"]["left_out"] = [{"name": NASTY[0], "reason": NASTY[1]}]
    return folder


STUDIES = {
    "flowers": flowers,
    "few-labels": few_labels,
    "many-classes": many_classes,
    "all-diverged": all_diverged,
    "bare": bare,
    "hostile": hostile,
    **report_stages.STUDIES,
    **report_goals.STUDIES,
}
