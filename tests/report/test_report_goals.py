"""Reports of texts, regressions and language models say what their results say."""

import io
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pypdf
import pytest
import report_goals
from report_goals import history
from report_makers import changed, plots, read, results, score, steps, tables, texts

from headstart.report import ReportView, advise, build_view
from headstart.report.html import to_html
from headstart.report.measures import ACCURACY, MSE, PERPLEXITY
from headstart.report.pdf import typeset
from headstart.report.records import Quote
from headstart.report.text import Measured
from headstart.types import JsonDict

Make = Callable[[str], Path]


@pytest.fixture(scope="module")
def views(run_folder: Make) -> dict[str, ReportView]:
    return {name: build_view(run_folder(name)) for name in report_goals.STUDIES}


def row(view: ReportView, table: str, first: str) -> tuple[str, ...]:
    (found,) = [r.cells for r in tables(view)[table].rows if r.cells[0] == first]
    return found


def estimator(name: str, val: float, **more: Any) -> JsonDict:
    """A regression whose interval reaches a tenth to both sides."""
    metrics = {s: {"mse": score(val, 0.1 * val)} for s in ("val", "test")}
    return {"name": name, "title": name.upper(), "metrics": metrics, "state": "complete", **more}


def regressions(*models: JsonDict, **parts: Any) -> JsonDict:
    data = {"noun": "sequence", "goal": "regression"}
    return results(models=list(models), data=data, **parts)


def of_texts(*models: JsonDict, noun: str = "text", goal: str = "classification") -> JsonDict:
    return results(models=list(models), data={"noun": noun, "goal": goal})


def test_nothing_is_called_a_picture_that_is_none(views: dict[str, ReportView]) -> None:
    for name, word in (("pairs", "pairs"), ("regression", "sequences"), ("language", "tokens")):
        page = to_html(views[name]).lower()
        body = page[page.index("<body") :]
        assert "picture" not in body
        assert "image" not in body
        assert word in body


@pytest.mark.parametrize(
    ("name", "most", "figures"),
    [
        ("pairs", 4, ("92.5%", "mismatched", "91.3", "−1.2 to +6.2", "8.0")),
        ("regression", 3, ("0.00213", "0.00202–0.00224", "0.0351", "312.5", "1.23")),
        ("language", 2, ("79.65", "78.06–81.24", "83.21", "13,456,789", "65.60", "2.61")),
    ],
)
def test_page_and_pdf_show_the_figures_and_fit(
    views: dict[str, ReportView], name: str, most: int, figures: Sequence[str]
) -> None:
    pages = pypdf.PdfReader(io.BytesIO(typeset(views[name], most))).pages
    assert len(pages) <= most
    printed = "".join(page.extract_text() for page in pages).replace("\u200b", "")
    shown = to_html(views[name])
    for figure in figures:
        assert figure in printed.replace("\n", "")
        assert figure in shown


def test_further_test_sets_have_a_table_of_their_own(
    run_folder: Make, views: dict[str, ReportView]
) -> None:
    view = views["pairs"]
    heads = [(c.title, c.group) for c in tables(view)["further-tests"].columns[1:]]
    assert [g for _, g in heads] == [
        *["Test accuracy, %"] * 2,
        *["Mismatched test accuracy, %"] * 2,
    ]
    for model in read(run_folder("pairs"))["models"]:
        cells = row(view, "further-tests", model["title"])
        for i, split in ((1, "test"), (3, "test-mismatched")):
            found = model["metrics"][split]["accuracy"]
            assert cells[i] == f"{100 * found['value']:.1f}"
            assert cells[i + 1] == f"{100 * found['low']:.1f}–{100 * found['high']:.1f}"
    assert "mismatched test" in tables(view)["scores"].caption
    assert [c.title for c in tables(view)["counts"].columns[-2:]] == ["mismatched test", "all"]


def test_texts_that_were_cut_off_are_counted_and_called_too_many_above_five_in_a_hundred(
    run_folder: Make, views: dict[str, ReportView], tmp_path: Path
) -> None:
    cells = tables(views["pairs"])["truncation"].rows[0].cells
    assert cells[1:] == ("128", "600", "48", "8.0", "840", "4.0")
    everything = read(run_folder("pairs"))
    said = texts(advise(everything, {}), "data")
    assert "8.0% of the pairs were cut off" in said
    assert "4.0% of all tokens were lost" in said
    assert "Raise max_length" in said
    everything["backbones"][0]["truncation"]["truncated"] = 30
    assert texts(advise(everything, {}), "data") == ""


def test_how_texts_and_series_enter_a_network_is_said_without_pixels(
    views: dict[str, ReportView],
) -> None:
    inputs = [r.cells[2] for r in tables(views["pairs"])["backbones"].rows[:2]]
    assert inputs == [
        "128 tokens at most, pairs together, markup taken out",
        "64 tokens at most, each text of a pair by itself",
    ]
    assert (
        row(views["regression"], "backbones", "headstart/gru")[2] == "1 channel, 10 steps at most"
    )
    assert "pixels" not in to_html(views["pairs"])


def test_given_texts_are_shown_with_the_probability_of_every_class(
    views: dict[str, ReportView],
) -> None:
    table = tables(views["pairs"])["examples"]
    assert [c.title for c in table.columns] == [
        *("First text", "Second text", "Predicted"),
        *report_goals.PAIRS,
    ]
    (example,) = table.rows
    assert example.cells[2:] == ("contradiction", "91.3", "2.1", "6.6")
    assert "A man plays a &lt;b&gt;guitar&lt;/b&gt;." in to_html(views["pairs"])


def test_a_transfer_whose_interval_holds_zero_is_called_no_gain(run_folder: Make) -> None:
    everything = read(run_folder("pairs"))
    said = texts(advise(everything, {}), "transfer")
    assert "+2.5 points (−1.2 to +6.2) on the same test pairs. That interval includes 0." in said
    assert "no gain that could be measured" in said
    everything["comparisons"][0]["accuracy_difference"]["low"] = 0.001
    assert "a real gain" in texts(advise(everything, {}), "transfer")


def test_a_comparison_on_test_counts_before_one_on_a_further_set(run_folder: Make) -> None:
    everything = read(run_folder("pairs"))
    (pair,) = everything["comparisons"]
    late = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 60}
    further = {**pair, "split": "test-mismatched", "accuracy_difference": late}
    everything["comparisons"] = [further, pair]
    assert "on the same test pairs" in texts(advise(everything, {}), "transfer")
    assert "on the same mismatched test pairs" in texts(advise(everything, {}), "model")


def test_the_lowest_squared_error_is_chosen_and_ties_go_by_its_interval() -> None:
    models = [estimator("a", 0.5), estimator("b", 0.105), estimator("c", 0.1)]
    said = advise(regressions(*models), {})
    assert said["model"] == "c"
    assert "the lowest validation mean squared error, 0.100 (0.0900–0.110)" in texts(said, "model")
    (near,) = [s["text"] for s in said["sentences"] if "indistinguishable" in s["text"]]
    assert "“B” is indistinguishable" in near
    assert "“A”" not in near


def test_a_baseline_is_a_reference_and_never_chosen_unless_nothing_is_better() -> None:
    mean = estimator("mean", 0.3, kind="baseline")
    said = advise(regressions(estimator("a", 0.1), mean), {})
    assert said["model"] == "a"
    assert "“A” beats “MEAN”, which says the same of every sequence" in texts(said, "model")
    assert advise(regressions(mean, estimator("a", 0.3)), {})["model"] == "a"
    near = advise(regressions(mean, estimator("a", 0.29)), {})
    assert "“A” cannot be told from “MEAN”" in texts(near, "model")
    assert "indistinguishable" not in texts(near, "model")
    worse = advise(regressions(mean, estimator("a", 0.6)), {})
    assert worse["model"] == "mean"
    assert "No model was better than “MEAN”" in texts(worse, "model")
    assert "Use “MEAN”" not in texts(worse, "model")


def test_the_table_of_regressions_has_errors_intervals_time_and_parameters(
    run_folder: Make, views: dict[str, ReportView]
) -> None:
    table = tables(views["regression"])["scores"]
    groups = ["Validation MSE", "Test MSE", "Test MAE"]
    assert [c.group for c in table.columns if c.title == "value"] == groups
    assert [c.title for c in table.columns[-2:]] == ["Parameters", "Training, s"]
    gru = row(views["regression"], "scores", "GRU")
    assert gru[1:3] == ("0.00213", "0.00202–0.00224")
    assert gru[5:] == ("0.0351", "0.0333–0.0369", "4,321", "312.5")
    assert [r.strong for r in table.rows] == [False, True, False, False]
    assert "“Mean of the training targets” is a reference" in table.note
    assert row(views["regression"], "comparisons", "GRU")[2:] == ("−0.0399", "−0.0421 to −0.0377")
    assert "“GRU” is better" in texts(read(run_folder("regression"))["recommendation"], "model")


def test_charts_of_a_regression_hold_its_predictions_and_losses(
    run_folder: Make, views: dict[str, ReportView]
) -> None:
    import pyarrow.parquet as pq

    drawn = plots(views["regression"])
    stored = pq.read_table(run_folder("regression") / "models/gru/predictions-test.parquet")
    pairs = list(zip(stored["target"].to_pylist(), stored["predicted"].to_pylist(), strict=True))
    assert list(drawn["estimates"].points) == pairs[::4]
    assert [s.title for s in drawn["traces"].series] == ["Elman", "GRU", "LSTM"]
    trace = pq.read_table(run_folder("regression") / "models/gru/trace.parquet").to_pylist()
    assert list(drawn["traces"].series[1].points) == [(r["step"], r["loss"]) for r in trace]
    assert all(panel.accuracy == () for panel in drawn["curves"].panels)


def test_a_long_trace_keeps_its_mean_and_its_last_step(run_folder: Make, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path / "run"
    changed(run_folder("regression"), folder, lambda _: None)
    losses = [float(i % 7) for i in range(1200)]
    table = pa.table({"step": list(range(1, 1201)), "loss": losses})
    pq.write_table(table, folder / "models/gru/trace.parquet")
    (series,) = plots(build_view(folder))["traces"].series
    assert len(series.points) == 300
    assert series.points[-1][0] == 1200
    assert math.isclose(sum(y for _, y in series.points) / 300, sum(losses) / 1200)


def test_the_report_of_a_language_model_has_perplexities_samples_and_references(
    run_folder: Make, views: dict[str, ReportView]
) -> None:
    view = views["language"]
    assert row(view, "scores", "Regularised LSTM")[1:] == (
        *("83.21", "81.55–84.87", "79.65", "78.06–81.24"),
        *("13,456,789", "10", "72.0"),
    )
    assert row(view, "corpus", "validation") == ("validation", "217,646", "2.54")
    assert row(view, "architectures", "LSTM")[1:6] == ("lstm", "200", "250", "2", "yes")
    assert tables(view)["references"].rows[0].cells[:2] == ("AWD-LSTM", "65.60")
    assert "they do not" in tables(view)["references"].note
    (quote,) = [b for s in view.sections for b in s.blocks if isinstance(b, Quote)]
    assert quote.text == "The river of awd & co. runs <unk>"
    assert "runs &lt;unk&gt;</p>" in to_html(view)
    curve = dict(plots(view)["curves"].panels[1].loss)["val"]
    assert curve.values[-1] == pytest.approx(83.21, abs=0.1)
    assert plots(view)["curves"].loss == "perplexity"
    said = read(run_folder("language"))["recommendation"]
    assert said["model"] == "awd"
    assert "the lowest validation perplexity, 83.21 (81.55–84.87)" in texts(said, "model")


def fitted(noun: str, goal: str, train: Sequence[float], val: Sequence[float]) -> str:
    model = estimator("a", 0.1)
    model["metrics"]["val"] |= {"accuracy": score(0.9), "perplexity": score(9.0)}
    curves = history(train, val) if goal != "classification" else steps(train, val)
    return texts(advise(of_texts(model, noun=noun, goal=goal), {"a": curves}), "fit")


def test_a_fine_tuned_text_model_that_overfits_is_told_what_to_try() -> None:
    said = fitted("text", "classification", [0.6, 0.3, 0.2, 0.1, 0.05], [0.5, 0.4, 0.45, 0.5, 0.6])
    assert "“A” overfits: after epoch 2 of 5 its validation loss rises by 50%" in said
    assert "the rule: more than 10%" in said
    assert "the lowest validation loss is 0.400, at epoch 2 of 5" in said
    assert "from +0.100 at that epoch to +0.550 at the end" in said
    for remedy in ("2 epochs", "weight decay", "more training texts", "more frozen layers"):
        assert remedy in said


def test_losses_that_still_fall_call_for_more_epochs_or_a_higher_rate() -> None:
    falling = [1.0, 0.8, 0.6, 0.5, 0.4]
    for noun, goal in (("text", "classification"), ("sequence", "regression")):
        said = fitted(noun, goal, falling, falling)
        assert "“A” underfits: over the last 1 epoch of 5 its validation loss still fell" in said
        assert "Try next: more epochs, or a higher learning rate." in said


def test_a_language_model_is_judged_by_its_perplexity() -> None:
    # The loss rises by 4% and the perplexity by a fifth.
    val = [5.0, 4.7, 4.6, 4.7, 4.79]
    said = fitted("token", "language", [5.0, 4.5, 4.2, 4.0, 3.9], val)
    rise = 100 * (math.exp(4.79 - 4.6) - 1)
    assert f"after epoch 3 of 5 its validation perplexity rises by {rise:.0f}%" in said
    assert "more training text," in said


def test_a_short_fine_tuning_says_where_its_loss_was_lowest() -> None:
    said = fitted("text", "classification", [0.6, 0.3, 0.2], [0.5, 0.4, 0.45])
    assert "trained 3 epochs in its last stage, too few for a verdict" in said
    assert "lowest at epoch 2 of 3 and ends 12% higher" in said
    assert "the last: more epochs may still help" in fitted(
        "text", "classification", [0.6, 0.3, 0.2], [0.5, 0.4, 0.35]
    )


@pytest.mark.parametrize("measure", [ACCURACY, MSE, PERPLEXITY])
def test_the_worse_of_two_decides_whether_they_are_apart(measure: Any) -> None:
    better, worse = (0.9, 0.5) if measure.higher else (0.5, 0.9)
    best = Measured(better, better - 0.1, better + 0.1)
    assert measure.apart(best, Measured(worse))
    assert measure.apart(Measured(worse), best)
    assert not measure.apart(best, Measured(better + (worse - better) / 5))
    assert measure.rank(best) < measure.rank(Measured(worse))


def test_a_difference_of_errors_is_better_where_it_is_negative() -> None:
    models = [
        estimator("new", 0.1, backbone="n", stages=[{"trainable": "all"}]),
        estimator("old", 0.2, backbone="n", from_scratch=True),
    ]
    pair = {"a": "old", "b": "new", "split": "test"}
    pair["mse_difference"] = {"value": 0.1, "low": 0.05, "high": 0.15, "n": 100}
    said = texts(advise(regressions(*models, comparisons=[pair]), {}), "transfer")
    assert "−0.100 (−0.150 to −0.0500) in mean squared error on the same test sequences" in said
    assert "a real gain" in said


def test_sweeps_of_a_regression_choose_the_lowest_error(tmp_path: Path) -> None:
    members = [
        {
            "values": {"optimizer.learning_rate": rate},
            "state": "complete",
            "metrics": {"val": {"mse": score(mse, 0.01)}},
            "best": rate == 0.01,
        }
        for rate, mse in ((0.001, 0.5), (0.01, 0.2), (0.1, 0.9))
    ]
    sweep = {"name": "s", "title": "S", "axes": {"optimizer.learning_rate": [0.001, 0.01, 0.1]}}
    sweep |= {"members": members, "select": {"metric": "mse", "split": "val"}, "best_model": "a"}
    everything = regressions(estimator("a", 0.2), sweeps=[sweep])
    said = texts(advise(everything, {}), "learning-rate")
    assert "0.01 is best, with 0.200 (0.190–0.210) on validation" in said
    assert "Every other value lies above its interval" in said
    view = changed_from(everything, tmp_path / "run")
    assert [r.cells[1] for r in tables(view)["sweep-s"].rows] == ["0.500", "0.200", "0.900"]
    assert (plots(view)["sweeps"].metric, plots(view)["sweeps"].scale) == ("validation MSE", 1)
    assert to_html(view)


def changed_from(everything: JsonDict, folder: Path) -> ReportView:
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps(everything))
    return build_view(folder)
