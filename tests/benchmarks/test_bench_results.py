import math
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from bench_answers import FAILED, SETTING, frozen_repeat, measured, process

from benchmarks import results
from benchmarks.growth import write
from benchmarks.rows import GROUPS, engines, frozen, memory, stages, sweep, texts
from benchmarks.rows.group import apart
from benchmarks.rows.trainings import Least, limit
from benchmarks.table import Accuracy, Findings, Row, Target

ABOUT = {"photos": 1000, "threads": 2}


def test_a_ratio_is_taken_within_each_repeat() -> None:
    # 6 epochs' worth were measured, 16 more are counted as the steady one.
    repeats = [frozen_repeat(2, 100), frozen_repeat(1, 100), frozen_repeat(4, 300)]

    rows = {row.key: row for row in frozen.findings(repeats, ABOUT).rows}

    assert rows["frozen-20-keras"].values == (110, 220, 165)
    assert rows["frozen-20-keras"].value == 165
    assert rows["frozen-50-keras"].values == (130, 260, 195)
    assert rows["frozen-20-pytorch"].error == "PyTorch: ended with status 1"
    assert rows["frozen-20-pytorch"].missed
    assert not rows["frozen-20-timm"].missed  # only reported


def test_a_frozen_row_says_the_least_time_and_what_whole_processes_take() -> None:
    # 1,000 × 0.6 GFLOP at 200 GFLOP/s and 1,000 × 2 core-ms on 2 cores: 3 s + 1 s.
    repeats = [frozen_repeat(2, 100)] * 2 + [frozen_repeat(2, 1000)]

    rows = {row.key: row for row in frozen.findings(repeats, ABOUT).rows}

    row = rows["frozen-20-keras"]
    assert row.floor.endswith(
        "cannot take less than 4 s: at most 55× as fast as 220 s; "
        "the target is above what is possible here"
    )
    assert "0.60 GFLOP each at 200 GFLOP/s of matmul, 2.0 core-ms" in row.floor
    # (220 + 5) / (2 + 2): the 3 s that our side does untimed are left out.
    assert row.note.endswith("whole processes with start-up and imports: 56.2×")


def test_a_floor_that_does_not_explain_a_miss_says_so() -> None:
    least = Least(2.0, "the bare loop takes")

    assert limit(least, 30.0, Target(10)).endswith(
        "at most 15× as fast as 30 s; the target is below what is possible: a miss is ours"
    )
    assert limit(least, 30.0, None) == "the bare loop takes 2 s: at most 15× as fast as 30 s"


def test_the_floor_of_a_fine_tuning_counts_products_and_updates() -> None:
    answers = [
        {
            "frozen_flops": 30e9,
            "step_flops": 2e9,
            "update_bytes": 3e9,
            "peak_flops": peak,
            "bytes_per_second": 20e9,
        }
        for peak in (100e9, 200e9)
    ]

    found = stages.least(4, photos=200, training=160)(answers)

    # 200 × 30 + 4 × 160 × 2 GFLOP at the best peak; 4 × 5 updates of 3 GB at 20 GB/s.
    assert found.seconds == pytest.approx((6000 + 1280) / 200 + 20 * 3 / 20)


def test_texts_are_bounded_by_their_tokens() -> None:
    answers = [{"flops": 4e12, "peak_flops": 100e9}, {"flops": 4e12, "peak_flops": 200e9}]

    assert texts.least(answers, texts.FEATURES, 1000).seconds == 20
    assert texts.least(answers, texts.TUNING, 1000).seconds == 60
    assert texts.COUNT == 1000


def test_fine_tuning_is_compared_after_as_many_epochs() -> None:
    head = {"seconds": 4.0, "accuracies": [0.4, 0.5, 0.6, 0.7], "samples": 40, **process(9)}
    bounds = ("frozen_flops", "step_flops", "update_bytes", "peak_flops", "bytes_per_second")
    peer = {**head, "epoch_seconds": [5.0, 4.0], "accuracies": [0.3, 0.45], "seconds": 10.0}
    ours = {**head, **dict.fromkeys(bounds, 1e9)}
    repeat = {"Headstart, 4 epochs": ours, "Headstart, 10 epochs": ours, "PyTorch": peer}

    found = stages.findings([repeat] * 3, {"photos": 200, "training": 160})

    assert [(one.after, one.value) for one in found.accuracies] == [(2, 0.5), (2, 0.45)]
    assert found.epochs[0].startswith("2 were run in each repeat, of which the first is not")


def test_a_contender_that_fails_once_is_not_measured() -> None:
    repeats = [frozen_repeat(2, 100), {**frozen_repeat(2, 100), "Keras": FAILED}]

    found = frozen.findings(repeats, ABOUT)

    row = next(row for row in found.rows if row.key == "frozen-20-keras")
    assert row.error == "Keras: ended with status 1"
    assert row.values == ()
    assert "Keras" not in [one.contender for one in found.accuracies]


def test_a_row_with_fewer_repeats_than_it_needs_is_not_measured() -> None:
    rows = (Row("a", "w", Target(1), (2.0, 2.0, 2.0)), Row("b", "w", Target(1), (2.0, 2.0)))

    whole, part = results.complete(Findings(rows), 3).rows

    assert whole.verdict == "reached"
    assert (part.verdict, part.error) == ("not measured", "2 of 3 repeats were measured")
    assert part.missed


def test_a_failing_contender_leaves_the_rows_of_the_others() -> None:
    heads = {"member_accuracies": [0.4, 0.6], "samples": 200}
    repeat = {
        "Headstart": {"seconds": 0.5, "bare_seconds": 0.25, "bare_threads": 1, **heads},
        "PyTorch": {"seconds": 15.0, "best_threads": 1, **heads},
        "PyTorch, tensors in memory": {"seconds": 5.0, "best_threads": 2, **heads},
        "scikit-learn": FAILED,
    }

    found = sweep.findings([repeat], {"photos": 1000})

    assert [row.verdict for row in found.rows] == ["reached", "reported", "not measured"]
    assert [row.values for row in found.rows] == [(30,), (10,), ()]
    assert "on 1 thread, take 0.25 s: at most 60× as fast as 15 s" in found.rows[0].floor
    assert "with a DataLoader, on 1 thread (the faster)" in found.rows[0].note
    names = ["Headstart", "PyTorch", "PyTorch, tensors in memory"]
    assert [one.contender for one in found.accuracies] == names
    assert found.accuracies[0].value == 0.5


def test_a_miss_says_why() -> None:
    row = Row("k", "the work", Target(60), (50.0,), floor="decoding alone takes 1 s")

    def said(one: Row) -> list[str]:
        return results.misses([Findings((one,))])

    assert said(row) == ["the work: 50×, ≥ 60×: decoding alone takes 1 s"]
    assert said(replace(row, floor="")) == ["the work: 50×, ≥ 60×: no floor is known"]
    assert said(replace(row, values=(70.0,))) == []


def test_what_does_not_agree_is_missed() -> None:
    ours = Accuracy("work", "Headstart", 4, 0.5, 200)
    others = (replace(ours, contender="near", value=0.52), replace(ours, contender="far", value=1))

    assert results.misses([Findings((), (ours, *others))]) == [
        "work: the accuracy of far, 1.000, does not agree with that of Headstart, 0.500"
    ]
    assert results.misses([Findings((), disagreements=("features differ",))]) == ["features differ"]


def test_features_of_two_sides_are_held_against_each_other() -> None:
    def repeat(*sample: float) -> dict[str, dict[str, object]]:
        return {"a": {"sample": list(sample)}, "b": {"sample": [1.0, -1.0, 2.0]}}

    near, far = repeat(1.001, -1.001, 2.001), repeat(1.1, -1.0, 2.0)

    assert apart([near, near], "a", "b", 1e-3) == ()
    (said,) = apart([near, far], "a", "b", 1e-3)
    assert said == "features of a and b differ by 2.5e-02 on average, 1e-03 allowed"
    assert apart([repeat(1.0)], "a", "b", 1e-3)
    assert apart([repeat(math.nan, -1.0, 2.0)], "a", "b", 1e-3)


def test_accuracy_is_held_against_the_first() -> None:
    ours = Accuracy("w", "Headstart", 4, 0.5, 200)
    text = results.accuracy_table([[ours, replace(ours, contender="Keras", value=0.9)]])

    assert "| w | Headstart | 4 | 0.500 | 0.431 to 0.569 of 200 | – |" in text
    assert text.rstrip().endswith("| **no** |")


def test_code_that_changes_while_it_is_measured_fails_the_group(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stamps = iter(["abc", "abd"])
    monkeypatch.setattr(results, "commit", lambda: next(stamps))
    group = replace(GROUPS[0], measure=lambda _: ([], {}))

    with pytest.raises(RuntimeError, match="changed while it was measured: abc before, abd after"):
        results.measured_now(group, SETTING)

    stamps = iter(["abc", "abd"])
    monkeypatch.setattr(results, "growth", lambda folder, stamp: write([], folder, stamp) or [])
    with pytest.raises(RuntimeError, match="changed while"):
        results.measure_growth(tmp_path, 2)
    assert not list(tmp_path.iterdir())


def test_the_stamp_covers_files_that_git_does_not_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*words: str) -> None:
        who = ("-c", "user.name=n", "-c", "user.email=n@n", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)

    monkeypatch.setattr(results, "ROOT", tmp_path)
    (tmp_path / ".gitignore").write_text("ignored\n")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    clean = results.commit()

    (tmp_path / "ignored").write_text("1")
    (tmp_path / "NOTES.md").write_text("prose")
    assert results.commit() == clean
    (tmp_path / "new.py").write_text("1")
    one = results.commit()
    (tmp_path / "new.py").write_text("2")
    assert len({clean, one, results.commit()}) == 3
    assert one.startswith(f"{clean}+")


def test_groups_have_names_of_their_own() -> None:
    names = [group.name for group in GROUPS]

    assert len(set(names)) == len(names)
    assert sum(group.minutes for group in GROUPS) <= 95  # fine-tuning of texts is 30 of them


def test_only_the_same_code_in_the_same_way_need_not_measure_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(results, "commit", lambda: "abc")
    setting, before = SETTING, measured("sweep", [])

    assert results.current(before, setting)
    assert not results.current(before, replace(setting, full=True))
    assert not results.current(replace(before, commit="abd"), setting)
    assert not results.current(None, setting)


def test_curves_of_older_code_are_shown_and_measured_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write([], tmp_path, {"commit": "abc", "threads": 2, "date": "today", "load": [0, 0]})
    monkeypatch.setattr(results, "commit", lambda: "abc")
    assert results.growth_current(tmp_path, 2)
    assert not results.growth_current(tmp_path, 3)

    monkeypatch.setattr(results, "commit", lambda: "abd")
    assert not results.growth_current(tmp_path, 2)
    assert results.growth_missing(tmp_path, 2) == ""
    assert results.growth_missing(tmp_path, 3) == "not measured with this setting, but by abc"


def test_a_damaged_file_is_measured_again(tmp_path: Path) -> None:
    (tmp_path / "frozen.json").write_text("{")

    assert results.read(tmp_path, "frozen") is None
    assert results.read(tmp_path, "sweep") is None


def test_speeds_and_memory_are_compared_within_each_repeat() -> None:
    speeds = {
        f"{side}, {network}": {
            "images_per_second": rate,
            "engine": "openvino",
            "best": "8",
            "flops": 0.5e9,
            "peak_flops": 200e9,
            "sample": [1.0, 2.0 if network == "MobileNetV2" or side == engines.OURS else 2.1],
        }
        for network in engines.FORWARD
        for side, rate in ((engines.OURS, 300.0), (engines.TORCH, 60.0))
    }
    sizes = {
        memory.FEW: {"peak_bytes": 800 * 2**20, "before_bytes": 600 * 2**20},
        memory.MANY: {"peak_bytes": 840 * 2**20, "before_bytes": 600 * 2**20},
    }

    found = engines.forward_findings([speeds], {})
    forward = found.rows
    (peak,) = memory.findings([sizes], {}).rows

    assert [row.values for row in forward] == [(5.0,), (5.0,)]
    assert forward[0].ours == "300 images/s"
    assert "0.50 GFLOP a picture) 400 images/s: at most 6.67×" in forward[0].floor
    assert len(found.disagreements) == 1
    assert "EfficientNet-Lite0" in found.disagreements[0]
    assert peak.values == (1.05,)
    assert not peak.missed
    assert memory.findings([{memory.FEW: FAILED, memory.MANY: FAILED}], {}).rows[0].missed


def test_a_share_names_its_floor() -> None:
    answer = {
        "share": 0.7,
        "forward_images_per_second": 250.0,
        "whole_images_per_second": 175.0,
        "decode_core_seconds": 0.002,
        "forward_core_seconds": 0.008,
    }

    judged, shown = engines.whole_findings([{"ResNet-50": answer, "MobileNetV2": answer}], {}).rows

    assert judged.missed
    assert judged.floor.endswith(
        "8.0 / (8.0 + 2.0) = 80.0%; the target is above what is possible here"
    )
    assert shown.verdict == "reported"
    assert shown.floor.endswith("= 80.0%")

    quick = {**answer, "decode_core_seconds": 0.0002}
    ours, _ = engines.whole_findings([{"ResNet-50": quick, "MobileNetV2": quick}], {}).rows
    assert ours.floor.endswith("= 97.6%; the target is below what is possible: a miss is ours")
