"""The preflight scan: one pass over all samples before anything is trained on them."""

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from headstart._util.hashing import digest_bytes
from headstart.data.facts import Fact, FactCache, KnownFile, can_be_remembered, file_status
from headstart.data.image import Probe, probe
from headstart.data.preflight import LeftOut, Preflight, SequenceProbe
from headstart.data.rows import Source
from headstart.data.text import decode_text, pair_bytes, pair_of
from headstart.errors import DataError
from headstart.types import Progress

_SAVE_EVERY = 2000
# One task of a thread looks at this many: texts are small, and so is what is looked up of pictures
# that are known; but who wants to stop waits for the tasks at work.
_TEXTS_PER_TASK = 64
_PICTURES_PER_TASK = 16

_Fact = Probe | SequenceProbe | str


class _Finding(NamedTuple):
    """What one sample is.

    Attributes:
        digest: SHA-256 of the bytes; empty where they could not be read.
        fact: What the sample is or why it is not used.
        known: Whether that was known, and nothing was decoded.
        file: Path and status of the file, where these are to be remembered.
    """

    digest: str
    fact: _Fact
    known: bool = False
    file: tuple[str, str] | None = None


_Examine = Callable[[Sequence[int]], list[_Finding]]


def scan(
    source: Source,
    *,
    workers: int,
    progress: Progress,
    cache_dir: Path | None = None,
    trust_times: bool = True,
) -> Preflight:
    """Read and hash every sample once, in threads, decode it, and gather what was found.

    Args:
        source: The pictures, texts or pairs of texts; only reading is asked of it.
        workers: Threads, at least 1.
        progress: Where to show the advance.
        cache_dir: Folder in which facts are remembered by the pictures' content, and contents by
            file: a second scan decodes no picture that it knows, and reads no file that has not
            changed. None remembers nothing. Of texts nothing is remembered: reading them is all
            the work.
        trust_times: Whether a file whose size, times, inode and device are those of an earlier
            scan is taken as unchanged (see `headstart.data.facts`); False reads every picture.

    Returns:
        What was found. A picture that cannot be read or decoded, and a text without a word, is in
        quarantine; nothing is replaced or repaired.
    """
    noun = source.noun
    pictures = noun == "picture"
    cache = FactCache(cache_dir if pictures else None)
    digests: list[str] = []
    facts: list[_Fact] = []
    fresh: dict[str, Fact] = {}
    files: dict[str, tuple[str, str]] = {}
    decoded = reused = 0
    examine = _picture_examiner(source, cache, trust_times) if pictures else _text_examiner(source)
    per_task = _PICTURES_PER_TASK if pictures else _TEXTS_PER_TASK
    unit = "images" if pictures else f"{noun}s"
    try:
        with progress.task(f"checking {noun}s", len(source.rows), unit) as task:
            found = _in_threads(examine, len(source.rows), workers, per_task)
            for digest, fact, known, file in found:
                digests.append(digest)
                facts.append(fact)
                reused += known
                decoded += not known and digest != ""
                if not known and digest and not isinstance(fact, SequenceProbe):
                    fresh[digest] = fact
                if file is not None:
                    files[file[0]] = (file[1], digest)
                if max(len(fresh), len(files)) >= _SAVE_EVERY:
                    cache.put(fresh, files)
                    fresh.clear()
                    files.clear()
                task.advance()
        cache.put(fresh, files)
    finally:
        cache.close()
    if cache.trouble:
        progress.say(cache.trouble)
    quarantined = tuple(
        LeftOut(row.name, fact)
        for row, fact in zip(source.rows, facts, strict=True)
        if isinstance(fact, str)
    )
    probes = tuple(None if isinstance(fact, str) else fact for fact in facts)
    return Preflight(
        origin=source.origin,
        classes=source.classes,
        rows=source.rows,
        digests=tuple(digests),
        probes=probes,
        quarantined=quarantined,
        copies=_copies(probes),
        notes=source.notes,
        decoded=decoded,
        reused=reused,
        left_out=quarantined,
        noun=noun,
    )


def _in_threads(examine: _Examine, count: int, workers: int, per_task: int) -> Iterator[_Finding]:
    """Give what was found of each row, in order."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="headstart-scan")
    waiting: deque[Future[list[_Finding]]] = deque()
    try:
        for start in range(0, count, per_task):
            waiting.append(pool.submit(examine, range(start, min(start + per_task, count))))
            if len(waiting) >= 8 * workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _picture_examiner(source: Source, cache: FactCache, trust_times: bool) -> _Examine:
    def examine(indices: Sequence[int]) -> list[_Finding]:
        found = [source.file(index) for index in indices]
        places = [p if p is not None and can_be_remembered(p) else None for p in found]
        known = cache.files([p for p in places if p is not None]) if trust_times else {}
        return [
            _picture(source, index, place, None if place is None else known.get(place), cache)
            for index, place in zip(indices, places, strict=True)
        ]

    return examine


def _picture(
    source: Source, index: int, place: str | None, known: KnownFile | None, cache: FactCache
) -> _Finding:
    """Say what one picture is: from what is known of its file, or of its content, or by decoding.

    A file's content is remembered with the status from before it was read: if it is written to
    meanwhile, or later, it gets another one. That it does is sure only of a file that had not been
    written to for a while; of others nothing is remembered.
    """
    before = None if place is None else file_status(place)
    if known is not None and before is not None and known.status == before.text():
        return _Finding(known.digest, known.fact, known=True)
    started = time.time_ns()
    try:
        data = source.read(index)
    except (DataError, OSError) as error:
        return _Finding("", f"cannot be read: {error}")
    digest = digest_bytes(data)
    file = None
    if place is not None and before is not None and before.settled(started):
        file = (place, before.text())
    fact = cache.get(digest)
    if fact is not None:
        return _Finding(digest, fact, known=True, file=file)
    try:
        return _Finding(digest, probe(data), file=file)
    except DataError as error:
        return _Finding(digest, str(error), file=file)


def _text_examiner(source: Source) -> _Examine:
    look = probe_pair if source.noun == "pair" else probe_text

    def text(index: int) -> _Finding:
        try:
            data = source.read(index)
        except (DataError, OSError) as error:
            return _Finding("", f"cannot be read: {error}")
        try:
            return _Finding(digest_bytes(data), look(data))
        except DataError as error:
            return _Finding(digest_bytes(data), str(error))

    return lambda indices: [text(index) for index in indices]


def probe_text(data: bytes) -> SequenceProbe:
    """Read one text and say what it is.

    Args:
        data: The text's bytes.

    Returns:
        The number of words, a digest of the words, and what is wrong with the encoding.

    Raises:
        DataError: There is no word in it.
    """
    text, problem = decode_text(data)
    words = text.split()
    if not words:
        raise DataError("empty: no words")
    return SequenceProbe(len(words), digest_bytes(" ".join(words).encode()), problem)


def probe_pair(data: bytes) -> SequenceProbe:
    """Read one pair of texts and say what it is.

    Args:
        data: What `headstart.data.text.pair_bytes` made.

    Returns:
        The words of both, a digest of the words of each, and what is wrong with the encoding.

    Raises:
        DataError: It is no pair, or one of its texts has no word.
    """
    sides = []
    for which, text in zip(("first", "second"), pair_of(data), strict=True):
        if not text.split():
            raise DataError(f"empty: no words in the {which} text")
        sides.append(text.split())
    problem = decode_text(data)[1]
    content = digest_bytes(pair_bytes(*(" ".join(words) for words in sides)))
    return SequenceProbe(sum(map(len, sides)), content, problem)


def _copies(probes: tuple[Probe | SequenceProbe | None, ...]) -> tuple[tuple[int, ...], ...]:
    alike: defaultdict[str, list[int]] = defaultdict(list)
    for index, one in enumerate(probes):
        if one is not None:
            alike[one.content].append(index)
    return tuple(tuple(same) for same in alike.values() if len(same) > 1)
