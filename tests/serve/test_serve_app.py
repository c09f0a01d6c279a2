"""The HTTP interface: what comes back for what is sent."""

import json
import logging
import random
import re
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from served_fakes import COLOURS, Broken, Colours, Letters, Sums, picture
from starlette.testclient import TestClient

from headstart.errors import ConfigError
from headstart.serve import Limits, create_app

OpenApp = Callable[..., TestClient]
RED, BLUE = picture((250, 20, 10)), picture((10, 30, 240), "JPEG")
PNG = {"content-type": "image/png"}


def row_of(prediction: dict[str, object]) -> list[float]:
    top = {one["label"]: one["probability"] for one in prediction["top"]}  # type: ignore[attr-defined]
    return [top[label] for label in COLOURS]


def test_one_raw_picture(open_app: OpenApp) -> None:
    reply = open_app().post("/predict", content=RED, headers=PNG)
    assert reply.status_code == 200
    [result] = reply.json()["results"]
    assert (result["model"], result["goal"]) == ("colours", "classification")
    [said] = result["predictions"]
    assert said["label"] == "red"
    assert row_of(said) == pytest.approx(Colours().expected(RED), abs=1e-6)


def test_files_of_a_form_keep_their_names_and_order_and_a_bad_one_says_so(
    open_app: OpenApp,
) -> None:
    files = [("blaü.jpg", BLUE), ("none.jpg", b"GIF8"), ("red.png", RED)]
    reply = open_app().post("/predict?top=1", files=[("file", file) for file in files])
    assert reply.status_code == 200
    first, bad, last = reply.json()["results"][0]["predictions"]
    assert (first["input"], first["label"], len(first["top"])) == ("blaü.jpg", "blue", 1)
    assert bad["input"] == "none.jpg"
    assert "not a picture" in bad["error"]
    assert (last["input"], last["label"]) == ("red.png", "red")


def test_nothing_but_bad_samples_is_an_error_that_names_the_reason(open_app: OpenApp) -> None:
    reply = open_app().post("/predict", content=RED[:45], headers=PNG)
    assert reply.status_code == 422
    assert "damaged or cut off" in reply.json()["error"]["message"]


def test_texts_pairs_and_sequences(open_app: OpenApp) -> None:
    client = open_app()

    def said(model: str, body: object) -> list[dict[str, object]]:
        reply = client.post(f"/predict?model={model}", json=body)
        assert reply.status_code == 200, reply.text
        predictions: list[dict[str, object]] = reply.json()["results"][0]["predictions"]
        return predictions

    [one] = said("letters", {"text": "aeiou"})
    assert (one["input"], one["label"]) == ("aeiou", "vowels")
    labels = [one.get("label") for one in said("letters", {"texts": ["bcd", " ", "aia"]})]
    assert labels == ["consonants", None, "vowels"]
    assert len(said("pairs", {"pairs": [["a", "b"], ["c", "d"]]})) == 2
    assert said("sums", {"values": [[1, 2], [3, 4.5]]})[0]["value"] == 10.5
    sequences = {"sequences": [[[1, 2]], [[3, 4], [5, 6]]]}
    assert [one["value"] for one in said("sums", sequences)] == [3, 18]


def test_several_models_answer_one_upload(open_app: OpenApp) -> None:
    client = open_app({"a": Colours(), "words": Letters(), "b": Colours()})
    for query, names in {
        "": ["a"],
        "?model=b": ["b"],
        "?model=b&model=a&model=b": ["b", "a"],
        "?model=all": ["a", "b"],  # of those that read pictures
    }.items():
        reply = client.post(f"/predict{query}", content=RED, headers=PNG)
        assert [result["model"] for result in reply.json()["results"]] == names


@pytest.mark.parametrize(
    ("address", "body", "kind", "status", "code", "said"),
    [
        ("/predict?model=colour", RED, "image/png", 404, "unknown_model", "colours"),
        ("/predict?model=letters", RED, "image/png", 422, "wrong_input", "reads texts"),
        ("/predict?model=all", b'{"pairs": 1}', "application/json", 422, "bad_input", "expected"),
        ("/predict?top=0", RED, "image/png", 422, "bad_parameter", "top"),
        ("/predict?top=many", RED, "image/png", 422, "bad_parameter", "top"),
        ("/predict", RED, "text/plain", 415, "unknown_type", "text/plain"),
        ("/predict", RED, "", 415, "unknown_type", "Content-Type"),
        ("/predict", b"", "image/png", 400, "bad_body", "empty"),
        ("/predict?model=sums", b"[1", "application/json", 400, "bad_json", "no JSON"),
        ("/predict?model=sums", b'{"values": [[NaN, 1]]}', "application/json", 400, "bad_json", ""),
        ("/predict?model=sums", b"[" * 99999, "application/json", 400, "bad_json", ""),
        ("/predict?model=sums", b'{"text": "a"}', "application/json", 422, "wrong_input", ""),
        ("/predict?model=sums", b'{"values": [[1e39, 1]]}', "application/json", 422, "", "numbers"),
        ("/predict?model=sums", b'{"values": [[1]]}', "application/json", 422, "", "2 numbers"),
        ("/predict", b"--x", "multipart/form-data; boundary=x", 400, "bad_body", ""),
        ("/predict", b"", "multipart/form-data", 400, "bad_body", "boundary"),
        ("/predict", b"x", "multipart/form-data; boundary*0*;boundary*", 400, "bad_body", "Type"),
        ("/explain?method=guess", RED, "image/png", 422, "bad_parameter", "method"),
        ("/explain?label=pink", RED, "image/png", 422, "bad_parameter", "pink"),
        ("/explain?model=sums", b'{"values": [[1, 1]]}', "application/json", 422, "", "sequences"),
    ],
)
def test_a_request_that_cannot_be_answered_says_why(
    open_app: OpenApp, address: str, body: bytes, kind: str, status: int, code: str, said: str
) -> None:
    reply = open_app().post(address, content=body, headers={"content-type": kind} if kind else {})
    assert reply.status_code == status, reply.text
    error = reply.json()["error"]
    assert error["code"] == code or not code
    assert said in error["message"]


def test_other_parameters_that_are_malformed_are_nobodys_business(open_app: OpenApp) -> None:
    body = b'--B\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + RED + b"\r\n--B--\r\n"
    client = open_app()
    for kind in ("multipart/form-data; name*0*; name*; boundary=B", "application/json; a*0*;a*"):
        reply = client.post("/predict", content=body, headers={"content-type": kind})
        assert reply.status_code in (200, 400, 422), reply.text


def test_malformed_parameters_of_a_part(open_app: OpenApp) -> None:
    client = open_app()
    rng = random.Random(3)
    words = (";", "name", "filename", "*", "0", "1", "=", '"', "'", "utf-8", "%ff", "\\", "é", "\0")
    heads = [
        "name*0*;name*",
        *("".join(rng.choices(words, k=rng.randrange(1, 10))) for _ in "x" * 400),
    ]
    for head in heads:
        line = f'Content-Disposition: form-data; name="file"; {head}'
        body = b"--B\r\n" + line.encode() + b"\r\n\r\n" + RED + b"\r\n--B--\r\n"
        kind = {"content-type": "multipart/form-data; boundary=B"}
        reply = client.post("/predict", content=body, headers=kind)
        assert reply.status_code in (200, 400), (head, reply.text)


def test_unknown_paths_and_methods_have_the_same_form_of_error(open_app: OpenApp) -> None:
    client = open_app()
    assert client.get("/nothing").json()["error"]["code"] == "not_found"
    reply = client.get("/predict")
    assert reply.status_code == 405
    assert reply.headers["allow"] == "POST"
    assert reply.json()["error"]["code"] == "wrong_method"
    # No redirection, which would lead to whatever the client says that this server is called.
    reply = client.get("/predict/", headers={"host": "evil.example"}, follow_redirects=False)
    assert (reply.status_code, "location" in reply.headers) == (404, False)


def test_facts_about_the_models(open_app: OpenApp) -> None:
    client = open_app()
    labels = client.get("/labels?model=colours").json()["labels"]
    assert labels == [{"model": "colours", "classes": list(COLOURS)}]
    assert len(client.get("/labels").json()["labels"]) == 4
    models = client.get("/models").json()["models"]
    assert [model["task"] for model in models] == ["image", "text", "pair", "sequence"]
    health = client.get("/health")
    assert (health.status_code, health.json()["status"]) == (200, "ok")


def test_an_explanation_of_a_picture(open_app: OpenApp) -> None:
    reply = open_app().post(
        "/explain?label=blue", content=BLUE, headers={"content-type": "image/jpeg"}
    )
    assert reply.status_code == 200, reply.text
    said = reply.json()
    assert (said["model"], said["label"], said["method"]) == ("colours", "blue", "occlusion")
    assert np.array(said["grid"]).min() >= 0
    assert len(said["box"]) == 4


def test_explanations_are_few_at_a_time(open_app: OpenApp) -> None:
    bundle = Colours()
    client = open_app({"a": bundle}, max_explanations=1)
    bundle.go_on.clear()
    statuses: list[int] = []

    def ask() -> None:
        statuses.append(client.post("/explain", content=RED, headers=PNG).status_code)

    first = threading.Thread(target=ask)
    first.start()
    assert bundle.computing.wait(10)
    ask()
    bundle.go_on.set()
    first.join(20)
    ask()
    assert statuses == [503, 200, 200]


def test_the_key_is_needed_where_something_is_computed_or_told(open_app: OpenApp) -> None:
    client = open_app(key="ключ-1")
    for path in ("/labels", "/models", "/metrics"):
        assert client.get(path).status_code == 401
    wrong = {"authorization": "Bearer other"}
    refused = client.post("/predict", content=RED, headers=PNG | wrong)
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    assert client.get("/health").status_code == 200
    assert client.get("/openapi.json").status_code == 200
    for name, value in (("x-api-key", "ключ-1"), ("authorization", "bearer ключ-1")):
        assert client.get("/models", headers=[(name, value.encode())]).status_code == 200


def test_too_large_is_refused_before_it_is_read_and_while_it_is_read(open_app: OpenApp) -> None:
    client = open_app(max_bytes=1_000, max_json_bytes=100)
    big = client.post("/predict", content=b"x" * 1_001, headers=PNG)
    assert (big.status_code, big.json()["error"]["code"]) == (413, "too_large")

    def pieces() -> "object":
        yield from (b"x" * 100 for _ in range(10_000))

    chunked = client.post("/predict", content=pieces(), headers=PNG)  # type: ignore[arg-type]
    assert chunked.status_code == 413
    kind = {"content-type": "application/json"}
    text = client.post("/predict?model=letters", content=b" " * 101, headers=kind)
    assert text.status_code == 413


def test_too_many_samples_and_too_many_pixels(open_app: OpenApp) -> None:
    client = open_app(max_items=2, max_pixels=400)
    many = client.post("/predict?model=letters", json={"texts": ["a"] * 3})
    assert (many.status_code, many.json()["error"]["code"]) == (413, "too_many")
    files = [("file", (f"{i}.png", RED)) for i in range(3)]
    assert client.post("/predict", files=files).status_code == 413
    large = client.post("/predict", content=picture((1, 2, 3), side=21), headers=PNG)
    assert large.status_code == 422
    assert "441 pixels, the limit is 400" in large.json()["error"]["message"]
    assert client.post("/predict", content=picture((1, 2, 3), side=20), headers=PNG).is_success


def test_a_full_queue_and_a_slow_network(open_app: OpenApp) -> None:
    bundle = Colours()
    client = open_app({"a": bundle}, max_queue=2, max_items=2, timeout_seconds=0.4)
    bundle.go_on.clear()
    statuses = []

    def ask() -> None:
        began = time.monotonic()
        reply = client.post("/predict", content=RED, headers=PNG)
        statuses.append(reply.status_code)
        assert time.monotonic() - began < 10
        if reply.status_code == 503:
            assert int(reply.headers["retry-after"]) >= 1

    threads = [threading.Thread(target=ask) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(statuses) == [503, 503, 503, 504, 504]
    bundle.go_on.set()
    while client.get("/health").json()["waiting"]:
        time.sleep(0.01)
    assert client.post("/predict", content=RED, headers=PNG).status_code == 200


def test_a_bug_is_not_shown_but_its_number_is(open_app: OpenApp) -> None:
    reply = open_app({"a": Broken()}).post("/predict", content=RED, headers=PNG)
    assert reply.status_code == 500
    assert "ZeroDivisionError" not in reply.text
    assert reply.headers["x-request-id"] in reply.json()["error"]["message"]


def test_a_bug_is_logged_with_its_number(
    open_app: OpenApp, caplog: pytest.LogCaptureFixture
) -> None:
    client = open_app({"a": Broken()})
    with caplog.at_level(logging.INFO, "headstart.serve"):
        reply = client.post("/predict", content=RED, headers=PNG)
    [record] = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert record.exc_info
    assert record.__dict__["fields"]["id"] == reply.headers["x-request-id"]


def test_the_log_has_one_line_of_json_for_a_request_and_nothing_of_what_was_sent(
    open_app: OpenApp, caplog: pytest.LogCaptureFixture
) -> None:
    from headstart.serve.logs import JsonLines

    client = open_app(key="geheim")
    with caplog.at_level(logging.INFO, "headstart.serve"):
        client.post(
            "/predict?model=letters",
            json={"texts": ["private words", "b"]},
            headers={"x-api-key": "geheim", "x-request-id": "abc-1"},
        )
    [record] = caplog.records
    text = JsonLines().format(record)
    line = json.loads(text)
    assert (line["id"], line["status"], line["samples"]) == ("abc-1", 200, 2)
    assert line["milliseconds"] > 0
    assert {"time", "level", "event", "client", "method", "path"} <= line.keys()
    assert "private" not in text
    assert "geheim" not in text


def test_counters(open_app: OpenApp) -> None:
    client = open_app()
    for _ in range(3):
        client.post("/predict", content=RED, headers=PNG)
    client.post("/predict?model=letters", json={"texts": ["a", ""]})
    client.get("/nothing/" + "x" * 50)
    text = client.get("/metrics").text
    assert 'headstart_requests_total{route="/predict",status="200"} 4.0' in text
    assert 'headstart_requests_total{route="other",status="404"} 1.0' in text
    assert 'headstart_samples_total{model="letters",outcome="failed"} 1.0' in text
    assert 'headstart_queue_samples{model="colours"} 0.0' in text
    assert re.search(r'headstart_batch_samples_count\{model="colours"\} 3\.0', text)


def test_a_stopping_server_finishes_and_takes_nothing_new(open_app: OpenApp) -> None:
    client = open_app()
    client.app.state.service.stopping = True  # type: ignore[attr-defined]
    assert client.get("/health").status_code == 503
    refused = client.post("/predict", content=RED, headers=PNG)
    assert (refused.status_code, "retry-after" in refused.headers) == (503, True)


def test_limits_that_could_never_work_are_refused() -> None:
    with pytest.raises(ConfigError, match="max_queue"):
        Limits(max_queue=8, max_items=9)
    with pytest.raises(ConfigError, match="workers"):
        Limits(workers=0)
    for name in ("timeout_seconds", "max_wait_ms", "idle_seconds", "header_seconds"):
        for value in (float("inf"), float("nan"), 1e300, -1.0):
            with pytest.raises(ConfigError, match=f"{name}: expected"):
                Limits(**{name: value})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="at least one bundle"):
        create_app({})


def test_a_regression_that_is_not_finite_is_an_error_of_its_sample(open_app: OpenApp) -> None:
    client = open_app({"sums": Sums()})
    reply = client.post("/predict", json={"sequences": [[[3e38, 3e38]], [[1, 1]]]})
    bad, good = reply.json()["results"][0]["predictions"]
    assert "finite" in bad["error"]
    assert good["value"] == 2
