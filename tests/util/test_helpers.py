"""Hashing, seeds, files and optional imports: what everything cached rests on."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from headstart._util import files, hashing
from headstart._util.devices import resolve_device
from headstart._util.imports import optional
from headstart._util.progress import LineProgress
from headstart._util.seeding import generator, seed_of
from headstart.errors import ConfigError, MissingExtraError, nearest


def test_a_digest_of_tensors_sees_name_shape_type_and_every_bit() -> None:
    base = {"a": torch.arange(6.0), "b": torch.ones(2, dtype=torch.bfloat16)}
    digest = hashing.digest_tensors(base)
    assert digest == hashing.digest_tensors(dict(reversed(base.items())))
    assert digest == hashing.digest_tensors({k: v.clone() for k, v in base.items()})
    flipped = base["a"].clone()
    flipped[3] = torch.nextafter(flipped[3], torch.tensor(9.0))
    for other in (
        {"x": base["a"], "b": base["b"]},
        {**base, "a": base["a"].reshape(2, 3)},
        {**base, "a": base["a"].double()},
        {**base, "a": flipped},
    ):
        assert hashing.digest_tensors(other) != digest


def test_digests_of_arrays_and_records() -> None:
    a = np.arange(6, dtype=np.float32)
    assert hashing.digest_array(a) == hashing.digest_array(a.copy())
    assert hashing.digest_array(a) != hashing.digest_array(a.reshape(2, 3))
    assert hashing.digest_array(a) != hashing.digest_array(a.astype(np.float64))
    assert hashing.digest_json({"a": 1, "b": [2]}) == hashing.digest_json({"b": [2], "a": 1})


def test_seeds_are_the_same_everywhere_and_tell_purposes_apart() -> None:
    # A fixed value: another one would change every split and every run that was ever made.
    assert seed_of("order", 0, 1) == 8639817837933930023
    different = {seed_of("order", 0, 1), seed_of("order", 1, 0), seed_of("order", "0", 1)}
    assert len(different) == 3
    assert generator("x", 1).integers(1 << 40) == generator("x", 1).integers(1 << 40)


def test_a_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.json"
    files.write_json(path, {"a": 1})

    def fail_half_way() -> None:
        with files.atomic_writer(path) as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert files.read_json(path) == {"a": 1}
    assert os.listdir(path.parent) == ["file.json"]
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}


def test_a_written_file_has_the_permissions_of_the_umask(tmp_path: Path) -> None:
    files.write_text(tmp_path / "ours", "x")
    (tmp_path / "plain").write_text("x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_missing_package_names_the_extra() -> None:
    with pytest.raises(MissingExtraError, match=r"pip install 'headstart\[engines\]'"):
        optional("no_such_package_anywhere", "engines", "a test")


def test_nearest_names() -> None:
    assert nearest("adm", ["adam", "sgd"]) == "did you mean 'adam'?"
    assert nearest("zzz", ["adam", "sgd"]) == "known: 'adam', 'sgd'"


def test_devices() -> None:
    assert resolve_device("cpu").type == "cpu"
    with pytest.raises(ConfigError, match="expected 'auto'"):
        resolve_device("gpu!")


def test_a_log_shows_rate_and_total(capsys: pytest.CaptureFixture[str]) -> None:
    with LineProgress(every=0).task("work", 4, "images") as task:
        task.advance(3)
        task.advance()
    lines = capsys.readouterr().out.splitlines()
    assert "work: 3/4 images" in lines[0]
    assert "s left" in lines[0]
    assert "images/s" in lines[-1]
