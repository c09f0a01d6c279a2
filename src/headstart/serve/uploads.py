"""What a body holds: pictures, texts, pairs of texts or sequences of numbers, as samples."""

import json
from dataclasses import dataclass
from email.message import Message
from email.utils import collapse_rfc2231_value
from typing import Any, NoReturn

from headstart.predict.bundle_info import TaskName
from headstart.predict.samples import sample_of, sequence_bytes, text_pair
from headstart.serve.limits import Limits
from headstart.serve.refusal import Refusal

Item = bytes | str | tuple[str, str] | list[Any]
"""A sample as it came."""

_HEAD_BYTES = 8_192  # of a part's header lines, at most
_SHOWN = 80  # characters of a text, in the answer to it
_FORMS = (
    'expected one of {"text": "…"}, {"texts": ["…"]}, {"pairs": [["…", "…"]]}, '
    '{"values": [[0.1, …], …]}, {"sequences": [[[0.1, …], …]]}'
)


@dataclass(frozen=True, slots=True)
class Upload:
    """The samples of one request.

    Attributes:
        task: What they are.
        names: What each is called in the answer: a file's name, or the text's beginning.
        items: A picture's bytes, a text, two texts, or a sequence's steps; see `sample_bytes`.
    """

    task: TaskName
    names: tuple[str, ...]
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class ContentType:
    """What a body says that it is.

    Attributes:
        name: Such as ``image/jpeg``, in lower case; empty where nothing is said.
        boundary: Of a multipart body; else empty.
    """

    name: str
    boundary: str

    @property
    def is_json(self) -> bool:
        """Whether the body is JSON."""
        return self.name == "application/json"


def content_type(header: str) -> ContentType:
    """Return what the header Content-Type says.

    Args:
        header: The header; empty where there is none.

    Returns:
        It, known to be of a kind that is read.

    Raises:
        Refusal: It is another kind (415), or multipart without a boundary that can be read (400).
    """
    message = Message()
    message["Content-Type"] = header
    name = message.get_content_type() if header else ""
    if name == "multipart/form-data":
        boundary = _parameter(message, "boundary", "content-type")
        if not 0 < len(boundary) <= 70 or not boundary.isascii():
            raise Refusal(400, "bad_body", "multipart/form-data needs a boundary of 1 to 70 ASCII")
        return ContentType(name, boundary)
    if name in ("application/json", "application/octet-stream") or name.startswith("image/"):
        return ContentType(name, "")
    raise Refusal(
        415,
        "unknown_type",
        "expected Content-Type multipart/form-data, application/json, image/… or "
        f"application/octet-stream, got {name or 'none'!r:.80}",
    )


def read_upload(kind: ContentType, body: bytes, limits: Limits) -> Upload:
    """Take a body apart.

    Args:
        kind: What it says that it is.
        body: The whole of it.
        limits: How many samples there may be.

    Returns:
        Its samples, at least one. Pictures are not looked at yet.

    Raises:
        Refusal: It is not well-formed (400), holds too many samples (413), or something else than
            samples (422).
    """
    if kind.boundary:
        return _pictures(body, kind.boundary.encode(), limits.max_items)
    if kind.is_json:
        return _from_json(body, limits.max_items)
    if not body:
        raise Refusal(400, "bad_body", "the body is empty: expected a picture's bytes")
    return Upload("image", ("picture",), (body,))


def _pictures(body: bytes, boundary: bytes, limit: int) -> Upload:
    """Return the files of a multipart body (RFC 7578); it is searched, never stepped through."""
    delimiter = b"\r\n--" + boundary
    # One more than may be, so that too many are noticed without splitting all of them.
    pieces = (b"\r\n" + body).split(delimiter, limit + 2)
    parts = pieces[1:-1] if pieces[-1].startswith(b"--") else pieces[1:]
    if len(parts) > limit:
        raise _too_many(f"more than {limit}", limit)
    if not pieces[-1].startswith(b"--") or len(pieces) == 1:
        raise Refusal(400, "bad_body", "the multipart body is cut off: its end is missing")
    if not parts:
        raise Refusal(400, "bad_body", "the multipart body has no part: expected a part 'file'")
    found = [_part(part) for part in parts]
    names = tuple(name or f"file {number}" for number, (name, _) in enumerate(found, start=1))
    return Upload("image", names, tuple(data for _, data in found))


def _part(part: bytes) -> tuple[str, bytes]:
    """Return a part's file name and content."""
    end = part.find(b"\r\n\r\n", 0, _HEAD_BYTES)
    if end < 0 or part[:2] != b"\r\n":
        raise Refusal(400, "bad_body", "a part of the multipart body has no header lines")
    head = Message()
    for line in part[2:end].decode("utf-8", "replace").split("\r\n"):
        name, _, value = line.partition(":")
        if name.strip().lower() == "content-disposition":
            head["Content-Disposition"] = value.strip().replace("\n", " ").replace("\r", " ")
    field = _parameter(head, "name", "content-disposition")
    if field != "file":
        raise Refusal(
            400, "bad_body", f"expected parts with the name 'file', got one named {field!r:.80}"
        )
    return _parameter(head, "filename", "content-disposition")[:255], part[end + 4 :]


def _parameter(message: Message, name: str, header: str) -> str:
    """Return a header's parameter, also one in the form of RFC 2231; empty where there is none."""
    try:
        return collapse_rfc2231_value(message.get_param(name, "", header))
    except Exception as error:  # the library has no error of its own for what is malformed
        raise Refusal(
            400, "bad_body", f"the parameters of a header {header.title()} are malformed"
        ) from error


def _from_json(body: bytes, limit: int) -> Upload:
    try:
        value = json.loads(body, parse_constant=_no_constant)
    except RecursionError:
        raise Refusal(400, "bad_json", "the JSON is nested too deeply") from None
    except ValueError as error:  # no JSON, no UTF-8, or a number of thousands of digits
        raise Refusal(400, "bad_json", f"the body is no JSON: {error!s:.200}") from None
    match value:
        case {"text": str(text)} if len(value) == 1:
            return Upload("text", (_short(text),), (text,))
        case {"texts": [_, *_] as texts} if len(value) == 1 and all(
            isinstance(text, str) for text in texts
        ):
            _count(texts, limit)
            return Upload("text", tuple(map(_short, texts)), tuple(texts))
        case {"pairs": [_, *_] as pairs} if len(value) == 1:
            _count(pairs, limit)
            return _pairs(pairs)
        case {"values": [_, *_] as steps} if len(value) == 1:
            return _sequences([steps])
        case {"sequences": [_, *_] as sequences} if len(value) == 1:
            _count(sequences, limit)
            return _sequences(sequences)
    raise Refusal(422, "bad_input", _FORMS)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def sample_bytes(item: Item, channels: int) -> bytes:
    """Return one sample's bytes as a bundle takes them.

    Args:
        item: A sample of an upload.
        channels: Numbers at each step, of a bundle that reads sequences.

    Returns:
        The bytes.

    Raises:
        DataError: There is no sample in it: no word, or no numbers that 32 bits can hold.
    """
    match item:
        case bytes():
            return item
        case str():
            return sample_of(item, "text")
        case (str(first), str(second)):
            return text_pair(first, second)
        case _:
            return sequence_bytes(item, channels)


def _pairs(pairs: list[Any]) -> Upload:
    found: list[Item] = []
    for number, pair in enumerate(pairs):
        match pair:
            case [str(first), str(second)]:
                found.append((first, second))
            case _:
                raise Refusal(422, "bad_input", f"pairs[{number}]: expected two texts")
    names = tuple(f"{_short(first)} | {_short(second)}" for first, second in pairs)
    return Upload("pair", names, tuple(found))


def _sequences(sequences: list[Any]) -> Upload:
    if not all(isinstance(steps, list) for steps in sequences):
        raise Refusal(422, "bad_input", _FORMS)
    names = tuple(f"sequence {number}" for number in range(1, len(sequences) + 1))
    return Upload("sequence", names, tuple(sequences))


def _count(items: list[Any], limit: int) -> None:
    if len(items) > limit:
        raise _too_many(str(len(items)), limit)


def _too_many(came: str, limit: int) -> Refusal:
    return Refusal(413, "too_many", f"expected at most {limit} samples in a request, got {came}")


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
