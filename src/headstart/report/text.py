"""How figures and names are written for people: every formatted figure of a report is made here."""

import datetime
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MISSING = "–"
_MINUS = "−"
_FIGURE_SPACE = "\u2007"  # as wide as a digit
_POINT_SPACE = "\u2008"  # as wide as a decimal point
_LEAST_POWER = -300  # of ten: smaller p-values are no longer told apart, nor from 0
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True, slots=True)
class Measured:
    """A score as results.json holds it, whose interval may be missing.

    Attributes:
        value: The estimate.
        low: Lower end of its 95% interval, or None.
        high: Upper end of its 95% interval, or None.
        n: How many samples it rests on, or None.
    """

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both ends, or None where one is missing."""
        return None if self.low is None or self.high is None else (self.low, self.high)


def clean(value: Any) -> str:
    """Return a user's text so that every format can hold it.

    Args:
        value: Any value; its `str` is taken. Names of files may hold lone surrogates and control
            characters, which XML and PDF cannot.

    Returns:
        The text, with U+FFFD in the place of what cannot be shown; line ends and tabs are kept.
    """
    return "".join(c if c.isprintable() or c in "\n\t" else _odd(c) for c in str(value))


def _odd(character: str) -> str:
    # Spaces of other widths and joiners are not "printable" to Python, yet harmless and wanted.
    code = ord(character)
    harmless = code in (0x200C, 0x200D) or character.isspace()
    return character if harmless and code >= 0xA0 else "\ufffd"


def count(value: float | None) -> str:
    """Write a whole number with thousands separators: 12,345."""
    return MISSING if value is None else _signed(f"{value:,.0f}")


def decimal(value: float | None, decimals: int) -> str:
    """Write a number with a fixed number of digits after the point: 0.310."""
    return MISSING if value is None else _signed(f"{value:,.{decimals}f}")


def percent(value: float | None, decimals: int = 1, sign: str = "%") -> str:
    """Write a share in [0, 1] as per cent: 89.1%.

    Args:
        value: The share.
        decimals: Digits after the point.
        sign: What follows the number; empty in columns whose head says per cent.

    Returns:
        The text. A share below one never reads 100%, nor one above zero 0%: digits are added.
    """
    if value is None:
        return MISSING
    for digits in range(decimals, decimals + 4):
        text = f"{100 * value:.{digits}f}"
        if value in (0.0, 1.0) or float(text) not in (0.0, 100.0):
            break
    return _signed(text) + sign


def points(value: float | None, decimals: int = 1) -> str:
    """Write a difference of two shares in percentage points, with its sign: +1.5."""
    if value is None:
        return MISSING
    text = f"{100 * value:+.{decimals}f}"
    return _signed(text.lstrip("+-") if float(text) == 0 else text)


def percent_interval(score: Measured | None, decimals: int = 1) -> str:
    """Write the interval of a share: 83.9–92.6."""
    if score is None or score.interval is None:
        return MISSING
    low, high = score.interval
    return f"{percent(low, decimals, '')}–{percent(high, decimals, '')}"


def percent_score(score: Measured | None, decimals: int = 1) -> str:
    """Write a share with its interval, for sentences: 89.1% (83.9–92.6%)."""
    if score is None:
        return MISSING
    text = percent(score.value, decimals)
    if score.interval is None:
        return text
    return f"{text} ({percent_interval(score, decimals)}%)"


def percent_cells(score: Measured | None) -> list[str]:
    """Write a share and its interval as two cells of a table headed %."""
    return [percent(score.value if score else None, sign=""), percent_interval(score)]


def points_interval(difference: Measured | None) -> str:
    """Write the interval of a difference in percentage points: −0.3 to +1.5."""
    if difference is None or difference.interval is None:
        return MISSING
    return f"{points(difference.interval[0])} to {points(difference.interval[1])}"


def duration(seconds: float | None) -> str:
    """Write a time with sensible digits: 0.31 s, 3.2 s, 58 s, 5.2 min, 2.4 h."""
    if seconds is None:
        return MISSING
    if seconds < 1:
        return f"{seconds:.2f}\u00a0s"
    if seconds < 9.95:
        return f"{seconds:.1f}\u00a0s"
    if seconds < 119.5:
        return f"{seconds:.0f}\u00a0s"
    if seconds < 7170:
        return f"{seconds / 60:.1f}\u00a0min"
    return f"{seconds / 3600:,.1f}\u00a0h"


def durations(values: Sequence[float | None]) -> tuple[str, tuple[str, ...]]:
    """Write a column of times in one unit, so that they can be compared at a glance.

    Args:
        values: Seconds.

    Returns:
        The unit (``s``, ``min`` or ``h``) and one text per value.
    """
    known = [v for v in values if v is not None]
    largest = max(known, default=0.0)
    unit, size = (
        ("s", 1.0) if largest < 600 else ("min", 60.0) if largest < 36000 else ("h", 3600.0)
    )
    smallest = min((v / size for v in known if v > 0), default=1.0)
    digits = 2 if smallest < 0.95 else 1
    return unit, tuple(decimal(None if v is None else v / size, digits) for v in values)


def quantity(value: float | None, digits: int = 3) -> str:
    """Write a number to some significant digits, powers of ten where it is tiny or huge.

    Args:
        value: The number.
        digits: Significant digits.

    Returns:
        Such as ``34.2``, ``1,240`` or ``3.2 × 10⁻⁶``.
    """
    if value is None:
        return MISSING
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if -4 <= exponent < 9:
        decimals = max(0, digits - 1 - exponent)
        return _signed(f"{value:,.{decimals}f}")
    # Not divided by a power of ten: that of the smallest floats is 0.
    mantissa, _, power = f"{value:.{digits - 1}e}".partition("e")
    return _signed(f"{mantissa}\u00a0×\u00a010{str(int(power)).translate(_SUPERSCRIPT)}")


def signed(value: float | None, digits: int = 3) -> str:
    """Write a difference to some significant digits, with its sign: +0.0031."""
    if value is None or value == 0:
        return quantity(value, digits)
    return ("+" if value > 0 else "") + quantity(value, digits)


def times(value: float | None) -> str:
    """Write a factor: 34.2×."""
    return MISSING if value is None else f"{quantity(value)}×"


def size(size_bytes: float | None) -> str:
    """Write a size of files: 14.2 MB."""
    if size_bytes is None:
        return MISSING
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:,.1f}\u00a0{unit}"
    return f"{size_bytes:,.0f}\u00a0bytes"


def megabytes(size_bytes: float | None) -> str:
    """Write a size of files as a number of MB, for a column of them: 14.2."""
    return MISSING if size_bytes is None else decimal(size_bytes / 1e6, 1)


def mebibytes(size_bytes: float | None) -> str:
    """Write a size in memory as a number of MiB: 13.5."""
    return MISSING if size_bytes is None else quantity(size_bytes / 2**20)


def setting(value: Any) -> str:
    """Write the value of a hyperparameter as its user would type it, without binary noise."""
    match value:
        case None:
            text = "none"
        case bool():
            text = "yes" if value else "no"
        case int():
            text = _signed(f"{value:,}")
        case float():
            text = _number(value)
        case list() | tuple():
            text = ", ".join(setting(v) for v in value)
        case dict():
            text = ", ".join(f"{clean(k)} {setting(v)}" for k, v in value.items())
        case _:
            text = clean(value)
    return text


def _number(value: float) -> str:
    if value == int(value) and abs(value) < 1e9:
        return _signed(f"{int(value):,}")
    if abs(value) < 1e-6 or abs(value) >= 1e9:
        return quantity(value)
    return _signed(f"{value:.12f}".rstrip("0"))


def align(texts: Sequence[str]) -> tuple[str, ...]:
    """Pad numbers so that their decimal points stand under each other when set flush right.

    Args:
        texts: Numbers such as ``0.1``, ``0.001``, ``10``; other texts are left alone.

    Returns:
        The texts with figure spaces in the place of missing digits.
    """

    def tail(text: str) -> int | None:
        number = text.replace(",", "").replace(_MINUS, "-")
        try:
            float(number)
        except ValueError:
            return None
        return len(number.partition(".")[2])

    tails = [tail(t) for t in texts]
    longest = max((t for t in tails if t is not None), default=0)
    return tuple(
        text
        if digits is None or digits == longest
        else text + (_POINT_SPACE if digits == 0 else "") + _FIGURE_SPACE * (longest - digits)
        for text, digits in zip(texts, tails, strict=True)
    )


def probability(value: float | None) -> str:
    """Write the p-value of a test, for a cell: 0.031, 3.2 × 10⁻⁶; none is 0: < 10⁻³⁰⁰."""
    if value is not None and value < 10.0**_LEAST_POWER:
        return f"<\u00a010{str(_LEAST_POWER).translate(_SUPERSCRIPT)}"
    return quantity(value, 2)


def p_value(value: float) -> str:
    """Write the p-value of a test with its sign, for a sentence: p = 0.031, p < 10⁻³⁰⁰."""
    text = probability(value)
    return f"p\u00a0{text}" if text.startswith("<") else f"p\u00a0=\u00a0{text}"


def day(moment: Any) -> str:
    """Write the day of an ISO 8601 moment: 22 November 2026; nothing where it is none."""
    try:
        found = datetime.datetime.fromisoformat(str(moment))
    except ValueError:
        return ""
    return f"{found.day} {found:%B %Y}"


def excerpt(text: str, most: int) -> str:
    """Return the beginning of a text on one line, up to a whole word, with an ellipsis."""
    text = " ".join(text.split())
    if len(text) <= most:
        return text
    head = text[: most + 1]
    whole = head.rpartition(" ")[0]
    return (whole if len(whole) > most // 2 else head[:most]).rstrip(" ,;:.") + " …"


def listing(items: Sequence[str], word: str = "and") -> str:
    """Join words as a sentence does: a, b and c."""
    if len(items) <= 1:
        return "".join(items)
    return ", ".join(items[:-1]) + f" {word} {items[-1]}"


def capital(words: str) -> str:
    """Write words with a capital letter first."""
    return words[:1].upper() + words[1:]


def plural(number: int, one: str, many: str = "") -> str:
    """Write a count with its noun: 1 picture, 12 pictures."""
    return f"{count(number)} {one if number == 1 else many or one + 's'}"


def _signed(text: str) -> str:
    """Return a number with a typographic minus sign."""
    return _MINUS + text[1:] if text.startswith("-") else text
