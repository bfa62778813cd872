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

    def hours(self, device: str) -> list[dict[str, Any]]:
        """Return how many beats of each class a device had in each hour of the last day."""
        if self._location is None:
            return []
        try:
            rows = self._location.read_hourly(self._name, time.time() - HOURS_S, device)
        except OSError as error:
            log.warning("the history cannot be read: %s", error)
            return []
        hours: dict[int, Counter[str]] = {}
        for row in rows:
            hours.setdefault(row.hour, Counter())[row.what] += row.beats
        return [{"start_s": 3600 * hour, "beats": dict(beats)} for hour, beats in sorted(hours.items())]

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
