"""The page's files as a server sends them: small, closed to other hosts, and nothing else."""

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from headstart.serve.page import page_routes

NAMES = ("page.css", "page.js", "api.js", "dom.js", "explanation.js", "docs.js", "icon.svg")


@pytest.fixture
def client() -> TestClient:
    return TestClient(Starlette(routes=page_routes))


def test_all_of_it_is_smaller_than_60_kilobytes_and_names_no_other_host(client: TestClient) -> None:
    total = 0
    for path in ("/", "/docs", *(f"/static/{name}" for name in NAMES)):
        answer = client.get(path)
        assert answer.status_code == 200
        total += len(answer.content)
        text = answer.text.replace("http://www.w3.org/2000/svg", "")  # a name, not an address
        assert "http:" not in text
        assert "https:" not in text
        assert "//" not in text.replace("// ", "").replace("/^#\\//", "")
    assert 20_000 < total < 60_000


def test_nothing_may_be_loaded_from_elsewhere_or_run_from_within_the_page(
    client: TestClient,
) -> None:
    for path in ("/", "/docs", "/static/page.js", "/static/nothing.js"):
        policy = client.get(path).headers["content-security-policy"]
        assert policy.startswith("default-src 'self';")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
    for path in ("/", "/docs"):
        page = client.get(path).text
        assert "<script>" not in page
        assert "style=" not in page
        assert " on" not in page.replace(" one", "").replace(" on this", "").replace(" on and", "")


@pytest.mark.parametrize("name", ["__init__.py", "..%2f__init__.py", "../__init__.py", "", "%00"])
def test_only_the_pages_own_files_can_be_asked_for(client: TestClient, name: str) -> None:
    assert client.get(f"/static/{name}").status_code == 404


def test_what_has_not_changed_is_not_sent_again(client: TestClient) -> None:
    first = client.get("/static/page.js")
    assert first.headers["content-type"].startswith("text/javascript")
    again = client.get("/static/page.js", headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304
    assert again.content == b""
    assert client.get("/static/page.js", headers={"If-None-Match": '"other"'}).status_code == 200
