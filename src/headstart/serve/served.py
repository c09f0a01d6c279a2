"""What a server needs of a bundle; `headstart.predict.Bundle` is one."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Protocol

from headstart.predict.bundle_info import TaskName
from headstart.predict.inside import Inside
from headstart.types import FloatArray, Goal, JsonDict, Spec


class Info(Protocol):
    """What a bundle says of itself."""

    @property
    def name(self) -> str:
        """A short name."""
        ...

    @property
    def title(self) -> str:
        """A name for people."""
        ...

    @property
    def goal(self) -> Goal:
        """What it tells."""
        ...

    @property
    def task(self) -> TaskName:
        """What it reads."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes in the order of the columns."""
        ...

    @property
    def spec(self) -> Spec:
        """How samples are prepared."""
        ...

    @property
    def raw(self) -> JsonDict:
        """The whole manifest."""
        ...


class Served(Protocol):
    """A bundle that can be asked by a server; `prepare` is called in several threads."""

    @property
    def info(self) -> Info:
        """What it is."""
        ...

    @property
    def batch_size(self) -> int:
        """Samples that it computes best at a time."""
        ...

    def prepare(self, data: bytes) -> FloatArray:
        """Make of a sample's bytes what the network takes."""
        ...

    def predict_prepared(self, rows: Sequence[FloatArray]) -> FloatArray:
        """Return probabilities [n, classes], or values [n]."""
        ...

    def explainer(self) -> Inside | None:
        """Return the torch network with its cuts, or None where there is none."""
        ...


class Explainable:
    """A bundle whose torch network for explanations is loaded once, when it is first needed."""

    def __init__(self, bundle: Served) -> None:
        """Surround a bundle; used by one thread at a time.

        Args:
            bundle: The bundle.
        """
        self.info = bundle.info
        self.batch_size = bundle.batch_size
        self.prepare = bundle.prepare
        self.predict_prepared = bundle.predict_prepared
        self.explainer = cache(bundle.explainer)


Bundles = Mapping[str, Served]
"""Bundles by the names by which clients ask for them; the first is asked where none is named."""
