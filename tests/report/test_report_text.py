"""Figures are written with sensible digits, and never say more than is so."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.report import text
from headstart.report.text import Measured


@given(st.floats(0, 1))
def test_a_share_reads_as_all_or_nothing_only_where_it_is(share: float) -> None:
    shown = float(text.percent(share).removesuffix("%"))
    if 1e-6 < share < 1 - 1e-6:
        assert 0 < shown < 100
    assert shown == pytest.approx(100 * share, abs=0.0501)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (text.percent(0.8912), "89.1%"),
        (text.percent(0.9996), "99.96%"),
        (text.percent(None), "–"),
        (text.percent_score(Measured(0.5, 0.4, 0.6, 10)), "50.0% (40.0–60.0%)"),
        (text.percent_score(Measured(0.5)), "50.0%"),
        (text.points(-0.0123), "−1.2"),
        (text.points(0.00001), "0.0"),
        (text.count(1234567), "1,234,567"),
        (text.duration(0.312), "0.31\u00a0s"),
        (text.duration(3.21), "3.2\u00a0s"),
        (text.duration(58.2), "58\u00a0s"),
        (text.duration(312), "5.2\u00a0min"),
        (text.duration(8640), "2.4\u00a0h"),
        (text.quantity(34.17), "34.2"),
        (text.quantity(1240.0), "1,240"),
        (text.quantity(0), "0"),
        (text.quantity(3.2e-6, 2), "3.2\u00a0×\u00a010⁻⁶"),
        (text.setting(0.01), "0.01"),
        (text.setting(1e-5), "0.00001"),
        (text.setting(0.1 + 0.2), "0.3"),
        (text.setting(10.0), "10"),
        (text.setting(False), "no"),
        (text.setting(None), "none"),
        (text.setting([1, 0.5]), "1, 0.5"),
        (text.size(13_610_240), "13.6\u00a0MB"),
        (text.listing(["a", "b", "c"]), "a, b and c"),
        (text.plural(1, "file"), "1 file"),
        (text.plural(1200, "file"), "1,200 files"),
    ],
)
def test_figures_are_written_as_a_careful_person_would(made: str, expected: str) -> None:
    assert made == expected


def test_times_in_a_column_share_one_unit() -> None:
    assert text.durations([104.2, 3.21, None]) == ("s", ("104.2", "3.2", "–"))
    assert text.durations([7200.0, 60.0]) == ("min", ("120.0", "1.0"))


@given(st.lists(st.decimals(0, 1000, places=3), min_size=1, max_size=8))
def test_aligned_numbers_end_at_the_same_distance_from_the_point(numbers: list[object]) -> None:
    aligned = text.align([text.setting(float(str(n))) for n in numbers])
    tails = set()
    for cell in aligned:
        whole = cell.rstrip("\u2007\u2008").partition(".")[0]
        tails.add(len(cell) - len(whole))
    assert len(tails) == 1


def test_words_are_not_aligned() -> None:
    assert text.align(["none", "0.5", "1"]) == ("none", "0.5", "1\u2008\u2007")


@given(st.text(alphabet=st.characters(), max_size=30))
def test_cleaned_text_can_be_held_by_xml_and_utf8(raw: str) -> None:
    cleaned = text.clean(raw)
    cleaned.encode("utf-8")
    assert len(cleaned) == len(raw)
    assert not any(ord(c) < 32 and c not in "\n\t" for c in cleaned)
    printable = "".join(c for c in raw if c.isprintable())
    assert (
        printable in (raw, cleaned.replace("\ufffd", "")) or "\ufffd" in cleaned or raw != printable
    )


def test_clean_keeps_every_script() -> None:
    for kept in ("花 الورد ünïcödé 🌷", "a\u200db", "no\u00a0break"):
        assert text.clean(kept) == kept
