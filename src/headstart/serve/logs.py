"""The server's log: one line of JSON for a request, on standard error; nothing of what was sent."""

import json
import logging
import traceback
from datetime import UTC, datetime
from typing import Any

LOGGER = "headstart.serve"


class JsonLines(logging.Formatter):
    """A record as one line of JSON; what is given as ``extra={"fields": …}`` goes in."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        line |= getattr(record, "fields", {})
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = "".join(traceback.format_exception(record.exc_info[1]))
        return json.dumps(line, default=str)


def log_settings(level: str = "INFO") -> dict[str, Any]:
    """Return settings for `logging.config.dictConfig`: the server's own log and uvicorn's.

    Args:
        level: The least severe that is written: ``DEBUG``, ``INFO``, ``WARNING`` …

    Returns:
        The settings. Uvicorn's own line for each request is left out: ours says more.
    """
    handler = {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stderr"}
    logger = {"handlers": ["stderr"], "level": level, "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JsonLines}},
        "handlers": {"stderr": handler},
        "loggers": {LOGGER: logger, "uvicorn": logger | {"level": "WARNING"}},
    }
