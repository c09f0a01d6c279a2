"""Digests of bytes, arrays, records and tensors: the keys of everything that is cached."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch


def digest_bytes(data: bytes) -> str:
    """Return the SHA-256 of some bytes as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """Return the SHA-256 of a file's content as 64 hex digits, read in constant memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_json(value: Any) -> str:
    """Return the SHA-256 of a JSON-like value, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return digest_bytes(text.encode())


def digest_array(array: npt.NDArray[Any]) -> str:
    """Return the SHA-256 of an array's dtype, shape and values."""
    hasher = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    hasher.update(np.ascontiguousarray(array).view(np.uint8).reshape(-1).data)
    return hasher.hexdigest()


def digest_tensors(tensors: "Mapping[str, torch.Tensor]") -> str:
    """Return the SHA-256 of named tensors: names, dtypes, shapes and values, in sorted order.

    Args:
        tensors: For example a module's `state_dict()`; any device, any dtype.

    Returns:
        64 hex digits that change when any name, shape or bit changes.
    """
    import torch

    hasher = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        hasher.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        if tensor.numel():
            # bfloat16 has no NumPy dtype: hash the raw bytes.
            hasher.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return hasher.hexdigest()
