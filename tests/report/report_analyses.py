"""The part `analysis` of results.json for tests: near-copies, doubtful labels, learning curves."""

from typing import Any

from report_worlds import wilson

SHARES = (0.05, 0.1, 0.25, 0.5, 1.0)


def near_duplicates(
    pairs: int = 20, tested: int = 200, right: int = 178, right_without: int = 158
) -> dict[str, Any]:
    """Near-copies of as many test samples; of those, all but `right - right_without` are wrong."""
    return {
        "backbone": "lite0",
        "cut": "pool",
        "threshold": 0.9,
        "checked": {"train": 500, "val": 200, "test": tested},
        "pairs": [
            {
                "train_name": f"train/{i:05d}.jpg",
                "train_split": "val" if i % 5 == 4 else "train",
                "test_name": f"test/{i:05d}.jpg",
                "train_label": "daisy",
                "test_label": "rose" if i == 7 else "daisy",
                "similarity": round(0.9987 - 0.00313 * i, 6),
            }
            for i in range(pairs)
        ],
        "test_samples": pairs,
        "models": [
            {
                "name": name,
                "accuracy": wilson(right - less, tested),
                "without": wilson(right_without - less, tested - pairs),
            }
            for name, less in (("d", 0), ("a", 11))
        ],
    }


def suspicious_labels(found: int = 37, **entry: Any) -> dict[str, Any]:
    """As many doubted labels of 700, each entry with what is given beside its names."""
    return {
        "backbone": "lite0",
        "cut": "pool",
        "folds": 5,
        "checked": 700,
        "probe_accuracy": wilson(631, 700),
        "found": found,
        "share": 0.0463,
        "list": [
            {
                "name": f"train/{i:05d}.jpg",
                "split": "val" if i % 4 == 3 else "train",
                "given": "daisy",
                "suggested": ("tulip", "rose", "dandelion")[i % 3],
                "p_given": round(0.0021 + 0.0037 * i, 6),
                "p_suggested": round(0.9873 - 0.0071 * i, 6),
                "image": None,
                "text": None,
                **entry,
            }
            for i in range(min(found, 50))
        ],
    }


def learning_curve(verdict: str = "labels", **changes: Any) -> dict[str, Any]:
    """A curve of error = a + b * n^-c, sampled at five shares of 560 labels."""
    a, b, c = (0.31, 0.2, 0.9) if verdict == "backbone" else (0.021, 1.43, 0.47)

    def accuracy(n: float) -> float:
        return 1.0 - a - b * n**-c

    points = []
    for share in SHARES:
        n = round(560 * share)
        sd = 0.35 / n**0.9
        values = [accuracy(n) + k * sd for k in (-1.1, -0.4, 0.3, 1.2)]
        points.append(
            {
                "share": share,
                "n": n,
                "accuracy": {"mean": sum(values) / 4, "sd": sd, "values": values},
            }
        )
    return {
        "backbone": "lite0",
        "cut": "pool",
        "points": points,
        "fit": {
            "form": "error = a + b * n^-c",
            **{
                k: {"value": v, "low": 0.81 * v, "high": 1.27 * v}
                for k, v in zip("abc", (a, b, c), strict=True)
            },
        },
        "forecast": [
            {
                "factor": k,
                "n": 560 * k,
                "accuracy": {
                    "value": accuracy(560 * k),
                    "low": accuracy(560 * k) - 0.0061 * k,
                    "high": accuracy(560 * k) + 0.0043 * k,
                },
            }
            for k in (2, 4)
        ],
        "verdict": verdict,
        **changes,
    }


def counted_curve(verdict: str = "labels", **changes: Any) -> dict[str, Any]:
    """The same curve of a run that says how many labels there are: 700, of which 560 are learnt."""
    found = learning_curve(verdict)
    fit = {k: found["fit"][k]["value"] for k in "abc"}
    forecast = []
    for factor in (1, 2, 4):
        value = 1.0 - fit["a"] - fit["b"] * (700 * factor) ** -fit["c"]
        ends = {"low": value - 0.0061 * factor, "high": value + 0.0043 * factor}
        entry = {"factor": factor, "n": 700 * factor, "accuracy": {"value": value, **ends}}
        forecast.append(entry)
    return {**found, "labels": 700, "forecast": forecast, **changes}


def analysis(**parts: Any) -> dict[str, Any]:
    """Everything that the analysis of a run may hold; parts replace or empty (None) one."""
    return {
        "model": "d",
        "mistakes": [],
        "near_duplicates": near_duplicates(),
        "suspicious_labels": suspicious_labels(),
        "learning_curves": [counted_curve()],
        **parts,
    }
