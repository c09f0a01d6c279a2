"""An application with bundles that cost nothing, in this process; and a small real bundle."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from served_fakes import fakes
from starlette.testclient import TestClient

from headstart.serve import Limits, create_app

OpenApp = Callable[..., TestClient]


@pytest.fixture
def open_app() -> Iterator[OpenApp]:
    """Return what starts an application: `open_app(bundles, key=…, max_queue=…)`."""
    with ExitStack() as stack:

        def start(
            bundles: dict[str, object] | None = None,
            key: str | None = None,
            names: tuple[str, ...] | None = None,
            **limits: float,
        ) -> TestClient:
            served = bundles if bundles is not None else fakes()
            bounds = Limits(**limits)  # type: ignore[arg-type]
            app = create_app(served, bounds, api_key=key, names=names)  # type: ignore[arg-type]
            return stack.enter_context(TestClient(app, raise_server_exceptions=False))

        yield start


@pytest.fixture
def tiny_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a bundle of the classes a, b and c."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "predict"))
    from tiny_bundles import picture, trained, write_tiny

    path = tmp_path / "tiny.headstart"
    write_tiny(path, [picture(0)], trained())
    return path
