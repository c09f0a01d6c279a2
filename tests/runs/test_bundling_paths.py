"""What a bundle tells of a run names no folder of the machine that it was made on."""

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.runs.bundling import _command, _without_paths


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("(/home/anna/flowers)", "(flowers)"),
        ("--data=/home/anna/flowers", "--data=flowers"),
        ("'/home/a b/flowers'", "'flowers'"),
        ("/home/a b/flowers/", "flowers"),
        ("model awd of /data/ann/wikitext-2 (sha256 c24)", "model awd of wikitext-2 (sha256 c24)"),
        ("run:/data/ann/foo/lstm", "run:lstm"),
        ("file:///home/anna/flowers", "file:flowers"),
        ("~/flowers", "flowers"),
        ("~anna/data/flowers", "flowers"),
        ("../../home/anna/flowers", "flowers"),
        (r"C:\Users\anna\flowers", "flowers"),
        (r"of \\server\anna\flowers.", "of flowers."),
        # What is no path of the machine stays.
        ("https://example.org/a/b.pth", "https://example.org/a/b.pth"),
        ("of /home/anna/x (https://example.org/a/b)", "of x (https://example.org/a/b)"),
        ("timm/resnet50", "timm/resnet50"),
        ("PyPI package p 0.1 (model.safetensors of huggingface.co/a/b)",) * 2,
        ("a / b and/or 1/2", "a / b and/or 1/2"),
    ],
)  # fmt: skip
def test_the_last_part_of_a_path_is_kept(text: str, left: str) -> None:
    assert _without_paths(text) == left


def test_a_command_is_one_still() -> None:
    line = shlex.join(
        ["headstart", "run", "/home/a b/study.yaml", "--data=/home/a b/c d", "-s", "a.b=/x/y"]
    )
    assert _command(line) == "headstart run study.yaml '--data=c d' -s a.b=y"
    assert "anna" not in _command("headstart run '/home/anna/x")


# Folders of any characters but separators and line ends; MARK says that it came from one of them.
_CHARACTERS = st.characters(exclude_categories=("C", "Z"), exclude_characters="/\\")
_FOLDERS = st.lists(
    st.tuples(st.text(_CHARACTERS | st.just(" "), max_size=5), st.text(_CHARACTERS, max_size=3)),
    min_size=1,
    max_size=4,
).map(lambda names: "/".join(f"MARK{before}MARK{after}" for before, after in names))
_FRAMES = st.sampled_from(
    [
        "{}", "({})", "'{}'", '"{}"', "[{}]", "--data={}", "run:{}", "file://{}",
        "of {} (sha256 1)", "a, {}; b", "x,{}", "{} and {}", "`{}`", "<{}>",
    ]
)  # fmt: skip


@given(folders=_FOLDERS, frame=_FRAMES, start=st.sampled_from(["/", "~/", "~u/", "../", "C:/"]))
def test_nothing_of_the_folders_stays(folders: str, frame: str, start: str) -> None:
    path = f"{start}{folders}/kept"
    for found in (
        _without_paths(frame.format(path, path)),
        _command(shlex.join(["headstart", "run", frame.format(path, path), path])),
    ):
        assert "MARK" not in found
        assert "kept" in found
