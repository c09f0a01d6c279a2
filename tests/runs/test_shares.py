"""The shares that an extraction is parted into."""

from itertools import chain, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.runs.apart import shares_of

LEAST, MOST = 32, 1024


@given(st.integers(0, 50_000), st.integers(1, 100))
def test_every_sample_is_in_one_share_and_later_shares_are_not_larger(
    count: int, processes: int
) -> None:
    positions = list(range(5, 5 + count))
    shares = shares_of(positions, processes)
    assert list(chain.from_iterable(shares)) == positions
    sizes = [len(share) for share in shares]
    assert all(later <= earlier for earlier, later in pairwise(sizes))
    assert all(LEAST <= size <= MOST for size in sizes[:-1])


@pytest.mark.parametrize("processes", [1, 2, 8])
def test_nobody_waits_long_at_the_end(processes: int) -> None:
    # Equally fast processes, each of which takes the next share when it is done.
    ends = [0] * processes
    shares = shares_of(range(5_000), processes)
    for share in shares:
        soonest = ends.index(min(ends))
        ends[soonest] += len(share)
    assert max(ends) - min(ends) <= LEAST
    assert len(shares) >= 4 * processes  # a lost one costs a quarter of a process's work at most
