"""A checkpoint's files: whole at every moment, and damage is told."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from headstart._util import files
from headstart.errors import HeadstartError, RunError
from headstart.train import CheckpointFolder, checkpoint
from headstart.train.checkpoint import Saved

RECORD = {"done": False, "epoch": 3, "seconds": 0.25, "elapsed": 12.5, "words": {"a": "ä"}}


def folder(path: Path, **options) -> CheckpointFolder:
    settings = {"every_seconds": None, "every_steps": None, "stop": lambda: False, **options}
    return CheckpointFolder(path / "one" / "training", **settings)


def tensors(number: float = 0.0) -> dict[str, Tensor]:
    maps = torch.arange(120.0).view(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    shared = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    return {
        "model.maps": maps + number,
        "model.shared": shared,
        "best.shared": shared,  # the same memory
        "model.slice": shared[1:3, ::2],
        "best..epochs": torch.tensor([1, 2]),
        "average..steps": torch.tensor(7),
        "random.torch": torch.get_rng_state(),
        "records.table": torch.empty(0, 8, dtype=torch.float64),
        "model.learned": torch.nn.Parameter(torch.ones(2)),
        "sums.loss": torch.tensor([float("nan"), float("inf")], dtype=torch.float64),
    }


def names(path: Path) -> list[str]:
    return sorted(p.name for p in (path / "one" / "training").iterdir())


def assert_holds(saved: Saved | None, expected: dict[str, Tensor], record=RECORD) -> None:
    assert saved is not None
    assert saved.record == record
    assert saved.tensors.keys() == expected.keys()
    for name, value in expected.items():
        got = saved.tensors[name]
        assert got.dtype == value.dtype
        assert torch.equal(torch.nan_to_num(got), torch.nan_to_num(value.detach())), name


def test_what_is_saved_is_loaded_bit_for_bit(tmp_path: Path) -> None:
    assert folder(tmp_path).load() is None
    assert folder(tmp_path).elapsed() == 0
    expected = tensors()
    folder(tmp_path).save(expected, RECORD)
    again = folder(tmp_path)
    assert_holds(again.load(), expected)
    assert again.elapsed() == 12.5


def test_groups_of_tensors_are_found_by_their_prefix() -> None:
    one, two = torch.ones(1), torch.zeros(1)
    saved = Saved({"model.a.b": one, "model2.a": two, "best..epochs": two}, {})
    assert list(saved.under("model")) == ["a.b"]
    assert list(saved.under("model.a")) == ["b"]
    assert list(saved.under("best")) == [".epochs"]
    assert saved.under("none") == {}


def test_only_the_last_checkpoint_stays(tmp_path: Path) -> None:
    one = folder(tmp_path)
    for number in range(4):
        one.save(tensors(number), {**RECORD, "epoch": number})
        assert len(names(tmp_path)) == 2
        assert_holds(folder(tmp_path).load(), tensors(number), {**RECORD, "epoch": number})
    # Another program goes on in the same folder.
    folder(tmp_path).save(tensors(9), RECORD)
    assert len(names(tmp_path)) == 2
    assert_holds(folder(tmp_path).load(), tensors(9))


class Killed(BaseException):
    """The program ends here."""


@pytest.mark.parametrize("moment", ["before the tensors", "after the tensors", "after the JSON"])
def test_killed_at_any_moment_the_old_or_the_new_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    folder(tmp_path).save(tensors(1), RECORD)
    newer = {**RECORD, "epoch": 4}

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        if moment == "before the tensors":
            patch.setattr(files, "write_bytes", killed)
        elif moment == "after the tensors":
            patch.setattr(files, "write_json", killed)
        else:
            patch.setattr(Path, "unlink", killed)
        with pytest.raises(Killed):
            folder(tmp_path).save(tensors(2), newer)
    if moment == "after the JSON":
        assert_holds(folder(tmp_path).load(), tensors(2), newer)
    else:
        assert_holds(folder(tmp_path).load(), tensors(1))
    folder(tmp_path).save(tensors(3), newer)
    assert_holds(folder(tmp_path).load(), tensors(3), newer)
    assert len(names(tmp_path)) == 2


def test_what_a_kill_left_half_written_is_removed(tmp_path: Path) -> None:
    one = folder(tmp_path)
    one.save(tensors(), RECORD)
    place = tmp_path / "one" / "training"
    for half in (".state-000002.safetensors.ab12.tmp", ".checkpoint.json.cd34.tmp"):
        (place / half).write_bytes(b"half")
    one.save(tensors(1), RECORD)
    assert names(tmp_path) == ["checkpoint.json", "state-000002.safetensors"]


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(bytes(data))


def assert_told(path: Path) -> None:
    with pytest.raises(RunError) as error:
        folder(path).load()
    assert "checkpoint.json: " in str(error.value)
    assert f"remove {path / 'one' / 'training'} to train this model from its start" in str(
        error.value
    )
    assert "resume again" in str(error.value)


def test_any_flipped_bit_of_the_json_is_told(tmp_path: Path) -> None:
    folder(tmp_path).save({"a": torch.ones(2)}, RECORD)
    path = tmp_path / "one" / "training" / "checkpoint.json"
    whole = path.read_bytes()
    for position in range(len(whole)):
        flip(path, position)
        assert_told(tmp_path)
        path.write_bytes(whole)
    assert folder(tmp_path).load() is not None


def test_any_flipped_bit_of_the_tensors_is_told(tmp_path: Path) -> None:
    folder(tmp_path).save(tensors(), RECORD)
    (path,) = (tmp_path / "one" / "training").glob("*.safetensors")
    size = path.stat().st_size
    for position in (0, 5, 100, size // 2, size - 1):
        flip(path, position)
        assert_told(tmp_path)
        flip(path, position)
    assert folder(tmp_path).load() is not None


def test_missing_and_foreign_files_are_told(tmp_path: Path) -> None:
    folder(tmp_path).save(tensors(), RECORD)
    place = tmp_path / "one" / "training"
    (state,) = place.glob("*.safetensors")
    whole = state.read_bytes()
    state.write_bytes(whole[: len(whole) // 2])
    assert_told(tmp_path)
    state.unlink()
    assert_told(tmp_path)
    for text in ("", "[]", "{}", "null", '{"format_version": 1}', "\udcff"):
        (place / "checkpoint.json").write_bytes(text.encode("utf-8", "surrogateescape"))
        assert_told(tmp_path)
        assert folder(tmp_path).elapsed() == 0


def test_another_version_is_told_as_such(tmp_path: Path) -> None:
    path = tmp_path / "one" / "training" / "checkpoint.json"
    files.write_json(path, {"format_version": 99, "all": "different"})
    with pytest.raises(HeadstartError, match="expected version 1, got 99"):
        folder(tmp_path).load()


def test_it_is_due_after_so_many_steps(tmp_path: Path) -> None:
    one = folder(tmp_path, every_steps=3)
    assert [one.due() for _ in range(4)] == [False, False, True, True]
    one.save({}, RECORD)
    assert [one.due() for _ in range(3)] == [False, False, True]


def test_it_is_due_after_so_many_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])
    one = folder(tmp_path, every_seconds=10.0)
    seen = []
    for now[0] in (101.0, 109.9, 110.0, 115.0):
        seen.append(one.due())
    assert seen == [False, False, True, True]
    one.save({}, RECORD)
    assert not one.due()
    now[0] = 125.0
    assert one.due()


def test_it_is_due_when_somebody_asks_to_stop(tmp_path: Path) -> None:
    asked = [False]
    one = folder(tmp_path, stop=lambda: asked[0])
    assert not any(one.due() for _ in range(1000))
    assert not one.stopping
    asked[0] = True
    assert one.due()
    assert one.stopping
