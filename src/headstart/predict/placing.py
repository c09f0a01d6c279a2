"""Files and folders that take a name only where nothing else has it.

Renaming replaces what is there. Between looking whether a name is free and taking it somebody else
may have taken it: whether it is free is asked while it is taken.
"""

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from headstart._util import files
from headstart.errors import ConfigError

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS)


def check_free(path: Path) -> None:
    """Make sure that nothing has a name yet, before the work for it begins.

    Args:
        path: The name.

    Raises:
        ConfigError: There is something of that name.
    """
    if os.path.lexists(path):
        raise _taken(path)


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing that appears when the block ends without an error.

    Args:
        path: Where; its folder is there.

    Yields:
        A binary file to write to.

    Raises:
        ConfigError: There is something of that name, which is left as it is.
    """
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".headstart-") as place:
        written = Path(place) / "file"
        with files.atomic_writer(written) as file:
            yield file
        try:
            _link(written, path)
        except FileExistsError as error:
            raise _taken(path) from error


def place_folder(folder: Path, target: Path) -> None:
    """Give a folder its name, with the rights that the umask grants.

    Args:
        folder: A temporary folder, on the same file system.
        target: Its name.

    Raises:
        ConfigError: There is something of that name, which is left as it is.
    """
    umask = os.umask(0)
    os.umask(umask)
    folder.chmod(0o777 & ~umask)  # mkdtemp makes folders for the owner alone
    if os.name != "nt":  # there no folder is replaced; elsewhere an empty one is
        try:
            target.mkdir()
        except FileExistsError as error:
            raise _taken(target) from error
    try:
        folder.rename(target)
    except BaseException:
        with contextlib.suppress(OSError):
            target.rmdir()  # unless somebody put something in it
        raise


def _link(written: Path, path: Path) -> None:
    try:
        os.link(written, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # Where there are no links, as on FAT: an empty file takes the name first.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        written.replace(path)


def _taken(path: Path) -> ConfigError:
    return ConfigError(f"{path} is there already: remove it, or choose another name (--out)")
