"""The page of all runs: one HTML file that needs nothing else, and no script to be read."""

import base64
import datetime
import hashlib
from collections import Counter
from collections.abc import Sequence

from headstart.report.html import templates
from headstart.report.run_rows import RunRow, State
from headstart.report.text import clean, count, day, plural

MARK = '<meta name="generator" content="Headstart: all runs">'
"""What tells this page from one that somebody else has put in its place."""

# In the order of the summary. A state is told by its word; its sign helps the eye.
_SIGNS: dict[State, str] = {
    "running": "●",
    "complete": "✓",
    "partial": "◐",
    "stopped": "■",
    "failed": "✕",
    "damaged": "!",
}


def runs_html(rows: Sequence[RunRow], place: str) -> str:
    """Render the page.

    Args:
        rows: What it shows, in this order.
        place: The folder of all runs, as the user named it.

    Returns:
        A complete page. Every text of a user is escaped.
    """
    import markupsafe

    environment = templates()
    script = environment.get_template("runs.js.j2").render()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    now = datetime.datetime.now().astimezone()
    return environment.get_template("runs.html.j2").render(
        rows=rows,
        place=clean(place),
        mark=markupsafe.Markup(MARK),
        script=markupsafe.Markup(script),
        script_digest=digest,
        summary=_summary(rows),
        states=[state for state in _SIGNS if any(row.state == state for row in rows)],
        signs=_SIGNS,
        now=now.isoformat(timespec="seconds"),
        now_text=f"{day(now.isoformat())}, {now:%H:%M}",
    )


def _summary(rows: Sequence[RunRow]) -> str:
    """Say how many there are of each state: 13 runs: 11 complete, 1 running and 1 stopped."""
    counts = Counter(row.state for row in rows)
    parts = [f"{count(counts[state])} {state}" for state in _SIGNS if counts[state]]
    return f"{plural(len(rows), 'run')}: {', '.join(parts)}" if rows else "No runs yet"
