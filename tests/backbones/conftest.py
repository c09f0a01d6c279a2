"""What the tests of backbones share: no network, one thread, small weight files."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from torch import nn

from headstart.backbones.weights import seeded


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Leave the other cores to the other tests: threads that wait for each other are slow."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail whoever opens a connection or asks for an address."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError(f"the network was touched: {args[1:]}")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="session")
def tiny_resnet() -> nn.Module:
    """timm's test_resnet (470 thousand parameters) with weights that no seed of ours gives."""
    with seeded(99, "not a stream of Headstart"):
        return timm.create_model("test_resnet").eval()


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes named tensors to a file: saved(state, "name.safetensors")."""

    def save(state: dict[str, torch.Tensor], name: str = "model.safetensors") -> Path:
        path = tmp_path / name
        if path.suffix == ".safetensors":
            safetensors.torch.save_file({k: v.contiguous() for k, v in state.items()}, path)
        else:
            torch.save(state, path)
        return path

    return save
