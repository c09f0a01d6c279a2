"""What a study reads of files that did not change."""

from pathlib import Path

import pytest

from headstart._util.progress import SilentProgress
from headstart.config import schema
from headstart.data import facts
from headstart.data.tree import DirectoryTree
from headstart.runs import inputs


@pytest.mark.parametrize(("trust", "read"), [(True, 0), (False, 24)])
def test_data_trust_mtime_says_whether_unchanged_files_are_read(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trust: bool, read: int
) -> None:
    monkeypatch.setattr(facts, "_SETTLED_NS", 0)  # as if the pictures had lain there for a while
    calls: list[str] = []
    real = DirectoryTree.read
    monkeypatch.setattr(
        DirectoryTree, "read", lambda self, path: (calls.append(path), real(self, path))[1]
    )
    for _ in range(2):
        calls.clear()
        inputs.build_dataset(
            schema.PathData(kind="auto", path=str(photos), trust_mtime=trust),
            workers=2,
            allow_network=False,
            cache=tmp_path / "cache",
            progress=SilentProgress(),
        )
    assert len(calls) == read
