"""Small pieces of work are done in one thread, and nobody else notices."""

from collections.abc import Iterator

import pytest
import torch

from headstart._util.devices import threads_for

SMALL, LARGE = 1e6, 1e10


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("operations", "threads"), [(SMALL, 1), (LARGE, 2)])
def test_only_large_work_is_divided(operations: float, threads: int) -> None:
    with threads_for(operations):
        assert torch.get_num_threads() == threads
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("operations", [SMALL, LARGE])
def test_threads_come_back_after_an_error(operations: float) -> None:
    with pytest.raises(KeyError), threads_for(operations):
        raise KeyError("lost")
    assert torch.get_num_threads() == 2


def test_large_work_inside_small_work_stays_in_one_thread() -> None:
    with threads_for(SMALL):
        with threads_for(LARGE):
            assert torch.get_num_threads() == 1
        with threads_for(SMALL):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
