"""Writes a run's report.html and report.pdf."""

from pathlib import Path

from headstart._util.files import write_bytes, write_text
from headstart.errors import RunError
from headstart.report.html import to_html
from headstart.report.pdf import typeset
from headstart.report.view import build_view


def render(run_folder: Path, *, max_pages: int | None = None) -> tuple[Path, Path]:
    """Write the report of a finished run, as a web page and as a PDF.

    Both are made before either is written, and each is written whole or not at all.

    Args:
        run_folder: The folder that a run has written; the report is put there.
        max_pages: The most pages that the PDF may have, or None for all there is to show.

    Returns:
        The paths of report.html and report.pdf.

    Raises:
        RunError: The folder is not a finished run, or its report does not fit the pages.
    """
    if max_pages is not None and max_pages < 1:
        raise RunError(f"max_pages: expected at least 1, got {max_pages}")
    view = build_view(run_folder)
    pdf = typeset(view, max_pages)
    html = to_html(view)
    html_path, pdf_path = run_folder / "report.html", run_folder / "report.pdf"
    write_text(html_path, html)
    write_bytes(pdf_path, pdf)
    return html_path, pdf_path
