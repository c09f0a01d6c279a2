"""Verbs that take data take the same options for them, and read these alike."""

import inspect

import pytest

from headstart.cli.fit import fit
from headstart.cli.options import data_options
from headstart.cli.rank import rank

SHARED = [
    "data",
    "kind",
    "text_column",
    "pair_column",
    "label_column",
    "split_column",
    "out",
    "allow_network",
    "workers",
]


@pytest.mark.parametrize("name", SHARED)
def test_fit_and_rank_take_the_same(name: str) -> None:
    one, other = (inspect.signature(verb).parameters[name] for verb in (fit, rank))
    assert one.annotation is other.annotation
    assert one.default == other.default


@pytest.mark.parametrize(
    ("kind", "source"), [("auto", None), ("pictures", "auto"), ("text", "text")]
)
def test_only_columns_that_were_named_are_passed_on(kind: str, source: str | None) -> None:
    found = data_options(kind, text="body", pair=None, label=None, split="part")  # type: ignore[arg-type]
    assert found == (source, {"text": "body", "split": "part"})
