"""Draws a chart as SVG: for print with the report's own face, for browsers with CSS colours."""

import io
import re
import warnings
import xml.etree.ElementTree as ET
from functools import lru_cache
from typing import Any, Literal

from headstart.report import charts
from headstart.report.plots import Plot
from headstart.report.style import CSS_NAMES, RC

Medium = Literal["print", "screen", "phone"]

_SVG = "{http://www.w3.org/2000/svg}"
_HREF = "{http://www.w3.org/1999/xlink}href"
_PRINT_FACE = "'Libertinus Serif'"
_COLOURS = re.compile("|".join(CSS_NAMES))
_FACE = re.compile(r"font-family: [^;]*")
_URL = re.compile(r"url\(#([^)]*)\)")


def draw(plot: Plot, medium: Medium, key: str, alt: str = "") -> str:
    """Draw one chart.

    Text stays text, so that it can be searched and takes the face of the page around it; names of
    users are never read as markup. Nothing global of Matplotlib is touched.

    Args:
        plot: The data.
        medium: ``print`` for A4, ``screen`` the same width with colours that follow the page's
            light or dark mode, ``phone`` the same in a narrow layout.
        key: Makes the identifiers inside the SVG unique among all that share a page.
        alt: Text for those who cannot see the chart; becomes its label.

    Returns:
        An ``<svg>`` element without XML declaration.
    """
    return _dressed(_sketch(plot, medium == "phone"), medium, key, alt)


@lru_cache(maxsize=64)
def _sketch(plot: Plot, narrow: bool) -> str:
    """Return Matplotlib's own SVG of a plot: the slow part, shared by print and screen."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(dict(RC)), warnings.catch_warnings():
        # The glyphs are drawn by the browser or Typst; that Matplotlib's own face lacks one of
        # them, or cannot find room on a strange chart, says nothing about the result.
        warnings.simplefilter("ignore", UserWarning)
        figure = Figure(layout="constrained")
        FigureCanvasAgg(figure)
        charts.draw_on(figure, plot, narrow)
        buffer = io.StringIO()
        no_date: dict[str, Any] = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=no_date, dpi=250)
    return buffer.getvalue()


def _dressed(svg: str, medium: Medium, key: str, alt: str) -> str:
    """Return Matplotlib's SVG with our faces, colours, identifiers and label."""
    root = ET.fromstring(svg)
    _tidy(root)
    used = {ref for e in root.iter() for ref in _references(e)}
    for element in root.iter():
        if _HREF in element.attrib:
            # SVG 2 knows plain href; with it, no second namespace is needed in HTML.
            element.set("href", element.attrib.pop(_HREF))
        element.tag = element.tag.removeprefix(_SVG)
        _rename(element, used, key)
        style = element.get("style")
        if style is not None:
            face = _PRINT_FACE if medium == "print" else "inherit"
            style = _FACE.sub(f"font-family: {face}", style)
            if medium != "print":
                style = _COLOURS.sub(lambda m: CSS_NAMES[m.group()], style)
            element.set("style", style)
    root.set("xmlns", "http://www.w3.org/2000/svg")
    root.set("stroke-linejoin", "round")
    if alt:
        root.set("role", "img")
        root.set("aria-label", alt)
    if medium != "print":
        # The width is the page's affair; the natural one limits how far it may grow.
        width = float(root.attrib.pop("width").removesuffix("pt"))
        root.attrib.pop("height")
        root.set("style", f"max-width: {1.3 * width:.0f}pt")
    return ET.tostring(root, encoding="unicode")


def _tidy(root: ET.Element) -> None:
    """Remove metadata, the style sheet (it would reach the whole page) and empty definitions."""
    for parent in list(root.iter()):
        for child in list(parent):
            name = child.tag.removeprefix(_SVG)
            if name == "metadata" or (
                name == "defs" and any(g.tag == _SVG + "style" for g in child)
            ):
                parent.remove(child)


def _references(element: ET.Element) -> list[str]:
    """Return the identifiers that an element points at."""
    found = [m for value in element.attrib.values() for m in _URL.findall(value)]
    href = element.get(_HREF, "")
    return [*found, href[1:]] if href.startswith("#") else found


def _rename(element: ET.Element, used: set[str], key: str) -> None:
    """Keep only identifiers that something points at, and make them unique on the page."""
    if "id" in element.attrib:
        if element.attrib["id"] in used:
            element.set("id", f"{key}-{element.attrib['id']}")
        else:
            del element.attrib["id"]
    for name, value in element.attrib.items():
        if name == "href" and value.startswith("#"):
            element.set(name, f"#{key}-{value[1:]}")
        elif "url(#" in value:
            element.set(name, _URL.sub(lambda m: f"url(#{key}-{m.group(1)})", value))
