"""Bodies that are slow to come keep no place from those that are there; nor does what is not asked
for.
"""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import torch
from fastapi import FastAPI
from served_fakes import Colours, Letters, picture
from torch import nn

from headstart.predict.inside import Inside
from headstart.serve import Limits, create_app

RED = picture((250, 20, 10))
Ask = Callable[..., Awaitable[int]]


@asynccontextmanager
async def serving(limits: Limits, bundle: Colours) -> AsyncIterator[tuple[FastAPI, Ask]]:
    """Serve, and give what posts a picture, of which the last byte comes when `rest` is set."""
    app = create_app({"colours": bundle}, limits)

    async def ask(path: str, rest: asyncio.Event | None = None) -> int:
        pieces = [RED[:-1], RED[-1:]]
        statuses: list[int] = []

        async def receive() -> dict[str, Any]:
            if len(pieces) == 1 and rest is not None:
                await rest.wait()
            if not pieces:
                await asyncio.sleep(60)
            piece = pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "query_string": b"",
            "headers": [(b"content-type", b"image/png")],
        }
        await app(scope, receive, send)
        return statuses[0]

    try:
        async with asyncio.timeout(20):
            yield app, ask
    finally:
        bundle.go_on.set()
        await asyncio.to_thread(app.state.service.close)


def test_slow_bodies_do_not_fill_a_queue() -> None:
    async def run() -> None:
        async with serving(Limits(max_queue=2, max_items=2), Colours()) as (_, ask):
            rest = asyncio.Event()
            slow = [asyncio.ensure_future(ask("/predict", rest)) for _ in range(5)]
            await asyncio.sleep(0.05)
            assert await ask("/predict") == 200
            rest.set()
            assert set(await asyncio.gather(*slow)) <= {200, 503}
            assert await ask("/predict") == 200

    asyncio.run(run())


def test_a_full_queue_refuses_before_a_body_is_waited_for() -> None:
    async def run() -> None:
        bundle = Colours()
        bundle.go_on.clear()
        async with serving(Limits(max_queue=2, max_items=2), bundle) as (_, ask):
            taken = [asyncio.ensure_future(ask("/predict")) for _ in range(2)]
            await asyncio.sleep(0.05)
            assert await ask("/predict", asyncio.Event()) == 503
            bundle.go_on.set()
            assert await asyncio.gather(*taken) == [200, 200]

    asyncio.run(run())


def test_no_more_explanations_are_taken_than_may_be_however_their_bodies_come() -> None:
    async def run() -> None:
        bundle = Colours()
        bundle.go_on.clear()
        async with serving(Limits(max_explanations=3), bundle) as (app, ask):
            rest = asyncio.Event()
            asked = [asyncio.ensure_future(ask("/explain", rest)) for _ in range(10)]
            await asyncio.sleep(0.05)
            assert app.state.service.taken == 0  # a slow body keeps nobody from an explanation
            rest.set()
            await asyncio.sleep(0.2)
            assert app.state.service.taken == 3
            assert sorted(one.result() for one in asked if one.done()) == [503] * 7
            assert await ask("/explain", asyncio.Event()) == 503  # without waiting for its body
            bundle.go_on.set()
            assert sorted(await asyncio.gather(*asked)) == [200] * 3 + [503] * 7
            while app.state.service.taken:
                await asyncio.sleep(0.01)
            assert await ask("/explain") == 200

    asyncio.run(run())


class _Weighty(Letters):
    """Builds a network each time that it is asked for one."""

    def __init__(self) -> None:
        super().__init__()
        self.built: list[weakref.ref[Any]] = []

    def explainer(self) -> Inside:
        network: Any = nn.Module()
        network.input_spec, network.stages = self.info.spec, {"embeddings": None}
        self.built.append(weakref.ref(network))
        return Inside(network, nn.Identity(), "embeddings", self.info.spec, torch.device("cpu"))


def test_no_network_for_explanations_is_kept_before_one_is_asked_for() -> None:
    bundle = _Weighty()
    app = create_app({"letters": bundle})
    service = app.state.service
    try:
        gc.collect()
        assert service.explanations["letters"] == ("occlusion", "integrated-gradients")
        assert [one() for one in bundle.built if one() is not None] == []
    finally:
        service.close()
