"""What a benchmark measures, and how."""

from dataclasses import dataclass

from headstart.errors import ConfigError, nearest
from headstart.features.engine import EngineName, import_engine, installed

ENGINES: tuple[EngineName, ...] = ("torch", "onnxruntime", "openvino")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured, and how.

    Attributes:
        engines: What computes; None: all that are installed and take the samples.
        batch_sizes: Samples of a call.
        rounds: How many times each call is timed.
        warm_up: How many calls of each come before, untimed.
        threads: How many compute, in every engine; None: the cores that this process may use.
        samples: At most so many samples.
        device: Where torch computes: ``cpu``, or ``cuda``, where other engines are left out.
        memory: Whether to measure memory, in a process of its own for each model and engine.
    """

    engines: tuple[EngineName, ...] | None = None
    batch_sizes: tuple[int, ...] = (1, 32)
    rounds: int = 24
    warm_up: int = 3
    threads: int | None = None
    samples: int = 64
    device: str = "cpu"
    memory: bool = True

    def check(self) -> None:
        """Raise ConfigError where a value cannot be, MissingExtraError where an engine lacks."""
        least = {
            "rounds": (self.rounds, 2),
            "warm-up": (self.warm_up, 0),
            "samples": (self.samples, 1),
            "threads": (1 if self.threads is None else self.threads, 1),
            "batch-size": (min(self.batch_sizes, default=0), 1),
        }
        for name, (value, lowest) in least.items():
            if value < lowest:
                raise ConfigError(f"{name}: expected at least {lowest}, got {value}")
        for engine in () if self.engines is None else self.engines:
            if engine not in ENGINES:
                raise ConfigError(f"engine: unknown {engine!r}; {nearest(engine, ENGINES)}")
            if engine != "torch" and self.device != "cpu":
                raise ConfigError(f"engine {engine!r} computes on the CPU, not on {self.device}")
            import_engine(engine)

    def engines_for(self, pictures: bool) -> tuple[EngineName, ...]:
        """Return the engines to measure, torch first."""
        if self.engines is not None:
            return tuple(engine for engine in ENGINES if engine in self.engines)
        if not pictures or self.device != "cpu":
            return ("torch",)
        return tuple(engine for engine in ENGINES if installed(engine))
