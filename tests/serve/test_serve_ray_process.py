"""`headstart serve --engine ray` as people run it: a process, its own cluster, a signal."""

import contextlib
import ipaddress
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import httpx2
import pytest
from serve_commands import running, until
from served_fakes import picture

from headstart._util.devices import usable_cores
from headstart._util.imports import available

if not available("ray"):
    pytest.skip("Ray is not installed", allow_module_level=True)

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def family(process: int) -> set[int]:
    """Return a process and all that descend from it."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found, more = set[int](), {process}
    while more:
        found |= more
        more = {one for one, parent in parents.items() if parent in found} - found
    return found


def is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"  # it has ended, and nobody has asked how


def listening(processes: set[int]) -> set[tuple[IPAddress, int]]:
    """Return the addresses and ports on which processes take connections."""
    inodes: set[str] = set()
    for process in processes:
        for file in Path(f"/proc/{process}/fd").glob("*"):
            with contextlib.suppress(OSError):
                found = re.fullmatch(r"socket:\[(\d+)\]", str(file.readlink()))
                inodes |= {found[1]} if found else set()
    places: set[tuple[IPAddress, int]] = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "0A" and inode in inodes:
                address, _, port = local.partition(":")
                places.add((address_of(address), int(port, 16)))
    return places


def address_of(words: str) -> IPAddress:
    """Return an address that Linux writes in words of four bytes, each the wrong way round."""
    each = [bytes.fromhex(words[i : i + 8])[::-1] for i in range(0, len(words), 8)]
    address = ipaddress.ip_address(b"".join(each))
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped


def is_replica(process: int) -> bool:
    try:
        return b"ServeReplica" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False  # it has ended


def served_at(process: subprocess.Popen[str], told: list[str], most: int = 1) -> re.Match[str]:
    """Return what the command says it serves, once it answers: the address and its port."""
    serving = re.compile(rf"serving tiny on (http://127\.0\.0\.1:(\d+)), 1 to {most} replicas")
    until(lambda: process.poll() is not None or bool(serving.search("".join(told))), 300)
    found = serving.search("".join(told))
    assert found, "".join(told)
    return found


def ask(where: str) -> httpx2.Response:
    return httpx2.post(
        f"{where}/predict",
        content=picture((250, 20, 10)),
        headers={"content-type": "image/png"},
        timeout=60,
        trust_env=False,
    )


@pytest.mark.cluster
@pytest.mark.skipif(sys.platform != "linux", reason="replicas are counted in /proc")
@pytest.mark.skipif(usable_cores() < 2, reason="needs a core for each replica")
def test_more_replicas_answer_where_many_ask(tiny_bundle: Path) -> None:
    words = ("--engine", "ray", "--port", "0", "--max-queue", "8", "--max-items", "8")
    more = ("--replicas", "1", "--max-replicas", "2", "--threads", "1")
    told_codes: Counter[int] = Counter()
    enough = threading.Event()
    with running("serve", str(tiny_bundle), *words, *more) as (process, told):
        where = served_at(process, told, most=2)[1]

        def replicas() -> int:
            return sum(map(is_replica, family(process.pid)))

        def crowd() -> None:
            while not enough.is_set():
                told_codes[ask(where).status_code] += 1

        assert replicas() == 1
        askers = [threading.Thread(target=crowd) for _ in range(8)]
        for asker in askers:
            asker.start()
        try:
            until(lambda: replicas() == 2, 180)  # Ray Serve waits half a minute before it begins
        finally:
            enough.set()
            for asker in askers:
                asker.join(60)
        assert set(told_codes) <= {200, 503}
        assert told_codes[200] > 100
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0, "".join(told)


@pytest.mark.cluster
@pytest.mark.skipif(sys.platform != "linux", reason="who listens where is read from /proc")
def test_the_command_serves_on_the_loopback_alone_and_ends_with_the_signal(
    tiny_bundle: Path,
) -> None:
    with running("serve", str(tiny_bundle), "--engine", "ray", "--port", "0") as (process, told):
        found = served_at(process, told)
        reply = ask(found[1])
        assert reply.status_code == 200, reply.text
        assert reply.json()["results"][0]["predictions"][0]["label"] in "abc"
        began = family(process.pid)
        places = listening(began)
        assert (ipaddress.ip_address("127.0.0.1"), int(found[2])) in places
        assert listening(set(filter(is_replica, began)))  # its calls come by a port of its own
        assert {address for address, _ in places if not address.is_loopback} == set()
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0, "".join(told)
        assert "Traceback" not in "".join(told)
    until(lambda: not any(map(is_running, began)), 30)
