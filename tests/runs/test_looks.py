"""Who has read a test split before: the contents count, not their names or places."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from headstart._util.progress import SilentProgress
from headstart.config import schema
from headstart.runs.looks import look, split_digest

SAMPLES = {"a.png": 0, "b.png": 1, "c.png": 0, "d.png": 1, "e.png": 0}


def dataset(test: tuple[int, ...] = (3, 4), **changes: Any) -> Any:
    fields: dict[str, Any] = {
        "splits": {"train": (0, 1), "val": (2,), "test": test},
        "names": tuple(SAMPLES),
        "digests": tuple(f"digest of {name}" for name in SAMPLES),
        "labels": tuple(SAMPLES.values()),
        "classes": ("cat", "dog"),
    }
    return SimpleNamespace(**{**fields, **changes})


class Later(schema.Experiment):
    """Of a version that has another setting."""

    harder: bool = False


def experiment(**changes: Any) -> schema.Experiment:
    raw: dict[str, Any] = {
        "name": "pets",
        "title": "Pets",
        "data": {"kind": "auto", "path": "pets"},
        "backbones": {"net": {"name": "headstart/resnet20", "weights": "random"}},
        "parts": {"probe": {"kind": "model", "epochs": 3}},
    }
    return schema.Experiment.model_validate({**raw, **changes})


Look = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def looks(tmp_path: Path) -> Look:
    """Let experiments look, a day after each other; return who did earlier."""
    days = iter(range(1, 99))

    def go(study: schema.Experiment, data: Any = None, show: Any = None) -> list[dict[str, Any]]:
        about = {"created": f"2026-01-{next(days):02}T00:00:00+00:00", "command": study.title}
        found = look(tmp_path, data or dataset(), study, about, show or SilentProgress())
        assert found is not None
        return found["earlier"]

    return go


def other(epochs: int = 4, **changes: Any) -> schema.Experiment:
    return experiment(parts={"probe": {"kind": "model", "epochs": epochs}}, **changes)


def test_the_same_contents_elsewhere_are_the_same_test_split() -> None:
    expected = split_digest(dataset())
    assert expected is not None
    # Other names, another order, other training samples.
    moved = dataset(
        test=(0, 1),
        names=("x", "y", "z"),
        digests=("digest of e.png", "digest of d.png", "new"),
        labels=(0, 1, 0),
        splits={"train": (2,), "test": (0, 1)},
    )
    assert split_digest(moved) == expected
    assert split_digest(dataset(labels=(0, 1, 0, 1, 1))) != expected
    assert split_digest(dataset(classes=("cat", "fox"))) != expected
    assert split_digest(dataset(test=(3,))) != expected
    more = {"train": (0,), "test": (3,), "test-mismatched": (4,)}
    assert split_digest(dataset(splits=more)) == expected
    assert split_digest(dataset(test=())) is None


def test_a_repeat_under_another_name_or_place_is_no_further_look(looks: Look) -> None:
    assert looks(experiment()) == []
    again = (
        experiment(name="dogs", title="Others", description="Words", notes=("More words",)),
        experiment(data={"kind": "auto", "path": "/elsewhere/pets"}),
        experiment(parts={"probe": {"kind": "model", "epochs": 3, "title": "A probe"}}),
        experiment(workers=7, report={"max_pages": 3}, timing={"measure": False}),
        experiment(data={"kind": "auto", "path": "pets", "trust_mtime": False}),
        Later.model_validate(experiment().model_dump()),
    )
    for study in again:
        assert looks(study) == []
    (before,) = looks(other())
    assert before == {
        "study": "pets",
        "profile": None,
        "when": "2026-01-01T00:00:00+00:00",
        "command": "Pets",
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"parts": {"probe": {"kind": "model", "epochs": 4}}},
        {"data": {"kind": "auto", "path": "pets", "limit_per_class": 5}},
        {"backbones": {"net": {"name": "headstart/resnet20", "weights": "random", "seed": 1}}},
    ],
)
def test_what_decides_the_figures_makes_another_experiment(
    looks: Look, changes: dict[str, Any]
) -> None:
    looks(experiment())
    assert len(looks(experiment(**changes))) == 1


def test_other_data_are_another_test_split(looks: Look) -> None:
    looks(experiment())
    assert looks(other(), dataset(test=(2, 4))) == []


def test_lines_that_were_damaged_by_hand_are_left_out(looks: Look, tmp_path: Path) -> None:
    looks(experiment())
    (path,) = (tmp_path / "test-looks").glob("*.jsonl")
    (line,) = path.read_bytes().splitlines()
    damaged = [
        b"not JSON",
        b"[1, 2]",
        b"",
        b'"a word"',
        b'{"experiment": "of which nothing else is known"}',
        line.replace(b'"Pets"', '"Übung"'.encode("latin-1")).replace(b'"experiment": "', b"x"),
    ]
    path.write_bytes(b"\n".join([*damaged, line, line[:40]]))
    assert [one["study"] for one in looks(other(5))] == ["pets"]
    assert [one["when"][:10] for one in looks(other(6))] == ["2026-01-01", "2026-01-02"]
    assert all(json.loads(one) for one in path.read_text().splitlines())


def test_a_cache_that_cannot_be_written_costs_a_line_and_no_run(
    looks: Look, tmp_path: Path
) -> None:
    class Heard(SilentProgress):
        lines: list[str] = []  # noqa: RUF012

        def say(self, message: str) -> None:
            self.lines.append(message)

    (tmp_path / "test-looks").write_text("somebody put a file here")
    assert looks(experiment(), show=Heard()) == []
    (line,) = Heard.lines
    assert "cannot be written down" in line


def test_without_a_test_split_there_is_nothing_to_look_at(tmp_path: Path) -> None:
    about = {"created": "now", "command": "run"}
    data = dataset(test=())
    assert look(tmp_path, data, experiment(), about, SilentProgress()) is None
    assert list(tmp_path.iterdir()) == []
