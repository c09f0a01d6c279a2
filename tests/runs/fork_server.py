"""Runs studies in processes that can be killed, without importing torch anew for each.

Reads one JSON list of arguments per line, forks, calls Headstart in the child, prints the child's
process number at once and its exit status when it has ended. A process killed by a signal has the
status -signal.
"""

import importlib
import json
import os
import sys
from pathlib import Path

import torch

from headstart._util.progress import SilentProgress
from headstart.errors import HeadstartError
from headstart.runs import runner


def work(verb: str, cache: str, where: str, study: str) -> None:
    os.environ["HEADSTART_CACHE"] = cache
    try:
        if verb == "run":
            runner.run(Path(study), out=where, show=SilentProgress())
        else:
            runner.resume(where, show=SilentProgress())
    except HeadstartError as error:
        print(error, file=sys.stderr)
        os._exit(3)
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        os._exit(4)
    os._exit(0)


def no_report(folder: Path, *, max_pages: int | None) -> tuple[Path, Path]:
    del max_pages
    return folder, folder


def main() -> None:
    for name in ("sklearn.metrics", "timm"):
        importlib.import_module(name)  # once for all children
    # The report takes longer than the study, and is made after everything that is compared.
    runner.render = no_report
    torch.set_num_threads(1)  # no pool of threads that a child would lack
    print("ready", flush=True)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            work(*json.loads(line))
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
