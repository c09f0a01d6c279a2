"""Writing a bundle: beside its place, checked where nothing else is known, and then put there."""

import datetime
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from headstart._util import files
from headstart.errors import BundleError
from headstart.predict.bundle_files import ZIP_SUFFIX, pack, seal
from headstart.predict.bundle_info import SAMPLES, SAMPLES_RECORD
from headstart.predict.bundle_samples import StoredSample
from headstart.predict.card import CARD, card
from headstart.predict.placing import check_free, place_folder
from headstart.types import JsonDict

TOLERANCE = 1e-4  # of probabilities: other processors and libraries round differently

_PICTURES = (
    (b"\xff\xd8\xff", ".jpg"),
    (b"\x89PNG", ".png"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
    (b"RIFF", ".webp"),
    (b"P5", ".pgm"),
    (b"P6", ".ppm"),
)
_SECONDS = 1800
_HOMES = ("HF_HOME", "HF_HUB_CACHE", "TORCH_HOME", "XDG_CACHE_HOME", "HEADSTART_CACHE")
_SUFFIXES = {"image": ".bin", "text": ".txt", "pair": ".json", "sequence": ".bin"}


def check_in_clean_process(folder: Path) -> float:
    """Do what `headstart.predict.recheck` does, in a process that knows nothing but the bundle.

    Args:
        folder: The bundle.

    Returns:
        The largest difference from what was stored.

    Raises:
        BundleError: It does not stand alone; the reason is that of the process.
    """
    command = [sys.executable, "-I", "-m", "headstart.predict.recheck", str(folder.resolve())]
    with tempfile.TemporaryDirectory(prefix="headstart-recheck-") as empty:
        # No cache, no hub.
        environment = {**os.environ, **dict.fromkeys(_HOMES, empty), "HF_HUB_OFFLINE": "1"}
        try:
            done = subprocess.run(
                command,
                cwd=empty,
                env=environment,
                capture_output=True,
                text=True,
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise BundleError(f"{folder}: not checked within {_SECONDS} seconds") from error
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        reason = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        raise BundleError(f"the bundle does not stand alone: {reason}")
    return float(lines[-1])


def write_bundle(
    target: Path,
    manifest: JsonDict,
    samples: Sequence[StoredSample],
    fill: Callable[[Path], object],
    *,
    check: Callable[[Path], float] = check_in_clean_process,
) -> Path:
    """Write a bundle; it is there whole, or not at all.

    Args:
        target: Its folder, which must not be there; or a ``.headstart`` file, for a zip of it.
        manifest: All keys of bundle.json that are not of files and time.
        samples: What it brings along, with what the model says of them; at least one.
        fill: Writes the files of the network into a folder.
        check: Makes sure that the folder is a bundle that says of the samples what is stored.

    Returns:
        The target.

    Raises:
        ConfigError: There is something of that name already.
        BundleError: The check failed; nothing was left.
    """
    zipped = target.suffix == ZIP_SUFFIX
    check_free(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        fill(folder)
        _write_samples(folder, manifest, samples)
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        whole = {"headstart": importlib.metadata.version("headstart"), "created": now, **manifest}
        files.write_text(folder / CARD, card(whole))
        seal(folder, whole)
        check(folder)
        if zipped:
            pack(folder, target)
        else:
            place_folder(folder, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return target


def _write_samples(folder: Path, manifest: JsonDict, samples: Sequence[StoredSample]) -> None:
    entries = []
    for number, sample in enumerate(samples):
        name = f"{SAMPLES}/{number:03d}{_suffix(sample.data, manifest['task'])}"
        files.write_bytes(folder / name, sample.data)
        said: JsonDict = {"probabilities": list(sample.probabilities)}
        if manifest["goal"] == "regression":
            said = {"value": sample.probabilities[0]}
        entries.append({"name": sample.name, "file": name, "label": sample.label, **said})
    files.write_json(folder / SAMPLES_RECORD, entries)


def _suffix(data: bytes, task: str) -> str:
    if task == "image":
        known = (suffix for magic, suffix in _PICTURES if data.startswith(magic))
        return next(known, _SUFFIXES[task])
    return _SUFFIXES[task]
