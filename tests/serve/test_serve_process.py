"""The server as people run it: its own process, real sockets, signals."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from served_fakes import Colours, picture

from headstart.errors import ConfigError
from headstart.serve.server import bind, is_loopback

RED = picture((250, 20, 10))
Start = Callable[[float], "Server"]


class Server:
    """One that runs, and its log."""

    def __init__(self, seconds: float, log: Path) -> None:
        self.log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "real_server.py", str(seconds)],
                cwd=Path(__file__).parent,
                stdout=subprocess.PIPE,
                stderr=file,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline().decode().strip()
        assert line, log.read_text()
        self.port = int(line.rpartition(":")[2])

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def send(self, request: bytes) -> tuple[int, bytes]:
        """Send bytes over a connection of their own; return the answer's status and body."""
        with self.connect() as connection:
            connection.sendall(request)
            return answer(connection)

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


def answer(connection: socket.socket) -> tuple[int, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65_536)
        if not piece:
            return 0, data
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    if b"content-length: " not in head.lower():  # the framework's own refusal; it closes
        return int(head.split(b" ")[1]), body
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65_536)
    return int(head.split(b" ")[1]), body


def predict(data: bytes = RED) -> bytes:
    head = "POST /predict HTTP/1.1\r\nHost: test\r\nContent-Type: image/png\r\nContent-Length: "
    return f"{head}{len(data)}\r\n\r\n".encode() + data


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    servers: list[Server] = []

    def begin(seconds: float) -> Server:
        servers.append(Server(seconds, tmp_path / f"log{len(servers)}"))
        return servers[-1]

    yield begin
    for server in servers:
        server.process.kill()
        server.process.wait(10)
        assert server.process.stdout is not None
        server.process.stdout.close()


def test_a_crowd_and_strange_clients_get_answers_or_503_and_the_end_loses_nothing(
    start: Start,
) -> None:
    server = start(0.02)
    # A crowd: more at a time than there is room for.
    statuses: Counter[int] = Counter()

    def client() -> None:
        with server.connect() as connection:
            for _ in range(4):
                connection.sendall(predict())
                status, body = answer(connection)
                statuses[status] += 1
                if status == 200:
                    top = json.loads(body)["results"][0]["predictions"][0]["top"]
                    said = [one["probability"] for one in top]
                    assert said == pytest.approx(sorted(Colours().expected(RED), reverse=True))

    threads = [threading.Thread(target=client) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert set(statuses) == {200, 503}
    assert sum(statuses.values()) == 200

    # Strange ones: no HTTP, an endless header, a length that is a lie, one that hangs up.
    assert server.send(b"\x16\x03\x01\x02\0\x01\0" + b"\r\n\r\n")[0] in (0, 400)
    assert server.send(b"GET / HTTP/1.1\r\nX: " + b"a" * 200_000)[0] in (0, 400)
    assert server.send(predict().replace(b"Content-Length: ", b"Content-Length: -"))[0] in (0, 400)
    with server.connect() as connection:
        connection.sendall(predict()[:-10])
    # A body without end hears that it is too large, while it is still sending.
    with server.connect() as connection:
        head = b"POST /predict HTTP/1.1\r\nHost: t\r\nContent-Type: image/png\r\n"
        connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(400):  # 13 MB: more than lies in buffers on the way
            connection.sendall(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
        assert answer(connection)[0] == 413
    assert server.send(predict())[0] == 200
    assert all(line["status"] != 500 for line in server.lines() if "status" in line)

    # The end: what was taken is answered, /health says so, nothing new is taken.
    with server.connect() as taken, server.connect() as idle:
        taken.sendall(predict())
        time.sleep(0.01)
        server.process.send_signal(signal.SIGTERM)
        assert answer(taken)[0] in (200, 503)  # 503 where the signal was quicker
        time.sleep(0.2)
        idle.sendall(b"GET /health HTTP/1.1\r\nHost: t\r\n\r\n")
        status, body = answer(idle)
        assert (status, json.loads(body)["status"]) == (503, "stopping")
    assert server.process.wait(15) == 0


def test_a_long_answer_is_finished_after_the_signal(start: Start) -> None:
    server = start(1.5)
    with server.connect() as connection:
        connection.sendall(predict())
        while not json.loads(server.send(b"GET /health HTTP/1.1\r\nHost: t\r\n\r\n")[1])["waiting"]:
            time.sleep(0.02)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert server.send(predict())[0] == 503
        assert answer(connection)[0] == 200
    assert server.process.wait(15) == 0


def test_one_who_hangs_up_leaves_the_queue(start: Start) -> None:
    server = start(0.5)
    for _ in range(10):
        with server.connect() as connection:
            connection.sendall(predict())
            time.sleep(0.02)
    time.sleep(0.2)
    waiting = json.loads(server.send(b"GET /health HTTP/1.1\r\nHost: t\r\n\r\n")[1])["waiting"]
    assert waiting <= 8  # at most the batch that is being computed
    gone = [line for line in server.lines() if line.get("status") == 499]
    assert len(gone) >= 8


def test_one_who_does_not_say_what_he_wants_is_not_kept(start: Start) -> None:
    server = start(0)
    get = b"GET /health HTTP/1.1\r\nHost: t\r\n\r\n"
    with contextlib.ExitStack() as stack:
        quiet, slow, again, refused, kept = (
            stack.enter_context(server.connect()) for _ in range(5)
        )
        for connection in (again, kept):
            connection.sendall(get)
            assert answer(connection)[0] == 200
        refused.sendall(b"POST /nothing HTTP/1.1\r\nHost: t\r\nContent-Length: 99\r\n\r\n")
        assert answer(refused)[0] == 404
        began = time.monotonic()
        for piece in (b"GET / HTTP/1.1\r\nX: ", *[b"a"] * 6):
            for connection in (slow, again, refused):
                with contextlib.suppress(OSError):
                    connection.sendall(piece)
            time.sleep(0.3)
        for connection in (quiet, slow, again, refused):
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(100) == b""
        assert time.monotonic() - began < 5
        kept.sendall(get)  # between requests there is more time
        assert answer(kept)[0] == 200


def test_a_port_that_is_taken_is_said_in_words() -> None:
    with bind("127.0.0.1", 0) as first:
        first.listen()
        assert is_loopback(first)
        with pytest.raises(ConfigError, match="--port"):
            bind("127.0.0.1", first.getsockname()[1])
    with pytest.raises(ConfigError, match="cannot listen"):
        bind("no.such.host.invalid", 0)
    with bind("0.0.0.0", 0) as everywhere:
        assert not is_loopback(everywhere)
