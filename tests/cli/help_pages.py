"""The help of every verb as Markdown: `python tests/cli/help_pages.py > docs/reference/cli.md`."""

import os
import subprocess
import sys

VERBS = [
    [], ["run"], ["check"], ["report"], ["experiments"], ["show"], ["validate"], ["schema"],
    ["check-data"], ["cache"], ["cache", "ls"], ["cache", "verify"], ["cache", "prune"],
]  # fmt: skip


def pages() -> str:
    lines = [
        "# Command line",
        "",
        "Exit status: 0; 1 where something was found (a missed target, damaged features, bad "
        "data); 2 where the command, file or data are not as needed.",
        "",
    ]
    environment = {**os.environ, "COLUMNS": "88", "TERMINAL_WIDTH": "88"}
    for verb in VERBS:
        done = subprocess.run(
            [sys.executable, "-m", "headstart", *verb, "--help"],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        )
        text = done.stdout.replace("python -m headstart", "headstart").rstrip()
        text = "\n".join(line.rstrip() for line in text.splitlines())
        lines += [f"## {' '.join(['headstart', *verb])}", "", "```text", text, "```", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    print(pages(), end="")
