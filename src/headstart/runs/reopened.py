"""The data of a finished run, opened again: the same samples and labels, or an error."""

from pathlib import Path

from headstart._util import files
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
