"""What can go wrong, as one tree.

    HeadstartError                  the root: catch this one
    ├── ConfigError                 the experiment file or a command-line value
    ├── DataError                   the data set: missing, unreadable, too small, leaking
    │   └── UnsafeArchiveError      an archive that tries to write outside, or to explode
    ├── WeightsError                weights that are missing, damaged or of another network
    │   └── BundleError             a bundle that is damaged, changed, or says what is not so
    ├── FrozenStateError            something that was promised to be frozen has moved
    ├── StoreError                  the feature store: damaged, locked, or no space left
    │   └── SharedStoreError        its second home: not reached, or not readable
    ├── EngineError                 no engine could run the frozen forward pass correctly
    ├── MissingExtraError           an optional package is not installed
    ├── RunError                    a run folder that is missing or not a run, or a part that failed
    └── StoppedError                somebody asked the program to stop, and it is safe to

A message says what was expected, what came, and what to do.
"""

import difflib
from collections.abc import Iterable


class HeadstartError(Exception):
    """The root of every error that Headstart raises for what a user did or has."""


class ConfigError(HeadstartError):
    """The experiment file, or a value on the command line, is not valid."""


class DataError(HeadstartError):
    """The data set is missing, unreadable, too small or laid out in an unknown way."""


class UnsafeArchiveError(DataError):
    """An archive holds a path outside its folder, a link, or far more bytes than it may."""


class WeightsError(HeadstartError):
    """Weights are missing, damaged or belong to another network."""


class BundleError(WeightsError):
    """A bundle is damaged or was changed, holds what no bundle may, or computes something else."""


class FrozenStateError(HeadstartError):
    """Parameters or buffers that were promised to be frozen have changed."""


class StoreError(HeadstartError):
    """The feature store is damaged, or there is no room for what would be written."""


class SharedStoreError(StoreError):
    """The feature store's second home cannot be reached, read or written."""


class EngineError(HeadstartError):
    """No engine could run the frozen forward pass and agree with torch."""


class MissingExtraError(HeadstartError):
    """An optional package is needed and not installed."""


class RunError(HeadstartError):
    """A run folder is missing or not a run, or one of its parts failed."""


class StoppedError(HeadstartError):
    """Somebody asked the program to stop: everything is saved, and it can go on."""


def nearest(name: str, choices: Iterable[str], limit: int = 3) -> str:
    """Say which known names are closest to an unknown one.

    Args:
        name: The name that is not known.
        choices: The names that are.
        limit: At most this many suggestions.

    Returns:
        A sentence such as ``did you mean 'adam', 'adamw'?``, or the list of all choices where none
        is near and the list is short, or an empty string.
    """
    known = list(choices)
    close = difflib.get_close_matches(name, known, n=limit, cutoff=0.5)
    if close:
        return "did you mean " + ", ".join(repr(c) for c in close) + "?"
    if known and len(known) <= 20:
        return "known: " + ", ".join(repr(c) for c in known)
    return ""
