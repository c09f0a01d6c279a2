"""ImageNet's 1,000 classes in the order of pretrained classifiers, and a data set's among them."""

import difflib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from headstart.errors import ConfigError, nearest

_LISTED = 20
_WORDNET_ID = re.compile(r"n[0-9]{8}")


@dataclass(frozen=True, slots=True)
class ImageNetClass:
    """One of the 1,000 classes of ImageNet's challenge (ILSVRC 2012).

    Attributes:
        index: Its place in the output of a classifier, from 0.
        wnid: Its id in WordNet 3.0, such as ``n01443537``.
        name: What WordNet calls it, synonyms parted by commas: ``goldfish, Carassius auratus``.
        definition: What WordNet says that it is.
    """

    index: int
    wnid: str
    name: str
    definition: str


@cache
def imagenet_classes() -> tuple[ImageNetClass, ...]:
    """Return the 1,000 classes in the order in which classifiers of timm and torchvision put them.

    Source: the tables that timm ships (`timm.data.ImageNetInfo`).
    """
    from timm.data import ImageNetInfo  # takes a second to import: not for studies of texts

    info = ImageNetInfo("imagenet-1k")
    found = []
    for index, wnid in enumerate(info.label_names()):
        name = info.index_to_description(index)
        detailed = info.index_to_description(index, detailed=True)
        found.append(ImageNetClass(index, wnid, name, detailed.removeprefix(f"{name}: ")))
    return tuple(found)


def class_indices(
    classes: Sequence[str], wordnet: Mapping[str, str] | None = None
) -> dict[str, int]:
    """Find the classes of a data set among ImageNet's.

    A class is found by the id that `wordnet` gives for it; or where it is itself an id, such as
    ``n01443537``; or where it is one of the names of exactly one class, such as ``daisy`` or
    ``Carassius_auratus`` (upper and lower case are the same, and so are underscores and spaces).

    Args:
        classes: Names of the data set's classes.
        wordnet: WordNet ids by class, for the classes that need one.

    Returns:
        Index of each class in a classifier's output; no two are the same.

    Raises:
        ConfigError: Classes are not found, or are names of several, or two are the same one;
            the message lists all of them, the nearest names, and how to say what is meant.
    """
    given = dict(wordnet or {})
    by_id = {known.wnid: known for known in imagenet_classes()}
    by_name = _by_name()
    found: dict[str, int] = {}
    problems = [
        f"wordnet: {name!r} is no class of the data; {nearest(name, classes)}".rstrip("; ")
        for name in given
        if name not in classes
    ]
    for name in classes:
        wnid = given.get(name, name)
        named = by_name.get(_normal(name), ())
        if wnid in by_id:
            found[name] = by_id[wnid].index
        elif name in given:
            hint = nearest(wnid, by_id)
            problems.append(
                f"wordnet: {name!r}: {wnid!r} is not the id of one of the 1,000; {hint}".rstrip(
                    "; "
                )
            )
        elif len(named) == 1:
            found[name] = named[0].index
        elif named:
            which = " or ".join(f"{one.wnid} ({one.name}: {one.definition})" for one in named)
            problems.append(f"{name!r} names several: {which}")
        elif _WORDNET_ID.fullmatch(name):
            problems.append(f"{name!r} is not the id of one of the 1,000")
        else:
            problems.append(f"{name!r} names none{_near(name, by_name, len(problems) < _LISTED)}")
    holder: dict[int, str] = {}
    for name, index in found.items():
        other = holder.setdefault(index, name)
        if other != name:
            problems.append(
                f"{other!r} and {name!r} are both {imagenet_classes()[index].wnid} "
                f"({imagenet_classes()[index].name}): a classifier cannot tell them apart"
            )
    if problems:
        raise ConfigError(_message(problems, len(classes)))
    return found


@cache
def _by_name() -> Mapping[str, tuple[ImageNetClass, ...]]:
    """Return the classes that go by each name; 19 names are those of two classes."""
    found: defaultdict[str, list[ImageNetClass]] = defaultdict(list)
    for one in imagenet_classes():
        for name in one.name.split(","):
            found[_normal(name)].append(one)
    return {name: tuple(classes) for name, classes in found.items()}


def _normal(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())


def _near(name: str, by_name: Mapping[str, tuple[ImageNetClass, ...]], search: bool) -> str:
    # A search takes hundredths of a second: not for what is not going to be shown.
    close = difflib.get_close_matches(_normal(name), by_name, n=6, cutoff=0.6) if search else []
    ids: dict[str, str] = {}
    for near in close:
        ids.setdefault(by_name[near][0].wnid, near)
    if not ids:
        return ""
    return "; nearest: " + ", ".join(f"{near!r} ({wnid})" for wnid, near in list(ids.items())[:3])


def _message(problems: list[str], classes: int) -> str:
    listed = "".join(f"\n  {problem}" for problem in problems[:_LISTED])
    if len(problems) > _LISTED:
        listed += f"\n  … and {len(problems) - _LISTED:,} more"
    return (
        f"expected each of the {classes:,} classes of the data to be one of ImageNet's 1,000: a "
        "WordNet id such as n11939491, or a name such as 'daisy'. Say what a class is with "
        "wordnet: {CLASS: ID}, such as wordnet: {daisies: n11939491}; where a class is none of the "
        f"1,000, train a head instead:{listed}"
    )
