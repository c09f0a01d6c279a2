from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import results
from benchmarks.rows import GROUPS, engines, frozen, memory, sweep
from benchmarks.rows.group import Setting
from benchmarks.table import Accuracy, Row, Target

FAILED = {"error": "ended with status 1"}


def trained(seconds: float) -> dict[str, object]:
    epoch = seconds / 10
    return {
        "seconds": 6 * epoch,
        "epoch_seconds": [2 * epoch, 2 * epoch, epoch, epoch],
        "accuracies": [0.4, 0.5, 0.5, 0.5],
        "samples": 200,
        "versions": {"keras": "3"},
    }


def measured(name: str, repeats: list[dict[str, dict[str, object]]]) -> results.Measured:
    setting = {"repeats": 3, "threads": 2, "full": False, "data": None, "reviews": None}
    return results.Measured(name, "abc", "2026-01-01T12:00", {"photos": 1000}, setting, repeats)


def frozen_repeat(ours: float, keras: float) -> dict[str, dict[str, object]]:
    head = {"seconds": ours, "compared_accuracy": 0.51, "samples": 200, "versions": {"torch": "2"}}
    return {
        "Headstart, 20 epochs": head,
        "Headstart, 50 epochs": {**head, "seconds": 2 * ours},
        "Keras": trained(keras),
        "PyTorch": FAILED,
        "fastai": FAILED,
        "timm": FAILED,
    }


def test_a_ratio_is_taken_within_each_repeat() -> None:
    # 6 epochs' worth were measured, 16 more are counted as the steady one.
    repeats = [frozen_repeat(2, 100), frozen_repeat(1, 100), frozen_repeat(4, 300)]

    rows = {row.key: row for row in frozen.findings(repeats, {"photos": 1000}).rows}

    assert rows["frozen-20-keras"].values == (110, 220, 165)
    assert rows["frozen-20-keras"].value == 165
    assert rows["frozen-50-keras"].values == (130, 260, 195)
    assert rows["frozen-20-pytorch"].error == "PyTorch: ended with status 1"
    assert rows["frozen-20-pytorch"].missed
    assert not rows["frozen-20-timm"].missed  # only reported


def test_a_failing_contender_leaves_the_rows_of_the_others() -> None:
    heads = {"member_accuracies": [0.4, 0.6], "samples": 200}
    repeat = {
        "Headstart": {"seconds": 0.5, **heads},
        "PyTorch": {"seconds": 15.0, **heads},
        "scikit-learn": FAILED,
    }

    found = sweep.findings([repeat], {"photos": 1000})

    assert [row.verdict for row in found.rows] == ["reached", "not measured"]
    assert [one.contender for one in found.accuracies] == ["Headstart", "PyTorch"]
    assert found.accuracies[0].value == 0.5


def test_a_miss_says_why() -> None:
    row = Row("k", "the work", Target(60), (50.0,), floor="decoding alone takes 1 s")

    assert results.misses([row]) == ["the work: 50×, ≥ 60×: decoding alone takes 1 s"]
    assert results.misses([replace(row, floor="")]) == ["the work: 50×, ≥ 60×: no floor is known"]
    assert results.misses([replace(row, values=(70.0,))]) == []


def test_accuracy_is_held_against_the_first() -> None:
    ours = Accuracy("w", "Headstart", 4, 0.5, 200)
    text = results.accuracy_table([[ours, replace(ours, contender="Keras", value=0.9)]])

    assert "| w | Headstart | 4 | 0.500 | 0.431 to 0.569 of 200 | – |" in text
    assert text.rstrip().endswith("| **no** |")


def test_the_page_comes_from_what_lies_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "HERE", tmp_path)
    results.write(measured("frozen", [frozen_repeat(2, 100)] * 3), tmp_path / "rows")

    status = command.report(tmp_path / "rows")

    page = (tmp_path / "RESULTS.md").read_text()
    assert status == 1  # PyTorch failed, and the other groups are not there
    assert "| 110× (110× to 110×) | 2 s | 220 s | reached |" in page
    assert "Keras 10.00 s (10.00 to 10.00)" in page
    assert "keras 3, torch 2" in page
    assert "missed: sweep: not measured" in capsys.readouterr().err


def test_groups_have_names_of_their_own() -> None:
    names = [group.name for group in GROUPS]

    assert len(set(names)) == len(names)
    assert sum(group.minutes for group in GROUPS) <= 60


def test_only_the_same_code_in_the_same_way_need_not_measure_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(results, "commit", lambda: "abc")
    setting = Setting(Path(), None, None, 3, 2, full=False, photos=1000, tell=print)
    before = replace(measured("sweep", []), setting=results.described(setting))

    assert results.current(before, setting)
    assert not results.current(before, replace(setting, full=True))
    assert not results.current(replace(before, commit="abd"), setting)
    assert not results.current(None, setting)


def test_a_damaged_file_is_measured_again(tmp_path: Path) -> None:
    (tmp_path / "frozen.json").write_text("{")

    assert results.read(tmp_path, "frozen") is None
    assert results.read(tmp_path, "sweep") is None


def test_speeds_and_memory_are_compared_within_each_repeat() -> None:
    speeds = {
        f"{side}, {network}": {"images_per_second": rate, "engine": "openvino", "best": "8"}
        for network in engines.FORWARD
        for side, rate in ((engines.OURS, 300.0), (engines.TORCH, 60.0))
    }
    sizes = {
        memory.FEW: {"peak_bytes": 800 * 2**20, "before_bytes": 600 * 2**20},
        memory.MANY: {"peak_bytes": 840 * 2**20, "before_bytes": 600 * 2**20},
    }

    forward = engines.forward_findings([speeds], {}).rows
    (peak,) = memory.findings([sizes], {}).rows

    assert [row.values for row in forward] == [(5.0,), (5.0,)]
    assert forward[0].ours == "300 images/s"
    assert peak.values == (1.05,)
    assert not peak.missed
    assert memory.findings([{memory.FEW: FAILED, memory.MANY: FAILED}], {}).rows[0].missed


def test_a_share_names_its_floor() -> None:
    answer = {
        "share": 0.7,
        "engine": "openvino",
        "forward_images_per_second": 250.0,
        "whole_images_per_second": 175.0,
        "decode_core_seconds": 0.002,
        "forward_core_seconds": 0.008,
    }

    judged, shown = engines.whole_findings([{"ResNet-50": answer, "MobileNetV2": answer}], {}).rows

    assert judged.missed
    assert judged.floor.endswith("8.0 / (8.0 + 2.0) = 80%")
    assert shown.verdict == "reported"
