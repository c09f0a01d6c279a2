"""Language models: trained by the one loop, measured word by word, kept as backbones."""

import time
from dataclasses import dataclass, fields
from pathlib import Path

import torch

from headstart._util.stopping import Stop
from headstart.backbones.recurrent import LanguageNetwork, RecurrentSpec
from headstart.backbones.recurrent_sampling import sample_text
from headstart.backbones.recurrent_saved import save_language_model
from headstart.backbones.weights import count_parameters, seeded
from headstart.config import schema
from headstart.data.language import Corpus
from headstart.errors import ConfigError
from headstart.evaluate import perplexity
from headstart.heads import undecayed
from headstart.runs import build
from headstart.runs.bench import checkpoint_folder
from headstart.runs.record import score_json
from headstart.runs.result import Member, PartResult, StageReport
from headstart.runs.trackers import Trackers, watching
from headstart.runs.training import Watched
from headstart.train import (
    CheckpointFolder,
    LanguageSource,
    Outcome,
    ParameterGroup,
    ScheduleSpec,
    TrainPlan,
    build_grouped_optimizer,
    drain,
    fit,
    token_nll,
)
from headstart.types import JsonDict, Progress, Score, StepRecord


@dataclass(frozen=True, slots=True)
class LanguageBench:
    """What the language models of a study share.

    Attributes:
        corpus: The text as numbers.
        device: Where torch computes.
        progress: Where to show how far it is.
        checkpoints: How often a training in progress is saved.
        checkpoint_root: Folder of the run's checkpoints.
        stop: Says whether somebody asked the program to stop.
        folder: Where the part's files go.
        trackers: Who else is shown the records as they come.
    """

    corpus: Corpus
    device: torch.device
    progress: Progress
    checkpoints: schema.Checkpoints
    checkpoint_root: Path
    stop: Stop
    folder: Path
    trackers: Trackers


def spec_of(part: schema.LanguageModelPart, words: int) -> RecurrentSpec:
    """Return the architecture that a part asks for.

    Args:
        part: Its configuration.
        words: Size of the vocabulary.

    Returns:
        The architecture.

    Raises:
        ConfigError: There is no such network.
    """
    own = {field.name for field in fields(RecurrentSpec)}
    spec = RecurrentSpec(inputs=words, **part.model_dump(include=own))
    spec.check()
    return spec


def run_language(name: str, part: schema.LanguageModelPart, bench: LanguageBench) -> PartResult:
    """Train a language model from random weights, measure it, and keep it as a backbone.

    Args:
        name: The part's name.
        part: Its configuration.
        bench: What the study shares.

    Returns:
        Its history, perplexities and samples; the weights are written to the part's folder.

    Raises:
        StoppedError: Somebody asked to stop; the checkpoint is written.
    """
    start = time.perf_counter()
    corpus = bench.corpus
    spec = spec_of(part, len(corpus.vocabulary))
    with seeded(part.seed, f"headstart/{part.cell} language model"):
        network = LanguageNetwork(spec)
    network.to(bench.device)
    source = LanguageSource(
        network,
        corpus.splits,
        batch_size=part.batch_size,
        bptt=part.bptt,
        seed=part.seed,
        random_lengths=part.random_bptt,
        device=bench.device,
    )
    folder = bench.checkpoint_root / name / "member-0-stage-0"
    checkpoint = checkpoint_folder(folder, bench.checkpoints, bench.stop)
    earlier = checkpoint.elapsed()
    records, outcome = _train(name, part, network, source, bench, checkpoint)
    wall_seconds = time.perf_counter() - start + earlier
    scores = {} if outcome.state == "diverged" else _scores(network, source, bench)
    val = [r for r in records if r.split == "val" and r.epoch == outcome.best_epoch]
    special: JsonDict = {
        "cell": part.cell,
        "embedding": part.embedding,
        "hidden": part.hidden,
        "layers": part.layers,
        "tied": part.tied,
        "samples": [] if not scores else _samples(part, network, corpus),
        "references": [r.model_dump() for r in part.references],
    }
    if scores:
        about: JsonDict = {
            "origin": f"language model {name} of {corpus.origin}",
            "license": "not applicable",
            "perplexity": {split: score_json(s["perplexity"]) for split, s in scores.items()},
        }
        save_language_model(bench.folder, network, corpus.tokenizer(), about)
    parameters = count_parameters(network)
    return PartResult(
        part=part,
        members=(Member({}, outcome, tuple(records), None, val[0].loss if val else None),),
        best=0 if scores else None,
        predictions={},
        wall_seconds=wall_seconds,
        stages=(_report(part, outcome, wall_seconds, parameters),),
        special=special,
        scores={split: {k: score_json(v) for k, v in s.items()} for split, s in scores.items()},
        parameters_total=parameters,
        size_bytes=4 * parameters,
    )


def _train(
    name: str,
    part: schema.LanguageModelPart,
    network: LanguageNetwork,
    source: LanguageSource,
    bench: LanguageBench,
    checkpoint: CheckpointFolder,
) -> tuple[list[StepRecord], Outcome]:
    exempt = undecayed(network) if part.optimizer.weight_decay_on == "weights" else frozenset()
    groups = [
        ParameterGroup(
            "all",
            tuple(p for p in network.parameters() if (id(p) not in exempt) == decays),
            part.optimizer.learning_rate,
            decays,
        )
        for decays in (True, False)
    ]
    optimizer = build_grouped_optimizer(
        part.optimizer.kind,
        [group for group in groups if group.parameters],
        build.hyperparameters(part.optimizer),
        nesterov=build.nesterov(part.optimizer),
    )
    plan = TrainPlan(
        epochs=part.epochs,
        schedule=ScheduleSpec(**part.schedule.model_dump()),
        learning_rates=(part.optimizer.learning_rate,),
        keep=part.keep,
        early_stopping=build.early_stopping(part.early_stopping),
        seed=part.seed,
        clip_norm=part.clip_norm,
        record_steps=part.record_steps,
        average_after=part.average_after,
    )
    splits = bench.corpus.splits
    # The first word of each stream is not told by any before it.
    streams = part.batch_size * (len(splits["train"]) // part.batch_size - 1)
    total = part.epochs * (streams + len(splits["val"]) - 1)
    with bench.progress.task(f"{name}: training", total, "words") as task:
        steps = fit(network, optimizer, Watched(source, task), plan, checkpoint)
        records, outcomes = drain(watching(steps, bench.trackers, name))
    return records, outcomes[0]


def _scores(
    network: LanguageNetwork, source: LanguageSource, bench: LanguageBench
) -> dict[str, dict[str, Score]]:
    """Return loss and perplexity of validation and test, every word but the first once."""
    found = {}
    for split in ("val", "test"):
        bench.progress.say(f"measuring the perplexity of the {split} text")
        found[split] = perplexity(token_nll(network, source, split))
    return found


def _samples(
    part: schema.LanguageModelPart, network: LanguageNetwork, corpus: Corpus
) -> list[JsonDict]:
    return [
        {
            "start": "",
            "temperature": part.temperature,
            "text": sample_text(
                network,
                corpus.vocabulary,
                seed=part.seed + number,
                words=part.sample_words,
                temperature=part.temperature,
                unknown=False,
            ),
        }
        for number in range(part.samples)
    ]


def _report(
    part: schema.LanguageModelPart, outcome: Outcome, seconds: float, parameters: int
) -> StageReport:
    return StageReport(
        name="all",
        trainable="all",
        cut="input",
        epochs=outcome.epochs,
        best_epoch=outcome.best_epoch,
        optimizer=part.optimizer.kind,
        learning_rate=part.optimizer.learning_rate,
        wall_seconds=seconds,
        extraction_seconds=0.0,
        features="recomputed",
        disk_bytes=0,
        replayed_from=None,
        parameters_trainable=parameters,
        parameters_frozen=0,
        extracted=0,
        reused=0,
        engine="torch",
    )


def check_language(name: str, part: schema.LanguageModelPart, corpus: Corpus) -> None:
    """Refuse, before any work, what cannot be trained on a text.

    Args:
        name: The part's name.
        part: Its configuration.
        corpus: The text.

    Raises:
        ConfigError: There is no such network, or the text is too short for its batches.
    """
    corpus.tokenizer()  # it is kept with the model: a library that is missing is told of now
    try:
        spec_of(part, len(corpus.vocabulary))
    except ConfigError as error:
        raise ConfigError(f"parts.{name}.{error}") from error
    words = len(corpus.splits["train"])
    if words < 2 * part.batch_size:
        raise ConfigError(
            f"parts.{name}.batch_size: expected at most {words // 2:,}, for the training text has "
            f"{words:,} words, got {part.batch_size}"
        )
