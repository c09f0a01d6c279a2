"""Studies of staged training, training from scratch, ensembles and classifiers as they are."""

from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
from report_runs import Folder, add_model, compare, hyperparameters, start
from report_worlds import Trained, World, confusion, fit, make_world, metrics, per_class

FRUITS = ("Apple Braeburn", "Banana", "Cherry", "Kiwi", "Lemon", "Mango", "Orange", "Pear")
NETWORKS = {
    # key: name, parameters, ms per picture, how hard its features are to tell apart
    "resnet": ("torchvision/resnet101", 42_500_160, 21.4, 1.7),
    "inception": ("torchvision/inception_v3", 21_785_568, 12.9, 2.2),
    "efficient": ("timm/efficientnet_b1", 6_513_184, 8.3, 1.8),
}


def stage(
    trainable: str,
    epochs: int,
    rate: float,
    trained: int,
    frozen: int,
    **more: Any,
) -> dict[str, Any]:
    return {
        "name": trainable,
        "trainable": trainable,
        "cut": "input" if trainable == "all" else "avgpool" if trainable == "head" else "layer3.22",
        "epochs": epochs,
        "best_epoch": epochs - 1,
        "optimizer": "adam",
        "learning_rate": rate,
        "wall_seconds": 31.5 * epochs,
        "extraction_seconds": 0.0 if trainable == "all" else 42.25,
        "features": "recomputed" if trainable == "all" else "stored",
        "disk_bytes": 0 if trainable == "all" else 123_456_789,
        "replayed_from": None,
        "parameters_trainable": trained,
        "parameters_frozen": frozen,
        **more,
    }


def joined(*parts: Trained) -> Trained:
    """Several trainings as the stages of one: the last one's weights are kept."""
    steps = [replace(s, stage=i) for i, part in enumerate(parts) for s in part.steps]
    return replace(parts[-1], steps=steps)


def add_backbones(folder: Folder, networks: dict[str, tuple[str, int, float, float]]) -> None:
    (template,) = folder.results["backbones"]
    folder.results["backbones"] = [
        {
            **template,
            "key": key,
            "name": name,
            "parameters_total": parameters,
            "size_bytes": 4 * parameters,
            "feature_shape": [2048],
            "cut": "avgpool",
        }
        for key, (name, parameters, _, _) in networks.items()
    ]


def describe(
    folder: Folder,
    model: dict[str, Any],
    key: str,
    stages: list[dict[str, Any]],
    *,
    milliseconds: float,
    parameters: int,
    from_scratch: bool = False,
) -> None:
    """Give a model of `add_model` what a staged training has."""
    samples = model["metrics"]["test"]["accuracy"]["n"]
    settings = {"from_scratch": from_scratch, "seed": 0}
    for i, s in enumerate(stages):
        last = s["trainable"] == "last 3"
        said = {
            "trainable.last" if last else "trainable": 3 if last else s["trainable"],
            "epochs": s["epochs"],
            "batch_size": 500 if last else 32,
            "optimizer.kind": "adam",
            "optimizer.learning_rate": s["learning_rate"],
            "optimizer.beta1": 0.9,
            "augmentation.crop": None,
            "precision": "float32",
        }
        said |= {"learning_rates.layer4": 0.0005} if last else {}
        settings |= {f"stages.{i}.{key}": value for key, value in said.items()}
    model.update(
        kind="model",
        backbone=key,
        from_scratch=from_scratch,
        stages=stages,
        parameters_total=parameters,
        size_bytes=4 * parameters,
        hyperparameters=settings,
        mode="staged",
        prediction={
            "seconds": milliseconds * samples / 1000,
            "samples": samples,
            "images_per_second": 1000 / milliseconds,
            "batch_size": 64,
            "repeats": 3,
            "device": "cpu",
        },
        ensemble=None,
        zero_shot=None,
    )


def add_ensemble(
    folder: Folder,
    world: World,
    name: str,
    title: str,
    voting: str,
    weights: dict[str, float],
) -> dict[str, Any]:
    """Add the weighted mean of members' probabilities."""
    models = {m["name"]: m for m in folder.results["models"]}
    votes = {
        split: sum(w * folder.probabilities[n][split] for n, w in weights.items())
        for split in ("val", "test")
    }
    best = max(weights, key=lambda n: models[n]["metrics"]["val"]["accuracy"]["value"])
    truth = world.labels["test"]
    right = {n: folder.probabilities[n]["test"].argmax(1) == truth for n in weights}
    gap = (votes["test"].argmax(1) == truth).astype(float) - right[best]
    half = 1.96 * gap.std() / np.sqrt(len(gap))
    pairs = [
        {
            "a": a,
            "b": b,
            "disagreement": float(
                np.mean(
                    folder.probabilities[a]["test"].argmax(1)
                    != folder.probabilities[b]["test"].argmax(1)
                )
            ),
            "q_statistic": 0.625,
            "double_fault": float(np.mean(~right[a] & ~right[b])),
        }
        for a, b in combinations(weights, 2)
    ]
    matrix = confusion(votes["test"], truth, len(world.classes))
    model = {
        "name": name,
        "title": title,
        "part": name,
        "kind": "ensemble",
        "mode": "ensemble",
        "backbone": None,
        "head": None,
        "hyperparameters": {},
        "labels_per_class": None,
        "state": "complete",
        "message": None,
        "metrics": {s: metrics(p, world.labels[s], world.classes) for s, p in votes.items()},
        "per_class": {"test": per_class(matrix, world.classes)},
        "confusion": {"test": matrix.tolist()},
        "stages": [],
        "from_scratch": False,
        "parameters_total": sum(models[n]["parameters_total"] for n in weights),
        "parameters_trainable": 0,
        "size_bytes": sum(models[n]["size_bytes"] for n in weights),
        "prediction": None,
        "ensemble": {
            "voting": voting,
            "members": list(weights),
            "weights": list(weights.values()),
            "best_member": best,
            "gain": {
                "value": float(gap.mean()),
                "low": float(gap.mean() - half),
                "high": float(gap.mean() + half),
                "n": len(gap),
            },
            "disagreement": float(np.mean([p["disagreement"] for p in pairs])),
            "pairs": pairs,
            "prediction_seconds": sum(models[n]["prediction"]["seconds"] for n in weights),
        },
        "zero_shot": None,
    }
    folder.results["models"].append(model)
    return model


def staged() -> Folder:
    """Three backbones, frozen and fine-tuned; one of them from scratch too; and two ensembles."""
    world = make_world(FRUITS, (40, 25, 50))
    folder = start(world, "fruits360-convnets", "Three networks for fruits", notes=[])
    add_backbones(folder, NETWORKS)
    for key, (_, parameters, milliseconds, noise) in NETWORKS.items():
        frozen, tuned = (make_world(FRUITS, (40, 25, 50), n) for n in (noise, 0.7 * noise))
        head = fit(frozen, 0.05, epochs=10)
        title = key.capitalize()
        model = add_model(
            folder,
            frozen,
            head,
            f"{key}-frozen",
            f"{title}, frozen",
            settings=hyperparameters(0.001, 0.0, 10),
        )
        classifier = 2049 * len(FRUITS)
        describe(
            folder,
            model,
            key,
            [stage("head", 10, 0.001, classifier, parameters)],
            milliseconds=milliseconds,
            parameters=parameters + classifier,
        )
        released = int(0.7 * parameters)
        model = add_model(
            folder,
            tuned,
            joined(head, fit(tuned, 0.05, epochs=4)),
            f"{key}-tuned",
            f"{title}, fine-tuned",
            settings=hyperparameters(0.001, 0.0, 10),
        )
        stages = [
            stage("head", 10, 0.001, classifier, parameters),
            stage("last 3", 4, 0.00005, released, parameters - released, replayed_from="layer3.22"),
        ]
        describe(
            folder,
            model,
            key,
            stages,
            milliseconds=milliseconds,
            parameters=parameters + classifier,
        )
        compare(folder, f"{key}-tuned", f"{key}-frozen", None)
    noisy = make_world(FRUITS, (40, 25, 50), 6.0)
    model = add_model(
        folder,
        noisy,
        fit(noisy, 0.02, epochs=5),
        "scratch",
        "Resnet from random weights",
        settings=hyperparameters(0.001, 0.0, 5),
    )
    describe(
        folder,
        model,
        "resnet",
        [stage("all", 5, 0.001, 42_516_552, 0)],
        milliseconds=21.4,
        parameters=42_516_552,
        from_scratch=True,
    )
    compare(folder, "scratch", "resnet-tuned", None)
    members = [f"{key}-tuned" for key in NETWORKS]
    add_ensemble(folder, world, "soft", "Soft vote", "soft", dict.fromkeys(members, 1 / 3))
    weights = dict(zip(members, (0.5, 0.125, 0.375), strict=True))
    add_ensemble(folder, world, "weighted", "Weighted vote", "weighted", weights)
    return folder


WORDNET = {
    "n01443537": "goldfish, Carassius auratus",
    "n01629819": "European fire salamander, Salamandra salamandra",
    "n02123394": "Persian cat",
    "n03126707": "crane",
    "n02012849": "crane",
    "n07720875": "bell pepper",
}


def zero_shot() -> Folder:
    """A pretrained classifier as it is, its pictures padded and stretched."""
    world = make_world(list(WORDNET), (2, 2, 60), 1.2)
    folder = start(world, "tiny", "A classifier as it is", notes=[])
    results = folder.results
    results["data"]["class_names"] = WORDNET
    results["data"]["sizes"] = {"min": [64, 64], "median": [64, 64], "max": [64, 64]}
    (template,) = results["backbones"]
    results["backbones"] = [
        {**template, "key": fit_, "input": {**template["input"], "fit": fit_}}
        for fit_ in ("pad", "resize")
    ]
    trained = fit(world, 0.05, epochs=2)
    for fit_, title, top1, top5 in (
        ("pad", "Padded", 0.0417, 0.1022),
        ("resize", "Resized", 0.3125, 0.5531),
    ):
        model = add_model(folder, world, trained, fit_, title, settings={})
        top = {
            f"top{n}": {"value": v, "low": v - 0.02, "high": v + 0.02, "n": 360}
            for n, v in ((1, top1), (5, top5))
        }
        del model["metrics"]["train"], model["metrics"]["val"]
        model["metrics"]["test"].update(top)
        model.update(
            kind="zero_shot",
            mode=None,
            backbone=fit_,
            head=None,
            stages=[],
            history=None,
            zero_shot={"classes": 1000, "mapped": len(WORDNET), **top, "tables": tables(fit_)},
        )
    folder.histories.clear()
    folder.predictions.clear()
    return folder


def tables(fit_: str) -> list[dict[str, Any]]:
    """The ten most probable classes of two pictures; padded, the label is not among them."""
    guesses = list(WORDNET.items()) if fit_ == "resize" else []
    guesses += [(f"n{99999990 + i}", f"thing number {i}, rerum numerus {i}") for i in range(10)]
    return [
        {
            "image": f"val/images/val_{i}.JPEG",
            "label": "n01443537",
            "label_name": WORDNET["n01443537"],
            "rows": [
                {"rank": r + 1, "index": 7 * r, "id": n, "name": name, "probability": 0.4 / 2**r}
                for r, (n, name) in enumerate(guesses[:10])
            ],
        }
        for i in (12, 340)
    ]


STUDIES = {"staged": staged, "zero-shot": zero_shot}
