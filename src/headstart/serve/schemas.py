"""The HTTP interface as OpenAPI describes it: what goes in and what comes out.

Bodies are read by hand, for speed and within limits (see `headstart.serve.uploads`), so what may be
in them is written down here.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from headstart.types import JsonDict

Probability = Annotated[float, Field(ge=0, le=1)]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Choice(_Closed):
    """A class and its probability."""

    label: str
    probability: Probability


class Classified(_Closed):
    """What a classification says of one sample."""

    input: str = Field(description="The file's name, or the beginning of the text.")
    label: str
    probability: Probability
    top: list[Choice] = Field(description="The most probable classes, the most probable first.")


class Estimated(_Closed):
    """What a regression says of one sample."""

    input: str
    value: float


class Failed(_Closed):
    """A sample of which nothing can be said."""

    input: str
    error: str


class ModelResult(_Closed):
    """What one bundle says of all samples, in their order."""

    model: str
    goal: Literal["classification", "regression"]
    predictions: list[Classified | Estimated | Failed]


class PredictReply(_Closed):
    """What the bundles say, in the order in which they were named."""

    results: list[ModelResult]


class Word(BaseModel):
    """A word of a text and how much it speaks for the label."""

    text: str
    start: int = Field(ge=0, description="The first character, counted from 0.")
    end: int = Field(ge=0, description="One after the last character.")
    weight: Annotated[float, Field(ge=-1, le=1)]


class ExplainReply(BaseModel):
    """Why a bundle says what it says: of a picture `grid` and `box`, of a text `words`."""

    model: str
    label: str | None
    probability: Probability | None
    method: Literal["grad-cam", "integrated-gradients", "occlusion"]
    grid: list[list[Probability]] | None = Field(
        default=None, description="How much each place speaks for the label."
    )
    box: list[float] | None = Field(
        default=None,
        description="The part of the upright picture that the network saw: left, top, right and "
        "bottom as shares of its width and height.",
    )
    words: list[Word] | None = None


class Labels(_Closed):
    """The classes of one bundle, in the order of its columns."""

    model: str
    classes: list[str]


class LabelsReply(_Closed):
    """The classes of the bundles."""

    labels: list[Labels]


class Model(BaseModel):
    """One bundle that is served."""

    name: str
    title: str
    task: Literal["image", "text", "pair", "sequence"]
    goal: Literal["classification", "regression"]
    classes: list[str]
    metrics: dict[str, Any]
    input: dict[str, Any]
    engine: str | None
    precision: str | None
    size_bytes: int
    explanations: list[str]


class ModelsReply(_Closed):
    """The bundles that are served; the first is asked where none is named."""

    models: list[Model]


class Health(BaseModel):
    """Whether the server takes requests."""

    status: Literal["ok", "stopping"]
    version: str
    waiting: int = Field(description="Samples and explanations that are not answered yet.")
    uptime_seconds: float


class ErrorDetail(_Closed):
    """A word for programs and a sentence for people."""

    code: str
    message: str


class ErrorReply(_Closed):
    """Why there is no answer."""

    error: ErrorDetail


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the entries of `responses` of a route that may refuse in these ways."""
    words = {
        400: "The body is not well-formed.",
        401: "The server's key is missing or wrong.",
        403: "It was sent by a web page of another address.",
        404: "No such model is served.",
        408: "The body did not come in time.",
        413: "The body is too large, or holds too many samples.",
        415: "The body is of a type that is not read.",
        421: "The server has another name than the one it was asked by.",
        422: "No sample can be used, or a parameter has no such value.",
        500: "Something went wrong here; the header X-Request-ID says where to look in the log.",
        503: "The server is busy or stopping: come again after Retry-After seconds.",
        504: "There was no answer in time.",
    }
    found: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorReply, "description": words[status]} for status in statuses
    }
    if 503 in found:
        seconds = {
            "schema": {"type": "integer"},
            "description": "Come again after so many seconds.",
        }
        found[503]["headers"] = {"Retry-After": seconds}
    return found


def query(name: str, schema: JsonDict, description: str) -> JsonDict:
    """Return a parameter of the address as OpenAPI writes it."""
    return {
        "name": name,
        "in": "query",
        "required": False,
        "schema": schema,
        "description": description,
    }


MODEL_NAMES = query(
    "model",
    {"type": "array", "items": {"type": "string"}},
    "Whom to ask: a name, repeated for several, or `all`; the first where none is named.",
)

_STEPS: JsonDict = {
    "type": "array",
    "minItems": 1,
    "items": {
        "oneOf": [
            {"type": "number"},
            {"type": "array", "minItems": 1, "items": {"type": "number"}},
        ]
    },
}
_PAIR: JsonDict = {
    "type": "array",
    "minItems": 2,
    "maxItems": 2,
    "items": {"type": "string", "minLength": 1},
}


def _one_key(key: str, schema: JsonDict) -> JsonDict:
    return {
        "type": "object",
        "required": [key],
        "additionalProperties": False,
        "properties": {key: schema},
    }


def body(max_items: int) -> JsonDict:
    """Return the request body of `/predict` and `/explain` as OpenAPI writes it.

    Args:
        max_items: Samples in one request, at most.

    Returns:
        A ``requestBody``.
    """

    def several(item: JsonDict) -> JsonDict:
        return {"type": "array", "minItems": 1, "maxItems": max_items, "items": item}

    text: JsonDict = {"type": "string", "minLength": 1}
    file: JsonDict = {"type": "string", "format": "binary"}
    forms = {"text": text, "texts": several(text), "pairs": several(_PAIR), "values": _STEPS}
    json_forms = [_one_key(key, schema) for key, schema in forms.items()]
    return {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": _one_key("file", several(file))},
            "application/json": {
                "schema": {"oneOf": [*json_forms, _one_key("sequences", several(_STEPS))]}
            },
            "image/*": {"schema": file},
            "application/octet-stream": {"schema": file},
        },
    }
