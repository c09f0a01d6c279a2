"""Memory is that of the network and its work, whatever the asking process has done before."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tiny_models import saved

from headstart.errors import RunError
from headstart.runs.peak import BackboneSubject, ModelSubject, Peak, measure_peaks, peak_memory


def least_of(peaks: Sequence[object]) -> Peak:
    """Return the measurement with the least memory for one picture."""
    sound = [peak for peak in peaks if isinstance(peak, Peak)]
    assert len(sound) == len(peaks)
    return min(sound, key=lambda peak: peak.predicting_bytes[1])


def test_weights_and_work_are_counted_and_the_parent_is_not(tmp_path: Path) -> None:
    own = np.ones(400_000_000, dtype=np.uint8)  # a child's own figure must not begin with this
    whole_model = ModelSubject(saved(tmp_path / "model", "timm/resnet18", cut="input"))
    network, unheard = (
        BackboneSubject("timm/resnet18", "random"),
        BackboneSubject("timm/no-such-network", "random"),
    )
    # Each twice: a busy machine can only add to what is measured.
    *twice, unknown = measure_peaks([network, whole_model, network, whole_model, unheard], [8, 1])
    assert own.nbytes == 400_000_000
    resnet, whole = (least_of(twice[start::2]) for start in (0, 1))
    weights = 4 * 11_176_512  # bytes: those of 11,689,512 parameters less the classifier's
    assert weights < resnet.predicting_bytes[1] < 1.9 * weights
    # Seven pictures more, of which a layer reads and writes 64 maps of 112 x 112 numbers.
    more = resnet.predicting_bytes[8] - resnet.predicting_bytes[1]
    assert more > 7 * 4 * 64 * 112 * 112
    # A saved model is read from its file into memory and copied into a network: that is over when
    # it predicts.
    assert weights < whole.predicting_bytes[1] < 1.9 * weights < whole.loading_bytes
    assert isinstance(unknown, RunError)
    assert "timm/no-such-network" in str(unknown)


def test_modules_in_the_working_folder_are_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numpy.py").write_text("open('was-run', 'w').close()\nraise SystemExit('mine')\n")
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "model")
    found = peak_memory(ModelSubject(Path("model")))  # a relative path still means this folder
    assert found > 0
    assert not (tmp_path / "was-run").exists()


def test_one_that_cannot_be_measured_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"memory of .*nowhere.*expected a saved model"):
        peak_memory(ModelSubject(tmp_path / "nowhere"))
