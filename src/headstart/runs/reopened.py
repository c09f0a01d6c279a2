"""The data of a finished run, opened again: the same samples and labels, or an error."""

from pathlib import Path

from headstart._util import files
from headstart.backbones.registry import RUN_PREFIX
from headstart.config import schema
from headstart.data.dataset import Dataset
from headstart.errors import RunError
from headstart.runs.inputs import build_dataset
from headstart.types import Progress


def reopened(
    folder: Path,
    study: schema.Experiment,
    fingerprint: str,
    *,
    allow_network: bool,
    show: Progress,
) -> Dataset:
    """Open the data of a run again.

    Args:
        folder: The run folder, for messages.
        study: Its experiment, with the place where the data are now; not of language models.
        fingerprint: That of the data which are wanted.
        allow_network: Whether data that are missing may be downloaded.
        show: Where to show how far it is.

    Returns:
        The data.

    Raises:
        RunError: The data there are others.
    """
    assert not isinstance(study.data, schema.LanguageData), "samples are asked for, not a text"
    dataset = build_dataset(
        study.data,
        workers=study.workers,
        allow_network=allow_network,
        cache=files.cache_root(),
        progress=show,
    )
    if dataset.fingerprint != fingerprint:
        raise RunError(
            f"{folder}: expected the data that this run was made with (fingerprint "
            f"{fingerprint[:12]}…), got {dataset.fingerprint[:12]}…: samples or labels have "
            "changed, or it is another run; name the place of the unchanged data with --data"
        )
    return dataset


def found_again(study: schema.Experiment, working_folder: str) -> schema.Experiment:
    """Return a study whose relative paths count from where the run began, if not from here.

    Args:
        study: The experiment of a run.
        working_folder: Where that was begun.

    Returns:
        The same, with the paths that are found there and not here.
    """

    def there(text: str) -> str:
        path = Path(text).expanduser()
        other = Path(working_folder) / path
        return str(other) if not path.exists() and other.exists() else text

    data = study.data
    paths = schema.PathData | schema.TextData | schema.LanguageData | schema.TorchvisionData
    if isinstance(data, paths) and data.path is not None:
        data = data.model_copy(update={"path": there(data.path)})
    elif isinstance(data, schema.HuggingFaceData):
        data = data.model_copy(update={"name": there(data.name)})

    def name(text: str) -> str:
        own = text.removeprefix(RUN_PREFIX)
        run, _, part = own.rpartition("/")
        return text if own == text else f"{RUN_PREFIX}{there(run)}/{part}"

    backbones = {
        key: config.model_copy(update={"weights": there(config.weights), "name": name(config.name)})
        for key, config in study.backbones.items()
    }
    return study.model_copy(update={"data": data, "backbones": backbones})
