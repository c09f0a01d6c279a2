"""What a part leaves, in memory and on the disk: a part that is done is never run again."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from headstart._util import files
from headstart.config import schema
from headstart.errors import RunError
from headstart.predict import TrainedModel, load_model
from headstart.train import Outcome
from headstart.types import Estimates, JsonDict, Predictions, StepRecord

DONE_NAME = "part.json"

_PART: TypeAdapter[schema.Part] = TypeAdapter(schema.Part)


@dataclass(frozen=True, slots=True)
class Member:
    """One member's result.

    Attributes:
        values: The swept settings; empty for a model.
        outcome: How its training ended.
        records: Its history.
        val_accuracy: Validation accuracy with the weights it ended with, or None if it diverged,
            or where there is no such thing.
        val_loss: Validation loss, likewise.
    """

    values: dict[str, float | int]
    outcome: Outcome
    records: tuple[StepRecord, ...]
    val_accuracy: float | None
    val_loss: float | None


@dataclass(frozen=True, slots=True)
class StageReport:
    """How one stage of a training went.

    Attributes:
        name: What a reader sees.
        trainable: What was trained, in a few words.
        cut: Last frozen stage; ``input`` where nothing was.
        epochs: Epochs that were trained.
        best_epoch: The epoch whose weights it ended with.
        optimizer: Its kind.
        learning_rate: Before the schedule's factor.
        wall_seconds: Extraction included.
        extraction_seconds: Of that, computing features.
        features: ``stored`` or ``recomputed``.
        disk_bytes: What the stored features take.
        replayed_from: The earlier cut whose stored features were continued, or None.
        parameters_trainable: Numbers that the optimiser moved.
        parameters_frozen: Numbers that it did not.
        extracted: Pictures that went through the frozen part for it.
        reused: Pictures whose features were there already.
        engine: What computed the features.
        precision: What the forward pass of its training steps computed in.
        compiled: Whether that pass ran through torch's compiler.
    """

    name: str
    trainable: str
    cut: str
    epochs: int
    best_epoch: int
    optimizer: str
    learning_rate: float
    wall_seconds: float
    extraction_seconds: float
    features: str
    disk_bytes: int
    replayed_from: str | None
    parameters_trainable: int
    parameters_frozen: int
    extracted: int
    reused: int
    engine: str
    precision: str = "float32"
    compiled: bool = False


@dataclass(frozen=True, slots=True)
class PartResult:
    """What a part leaves.

    Attributes:
        part: Its resolved configuration, with the settings of `best_of` and of the best member.
        members: All members, in the order of the grid; none for an ensemble or zero-shot part.
        best: Index of the best member by validation, or None where all diverged.
        trained: The best member's weights and their description, or None.
        predictions: The best member's predictions of each split; empty where all diverged.
        estimates: The same of a regression; one of the two is empty.
        examples: Classes of the texts that the study asks for, as in results.json.
        wall_seconds: Everything of all members, extraction included.
        extraction_seconds: Of that, computing features.
        stages: How each stage went (of the member that stands for the part).
        prediction: Time of the prediction step, or None.
        special: What an ensemble or zero-shot part has to say besides, or None.
        scores: Scores besides the usual ones, by split and name, as in results.json.
        parameters_total: Parameters of the whole network, or of all members of an ensemble.
        size_bytes: Bytes of all weights.
        notes: Remarks for the report.
        temperature: What the logits of its predictions are divided by; None where they are not.
        seeds: Figures of all its seeds, as in results.json; None where it has one.
    """

    part: schema.Part
    predictions: Mapping[str, Predictions]
    wall_seconds: float
    members: tuple[Member, ...] = ()
    best: int | None = None
    trained: TrainedModel | None = None
    extraction_seconds: float = 0.0
    stages: tuple[StageReport, ...] = ()
    prediction: JsonDict | None = None
    special: JsonDict | None = None
    scores: Mapping[str, JsonDict] = field(default_factory=dict)
    parameters_total: int = 0
    size_bytes: int = 0
    notes: tuple[str, ...] = ()
    estimates: Mapping[str, Estimates] = field(default_factory=dict)
    examples: tuple[JsonDict, ...] = ()
    temperature: float | None = None
    seeds: JsonDict | None = None

    @property
    def shown(self) -> Member:
        """The member that stands for the part: the best, or the first where all diverged."""
        return self.members[self.best if self.best is not None else 0]

    @property
    def mode(self) -> str:
        """``cached``, ``standard`` or ``staged``; or the kind of a part that is not trained."""
        if not isinstance(self.part, schema.TrainedPart):
            return self.part.kind
        staged = self.part.stages is not None or self.part.from_scratch
        return "staged" if staged else self.part.mode

    @property
    def warm(self) -> bool:
        """Whether all its stored features lay in the cache already, and it has some."""
        stored = [s for s in self.stages if s.features == "stored"]
        return bool(stored) and all(s.extracted == 0 for s in stored)


def save_result(folder: Path, result: PartResult) -> None:
    """Write what `load_result` needs besides predictions and weights, and so mark a part as done.

    Args:
        folder: The part's folder, where its predictions and weights are already.
        result: What the part left.
    """
    record = {
        "part": result.part.model_dump(mode="json"),
        "members": [_member_json(m) for m in result.members],
        "best": result.best,
        "trained": result.trained is not None,
        "splits": list(result.predictions),
        "classes": list(next(iter(result.predictions.values())).classes)
        if result.predictions
        else [],
        "wall_seconds": result.wall_seconds,
        "extraction_seconds": result.extraction_seconds,
        "stages": [asdict(s) for s in result.stages],
        "prediction": result.prediction,
        "special": result.special,
        "scores": dict(result.scores),
        "parameters_total": result.parameters_total,
        "size_bytes": result.size_bytes,
        "notes": list(result.notes),
        "estimates": list(result.estimates),
        "examples": list(result.examples),
        "temperature": result.temperature,
        "seeds": result.seeds,
    }
    files.write_json(folder / DONE_NAME, record)


def load_result(folder: Path) -> PartResult | None:
    """Read what a part left.

    Args:
        folder: The part's folder.

    Returns:
        The result, or None where the part is not done.

    Raises:
        RunError: A file of a part that is done is missing or damaged.
    """
    path = folder / DONE_NAME
    if not path.exists():
        return None
    try:
        raw: JsonDict = files.read_json(path)
        classes = tuple(raw["classes"])
        predictions = {s: read_predictions(folder, s, classes) for s in raw["splits"]}
        estimates = {s: read_estimates(folder, s) for s in raw.get("estimates", [])}
        return PartResult(
            part=_PART.validate_json(json.dumps(raw["part"])),
            members=tuple(_member(m) for m in raw["members"]),
            best=raw["best"],
            trained=load_model(folder) if raw["trained"] else None,
            predictions=predictions,
            wall_seconds=raw["wall_seconds"],
            extraction_seconds=raw["extraction_seconds"],
            stages=tuple(StageReport(**s) for s in raw["stages"]),
            prediction=raw["prediction"],
            special=raw["special"],
            scores=raw["scores"],
            parameters_total=raw["parameters_total"],
            size_bytes=raw["size_bytes"],
            notes=tuple(raw["notes"]),
            estimates=estimates,
            examples=tuple(raw.get("examples", ())),
            temperature=raw.get("temperature"),
            seeds=raw.get("seeds"),
        )
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise RunError(
            f"{folder}: expected the files of a part that is done, but {error!r}: remove the "
            "folder to run this part again"
        ) from error


def read_predictions(folder: Path, split: str, classes: tuple[str, ...]) -> Predictions:
    """Read a split's predictions as `headstart.runs.record` wrote them."""
    table = pq.read_table(folder / f"predictions-{split}.parquet")
    index = {name: i for i, name in enumerate(classes)}
    columns = [table.column(f"p_{i}").to_numpy() for i in range(len(classes))]
    return Predictions(
        names=tuple(table.column("name").to_pylist()),
        labels=np.array([index[c] for c in table.column("label").to_pylist()], dtype=np.int64),
        probabilities=np.stack(columns, axis=1).astype(np.float32),
        classes=classes,
    )


def read_estimates(folder: Path, split: str) -> Estimates:
    """Read a split's estimates as `headstart.runs.record` wrote them."""
    table = pq.read_table(folder / f"predictions-{split}.parquet")
    return Estimates(
        names=tuple(table.column("name").to_pylist()),
        targets=table.column("target").to_numpy().astype(np.float32),
        values=table.column("predicted").to_numpy().astype(np.float32),
    )


def _member_json(member: Member) -> JsonDict:
    """Return a member as JSON; losses that are no numbers become null."""
    return {
        "values": member.values,
        "outcome": asdict(member.outcome),
        "records": [{k: _finite(v) for k, v in asdict(r).items()} for r in member.records],
        "val_accuracy": member.val_accuracy,
        "val_loss": member.val_loss,
    }


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _member(raw: JsonDict) -> Member:
    records = tuple(StepRecord(**{**r, **_nan(r)}) for r in raw["records"])
    return replace(
        Member(raw["values"], Outcome(**raw["outcome"]), records, None, None),
        val_accuracy=raw["val_accuracy"],
        val_loss=raw["val_loss"],
    )


def _nan(record: JsonDict) -> dict[str, float]:
    return {key: float("nan") for key, value in record.items() if value is None}
