"""From configuration to what comes in: the data, and backbones that take them."""

import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from headstart.backbones.base import Backbone, SeriesOptions, TextOptions
from headstart.backbones.registry import RUN_PREFIX, load_backbone
from headstart.config import schema
from headstart.data.checks import scan
from headstart.data.dataset import Dataset, prepare
from headstart.data.excluded import without_classes
from headstart.data.language import Corpus, open_corpus
from headstart.data.sequence import make_sequences
from headstart.data.source import open_source
from headstart.errors import ConfigError
from headstart.predict import BackboneOptions
from headstart.runs.record import EXPERIMENT_NAME
from headstart.types import (
    Fit,
    InputSpec,
    Noun,
    Pairs,
    Progress,
    SeriesSpec,
    TextSpec,
)

_STAMP = re.compile(r"\d{8}-\d{6}")
_COLUMNS = ("path", "image", "text", "pair", "label", "split", "group")


@dataclass(frozen=True, slots=True)
class Samples:
    """What the samples are, as far as a network has to know to be built for them.

    Attributes:
        noun: What one is.
        fit: How pictures are brought to a size where the backbone's configuration does not say.
        channels: Of sequences of numbers: numbers at each step.
        max_length: Of sequences of numbers: steps at most.
        hint: Said behind the noun in errors, where another may have been meant.
    """

    noun: Noun
    fit: Fit | None = None
    channels: int = 0
    max_length: int = 0
    hint: str = ""


def has_pictures(config: schema.Data) -> bool:
    """Return whether the data are pictures, which is known before they are opened."""
    if isinstance(config, schema.HuggingFaceData):
        return config.text_column is None
    return not isinstance(config, schema.TextData | schema.SequenceData | schema.LanguageData)


def samples_of(config: schema.Data, dataset: Dataset | None) -> Samples:
    """Return what the samples are.

    Args:
        config: The experiment's `data`.
        dataset: The data; may be None where they are pictures.

    Returns:
        What a network has to know of them.
    """
    if isinstance(config, schema.SequenceData):
        channels = 2 if config.target == "adding" else 1
        return Samples("sequence", channels=channels, max_length=config.max_length)
    if has_pictures(config):
        assert not isinstance(config, schema.LanguageData | schema.TextData)
        hub = isinstance(config, schema.HuggingFaceData)
        hint = " (where they are texts, set data.text_column)" if hub else ""
        return Samples("picture", fit=config.fit, hint=hint)
    assert dataset is not None
    return Samples(dataset.noun)


def build_corpus(config: schema.LanguageData) -> Corpus:
    """Read running text for language models.

    Args:
        config: The experiment's `data`.

    Returns:
        The text as numbers, with its vocabulary.

    Raises:
        ConfigError: No place was given where the data are.
    """
    files = {"train": config.train, "val": config.val, "test": config.test}
    given = {split: name for split, name in files.items() if name is not None}
    return open_corpus(
        _place(config.path),
        files=given or None,
        min_count=config.min_count,
        val_share=config.val_share,
    )


def build_dataset(
    config: schema.SampleData | schema.SequenceData,
    *,
    workers: int,
    allow_network: bool,
    cache: Path,
    progress: Progress,
) -> Dataset:
    """Open the data, look at every sample, and divide them.

    Args:
        config: The experiment's `data`.
        workers: Threads that decode.
        allow_network: Whether a data set may be downloaded.
        cache: Folder that remembers what the scan saw.
        progress: Where to show how far it is.

    Returns:
        The data set, with everything that was left out and why.

    Raises:
        ConfigError: No place was given where the data are.
    """
    if isinstance(config, schema.SequenceData):
        counts = (config.train, config.val, config.test)
        return make_sequences(
            config.target,
            sum(counts),
            config.min_length,
            config.max_length,
            counts,
            config.seed,
        )
    paths = isinstance(config, schema.PathData | schema.TextData)
    place = _place(config.path) if paths else config.name  # type: ignore[union-attr]
    root = None
    if isinstance(config, schema.TorchvisionData) and config.path is not None:
        root = Path(config.path)
    source = open_source(
        config.kind, place, allow_network=allow_network, columns=_columns(config), root=root
    )
    if config.exclude_classes:
        source = without_classes(source, config.exclude_classes)
    preflight = scan(
        source,
        workers=workers,
        progress=progress,
        cache_dir=cache / "scans",
        trust_times=config.trust_mtime if isinstance(config, schema.PathData) else True,
    )
    split = config.split
    return prepare(
        source,
        preflight,
        fractions=None
        if split is None
        else {"train": split.train, "val": split.val, "test": split.test},
        seed=config.seed,
        max_bad_fraction=config.max_bad_fraction,
        duplicates=config.duplicates,
        small_classes=config.small_classes,
        limit_per_class=config.limit_per_class,
        val_samples=config.val_samples,
    )


def _place(path: str | None) -> str:
    if path is None:
        raise ConfigError(
            "data.path: expected a folder or archive, and there is none; "
            "give it with --data DIR or in the experiment file"
        )
    return path


def _columns(config: schema.SampleData) -> dict[str, str] | None:
    """Return the column names that were set; the others are found by the source itself."""
    given = {role: getattr(config, f"{role}_column", None) for role in _COLUMNS}
    return {role: name for role, name in given.items() if name is not None} or None


def resolved(study: schema.Experiment, runs: Path) -> schema.Experiment:
    """Return a study whose backbones ``run:STUDY/PART`` name the folder of a run.

    Other folders of networks and tokenizers are named from the root, too: what was trained on them
    is then found from every folder.

    Args:
        study: The experiment.
        runs: Folder of all runs, in which the latest run of a study is looked for.

    Returns:
        The same, or with those names replaced by ``run:FOLDER/PART``.

    Raises:
        ConfigError: There is no such run, or it has no such part.
    """
    backbones = {
        key: config.model_copy(
            update={
                "name": _whole(_run_folder(key, config.name, runs)),
                "tokenizer": _whole_path(config.tokenizer),
            }
        )
        for key, config in study.backbones.items()
    }
    return study.model_copy(update={"backbones": backbones})


def _whole(name: str) -> str:
    """Return the name of a network in a folder with its path from the root."""
    library, _, rest = name.partition("/")
    if library == "transformers" and rest.startswith((".", "~")):
        return f"transformers/{Path(rest).expanduser().resolve()}"
    return name


def _whole_path(text: str | None) -> str | None:
    if text is None or not Path(text).expanduser().exists():
        return text
    return str(Path(text).expanduser().resolve())


def _run_folder(key: str, name: str, runs: Path) -> str:
    if not name.startswith(RUN_PREFIX):
        return name
    run, slash, part = name.removeprefix(RUN_PREFIX).rpartition("/")
    if not slash or not run or not part:
        raise ConfigError(f"backbones.{key}.name: expected run:RUN/PART, got {name!r}")
    folders = [Path(run).expanduser()]
    if "/" not in run:
        # NAME-YYYYMMDD-HHMMSS and NAME-PROFILE-YYYYMMDD-HHMMSS: the latest first.
        found = [p for p in runs.glob(f"{run}-*") if _STAMP.search(p.name) and _is_of(p, run)]
        folders += sorted(found, key=lambda p: _STAMP.findall(p.name)[-1], reverse=True)
    for folder in folders:
        if (folder / "models" / part / "part.json").is_file():
            # Whole, so that a model that was trained on it is found from every folder.
            return f"{RUN_PREFIX}{folder.resolve()}/{part}"
    raise ConfigError(
        f"backbones.{key}.name: expected the folder of a run, or a study with a finished run in "
        f"{runs}, with the part {part!r}; got {name!r}, and looked at "
        f"{', '.join(map(str, folders[:4]))}. Train it first: headstart run {Path(run).name}"
    )


def _is_of(folder: Path, study: str) -> bool:
    """Return whether a run is one of a study, for another's name may begin with the study's."""
    try:
        raw = yaml.safe_load((folder / EXPERIMENT_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return False
    return isinstance(raw, dict) and raw.get("name") == study


def build_backbone(
    key: str, config: schema.BackboneConfig, samples: Samples, *, allow_network: bool
) -> tuple[Backbone, str]:
    """Load a backbone and say where it is cut.

    Args:
        key: Its key in the experiment.
        config: One of the experiment's `backbones`.
        samples: What it has to take.
        allow_network: Whether its weights may be downloaded.

    Returns:
        The backbone, and the name of the cut.

    Raises:
        ConfigError: The backbone has no stage of that name, or takes other samples.
    """
    _check_options(key, config, samples)
    backbone = _load(config, samples, config.weights, config.seed, allow_network)
    kinds = {InputSpec: ("picture",), TextSpec: ("text", "pair"), SeriesSpec: ("sequence",)}
    taken = kinds[type(backbone.input_spec)]
    if samples.noun not in taken:
        raise ConfigError(
            f"backbones.{key}.name: {config.name} takes {taken[0]}s, and the data are "
            f"{samples.noun}s{samples.hint}: choose another backbone, or data.kind"
        )
    cut = backbone.resolve(config.cut if config.cut is not None else backbone.stages[-1])
    if backbone.ragged(cut):
        raise ConfigError(
            f"backbones.{key}.cut: expected {backbone.stages[-1]}, for a head reads one vector of "
            f"a {samples.noun}, got {config.cut!r}; stages of a part say what is frozen"
        )
    backbone.shape(cut)
    return backbone, cut


def fresh_backbone(config: schema.BackboneConfig, samples: Samples, seed: int) -> Backbone:
    """Build the same network with random weights; nothing is downloaded."""
    return _load(config, samples, "random", seed, False)


def _load(
    config: schema.BackboneConfig, samples: Samples, weights: str, seed: int, allow_network: bool
) -> Backbone:
    options = backbone_options(config, samples)
    return load_backbone(
        config.name,
        weights=weights,
        seed=seed,
        allow_network=allow_network,
        fit=config.fit if config.fit is not None else samples.fit,
        image_size=config.image_size,
        text=options.text,
        series=options.series,
    )


def backbone_options(config: schema.BackboneConfig, samples: Samples) -> BackboneOptions:
    """Return how a network was asked for besides its name and weights, as a model keeps it."""
    texts = samples.noun in ("text", "pair")
    return BackboneOptions(
        text=_text_options(config, samples) if texts else None,
        series=_series_options(config, samples) if samples.noun == "sequence" else None,
    )


def _text_options(config: schema.BackboneConfig, samples: Samples) -> TextOptions:
    recurrent = config.name.startswith(RUN_PREFIX)
    pairs: Pairs = "single"
    if samples.noun == "pair":
        pairs = config.pairs or ("separately" if recurrent else "together")
    return TextOptions(
        max_length=config.max_length,
        pooling=config.pooling,
        pairs=pairs,
        tokenizer=config.tokenizer,
        strip_markup=config.strip_markup,
    )


def _series_options(config: schema.BackboneConfig, samples: Samples) -> SeriesOptions:
    return SeriesOptions(
        channels=samples.channels,
        max_length=samples.max_length,
        hidden=64 if config.hidden is None else config.hidden,
        layers=1 if config.layers is None else config.layers,
        pooling=None if config.pooling == "pooler" else config.pooling,
    )


def _check_options(key: str, config: schema.BackboneConfig, samples: Samples) -> None:
    """Refuse settings that mean nothing to the samples at hand."""
    own = {
        "picture": ("image_size", "fit"),
        "text": ("max_length", "pooling", "tokenizer", "strip_markup"),
        "pair": ("max_length", "pooling", "tokenizer", "strip_markup", "pairs"),
        "sequence": ("hidden", "layers", "pooling"),
    }
    if config.name.startswith(RUN_PREFIX) and config.tokenizer is not None:
        raise ConfigError(
            f"backbones.{key}.tokenizer: expected nothing, for a language model of a run reads the "
            "words that it learnt"
        )
    every = sorted({name for names in own.values() for name in names})
    wrong = [n for n in every if n not in own[samples.noun] and getattr(config, n)]
    if wrong:
        raise ConfigError(
            f"backbones.{key}.{wrong[0]}: expected nothing, for the data are "
            f"{samples.noun}s{samples.hint}; for these there are {', '.join(own[samples.noun])}"
        )
    if samples.noun == "sequence" and config.pooling == "pooler":
        raise ConfigError(
            f"backbones.{key}.pooling: expected last, first, mean, max or attention, got 'pooler': "
            "a recurrent network has no layer of that kind"
        )
