"""What is said of confidence is what was measured, and no more than its interval bears."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_makers import model, plots, read, results, score, tables, texts

from headstart.report import advise, build_view
from headstart.report.calibration_tables import mean_confidence
from headstart.report.figures import draw
from headstart.report.plots import ReliabilityBin, ReliabilityPanel, ReliabilityPlot
from headstart.types import JsonDict


def bins(*parts: tuple[int, float, float]) -> list[dict[str, Any]]:
    """Bins of (answers, confidence, accuracy)."""
    edges = [(int(c * 15) / 15, (int(c * 15) + 1) / 15) for _, c, _ in parts]
    return [
        {"low": low, "high": high, "n": n, "confidence": c, "accuracy": a}
        for (n, c, a), (low, high) in zip(parts, edges, strict=True)
    ]


def measured(ece: float, confidence: float, loss: float = 0.5) -> dict[str, Any]:
    parts = bins((100, confidence - 0.1, 0.6), (100, confidence + 0.1, 0.9))
    return {"ece": score(ece, 0.01), "loss": score(loss, 0.05), "bins": parts}


def calibrated(
    before: dict[str, Any], after: dict[str, Any] | None, temperature: float = 1.5, **more: Any
) -> JsonDict:
    of = {"temperature": temperature, "applied": False, "bins": 15}
    of["test"] = {"before": before, "after": after}
    return model("a", 0.76, 0.75, calibration={**of, **more})


def said(entry: JsonDict) -> str:
    return texts(advise(results(models=[entry]), {}), "calibration")


@pytest.mark.parametrize(
    ("confidence", "words"),
    [
        (0.85, "“A” is over-confident as trained: its mean confidence on the test pictures is "
         "85.0%, 10.0 points above its accuracy 75.0% (72.0–78.0%) and outside its interval"),
        (0.65, "“A” is under-confident as trained: its mean confidence on the test pictures is "
         "65.0%, 10.0 points below its accuracy 75.0% (72.0–78.0%) and outside its interval"),
        (0.77, "“A” is on the whole neither over- nor under-confident as trained: its mean "
         "confidence on the test pictures is 77.0%, inside the interval of its accuracy 75.0%"),
    ],
)  # fmt: skip
def test_confidence_is_held_against_accuracy(confidence: float, words: str) -> None:
    entry = calibrated(measured(0.11, confidence), measured(0.02, 0.75))
    text = said(entry)
    assert words in text
    assert "its expected calibration error (ECE) is 11.0% (10.0–12.0%)" in text
    (sentence,) = [
        s for s in advise(results(models=[entry]), {})["sentences"] if s["topic"] == "calibration"
    ]
    assert sentence["rows"] == ["models/a/calibration", "models/a"]


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (0.05, "takes the ECE to 5.0% (4.0–6.0%): better by more than the intervals."),
        (0.091, "takes the ECE to 9.1% (8.1–10.1%): the intervals meet, so they alone do not"),
        (0.129, "takes the ECE to 12.9% (11.9–13.9%): the intervals meet, so they alone do not"),
        (0.14, "takes the ECE to 14.0% (13.0–15.0%): worse by more than the intervals;"),
    ],
)
def test_without_a_gain_the_temperature_helps_beyond_the_intervals(
    after: float, words: str
) -> None:
    text = said(calibrated(measured(0.11, 0.85, 0.612), measured(after, 0.75, 0.534)))
    assert words in text
    assert "The test loss goes from 0.612 to 0.534." in text
    assert "noise" not in text


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        ((0.0212, 0.0101, 0.0333), "the loss falls by 0.0212 (0.0101 to 0.0333): the temperature "
         "helps."),
        ((-0.0212, -0.0333, -0.0101), "the loss rises by 0.0212 (0.0101 to 0.0333): the "
         "temperature makes it worse; more validation samples would fit it better."),
        ((0.0012, -0.0101, 0.0133), "the loss falls by 0.00120 (−0.0101 to 0.0133): whether the "
         "temperature helps cannot be told from noise."),
        ((0.0, 0.0, 0.0), "the loss falls by 0 (0 to 0): whether the temperature helps cannot be "
         "told from noise."),
    ],
)  # fmt: skip
@pytest.mark.parametrize("after", [0.05, 0.091, 0.14])
def test_whether_the_temperature_helps_is_told_by_the_same_samples(
    gain: tuple[float, float, float], words: str, after: float
) -> None:
    """The two errors' own intervals, be they apart or not, say less than the paired difference."""
    entry = calibrated(measured(0.11, 0.85, 0.612), measured(after, 0.75, 0.591))
    loss = dict(zip(("value", "low", "high"), gain, strict=True))
    entry["calibration"]["test"]["gain"] = {"loss": {**loss, "n": 200}}
    text = said(entry)
    assert f"%). The test loss goes from 0.612 to 0.591. Sample by sample {words}" in text
    assert "intervals" not in text


@pytest.mark.parametrize(
    ("temperature", "words"),
    [
        (1.52, "The temperature 1.52, fitted on validation, lowers confidences"),
        (0.71, "The temperature 0.710, fitted on validation, raises confidences"),
        (1.0, "The temperature 1.00, fitted on validation, leaves confidences as they are"),
    ],
)
def test_what_the_temperature_does(temperature: float, words: str) -> None:
    entry = calibrated(measured(0.11, 0.85), measured(0.05, 0.75), temperature)
    assert words in said(entry)
    assert "hold it already" not in said(entry)
    entry["calibration"]["applied"] = True
    assert "The stored predictions hold it already." in said(entry)


def test_the_recommended_model_is_spoken_of() -> None:
    other = {**calibrated(measured(0.3, 0.95), None), "name": "b", "title": "B"}
    other["metrics"]["val"]["accuracy"] = score(0.6)
    entry = calibrated(measured(0.11, 0.85), measured(0.05, 0.75))
    text = texts(advise(results(models=[other, entry]), {}), "calibration")
    assert "“A” is over-confident" in text
    assert "“B”" not in text


def test_nothing_is_said_where_nothing_was_measured() -> None:
    assert said(model("a", 0.9)) == ""
    assert said(model("a", 0.9, calibration=None)) == ""
    empty = {"temperature": None, "applied": False, "bins": 15, "test": None}
    assert said(model("a", 0.9, calibration=empty)) == ""
    without = calibrated(measured(0.1, 0.85), None, temperature=None)  # type: ignore[arg-type]
    assert "temperature" not in said(without)


@given(st.lists(st.tuples(st.integers(1, 999), st.floats(0, 1)), min_size=1, max_size=15))
def test_mean_confidence_is_that_of_all_answers(parts: list[tuple[int, float]]) -> None:
    found = mean_confidence({"bins": [{"n": n, "confidence": c} for n, c in parts]})
    everyone = [c for n, c in parts for _ in range(n)]
    assert found == pytest.approx(sum(everyone) / len(everyone))
    assert mean_confidence({"bins": []}) is None


def test_table_and_diagram_hold_the_results_own_figures(evidence_run: Path) -> None:
    whole = read(evidence_run)
    view = build_view(evidence_run)
    table = tables(view)["calibration"]
    for entry, row in zip(whole["models"], table.rows, strict=True):
        of = entry["calibration"]
        expected = [entry["title"], f"{100 * entry['metrics']['test']['accuracy']['value']:.1f}"]
        for which in ("before", "after"):
            found = of["test"][which]
            total = sum(b["n"] for b in found["bins"])
            assert total == entry["metrics"]["test"]["accuracy"]["n"]
            mean = sum(b["n"] * b["confidence"] for b in found["bins"]) / total
            ece = found["ece"]
            expected += [f"{100 * mean:.1f}", f"{100 * ece['value']:.1f}"]
            expected.append(f"{100 * ece['low']:.1f}–{100 * ece['high']:.1f}")
            expected.append(f"{found['loss']['value']:.3f}")
            if which == "before":
                expected.append(f"{of['temperature']:#.3g}")
        assert list(row.cells) == expected
        assert row.refs == (f"models/{entry['name']}/calibration",)
    chosen = whole["recommendation"]["model"]
    (best,) = [m for m in whole["models"] if m["name"] == chosen]
    assert [row.strong for row in table.rows] == [m is best for m in whole["models"]]
    for which, panel in zip(("before", "after"), plots(view)["reliability"].panels, strict=True):
        drawn = [(b.low, b.high, b.n, b.confidence, b.accuracy) for b in panel.bins]
        assert drawn == [tuple(b.values()) for b in best["calibration"]["test"][which]["bins"]]


@pytest.mark.parametrize(
    ("applied", "words"),
    [
        ((True, True), "are divided by the temperature already"),
        ((False, False), "the temperature is not in them"),
        ((True, False), "in the stored predictions of “A”, not in those of the others"),
    ],
)
def test_whether_the_stored_predictions_hold_the_temperature(
    applied: tuple[bool, bool], words: str
) -> None:
    from headstart.report.calibration_tables import blocks

    entries = [calibrated(measured(0.1, 0.8), measured(0.1, 0.8), applied=a) for a in applied]
    entries[1] |= {"name": "b", "title": "B"}
    (table,) = [b for b in blocks(results(models=entries), None) if b and b.kind == "table"]
    assert words in table.note


def plot(number: int) -> ReliabilityPlot:
    panel = ReliabilityPanel(
        "as trained",
        tuple(
            ReliabilityBin(i / number, (i + 1) / number, 1000 + i, (i + 0.5) / number, 0.5)
            for i in range(number)
        ),
    )
    return ReliabilityPlot((panel, panel))


def test_the_diagram_writes_how_many_answers_each_bin_holds() -> None:
    for medium in ("print", "screen", "phone"):
        drawn = draw(plot(15), medium, "k", "what it shows")
        for n in range(1000, 1015):
            assert drawn.count(f">{n:,}<") == 2
    # Where bins are too narrow for numbers, the axis must do.
    assert ">1,003<" not in draw(plot(30), "print", "k")
