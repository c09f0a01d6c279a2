"""A source without some of its classes."""

from collections.abc import Sequence
from dataclasses import replace

from headstart.data.rows import Samples, Source, counted
from headstart.errors import DataError, nearest


def without_classes(source: Source, names: Sequence[str]) -> Source:
    """Return a source as if some of its classes were not there.

    Args:
        source: Where the samples come from.
        names: Names of classes, such as ``BACKGROUND_Google``.

    Returns:
        The rest, with a note that says how many samples were left out.

    Raises:
        DataError: A name is not a class of the source.
    """
    for name in names:
        if name not in source.classes:
            raise DataError(
                f"data.exclude_classes: {source.origin} has no class {name!r}; "
                f"{nearest(name, source.classes)}".rstrip("; ")
            )
    dropped = set(names)
    kept = tuple(name for name in source.classes if name not in dropped)
    label_of = {name: label for label, name in enumerate(kept)}
    positions = [i for i, row in enumerate(source.rows) if source.classes[row.label] in label_of]
    rows = tuple(
        replace(source.rows[i], label=label_of[source.classes[source.rows[i].label]])
        for i in positions
    )
    count = len(source.rows) - len(rows)
    note = f"{', '.join(names)}: left out as the experiment asks ({counted(count, source.noun)})"
    return Samples(
        origin=source.origin,
        classes=kept,
        rows=rows,
        reader=lambda index: source.read(positions[index]),
        placer=lambda index: source.file(positions[index]),
        closer=source.close,
        notes=(*source.notes, note),
        class_names={c: n for c, n in source.class_names.items() if c in label_of},
        noun=source.noun,
    )
