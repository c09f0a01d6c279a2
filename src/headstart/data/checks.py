"""The preflight scan: one pass over all samples before anything is trained on them."""

from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from headstart._util.hashing import digest_bytes
from headstart.data.facts import Fact, FactCache
from headstart.data.image import Probe, probe
from headstart.data.preflight import LeftOut, Preflight, SequenceProbe
from headstart.data.rows import Source
from headstart.data.text import decode_text, pair_bytes, pair_of
from headstart.errors import DataError
from headstart.types import Progress

_SAVE_EVERY = 2000
# Texts are small: one task of a thread looks at this many.
_TEXTS_PER_TASK = 64

_Fact = Probe | SequenceProbe | str
# (SHA-256 of the bytes or "", what the sample is or why it is not used, whether it was known)
_Finding = tuple[str, _Fact, bool]


def scan(
    source: Source, *, workers: int, progress: Progress, cache_dir: Path | None = None
) -> Preflight:
    """Read and hash every sample once, in threads, decode it, and gather what was found.

    Args:
        source: The pictures, texts or pairs of texts; only reading is asked of it.
        workers: Threads, at least 1.
        progress: Where to show the advance.
        cache_dir: Folder in which facts are remembered by the pictures' content: a second scan
            reads and hashes every picture and decodes none. None remembers nothing. Of texts
            nothing is remembered: reading them is all the work.

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
    decoded = reused = 0
    examine = _picture_examiner(source, cache) if pictures else _text_examiner(source)
    per_task = 1 if pictures else _TEXTS_PER_TASK
    unit = "images" if pictures else f"{noun}s"
    try:
        with progress.task(f"checking {noun}s", len(source.rows), unit) as task:
            for digest, fact, known in _in_threads(examine, len(source.rows), workers, per_task):
                digests.append(digest)
                facts.append(fact)
                reused += known
                decoded += not known and digest != ""
                if not known and digest and not isinstance(fact, SequenceProbe):
                    fresh[digest] = fact
                if len(fresh) >= _SAVE_EVERY:
                    cache.put(fresh)
                    fresh.clear()
                task.advance()
        cache.put(fresh)
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


def _in_threads(
    examine: Callable[[int], _Finding], count: int, workers: int, per_task: int
) -> Iterator[_Finding]:
    """Give what was found of each row, in order."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="headstart-scan")
    waiting: deque[Future[list[_Finding]]] = deque()

    def several(start: int) -> list[_Finding]:
        return [examine(index) for index in range(start, min(start + per_task, count))]

    try:
        for start in range(0, count, per_task):
            waiting.append(pool.submit(several, start))
            if len(waiting) >= 8 * workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _picture_examiner(source: Source, cache: FactCache) -> Callable[[int], _Finding]:
    def examine(index: int) -> _Finding:
        try:
            data = source.read(index)
        except (DataError, OSError) as error:
            return "", f"cannot be read: {error}", False
        digest = digest_bytes(data)
        known = cache.get(digest)
        if known is not None:
            return digest, known, True
        try:
            return digest, probe(data), False
        except DataError as error:
            return digest, str(error), False

    return examine


def _text_examiner(source: Source) -> Callable[[int], _Finding]:
    look = probe_pair if source.noun == "pair" else probe_text

    def examine(index: int) -> _Finding:
        try:
            data = source.read(index)
        except (DataError, OSError) as error:
            return "", f"cannot be read: {error}", False
        try:
            return digest_bytes(data), look(data), False
        except DataError as error:
            return digest_bytes(data), str(error), False

    return examine


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
