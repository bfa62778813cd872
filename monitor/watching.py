"""Whether anybody is watched, and which devices are not: from what monitors say of themselves, and when.

Rules
-----
* A monitor says every 10 s how it is. One that said nothing for `OVERDUE_S` watches nobody, as far as is known.
* What the broker had retained is as old as it says. If that is long ago, or not said, it is not yet known whether the
  monitor is there: it is asked, and counts as overdue if it says nothing for `OVERDUE_S`.
* A fleet of processes is away once all of them are.

Knows no sockets and no clock: it is told what came and when.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from monitor import wire

OVERDUE_S = 20.0
SKEW_S = 5.0
"""Clocks that differ by less are in step."""
How = Literal["offline", "overdue", "doubtful"]


class Away(msgspec.Struct, frozen=True):
    """A monitor, or a fleet, that watches nobody, as far as is known."""

    how: How
    """"offline": it said so, or its last will did; "overdue": it says nothing; "doubtful": that is not known yet."""
    since_s: float | None
    """When it was last known to watch, on the clock of whoever looks; None if that is not known."""


class WatchNews(msgspec.Struct, frozen=True):
    """Whether anybody is watched, as far as is known here."""

    watched: bool
    """Whether a monitor is online, and has said so lately."""
    watched_s: float | None = None
    """When that was last known, on the clock of whoever looks; None if it never was."""
    overdue: list[str] = []
    """Monitors, or processes of a fleet, that ought to have said something, and have not."""
    away: dict[str, Away] = {}
    """By name, monitors and fleets whose devices are not watched."""

    def is_like(self, other: WatchNews) -> bool:
        """Whether it is the same but for the time."""
        return (self.watched, self.overdue, self.away) == (other.watched, other.overdue, other.away)


class _Process(msgspec.Struct):
    """What is known of a monitor, or of a process of a fleet."""

    group: str
    """Name of the fleet; of the monitor, if it is none."""
    is_online: bool
    said_s: float | None
    """When it last said so, on the clock of whoever looks; None if that is not known."""
    doubted_s: float | None = None
    """When the broker handed out what it had said long ago."""

    def is_doubtful(self, now_s: float) -> bool:
        return self.is_online and self.doubted_s is not None and self.doubted_s + OVERDUE_S >= now_s

    def is_there(self, now_s: float) -> bool:
        return self.is_online and self.said_s is not None and self.said_s + OVERDUE_S >= now_s


class Watch:
    """Keeps who watches."""

    def __init__(self) -> None:
        self.ahead_s = 0.0
        """The monitor's clock minus that of whoever looks; 0 if they are in step."""
        self._processes: dict[str, _Process] = {}
        self._watched_s: dict[str, float] = {}
        """By monitor or fleet: when it was last known to watch."""

    def take(self, name: str, status: wire.MonitorStatus | None, is_retained: bool, now_s: float) -> bool:
        """Take what came on the status topic of a name; None: the name is given up.

        Returns
        -------
        bool
            Whether it is not known if that monitor is still there, so that it ought to be asked.
        """
        before = self._processes.get(name)
        if status is None:
            self._processes.pop(name, None)
            return False
        said_s = self._said_s(status, is_retained, now_s)
        if said_s is not None and before is not None and before.said_s is not None:
            said_s = max(said_s, before.said_s)
        one = _Process(status.fleet or name, status.state != "offline", said_s)
        self._processes[name] = one
        if said_s is not None and (one.is_online or is_retained):
            self._watched_s[one.group] = max(said_s, self._watched_s.get(one.group, 0.0))
        if one.is_online and is_retained and not one.is_there(now_s):
            one.doubted_s = now_s
        return one.doubted_s is not None

    def judge(self, is_connected: bool, now_s: float) -> WatchNews:
        """Return who is watched now, with or without a connection to the broker."""
        groups: dict[str, list[_Process]] = {}
        for one in self._processes.values():
            groups.setdefault(one.group, []).append(one)
        away = {
            group: Away(how, self._watched_s.get(group))
            for group, members in sorted(groups.items())
            if (how := _how_away(members, now_s)) is not None
        }
        overdue = [
            name
            for name, one in sorted(self._processes.items())
            if one.is_online and not one.is_there(now_s) and not one.is_doubtful(now_s)
        ]
        watched_s = max(self._watched_s.values(), default=None)
        return WatchNews(is_connected and len(away) < len(groups), watched_s, overdue, away)

    def _said_s(self, status: wire.MonitorStatus, is_retained: bool, now_s: float) -> float | None:
        if not is_retained:
            if status.time_s is not None:
                ahead_s = status.time_s - now_s
                self.ahead_s = ahead_s if abs(ahead_s) > SKEW_S else 0.0
            return now_s
        if status.time_s is None or status.time_s - self.ahead_s > now_s + SKEW_S:
            return None
        return min(status.time_s - self.ahead_s, now_s)


def _how_away(members: list[_Process], now_s: float) -> How | None:
    if any(one.is_there(now_s) for one in members):
        return None
    if any(one.is_doubtful(now_s) for one in members):
        return "doubtful"
    return "overdue" if any(one.is_online for one in members) else "offline"
