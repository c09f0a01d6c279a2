"""What every test shares: its own cache, no network."""

import ctypes
import gc
import os
import shutil
import signal
import sys
from collections.abc import Iterator

import pytest


def pytest_configure() -> None:
    """Hear Ctrl-C as in a terminal: what a shell begins in the background is told to ignore it.

    Processes that tests begin would ignore it too, and wait for ever.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test an empty cache, and no way to a hub."""
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Leave the other cores to the other tests: threads that wait for each other are slow."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", autouse=True)
def memory_given_back() -> Iterator[None]:
    """Give freed memory back to the machine: a worker that runs for minutes would keep gigabytes.

    A worker that the kernel ends for want of memory takes its tests with it.
    """
    yield
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of the GNU C library
        if trim is not None:
            trim(0)


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """A headless Chromium, for tests that look at a page; they are skipped where there is none."""
    from playwright.sync_api import sync_playwright

    named = [os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome"]
    with sync_playwright() as tool:
        installed = (path for name in named if name and (path := shutil.which(name)))
        program = next(installed, tool.chromium.executable_path)
        if not os.path.exists(program):
            pytest.skip("no Chromium on this machine: `make browser` installs it")
        launched = tool.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield launched
        launched.close()
