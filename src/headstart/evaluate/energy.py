"""Energy that the processor counts itself (RAPL): measured where it can be read, or not given."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
"""Where Linux shows the counters of Intel's and AMD's processors."""

_LEAST_CALLS = 3


@dataclass(frozen=True, slots=True)
class Zone:
    """One processor's counter.

    Attributes:
        name: As the system calls it: ``package-0``.
        counter: The file that holds microjoules.
        range_microjoules: Where the counter begins again at 0.
    """

    name: str
    counter: Path
    range_microjoules: int


@dataclass(frozen=True, slots=True)
class Energy:
    """What calls have used, with all else that the processors did meanwhile.

    Attributes:
        joules: Of all processors, memory and other chips left out.
        seconds: How long it took.
        calls: How many calls there were.
    """

    joules: float
    seconds: float
    calls: int


@dataclass(frozen=True, slots=True)
class Rapl:
    """The counters of all processors of this machine.

    Attributes:
        zones: One for each processor, at least one.
    """

    zones: tuple[Zone, ...]

    def read(self) -> tuple[int, ...]:
        """Return each processor's counter, in microjoules."""
        return tuple(int(zone.counter.read_text(encoding="ascii")) for zone in self.zones)

    def joules_between(self, before: tuple[int, ...], after: tuple[int, ...]) -> float:
        """Return the energy between two readings that lie less than one turn of a counter apart.

        A counter of 262 kJ turns in three quarters of an hour at 100 W; nothing shows a second
        turn.

        Args:
            before: The earlier reading.
            after: The later one.

        Returns:
            Joules, of all processors together.
        """
        used = [
            late - early if late >= early else late + zone.range_microjoules - early
            for zone, early, late in zip(self.zones, before, after, strict=True)
        ]
        return sum(used) * 1e-6

    def measure(
        self,
        call: Callable[[], object],
        *,
        seconds: float = 2.0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> Energy:
        """Repeat a call for a while, and count the energy.

        Args:
            call: What is repeated, at least three times.
            seconds: For how long. The counters move about a thousand times a second, so a short
                while would be mostly rounding.
            clock: Returns seconds.

        Returns:
            The energy of all calls.
        """
        calls = 0
        before, start = self.read(), clock()
        while calls < _LEAST_CALLS or clock() - start < seconds:
            call()
            calls += 1
        return Energy(self.joules_between(before, self.read()), clock() - start, calls)


def open_rapl(root: Path = POWERCAP) -> Rapl | None:
    """Find the counters of the processors.

    Args:
        root: The folder of Linux's powercap framework.

    Returns:
        The counters; None where there are none, or where this user may not read one of them (since
        2020 Linux lets only root: CVE-2020-8694).

    Source: Linux documentation, Documentation/power/powercap/powercap.rst.
    """
    zones = []
    try:
        # intel-rapl:0 is a processor (AMD's too). Its parts (intel-rapl:0:0, called core, say)
        # would be counted twice, and so would the whole board, which is called psys.
        for folder in sorted(root.glob("intel-rapl:*")):
            name = (folder / "name").read_text(encoding="ascii").strip()
            if not name.startswith("package"):
                continue
            turns_at = int((folder / "max_energy_range_uj").read_text(encoding="ascii"))
            zones.append(Zone(name, folder / "energy_uj", turns_at))
        rapl = Rapl(tuple(zones))
        rapl.read()
    except (OSError, ValueError):
        return None
    return rapl if zones else None
