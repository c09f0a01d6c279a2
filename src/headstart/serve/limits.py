"""What one server takes at most, so that no client can take all of it."""

from dataclasses import dataclass

from headstart.errors import ConfigError
from headstart.serve.refusal import Refusal

_DAY = 86_400  # seconds


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of everything that a request may cost.

    Attributes:
        max_queue: Samples that one bundle has taken and not answered yet, at most; a request that
            finds no room is told to come again.
        max_batch: Samples that are computed together, at most; None: what the bundle computes best.
        max_wait_ms: How long the first sample of a batch waits for others that are on their way, in
            milliseconds; nobody waits where nothing is on its way.
        timeout_seconds: From a request's beginning to its answer.
        header_seconds: For a request's header lines to come.
        idle_seconds: For so long nothing of a body may come.
        max_bytes: A request's body.
        max_json_bytes: A body of JSON: parsing one holds up everybody else.
        max_pixels: A picture's width times its height.
        max_items: Samples in one request.
        max_memory_bytes: Bodies of all requests at a time.
        max_explanations: Explanations that are computed or wait, each of them many predictions.
        workers: Threads that decode pictures and read texts.
    """

    max_queue: int = 256
    max_batch: int | None = None
    max_wait_ms: float = 5.0
    timeout_seconds: float = 30.0
    header_seconds: float = 10.0
    idle_seconds: float = 5.0
    max_bytes: int = 20_000_000
    max_json_bytes: int = 2_000_000
    max_pixels: int = 40_000_000
    max_items: int = 64
    max_memory_bytes: int = 256_000_000
    max_explanations: int = 4
    workers: int = 2

    def __post_init__(self) -> None:
        """Refuse what could never work.

        Raises:
            ConfigError: A limit is not positive, a time is longer than a day, or no request could
                keep within two limits.
        """
        for name in self.__slots__:
            value = getattr(self, name)
            if name.endswith("_seconds") or name == "max_wait_ms":
                least, most = (0, _DAY * 1000) if name == "max_wait_ms" else (1e-3, _DAY)
                if not least <= value <= most:
                    raise ConfigError(f"{name}: expected {least:g} to {most:,}, got {value}")
            elif value is not None and not value >= 1:
                raise ConfigError(f"{name}: expected at least 1, got {value}")
        if self.max_items > self.max_queue:
            raise ConfigError(
                f"max_items is {self.max_items} and max_queue {self.max_queue}: a request of so "
                "many samples would never find room; raise max_queue or lower max_items"
            )
        if self.max_bytes > self.max_memory_bytes:
            raise ConfigError(
                f"max_bytes is {self.max_bytes:,} and max_memory_bytes {self.max_memory_bytes:,}: "
                "the largest body would never find room"
            )


class Memory:
    """How much of a budget of bytes is taken; used by one thread only."""

    def __init__(self, limit: int) -> None:
        """Begin with nothing taken.

        Args:
            limit: The budget, in bytes.
        """
        self._limit = limit
        self.taken = 0

    def take(self, amount: int) -> None:
        """Take some bytes.

        Args:
            amount: How many.

        Raises:
            Refusal: So many are not left; nothing is taken.
        """
        if self.taken + amount > self._limit:
            raise Refusal.busy("the server holds as many requests as its memory allows", 1)
        self.taken += amount

    def give_back(self, amount: int) -> None:
        """Give back what was taken."""
        self.taken -= amount
        assert self.taken >= 0, "more was given back than taken"
