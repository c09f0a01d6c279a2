"""What surrounds every request: its number, the key, the log, the counters, errors without traces.

This is plain ASGI: it costs some microseconds, and the body passes it untouched.
"""

import hashlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Collection
from typing import Any

from starlette.datastructures import Headers
from starlette.routing import Match, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headstart.serve.body import drain
from headstart.serve.logs import LOGGER
from headstart.serve.metrics import Metrics
from headstart.serve.origin import check_origin
from headstart.serve.refusal import ClientGoneError, Refusal

GUARDED = frozenset({"/predict", "/explain", "/labels", "/models", "/metrics"})
"""Paths that need the key where there is one; the page itself, its documents and /health do not."""

_LOG = logging.getLogger(LOGGER)
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_GONE = 499  # in the log alone: the client hung up before there was an answer


class Key:
    """The key that a client must know; only its digest is kept."""

    def __init__(self, secret: str) -> None:
        """Keep the digest.

        Args:
            secret: The key; not empty.
        """
        assert secret, "an empty key is no key"
        self._digest = hashlib.sha256(secret.encode()).digest()

    def opens(self, headers: Headers) -> bool:
        """Return whether a request brings the key; takes as long whatever it brings.

        Args:
            headers: ``Authorization: Bearer KEY`` or ``X-API-Key: KEY``.

        Returns:
            Whether it does.
        """
        scheme, _, token = headers.get("authorization", "").partition(" ")
        bearer = token.strip() if scheme.lower() == "bearer" else ""
        given = headers.get("x-api-key") or bearer
        # A header's bytes come as Latin-1, whatever the client meant by them.
        digest = hashlib.sha256(given.encode("latin-1", "replace")).digest()
        return hmac.compare_digest(digest, self._digest)


class Access:
    """An ASGI application around another."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        key: Key | None,
        names: Collection[str] | None,
        router: Router,
    ) -> None:
        """Surround an application.

        Args:
            app: The application.
            metrics: What is counted.
            key: What a client must know; None: nothing.
            names: Where there is no key: by which it may be asked; see `check_origin`.
            router: Knows which paths there are.
        """
        self._app = app
        self._metrics = metrics
        self._key = key
        self._names = names
        self._router = router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _ID.fullmatch(given) else secrets.token_hex(8)
        fields: dict[str, Any] = {}
        scope.setdefault("state", {})["log"] = fields
        answer = _Answer(send, request_id)
        failure: Exception | None = None
        try:
            self._check(scope, headers)
            await self._app(scope, receive, answer.send)
        except Refusal as refusal:
            fields["refused"] = refusal.code
            failure = refusal.__cause__ if isinstance(refusal.__cause__, Exception) else None
            await answer.refuse(refusal, scope, receive)
        except ClientGoneError:
            answer.status = _GONE
        except Exception as error:
            failure = error
            if not answer.status:
                message = f"something went wrong here, not with you; its number is {request_id}"
                await answer.refuse(Refusal(500, "internal", message), scope, receive)
        seconds = time.perf_counter() - began
        route = self._route(scope)
        self._metrics.request(route, answer.status, seconds)
        client = scope.get("client")
        _LOG.log(
            logging.ERROR if answer.status >= 500 and failure is not None else logging.INFO,
            "request",
            exc_info=failure if answer.status >= 500 else None,
            extra={
                "fields": {
                    "id": request_id,
                    "client": client[0] if client else None,
                    "method": scope["method"],
                    "path": scope["path"][:200],
                    "status": answer.status,
                    "milliseconds": round(seconds * 1000, 1),
                    "bytes_out": answer.size,
                    **fields,
                }
            },
        )

    def _check(self, scope: Scope, headers: Headers) -> None:
        if self._key is None:
            check_origin(scope["method"], headers, self._names)
        elif scope["path"] in GUARDED and not self._key.opens(headers):
            raise Refusal(
                401,
                "no_key",
                "expected the server's key, as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'",
                headers=[("WWW-Authenticate", "Bearer")],
            )

    def _route(self, scope: Scope) -> str:
        """Return the path of the route that this was; ``other`` for what there is no route for."""
        path: str = scope["path"]
        if path in GUARDED or path == "/health":
            return path
        known = any(route.matches(scope)[0] is Match.FULL for route in self._router.routes)
        return "page" if known else "other"


class _Answer:
    """What is sent to the client, and what became of it."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._headers = [
            (b"x-request-id", request_id.encode()),
            (b"x-content-type-options", b"nosniff"),
        ]
        self.status = 0
        self.size = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *self._headers]
        else:
            self.size += len(message.get("body", b""))
        await self._send(message)

    async def refuse(self, refusal: Refusal, scope: Scope, receive: Receive) -> None:
        """Send a refusal; to one who is still sending, so that it can be heard."""
        if self.status:
            return
        response = refusal.response()
        if "Connection" not in refusal.headers:
            await response(scope, receive, self.send)
            return
        await self.send(
            {
                "type": "http.response.start",
                "status": response.status_code,
                "headers": response.raw_headers,
            }
        )
        body = bytes(response.body)
        await self.send({"type": "http.response.body", "body": body, "more_body": True})
        await drain(receive)
        await self.send({"type": "http.response.body", "body": b"", "more_body": False})
