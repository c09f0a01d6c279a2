"""What an estimator is on the disk: a JSON record and safetensors arrays.

Python's pickle can run anything when it is read. So an estimator hands pickle nothing but one text
and one run of bytes, both of which are data: restoring them runs no code but our own. The same two
are the files of a saved folder.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from headstart._util import files
from headstart.errors import WeightsError, nearest
from headstart.types import JsonDict

FORMAT_VERSION = 1
RECORD_NAME = "estimator.json"
ARRAYS_NAME = "estimator.safetensors"

_Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class State:
    """An estimator, taken apart.

    Attributes:
        kind: Name of its class.
        params: What its constructor was given.
        fitted: What `fit` has found, as JSON-like values; None where it has not been fitted.
        arrays: The numbers that `fit` has found, by name.
    """

    kind: str
    params: JsonDict
    fitted: JsonDict | None
    arrays: _Arrays


def pack(state: State) -> dict[str, str | bytes]:
    """Return what pickle may have: one text, one run of bytes."""
    return {"record": json.dumps(_record(state)), "arrays": _encode(state.arrays)}


def unpack(kind: str, packed: object) -> State:
    """Read what `pack` returned.

    Args:
        kind: The class that it must be of.
        packed: What pickle brought.

    Returns:
        The state.

    Raises:
        WeightsError: It is not of this class or of another version.
    """
    if not isinstance(packed, dict) or set(packed) != {"record", "arrays"}:
        raise WeightsError(f"expected a pickled {kind} of Headstart, got something else")
    return _read(kind, "the pickle", packed["record"], packed["arrays"])


def save(folder: Path | str, state: State) -> None:
    """Write an estimator into a folder, which is made; each file atomically, arrays first."""
    folder = Path(folder)
    files.write_bytes(folder / ARRAYS_NAME, _encode(state.arrays))
    files.write_json(folder / RECORD_NAME, _record(state))


def load(kind: str, folder: Path | str) -> State:
    """Read what `save` wrote.

    Args:
        kind: The class that it must be of.
        folder: Where.

    Returns:
        The state.

    Raises:
        WeightsError: A file is missing or damaged, or of another class or version.
    """
    folder = Path(folder)
    try:
        record = (folder / RECORD_NAME).read_text(encoding="utf-8")
        arrays = (folder / ARRAYS_NAME).read_bytes()
    except OSError as error:
        raise WeightsError(
            f"{folder}: expected a saved estimator ({RECORD_NAME} and {ARRAYS_NAME}), but {error}"
        ) from error
    return _read(kind, str(folder), record, arrays)


def plain_params(params: Mapping[str, Any]) -> JsonDict:
    """Turn an estimator's parameters into JSON-like values.

    Args:
        params: From `get_params`.

    Returns:
        Texts, numbers, booleans, None and lists of them; paths become texts.

    Raises:
        TypeError: A parameter cannot be written down, such as a random generator.
    """
    return {name: _plain(name, value) for name, value in params.items()}


def restore_params(estimator: Any, params: Mapping[str, Any]) -> None:
    """Set an estimator's parameters from saved ones; lists become tuples.

    Args:
        estimator: A scikit-learn estimator, made without `__init__`.
        params: From `plain_params`, through JSON.

    Raises:
        WeightsError: They are not those of this class.
    """
    known = estimator._get_param_names()
    odd = sorted(set(params) ^ set(known))
    if odd:
        raise WeightsError(
            f"{type(estimator).__name__}: the saved parameters are not this version's "
            f"({odd[0]!r}; {nearest(odd[0], known)}): use the version of Headstart that wrote it"
        )
    for name, value in params.items():
        setattr(estimator, name, tuple(value) if isinstance(value, list) else value)


def through_json(value: Any) -> Any:
    """Return a JSON-like value as it comes back from a file: tuples are lists."""
    return json.loads(json.dumps(value))


def expect_only(estimator: Any, fitted: Sequence[str]) -> None:
    """Make sure that nothing an estimator holds would be lost.

    Args:
        estimator: The estimator that is going to be saved.
        fitted: Names of the attributes that are saved besides its parameters.

    Raises:
        TypeError: It holds something else.
    """
    odd = set(vars(estimator)) - set(estimator._get_param_names()) - set(fitted)
    if odd:
        raise TypeError(
            f"{type(estimator).__name__}: the attributes {sorted(odd)} are not its own and cannot "
            "be saved: delete them first"
        )


def plain_labels(labels: npt.NDArray[Any]) -> JsonDict:
    """Turn class labels, or names of features, into JSON-like values.

    Args:
        labels: Integers, floats, booleans or texts, shape [n].

    Returns:
        Their type and values.

    Raises:
        TypeError: They are of another type.
    """
    values = labels.tolist()
    texts = all(isinstance(value, str) for value in values)
    if labels.dtype.kind not in "iufbUO" or (labels.dtype.kind == "O" and not texts):
        raise TypeError(
            f"labels of type {labels.dtype} cannot be saved: expected texts or numbers, "
            f"got for example {values[0]!r}"
        )
    return {"dtype": labels.dtype.str, "values": values}


def restore_labels(plain: JsonDict) -> npt.NDArray[Any]:
    """Return the labels that `plain_labels` wrote down."""
    return np.array(plain["values"], dtype=np.dtype(plain["dtype"]))


def _plain(name: str, value: object) -> Any:
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, np.generic):
        return _plain(name, value.item())
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(name, item) for item in value]
    raise TypeError(
        f"{name}: a value of type {type(value).__name__} cannot be saved: expected a text, a "
        "number, a path or None (for random_state, a whole number)"
    )


def _record(state: State) -> JsonDict:
    return {
        "format_version": FORMAT_VERSION,
        "estimator": state.kind,
        "params": state.params,
        "fitted": state.fitted,
    }


def _encode(arrays: _Arrays) -> bytes:
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    encoded: bytes = safetensors.numpy.save(whole)
    return encoded


def _read(kind: str, where: str, text: object, data: object) -> State:
    try:
        if not isinstance(text, str) or not isinstance(data, bytes):
            raise TypeError("expected a text and bytes")
        record: JsonDict = json.loads(text)
        if not isinstance(record, dict):
            raise TypeError("expected a JSON object")
        arrays = safetensors.numpy.load(data)
    except (TypeError, ValueError, safetensors.SafetensorError) as error:
        raise WeightsError(f"{where}: expected a {kind}, but it is damaged: {error}") from error
    version = record.get("format_version")
    if version != FORMAT_VERSION:
        raise WeightsError(
            f"{where}: expected format version {FORMAT_VERSION}, got {version}; "
            "use the version of Headstart that wrote it"
        )
    if record.get("estimator") != kind:
        raise WeightsError(f"{where}: expected a {kind}, got a {record.get('estimator')}")
    return State(kind, record["params"], record["fitted"], arrays)
