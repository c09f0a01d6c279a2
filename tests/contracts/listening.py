"""Which addresses a program, and all that it began, listens on."""

import os
from pathlib import Path

LOOPBACK = (
    "0100007F",
    "00000000000000000000000001000000",
    "0000000000000000FFFF00000100007F",
)


def family(pid: int) -> list[int]:
    """Return a process and all that it began, directly or not."""
    found = [pid]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent == pid:
                found += family(int(entry.name))
    return found


def listening(pid: int) -> set[str]:
    """Return the addresses, with ports, as Linux writes them: in hexadecimal digits."""
    sockets = set()
    for one in family(pid):
        try:
            for descriptor in Path(f"/proc/{one}/fd").iterdir():
                target = os.readlink(descriptor)
                if target.startswith("socket:["):
                    sockets.add(target[8:-1])
        except OSError:
            continue  # it has ended
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and words[9] in sockets:
                found.add(words[1])
    return found


def outside(addresses: set[str]) -> set[str]:
    """Return those that other machines can reach."""
    return {address for address in addresses if address.partition(":")[0] not in LOOPBACK}
