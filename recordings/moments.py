"""Dates and times of day as people's programs write them in a column -> seconds. Knows nothing of files.

Rules
-----
* A date has its year first, or last; then its day stands first where dots part it. Parted otherwise, whichever is above
  12 in any row is the day; where none is, the month comes first beside AM or PM, and else the day: that is said.
* Of two numbers the second are minutes beside a date, and else seconds.
* A time of day without a date that falls back by more than twelve hours has passed midnight.
* Without a zone it is UTC.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import numpy.typing as npt

_DATE = (
    r"(?:(?P<year>\d{4})[-/.](?P<month>\d\d?)[-/.](?P<day>\d\d?)"
    r"|(?P<a>\d\d?)(?P<part>[-/.])(?P<b>\d\d?)[-/.](?P<last>\d{4}))"
)
_TIME = r"(?P<x>\d+):(?P<y>\d\d?(?:[.,]\d*)?)(?::(?P<z>\d\d?(?:[.,]\d*)?))?"
_HALF = r"(?:\s*(?P<half>[AaPp])\.?[Mm]\.?)?"
_ZONE = r"\s*(?P<zone>Z|UTC|GMT|[+-]\d\d:?\d\d)?"
_moment = re.compile(rf"(?:{_DATE}(?:,?\s+|T))?{_TIME}{_HALF}{_ZONE}")
_iso = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,6})?Z?")
DAY_S = 86_400.0


def is_moment(field: str) -> bool:
    """Whether a field is a time of day, with or without a date."""
    return _moment.fullmatch(field) is not None


def read_moments(fields: Sequence[str]) -> tuple[npt.NDArray[np.float64], float | None, list[str]]:
    """Return seconds since the first moment, when that was (if it has a date), and what was guessed.

    Raises
    ------
    IndexError
        One is no moment, by its position.
    """
    if _iso.fullmatch(fields[0]) and min(map(len, fields)) >= len("2026-02-21T10:00:00"):
        try:  # in one go: a day of signal has millions
            with warnings.catch_warnings(action="error", category=UserWarning):  # of a time zone, which it leaves out
                times = np.array([field.removesuffix("Z") for field in fields], "datetime64[us]").astype(np.int64)
            return (times - times[0]) / 1e6, float(times[0] / 1e6), []
        except (ValueError, UserWarning):
            pass
    found = [_moment.fullmatch(field) for field in fields]
    for row, one in enumerate(found):
        if one is None:
            raise IndexError(row)
    matches = [one for one in found if one is not None]
    is_day_first, notes = _order(matches)
    times_s = np.empty(len(matches))
    for row, one in enumerate(matches):
        try:
            times_s[row] = _seconds(one, is_day_first)
        except ValueError:
            raise IndexError(row) from None
    if not (matches[0]["year"] or matches[0]["last"]):
        times_s += DAY_S * np.cumsum(np.diff(times_s, prepend=times_s[0]) < -DAY_S / 2)
        return times_s - times_s[0], None, notes
    return times_s - times_s[0], float(times_s[0]), notes


def _order(matches: Sequence[re.Match[str]]) -> tuple[bool, list[str]]:
    """Whether the day stands before the month, where the year is last; and what to say of it."""
    last = [one for one in matches if one["last"]]
    if not last or last[0]["part"] == ".":
        return True, []
    if any(int(one["a"]) > 12 for one in last):
        return True, []
    if any(int(one["b"]) > 12 for one in last):
        return False, []
    is_day_first = not last[0]["half"]
    return is_day_first, [f"its dates are taken to begin with the {'day' if is_day_first else 'month'}"]


def _seconds(one: re.Match[str], is_day_first: bool) -> float:
    has_date = bool(one["year"] or one["last"])
    parts = [float(part.replace(",", ".")) for part in (one["x"], one["y"], one["z"]) if part]
    hour, minute, second = parts if len(parts) == 3 else (*parts, 0.0) if has_date else (0.0, *parts)
    if one["half"]:
        hour = hour % 12 + 12 * (one["half"].lower() == "p")
    time_s = 3600 * hour + 60 * minute + second
    if not has_date:
        return time_s
    year, month, day = one["year"] or one["last"], one["month"], one["day"]
    if one["last"]:
        month, day = (one["b"], one["a"]) if is_day_first else (one["a"], one["b"])
    begin = datetime(int(year), int(month), int(day), tzinfo=_zone(one["zone"]))
    if hour > 23:
        raise ValueError
    return begin.timestamp() + time_s


def _zone(text: str | None) -> timezone:
    if text is None or text[0] not in "+-":
        return UTC
    sign = -1 if text[0] == "-" else 1
    return timezone(sign * timedelta(hours=int(text[1:3]), minutes=int(text[-2:])))
