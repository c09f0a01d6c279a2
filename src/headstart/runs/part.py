"""One part of a study, from features to predictions."""

import time

import numpy as np
import torch

from headstart._util.devices import full_float32
from headstart.config import schema
from headstart.data.dataset import Dataset
from headstart.data.encode import converter
from headstart.data.split import n_labels_per_class
from headstart.data.text import pair_bytes, text_bytes
from headstart.runs import build
from headstart.runs.bench import Bench
from headstart.runs.frozen import cached_member, standard_member, train_frozen
from headstart.runs.result import Member, PartResult
from headstart.runs.seeds import seeds_record
from headstart.runs.staged import staged_member, train_staged
from headstart.runs.training import Candidate, choose, members_of, parameters_of
from headstart.types import Estimates, FloatArray, IntArray, JsonDict, Predictions


def train_rows(dataset: Dataset, part: schema.Part) -> IntArray:
    """Return the training positions that a part may use (see `labels_per_class`)."""
    rows = np.asarray(dataset.splits["train"])
    if not isinstance(part, schema.TrainedPart) or part.labels_per_class is None:
        return rows
    return n_labels_per_class(
        dataset.labels, rows, part.labels_per_class, part.seed, dataset.classes
    )


def splits_of(dataset: Dataset, part: schema.TrainedPart) -> dict[str, IntArray]:
    """Return the positions of each split, of the training split those that a part may use."""
    return {**dataset.splits, "train": train_rows(dataset, part)}


def _is_staged(part: schema.TrainedPart) -> bool:
    return part.stages is not None or part.from_scratch


def separate_members(part: schema.TrainedPart, least: int = 2) -> int:
    """Return how many members of a part are trained one by one.

    Args:
        part: Its configuration.
        least: The fewest that count as such.

    Returns:
        How many; 0 where they are fewer, or are trained as one batch.
    """
    if isinstance(part, schema.SweepPart) and part.search is not None:
        return 0  # its trials are chosen one after the other
    count = len(build.members_of(part))
    by_itself = _is_staged(part) or part.mode == "standard"
    return count if by_itself and count >= least else 0


def train_member(name: str, part: schema.TrainedPart, bench: Bench, index: int) -> Member:
    """Train one of several members that are trained one by one, and leave its checkpoints.

    Args:
        name: The part's name.
        part: Its configuration.
        bench: What the study shares.
        index: Which member.

    Returns:
        The member.
    """
    splits = splits_of(bench.dataset, part)
    if _is_staged(part):
        return staged_member(name, part, bench, splits, index)
    if part.mode == "cached":
        fitted, _ = cached_member(name, part, bench, splits, index, bench.features())
    else:
        fitted, _ = standard_member(name, part, bench, splits, index)
    _, outcomes, records, _ = fitted
    return members_of([build.members_of(part)[index]], outcomes, records)[0]


def predictions_of(dataset: Dataset, rows: IntArray, probabilities: FloatArray) -> Predictions:
    """Return what was said of some samples, with what is true of them."""
    return Predictions(
        names=tuple(dataset.names[i] for i in rows),
        labels=dataset.labels[rows],
        probabilities=probabilities,
        classes=dataset.classes,
    )


def estimates_of(dataset: Dataset, rows: IntArray, values: FloatArray) -> Estimates:
    """Return what a regression said of some samples, with what is true of them."""
    assert dataset.targets is not None
    return Estimates(tuple(dataset.names[i] for i in rows), dataset.targets[rows], values)


@torch.inference_mode()
def example_records(bench: Bench, candidate: Candidate, temperature: float) -> tuple[JsonDict, ...]:
    """Return the class of each text that the study asks for, with all probabilities."""
    if not bench.examples:
        return ()
    convert = converter(candidate.backbone.input_spec)
    records = []
    for first, second in bench.examples:
        data = text_bytes(first) if second is None else pair_bytes(first, second)
        x: torch.Tensor = torch.from_numpy(convert(data)[None]).to(bench.device)
        with full_float32():
            for module in candidate.network(bench):
                x = module.eval()(x)
        shares = torch.softmax(x[0, 0].float() / temperature, dim=-1).cpu().tolist()
        classes = bench.dataset.classes
        records.append(
            {
                "text": first,
                "second": second,
                "predicted": classes[shares.index(max(shares))],
                "probabilities": dict(zip(classes, shares, strict=True)),
            }
        )
    return tuple(records)


def run_part(name: str, part: schema.TrainedPart, bench: Bench) -> PartResult:
    """Train a model or all members of a sweep, choose by validation, and predict every split.

    Args:
        name: The part's name.
        part: Its configuration, `best_of` applied.
        bench: Data, backbone, device and everything else that parts share.

    Returns:
        Members, the best one's weights and predictions, and times.

    Raises:
        FrozenStateError: Something that was frozen changed while the rest was trained.
        StoppedError: Somebody asked to stop; the checkpoint is written.
    """
    splits = splits_of(bench.dataset, part)
    start = time.perf_counter()
    trained = (train_staged if _is_staged(part) else train_frozen)(name, part, bench, splits)
    # The first part of a study that asks for features pays for them; later ones share them.
    wall_seconds = time.perf_counter() - start + trained.earlier_seconds
    best = choose(trained.members, part)
    shown = best if best is not None else next(iter(trained.candidates))
    candidate = trained.candidates[shown]
    total, size_bytes = parameters_of(candidate.backbone, bench.cut, candidate.head)
    predictions: dict[str, Predictions] = {}
    estimates: dict[str, Estimates] = {}
    prediction = None
    temperature = 1.0
    if best is not None:
        filled = [split for split, rows in splits.items() if len(rows)]
        outputs, temperature = candidate.answers(filled, bench, splits, part.calibrate)
        for split, found in outputs.items():
            if bench.dataset.targets is None:
                predictions[split] = predictions_of(bench.dataset, splits[split], found)
            else:
                estimates[split] = estimates_of(bench.dataset, splits[split], found)
        spec = build.head_spec(part.head)
        words = f"{bench.cut} {spec.hidden} {spec.normalization}"
        prediction = bench.time(words, candidate.network(bench))
    return PartResult(
        part=part if best is None else build.with_values(part, trained.members[best].values),
        members=tuple(trained.members),
        best=best,
        trained=None if best is None else candidate.trained(bench, temperature),
        predictions=predictions,
        estimates=estimates,
        examples=() if best is None else example_records(bench, candidate, temperature),
        wall_seconds=wall_seconds,
        extraction_seconds=trained.extraction_seconds,
        stages=candidate.stages,
        prediction=prediction,
        parameters_total=total,
        size_bytes=size_bytes,
        notes=tuple(trained.notes),
        temperature=temperature if part.calibrate else None,
        seeds=seeds_record(part, trained.repeats),
    )
