"""What a line of the log looks like."""

from __future__ import annotations

import json
import logging
from typing import Any

from monitor.service.logs import JsonFormatter


def _line(message: str, *values: object, **more: Any) -> dict[str, Any]:
    record = logging.getLogger("monitor.x").makeRecord(
        "monitor.x", logging.WARNING, "x.py", 1, message, values, more.pop("exc_info", None), extra=more
    )
    record.created = 1.5
    line = JsonFormatter("icu").format(record)
    assert "\n" not in line
    told: dict[str, Any] = json.loads(line)
    return told


def test_a_line_is_one_object_that_says_when_who_and_what() -> None:
    assert _line("%s of %d\nlines", "one", 2) == {
        "time": "1970-01-01T00:00:01.500+00:00",
        "level": "WARNING",
        "logger": "monitor.x",
        "monitor": "icu",
        "message": "one of 2\nlines",
    }


def test_whom_it_is_about_is_told_where_it_is_known_and_nothing_else_is() -> None:
    line = _line("x", device="a", topic="b", payload=b"secret")
    assert (line["device"], line["topic"]) == ("a", "b")
    assert "payload" not in line


def test_an_error_nobody_expected_is_told_with_its_traceback() -> None:
    try:
        1 / 0  # noqa: B018 - it is there to fail
    except ZeroDivisionError as error:
        line = _line("x", exc_info=(type(error), error, error.__traceback__))
    assert line["exception"].endswith("ZeroDivisionError: division by zero")
