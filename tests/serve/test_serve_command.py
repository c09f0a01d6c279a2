"""`headstart serve`: names, keys and warnings; what is served is the business of other tests."""

import socket
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from served_fakes import Colours
from starlette.testclient import TestClient
from typer.testing import CliRunner

from headstart.cli.main import app
from headstart.errors import ConfigError


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[FastAPI]:
    """Run the command without loading or serving; returns what would be served."""
    apps: list[FastAPI] = []

    def run(application: FastAPI, bound: socket.socket, *, on_started: Callable[[], None]) -> None:
        on_started()
        application.state.service.close()
        apps.append(application)

    monkeypatch.setattr("headstart.serve.run_server", run)
    monkeypatch.setattr(
        "headstart.predict.load_bundle", lambda path, **_: nullcontext(Colours(path.stem))
    )
    monkeypatch.delenv("HEADSTART_API_KEY", raising=False)
    return apps


def serve(*words: str) -> Any:
    result = CliRunner().invoke(app, ["serve", "--port", "0", *words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_bundles_are_served_by_their_names_or_those_that_are_given(served: list[FastAPI]) -> None:
    said = serve("a/flowers.headstart", "old=b/flowers.headstart")
    assert list(served[0].state.service.bundles) == ["flowers", "old"]
    assert "serving flowers, old on http://127.0.0.1:" in said.output
    assert "warning" not in said.output


def test_two_bundles_of_one_name_are_refused(served: list[FastAPI]) -> None:
    with pytest.raises(ConfigError, match="other=b/flowers"):
        serve("a/flowers.headstart", "b/flowers.headstart")
    with pytest.raises(ConfigError, match="means all"):
        serve("all=a/flowers.headstart")
    assert not served


def test_an_open_address_without_a_key_is_warned_of(
    served: list[FastAPI], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "there is no key" in serve("a", "--host", "0.0.0.0").output
    monkeypatch.setenv("HEADSTART_API_KEY", "k")
    assert "there is no key" not in serve("a", "--host", "0.0.0.0").output
    assert [one.state.needs_key for one in served] == [False, True]


def test_a_key_file_must_hold_a_key(served: list[FastAPI], tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "key").write_text("secret\n")
    for name in ("empty", "missing"):
        with pytest.raises(ConfigError, match="--api-key-file"):
            serve("a", "--api-key-file", str(tmp_path / name))
    serve("a", "--api-key-file", str(tmp_path / "key"))
    assert served[0].state.needs_key


def test_the_key_of_the_environment_is_read_as_the_files(
    served: list[FastAPI], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADSTART_API_KEY", " secret\r\n")
    serve("a")
    client = TestClient(served[0])
    assert client.get("/models", headers={"x-api-key": "secret"}).status_code == 200
    assert client.get("/models").status_code == 401
    for empty in ("", " \n"):
        monkeypatch.setenv("HEADSTART_API_KEY", empty)
        with pytest.raises(ConfigError, match="HEADSTART_API_KEY: expected a key"):
            serve("a")


def test_on_the_loopback_it_answers_to_its_own_names_alone(served: list[FastAPI]) -> None:
    serve("a")
    serve("a", "--host", "0.0.0.0")
    for one, expected in zip(served, (421, 200), strict=True):
        client = TestClient(one)
        assert client.get("/models", headers={"host": "evil.example"}).status_code == expected
        assert client.get("/models", headers={"host": "localhost:8000"}).status_code == 200


@pytest.mark.parametrize("word", ["inf", "nan", "1e300"])
@pytest.mark.parametrize("option", ["--timeout", "--max-wait-ms"])
def test_times_are_finite(served: list[FastAPI], option: str, word: str) -> None:
    with pytest.raises(ConfigError, match=r"expected .* to 86,400"):
        serve("a", option, word)
    assert not served


def test_limits_are_checked_before_anything_is_loaded(served: list[FastAPI]) -> None:
    with pytest.raises(ConfigError, match="max_queue"):
        serve("a", "--max-queue", "4")
    assert not served
