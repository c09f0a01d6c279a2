"""Whatever is sent, the server answers, stays and goes on to answer rightly."""

import resource
from collections import Counter
from collections.abc import Callable

import pytest
import schemathesis
from hostile import requests
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance
from served_fakes import Colours, Letters, picture
from starlette.testclient import TestClient

OpenApp = Callable[..., TestClient]
RED = picture((250, 20, 10))


def assert_well(client: TestClient) -> None:
    """The server says the same as ever."""
    reply = client.post("/predict", content=RED, headers={"content-type": "image/png"})
    assert reply.status_code == 200
    said = {
        one["label"]: one["probability"]
        for one in reply.json()["results"][0]["predictions"][0]["top"]
    }
    assert list(said.values()) == pytest.approx(sorted(Colours().expected(RED), reverse=True))
    assert client.get("/health").json()["waiting"] == 0


def test_six_hundred_bad_requests(open_app: OpenApp) -> None:
    client = open_app(max_bytes=1_000_000, max_json_bytes=1_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    statuses: Counter[int] = Counter()
    for number, (address, kind, body) in enumerate(requests(600)):
        headers = {"content-type": kind.encode()} if kind else {}
        reply = client.post(address, content=body, headers=headers)
        statuses[reply.status_code] += 1
        assert reply.status_code < 500, (number, address, kind, body[:100], reply.text)
        if reply.status_code != 200:
            error = reply.json()["error"]
            assert error["code"]
            assert error["message"]
            assert "Traceback" not in reply.text
    assert_well(client)
    assert set(statuses) >= {200, 400, 404, 413, 415, 422}
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < 300, f"{grown:.0f} MiB for pictures that would be gigabytes"


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/predict"), ("POST", "/explain")]
    + [("GET", path) for path in ("/labels", "/models", "/health", "/metrics")],
)
def test_the_interface_is_as_it_is_described(open_app: OpenApp, method: str, path: str) -> None:
    """Requests made from the description: every answer is one that it tells of."""
    client = open_app({"colours": Colours(), "letters": Letters()}, max_json_bytes=100_000)
    schema = schemathesis.openapi.from_asgi("/openapi.json", client.app)
    operation = schema[path][method]

    @settings(
        max_examples=40,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def ask(case: schemathesis.Case) -> None:
        # What is valid depends on what is served, too: labels, and what a model reads.
        case.call_and_validate(excluded_checks=[positive_data_acceptance])

    ask()
    assert_well(client)
