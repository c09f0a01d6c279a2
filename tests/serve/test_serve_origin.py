"""A server without a key is not there for other web pages; one with a key names no model."""

from collections.abc import Callable

import pytest
from served_fakes import Colours, picture
from starlette.testclient import TestClient

from headstart.serve import create_app

OpenApp = Callable[..., TestClient]
RED = picture((250, 20, 10))


def status(client: TestClient, host: str, **headers: str) -> int:
    kind = {"content-type": "image/png", "host": host}
    return client.post("/predict", content=RED, headers=kind | headers).status_code


def test_other_pages_are_refused_and_the_own_page_and_programs_are_not(open_app: OpenApp) -> None:
    client = open_app({"a": Colours()})
    for host in ("localhost:8000", "127.0.0.1", "flowers.example"):
        assert status(client, host) == 200
        assert status(client, host, origin=f"http://{host}") == 200
        assert status(client, host, origin=f"HTTPS://{host.upper()}") == 200
    for origin in ("http://evil.example", "null", "", "http://localhost", "http://localhost:80000"):
        assert status(client, "localhost:8000", origin=origin) == 403, origin
    reply = client.get("/labels", headers={"origin": "http://evil.example"})
    assert "access-control-allow-origin" not in reply.headers


def test_with_a_key_it_is_the_key_that_counts(open_app: OpenApp) -> None:
    client = open_app({"a": Colours()}, key="k", names=())
    assert status(client, "a.example", **{"origin": "http://b.example", "x-api-key": "k"}) == 200
    assert status(client, "a.example", origin="http://a.example") == 401


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", 200),
        ("LOCALHOST.:8000", 200),
        ("flowers.localhost:1", 200),
        ("127.0.0.1:8000", 200),
        ("127.9.9.9", 200),
        ("[::1]:8000", 200),
        ("my-machine:8000", 200),
        ("evil.example:8000", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("10.0.0.1:8000", 421),
        ("[2001:db8::1]", 421),
        ("0x7f000001", 421),
    ],
)
def test_on_the_loopback_a_name_that_was_made_to_point_here_is_refused(
    open_app: OpenApp, host: str, expected: int
) -> None:
    client = open_app({"a": Colours()}, names=("My-Machine",))
    assert status(client, host, origin=f"http://{host}") == expected
    assert client.get("/models", headers={"host": host}).status_code == expected
    assert client.get("/", headers={"host": host}).status_code == expected


def test_nothing_that_needs_no_key_names_what_is_served() -> None:
    app = create_app({"secret-flowers": Colours()}, api_key="k")
    with TestClient(app) as client:
        for path in ("/health", "/openapi.json", "/", "/docs", "/models", "/metrics"):
            reply = client.get(path)
            assert reply.status_code in (200, 401)
            assert "secret-flowers" not in reply.text
        assert "secret-flowers" in client.get("/models", headers={"x-api-key": "k"}).text
