"""Ray's replicas answer as the server in one process does: the same tests, over real sockets.

Not repeated here is what Ray Serve does in its own way:

- Connections are those of its proxy: how long header lines may take and be, how many connections
  there may be, requests that are no HTTP (`test_serve_process`).
- It ends by itself: replicas finish what they have while the proxy sends them nothing new, so that
  nobody sees a server that is stopping.
- The log is written by other processes: what it says is looked up in their files, below.
- Requests that are made from the interface's description are put to the application itself
  (`test_bad_requests`), and it is the same application.
"""

import json
import os
import signal
import socket
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import test_bad_requests
import test_serve_app
import test_serve_origin
from serve_commands import running, until
from served_fakes import Colours, picture
from served_on_ray import SERVER, broken, several, write

from headstart._util.imports import available
from headstart._util.ray_local import begin
from headstart.errors import ConfigError, RunError
from headstart.serve import Limits
from headstart.serve.on_ray import Replicas, start

if not available("ray"):
    pytest.skip("Ray is not installed", allow_module_level=True)

# Bodies and answers.
test_one_raw_picture = test_serve_app.test_one_raw_picture
test_files_of_a_form = (
    test_serve_app.test_files_of_a_form_keep_their_names_and_order_and_a_bad_one_says_so
)
test_bad_samples = test_serve_app.test_nothing_but_bad_samples_is_an_error_that_names_the_reason
test_texts_pairs_and_sequences = test_serve_app.test_texts_pairs_and_sequences
test_several_models_answer_one_upload = test_serve_app.test_several_models_answer_one_upload
test_facts_about_the_models = test_serve_app.test_facts_about_the_models
test_an_explanation_of_a_picture = test_serve_app.test_an_explanation_of_a_picture
test_not_finite = test_serve_app.test_a_regression_that_is_not_finite_is_an_error_of_its_sample

# Requests that are refused.
test_what_cannot_be_answered = test_serve_app.test_a_request_that_cannot_be_answered_says_why
test_other_parameters = test_serve_app.test_other_parameters_that_are_malformed_are_nobodys_business
test_malformed_parameters_of_a_part = test_serve_app.test_malformed_parameters_of_a_part
test_unknown_paths_and_methods = (
    test_serve_app.test_unknown_paths_and_methods_have_the_same_form_of_error
)
test_the_key = test_serve_app.test_the_key_is_needed_where_something_is_computed_or_told
test_a_bug_is_not_shown_but_its_number_is = test_serve_app.test_a_bug_is_not_shown_but_its_number_is
test_six_hundred_bad_requests = test_bad_requests.test_six_hundred_bad_requests
test_other_pages = (
    test_serve_origin.test_other_pages_are_refused_and_the_own_page_and_programs_are_not
)
test_with_a_key_it_is_the_key_that_counts = (
    test_serve_origin.test_with_a_key_it_is_the_key_that_counts
)
test_on_the_loopback = (
    test_serve_origin.test_on_the_loopback_a_name_that_was_made_to_point_here_is_refused
)

# Limits and counters; the proxy hands a body on in pieces, and they are counted as they come.
test_too_large = test_serve_app.test_too_large_is_refused_before_it_is_read_and_while_it_is_read
test_too_many = test_serve_app.test_too_many_samples_and_too_many_pixels
test_explanations_are_few_at_a_time = test_serve_app.test_explanations_are_few_at_a_time
test_a_full_queue_and_a_slow_network = test_serve_app.test_a_full_queue_and_a_slow_network
test_counters = test_serve_app.test_counters

RED = picture((250, 20, 10))
PNG = {"content-type": "image/png"}
OpenApp = Callable[..., httpx2.Client]


@dataclass(frozen=True)
class Served:
    """What runs on the cluster: somebody's application under ``/other``, and ours."""

    folder: Path
    port: int
    serve: Any
    ray: Any
    end: Callable[[], None]

    @property
    def applications(self) -> set[str]:
        return set(self.serve.status().applications)


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder, port = tmp_path_factory.mktemp("served"), free_port()
    paths = [str(Path(__file__).parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        # Replicas import what the tests do. Set before Ray begins: its processes inherit it.
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
        patch.setenv("HEADSTART_CACHE", str(folder / "cache"))
        patch.setenv("HF_HUB_OFFLINE", "1")
        ray, began = begin(None, "these tests")
        assert began, "another test has left a cluster"
        stack.callback(ray.shutdown)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Ray's own, of its settings
            from ray import serve
        serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
        stack.callback(serve.shutdown)

        @serve.deployment(ray_actor_options={"num_cpus": 0})
        class Other:
            def __call__(self) -> str:
                return "somebody's"

        serve.run(Other.bind(), name="other", route_prefix="/other")
        end = start(several(folder), Limits(), Replicas(), host="127.0.0.1", port=port)
        stack.callback(end)
        yield Served(folder, port, serve, ray, end)


@pytest.fixture
def open_app(served: Served) -> Iterator[OpenApp]:
    """Return what starts an application, as the fixture of that name for one process."""
    with ExitStack() as stack:

        def begin_one(
            bundles: dict[str, object] | None = None,
            key: str | None = None,
            names: tuple[str, ...] | None = None,
            **limits: float,
        ) -> httpx2.Client:
            name = write(served.folder, bundles, key, names, limits)
            client = httpx2.Client(
                base_url=f"http://127.0.0.1:{served.port}",
                headers={SERVER: name},
                timeout=60,
                trust_env=False,
            )
            stack.callback(client.close)
            # It is made when it is first asked for: now, and not while a test looks at times.
            assert client.get("/health").status_code == 200
            return client

        yield begin_one


def test_a_crowd_gets_right_answers_or_is_told_to_come_again(open_app: OpenApp) -> None:
    client = open_app(max_queue=8, max_items=8)
    told: Counter[int] = Counter()
    labels: Counter[str] = Counter()

    def ask() -> None:
        for _ in range(20):
            reply = client.post("/predict", content=RED, headers=PNG)
            told[reply.status_code] += 1
            if reply.status_code == 200:
                labels[reply.json()["results"][0]["predictions"][0]["label"]] += 1
            else:
                assert int(reply.headers["retry-after"]) >= 1

    crowd = [threading.Thread(target=ask) for _ in range(16)]
    for one in crowd:
        one.start()
    for one in crowd:
        one.join(120)
    assert sum(told.values()) == 320
    assert set(told) <= {200, 503}
    assert set(labels) == {"red"}


def test_one_who_hangs_up_leaves_the_queue(open_app: OpenApp, served: Served) -> None:
    bundle = Colours()
    client = open_app({"a": bundle})
    bundle.go_on.clear()

    def waiting() -> int:
        return int(client.get("/health").json()["waiting"])

    head = (
        f"POST /predict HTTP/1.1\r\nHost: localhost\r\n{SERVER}: {client.headers[SERVER]}\r\n"
        f"Content-Type: image/png\r\nContent-Length: {len(RED)}\r\n\r\n"
    )
    with ExitStack() as stack:
        for _ in range(20):
            connection = socket.create_connection(("127.0.0.1", served.port), timeout=20)
            stack.enter_context(connection).sendall(head.encode() + RED)
        until(lambda: waiting() == 20)
    until(lambda: waiting() <= bundle.batch_size)  # what is being computed
    bundle.go_on.set()
    until(lambda: waiting() == 0)
    assert client.post("/predict", content=RED, headers=PNG).status_code == 200


def test_the_number_of_a_request_is_told_once(open_app: OpenApp) -> None:
    client = open_app()
    given = client.get("/health", headers={"x-request-id": "abc-1"})
    assert given.headers.get_list("x-request-id") == ["abc-1"]
    assert len(client.get("/health").headers.get_list("x-request-id")) == 1
    # One that we do not take goes back as it came; ours, which is in the log, is beside it.
    both = client.get("/health", headers={"x-request-id": "a b"}).headers.get_list("x-request-id")
    assert len(both) == 2
    assert "a b" in both


def test_the_log_of_the_replicas_is_lines_of_json_and_nothing_of_what_was_sent(
    open_app: OpenApp, served: Served
) -> None:
    client = open_app(key="geheim")
    said = {"x-api-key": "geheim", "x-request-id": "looked-up-1"}
    client.post("/predict?model=letters", json={"texts": ["private words", "b"]}, headers=said)
    logs = Path(served.ray._private.worker._global_node.get_logs_dir_path())
    found: list[str] = []

    def written() -> bool:
        found[:] = [
            line
            for path in logs.glob("worker-*.err")
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines()
            if "looked-up-1" in line
        ]
        return bool(found)

    until(written)
    [line] = map(json.loads, found)
    assert (line["id"], line["status"], line["samples"]) == ("looked-up-1", 200, 2)
    assert "private" not in found[0]
    assert "geheim" not in found[0]


def test_a_replica_that_is_lost_comes_again(open_app: OpenApp, served: Served) -> None:
    client = open_app()

    def replicas() -> set[str]:
        named = served.ray.util.list_named_actors(all_namespaces=True)
        names = {one["name"] for one in named}
        return {name for name in names if name.startswith("SERVE_REPLICA::headstart#")}

    def answers() -> bool:
        return client.post("/predict", content=RED, headers=PNG).status_code == 200

    [lost] = replicas()
    served.ray.kill(served.ray.get_actor(lost, namespace="serve"), no_restart=True)
    until(lambda: lost not in replicas())
    until(answers, 120)
    assert len(replicas()) == 1


def test_more_replicas_than_there_is_room_for_are_refused_at_once(served: Served) -> None:
    began = time.monotonic()
    for many in (Replicas(1000, 1000), Replicas(1, 1, cores=1000.0), Replicas(1, 1, 1.0, 64.0)):
        with pytest.raises(ConfigError, match=r"--replicas: expected at most \d+, got"):
            start(broken, Limits(), many, host="127.0.0.1", port=served.port)
    assert time.monotonic() - began < 10


def test_where_ray_serve_listens_elsewhere_or_serves_such_a_thing_it_is_left_alone(
    served: Served,
) -> None:
    with pytest.raises(RunError, match=f"--host and --port: expected 127.0.0.1 and {served.port}"):
        start(broken, Limits(), Replicas(), host="127.0.0.1", port=served.port + 1)
    with pytest.raises(RunError, match="'headstart' is on this cluster already and is RUNNING"):
        start(broken, Limits(), Replicas(), host="127.0.0.1", port=served.port)
    assert served.applications == {"headstart", "other"}


def command(bundle: Path, served: Served, port: int) -> tuple[str, ...]:
    """Return what serves a bundle on the cluster of these tests, from another process."""
    address = served.ray.get_runtime_context().gcs_address
    return ("serve", str(bundle), "--engine", "ray", "--port", str(port), "--address", address)


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("beside", "said"), [(0, "'headstart' is on this cluster already"), (1, "--host and --port:")]
)
def test_a_second_command_on_a_cluster_leaves_the_first_one_alone(
    served: Served, tiny_bundle: Path, beside: int, said: str
) -> None:
    with running(*command(tiny_bundle, served, served.port + beside)) as (process, told):
        until(lambda: process.poll() is not None, 120)
    assert process.returncode != 0
    assert said in "".join(told)
    assert served.applications == {"headstart", "other"}


# The last ones: nothing of ours is served after the first of them.
@pytest.mark.cluster
def test_its_end_and_its_failure_leave_other_applications_alone(served: Served) -> None:
    served.end()
    assert served.applications == {"other"}
    with pytest.raises(RunError, match=r"the replicas do not start: .*it is broken"):
        start(broken, Limits(), Replicas(), host="127.0.0.1", port=served.port)
    assert served.applications == {"other"}
    address = f"http://127.0.0.1:{served.port}/other"
    assert httpx2.get(address, timeout=60, trust_env=False).text == "somebody's"


@pytest.mark.cluster
def test_a_command_on_somebodys_cluster_ends_what_it_began_and_nothing_else(
    served: Served, tiny_bundle: Path
) -> None:
    served.end()
    address = f"http://127.0.0.1:{served.port}"
    with running(*command(tiny_bundle, served, served.port)) as (process, told):
        until(lambda: process.poll() is not None or "serving tiny on" in "".join(told), 120)
        assert process.poll() is None, "".join(told)
        assert served.applications == {"headstart", "other"}

        def answers() -> bool:
            reply = httpx2.post(
                f"{address}/predict", content=RED, headers=PNG, timeout=60, trust_env=False
            )
            return reply.status_code == 200

        until(answers)  # the proxy may hear of it a little later
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0, "".join(told)
    assert served.applications == {"other"}
    assert httpx2.get(f"{address}/other", timeout=60, trust_env=False).text == "somebody's"
