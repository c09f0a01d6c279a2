"""Readers of a rendered report, and what every page must be."""

import io
import re
from html.parser import HTMLParser

import pypdf

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """A page's elements, and its text without charts, styles, numbering and citations."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[tuple[str, bool]] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        if tag not in VOID:
            hidden = tag in ("svg", "style", "nav", "strong") or (
                attributes.get("class") in ("number", "cites", "letter")
            )
            self.open.append((tag, hidden))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop()[0] == tag
        if tag in ("td", "th", "dd", "dt", "p", "li", "caption", "h1", "h2"):
            self.words.append("\n")

    def handle_data(self, data: str) -> None:
        if not any(hidden for _, hidden in self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return "".join(self.words)


def pdf_text(data: bytes) -> str:
    return "\n".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(data)).pages)


def squeezed(text: str) -> str:
    """Text without spaces and hyphens, which line ends may add or take."""
    return re.sub(r"[\s\u200b\u00ad\u2010-]+", "", text)


def assert_sound(html: str) -> None:
    """Fail where a page is not sound, not accessible, or needs something from elsewhere."""
    page = Page(html)
    tags = [tag for tag, _ in page.elements]
    assert not set(tags) & {"script", "link", "iframe", "object", "embed", "base", "form"}
    ids = [a["id"] for _, a in page.elements if a.get("id")]
    assert len(set(ids)) == len(ids)
    for tag, attributes in page.elements:
        assert not [a for a in attributes if a.startswith("on")]
        if tag == "img":
            # Inside the page itself, and told to those who cannot see it.
            assert str(attributes["src"]).startswith(("data:image/jpeg;base64,", "data:image/png;"))
            assert attributes["alt"]
            assert int(str(attributes["width"])) > 0
        else:
            assert "src" not in attributes
        href = attributes.get("href")
        if href is not None and not href.startswith("data:image/png;base64,"):
            assert href.startswith("#")
            assert href[1:] in ids
        for pointer in ("aria-labelledby",):
            if attributes.get(pointer):
                assert attributes[pointer] in ids
        if tag == "svg":
            assert attributes["role"] == "img"
            assert attributes["aria-label"]
        if tag == "th":
            assert attributes.get("scope") in ("row", "col", "colgroup")
    assert dict(page.elements)["html"]["lang"] == "en"
    assert tags.count("h1") == 1
    assert not set(tags) & {"h3", "h4", "h5", "h6"}
    assert tags.count("caption") == tags.count("table")
    assert tags.count("figcaption") == tags.count("figure")
    styles = html
    assert "@import" not in styles
    # Nothing moves, so there is nothing to still for those who asked for less motion.
    css = styles[styles.index("<style>") : styles.index("</style>")]
    assert not re.findall(r"transition|animation|@keyframes|scroll-behavior", css)
    assert re.findall(r"url\((?!#)", styles) == []
    assert set(re.findall(r"https?://[^\s\"'<>]+", styles)) <= {"http://www.w3.org/2000/svg"}
