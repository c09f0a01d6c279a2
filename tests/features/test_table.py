"""A table of features behaves as the array it stands for."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_backbone import SPEC

from headstart.features import table as table_module
from headstart.features.key import FeatureKey
from headstart.features.store import FeatureStore
from headstart.features.table import Features


def make(shape: tuple[int, ...], sizes: list[int], order: list[int], half: bool) -> tuple:
    """Write shards of these sizes, and make a table of rows in this order."""
    key = FeatureKey("ab" * 32, "cut", SPEC, "float16" if half else "float32")
    rows = np.random.default_rng(0).normal(size=(sum(sizes), *shape)).astype(np.float32)
    digests = [f"{number:064x}" for number in range(len(rows))]
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore(Path(folder))
        start = 0
        for size in sizes:
            stop = start + size
            with store.writer(key, engine="torch", about={}) as writer:
                writer.write(digests[start:stop], rows[start:stop])
            start = stop
        table = Features(store.index(key), [digests[i] for i in order], shape, key.dtype)
        whole = table.load()  # opens every shard before the folder goes
    expected = rows[order].astype(np.float16).astype(np.float32) if half else rows[order]
    return table, whole, expected


@st.composite
def cases(draw: st.DrawFn) -> tuple:
    shape = tuple(draw(st.lists(st.integers(1, 3), min_size=1, max_size=3)))
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    order = draw(st.lists(st.integers(0, sum(sizes) - 1), min_size=1, max_size=12))
    positions = draw(st.lists(st.integers(0, len(order) - 1), max_size=15))
    return shape, sizes, order, positions, draw(st.booleans())


@settings(max_examples=60, deadline=None)
@given(cases())
def test_gather_is_indexing(case: tuple) -> None:
    shape, sizes, order, positions, half = case
    table, whole, expected = make(shape, sizes, order, half)
    np.testing.assert_array_equal(whole, expected)
    got = table.gather(np.array(positions, dtype=np.int64))
    np.testing.assert_array_equal(got, expected[np.array(positions, dtype=int)])
    assert got.dtype == np.float32
    assert got.flags.c_contiguous
    assert (len(table), table.shape) == (len(order), shape)
    assert table.dtype == (np.float16 if half else np.float32)


def test_what_gather_returns_is_the_callers_own() -> None:
    table, whole, expected = make((3,), [4], [0, 1, 2, 3], half=False)
    whole[:] = 0
    np.testing.assert_array_equal(table.load(), expected)


@pytest.mark.parametrize("position", [-1, 3])
def test_positions_outside_are_an_error(position: int) -> None:
    table, _, _ = make((3,), [4], [0, 1, 2], half=False)
    with pytest.raises(IndexError, match=rf"expected positions from 0 to 2, .* {position}"):
        table.gather([0, position])


def test_many_shards_do_not_use_up_the_file_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "_MAX_OPEN_SHARDS", 2)
    key = FeatureKey("ab" * 32, "cut", SPEC, "float32")
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore(Path(folder))
        for number in range(5):
            with store.writer(key, engine="torch", about={}) as writer:
                writer.write([f"{number:064x}"], np.full((1, 2), number, dtype=np.float32))
        digests = [f"{number:064x}" for number in range(5)]
        table = Features(store.index(key), digests, (2,), "float32")
        for _ in range(2):
            np.testing.assert_array_equal(table.load()[:, 0], np.arange(5))
            assert len(table._open) == 2


def test_a_table_of_nothing_has_the_right_shape(tmp_path: Path) -> None:
    key = FeatureKey("ab" * 32, "cut", SPEC, "float32")
    table = Features(FeatureStore(tmp_path).index(key), [], (2, 3), "float32")
    assert table.load().shape == (0, 2, 3)
    assert table.engines == ()
