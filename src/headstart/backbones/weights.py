"""Finding weight files, reading them without running their code, and refusing what does not fit."""

import pickle
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlparse

import torch
from torch import nn

from headstart._util.hashing import digest_file
from headstart._util.seeding import seed_of
from headstart.backbones.base import Weights
from headstart.errors import WeightsError

PRETRAINED = "pretrained"
RANDOM = "random"

HUB_FILE = "model.safetensors"

State = Mapping[str, torch.Tensor]

_LISTED = 3  # of the keys that do not fit, an error names this many of each kind
_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
# Where training scripts put the network inside a checkpoint, and what wrappers put before its keys.
_NESTS = ("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model")
_WRAPPERS = ("module.", "_orig_mod.")
_UNREADABLE = (RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError, AttributeError)


@contextmanager
def seeded(seed: int, architecture: str) -> Iterator[None]:
    """Build a network on the CPU from its own random stream; the global stream does not move.

    Args:
        seed: The user's seed.
        architecture: Part of the stream's name, so that no two networks share numbers.

    Yields:
        Nothing.
    """
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        # Not torch.manual_seed: that one seeds the generators of all CUDA devices as well.
        torch.default_generator.manual_seed(seed_of("random weights", architecture, seed))
        yield


def random_weights(seed: int) -> Weights:
    """Return the record of weights that were drawn, not learned."""
    return Weights(kind=RANDOM, origin=f"random numbers, seed {seed}", license="not applicable")


def file_weights(path: Path) -> Weights:
    """Return the record of weights from a user's file, cited by content."""
    origin = f"{path.name} (sha256 {digest_file(path)[:16]})"
    return Weights(kind="file", origin=origin, license="unknown")


def weights_path(name: str, weights: str | Path) -> Path:
    """Return the file that a user means by ``weights``.

    Args:
        name: The backbone's name, for the message.
        weights: Neither ``pretrained`` nor ``random``.

    Returns:
        The path of an existing file of a known kind.

    Raises:
        WeightsError: There is no such file, or its name has no known ending.
    """
    path = Path(weights).expanduser()
    if not path.is_file():
        raise WeightsError(
            f"{name}: weights: expected 'pretrained', 'random' or a file, got {str(weights)!r}, "
            f"and there is no such file"
        )
    if path.suffix not in _SUFFIXES:
        raise WeightsError(
            f"{name}: weights: expected a file ending in {', '.join(_SUFFIXES)}, got {path.name!r}"
        )
    return path


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Read named tensors from a file without running any code that it may hold.

    Args:
        path: A ``.safetensors`` file, or what ``torch.save`` wrote.

    Returns:
        The tensors by name, taken out of a checkpoint's nest, without ``module.`` in front.

    Raises:
        WeightsError: The file is damaged, or holds something else than tensors.
    """
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    for nest in _NESTS:
        if isinstance(content, Mapping) and isinstance(content.get(nest), Mapping):
            content = content[nest]
            break
    state: dict[str, torch.Tensor] = {}
    for key, value in content.items() if isinstance(content, Mapping) else ():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise WeightsError(
                f"{path}: expected named tensors, got {type(value).__name__} under {key!r}"
            )
        short = key
        while short.startswith(_WRAPPERS):
            short = short.partition(".")[2]
        state[short] = value
    if not state:
        raise WeightsError(
            f"{path}: expected named tensors, got {type(content).__name__} with none"
        )
    return state


def _read_safetensors(path: Path) -> object:
    import safetensors
    import safetensors.torch

    try:
        return safetensors.torch.load_file(path, device="cpu")
    except (safetensors.SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: damaged, or not a safetensors file: {error}") from error


def _read_pickle(path: Path) -> object:
    try:
        with warnings.catch_warnings():
            # Files of other pickle protocols are read, or refused below; torch warns of both.
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            content: object = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(
            f"{path}: refused. It is damaged, or it holds Python objects besides tensors, and "
            "reading these can run any code, so Headstart never does. If you trust the file, save "
            "its state dict again, best as .safetensors, where you made it. "
            f"What torch says: {reason}"
        ) from error
    except _UNREADABLE as error:
        raise WeightsError(f"{path}: damaged, or not a file of torch: {error}") from error
    return content


def misfits(expected: State, got: State) -> str:
    """Say how named tensors differ from those a network needs, or an empty string.

    Args:
        expected: The network's own state dict.
        got: The file's.

    Returns:
        The counts and first names of the missing, unexpected and misshapen.
    """
    missing = [key for key in expected if key not in got]
    unexpected = [key for key in got if key not in expected]
    misshapen = [
        f"{key} (expected {tuple(expected[key].shape)}, got {tuple(got[key].shape)})"
        for key in expected
        if key in got and expected[key].shape != got[key].shape
    ]
    parts = []
    for kind, keys in (
        ("missing", missing),
        ("unexpected", unexpected),
        ("misshapen", misshapen),
    ):
        if keys:
            more = ", …" if len(keys) > _LISTED else ""
            parts.append(f"{len(keys)} {kind}: {', '.join(keys[:_LISTED])}{more}")
    return "; ".join(parts)


def with_classifier(expected: State, got: State, keys: tuple[str, ...]) -> tuple[State, bool]:
    """Stand the network's own classifier in for one of another number of classes, or for none.

    Args:
        expected: The network's own state dict.
        got: The file's.
        keys: Names of the classifier's weight and bias.

    Returns:
        The file's tensors with a classifier that fits, and whether it is the file's own.
    """
    fits = [key in got and got[key].shape == expected[key].shape for key in keys]
    # Only the number of classes may differ: another width means another network.
    other_count = all(
        key not in got or got[key].shape[1:] == expected[key].shape[1:] for key in keys
    )
    if all(fits) or not other_count:
        return got, True
    return {**got, **{key: expected[key] for key in keys}}, False


def load_into(model: nn.Module, got: State, keys: tuple[str, ...], origin: str) -> bool:
    """Load a file's tensors into a network, all of them.

    Args:
        model: The network.
        got: The file's tensors.
        keys: Names of the classifier's weight and bias, which may be of other classes or missing.
        origin: The file, for the message.

    Returns:
        Whether the network's classifier is the file's own.

    Raises:
        WeightsError: Tensors are missing, unexpected or of another shape.
    """
    state, own = with_classifier(model.state_dict(), got, keys)
    problem = misfits(model.state_dict(), state)
    if problem:
        raise WeightsError(f"{origin}: these weights belong to another network: {problem}")
    model.load_state_dict(state, strict=True)
    return own


def hub_file(name: str, repository: str, allow_network: bool) -> Path:
    """Return a safetensors file of the Hugging Face hub, from the hub's cache on this machine.

    What the cache has is used as it is, also where the network is allowed: the same command then
    gives the same weights, whatever is published in the meantime.

    Args:
        name: The backbone's name, for the message.
        repository: ``owner/name``, with ``@revision`` if it is not the main branch.
        allow_network: Whether it may be downloaded.

    Returns:
        The file in the cache.

    Raises:
        WeightsError: It is not there, and may not or cannot be downloaded.
    """
    path, reason = cached_file(repository, HUB_FILE, allow_network)
    if path is None:
        raise not_on_hub(name, repository, (HUB_FILE,), reason)
    return path


def cached_file(repository: str, file: str, allow_network: bool) -> tuple[Path | None, str]:
    """Look for one file of the Hugging Face hub in its cache, and then on the hub if allowed.

    Args:
        repository: ``owner/name``, with ``@revision`` if it is not the main branch.
        file: The file's name in the repository.
        allow_network: Whether it may be downloaded.

    Returns:
        The file in the cache, or None; and why the download failed, or an empty string.
    """
    import huggingface_hub

    owner_name, _, revision = repository.partition("@")
    reason = ""
    for offline in (True, False) if allow_network else (True,):
        try:
            path = huggingface_hub.hf_hub_download(
                owner_name, file, revision=revision or None, local_files_only=offline
            )
        except Exception as error:  # the hub's errors and those of its HTTP client share no root
            reason = "" if offline else f"{type(error).__name__}: {error}"
        else:
            return Path(path), ""
    return None, reason


def not_on_hub(
    name: str,
    repository: str,
    files: tuple[str, ...],
    reason: str,
    packaged: str = "packaged/efficientnet-lite0",
) -> WeightsError:
    """Return the error for files of the hub that are not on this machine.

    Args:
        name: The backbone's name.
        repository: ``owner/name``, with ``@revision`` if it is not the main branch.
        files: What is missing.
        reason: Why a download failed, or an empty string.
        packaged: A backbone of the same kind whose weights come in a Python package.

    Returns:
        The error, for the caller to raise.
    """
    from huggingface_hub import constants

    owner_name = repository.partition("@")[0]
    return _not_there(
        name,
        wanted=f"{', '.join(files)} of huggingface.co/{repository}",
        looked_in=str(Path(constants.HF_HUB_CACHE) / f"models--{owner_name.replace('/', '--')}"),
        by_hand=f"hf download {owner_name} {' '.join(files)}",
        reason=reason,
        packaged=packaged,
    )


def torch_hub_file(name: str, url: str, allow_network: bool) -> Path:
    """Return a file of torch.hub's folder, checked against the hash in its name.

    Args:
        name: The backbone's name, for the message.
        url: Where it is published, such as ``https://…/resnet18-f37072fd.pth``.
        allow_network: Whether it may be downloaded.

    Returns:
        The file in ``torch.hub.get_dir()/checkpoints``.

    Raises:
        WeightsError: It is damaged, or not there, and may not or cannot be downloaded.
    """
    file_name = Path(urlparse(url).path).name
    path = Path(torch.hub.get_dir()) / "checkpoints" / file_name
    match = torch.hub.HASH_REGEX.search(file_name)
    wanted_hash = match.group(1) if match else ""
    reason = ""
    if not path.is_file() and allow_network:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), wanted_hash or None, progress=False)
        except (OSError, RuntimeError, ValueError) as error:
            reason = str(error)
    if not path.is_file():
        raise _not_there(
            name,
            wanted=f"{file_name} from {url}",
            looked_in=str(path),
            by_hand=f"curl -o {path} {url}",
            reason=reason,
        )
    got_hash = digest_file(path)
    if not got_hash.startswith(wanted_hash):
        raise WeightsError(
            f"{name}: {path} is damaged: its name says that its SHA-256 begins with "
            f"{wanted_hash}, and it begins with {got_hash[: len(wanted_hash)]}; delete the file"
        )
    return path


def _not_there(
    name: str,
    wanted: str,
    looked_in: str,
    by_hand: str,
    reason: str,
    packaged: str = "packaged/efficientnet-lite0",
) -> WeightsError:
    """Return the one error for pretrained weights that are not on this machine."""
    failed = f"\n  the network was allowed, but: {reason}" if reason else ""
    return WeightsError(
        f"{name}: the pretrained weights are not on this machine.\n"
        f"  wanted: {wanted}\n"
        f"  looked in: {looked_in}{failed}\n"
        "Provide them in one of three ways:\n"
        "  1. allow the network (allow_network), and they are downloaded once;\n"
        f"  2. put the file there by hand (on a machine with a network: {by_hand}), or keep it "
        "anywhere and give its path as the weights;\n"
        f"  3. do without: '{packaged}' brings real weights in a Python package, "
        "and the weights 'random' need no file."
    )


def count_parameters(model: nn.Module) -> int:
    """Return the number of a network's parameters."""
    return sum(parameter.numel() for parameter in model.parameters())
