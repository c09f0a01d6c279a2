"""The server as an ASGI application."""

import asyncio
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from importlib import metadata
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from headstart.serve.access import Access, Key
from headstart.serve.limits import Limits
from headstart.serve.metrics import CONTENT_TYPE, Metrics
from headstart.serve.page import page_routes
from headstart.serve.refusal import Refusal, json_response
from headstart.serve.schemas import (
    MODEL_NAMES,
    ErrorReply,
    ExplainReply,
    Health,
    LabelsReply,
    ModelsReply,
    PredictReply,
    body,
    errors,
    query,
)
from headstart.serve.served import Bundles
from headstart.serve.service import Service
from headstart.types import JsonDict

_CODES = {404: "not_found", 405: "wrong_method"}


def create_app(
    bundles: Bundles,
    limits: Limits | None = None,
    *,
    api_key: str | None = None,
    names: Collection[str] | None = None,
) -> FastAPI:
    """Return an application that serves bundles.

    Its threads run from now on, and end with its lifespan; it does not close the bundles.

    Args:
        bundles: Bundles by name, at least one; the first is asked where none is named.
        limits: What a request may cost; None: the usual.
        api_key: A key that clients must know; None: none is needed, and pages of other addresses
            are refused.
        names: Of a server without a key that this machine alone reaches: host names by which it may
            be asked besides the loopback's; None: any.

    Returns:
        The application; its `Service` is `app.state.service`.

    Raises:
        ConfigError: There is no bundle.
    """
    metrics = Metrics()
    service = Service(bundles, limits if limits is not None else Limits(), metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.close)

    app = FastAPI(
        title="Headstart",
        version=_version(),
        description="Predictions of trained models; /models says of which.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # the address to go to would be the client's own word
        lifespan=lifespan,
    )
    app.state.service = service
    app.state.needs_key = api_key is not None
    app.add_middleware(
        Access,
        metrics=metrics,
        key=None if api_key is None else Key(api_key),
        names=names,
        router=app.router,
    )
    app.add_exception_handler(HTTPException, _refused)
    _add_predictions(app, service)
    _add_facts(app, service, metrics)
    app.router.routes.extend(page_routes)
    return app


def _version() -> str:
    return metadata.version("headstart")


async def _refused(request: Request, error: Exception) -> Response:
    """Say in our form what the framework refuses: unknown paths and methods."""
    assert isinstance(error, HTTPException)
    code = _CODES.get(error.status_code, "refused")
    message = f"{request.method} {request.url.path[:200]}: {error.detail}; see /docs"
    refusal = Refusal(error.status_code, code, message, headers=(error.headers or {}).items())
    return refusal.response()


def _add_predictions(app: FastAPI, service: Service) -> None:
    taken = body(service.limits.max_items)
    refused = errors(400, 401, 403, 404, 408, 413, 415, 421, 422, 500, 503, 504)

    @app.post(
        "/predict",
        summary="Predict",
        response_model=None,
        responses={200: {"model": PredictReply}, **refused},
        openapi_extra={
            "requestBody": taken,
            "parameters": [
                MODEL_NAMES,
                query(
                    "top",
                    {"type": "integer", "minimum": 1, "maximum": 1000, "default": 5},
                    "How many classes to tell, the most probable first.",
                ),
            ],
        },
    )
    async def predict(request: Request) -> Response:
        """Say what models see in pictures, texts, pairs of texts or sequences of numbers."""
        return json_response(await service.predict(request))

    @app.post(
        "/explain",
        summary="Explain one prediction",
        response_model=None,
        responses={200: {"model": ExplainReply}, **refused},
        openapi_extra={
            "requestBody": taken,
            "parameters": [
                query("model", {"type": "string"}, "Whom to ask; the first where none is named."),
                query("label", {"type": "string"}, "The class to speak of; else the likeliest."),
                query(
                    "method",
                    {
                        "type": "string",
                        "enum": ["auto", "grad-cam", "integrated-gradients", "occlusion"],
                        "default": "auto",
                    },
                    "How; /models says what each model offers.",
                ),
            ],
        },
    )
    async def explain(request: Request) -> Response:
        """Say which places of a picture or words of a text speak for a label."""
        return json_response(await service.explain(request))


def _add_facts(app: FastAPI, service: Service, metrics: Metrics) -> None:
    models = [_model(service, name) for name in service.bundles]

    @app.get(
        "/labels",
        summary="Classes",
        response_model=None,
        responses={200: {"model": LabelsReply}, **errors(401, 404, 421)},
        openapi_extra={"parameters": [MODEL_NAMES]},
    )
    async def labels(request: Request) -> Response:
        """Return the classes of the models, in the order of their columns."""
        names = service.named(request.query_params.getlist("model") or ["all"])
        classes = {name: list(service.bundles[name].info.classes) for name in names}
        found = [{"model": name, "classes": of} for name, of in classes.items()]
        return json_response({"labels": found})

    @app.get(
        "/models",
        summary="Models",
        response_model=None,
        responses={200: {"model": ModelsReply}, **errors(401, 421)},
    )
    async def list_models() -> Response:
        """Return what is served, with measured figures."""
        return json_response({"models": models})

    @app.get(
        "/health",
        summary="Health",
        response_model=None,
        responses={
            200: {"model": Health},
            503: {"model": Health, "description": "It is stopping."},
        },
    )
    async def health() -> Response:
        """Say whether requests are taken."""
        status: JsonDict = {
            "status": "stopping" if service.stopping else "ok",
            "version": _version(),
            "waiting": service.taken,
            "uptime_seconds": round(time.monotonic() - service.began, 1),
        }
        return json_response(status, 503 if service.stopping else 200)

    plain: dict[str, Any] = {"content": {"text/plain": {"schema": {"type": "string"}}}}
    refused: dict[int | str, dict[str, Any]] = {
        401: {"description": "The key is missing or wrong.", "model": ErrorReply}
    }

    @app.get(
        "/metrics",
        summary="Counters",
        response_class=Response,
        responses={200: {"description": "In the format of Prometheus.", **plain}, **refused},
    )
    async def counters() -> Response:
        """Return what was counted since the server began."""
        return Response(metrics.text(), headers={"Content-Type": CONTENT_TYPE})


def _model(service: Service, name: str) -> JsonDict:
    info = service.bundles[name].info
    network = info.raw.get("network") or {}
    return {
        "name": name,
        "title": info.title,
        "task": info.task,
        "goal": info.goal,
        "classes": list(info.classes),
        "metrics": info.raw.get("metrics") or {},
        "latency": info.raw.get("latency"),
        "input": info.raw.get("input") or {},
        "engine": network.get("engine"),
        "precision": network.get("precision"),
        "size_bytes": sum(file["bytes"] for file in (info.raw.get("files") or {}).values()),
        "backbones": info.raw.get("backbones") or [],
        "explanations": list(service.explanations[name]),
    }
