"""Which parts of a study run, and in which order."""

from collections.abc import Sequence

from headstart.config.schema import Experiment
from headstart.errors import ConfigError, nearest


def plan_parts(experiment: Experiment, only: Sequence[str]) -> tuple[str, ...]:
    """Return the parts to run, in the file's order.

    Args:
        experiment: The study.
        only: Names of parts to repeat alone; empty for all. What they build on (`best_of`) is
            added, since its result is needed.

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
        base = experiment.parts[name].best_of
        if base is not None:
            queue.append(base)
    return tuple(name for name in experiment.parts if name in wanted)
