"""A benchmark's figures are of the same predictions, or they are not given."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import saved
from typer.testing import CliRunner

from headstart.backbones.base import SeriesOptions
from headstart.data.encode import stack
from headstart.data.text import pair_of
from headstart.errors import ConfigError, DataError, EngineError, RunError
from headstart.evaluate.energy import Rapl, Zone
from headstart.heads import HeadSpec
from headstart.predict import Predictor
from headstart.predict.whole import load_whole
from headstart.runs import benchmark_measure
from headstart.runs.benchmark import Benchmark, Plan, benchmark, warnings_of
from headstart.runs.benchmark_measure import difference_of
from headstart.runs.benchmark_prepare import prepare
from headstart.runs.benchmark_samples import gather
from headstart.runs.index import read_rows, write_index
from headstart.types import TextSpec

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = Plan(batch_sizes=(1, 3), rounds=4, warm_up=1, threads=1, samples=5, memory=False)


def run(folders: list[Path], plan: Plan = QUICK, **options: object) -> Benchmark:
    return benchmark(folders, plan, **options)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return saved(tmp_path / "run" / "models" / "plain")


def test_every_model_in_every_engine_has_figures(model: Path, tmp_path: Path) -> None:
    deep = saved(
        tmp_path / "run" / "models" / "deep",
        cut="layer2",
        head=HeadSpec(hidden=(8,), normalization="batch"),
        temperature=2.5,
    )
    before = torch.get_num_threads()
    found = run([model, deep])
    assert torch.get_num_threads() == before
    assert [(one.model, one.engine, one.state) for one in found.results] == [
        (name, engine, "ok")
        for name in ("plain", "deep")
        for engine in ("torch", "onnxruntime", "openvino")
    ]
    for one in found.results:
        assert one.max_difference is not None
        assert one.max_difference < 1e-4
        assert [timing.latency.batch_size for timing in one.timings] == [1, 3]
        for timing in one.timings:
            taken = timing.latency
            assert taken.calls == 4
            assert 0 < taken.low_ms <= taken.p50_ms <= taken.p95_ms
            assert timing.joules_per_1000 is None
    assert "not measured" in found.energy
    assert [step.step for step in found.preparations] == ["decode", "transform"]
    assert found.preparations[0].models == ("plain", "deep")
    assert "made up" in found.conditions.samples
    assert found.conditions.threads == 1


def test_facts_are_those_of_the_whole_network(model: Path, tmp_path: Path) -> None:
    tuned = saved(tmp_path / "run" / "models" / "tuned", cut="input")
    found = run([model, tuned], replace(QUICK, engines=("torch",)))
    frozen, whole = found.models
    # He et al. 2015: 0.27 million, of which 640 + 10 are the classifier; here 64 x 3 + 3.
    assert frozen.parameters == whole.parameters == 269_722 - 650 + 195
    assert frozen.network_bytes >= 4 * frozen.parameters
    # Frozen, the folder holds only the head; trained from the input on, everything.
    assert frozen.saved_bytes < 4000 < 4 * whole.parameters < whole.saved_bytes
    # He et al.'s ResNet-20 on 32 x 32 pixels: 41 million with ten classes.
    assert frozen.multiply_adds == pytest.approx(40.8e6, rel=0.01)
    record = json.loads(json.dumps(found.as_json()))
    timing = record["results"][0]["timings"][1]["latency"]
    assert timing["p50_ms_per_sample"] == pytest.approx(timing["p50_ms"] / 3)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_timed_network_says_what_the_predictor_says(temperature: float, tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", temperature=temperature)
    whole = load_whole(folder, device=torch.device("cpu"))
    samples = gather((), whole.model.input_spec, 4).data
    rows = prepare(whole.model.input_spec, samples).rows
    said = whole.network(torch.from_numpy(stack(rows, whole.model.input_spec)))
    expected = Predictor.load(folder, device=torch.device("cpu")).predict(samples)
    np.testing.assert_allclose(said.numpy(), expected, atol=1e-6)
    assert np.ptp(expected) > 0.1


def _off_by(amount: float) -> Callable[..., object]:
    original = benchmark_measure.graph_forward

    def wrong(*words: object, **options: object) -> object:
        call = original(*words, **options)
        return lambda batch: call(batch) + np.float32(amount)

    return wrong


def test_an_engine_that_disagrees_has_no_figures(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark_measure, "graph_forward", _off_by(2e-3))
    found = run([model], replace(QUICK, engines=("torch", "onnxruntime")))
    torch_row, other = found.results
    assert (torch_row.state, len(torch_row.timings)) == ("ok", 2)
    assert (other.state, other.timings) == ("disagrees", ())
    assert other.max_difference == pytest.approx(2e-3, rel=0.01)
    assert "differs from torch by 2.0e-03" in other.reason


def test_a_difference_within_the_rounding_is_said_and_no_reason(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark_measure, "graph_forward", _off_by(5e-4))
    other = run([model], replace(QUICK, engines=("torch", "onnxruntime"))).results[1]
    assert other.state == "ok"
    assert other.max_difference == pytest.approx(5e-4, rel=0.01)


def test_an_engine_that_disagrees_at_one_batch_size_has_no_figures_at_another(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, wrong = benchmark_measure.graph_forward, _off_by(0.1)

    def at_three(*words: object, batch_size: int, **options: object) -> object:
        chosen = wrong if batch_size == 3 else original
        return chosen(*words, batch_size=batch_size, **options)

    monkeypatch.setattr(benchmark_measure, "graph_forward", at_three)
    other = run([model], replace(QUICK, engines=("torch", "onnxruntime"))).results[1]
    assert (other.state, other.timings) == ("disagrees", ())


def test_an_engine_that_fails_says_why_and_the_others_go_on(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*words: object, **options: object) -> object:
        raise EngineError("no such operator")

    monkeypatch.setattr(benchmark_measure, "graph_forward", broken)
    found = run([model], replace(QUICK, engines=("torch", "openvino")))
    assert [one.state for one in found.results] == ["ok", "failed"]
    assert found.results[1].reason == "no such operator"


def test_answers_that_are_no_numbers_differ() -> None:
    good = np.array([[0.5, 0.5]], dtype=np.float32)
    assert difference_of(np.array([[0.5, np.nan]], dtype=np.float32), good) == float("inf")
    assert difference_of(good[:, :1], good) == float("inf")
    # Values of a regression count against their size, probabilities as they are.
    assert difference_of(np.float32([[101.0]]), np.float32([[100.0]])) == pytest.approx(0.01)
    assert difference_of(np.float32([[0.02]]), np.float32([[0.01]])) == pytest.approx(0.01)


def test_sequences_are_timed_in_torch(tmp_path: Path) -> None:
    options = SeriesOptions(channels=2, max_length=12, hidden=4)
    folder = saved(tmp_path / "gru", "headstart/gru", goal="regression", series=options)
    found = run([folder])
    assert [(one.engine, one.state) for one in found.results] == [("torch", "ok")]
    assert [step.step for step in found.preparations] == ["convert"]
    assert found.models[0].length is not None
    asked = run([folder], replace(QUICK, engines=("torch", "onnxruntime")))
    assert asked.results[1].state == "failed"
    assert "choose the engine torch" in asked.results[1].reason
    with pytest.raises(DataError, match="made up"):
        run([folder], data=[tmp_path])


def test_own_pictures_are_read_from_a_folder(model: Path, tmp_path: Path) -> None:
    for number in range(8):
        path = tmp_path / "photos" / f"class {number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 50), (number * 30, 0, 0)).save(path)
    (tmp_path / "photos" / "notes.txt").write_text("not a picture")
    spec = load_whole(model, device=torch.device("cpu")).model.input_spec
    some = gather([tmp_path / "photos"], spec, 4)
    assert some.origin == f"4 of the 8 in {tmp_path / 'photos'}"
    reds = [Image.open(io.BytesIO(one)).getpixel((0, 0))[0] // 30 for one in some.data]
    assert sorted(reds) == sorted(set(reds))
    assert {red % 2 for red in reds} == {0, 1}  # spread over all, not the first ones
    with pytest.raises(DataError, match="found none"):
        gather([model.parent], spec, 4)
    with pytest.raises(DataError, match="nothing"):
        gather([tmp_path / "missing"], spec, 4)


def test_both_halves_of_the_rounds_see_the_same_samples(model: Path) -> None:
    spec = load_whole(model, device=torch.device("cpu")).model.input_spec
    ready = prepare(spec, gather((), spec, 7).data)
    for size, rounds, expected in ((1, 4, 2), (1, 100, 7), (3, 100, 3), (32, 10, 1)):
        batches = ready.timed_batches(size, rounds)
        assert len(batches) == expected
        assert {len(batch) for batch in batches} == {size}


def test_calls_are_spread_over_all_samples(model: Path) -> None:
    spec = load_whole(model, device=torch.device("cpu")).model.input_spec
    ready = prepare(spec, gather((), spec, 20).data)
    for size, rounds, expected in ((1, 10, [0, 4, 8, 12, 16]), (3, 8, [0, 5, 10, 15])):
        found = ready.timed_batches(size, rounds)
        first = [next(i for i, row in enumerate(ready.rows) if (row == b[0]).all()) for b in found]
        assert first == expected


def test_of_few_calls_there_is_no_95th_percentile(model: Path) -> None:
    for rounds, known in ((19, False), (20, True)):
        plan = replace(QUICK, engines=("torch",), rounds=rounds, batch_sizes=(1,))
        taken = run([model], plan).as_json()["results"][0]["timings"][0]["latency"]
        assert (taken["p95_ms"] is not None, taken["p95_ms_per_sample"] is not None) == (known,) * 2


def test_what_cannot_be_compared_is_refused(model: Path, tmp_path: Path) -> None:
    series = saved(
        tmp_path / "series",
        "headstart/gru",
        series=SeriesOptions(channels=1, max_length=5, hidden=4),
    )
    with pytest.raises(ConfigError, match=r"it takes sequences, and .* takes pictures"):
        run([model, series])
    with pytest.raises(ConfigError, match=r"this is a run; name models of it, as .*plain"):
        run([model.parents[1]])
    with pytest.raises(ConfigError, match="at least one folder"):
        run([])
    for wrong, message in (
        ({"rounds": 1}, "rounds: expected at least 2"),
        ({"batch_sizes": (0,)}, "batch-size: expected at least 1"),
        ({"threads": 0}, "threads: expected at least 1"),
        ({"engines": ("onnx",)}, "did you mean 'onnxruntime'"),
    ):
        with pytest.raises(ConfigError, match=message):
            run([model], replace(QUICK, **wrong))


def test_a_busy_or_unsteady_machine_is_said(model: Path) -> None:
    found = run([model], replace(QUICK, engines=("torch",)))
    cores = found.conditions.machine["cores"]

    def warned(begin: float | None, end: float | None, drift: float) -> str:
        conditions = replace(found.conditions, load_begin=begin, load_end=end)
        result = found.results[0]
        timing = replace(result.timings[0], drift=drift)
        steps = tuple(replace(step, drift=0.0) for step in found.preparations)
        changed = replace(
            found,
            conditions=conditions,
            results=(replace(result, timings=(timing,)),),
            preparations=steps,
        )
        return " ".join(warnings_of(changed))

    assert warned(0.0, cores - 0.1, 0.09) == ""
    assert warned(None, None, -0.09) == ""
    assert "busy before" in warned(cores - 0.4, 0.0, 0.0)  # one thread more is too many
    assert "busy at the end" in warned(0.0, cores + 1.0, 0.0)
    assert "batches of 1 +12%" in warned(0.0, 0.0, 0.12)
    assert "batches of 1 -20%" in warned(0.0, 0.0, -0.2)


def test_energy_is_counted_for_a_thousand_predictions(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark_measure, "_ENERGY_SECONDS", 0.0)

    class Counter:  # each reading is 3 J after the one before
        value = 0

        def read_text(self, encoding: str) -> str:
            assert encoding == "ascii"
            self.value += 3_000_000
            return str(self.value)

    rapl = Rapl((Zone("package-0", Counter(), 10**12),))  # type: ignore[arg-type]
    found = run([model], replace(QUICK, engines=("torch",)), rapl=rapl)
    # Three calls at least: 1 J each, for one sample and for three.
    per_thousand = [timing.joules_per_1000 for timing in found.results[0].timings]
    assert per_thousand == [pytest.approx(1000), pytest.approx(1000 / 3)]
    assert "package-0" in found.energy
    assert found.idle_watts is not None


def test_memory_is_that_of_each_pair(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = run([model], replace(QUICK, engines=("openvino",), memory=True))
    result = found.results[0]
    assert result.memory_note == ""
    assert result.loading_bytes is not None
    memory = dict(result.predicting_bytes)
    assert memory[1] > 500_000  # half of its weights, at the least
    assert memory[1] <= memory[3] < 500e6
    monkeypatch.setattr(
        benchmark_measure, "measure_peaks", lambda *_, **__: (RunError("it was killed"),)
    )
    failed = run([model], replace(QUICK, engines=("torch",), memory=True)).results[0]
    assert (failed.state, failed.memory_note) == ("ok", "it was killed")
    assert failed.predicting_bytes == ()


def test_the_command_prints_tables_and_writes_json(model: Path, tmp_path: Path) -> None:
    import typer

    from headstart.cli.benchmark import benchmark as command

    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(command)
    words = [str(model), "--engine", "torch", "--batch-size", "2", "--rounds", "4"]
    words += ["--threads", "1", "--samples", "3", "--no-memory"]
    out = tmp_path / "found.json"
    done = CliRunner().invoke(app, [*words, "--out", str(out)], env={"COLUMNS": "120"})
    assert done.exit_code == 0, done.output
    for expected in ("plain", "headstart/resnet20", "decode", "1 thread", "made up", "energy: "):
        assert expected in done.output
    record = json.loads(out.read_text())
    assert record["schema_version"] == 1
    p50 = record["results"][0]["timings"][0]["latency"]["p50_ms_per_sample"]
    assert "–" in done.output  # of four calls no 95th percentile
    assert f"{p50:.3f}" in done.output or f"{p50:.2f}" in done.output
    assert not (tmp_path / "index.html").exists()  # nobody's folder of runs
    write_index(tmp_path)
    asked = [*words, "--format", "json", "--out", str(tmp_path / "more.json")]
    done = CliRunner().invoke(app, asked)
    assert json.loads(done.stdout)["conditions"]["rounds"] == 4
    assert "more.json" in (tmp_path / "index.html").read_text()
    row = next(row for row in read_rows(tmp_path) if row.name == "found.json")
    assert (row.kind, row.model.text, row.prediction.order) == ("benchmark", "plain", p50)


def test_own_texts_are_read_from_files_and_tables(tmp_path: Path) -> None:
    spec = TextSpec(tokenizer="{}", max_length=8)
    (tmp_path / "texts").mkdir()
    for word in ("one", "two"):
        (tmp_path / "texts" / f"{word}.txt").write_text(word)
    assert sorted(gather([tmp_path / "texts"], spec, 9).data) == [b"one", b"two"]
    assert gather([tmp_path / "texts" / "two.txt"], spec, 9).data == (b"two",)
    table = tmp_path / "table.csv"
    table.write_text("text,label\nthree,a\nfour,b\n")
    assert [one.decode() for one in gather([table], spec, 9).data] == ["three", "four"]
    pairs = replace(spec, pairs="together")
    with pytest.raises(DataError, match="expected pairs, which the models take, got texts"):
        gather([table], pairs, 9)
    made = gather((), pairs, 3).data
    assert len(set(made)) == 3
    assert made == gather((), pairs, 3).data  # the same every time
    assert all(len(text.split()) >= 20 for one in made for text in pair_of(one))
