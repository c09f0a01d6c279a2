"""Requests that somebody careless or ill-meaning might send; each is (address, type, body)."""

import io
import json
import random
import struct
import zlib
from collections.abc import Iterator

from PIL import Image
from served_fakes import picture

Hostile = tuple[str, str, bytes]

_KINDS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")


def requests(count: int) -> Iterator[Hostile]:
    """Make that many of them, the same each time."""
    rng = random.Random(6)
    makers = (_cut, _changed, _polyglot, _wrong_type, _form, _bad_json, _noise)
    yield from (("/predict", f"image/{kind}", data) for kind, data in _bombs())
    yield from _large_json()
    for number in range(count):
        yield makers[number % len(makers)](rng)


def _noise(rng: random.Random) -> Hostile:
    address = rng.choice(
        ("/predict?model=%00", "/predict?top=-1", "/explain", "/predict?model=all")
    )
    return address, "application/octet-stream", rng.randbytes(rng.randrange(200))


def _made(rng: random.Random) -> bytes:
    image = Image.frombytes("RGB", (24, 18), rng.randbytes(24 * 18 * 3))
    file = io.BytesIO()
    image.save(file, rng.choice(_KINDS))
    return file.getvalue()


def _cut(rng: random.Random) -> Hostile:
    data = _made(rng)
    return "/predict", "image/png", data[: rng.randrange(len(data))]


def _changed(rng: random.Random) -> Hostile:
    data = bytearray(_made(rng))
    for _ in range(rng.randrange(1, 20)):
        data[rng.randrange(min(len(data), rng.choice((40, 10_000))))] = rng.randrange(256)
    return "/predict", "image/jpeg", bytes(data)


def _polyglot(rng: random.Random) -> Hostile:
    tails = (b"PK\x05\x06" + b"\0" * 18, b"%PDF-1.7", b"<script>alert(1)</script>", _made(rng))
    parts = [_made(rng)[: rng.randrange(4, 60)], rng.choice(tails), _made(rng)]
    rng.shuffle(parts)
    return "/predict", "application/octet-stream", b"".join(parts)


def _wrong_type(rng: random.Random) -> Hostile:
    kinds = (
        "",
        "text/html",
        "image/",
        "application/xml",
        "multipart/mixed",
        "a" * 5000,
        ";;;",
        "é",
    )
    return "/predict", rng.choice(kinds), _made(rng)


def _form(rng: random.Random) -> Hostile:
    boundary = rng.choice(("x", "--", "a b", "x" * 200, "é", '"q"'))
    line = b"--" + boundary.encode() + rng.choice((b"\r\n", b"\n", b"--\r\n", b"--"))
    head = rng.choice(
        (
            b'Content-Disposition: form-data; name="file"; filename="../../etc/passwd\0"\r\n\r\n',
            b"Content-Disposition: form-data; name=file; filename*=UTF-8''%ff%fe\r\n\r\n",
            b"Content-Disposition: " + b"a" * 20_000 + b"\r\n\r\n",
            b'Content-Disposition: form-data; name="other"\r\n\r\n',
            b"\r\n\r\n",
            b"",
        )
    )
    body = rng.choice(
        ((line + head + _made(rng) + b"\r\n") * rng.randrange(1, 90) + line, line, b"")
    )
    return "/predict", f"multipart/form-data; boundary={boundary}", body


def _bad_json(rng: random.Random) -> Hostile:
    model = rng.choice(("letters", "pairs", "sums", "all"))
    body = rng.choice(
        (
            b"",
            b"null",
            b"{" * 10_000,
            b'{"text": "\xff\xfe"}',
            b'{"text": "\\ud800"}',
            b'{"texts": []}',
            b'{"texts": [1, null]}',
            b'{"texts": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
            b'{"pairs": [["a"], ["b", "c", "d"]]}',
            b'{"values": [' + b"9" * 5_000 + b"]}",
            b'{"values": [[1e400, -1e400]]}',
            b'{"values": [[-3e38, -3e38]]}',
            b'{"values": [[true, false]]}',
            b'{"values": [[1, 2], [3]]}',
            b'{"sequences": [[[1, 2]], 7]}',
            b'{"text": "a", "texts": ["b"]}',
            json.dumps({"texts": ["x\0y", "\u202e", "😀" * 1000]}).encode(),
            json.dumps({"text": "a"}).encode("utf-16"),
            rng.randbytes(50),
        )
    )
    return f"/predict?model={model}", "application/json", body


def _large_json() -> Iterator[Hostile]:
    word = json.dumps({"text": "word " * 100_000}).encode()
    yield "/predict?model=letters", "application/json", word
    yield "/predict?model=letters", "application/json", b'{"text": "' + b"a" * 3_000_000 + b'"}'
    yield (
        "/predict?model=sums",
        "application/json",
        json.dumps({"values": [[1, 2]] * 90_000}).encode(),
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + check


def _bombs() -> Iterator[tuple[str, bytes]]:
    """A few kilobytes that would become gigabytes."""
    size = 60_000
    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" * 10_000_000, 9)
    yield "png", b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", rows)
    small = picture((1, 2, 3))
    text = b"k\0\0" + zlib.compress(b"\0" * 100_000_000, 9)
    yield "png", small[:33] + _chunk(b"zTXt", text) + small[33:]
    yield "gif", b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0, 0, 0) + b"\x2c" + bytes(30)
    inner = struct.pack("<HHHHB", 0, 0, 65_535, 65_535, 0)
    yield "gif", b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0, 0, 0) + b"\x2c" + inner + bytes(30)
    tags = [(256, size), (257, size), (258, 8), (259, 5), (262, 1), (273, 8), (277, 1), (279, 4)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    yield "tiff", b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    frame = b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + b"\xff\xff\xff" + b"\xff\xff\xff"
    yield "webp", b"RIFF" + struct.pack("<I", len(frame) + 4) + b"WEBP" + frame
    yield "bmp", b"BM" + bytes(12) + struct.pack("<IiiHHI", 40, size, size, 1, 24, 0) + bytes(20)
    yield "ppm", b"P6 %d %d 255 " % (size, size)
