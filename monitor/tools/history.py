"""Looking back: the alerts and the beats that a monitor keeps. Reads, and changes nothing."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from monitor import wire
from monitor.state.location import locate
from monitor.state.store import HistoryAlert, HourlyRow, StateLocation
from monitor.tools.watch import format_alert, plain

WITHHELD: wire.Verdict = "withheld"


@dataclass(frozen=True, slots=True)
class HistorySettings:
    """What to look for, and where."""

    state: Path | str
    """Where the monitor keeps its state; see `monitor.state.location.locate`."""
    name: str = "monitor"
    """Of the monitor."""
    device: str | None = None
    """Whose alerts or beats to print; None for all devices."""
    since_s: float = 86400.0
    """How far to look back."""
    beats: bool = False
    """Print how many beats there were, hour by hour, not the alerts."""
    as_json: bool = False
    """Print each alert as it was published, or each hour as an object, one a line."""


class Hour(NamedTuple):
    """The beats of a device in an hour."""

    hour: int
    """Since 1970, on the device's clock."""
    device: str
    beats: dict[str, int]
    """How many of each class, and how many were withheld."""
    heart_rate_bpm: float | None
    """Mean over the beats that were judged."""


def run_history(settings: HistorySettings) -> int:
    """Print what was kept, oldest first; if there is nothing, print a hint on stderr. Return the exit status.

    Raises
    ------
    ValueError
        The name cannot be a monitor's, or the device id a device's.
    OSError
        The store cannot be read.
    """
    wire.check_name(settings.name)
    if settings.device is not None:
        wire.check_device_id(settings.device)
    what = "beats" if settings.beats else "alerts"
    location = locate(settings.state)
    if not location.has_kept(settings.name):
        hint = "no monitor of this name has kept any there. Is it another --name or --state, or was it --no-state?"
        print(f"no {what} in {location}: {hint}", file=sys.stderr)
        return 0
    since_s = max(0.0, time.time() - settings.since_s)
    lines = (_format_beats if settings.beats else _format_alerts)(settings, location, since_s)
    print(*lines, sep="\n", end="\n" if lines else "")
    if not lines:
        began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(since_s))
        of = "" if settings.device is None else f" of {settings.device}"
        print(
            f"no {what}{of} in {location} since {began}: --since 30d looks as far back as they are kept",
            file=sys.stderr,
        )
    return 0


def _format_alerts(settings: HistorySettings, location: StateLocation, since_s: float) -> list[str]:
    alerts = location.read_history(settings.name, since_s, settings.device)
    return [_line(alert, settings.as_json) for alert in alerts]


def _line(alert: HistoryAlert, as_json: bool) -> str:
    try:
        return format_alert(alert.payload, as_json, dated=True, heard_s=alert.published_s)
    except ValueError as error:
        return plain(f"not an alert: {error}")


def _format_beats(settings: HistorySettings, location: StateLocation, since_s: float) -> list[str]:
    hours = by_hour(location.read_hourly(settings.name, since_s, settings.device))
    return [_as_json(hour) for hour in hours] if settings.as_json else _table(hours)


def by_hour(rows: Iterable[HourlyRow]) -> list[Hour]:
    """Join the rows of each device and hour; by time, then by device."""
    beats: dict[tuple[int, str], Counter[str]] = {}
    judged: Counter[tuple[int, str]] = Counter()
    rr_ms: Counter[tuple[int, str]] = Counter()
    for row in rows:
        key = row.hour, row.device
        beats.setdefault(key, Counter())[row.what] += row.beats
        if row.what != WITHHELD:
            judged[key] += row.beats
            rr_ms[key] += row.rr_ms
    return [
        Hour(*key, dict(beats[key]), round(60_000 * judged[key] / rr_ms[key], 1) if rr_ms[key] else None)
        for key in sorted(beats)
    ]


def _as_json(hour: Hour) -> str:
    start = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(3600 * hour.hour))
    fields = {"hour": start, "device": hour.device, "beats": hour.beats, "heart_rate_bpm": hour.heart_rate_bpm}
    return json.dumps(fields)


def _table(hours: list[Hour]) -> list[str]:
    """A line an hour and device, and a column a class, the most frequent first."""
    if not hours:
        return []
    total = sum((Counter(hour.beats) for hour in hours), Counter())
    del total[WITHHELD]
    kinds = [*(kind for kind, _ in total.most_common()), WITHHELD]
    width = max(len("device"), *(len(hour.device) for hour in hours))
    lines = [f"{'hour':<16}  {'device':<{width}}  {'bpm':>5}" + "".join(f"{kind:>10}" for kind in kinds)]
    for hour in hours:
        start = time.strftime("%Y-%m-%d %H:%M", time.localtime(3600 * hour.hour))
        rate = "-" if hour.heart_rate_bpm is None else f"{hour.heart_rate_bpm:.0f}"
        cells = "".join(f"{hour.beats.get(kind, 0):>10}" for kind in kinds)
        lines.append(f"{start}  {hour.device:<{width}}  {rate:>5}{cells}")
    return lines
