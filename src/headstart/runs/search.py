"""Searching for settings: trials that learn from each other, here or on many machines.

Optuna chooses and keeps the trials in a storage that outlives the program: what was finished is
never trained again, what was in progress goes on from its checkpoint. With several trials at a time
the order in which they end has a say, so that a search is not repeated exactly.
"""

import math
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from headstart._util import files
from headstart._util.imports import optional
from headstart._util.seeding import seed_of
from headstart.config import schema
from headstart.runs.bench import Bench
from headstart.runs.part import train_member
from headstart.train import Judge

_JOURNAL = "trials.log"
_ID = "id"
_WARM_UP = 1  # epochs after which no trial is ended
_LEAST = 4  # earlier trials that a median needs

Values = dict[str, float | int]


@dataclass(frozen=True, slots=True)
class Trial:
    """Settings that are to be tried.

    Attributes:
        number: Which trial, from 0: also the member's index.
        values: Dotted keys and numbers.
    """

    number: int
    values: Values


class Trials:
    """The trials of one part, in their storage."""

    def __init__(self, part: schema.SweepPart, name: str, folder: Path) -> None:
        """Open the storage, or make it.

        Args:
            part: With a search.
            name: The part's name.
            folder: The run folder; it may be renamed between two runs of the program.

        Raises:
            MissingExtraError: Optuna is not installed.
        """
        assert part.search is not None
        optuna = self._optuna = optional("optuna", "ray", "a sweep with a search")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._part, self._config = part, part.search
        given = part.search.storage
        # Whole: Optuna locks its journal by a link to it, which would count a relative path from
        # where the link is, and who waits for a link to nothing waits for ever.
        own = (folder / "searches" / name).resolve()
        pruner = (
            optuna.pruners.MedianPruner(n_startup_trials=_LEAST, n_warmup_steps=_WARM_UP)
            if part.search.pruning == "median"
            else optuna.pruners.NopPruner()
        )
        self._study = optuna.create_study(
            storage=_journal(optuna, own) if given is None else given,
            # A journal holds one search; a database holds those of many runs.
            study_name=name if given is None else _identity(own),
            sampler=self._sampler(0),
            pruner=pruner,
            direction="maximize" if part.select.metric == "accuracy" else "minimize",
            load_if_exists=True,
        )

    def pending(self) -> list[Trial]:
        """Return the trials that were begun and not finished, as when the program was killed."""
        running = self._optuna.trial.TrialState.RUNNING
        trials = self._study.get_trials(deepcopy=False)
        return [self._completed(trial.number) for trial in trials if trial.state == running]

    def more(self) -> int:
        """Return how many trials are still to be begun."""
        return max(0, self._config.trials - len(self._study.get_trials(deepcopy=False)))

    def ask(self) -> Trial:
        """Choose settings to try next."""
        return self._completed(self._study.ask().number)

    def tell(self, number: int, figure: float) -> None:
        """Say how a trial ended.

        Args:
            number: Which.
            figure: What `train_trial` returned; not a number where it diverged.
        """
        states = self._optuna.trial.TrialState
        if self._frozen(number).state == states.RUNNING:
            failed = not math.isfinite(figure)
            self._study.tell(
                number,
                None if failed else figure,
                state=states.FAIL if failed else states.COMPLETE,
            )

    def judge(self, number: int) -> Judge:
        """Return what says after each epoch whether a trial goes on.

        Args:
            number: Which.

        Returns:
            Given an epoch, its validation loss and, where it is known, its validation accuracy:
            whether another one is trained.
        """
        frozen = self._frozen(number)
        trial = self._optuna.trial.Trial(self._study, frozen._trial_id)
        reported = set(frozen.intermediate_values)

        def goes_on(epoch: int, loss: float, accuracy: float = math.nan) -> bool:
            if not math.isfinite(loss):
                return True  # the loop itself ends it
            step = epoch - 1  # Optuna counts from 0
            if reported and step < max(reported):
                return True  # as it did before the program was killed, behind its last checkpoint
            if step not in reported:
                trial.report(figure_of(self._part, loss, accuracy), step)
                reported.add(step)
            return not trial.should_prune()

        return goes_on

    def tried(self) -> tuple[Values, ...]:
        """Return the settings of all trials, in order."""
        return tuple(self._values(trial) for trial in self._study.get_trials(deepcopy=False))

    def _completed(self, number: int) -> Trial:
        """Return a trial after choosing what is not chosen yet: all of a new one.

        Where the program was killed while it chose, what is missing is what it would have been.
        """
        frozen = self._frozen(number)
        before = set(frozen.params)
        # A stream for each trial: one that was stopped and goes on chooses as if it never was.
        sampler = self._study.sampler = self._sampler(number)
        trial = self._optuna.trial.Trial(self._study, frozen._trial_id)
        for key, given in self._config.space.items():
            distribution = self._distribution(key, given)
            by_itself = key not in trial.relative_params and not distribution.single()
            if key in before and by_itself:
                # Drawn already: the stream goes on behind it.
                sampler.sample_independent(self._study, frozen, key, distribution)
            trial._suggest(key, distribution)
        return Trial(number, self._values(trial))

    def _values(self, trial: Any) -> Values:
        found = trial.params  # a database returns them in an order of its own
        return {key: found[key] for key in self._config.space}

    def _sampler(self, number: int) -> Any:
        seed = seed_of("search", self._part.seed, number) % 2**32
        samplers = self._optuna.samplers
        if self._config.sampler == "random":
            return samplers.RandomSampler(seed=seed)
        return samplers.TPESampler(seed=seed, constant_liar=True)

    def _frozen(self, number: int) -> Any:
        return self._study.get_trials(deepcopy=False)[number]

    def _distribution(self, key: str, given: schema.Range | tuple[float | int, ...]) -> Any:
        distributions = self._optuna.distributions
        if not isinstance(given, schema.Range):
            return distributions.CategoricalDistribution(given)
        if _is_whole(self._part, key):
            return distributions.IntDistribution(int(given.low), int(given.high), log=given.log)
        return distributions.FloatDistribution(given.low, given.high, log=given.log)


def _is_whole(part: schema.SweepPart, key: str) -> bool:
    """Return whether a setting is a whole number, as the schema says."""
    owner: BaseModel = part
    *path, last = key.split(".")
    for step in path:
        owner = getattr(owner, step)
    return type(owner).model_fields[last].annotation is int


def _journal(optuna: Any, folder: Path) -> Any:
    folder.mkdir(parents=True, exist_ok=True)
    backend = optuna.storages.journal.JournalFileBackend(str(folder / _JOURNAL))
    return optuna.storages.JournalStorage(backend)


def _identity(folder: Path) -> str:
    """Return what a search is called in a database: drawn once, whatever the run folder's name."""
    path = folder / _ID
    if not path.exists():
        # Whoever shares trials out is here before those that train them.
        files.write_text(path, f"{uuid.uuid4()}\n")
    return path.read_text(encoding="utf-8").strip()


def figure_of(part: schema.SweepPart, loss: float, accuracy: float | None) -> float:
    """Return what a search goes by: the validation figure that chooses the best member, too.

    Args:
        part: With a search.
        loss: On validation.
        accuracy: On validation; None or not a number where there is none, or it is not known.

    Returns:
        The figure: a loss where `select.metric` is loss, and less is better; else more is better,
        and where there is no accuracy it is the loss below zero.
    """
    if part.select.metric == "loss":
        return loss
    return -loss if accuracy is None or math.isnan(accuracy) else accuracy


def with_tried(part: schema.SweepPart, tried: tuple[Values, ...]) -> schema.SweepPart:
    """Return a part whose members are the settings that were tried."""
    return part.model_copy(update={"tried": tried})


def with_trial(part: schema.SweepPart, trial: Trial) -> schema.SweepPart:
    """Return a part of which one member has a trial's settings; the others are nobody's."""
    return with_tried(part, (*({},) * trial.number, trial.values))


def search_here(name: str, part: schema.SweepPart, bench: Bench, folder: Path) -> schema.SweepPart:
    """Do the trials that are not done, one after the other.

    Args:
        name: The part's name.
        part: With a search.
        bench: What the study shares.
        folder: The run folder.

    Returns:
        The part, with what was tried.
    """
    trials = Trials(part, name, folder)
    waiting = trials.pending()
    while waiting or trials.more():
        bench.stop.raise_if_requested()
        trial = waiting.pop(0) if waiting else trials.ask()
        trials.tell(trial.number, train_trial(name, part, bench, trials, trial))
    return with_tried(part, trials.tried())


def train_trial(
    name: str, part: schema.SweepPart, bench: Bench, trials: Trials, trial: Trial
) -> float:
    """Train a trial, as far as it is promising.

    Args:
        name: The part's name.
        part: With a search.
        bench: What the study shares.
        trials: Where the others are.
        trial: What is tried.

    Returns:
        What the search goes by (see `figure_of`) with the weights that it ended with; not a number
        where it diverged.
    """
    judged = replace(bench, goes_on=trials.judge(trial.number))
    member = train_member(name, with_trial(part, trial), judged, trial.number)
    if member.val_loss is None:
        return math.nan
    return figure_of(part, member.val_loss, member.val_accuracy)
