"""Logging: lines for a person, or one JSON object a line for a machine.

Neither holds ECG or secrets: what is logged is what the monitor does, whose message it drops, and why.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal

Kind = Literal["text", "json"]
FIELDS = ("device", "topic")
"""What a line may be about, given as ``extra`` to a call of `logging`."""


class JsonFormatter(logging.Formatter):
    """One object a line.

    Parameters
    ----------
    name
        Of the process that logs: a monitor, or one of its workers.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "monitor": self._name,
            "message": record.getMessage(),
        }
        line |= {field: getattr(record, field) for field in FIELDS if hasattr(record, field)}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def set_up(kind: Kind, name: str, named: bool = False) -> None:
    """Log to stderr.

    Parameters
    ----------
    kind
        Of the lines.
    name
        Of the process that logs.
    named
        Whether lines of text show it as well, because several processes log.
    """
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter(f"%(asctime)s {f'{name} ' if named else ''}%(levelname)s %(message)s")
    handler.setFormatter(JsonFormatter(name) if kind == "json" else text)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
