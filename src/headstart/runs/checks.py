"""What a study is refused for, before any long work."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from headstart.backbones.base import POOLED, Backbone
from headstart.config import schema
from headstart.data.checks import probe_pair, probe_text
from headstart.data.dataset import Dataset
from headstart.data.encode import converter
from headstart.data.language import Corpus
from headstart.data.text import pair_bytes, text_bytes
from headstart.errors import ConfigError, DataError
from headstart.runs.language import check_language
from headstart.runs.part import train_rows
from headstart.runs.staged import cuts_of
from headstart.runs.zero_shot import check_zero_shot


@dataclass(frozen=True, slots=True)
class Loaded:
    """A backbone of the study, and the stage that heads read."""

    backbone: Backbone
    cut: str


def backbone_key(study: schema.Experiment, part: schema.Part) -> str | None:
    """Return the key of a part's backbone: the first where it names none, None for an ensemble."""
    if not isinstance(part, schema.TrainedPart | schema.ZeroShotPart):
        return None
    return part.backbone if part.backbone is not None else next(iter(study.backbones))


def check_stages(
    study: schema.Experiment, planned: Sequence[str], loaded: Mapping[str, Loaded]
) -> None:
    """Refuse stages that name what a backbone does not have, or part what belongs together."""
    for name in planned:
        part = study.parts[name]
        key = backbone_key(study, part)
        if not isinstance(part, schema.TrainedPart) or key is None:
            continue
        trained: set[str] = set()
        if part.stages is not None or part.from_scratch:
            try:
                cuts = cuts_of(part, loaded[key].backbone, loaded[key].cut)
            except ConfigError as error:
                raise ConfigError(f"parts.{name}.stages: {error}") from error
            trained = {stage for cut in cuts for stage in cut.trained}
        if study.backbones[key].pooling == "attention" and POOLED not in trained:
            raise ConfigError(
                f"backbones.{key}.pooling: expected a part that trains the stage {POOLED}, for "
                f"attention is learnt there and is the mean until then; parts.{name} does not: "
                f"give it a stage with trainable: [{POOLED}], or choose mean"
            )


def check_language_parts(study: schema.Experiment, planned: Sequence[str], corpus: Corpus) -> None:
    """Refuse, before any training, language models that cannot be trained on a text."""
    for name in planned:
        part = study.parts[name]
        assert isinstance(part, schema.LanguageModelPart), "the configuration was checked"
        check_language(name, part, corpus)


def examples_of(study: schema.Experiment) -> tuple[tuple[str, str | None], ...]:
    """Return the texts whose class is to be told, each with its second text or None."""
    return tuple((e, None) if isinstance(e, str) else (e[0], e[1]) for e in study.examples)


def _encode_examples(study: schema.Experiment, backbone: Backbone) -> None:
    if not study.examples:
        return
    convert = converter(backbone.input_spec)
    for index, (first, second) in enumerate(examples_of(study)):
        try:
            # As of the data: the special tokens alone are no text, though a network takes them.
            if second is None:
                data = text_bytes(first)
                probe_text(data)
            else:
                data = pair_bytes(first, second)
                probe_pair(data)
            convert(data)
        except DataError as error:
            raise ConfigError(f"examples.{index}: {error}") from error


def _check_examples(study: schema.Experiment, dataset: Dataset) -> None:
    wanted = {"text": False, "pair": True}.get(dataset.noun)
    for index, (_, second) in enumerate(examples_of(study)):
        if (second is not None) != wanted:
            asked = {"text": "one text", "pair": "[first text, second text]"}
            raise ConfigError(
                f"examples.{index}: expected {asked.get(dataset.noun, 'nothing')}, for the data "
                f"are {dataset.noun}s"
            )


def check_data(
    study: schema.Experiment,
    planned: Sequence[str],
    loaded: Mapping[str, Loaded],
    dataset: Dataset,
) -> None:
    """Refuse, before any training, a part that wants what the data have not."""
    _check_examples(study, dataset)
    if dataset.noun != "picture" and study.cache.engine not in ("auto", "torch"):
        raise ConfigError(
            f"cache.engine: expected auto or torch, for the data are {dataset.noun}s, got "
            f"{study.cache.engine!r}"
        )
    for one in loaded.values():
        _encode_examples(study, one.backbone)
    for name in planned:
        part = study.parts[name]
        if isinstance(part, schema.ZeroShotPart):
            key = backbone_key(study, part)
            assert key is not None
            check_zero_shot(name, part, loaded[key].backbone, dataset)
        try:
            train_rows(dataset, part)
        except DataError as error:
            raise DataError(f"parts.{name}.labels_per_class: {error}") from error
