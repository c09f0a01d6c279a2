"""Run folders for the tests of the report, each made once."""

from collections.abc import Callable
from pathlib import Path

import pytest
import report_evidence
import report_runs
import report_studies

Make = Callable[[str], Path]


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Return a function that gives the run folder of a name in `report_studies.STUDIES`."""
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            folder = report_studies.STUDIES[name]()
            path = tmp_path_factory.mktemp("runs") / name
            made[name] = report_runs.finish(folder, path, recommend=name != "bare")
        return made[name]

    return make


@pytest.fixture(scope="session")
def evidence_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that says how far its figures can be believed, with its small pictures."""
    return report_evidence.finished(tmp_path_factory.mktemp("evidence") / "run")
