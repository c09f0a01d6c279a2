import pytest

from benchmarks.contest import Answer, Contender, contest, run_fresh, seconds_of, whole_process

NAMES = ("a", "b", "c")
CONTENDERS = [Contender(name, "benchmarks.nobody", {}) for name in NAMES]


def test_who_begins_changes_from_repeat_to_repeat() -> None:
    order: list[str] = []

    def run(contender: Contender, number: int) -> Answer:
        order.append(f"{number}{contender.name}")
        return {"seconds": 1.0, "process_seconds": 2.0}

    contest(CONTENDERS, 4, lambda _: None, run)

    assert " ".join(order) == "0a 0b 0c 1b 1c 1a 2c 2a 2b 3a 3b 3c"


def test_a_contender_that_fails_leaves_the_others_theirs_and_does_not_run_again() -> None:
    runs: list[str] = []

    def run(contender: Contender, number: int) -> Answer:
        runs.append(contender.name)
        if contender.name == "b":
            return {"error": "out of memory"}
        return {"seconds": float(number), "process_seconds": 2.0}

    found = contest(CONTENDERS, 2, lambda _: None, run)

    assert runs.count("b") == 1
    assert [repeat["b"] for repeat in found] == [{"error": "out of memory"}] * 2
    assert [repeat["c"]["seconds"] for repeat in found] == [0.0, 1.0]


def test_a_process_that_ends_badly_is_an_answer_too() -> None:
    answer = run_fresh(Contender("nobody", "benchmarks.nobody", {"threads": 1}), 0)

    assert "No module named benchmarks.nobody" in answer["error"]


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        (3, 1 + 10 + 9 + 2),  # as measured
        (4, 1 + 10 + 9 + 2 + 4),
        (20, 1 + 10 + 9 + 2 + 4 + 16 * 3),  # 3: the median of the steady ones
    ],
)
def test_epochs_that_were_not_run_cost_the_median_steady_one(epochs: int, expected: float) -> None:
    answer = {"seconds": 26.0, "epoch_seconds": [10.0, 9.0, 2.0, 4.0]}

    assert seconds_of(answer, epochs, unsteady=2) == expected


def test_a_whole_process_is_its_start_and_the_work_that_counts() -> None:
    answer = {"seconds": 4.0, "work_seconds": 7.0, "process_seconds": 12.0}

    assert whole_process(answer, 4.0) == 9.0
    assert whole_process(answer, 40.0) == 45.0  # lengthened
