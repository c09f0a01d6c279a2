"""Options that several verbs share: which data, which columns, where runs go."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Data = Annotated[
    str, typer.Argument(help="Folder, archive or table of pictures or texts.", metavar="DATA")
]
Kind = Annotated[Literal["auto", "pictures", "text"], typer.Option(help="auto: look at the files.")]
TextColumn = Annotated[
    str | None, typer.Option(help="Column of the text, or of a pair's first text.")
]
PairColumn = Annotated[str | None, typer.Option(help="Column of the second text of a pair.")]
LabelColumn = Annotated[str | None, typer.Option(help="Column of the class.")]
SplitColumn = Annotated[str | None, typer.Option(help="Column with train, val or test.")]
Out = Annotated[Path, typer.Option(help="Folder of all runs.")]
AllowNetwork = Annotated[
    bool, typer.Option("--allow-network", help="Download weights that are missing.")
]
Workers = Annotated[int, typer.Option(help="Threads that decode.")]


def data_options(
    kind: Literal["auto", "pictures", "text"],
    *,
    text: str | None,
    pair: str | None,
    label: str | None,
    split: str | None,
) -> tuple[str | None, dict[str, str]]:
    """Return what was said of the data, as `headstart.runs` takes it.

    Args:
        kind: As on the command line.
        text: Name of the column of texts, or None where nobody gave one.
        pair: The same of second texts.
        label: The same of classes.
        split: The same of splits.

    Returns:
        The kind of a source of data (``auto``: pictures), or None to look at the files; and the
        names of columns by role, of those that were given.
    """
    kinds = {"auto": None, "pictures": "auto", "text": "text"}
    named = {"text": text, "pair": pair, "label": label, "split": split}
    return kinds[kind], {role: name for role, name in named.items() if name is not None}
