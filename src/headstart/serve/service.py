"""Predictions and explanations for requests: everything between a body and an answer."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Literal, Self

from starlette.datastructures import QueryParams
from starlette.requests import Request

from headstart.errors import ConfigError, DataError, HeadstartError, nearest
from headstart.predict.answers import answer, failed
from headstart.predict.bundle_info import TaskName
from headstart.predict.explain import Method, explain_sample, explanations
from headstart.predict.pictures import check_pixels
from headstart.serve.batching import Batching, Network, Ticket
from headstart.serve.body import BodyReader, Receive
from headstart.serve.limits import Limits
from headstart.serve.metrics import Metrics
from headstart.serve.refusal import ClientGoneError, Refusal
from headstart.serve.served import Bundles, Explainable, Served
from headstart.serve.uploads import ContentType, Upload, content_type, read_upload, sample_bytes
from headstart.types import FloatArray, InputSpec, JsonDict, SeriesSpec

_METHODS: tuple[Method, ...] = ("grad-cam", "integrated-gradients", "occlusion")
_MOST_TOP = 1_000
_NOUNS: dict[TaskName, str] = {
    "image": "pictures",
    "text": "texts",
    "pair": "pairs of texts",
    "sequence": "sequences of numbers",
}


class Service:
    """The bundles of one server, their queues and limits."""

    def __init__(self, bundles: Bundles, limits: Limits, metrics: Metrics) -> None:
        """Start the threads that compute.

        Args:
            bundles: The bundles by name, at least one.
            limits: What a request may cost.
            metrics: What is counted.

        Raises:
            ConfigError: There is no bundle.
        """
        if not bundles:
            raise ConfigError("expected at least one bundle to serve, got none")
        self.bundles = dict(bundles)
        self.limits = limits
        self.stopping = False
        self.began = time.monotonic()
        self._explainable = {name: Explainable(bundle) for name, bundle in bundles.items()}
        # Asked of the bundles themselves: what is loaded for it is not kept.
        self.explanations = {name: explanations(bundle) for name, bundle in bundles.items()}
        self._metrics = metrics
        self._bodies = BodyReader(limits)
        self._batching = Batching(
            {name: _network(bundle, limits) for name, bundle in bundles.items()},
            limits,
            on_batch=metrics.batch,
        )
        metrics.watch(self.bundles, self._batching.depth)
        self._explaining = ThreadPoolExecutor(1, thread_name_prefix="explain")
        self._explanations_taken = 0
        self._lock = threading.Lock()

    @property
    def taken(self) -> int:
        """Samples and explanations that were taken and are not answered."""
        queues = sum(self._batching.depth(name) for name in self.bundles)
        return queues + self._explanations_taken

    def close(self) -> None:
        """Finish what was taken and end the threads."""
        self.stopping = True
        self._explaining.shutdown()
        self._batching.close()

    def named(self, names: Sequence[str]) -> list[str]:
        """Return the bundles that a client asks for.

        Args:
            names: As in the address; ``all`` for all; none for the first.

        Returns:
            Names without repetition, at least one.

        Raises:
            Refusal: One is unknown (404).
        """
        if not names:
            return [next(iter(self.bundles))]
        for name in names:
            if name != "all" and name not in self.bundles:
                hint = nearest(name, self.bundles)
                raise Refusal(404, "unknown_model", f"no model {name!r:.80} is served here; {hint}")
        return list(self.bundles if "all" in names else dict.fromkeys(names))

    async def predict(self, request: Request) -> JsonDict:
        """Answer what every named bundle says of every sample.

        Args:
            request: The request; its body is not read yet.

        Returns:
            ``{"results": [{"model", "goal", "predictions"}, …]}``.

        Raises:
            Refusal: There is no answer, and why.
            ClientGoneError: The client hung up.
        """
        deadline = self._deadline()
        query = request.query_params
        top = _top(query)
        kind = content_type(request.headers.get("content-type", ""))
        with _Room(self._batching) as room, self._bodies.hold() as body:
            for name in self._suitable(query, _may_hold(kind)):
                room.expect(name)  # nobody's body is read who could not be answered
            data = await body.read(
                request.headers,
                request.receive,
                limit=self._limit(kind),
                seconds=deadline - time.monotonic(),
            )
            upload = read_upload(kind, data, self.limits)
            del data
            names = self._suitable(query, (upload.task,))
            asked = [_Asked(name, self.bundles[name], upload) for name in names]
            for one in asked:
                room.keep(one.name, len(one.samples))
            tickets = [room.submit(one.name, one.samples) for one in asked if one.samples]
            room.forget()
            try:
                await _wait((ticket.done for ticket in tickets), request.receive, deadline)
            finally:
                for ticket in tickets:
                    if ticket.left:
                        self._batching.drop(ticket)
        answers = {ticket.lane: ticket for ticket in tickets}
        results = [one.result(answers.get(one.name), top) for one in asked]
        self._note(request, upload, results)
        reasons = [p.get("error") for result in results for p in result["predictions"]]
        if all(reasons):
            raise Refusal(422, "bad_input", f"no prediction: {'; '.join(map(str, reasons)):.500}")
        return {"results": results}

    async def explain(self, request: Request) -> JsonDict:
        """Answer why a bundle says what it says of one sample.

        Args:
            request: The request; its body is not read yet.

        Returns:
            As `headstart.predict.explain.explain_sample`, and ``model``.

        Raises:
            Refusal: There is no answer, and why.
            ClientGoneError: The client hung up.
        """
        deadline = self._deadline()
        query = request.query_params
        method = _method(query)
        kind = content_type(request.headers.get("content-type", ""))
        self._suitable(query, _may_hold(kind))
        self._check_explanations()
        with self._bodies.hold() as body:
            data = await body.read(
                request.headers,
                request.receive,
                limit=self._limit(kind),
                seconds=deadline - time.monotonic(),
            )
            upload = read_upload(kind, data, self.limits)
            name = self._suitable(query, (upload.task,))[0]
            if len(upload.items) != 1:
                raise Refusal(422, "bad_input", "expected one sample to explain, got several")
            work = partial(
                _explained, self._explainable[name], upload, self.limits, query.get("label"), method
            )
            found = await self._in_turn(work, request.receive, deadline)
        return {"model": name, **found}

    async def _in_turn(
        self, work: Callable[[], JsonDict], receive: Receive, deadline: float
    ) -> JsonDict:
        """Compute an explanation when its turn comes."""
        # Again: while this one's body was read, others may have come.
        self._check_explanations()
        running = self._explaining.submit(work)
        self._count_explanations(1)
        # A thread cannot be stopped: what runs when nobody waits any more still takes its place.
        running.add_done_callback(lambda _: self._count_explanations(-1))
        future = asyncio.wrap_future(running)
        try:
            await _wait([future], receive, deadline)
        except (Refusal, ClientGoneError):
            future.cancel()  # if it waits for its turn, it is never begun
            raise
        try:
            return future.result()
        except DataError as error:
            raise Refusal(422, "bad_input", str(error)) from error
        except ConfigError as error:
            raise Refusal(422, "bad_parameter", str(error)) from error

    def _check_explanations(self) -> None:
        if self._explanations_taken >= self.limits.max_explanations:
            raise Refusal.busy(f"{self._explanations_taken} explanations are on their way", 2)

    def _count_explanations(self, change: int) -> None:
        with self._lock:
            self._explanations_taken += change

    def _deadline(self) -> float:
        if self.stopping:
            raise Refusal.busy("the server is stopping", 5)
        return time.monotonic() + self.limits.timeout_seconds

    def _limit(self, kind: ContentType) -> int:
        return (
            min(self.limits.max_json_bytes, self.limits.max_bytes)
            if kind.is_json
            else self.limits.max_bytes
        )

    def _suitable(self, query: QueryParams, tasks: Sequence[TaskName]) -> list[str]:
        """Return the bundles that were asked for and read such samples."""
        named = self.named(query.getlist("model"))
        fit = [name for name in named if self.bundles[name].info.task in tasks]
        if not fit or (len(fit) < len(named) and "all" not in query.getlist("model")):
            other = next(name for name in named if name not in fit)
            reads = _NOUNS[self.bundles[other].info.task]
            raise Refusal(422, "wrong_input", f"the model {other!r} reads {reads}; see /models")
        return fit

    def _note(self, request: Request, upload: Upload, results: Sequence[JsonDict]) -> None:
        """Say in the log and in the counters what was done; never what the samples were."""
        for result in results:
            bad = sum("error" in prediction for prediction in result["predictions"])
            self._metrics.samples(result["model"], len(result["predictions"]) - bad, bad)
        request.state.log["models"] = [result["model"] for result in results]
        request.state.log["samples"] = len(upload.items)


class _Asked:
    """One bundle and the samples that it can be asked about."""

    def __init__(self, name: str, bundle: Served, upload: Upload) -> None:
        self.name = name
        self._info = bundle.info
        self._names = upload.names
        self._errors: list[str | None] = []
        self.samples: list[bytes] = []
        for item in upload.items:
            try:
                self.samples.append(sample_bytes(item, _channels(bundle)))
                self._errors.append(None)
            except DataError as error:
                self._errors.append(str(error))

    def result(self, ticket: Ticket | None, top: int) -> JsonDict:
        """Return what the bundle says of all samples, in their order."""
        if ticket is not None and ticket.failure is not None:
            if isinstance(ticket.failure, MemoryError | HeadstartError):
                raise Refusal.busy("the server could not compute this now", 5) from ticket.failure
            raise ticket.failure
        answers = iter(ticket.answers if ticket is not None else ())
        predictions = []
        for name, error in zip(self._names, self._errors, strict=True):
            said: FloatArray | str = next(answers) if error is None else error
            if isinstance(said, str):
                predictions.append(failed(name, said))
            else:
                predictions.append(answer(self._info, name, said, top))
        return {"model": self.name, "goal": self._info.goal, "predictions": predictions}


class _Room:
    """Room in queues, first expected and then kept; given back when the block ends unused."""

    def __init__(self, batching: Batching) -> None:
        self._batching = batching
        self._expected: set[str] = set()
        self._kept: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for name, samples in self._kept.items():
            self._batching.release(name, samples)
        self.forget()

    def expect(self, name: str) -> None:
        """Say that samples are on their way."""
        self._batching.expect(name)
        self._expected.add(name)

    def forget(self) -> None:
        """Expect no samples any more."""
        for name in self._expected:
            self._batching.forget(name)
        self._expected.clear()

    def keep(self, name: str, samples: int) -> None:
        """Keep room for samples."""
        self._batching.admit(name, samples)
        self._kept[name] = samples

    def submit(self, name: str, samples: Sequence[bytes]) -> Ticket:
        """Use the room."""
        self._kept[name] -= len(samples)
        return self._batching.submit(name, samples)


def _network(bundle: Served, limits: Limits) -> Network:
    if not isinstance(bundle.info.spec, InputSpec):
        return Network(bundle.prepare, bundle.predict_prepared, bundle.batch_size)

    def prepare(data: bytes) -> FloatArray:
        check_pixels(data, limits.max_pixels)
        return bundle.prepare(data)

    return Network(prepare, bundle.predict_prepared, bundle.batch_size)


def _may_hold(kind: ContentType) -> tuple[TaskName, ...]:
    """Return what a body of this type may hold, before it is read."""
    return ("text", "pair", "sequence") if kind.is_json else ("image",)


def _channels(bundle: Served | Explainable) -> int:
    spec = bundle.info.spec
    return spec.channels if isinstance(spec, SeriesSpec) else 1


def _top(query: QueryParams) -> int:
    word = query.get("top", "5")
    if word.isascii() and word.isdigit() and len(word) < 10 and 1 <= int(word) <= _MOST_TOP:
        return int(word)
    raise Refusal(
        422, "bad_parameter", f"top: expected a number from 1 to {_MOST_TOP}, got {word!r:.80}"
    )


def _method(query: QueryParams) -> Method | Literal["auto"]:
    word = query.get("method", "auto")
    for method in _METHODS:
        if word == method:
            return method
    if word == "auto":
        return "auto"
    expected = ", ".join(("auto", *_METHODS))
    raise Refusal(422, "bad_parameter", f"method: expected one of {expected}, got {word!r:.80}")


def _explained(
    bundle: Explainable,
    upload: Upload,
    limits: Limits,
    label: str | None,
    method: Method | Literal["auto"],
) -> JsonDict:
    data = sample_bytes(upload.items[0], _channels(bundle))
    if upload.task == "image":
        check_pixels(data, limits.max_pixels)
    return explain_sample(bundle, data, label=label, method=method)


async def _wait(futures: Iterable[asyncio.Future[Any]], receive: Receive, deadline: float) -> None:
    """Wait until all are done, the time is over or the client has hung up."""
    waiting = set(futures)
    gone = asyncio.ensure_future(receive())  # after the body, the next news is that it hung up
    try:
        while waiting:
            left = max(deadline - time.monotonic(), 0)
            done, _ = await asyncio.wait(
                {*waiting, gone}, timeout=left, return_when=asyncio.FIRST_COMPLETED
            )
            waiting -= done
            if waiting and gone in done:
                raise ClientGoneError
            if not done:
                raise Refusal(504, "timeout", "there was no answer in time; it is not computed")
    finally:
        gone.cancel()
