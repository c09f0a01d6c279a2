"""Energy is read from the processor's counters, or it is not given."""

from pathlib import Path

import pytest

from headstart.evaluate.energy import open_rapl


def zone(root: Path, folder: str, name: str, microjoules: int, turns_at: int = 1000) -> Path:
    path = root / folder
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "energy_uj").write_text(f"{microjoules}\n")
    (path / "max_energy_range_uj").write_text(f"{turns_at}\n")
    return path / "energy_uj"


def test_processors_are_counted_once_and_nothing_else(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 10)
    zone(tmp_path, "intel-rapl:0:0", "core", 5)
    zone(tmp_path, "intel-rapl:1", "package-1", 20)
    zone(tmp_path, "intel-rapl:2", "psys", 99)
    zone(tmp_path, "intel-rapl-mmio:0", "package-0", 10)
    (tmp_path / "intel-rapl").mkdir()
    rapl = open_rapl(tmp_path)
    assert rapl is not None
    assert [one.name for one in rapl.zones] == ["package-0", "package-1"]
    assert rapl.read() == (10, 20)


def test_a_counter_that_began_again_is_unwrapped(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 0, turns_at=262_143_328_850)
    zone(tmp_path, "intel-rapl:1", "package-1", 0, turns_at=262_143_328_850)
    rapl = open_rapl(tmp_path)
    assert rapl is not None
    before = (262_143_000_000, 1_000_000)
    after = (671_150, 3_000_000)  # the first turned: 328,850 + 671,150 = 1 J; the second used 2 J
    assert rapl.joules_between(before, after) == pytest.approx(3.0)


def test_energy_of_repeated_calls(tmp_path: Path) -> None:
    counter = zone(tmp_path, "intel-rapl:0", "package-0", 999_000_000, turns_at=1_000_000_000)
    rapl = open_rapl(tmp_path)
    assert rapl is not None
    now = [0.0]

    def call() -> None:  # half a second at 10 W
        now[0] += 0.5
        counter.write_text(str((int(counter.read_text()) + 5_000_000) % 1_000_000_000))

    found = rapl.measure(call, seconds=2.0, clock=lambda: now[0])
    assert (found.calls, found.seconds) == (4, 2.0)
    assert found.joules == pytest.approx(20.0)


def test_no_counter_no_figure(tmp_path: Path) -> None:
    assert open_rapl(tmp_path / "missing") is None
    assert open_rapl(tmp_path) is None
    zone(tmp_path, "intel-rapl:0:0", "core", 5)
    assert open_rapl(tmp_path) is None


def test_an_unreadable_counter_is_no_counter(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 10)
    hidden = zone(tmp_path, "intel-rapl:1", "package-1", 10)
    hidden.write_text("not a number")
    assert open_rapl(tmp_path) is None  # half of the energy would be no energy
    hidden.write_text("10")
    hidden.unlink()
    hidden.mkdir()  # whoever reads it gets an OSError, the superuser too
    assert open_rapl(tmp_path) is None
