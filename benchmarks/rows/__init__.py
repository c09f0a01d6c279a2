"""The rows of the table, in groups that are measured together."""

from benchmarks.rows import engines, frozen, memory, processes, stages, sweep, texts
from benchmarks.rows.group import Group

GROUPS: tuple[Group, ...] = (
    frozen.GROUP,
    sweep.GROUP,
    *engines.GROUPS,
    stages.GROUP,
    *texts.GROUPS,
    *processes.GROUPS,
    memory.GROUP,
)
