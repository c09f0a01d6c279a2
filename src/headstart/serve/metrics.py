"""What a server counts, in the format of Prometheus."""

from collections.abc import Callable, Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counters of one server, in a registry of their own; safe to use from several threads."""

    def __init__(self) -> None:
        """Begin at zero."""
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        self._requests = Counter(
            "headstart_requests", "Requests", ["route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "headstart_request_seconds",
            "From a request's first byte to its answer",
            ["route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._samples = Counter(
            "headstart_samples", "Samples", ["model", "outcome"], registry=self._registry
        )
        self._batch_sizes = Histogram(
            "headstart_batch_samples",
            "Samples that were computed together",
            ["model"],
            buckets=_SIZES,
            registry=self._registry,
        )
        self._computing = Counter(
            "headstart_computing_seconds",
            "Time that a bundle's network was computing",
            ["model"],
            registry=self._registry,
        )

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count one request.

        Args:
            route: The path of a known route, or ``other``: not what the client sent, of which there
                is no end.
            status: The HTTP status of the answer.
            seconds: How long it took.
        """
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def samples(self, model: str, answered: int, failed: int) -> None:
        """Count the samples of one request at one bundle."""
        self._samples.labels(model, "answered").inc(answered)
        self._samples.labels(model, "failed").inc(failed)

    def batch(self, model: str, size: int, seconds: float) -> None:
        """Count one batch: how many samples, and how long the network computed."""
        self._batch_sizes.labels(model).observe(size)
        self._computing.labels(model).inc(seconds)

    def watch(self, models: Iterable[str], depth: Callable[[str], int]) -> None:
        """Show how long the queues are at the moment when somebody asks.

        Args:
            models: Names of the bundles.
            depth: Returns how many samples a bundle has taken and not answered.
        """
        self._registry.register(_Depths(tuple(models), depth))

    def text(self) -> bytes:
        """Return all of it, as Prometheus reads it."""
        return generate_latest(self._registry)


class _Depths(Collector):
    def __init__(self, models: tuple[str, ...], depth: Callable[[str], int]) -> None:
        self._models = models
        self._depth = depth

    def collect(self) -> Iterable[GaugeMetricFamily]:
        family = GaugeMetricFamily(
            "headstart_queue_samples", "Samples taken and not answered yet", labels=["model"]
        )
        for model in self._models:
            family.add_metric([model], self._depth(model))
        yield family
