"""A request that is not answered, in one form for all of them."""

import json
from collections.abc import Iterable
from typing import Self

from starlette.responses import Response

from headstart.types import JsonDict


class Refusal(Exception):  # noqa: N818 - it is an answer, and often not the client's error
    """Why a request is not answered: a status, a word for programs, a sentence for people."""

    def __init__(
        self, status: int, code: str, message: str, *, headers: Iterable[tuple[str, str]] = ()
    ) -> None:
        """Say why.

        Args:
            status: The HTTP status, from 400.
            code: A word that does not change, such as ``too_large``.
            message: What was expected, what came, what to do.
            headers: Further headers of the answer.
        """
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers)

    @classmethod
    def busy(cls, message: str, seconds: int) -> Self:
        """Return the refusal of one who may come again.

        Args:
            message: Why there is no room now.
            seconds: When there may be.

        Returns:
            A refusal with status 503 and the header Retry-After.
        """
        return cls(
            503,
            "busy",
            f"{message}; try again in {seconds} s",
            headers=[("Retry-After", str(seconds))],
        )

    def response(self) -> Response:
        """Return the answer that says it."""
        body = {"error": {"code": self.code, "message": self.message}}
        return json_response(body, self.status, self.headers)


class ClientGoneError(Exception):
    """The client has hung up: nobody is there to be answered."""


def json_response(
    value: JsonDict | list[JsonDict], status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """Return an answer of JSON, in ASCII: half a surrogate pair in a text does no harm."""
    body = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Response(body, status, headers, media_type="application/json")
