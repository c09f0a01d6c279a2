"""`headstart export`: what is printed, and what is refused before any work."""

from pathlib import Path

import numpy as np
import pytest
from tiny_bundles import picture, trained, write_tiny
from typer.testing import CliRunner

from headstart.cli.main import app
from headstart.errors import ConfigError
from headstart.predict import load_bundle
from headstart.runs.export_samples import LabelledSamples, cost_of

pytestmark = pytest.mark.usefixtures("one_thread")

PICTURES = [picture(seed) for seed in range(4)]


def test_an_export_is_named_after_its_bundle(tmp_path: Path) -> None:
    write_tiny(tmp_path / "tiny.headstart", PICTURES, trained())
    done = CliRunner().invoke(app, ["export", str(tmp_path / "tiny.headstart"), "--format", "onnx"])
    assert done.exit_code == 0, done.output
    assert "checked: 4 stored samples, largest difference" in done.stdout
    assert (tmp_path / "tiny-onnx.headstart").is_file()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--format", "timm", "--int8"], "--int8 is of --format onnx and openvino"),
        (["--format", "transformers", "--preprocessing"], "--preprocessing is of --format onnx"),
        (["--format", "onnx", "--int8"], "--run"),
        (["--format", "onnx", "--calibration", "0"], "at least 1"),
    ],
)
def test_options_that_do_not_go_together(tmp_path: Path, options: list[str], words: str) -> None:
    done = CliRunner().invoke(app, ["export", str(tmp_path), *options])
    assert isinstance(done.exception, ConfigError)
    assert words in str(done.exception)


def test_the_cost_of_a_change_is_measured_on_the_same_samples(tmp_path: Path) -> None:
    write_tiny(tmp_path / "one", PICTURES, trained(seed=0))
    write_tiny(tmp_path / "two", PICTURES, trained(seed=1))
    data = tuple(picture(seed) for seed in range(30))
    with load_bundle(tmp_path / "one") as one, load_bundle(tmp_path / "two") as two:
        labels = one.predict(data).argmax(axis=1).astype(np.int64)
        samples = LabelledSamples((), tuple(map(str, range(30))), data, labels)
        cost = cost_of(one, two, samples)
        same = cost_of(one, one, samples)
        right = float((two.predict(data).argmax(axis=1) == labels).mean())
    assert cost.before.value == 1
    assert cost.after.value == right
    assert cost.difference.value == pytest.approx(right - 1)
    assert cost.difference.low <= right - 1 <= cost.difference.high
    assert same.difference.value == 0
    assert min(cost.ms_before, cost.ms_after) > 0
