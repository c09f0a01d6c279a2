"""`headstart serve --engine ray`: what is asked of Ray; what it makes of it is tested elsewhere."""

import math
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from served_fakes import Broken, Colours
from starlette.testclient import TestClient
from typer.testing import CliRunner

from headstart._util.stopping import Stop
from headstart.cli.main import app
from headstart.errors import ConfigError
from headstart.serve import Limits
from headstart.serve.on_ray import Replicas
from headstart.serve.replica import application_of


@dataclass
class Asked:
    """What Ray would serve."""

    application: Callable[[], Any]
    limits: Limits
    replicas: Replicas
    host: str
    port: int
    address: str | None
    stop: Stop
    ended: bool = False


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Asked]:
    """Run the command without Ray, until somebody asks it to end; returns what it would serve."""
    found: list[Asked] = []

    def start(
        application: Callable[[], Any], limits: Limits, replicas: Replicas, **where: Any
    ) -> Callable[[], None]:
        one = Asked(application, limits, replicas, **where)
        found.append(one)
        # Heard already while it starts. No real one: it could end the process of all tests.
        heard = signal.getsignal(signal.SIGTERM)
        assert callable(heard)
        heard(signal.SIGTERM, None)

        def end() -> None:
            one.ended = True

        return end

    monkeypatch.setattr("headstart.serve.on_ray.start", start)
    monkeypatch.setattr(
        "headstart.predict.verify_bundle", lambda path: SimpleNamespace(name=path.stem)
    )
    monkeypatch.delenv("HEADSTART_API_KEY", raising=False)
    return found


def serve(*words: str) -> Any:
    result = CliRunner().invoke(app, ["serve", "--port", "0", *words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def on_ray(*words: str) -> Any:
    return serve("a/flowers.headstart", "--engine", "ray", *words)


def test_what_is_served_where_and_until_a_signal(asked: list[Asked]) -> None:
    said = on_ray("old=b/flowers.headstart", "--replicas", "2", "--max-replicas", "5")
    [one] = asked
    assert (one.host, one.address) == ("127.0.0.1", None)
    where = f"serving flowers, old on http://127.0.0.1:{one.port}, 2 to 5 replicas"
    assert where in said.output
    assert "warning" not in said.output
    assert one.replicas == Replicas(2, 5)
    assert (one.stop.requested, one.ended) == (True, True)


def test_an_open_address_without_a_key_is_warned_of(
    asked: list[Asked], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "there is no key" in on_ray("--host", "0.0.0.0").output
    assert "there is no key" in on_ray("--port", "80", "--address", "auto", "--host", "me").output
    monkeypatch.setenv("HEADSTART_API_KEY", "k")
    assert "there is no key" not in on_ray("--host", "0.0.0.0").output


def test_each_replica_has_its_cores_and_decodes_on_them(asked: list[Asked]) -> None:
    on_ray()
    on_ray("--threads", "3")
    on_ray("--threads", "3", "--workers", "2")
    assert [one.replicas.cores for one in asked] == [1, 3, 3]
    assert [one.limits.workers for one in asked] == [1, 3, 2]


@pytest.mark.parametrize(
    ("words", "gpus", "place"),
    [
        ("", 0, "cpu"),
        ("--device auto", 0, "cpu"),
        ("--device cpu", 0, "cpu"),
        ("--device cuda", 1, "cuda"),
        ("--device cuda --replica-gpus 0.25", 0.25, "cuda"),
        ("--replica-gpus 2", 2, "cuda"),
    ],
)
def test_graphics_processors_are_set_aside(
    asked: list[Asked], words: str, gpus: float, place: str
) -> None:
    on_ray(*words.split())
    assert (asked[0].replicas.gpus, asked[0].replicas.place) == (gpus, place)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--replicas 3 --max-replicas 2", "--replicas: expected .* got 3 and 2"),
        ("--device cuda:1", "--device: .*expected one of .*, got 'cuda:1': Ray chooses"),
        ("--device cpu --replica-gpus 1", "--device: cpu does not go with 1 graphics"),
        ("--device cuda --replica-gpus 0", "--device: cuda does not go with 0 graphics"),
        ("--replica-gpus 1.5", "--replica-gpus: expected a whole number"),
        ("--address auto", "--port: expected one that each machine"),
        ("--max-queue 4", "max_queue"),
    ],
)
def test_what_could_never_work_is_refused(asked: list[Asked], words: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        on_ray(*words.split())
    assert not asked


@pytest.mark.parametrize("number", [math.nan, math.inf, -1.0])
def test_replicas_have_so_much_of_something_and_not_just_any_number(number: float) -> None:
    with pytest.raises(ConfigError, match="--threads: expected"):
        Replicas(cores=number)
    with pytest.raises(ConfigError, match="--replica-gpus: expected"):
        Replicas(gpus=number)


def test_two_bundles_of_one_name_are_refused(asked: list[Asked]) -> None:
    with pytest.raises(ConfigError, match="other=b/flowers"):
        on_ray("b/flowers.headstart")
    assert not asked


def test_options_for_ray_are_not_ignored_without_it() -> None:
    with pytest.raises(ConfigError, match="--replicas, --address: expected only with --engine ray"):
        serve("a", "--replicas", "2", "--address", "auto")


def test_bundles_are_opened_where_they_are_served_and_closed_with_the_application(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    loaded: list[tuple[Path, str, int]] = []
    closed: list[str] = []

    class Opened(Broken):
        def __enter__(self) -> Colours:
            return Colours(self.info.name)

        def __exit__(self, *error: object) -> None:
            closed.append(self.info.name)

    def load_bundle(path: Path, *, device: Any, threads: int) -> Opened:
        loaded.append((path, str(device), threads))
        return Opened(path.name)

    monkeypatch.setattr("headstart.serve.replica.load_bundle", load_bundle)
    monkeypatch.chdir(tmp_path)
    made = application_of(
        {"a": Path("x"), "b": Path("y")},
        Limits(),
        device="cpu",
        threads=2,
        api_key="k",
        names=None,
    )
    assert not loaded
    with TestClient(made()) as client:
        assert loaded == [(tmp_path / "x", "cpu", 2), (tmp_path / "y", "cpu", 2)]
        assert client.get("/models").status_code == 401
        models = client.get("/models", headers={"x-api-key": "k"}).json()["models"]
        assert [model["name"] for model in models] == ["a", "b"]
        assert not closed
    assert closed == ["y", "x"]
