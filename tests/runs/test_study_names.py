"""Runs are named after their data."""

import pytest

from headstart.runs.names import study_name


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("photos/flowers.tar.gz", "flowers"),
        ("Meine Blumen (2).zip", "Meine-Blumen-2"),
        ("flowers/", "flowers"),
        ("…", "data"),
        ("x" * 80, "x" * 60),
    ],
)
def test_the_last_part_of_the_path_without_endings_and_odd_letters(place: str, name: str) -> None:
    assert study_name(place) == name
