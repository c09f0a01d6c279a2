"""A server of models that cost nothing, and a browser to look at its page with."""

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import uvicorn
from served_fakes import Colours, Letters, Sums

from headstart.data.encode import converter
from headstart.data.text import decode_text
from headstart.errors import DataError
from headstart.predict.bundle_info import TaskName
from headstart.predict.inside import Inside
from headstart.serve.app import create_app
from headstart.serve.served import Bundles
from headstart.types import FloatArray, Goal, InputSpec, JsonDict, Spec, TextSpec

MARKUP = "<img src=x onerror=alert(1)>"
WIDE = InputSpec(16, 16, 20, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
PARTS = {"wonderful": 2.0, "dull": -1.5, "tedious": -2.5}


@dataclass(frozen=True)
class Card:
    name: str
    title: str
    task: TaskName
    spec: Spec
    classes: tuple[str, ...]
    goal: Goal = "classification"
    raw: JsonDict = field(default_factory=dict)


class Many:
    """Says of a picture which of seven shades it has; one class is named like a tag."""

    batch_size = 16
    engine = "torch"

    def __init__(self) -> None:
        accuracy = {"value": 0.913, "low": 0.88, "high": 0.94, "n": 250}
        self.info = Card(
            "shades",
            "Shades of grey",
            "image",
            WIDE,
            ("black", MARKUP, "dark", "grey", "pale", "light", "white"),
            raw={"metrics": {"test": {"accuracy": accuracy}}, "input": WIDE.describe()},
        )
        self.prepare = converter(WIDE)

    def predict_prepared(self, rows: Sequence[FloatArray]) -> FloatArray:
        level = np.array([row.mean() / 2 + 0.5 for row in rows])[:, None]
        logits = -30 * (level - np.linspace(0, 1, 7)) ** 2
        odds = np.exp(logits)
        return np.asarray(odds / odds.sum(axis=1, keepdims=True), dtype=np.float32)

    def explainer(self) -> Inside | None:
        return None


class Films:
    """Says whether a review is kind, by three of its words."""

    batch_size = 16
    engine = "torch"

    def __init__(self) -> None:
        self.info = Card(
            "films", "Reviews of films", "text", TextSpec("{}", 512), ("unkind", "kind")
        )

    def prepare(self, data: bytes) -> FloatArray:
        words = decode_text(data)[0].split()
        if not words:
            raise DataError("there is no word in it")
        return np.array([[PARTS.get(w.strip(".,!"), 0.0), 1] for w in words], dtype=np.float32)

    def predict_prepared(self, rows: Sequence[FloatArray]) -> FloatArray:
        kind = [1 / (1 + np.exp(-row[:, 0].sum())) for row in rows]
        return np.array([[1 - p, p] for p in kind], dtype=np.float32)

    def explainer(self) -> Inside | None:
        return None


def bundles() -> Bundles:
    """Return two models of pictures, and one each of texts, pairs and numbers."""
    sums = Sums()
    sums.info = replace(sums.info, raw={"input": sums.info.spec.describe()})
    return {
        "shades": Many(),
        "colours": Colours(),
        "films": Films(),
        "pairs": Letters("pair", "pairs"),
        "sums": sums,
    }


@contextmanager
def serving(key: str | None = None) -> Iterator[str]:
    """Serve the models on a free port, and give the address."""
    app = create_app(bundles(), api_key=key)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on"))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join()
