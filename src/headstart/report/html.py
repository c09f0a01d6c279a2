"""Renders a view as one HTML file that needs nothing else: no network, no scripts, no fonts."""

import base64
import re
from typing import TYPE_CHECKING

from headstart.report import figures
from headstart.report.numbering import row_anchor
from headstart.report.pictures import Picture
from headstart.report.records import Column, Figure, ReportView, Table

if TYPE_CHECKING:  # imported where a page is rendered
    import jinja2

_MANY_ROWS = 24
_RANGE = re.compile(r"\(?[\d.]+–[\d.]+%?\)?")


def to_html(view: ReportView) -> str:
    """Render a report.

    Args:
        view: The full view.

    Returns:
        A complete page. Every text of a user is escaped.
    """
    environment = templates()
    environment.filters["prose"] = _prose
    return environment.get_template("report.html.j2").render(
        view=view,
        drawing=_drawing,
        data_uri=_data_uri,
        groups=_groups,
        row_anchor=row_anchor,
        many_rows=_MANY_ROWS,
    )


def templates() -> "jinja2.Environment":
    """Return the templates of all pages. They escape whatever is put into them."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader("headstart.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _prose(text: str) -> str:
    """Escape a text, and keep each range of figures on one line."""
    import markupsafe

    escaped = str(markupsafe.escape(text))
    return markupsafe.Markup(_RANGE.sub(r'<span class="whole">\g<0></span>', escaped))


def _drawing(figure: Figure, phone: bool) -> str:
    """Return a chart's SVG; it is ours, and the one thing that is not escaped again."""
    import markupsafe

    key = f"figure-{figure.number}-{'phone' if phone else 'screen'}"
    return markupsafe.Markup(
        figures.draw(figure.plot, "phone" if phone else "screen", key, figure.alt)
    )


def _data_uri(picture: Picture) -> str:
    """Return a picture as an address that holds it whole, so that the page needs no other file."""
    return f"data:image/{picture.kind};base64,{base64.b64encode(picture.data).decode('ascii')}"


def _groups(table: Table) -> tuple[tuple[str, int], ...]:
    """Return the upper row of heads: (text, number of columns); nothing where there are none."""
    if not any(column.group for column in table.columns):
        return ()
    groups: list[tuple[str, int]] = []
    before: Column | None = None
    for column in table.columns:
        if before is not None and column.group and column.group == before.group:
            name, width = groups.pop()
            groups.append((name, width + 1))
        else:
            groups.append((column.group, 1))
        before = column
    return tuple(groups)
