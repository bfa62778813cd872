"""What the monitor on this machine has kept: recent alerts, and beats hour by hour. Reads, and changes nothing."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from monitor import wire
from monitor.state.location import locate

log = logging.getLogger(__name__)

ALERTS_S = 24 * 3600.0
HOURS_S = 24 * 3600.0
WITHHELD = "withheld"


class Past:
    """The history of one monitor.

    Parameters
    ----------
    state
        Where it is kept; None if it is not to be read.
    name
        Of the monitor.
    """

    def __init__(self, state: Path | str | None, name: str) -> None:
        self._location = None if state is None else locate(state)
        self._name = name

    def alerts(self) -> Iterator[wire.Alert]:
        """Yield the alerts of the last day, oldest first; none if they cannot be read."""
        for payload in self._payloads():
            try:
                yield wire.decode(payload, wire.Alert)
            except wire.PacketError:
                continue  # of another version

    def hours(self, device: str, ahead_s: float = 0.0) -> list[dict[str, Any]]:
        """Return each hour of the last day in which a device had beats: how many of each class, and its heart rate.

        `bpm` is that of the beats that were judged, None without one. The hours are those of the device's clock, which
        is so far ahead: `start_s` is when one began by ours.
        """
        if self._location is None:
            return []
        try:
            rows = self._location.read_hourly(self._name, time.time() - HOURS_S, device)
        except OSError as error:
            log.warning("the history cannot be read: %s", error)
            return []
        beats: dict[int, Counter[str]] = {}
        judged, rr_ms = Counter[int](), Counter[int]()
        for row in rows:
            beats.setdefault(row.hour, Counter())[row.what] += row.beats
            if row.what != WITHHELD:
                judged[row.hour] += row.beats
                rr_ms[row.hour] += row.rr_ms
        return [
            {
                "start_s": 3600 * hour - ahead_s,
                "beats": dict(beats[hour]),
                "bpm": round(60_000 * judged[hour] / rr_ms[hour], 1) if rr_ms[hour] else None,
            }
            for hour in sorted(beats)
        ]

    def _payloads(self) -> list[bytes]:
        if self._location is None:
            return []
        try:
            if not self._location.has_kept(self._name):
                return []
            return [alert.payload for alert in self._location.read_history(self._name, time.time() - ALERTS_S)]
        except OSError as error:
            log.warning("the history cannot be read: %s", error)
            return []
