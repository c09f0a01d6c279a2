"""Whether a process is at work on a run: a lock that it holds, and that no kill leaves behind."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from headstart.errors import RunError

LOCK_NAME = ".run.lock"
_PATIENCE_SECONDS = 2.0  # whoever looks at a run holds its lock for a moment


@contextmanager
def at_work(folder: Path) -> Iterator[None]:
    """Hold the lock of a run, so that others see that it is at work.

    Args:
        folder: The run folder.

    Yields:
        Nothing. A file system without locks costs nobody a run: it then looks as if it had ended.

    Raises:
        RunError: Another process is at work on the run.
    """
    lock = FileLock(folder / LOCK_NAME)
    try:
        lock.acquire(timeout=_PATIENCE_SECONDS)
    except Timeout as error:
        raise RunError(
            f"{folder}: another process is at work on this run; wait until it ends, or stop it"
        ) from error
    except (OSError, NotImplementedError):
        yield
        return
    try:
        yield
    finally:
        lock.release()


def is_at_work(folder: Path) -> bool:
    """Return whether a process, this one or another, is at work on a run.

    Args:
        folder: The run folder.

    Returns:
        Whether its lock is held; True too for a lock that may not be looked at, since it belongs to
        somebody else.
    """
    path = folder / LOCK_NAME
    if not path.exists():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except OSError:  # a timeout is one
        return True
    except NotImplementedError:
        return False
    lock.release()
    return False
