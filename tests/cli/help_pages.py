"""The help of every verb as Markdown: `python tests/cli/help_pages.py > docs/reference/cli.md`."""

import os
import subprocess
import sys

from headstart.cli.main import app


def verbs() -> list[list[str]]:
    """Return the words of every verb, each group after its own help."""
    found: list[list[str]] = [[]]
    for command in app.registered_commands:
        assert command.name is not None
        found.append([command.name])
    for group in app.registered_groups:
        assert group.name is not None
        assert group.typer_instance is not None
        inner = [one.name for one in group.typer_instance.registered_commands]
        found += [[group.name], *([group.name, str(name)] for name in inner)]
    return found


def pages() -> str:
    lines = [
        "# Command line",
        "",
        "Exit status: 0; 1 where something was found (a missed target, damaged features, bad "
        "data); 2 where the command, file or data are not as needed.",
        "",
    ]
    environment = {**os.environ, "COLUMNS": "88", "TERMINAL_WIDTH": "88"}
    for verb in verbs():
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
