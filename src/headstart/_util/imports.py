"""The one way to import an optional package."""

import importlib
from typing import Any

from headstart.errors import MissingExtraError


def optional(module: str, extra: str, purpose: str) -> Any:
    """Import an optional module, or say how to install it.

    Args:
        module: Dotted name of the module.
        extra: The extra of Headstart that brings it.
        purpose: What it is needed for, to complete "… is needed for".

    Returns:
        The imported module.

    Raises:
        MissingExtraError: The package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        top = module.partition(".")[0]
        if error.name is not None and error.name.partition(".")[0] != top:
            raise  # the package is there, one of its own dependencies is not: say that instead
        raise MissingExtraError(
            f"the package '{top}' is needed for {purpose} and is not installed: "
            f"pip install 'headstart[{extra}]'"
        ) from error


def available(module: str) -> bool:
    """Return whether a module could be imported, without importing it."""
    import importlib.util

    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
