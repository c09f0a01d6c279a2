"""What a stage of a training trains, where the network is cut for it, how fast each part learns.

A stage trains the head and some stages of the backbone. The cut lies right before the first of
them: what is before it is frozen, and its activations can be stored; what is after it runs at every
step, and those of its parts that are not trained stay as they are.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from headstart.errors import ConfigError, nearest

HEAD = "head"


@dataclass(frozen=True, slots=True)
class StageCut:
    """What one stage trains.

    Attributes:
        cut: Last frozen stage before the first trained one; ``input`` where there is none.
        trained: Names of the trained backbone stages, in the network's order.
        text: The same in a few words.
    """

    cut: str
    trained: tuple[str, ...]
    text: str


def cut_for(
    trainable: str | int | Sequence[str],
    stages: Sequence[tuple[str, int]],
    head_cut: str,
    input_cut: str = "input",
) -> StageCut:
    """Say what a stage trains and where the network is cut for it.

    Args:
        trainable: ``head``; ``all``; a number k: the last k stages with weights; or names of stages
            or groups of stages (``layer4`` for ``layer4.0`` and ``layer4.1``).
        stages: Name and number of parameters of each backbone stage up to the head's cut.
        head_cut: Where the head reads.
        input_cut: Name of the cut before the first stage.

    Returns:
        The cut and the trained stages. The head is always trained.

    Raises:
        ConfigError: A name is unknown, or there are fewer stages with weights than asked for.
    """
    names = [name for name, _ in stages]
    weighty = [name for name, count in stages if count]
    if trainable == HEAD:
        return StageCut(head_cut, (), HEAD)
    if trainable == "all":
        return StageCut(input_cut, tuple(names), "all")
    if isinstance(trainable, int):
        if trainable > len(weighty):
            raise ConfigError(
                f"trainable: expected at most the {len(weighty)} stages that have weights, got the "
                f"last {trainable}; use all"
            )
        first = names.index(weighty[-trainable])
        return StageCut(_before(names, first, input_cut), tuple(names[first:]), f"last {trainable}")
    assert not isinstance(trainable, str), trainable
    chosen: set[str] = set()
    for asked in trainable:
        if asked == HEAD:
            continue
        matches = [name for name in names if f"{name}.".startswith(f"{asked}.")]
        if not matches:
            raise ConfigError(
                f"trainable: expected stages of the backbone ({names[0]} … {names[-1]}), got "
                f"{asked!r}; {nearest(asked, names)}".rstrip("; ")
            )
        chosen.update(matches)
    trained = tuple(name for name in names if name in chosen)
    if not trained:
        return StageCut(head_cut, (), HEAD)
    cut = _before(names, names.index(trained[0]), input_cut)
    return StageCut(cut, trained, ", ".join(trainable))


def rates_of(
    groups: Sequence[str],
    base: float,
    given: Mapping[str, float],
    layer_decay: float,
    has_weights: Callable[[str], bool] = lambda _: True,
) -> dict[str, float]:
    """Return the learning rate of each group.

    Args:
        groups: Trained groups in the network's order, the head last.
        base: The stage's learning rate.
        given: Learning rates of certain groups: ``head``, stages or groups of stages; the longest
            name that fits counts.
        layer_decay: Factor from each stage with weights to the one before it; the head's is 1.
        has_weights: Whether a group has weights at all: others do not count as a layer.

    Returns:
        Learning rate by group.

    Raises:
        ConfigError: A name in `given` is of no trained group.

    Source of layer-wise decay: Clark et al., ELECTRA (2020), appendix A.
    """
    for name in given:
        if not any(f"{group}.".startswith(f"{name}.") for group in groups):
            raise ConfigError(
                f"learning_rates: expected groups that this stage trains ({', '.join(groups)}), "
                f"got {name!r}; {nearest(name, groups)}".rstrip("; ")
            )
    rates: dict[str, float] = {}
    depth = 0
    for group in reversed(groups):
        fits = [name for name in given if f"{group}.".startswith(f"{name}.")]
        rates[group] = given[max(fits, key=len)] if fits else base * layer_decay**depth
        depth += 1 if has_weights(group) else 0
    return {group: rates[group] for group in groups}


def _before(names: Sequence[str], index: int, input_cut: str) -> str:
    return names[index - 1] if index else input_cut
