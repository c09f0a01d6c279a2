"""Texts and pairs as bytes and back, whatever their encoding; and texts without markup."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.data.text import decode_text, pair_bytes, pair_of, strip_markup, text_bytes
from headstart.errors import DataError


@given(st.text(), st.text())
def test_what_is_written_is_read_again(first, second):
    # A byte order mark at the beginning is none of the text; the rest comes back as it was.
    assert decode_text(text_bytes(first))[0] == first.removeprefix("\ufeff")
    assert pair_of(pair_bytes(first, second)) == (first, second)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_encodings_that_say_what_they_are_have_no_problem(encoding):
    assert decode_text("Größe ≤ 5 €".encode(encoding)) == ("Größe ≤ 5 €", None)


@pytest.mark.parametrize(
    ("data", "text", "problem"),
    [
        ("“café”".encode("cp1252"), "“café”", "not UTF-8: read as Windows-1252"),
        (b"caf\xe9 \x81", "caf\xe9 \x81", "not UTF-8: read as Latin-1"),
        ("bro\ufffdken".encode(), "bro\ufffdken", "replacement characters"),
        (b"a\0b", "a\0b", "NUL"),
        (b"\xff\xfea\0b", "a\ufffd", "damaged UTF-16"),
    ],
)
def test_what_is_wrong_with_an_encoding_is_told(data, text, problem):
    found, told = decode_text(data)
    assert found == text
    assert problem in told


def test_half_a_surrogate_pair_does_not_stop_anything():
    assert text_bytes("a\ud800b") == "a\ufffdb".encode()
    assert pair_of(pair_bytes("\udc00", "x")) == ("\ufffd", "x")


@pytest.mark.parametrize("data", [b"just text", b'["one"]', b'["a", 2]', b'{"a": 1}', b"\xff["])
def test_what_is_no_pair_is_refused(data):
    with pytest.raises(DataError, match="expected a pair of texts"):
        pair_of(data)


@pytest.mark.parametrize(
    ("marked", "plain"),
    [
        ("good<br /><br />film &amp; music", "good film & music"),
        ("<P class=intro>So <b>very</b>\n<I>bad</I>!</P>", "So very bad !"),
        ("see <a href='http://x.org/?a=1' target=_blank>here</a>", "see here"),
        ("x<!-- hidden <b> -->y <script>if (1<2) {}</script>z", "x y z"),
        ("caf&#233; &#x41; &hellip; &quot;q&quot;", 'café A … "q"'),
        ("a  \t b\u00a0c", "a b c"),
    ],
)
def test_markup_is_taken_out(marked, plain):
    assert strip_markup(marked) == plain


@pytest.mark.parametrize(
    "text",
    [
        "a < b and c > d",
        "the <unk> of <pad>",
        "I <3 you >:-) <-",
        "if x<b and c>d",
        "AT&T ?a=1&copy=2 &nonsense; R&D",
        "<b",
        "vector<int> x",
    ],
)
def test_what_only_looks_like_markup_stays(text):
    assert strip_markup(text) == text


def test_a_tag_that_somebody_writes_about_stays():
    assert strip_markup("use &lt;br&gt; here") == "use <br> here"


@pytest.mark.parametrize("piece", ["<script>", "<!--", '<a href="', "<a b=c", "<a    ", "&"])
def test_hostile_texts_take_no_longer(piece):
    begun = time.perf_counter()
    strip_markup(piece * 30_000)
    assert time.perf_counter() - begun < 2  # hundredths of a second; minutes if it were quadratic
