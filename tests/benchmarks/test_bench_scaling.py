"""The page about large data sets has the tables that its inputs give."""

from pathlib import Path

import pytest

from benchmarks import scaling

PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"


@pytest.mark.parametrize("table", ["bytes_table", "time_table", "cost_table"])
def test_the_page_has_the_tables(table: str) -> None:
    assert getattr(scaling, table)() in PAGE.read_text(encoding="utf-8")


def test_units_are_those_that_people_say() -> None:
    assert [scaling.size(n) for n in (999, 1000, 110e9, 1.1e15)] == [
        "999 B",
        "1 kB",
        "110 GB",
        "1.1 PB",
    ]
    assert [scaling.duration(n) for n in (90, 7200, 200_000)] == ["90 s", "2 h", "2.31 days"]
    assert scaling.count(10**6) == "10\u2076"
