"""`python -m benchmarks.serving BUNDLE FOLDER`: a server under load, beside what its engine can do.

The server is a process of its own, the clients are another: asyncio on plain sockets that are kept
open, so that they take little of the processor. Every answer is compared with `bundle.predict`.
The engine is measured in this process, before and after, while the server has nothing to do.
Then ten times as many clients come: only answers and 503 may be seen, and the memory must stay.
With `--engine ray -- --replicas 2` the server is replicas on a Ray cluster of this machine: time
and memory are then those of all its processes.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

_PICTURES = 256  # different pictures that are sent
_AGREE = 1e-4  # probabilities of one picture in different batches
_PAUSE = 0.2  # seconds that a refused client waits: less than it is asked to


async def _client(  # one connection, one request after the other
    address: tuple[str, int],
    work: "asyncio.Queue[int]",
    pictures: list[tuple[bytes, dict[str, float]]],
    found: dict[str, Any],
) -> None:
    reader, writer = await asyncio.open_connection(*address)
    while not work.empty():
        data, expected = pictures[work.get_nowait() % len(pictures)]
        head = (
            "POST /predict?top=1000 HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
            f"Content-Length: {len(data)}\r\n\r\n"
        )
        began = time.perf_counter()
        writer.write(head.encode() + data)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"(?i)content-length: (\d+)", answer)[1])  # type: ignore[index]
        body = await reader.readexactly(length)
        status = answer[9:12].decode()
        found["statuses"][status] = found["statuses"].get(status, 0) + 1
        if status == "200":
            found["seconds"].append(time.perf_counter() - began)
            top = json.loads(body)["results"][0]["predictions"][0]["top"]
            got = {one["label"]: one["probability"] for one in top}
            assert got.keys() == expected.keys(), (got, expected)
            found["worst"] = max(found["worst"], *(abs(got[k] - p) for k, p in expected.items()))
        else:
            await asyncio.sleep(_PAUSE)
    writer.close()


async def _clients(port: int, count: int, requests: int, source: Path) -> dict[str, Any]:
    named = json.loads(source.read_text())
    pictures = [(Path(name).read_bytes(), row) for name, row in named]
    work: asyncio.Queue[int] = asyncio.Queue()
    for i in range(requests):
        work.put_nowait(i)
    found: dict[str, Any] = {"statuses": {}, "seconds": [], "worst": 0.0}
    began = time.perf_counter()
    await asyncio.gather(
        *(_client(("127.0.0.1", port), work, pictures, found) for _ in range(count))
    )
    found["wall"] = time.perf_counter() - began
    found["cpu"] = time.process_time()
    return found


def _load(port: int, count: int, requests: int, source: Path) -> dict[str, Any]:
    """Run the clients in a process of their own."""
    numbers = [str(port), str(count), str(requests)]
    command = [sys.executable, "-m", "benchmarks.serving", "--clients-only", *numbers, str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    if done.returncode:
        raise SystemExit(f"the clients failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _family(process: int) -> list[int]:
    """Return a process and all that descend from it: on Ray the work is done by those."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found: list[int] = []
    more = [process]
    while more:
        found += more
        more = [one for one, parent in parents.items() if parent in more]
    return found


def _memory_mb(process: int) -> tuple[float, float]:
    """Return what a process and its own hold in memory, now and at most, in MB."""
    sums = {"VmRSS": 0, "VmHWM": 0}
    for one in _family(process):
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{one}/status").read_text()
            for key in sums:
                found = re.search(rf"{key}:\s+(\d+)", status)
                sums[key] += int(found[1]) if found else 0  # none: it ends just now
    return sums["VmRSS"] / 1000, sums["VmHWM"] / 1000


def _cpu_seconds(process: int) -> float:
    """Return the processor time that a process and its own have taken."""
    ticks = 0
    for one in _family(process):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _engine(bundle: Any, samples: list[bytes]) -> dict[str, float]:
    """Return samples a second, of encoded pictures and of prepared ones, and processor time."""
    bundle.predict(samples[: bundle.batch_size])
    cpu, began = time.process_time(), time.perf_counter()
    bundle.predict(samples)
    rate = len(samples) / (time.perf_counter() - began)
    cpu = (time.process_time() - cpu) / len(samples)
    size = bundle.batch_size
    rows = [bundle.prepare(data) for data in samples]
    began = time.perf_counter()
    for start in range(0, len(rows), size):
        bundle.predict_prepared(rows[start : start + size])
    return {"rate": rate, "cpu": cpu, "alone": len(rows) / (time.perf_counter() - began)}


def _start(bundle: Path, options: list[str], log: Path) -> tuple[subprocess.Popen[bytes], int]:
    command = [sys.executable, "-m", "headstart", "serve", str(bundle), "--port", "0", *options]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stderr=file, stdout=file)
    for _ in range(3000):  # Ray takes its time
        found = re.search(r"on http://127\.0\.0\.1:(\d+)", log.read_text())
        if found:
            return process, int(found[1])
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise SystemExit(f"the server did not start:\n{log.read_text()[-2000:]}")


def measure(given: argparse.Namespace) -> None:
    """Measure and print."""
    from headstart.predict import load_bundle

    paths = sorted(p for p in given.folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg"))
    chosen = random.Random(0).sample(paths, min(_PICTURES, len(paths)))
    samples = [path.read_bytes() for path in chosen]
    options = ["--engine", given.engine] if given.engine else []
    options += given.options
    with (
        load_bundle(given.bundle, engine=None if given.engine == "ray" else given.engine) as bundle,
        tempfile.TemporaryDirectory() as t,
    ):
        log = Path(t) / "server.log"
        process, port = _start(given.bundle, options, log)
        try:
            expected = Path(t) / "expected.json"
            labelled = [
                dict(zip(bundle.info.classes, row.tolist(), strict=True))
                for row in bundle.predict(samples)
            ]
            named = zip(map(str, chosen), labelled, strict=True)
            expected.write_text(json.dumps(list(named)))
            print(f"{len(samples)} pictures of {len(b''.join(samples)) // len(samples):,} bytes")
            _load(port, given.clients, 2 * given.clients, expected)  # warm
            memory = _memory_mb(process.pid)[0]
            rounds = []
            for _ in range(given.rounds):
                before = _engine(bundle, samples)
                cpu = _cpu_seconds(process.pid)
                load = _load(port, given.clients, given.requests // given.rounds, expected)
                load["server_cpu"] = (_cpu_seconds(process.pid) - cpu) / len(load["seconds"])
                rounds.append((before, load, _engine(bundle, samples)))
                _print_round(*rounds[-1])
            _print(given.clients, rounds)
            # More requests too: most are refused, and that takes no time.
            crowd = _load(port, 10 * given.clients, 5 * given.requests, expected)
            told = dict(sorted(crowd["statuses"].items()))
            good = told.get("200", 0) / crowd["wall"]
            print(f"{10 * given.clients} clients: {told}, {good:.0f} answers a second")
            now, most = _memory_mb(process.pid)
            print(
                f"memory of the server: {memory:.0f} MB warm, {now:.0f} MB after, {most:.0f} most"
            )
            wrong = set(told) - {"200", "503"}
            worst = max(crowd["worst"], *(load["worst"] for _, load, _ in rounds))
            print(f"largest difference to bundle.predict: {worst:.1e}")
            if wrong or worst > _AGREE:
                raise SystemExit(f"wrong statuses {wrong or 'none'}, or answers that differ")
        finally:
            process.send_signal(signal.SIGTERM)
            print(f"the server ended with status {process.wait(60)}")


def _print_round(before: dict[str, float], load: dict[str, Any], after: dict[str, float]) -> None:
    rate = len(load["seconds"]) / load["wall"]
    print(
        f"  server {rate:.1f} a second, {1000 * load['server_cpu']:.1f} ms of processor time each; "
        f"bundle.predict before and after {before['rate']:.1f}, {after['rate']:.1f} a second, "
        f"{1000 * before['cpu']:.1f}, {1000 * after['cpu']:.1f} ms; its network alone "
        f"{before['alone']:.1f}, {after['alone']:.1f} a second; clients "
        f"{load['cpu'] / load['wall']:.0%} of a core",
        flush=True,
    )


def _print(
    clients: int, rounds: list[tuple[dict[str, float], dict[str, Any], dict[str, float]]]
) -> None:
    seconds = [one for _, load, _ in rounds for one in load["seconds"]]
    p50, p95, p99 = (1000 * np.percentile(seconds, q) for q in (50, 95, 99))
    print(f"{clients} clients: p50 {p50:.0f} ms, p95 {p95:.0f} ms, p99 {p99:.0f} ms")
    for name, key in (("bundle.predict of the same files", "rate"), ("its network alone", "alone")):
        ratios = [
            len(load["seconds"]) / load["wall"] / ((before[key] + after[key]) / 2)
            for before, load, after in rounds
        ]
        print(
            f"throughput against {name}: median {statistics.median(ratios):.2f}, "
            f"from {min(ratios):.2f} to {max(ratios):.2f}"
        )


def main() -> None:
    """Measure, or be the clients."""
    if sys.argv[1:2] == ["--clients-only"]:
        port, count, requests = map(int, sys.argv[2:5])
        print(json.dumps(asyncio.run(_clients(port, count, requests, Path(sys.argv[5])))))
        return
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--engine", default=None, help="of the server; ray: in replicas")
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    parser.epilog = "Further options of `headstart serve` come after --"
    given = parser.parse_args(words[:end])
    given.options = words[end + 1 :]
    measure(given)


if __name__ == "__main__":
    main()
