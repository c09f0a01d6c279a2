"""Published weights: the hub's cache, a hub on this machine, torch.hub's folder, and no network."""

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import pytest
import safetensors.torch
import torch
import torchvision
from torch import nn

from headstart.backbones.registry import load_backbone
from headstart.errors import WeightsError

REPOSITORY = "timm/test_resnet.r160_in1k"
HUB_PATH = f"/{REPOSITORY}/resolve/main/model.safetensors"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SHUFFLENET = torchvision.models.ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1


@dataclass
class Server:
    """Files by path on a port of this machine, with the headers that the hub sends."""

    files: dict[str, bytes]
    url: str = ""
    requests: list[str] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    def __init__(self, server: Server, *args: object) -> None:
        self.of = server
        super().__init__(*args)  # type: ignore[arg-type]

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, with_body: bool) -> None:
        self.of.requests.append(f"{self.command} {self.path}")
        body = self.of.files.get(self.path)
        self.send_response(200 if body is not None else 404)
        if body is None:
            self.send_header("X-Error-Code", "EntryNotFound")
            body = b""
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the tests' output clean."""


@pytest.fixture(scope="module")
def published(tiny_resnet: nn.Module) -> bytes:
    return safetensors.torch.save(tiny_resnet.state_dict())


@pytest.fixture(scope="module")
def server(published: bytes) -> Iterator[Server]:
    state = Server({HUB_PATH: published})
    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, state))
    state.url = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    yield state
    http.shutdown()
    thread.join()
    http.server_close()


PROGRAM = """
import json
from headstart.backbones.registry import load_backbone
from headstart.errors import WeightsError
for name in ("timm/test_resnet", "timm/test_vit"):
    try:
        backbone = load_backbone(name, allow_network=True)
    except WeightsError as error:
        print(json.dumps({"error": str(error)}))
    else:
        print(json.dumps({"digest": backbone.digest("pooled"), "origin": backbone.weights.origin}))
"""


@pytest.fixture(scope="module")
def downloaded(
    server: Server, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[dict[str, str]]]:
    """Download as a user does: a fresh process, told by its environment where the hub is."""
    home = tmp_path_factory.mktemp("hf")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    environment |= {"HF_ENDPOINT": server.url, "HF_HOME": str(home), "NO_PROXY": "127.0.0.1"}
    environment |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    return home / "hub", [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def hub_cache(downloaded: tuple[Path, object], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(downloaded[0]))
    return downloaded[0]


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path


@pytest.fixture
def digest(tiny_resnet: nn.Module, tmp_path: Path) -> str:
    """What the published weights give when they are loaded from a plain file."""
    path = tmp_path / "plain.safetensors"
    safetensors.torch.save_file(tiny_resnet.state_dict(), path)
    return load_backbone("timm/test_resnet", weights=path).digest("pooled")


def test_weights_are_downloaded_from_the_hub(
    downloaded: tuple[Path, list[dict[str, str]]], server: Server, digest: str
) -> None:
    fetched, _ = downloaded[1]
    assert fetched["digest"] == digest
    assert fetched["origin"] == (
        "huggingface.co/timm/test_resnet.r160_in1k (model.safetensors, revision 0123456789ab)"
    )
    assert f"GET {HUB_PATH}" in server.requests


def test_a_download_that_breaks_off_is_one_error_with_its_reason(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class ReadError(Exception):
        """The hub's HTTP client has errors that are neither OSErrors nor the hub's own."""

    def break_off(*args: object, local_files_only: bool, **kwargs: object) -> str:
        raise FileNotFoundError if local_files_only else ReadError("peer closed connection")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", break_off)
    with pytest.raises(WeightsError, match="allowed, but: ReadError: peer closed connection"):
        load_backbone("timm/test_resnet", allow_network=True)


def test_what_the_hub_does_not_have_is_one_error_with_its_reason(
    downloaded: tuple[Path, list[dict[str, str]]],
) -> None:
    _, missing = downloaded[1]
    assert re.search("the network was allowed, but: .*404", missing["error"])
    assert "model.safetensors of huggingface.co/timm/test_vit.r160_in1k" in missing["error"]


def test_the_cache_of_the_hub_needs_no_network(
    hub_cache: Path, digest: str, no_network: None
) -> None:
    backbone = load_backbone("timm/test_resnet.r160_in1k")
    again = load_backbone("timm/test_resnet.r160_in1k", allow_network=True)
    assert again.digest("pooled") == digest
    assert backbone.digest("pooled") == digest
    assert backbone.weights.kind == "pretrained"
    assert backbone.weights.license == "apache-2.0"  # as timm states it for these weights


def test_a_damaged_file_in_the_cache_is_refused(
    hub_cache: Path, published: bytes, no_network: None
) -> None:
    (blob,) = (hub_cache / "models--timm--test_resnet.r160_in1k" / "blobs").iterdir()
    blob.write_bytes(published[:5000])
    try:
        with pytest.raises(WeightsError, match="damaged, or not a safetensors file"):
            load_backbone("timm/test_resnet")
    finally:
        blob.write_bytes(published)


def test_weights_of_another_network_in_the_cache_are_refused(
    hub_cache: Path, published: bytes, no_network: None
) -> None:
    (blob,) = (hub_cache / "models--timm--test_resnet.r160_in1k" / "blobs").iterdir()
    blob.write_bytes(safetensors.torch.save({"conv1.weight": torch.ones(1)}))
    try:
        with pytest.raises(WeightsError, match=r"belong to another network: .* missing"):
            load_backbone("timm/test_resnet")
    finally:
        blob.write_bytes(published)


@pytest.mark.parametrize(
    ("name", "wanted", "looked_in"),
    [
        (
            "timm/mobilenetv2_100",
            "model.safetensors of huggingface.co/timm/mobilenetv2_100.ra_in1k",
            "hub/models--timm--mobilenetv2_100.ra_in1k",
        ),
        (
            "torchvision/mobilenet_v2.IMAGENET1K_V1",
            "mobilenet_v2-b0353104.pth from https://download.pytorch.org/models/",
            "torch/hub/checkpoints/mobilenet_v2-b0353104.pth",
        ),
    ],
)
def test_without_a_network_one_error_names_the_file_and_three_ways(
    name: str, wanted: str, looked_in: str, empty_cache: Path, no_network: None
) -> None:
    with pytest.raises(WeightsError) as caught:
        load_backbone(name)
    message = str(caught.value)
    assert message.startswith(f"{name}: the pretrained weights are not on this machine.")
    assert f"wanted: {wanted}" in message
    assert f"looked in: {empty_cache / looked_in}" in message
    ways = ("allow the network", "put the file there by hand", "packaged/efficientnet-lite0")
    for number, way in enumerate(ways, start=1):
        assert re.search(rf"^  {number}\. .*{way}", message, re.MULTILINE)
    assert not (empty_cache / "torch" / "hub" / "checkpoints").exists()


def shufflenet_file() -> tuple[bytes, str]:
    """Return a file as torchvision publishes it, and its name with its hash."""
    path = Path(torch.hub.get_dir()) / "made.pth"
    path.parent.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():
        torch.save(torchvision.models.shufflenet_v2_x0_5(weights=None).state_dict(), path)
    content = path.read_bytes()
    path.unlink()
    return content, f"shufflenetv2_x0.5-{hashlib.sha256(content).hexdigest()[:10]}.pth"


def test_torchvision_weights_are_checked_against_the_hash_in_their_name(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch, no_network: None
) -> None:
    content, name = shufflenet_file()
    monkeypatch.setattr(SHUFFLENET.value, "url", f"https://download.pytorch.org/models/{name}")
    path = empty_cache / "torch" / "hub" / "checkpoints" / name
    path.parent.mkdir()
    path.write_bytes(content)
    backbone = load_backbone("torchvision/shufflenet_v2_x0_5")
    assert backbone.weights.kind == "pretrained"
    assert backbone.weights.origin.endswith(name)
    assert backbone.weights.license == "BSD-3-Clause"
    path.write_bytes(content[:-1] + b"?")
    with pytest.raises(WeightsError, match=f"{name} is damaged.*delete the file"):
        load_backbone("torchvision/shufflenet_v2_x0_5")


def test_torchvision_weights_are_downloaded_only_when_allowed(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    content, name = shufflenet_file()
    server.files[f"/models/{name}"] = content
    server.requests.clear()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(SHUFFLENET.value, "url", f"{server.url}/models/{name}")
    with pytest.raises(WeightsError, match="not on this machine"):
        load_backbone("torchvision/shufflenet_v2_x0_5")
    assert server.requests == []
    load_backbone("torchvision/shufflenet_v2_x0_5", allow_network=True)
    load_backbone("torchvision/shufflenet_v2_x0_5", allow_network=True)
    assert server.requests == [f"GET /models/{name}"]
    monkeypatch.setattr(SHUFFLENET.value, "url", f"{server.url}/models/none-12345678.pth")
    with pytest.raises(WeightsError, match=r"the network was allowed, but: .*404"):
        load_backbone("torchvision/shufflenet_v2_x0_5", allow_network=True)
