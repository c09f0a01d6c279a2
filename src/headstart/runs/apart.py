"""Having a run's long work done by an executor, before the run is assembled in this process."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from headstart._util.stopping import Stop
from headstart.config import schema
from headstart.errors import RunError
from headstart.features.engine import EngineName
from headstart.features.key import FeatureKey
from headstart.runs.executors import Done, Executor
from headstart.runs.frozen import frozen_features
from headstart.runs.jobs import Job, Share
from headstart.runs.part import separate_members, splits_of
from headstart.runs.result import load_result
from headstart.runs.search import Trial, Trials, with_tried
from headstart.runs.staged import first_features
from headstart.runs.study import CHECKPOINTS, Study
from headstart.types import Progress

TRIES = 4
"""A job whose process dies so often without getting on is not begun again: it may kill it."""

_LEAST_SHARE, _MOST_SHARE = 32, 1024  # samples: worth a message, and little when it is lost
_LOOK_SECONDS = 0.5


@dataclass(slots=True)
class Apart:
    """Shares out the work of one run.

    Attributes:
        executor: Who does it.
        folder: The run folder, absolute.
        show: Where to show how far it is.
        stop: Says whether somebody asked to stop.
        extracted: Samples that went through a network, of all shares.
        lost: Jobs that were begun again since their process had ended.
    """

    executor: Executor
    folder: Path
    show: Progress
    stop: Stop
    extracted: int = 0
    lost: int = 0
    _tries: dict[Job, tuple[int, float]] = field(default_factory=dict)

    def run(self, study: Study) -> None:
        """Do everything that takes long of the parts that are not done.

        Args:
            study: Ready to run; its parts are assembled by `assemble` afterwards.

        Raises:
            HeadstartError: A job failed, as it would have failed here.
            StoppedError: Somebody asked to stop; what is done is kept.
        """
        try:
            self._extract(study)
            self._train(study)
        except BaseException:
            # Nothing may write here when somebody else goes on.
            self.executor.cancel()
            raise

    def _extract(self, study: Study) -> None:
        """Store the features that parts begin with; the first part that asks pays for them."""
        for name in study.planned:
            part = study.experiment.parts[name]
            if not isinstance(part, schema.TrainedPart) or part.from_scratch or self._is_done(name):
                continue
            bench = study.bench(name, self.folder, spread=self._spread(name))
            staged = part.stages is not None
            if not staged and part.mode == "cached":
                frozen_features(name, bench)
            elif staged and part.best_of is None:
                if isinstance(part, schema.SweepPart) and part.search is not None:
                    part = with_tried(part, ({},))  # one for all: they begin with the same
                first_features(name, part, bench, splits_of(bench.dataset, part))

    def _spread(self, part: str) -> Callable[[tuple[int, ...], EngineName, FeatureKey], None]:
        def spread(positions: tuple[int, ...], engine: EngineName, key: FeatureKey) -> None:
            parts = shares_of(positions, self.executor.shares)
            jobs = [
                Job(
                    folder=str(self.folder),
                    part=part,
                    share=Share(
                        part=part,
                        cut=key.cut,
                        dtype=key.dtype,
                        view=key.view,
                        engine=engine,
                        key=key.digest(),
                        number=number,
                        positions=some,
                    ),
                )
                for number, some in enumerate(parts)
            ]
            title = f"extracting in {len(jobs):,} shares, {self.executor.shares} at a time"
            with self.show.task(title, len(positions), "samples") as task:
                while jobs:
                    again: list[Job] = []
                    for done in self.executor.stream(jobs):
                        self.stop.raise_if_requested()
                        if self._settled(done):
                            assert done.job.share is not None
                            task.advance(len(done.job.share.positions))
                        else:
                            again.append(done.job)
                    jobs = again

        return spread

    def _train(self, study: Study) -> None:
        """Do the parts, and the trials of searches, each as soon as what it builds on is done."""
        waiting, searches = self._jobs(study)
        if not waiting:
            return
        running: set[Job] = set()
        ended: set[Job] = set()
        count = len(waiting) + sum(search.most for search in searches.values())
        with self.show.task("training apart", count, "jobs") as task:
            while waiting or running:
                self.stop.raise_if_requested()
                for over in [job for job, search in searches.items() if search.over(ended)]:
                    del searches[over]
                    ended.add(over)
                for job in self._ready(
                    waiting, searches, ended, self.executor.slots - len(running)
                ):
                    running.add(job)
                    self.executor.submit(job)
                done = self.executor.next(_LOOK_SECONDS)
                if done is None:
                    continue
                if not self._settled(done):
                    self.executor.submit(done.job)
                    continue
                running.remove(done.job)
                ended.add(done.job)
                task.advance()
                if done.job.values is not None:
                    assert done.report is not None
                    search = searches[_end_of_search(self.folder, done.job.part)]
                    search.tell(done.job, done.report.figure)

    def _ready(
        self,
        waiting: dict[Job, set[Job]],
        searches: dict[Job, "_Search"],
        ended: set[Job],
        room: int,
    ) -> list[Job]:
        """Take as many jobs as have room out of what can be begun."""
        found = [job for job, needs in waiting.items() if needs <= ended][: max(0, room)]
        for job in found:
            del waiting[job]
        for search in searches.values():
            while len(found) < room and search.needs <= ended:
                trial = search.next()
                if trial is None:
                    break
                found.append(trial)
        return found

    def _jobs(self, study: Study) -> tuple[dict[Job, set[Job]], dict[Job, "_Search"]]:
        """Return the jobs of parts that are not done, and the searches among them.

        Each job comes with those that must end before it; a search is known by a job that nobody
        does and that ends with its last trial.
        """
        jobs: dict[Job, set[Job]] = {}
        searches: dict[Job, _Search] = {}
        of_part: dict[str, Job] = {}
        for name in study.planned:
            part = study.experiment.parts[name]
            if self._is_done(name) or isinstance(part, schema.EnsemblePart | schema.BaselinePart):
                continue  # these take no time: they are done here
            needs: set[Job] = set()
            whole = Job(str(self.folder), name)
            if isinstance(part, schema.TrainedPart):
                if part.best_of in of_part:
                    needs = {of_part[part.best_of]}
                if isinstance(part, schema.SweepPart) and part.search is not None:
                    end = _end_of_search(self.folder, name)
                    searches[end] = _Search(part, name, self.folder, needs)
                    needs = needs | {end}
                count = separate_members(part, least=1 if self.executor.together else 2)
                members = [
                    Job(str(self.folder), name, member=index, together=self.executor.together)
                    for index in range(count)
                ]
                jobs |= dict.fromkeys(members, needs)
                needs = needs | set(members)
            jobs[whole] = needs
            of_part[name] = whole
        return jobs, searches

    def _mark(self, job: Job) -> float:
        """Return when a job's part last saved how far it is."""
        saved = (self.folder / CHECKPOINTS / job.part).rglob("*.json")
        return max((path.stat().st_mtime for path in saved if path.exists()), default=0.0)

    def _is_done(self, name: str) -> bool:
        return load_result(self.folder / "models" / name) is not None

    def _settled(self, done: Done) -> bool:
        """Return whether a job is over; raise what it failed of."""
        if done.report is not None:
            done.report.raise_error(done.job.label)
            self.extracted += done.report.extracted
            return True
        self.lost += 1
        mark = self._mark(done.job)
        tries, before = self._tries.get(done.job, (1, mark))
        tries = tries + 1 if mark == before else 2  # it had got on since
        self._tries[done.job] = tries, mark
        if tries > TRIES:
            raise RunError(
                f"{done.job.label}: its process ended {TRIES} times before it was done: is there "
                "enough memory for so many at a time?"
            )
        self.show.say(f"{done.job.label}: its process has ended; it is begun again")
        return False


def shares_of(positions: Sequence[int], processes: int) -> list[tuple[int, ...]]:
    """Part samples into shares, the later the smaller, so that all processes end at one time.

    Each share is half of what a process would get of those that are left if they were parted
    evenly (guided self-scheduling, Polychronopoulos and Kuck 1987, with half shares since no two
    machines are equally fast), within bounds.

    Args:
        positions: Of the samples.
        processes: How many compute at a time.

    Returns:
        The shares, in order.
    """
    shares = []
    start = 0
    while start < len(positions):
        size = (len(positions) - start) // (2 * processes)
        size = min(max(size, _LEAST_SHARE), _MOST_SHARE)
        shares.append(tuple(positions[start : start + size]))
        start += size
    return shares


@dataclass(slots=True)
class _Search:
    """The trials of a part: those that are waiting, and as many more as are to be tried.

    Attributes:
        part: With a search.
        name: The part's name.
        folder: The run folder.
        needs: The jobs that must end before its first trial.
    """

    part: schema.SweepPart
    name: str
    folder: Path
    needs: set[Job]
    _trials: Trials | None = None
    _waiting: list[Trial] = field(default_factory=list)
    _running: int = 0

    @property
    def most(self) -> int:
        """How many trials it has in the end."""
        assert self.part.search is not None
        return self.part.search.trials

    def next(self) -> Job | None:
        """Return a trial that is to be done now."""
        trials = self._opened()
        if not (self._waiting or trials.more()):
            return None
        trial = self._waiting.pop(0) if self._waiting else trials.ask()
        self._running += 1
        values = tuple(sorted(trial.values.items()))
        return Job(str(self.folder), self.name, member=trial.number, values=values)

    def tell(self, job: Job, figure: float) -> None:
        """Say how a trial ended."""
        assert job.member is not None
        self._running -= 1
        self._opened().tell(job.member, figure)

    def over(self, ended: set[Job]) -> bool:
        """Return whether nothing of it is left to be done."""
        if not self.needs <= ended:
            return False
        return not (self._running or self._opened().more() or self._waiting)

    def _opened(self) -> Trials:
        if self._trials is None:
            self._trials = Trials(self.part, self.name, self.folder)
            self._waiting = self._trials.pending()
        return self._trials


def _end_of_search(folder: Path, part: str) -> Job:
    return Job(str(folder), part, member=-1)
