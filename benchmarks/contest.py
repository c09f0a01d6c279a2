"""Contenders, run in turn: each in a fresh process, all once before any runs again."""

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.environments import OURS, ROOT, interpreter, make

Answer = dict[str, Any]
Repeat = dict[str, Answer]
Tell = Callable[[str], None]

_LIMIT_SECONDS = 1800
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Contender:
    """Who does a piece of work.

    Attributes:
        name: As the table calls it.
        module: Is run with the path of the job's file.
        job: What it is asked.
        environment: Whose interpreter runs it.
    """

    name: str
    module: str
    job: Mapping[str, Any]
    environment: str = OURS


def contest(
    contenders: Sequence[Contender],
    repeats: int,
    tell: Tell,
    run: Callable[[Contender, int], Answer] | None = None,
) -> list[Repeat]:
    """Run all contenders, several times in turn; who begins changes from repeat to repeat.

    Args:
        contenders: At least one.
        repeats: How often each runs.
        tell: Is told who is about to run, and how long each took.
        run: Runs one in a repeat; `run_fresh` unless said.

    Returns:
        For each repeat what each contender answered: its figures, or ``{"error": …}``; one that
        failed does not run again.
    """
    found: list[Repeat] = []
    failed: dict[str, Answer] = {}
    for number in range(repeats):
        answers: Repeat = {}
        for contender in in_turn(contenders, number):
            if contender.name in failed:
                answers[contender.name] = failed[contender.name]
                continue
            tell(f"repeat {number + 1} of {repeats}: {contender.name}")
            answer = (run or run_fresh)(contender, number)
            answers[contender.name] = answer
            if "error" in answer:
                failed[contender.name] = answer
                tell(f"  failed: {answer['error']}")
            else:
                tell(f"  {answer['seconds']:.2f} s, process {answer['process_seconds']:.1f} s")
        found.append(answers)
    return found


def in_turn(contenders: Sequence[Contender], number: int) -> Iterator[Contender]:
    """Yield the contenders, beginning with another one in each repeat."""
    first = number % len(contenders)
    yield from contenders[first:]
    yield from contenders[:first]


def run_fresh(contender: Contender, number: int) -> Answer:
    """Run a contender in a process of its own.

    Args:
        contender: Who.
        number: The repeat, from 0: its seed.

    Returns:
        What its last line says, with ``process_seconds``; or ``{"error": …}``.
    """
    try:
        make(contender.environment)
    except (OSError, RuntimeError) as error:
        return {"error": str(error)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "job.json"
        job = {**contender.job, "seed": number}
        path.write_text(json.dumps(job))
        command = [str(interpreter(contender.environment)), "-m", contender.module, str(path)]
        start = time.perf_counter()
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=_environment(contender.environment, Path(folder)),
                capture_output=True,
                text=True,
                timeout=_LIMIT_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return {"error": str(error)}
        seconds = time.perf_counter() - start
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        return {"error": f"ended with status {done.returncode}: {lines[-1]}", "log": lines[-20:]}
    try:
        answer: Answer = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        return {"error": f"expected one line of JSON, got {done.stdout[-200:]!r}"}
    return {**answer, "process_seconds": seconds, "environment": contender.environment}


def _environment(environment: str, folder: Path) -> dict[str, str]:
    # How many threads is said in the job; limits of a shell would hold for some libraries only.
    kept = {key: value for key, value in os.environ.items() if key not in _THREADS}
    if environment != OURS:
        kept.pop("PYTHONPATH", None)
    return {
        **kept,
        "HEADSTART_CACHE": str(folder / "cache"),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TOKENIZERS_PARALLELISM": "true",
    }


def whole_process(answer: Answer, seconds: float) -> float:
    """Return what a process takes that does this work: its start, imports and end with it.

    Args:
        answer: Of a contender.
        seconds: Its work, as measured or lengthened; what it did besides does not count.

    Returns:
        Seconds.
    """
    return float(answer["process_seconds"] - answer["work_seconds"] + seconds)


def seconds_of(answer: Answer, epochs: int, unsteady: int) -> float:
    """Return what a training takes: as measured, or its first epochs and the steady one repeated.

    Args:
        answer: Of a contender that measured its epochs.
        epochs: How many are asked for: fewer or more than were measured.
        unsteady: The first epochs, which cost more: they are not repeated.

    Returns:
        Seconds.
    """
    measured: list[float] = answer["epoch_seconds"]
    before = answer["seconds"] - sum(measured)
    steady = statistics.median(measured[unsteady:] or measured[-1:])
    return before + sum(measured[:epochs]) + max(0, epochs - len(measured)) * steady
