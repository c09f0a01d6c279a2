"""Which parts of a study run, and in which order."""

from collections.abc import Sequence

from headstart.config.schema import EnsemblePart, Experiment, TrainedPart
from headstart.errors import ConfigError, nearest


def plan_parts(experiment: Experiment, only: Sequence[str]) -> tuple[str, ...]:
    """Return the parts to run, in the file's order.

    Args:
        experiment: The study.
        only: Names of parts to repeat alone; empty for all. What they build on (`best_of`, an
            ensemble's members) is added, since its result is needed.

    Returns:
        Names of parts.

    Raises:
        ConfigError: A name is not a part of the study.
    """
    if not only:
        return tuple(experiment.parts)
    wanted: set[str] = set()
    queue = list(only)
    while queue:
        name = queue.pop()
        if name not in experiment.parts:
            raise ConfigError(
                f"--only: {experiment.name} has no part {name!r}; "
                + nearest(name, experiment.parts)
            )
        if name in wanted:
            continue
        wanted.add(name)
        part = experiment.parts[name]
        if isinstance(part, EnsemblePart):
            queue += part.members
        elif isinstance(part, TrainedPart) and part.best_of is not None:
            queue.append(part.best_of)
    return tuple(name for name in experiment.parts if name in wanted)
