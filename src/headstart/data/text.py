"""A text, or a pair of texts, as bytes and back; and texts without the markup of web pages."""

import codecs
import html
import html.entities
import json
import re

from headstart.errors import DataError

_BYTE_ORDER_MARKS = (
    # UTF-32 first: its mark for little-endian begins with that of UTF-16.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

# The elements of HTML, with those that are obsolete and still met. What is not named here is no
# tag: "<unk>", "<3", "a < b".
_TAGS = (
    "a|abbr|acronym|address|applet|area|article|aside|audio|b|base|basefont|bdi|"
    "bdo|big|blockquote|body|br|button|canvas|caption|center|cite|code|col|"
    "colgroup|data|datalist|dd|del|details|dfn|dialog|dir|div|dl|dt|em|embed|"
    "fieldset|figcaption|figure|font|footer|form|frame|frameset|h1|h2|h3|h4|h5|h6|"
    "head|header|hgroup|hr|html|i|iframe|img|input|ins|kbd|label|legend|li|link|"
    "main|map|mark|marquee|menu|meta|meter|nav|nobr|noframes|noscript|object|ol|"
    "optgroup|option|output|p|param|picture|pre|progress|q|rp|rt|ruby|s|samp|"
    "script|search|section|select|slot|small|source|span|strike|strong|style|sub|"
    "summary|sup|svg|table|tbody|td|template|textarea|tfoot|th|thead|time|title|"
    "tr|track|tt|u|ul|var|video|wbr"
)

# Attributes have a value, but for a few: so "<b and c>" is no tag.
_ATTRIBUTE = (
    r"\s+(?:[a-z][a-z0-9:_-]*\s*=\s*(?:\"[^\"<>]*\"|'[^'<>]*'|[^\s\"'<>=]+)"
    r"|async|autofocus|autoplay|checked|compact|controls|defer|disabled|hidden|ismap|loop|multiple"
    r"|muted|noshade|nowrap|readonly|required|reversed|selected)"
)
_TAG = re.compile(
    # What is never closed is searched for its end only up to the next one of its kind: linear time.
    r"<!--(?:(?!<!--).)*?-->|<!doctype[^<>]*>"
    r"|<(script|style)\b[^<>]*>(?:(?!<\1\b).)*?</\1\s*>"
    rf"|</?(?:{_TAGS})(?:{_ATTRIBUTE})*\s*/?>",
    re.IGNORECASE | re.DOTALL,
)
# Only with the semicolon: "AT&T" and "?a=1&copy=2" are no entities.
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")


def decode_text(data: bytes) -> tuple[str, str | None]:
    """Read bytes as text, whatever their encoding is.

    Args:
        data: UTF-8, or UTF-16 or UTF-32 with a byte order mark, or Windows-1252.

    Returns:
        The text without byte order mark, and what is wrong with it in a few words, or None.
    """
    text, problem = _decoded(data)
    if problem is None and "\ufffd" in text:
        problem = "holds replacement characters (U+FFFD): damaged by an earlier conversion"
    if problem is None and "\0" in text:
        problem = "holds NUL characters"
    return text, problem


def text_bytes(text: str) -> bytes:
    """Return a text as UTF-8; half a surrogate pair, which no encoding has, becomes U+FFFD."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def pair_bytes(first: str, second: str) -> bytes:
    """Return the bytes of a pair of texts: a JSON array of two strings, in UTF-8."""
    return text_bytes(json.dumps([first, second], ensure_ascii=False))


def pair_of(data: bytes) -> tuple[str, str]:
    """Return the two texts of a pair.

    Args:
        data: What `pair_bytes` made.

    Returns:
        The first and the second text.

    Raises:
        DataError: The bytes are something else.
    """
    try:
        match json.loads(data):
            case [str(first), str(second)]:
                return first, second
    except ValueError:  # no JSON, or no UTF-8
        pass
    raise DataError(
        f"expected a pair of texts, a JSON array of two strings; the bytes begin with {data[:40]!r}"
    )


def strip_markup(text: str) -> str:
    r"""Return a text without HTML: tags become a space, entities the character that they mean.

    Only real tags go: ``a < b``, ``<unk>`` and ``<3`` stay. Comments, and what lies in ``script``
    and ``style``, go as well. Runs of white space become one space, the ends are stripped.

    Args:
        text: Any text, such as ``good<br /><br />film &amp; music``.

    Returns:
        The words alone: ``good film & music``.
    """
    # Tags first: "&lt;br&gt;" is somebody writing about a tag.
    return " ".join(_ENTITY.sub(_character, _TAG.sub(" ", text)).split())


def _decoded(data: bytes) -> tuple[str, str | None]:
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            try:
                return data.decode(encoding), None
            except UnicodeDecodeError:
                name = encoding.upper()
                return data.decode(encoding, "replace"), f"damaged {name}: some characters are lost"
    try:
        return data.decode("utf-8-sig"), None
    except UnicodeDecodeError:
        pass
    try:
        return data.decode("cp1252"), "not UTF-8: read as Windows-1252"
    except UnicodeDecodeError:  # five of the 256 bytes mean nothing there
        return data.decode("latin-1"), "not UTF-8: read as Latin-1"


def _character(match: re.Match[str]) -> str:
    entity = match.group()
    if entity[1] == "#" or entity[1:] in html.entities.html5:
        return html.unescape(entity)
    return entity
