"""Noticing that a monitor is gone: while it is, no alert means nothing, and somebody must be told."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from monitor import summary, wire

log = logging.getLogger(__name__)

AWAY_S = 60.0
"""A monitor that is back within this time was restarted."""


class Monitors:
    """Which monitors are gone, and for how long.

    Parameters
    ----------
    told_s
        What `told_s` was before a restart.
    """

    def __init__(self, told_s: Mapping[str, float] | None = None) -> None:
        self.told_s = dict(told_s or {})
        """Monitors that were told to be gone, and since when: it must outlive a restart, or it is told again."""
        self._statuses = summary.Monitors()
        self._gone_s: dict[str, float] = {}

    def take(self, name: str, payload: bytes, now_s: float) -> list[wire.Alert]:
        """Take a monitor's status; return that it, or its fleet, is back, if it was told that it is gone."""
        try:
            name = self._statuses.take(name, payload)
        except wire.PacketError as error:
            log.warning("the status of the monitor %.64r cannot be read: %s", name, error)
            return []
        status = self._statuses.shown().get(name)
        if status is None:  # its name is given up for good
            self._gone_s.pop(name, None)
            self.told_s.pop(name, None)
            return []
        if status.state == "offline":
            self._gone_s.setdefault(name, now_s)
            return []
        self._gone_s.pop(name, None)
        begun_s = self.told_s.pop(name, None)
        return [] if begun_s is None else [_alert(name, begun_s, "end", now_s, "The monitor is back.")]

    def turn(self, now_s: float) -> list[wire.Alert]:
        """Return those that have been gone for too long by now, once each."""
        text = "The monitor is offline: nobody is watched by it."
        gone = {name: since_s for name, since_s in self._gone_s.items() if name not in self.told_s}
        late = {name: since_s for name, since_s in gone.items() if now_s - since_s >= AWAY_S}
        self.told_s |= late
        return [_alert(name, since_s, "new", now_s, text) for name, since_s in late.items()]


def _alert(name: str, since_s: float, state: wire.AlertState, now_s: float, text: str) -> wire.Alert:
    episode = f"{name}-{round(since_s * 1000)}-{wire.MONITOR_OFFLINE}"
    return wire.Alert(
        id=f"{episode}-{state}",
        episode=episode,
        device=name,
        kind=wire.MONITOR_OFFLINE,
        severity="high",
        state=state,
        time_s=round(now_s, 3),
        since_s=round(since_s, 3),
        text=text,
        seq=0,
        completed_s=round(now_s, 3),
    )
