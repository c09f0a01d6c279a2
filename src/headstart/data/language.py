"""Text for language models: one long row of words per split, in the layout of WikiText.

Each line of a file gives its words, separated by white space, and then ``<eos>``; so does a blank
line, which gives nothing else. That is how the published perplexities on these data are counted.

Source: Merity, Xiong, Bradbury, Socher, Pointer Sentinel Mixture Models (2016), section 4.3.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headstart._util.hashing import digest_array, digest_json
from headstart.data.archive import open_tree
from headstart.data.preflight import problem_record
from headstart.data.tree import Tree, without_single_top
from headstart.data.wordlevel import EOS, UNK, word_tokenizer
from headstart.errors import DataError, nearest
from headstart.types import IntArray, JsonDict

_SPLITS = {"train": "train", "valid": "val", "test": "test"}  # WikiText's names and ours
_NAMES = re.compile(r"wiki\.(train|valid|test)\.(tokens|raw)")
_LONG = 12  # words from which on the same line in two splits is no accident
_MANY_UNKNOWN = 0.1  # share of unknown words in the test split that deserves a warning


@dataclass(frozen=True, slots=True)
class Corpus:
    """A text as numbers, with its vocabulary.

    Attributes:
        origin: The folder or archive, as the user gave it.
        files: The file that each split was read from.
        vocabulary: The words; a word's position is its number. ``<unk>`` is 0 and ``<eos>`` is 1,
            then the words of the training split by falling count, then alphabet.
        counts: How often each word of the vocabulary occurs in the training split, int64.
        splits: ``train``, ``val`` and ``test``: word numbers in order, int64, shape [tokens].
        unknown: Share of the tokens of each split that are ``<unk>``: words outside the vocabulary,
            and those that the file itself has as ``<unk>``.
        min_count: How often a word occurs at least in the training split to be in the vocabulary.
        fingerprint: Digest of the vocabulary and of all splits.
        problems: What deserves a look, as ``results.json`` has it.
    """

    origin: str
    files: Mapping[str, str]
    vocabulary: tuple[str, ...]
    counts: IntArray
    splits: Mapping[str, IntArray]
    unknown: Mapping[str, float]
    min_count: int
    fingerprint: str
    problems: tuple[JsonDict, ...]

    def describe(self) -> JsonDict:
        """Return what a reader of results needs to know of the data, as JSON-like values."""
        return {
            "noun": "token",
            "goal": "language",
            "classes": [],
            "left_out": [],
            "origin": self.origin,
            "files": dict(self.files),
            "fingerprint": self.fingerprint,
            "tokens": {split: len(tokens) for split, tokens in self.splits.items()},
            "vocabulary": len(self.vocabulary),
            "min_count": self.min_count,
            "unknown": dict(self.unknown),
            "problems": [dict(problem) for problem in self.problems],
        }

    def tokenizer(self) -> str:
        """Return a tokenizer of this vocabulary for plain text, as the JSON of `tokenizers`."""
        return word_tokenizer(self.vocabulary)


@dataclass(frozen=True, slots=True)
class _Text:
    """One split: its lines, and where they are from."""

    file: str
    lines: tuple[str, ...]

    def words(self) -> Iterator[str]:
        for line in self.lines:
            yield from line.split()
            yield EOS


def open_corpus(
    path: str | Path,
    *,
    files: Mapping[str, str] | None = None,
    min_count: int = 1,
    val_share: float = 0.1,
) -> Corpus:
    """Read a text in the layout of WikiText.

    Args:
        path: A folder or an archive with ``wiki.train.tokens``, ``wiki.valid.tokens`` and
            ``wiki.test.tokens``, or the same with ``.raw``; the former are preferred, the two kinds
            are never mixed unless `files` does it.
        files: The file of each split, ``train``, ``val`` and ``test``, under `path`, where other
            files shall be read. A validation split that is missing is the end of the training text.
        min_count: Words that occur less often in the training split become ``<unk>``.
        val_share: Share of the training text that becomes a missing validation split, in (0, 1).

    Returns:
        The text as numbers.

    Raises:
        DataError: Files are missing, empty or not UTF-8, or a value is out of its range.
    """
    if min_count < 1 or not 0 < val_share < 1:
        raise DataError(
            "expected min_count >= 1 and val_share between 0 and 1, got "
            f"{min_count} and {val_share}"
        )
    tree = without_single_top(open_tree(Path(path)))
    try:
        chosen = _given(tree, files) if files is not None else _found(tree)
        texts = {split: _read(tree, file) for split, file in chosen.items()}
    finally:
        tree.close()
    problems = []
    for split in ("train", "test"):
        if not any(line.strip() for line in texts[split].lines):
            raise DataError(f"{tree.origin}: {texts[split].file} has no words: it is the {split}")
    if "val" in texts and not any(line.strip() for line in texts["val"].lines):
        problems.append(
            problem_record("empty", "warning", 1, f"{texts.pop('val').file} has no words.")
        )
    if "val" not in texts:
        texts["train"], texts["val"] = _carved(texts["train"], val_share, tree.origin)
        text = f"There is no validation text: the last {val_share:.0%} of the training text is it."
        problems.append(problem_record("validation", "note", 1, text))
    return _numbered(tree.origin, texts, min_count, problems)


def _numbered(
    origin: str, texts: Mapping[str, _Text], min_count: int, problems: list[JsonDict]
) -> Corpus:
    """Count the words of the training split, and turn all splits into numbers."""
    counter = Counter(texts["train"].words())
    words = [w for w, n in counter.items() if n >= min_count and w not in (UNK, EOS)]
    vocabulary = (UNK, EOS, *sorted(words, key=lambda word: (-counter[word], word)))
    number = {word: i for i, word in enumerate(vocabulary)}
    splits: dict[str, IntArray] = {
        split: np.fromiter((number.get(w, 0) for w in texts[split].words()), dtype=np.int64)
        for split in ("train", "val", "test")
    }
    unknown = {split: float((tokens == 0).mean()) for split, tokens in splits.items()}
    problems = [
        *_overlap_problems(texts),
        *_unknown_problems(unknown),
        *_mixture_problems(texts),
        *problems,
    ]
    gravity = {"error": 0, "warning": 1, "note": 2}
    return Corpus(
        origin=origin,
        files={split: texts[split].file for split in splits},
        vocabulary=vocabulary,
        counts=np.bincount(splits["train"], minlength=len(vocabulary)).astype(np.int64),
        splits=splits,
        unknown=unknown,
        min_count=min_count,
        fingerprint=digest_json(
            [vocabulary, {split: digest_array(tokens) for split, tokens in splits.items()}]
        ),
        problems=tuple(sorted(problems, key=lambda problem: gravity[problem["severity"]])),
    )


def _found(tree: Tree) -> dict[str, str]:
    """Find the files of one kind by their names."""
    kinds: dict[str, dict[str, str]] = {"tokens": {}, "raw": {}}
    for path in tree.sizes:
        match = _NAMES.fullmatch(path.rpartition("/")[2])
        if match is None:
            continue
        split, kind = _SPLITS[match[1]], match[2]
        if split in kinds[kind]:
            raise DataError(
                f"{tree.origin}: expected one wiki.{match[1]}.{kind}, got {kinds[kind][split]!r} "
                f"and {path!r}: give the folder of one of them"
            )
        kinds[kind][split] = path
    whole = [found for found in kinds.values() if {"train", "test"} <= set(found)]
    if whole:
        # Tokens before raw, but three files before two.
        return max(whole, key=len)
    there = ", ".join(sorted(path for found in kinds.values() for path in found.values()))
    raise DataError(
        f"{tree.origin}: expected wiki.train.tokens, wiki.valid.tokens and wiki.test.tokens, or "
        f"the three with .raw, got {there or 'none of them'}. To read other files, or files of "
        "both kinds, name the file of each split: files: {train: …, val: …, test: …}"
    )


def _given(tree: Tree, files: Mapping[str, str]) -> dict[str, str]:
    """Check the files that the user names."""
    for split, file in files.items():
        if split not in _SPLITS.values():
            raise DataError(f"files: expected train, val and test, got {split!r}")
        if file not in tree.sizes:
            hint = nearest(file, tree.sizes)
            raise DataError(f"{tree.origin}: there is no file {file!r}; {hint}".rstrip("; "))
    for split in ("train", "test"):
        if split not in files:
            raise DataError(
                f"files: expected the file of the {split} split, got {', '.join(files) or 'none'}: "
                f"add {split}: FILE (only the validation split may be left out)"
            )
    return dict(files)


def _read(tree: Tree, file: str) -> _Text:
    data = tree.read(file)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{tree.origin}: expected UTF-8 in {file}, got the byte 0x{data[error.start]:02x} at "
            f"position {error.start:,}: save the file as UTF-8"
        ) from error
    # Not splitlines(): that one also breaks lines at characters that are part of the text. A
    # carriage return before a line's end goes with the white space.
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()  # what follows the last line's end is no line
    return _Text(file, tuple(lines))


def _carved(text: _Text, share: float, origin: str) -> tuple[_Text, _Text]:
    """Cut the last lines off: at least `share` of the words, and never all lines."""
    sizes = np.array([len(line.split()) + 1 for line in text.lines])
    after = sizes[::-1].cumsum()[::-1]  # words from each line to the end
    first = int(np.flatnonzero(after >= share * sizes.sum())[-1])
    train, val = text.lines[:first], text.lines[first:]
    if not any(line.strip() for line in train) or not any(line.strip() for line in val):
        raise DataError(
            f"{origin}: {text.file} has too few lines to take a validation split of {share:.0%} "
            "from its end: name a file for it (files: {val: …})"
        )
    return _Text(text.file, train), _Text(f"{text.file} (its end)", val)


def _overlap_problems(texts: Mapping[str, _Text]) -> Iterator[JsonDict]:
    seen = {" ".join(words) for words in _long_lines(texts["train"])}
    for split in ("val", "test"):
        long = [" ".join(words) for words in _long_lines(texts[split])]
        copies = [line for line in long if line in seen]
        if copies:
            yield problem_record(
                "duplicate-across-splits",
                "error" if split == "test" else "warning",
                len(copies),
                f"{len(copies):,} of the {len(long):,} lines of {_LONG} words or more of the "
                f"{split} split are in the training text too: what is measured on them was seen "
                "in training.",
                [f"{line[:80]} …" for line in copies],
            )


def _long_lines(text: _Text) -> Iterator[list[str]]:
    return (words for words in (line.split() for line in text.lines) if len(words) >= _LONG)


def _unknown_problems(unknown: Mapping[str, float]) -> Iterator[JsonDict]:
    if unknown["test"] > 0 and unknown["train"] == 0:
        yield problem_record(
            "unknown-words",
            "warning",
            1,
            f"{unknown['test']:.1%} of the test text are {UNK}, and no word of the training text "
            "is: the model cannot learn how probable it is. Raise min_count to 2 or more.",
        )
    elif unknown["test"] > _MANY_UNKNOWN:
        yield problem_record(
            "unknown-words",
            "warning",
            1,
            f"{unknown['test']:.1%} of the test text are {UNK}, which is easy to predict: the "
            "perplexity is lower than with a larger vocabulary, and not to be compared with it.",
        )


def _mixture_problems(texts: Mapping[str, _Text]) -> Iterator[JsonDict]:
    kinds = {split: one.file.partition(" ")[0].rpartition(".")[2] for split, one in texts.items()}
    if {"raw", "tokens"} <= set(kinds.values()):
        yield problem_record(
            "mixed-variants",
            "warning",
            1,
            f"Files of both kinds are read ({', '.join(f'{s}: {k}' for s, k in kinds.items())}): "
            f"rare words are already {UNK} in .tokens files and written out in .raw files, so the "
            "splits are not quite the same kind of text.",
        )
