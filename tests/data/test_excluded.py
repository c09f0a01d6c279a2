"""Classes that a study leaves out are as if they were not there."""

import pytest

from headstart.data.excluded import without_classes
from headstart.data.rows import Row, Samples
from headstart.errors import DataError


def source() -> Samples:
    rows = [Row(f"{c}/{n}", label) for label, c in enumerate("abc") for n in range(3)]
    return Samples(
        origin="here",
        classes=("a", "b", "c"),
        rows=tuple(rows),
        reader=lambda index: rows[index].name.encode(),
        class_names={"a": "apple", "b": "bear"},
    )


def test_the_rest_keeps_its_pictures_and_labels() -> None:
    rest = without_classes(source(), ["b"])
    assert rest.classes == ("a", "c")
    assert [(rest.read(i).decode()[0], rest.classes[r.label]) for i, r in enumerate(rest.rows)] == [
        *[("a", "a")] * 3,
        *[("c", "c")] * 3,
    ]
    assert rest.class_names == {"a": "apple"}
    assert rest.notes == ("b: left out as the experiment asks (3 pictures)",)


def test_an_unknown_class_is_told_with_the_nearest_name() -> None:
    with pytest.raises(DataError, match=r"exclude_classes: here has no class 'aa'.*'a'"):
        without_classes(source(), ["aa"])
