"""Several statuses as one: those of a monitor's workers, and those of the processes that share a fleet.

A process of a fleet that is gone matters to nobody while another is online: it has taken over. So a fleet is online
while one of its processes is, and its figures are those of all that are.

Knows nothing of how statuses come.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec

from monitor import wire


def add_up(blank: wire.MonitorStatus, statuses: Iterable[wire.MonitorStatus]) -> wire.MonitorStatus:
    """One status of several workers: counts added up, and the worst of all else.

    Parameters
    ----------
    blank
        What holds of all of them.
    statuses
        Of each.
    """
    reports = list(statuses)
    if not reports:
        return blank
    heard = [status.heard_s for status in reports if status.heard_s is not None]
    lateness = [status.lateness_s for status in reports if status.lateness_s is not None]
    since = [status.overloaded_since_s for status in reports if status.overloaded_since_s is not None]
    overloaded = blank.state == "online" and any(status.state == "overloaded" for status in reports)
    return msgspec.structs.replace(
        blank,
        state="overloaded" if overloaded else blank.state,
        model=reports[0].model,
        model_sha256=reports[0].model_sha256,
        limits=reports[0].limits,
        counts=dict(sum((Counter(status.counts) for status in reports), Counter())),
        devices=sum(status.devices for status in reports),
        streaming=sum(status.streaming for status in reports),
        lead_off=sum(status.lead_off for status in reports),
        silent=sum(status.silent for status in reports),
        unsettled=sum(status.unsettled for status in reports),
        unsaved_s=max((status.unsaved_s for status in reports), default=0.0),
        heard_s=max(heard, default=None),
        lateness_s=max(lateness, default=None),
        behind_s=max(status.behind_s for status in reports),
        overloaded_since_s=min(since, default=None) if overloaded else None,
        fault=next((status.fault for status in reports if status.fault is not None), None),
        broker_fault=next((status.broker_fault for status in reports if status.broker_fault is not None), None),
    )


class Monitors:
    """The statuses of all monitors, the processes of a fleet as one."""

    def __init__(self) -> None:
        self._alone: dict[str, wire.MonitorStatus] = {}
        self._fleets: dict[str, dict[str, wire.MonitorStatus]] = {}

    def take(self, name: str, payload: bytes) -> str:
        """Take what came on the status topic of a name; return the name under which it counts.

        Raises
        ------
        monitor.wire.PacketError
            It is no status.
        """
        if not payload:  # the name is given up
            self._alone.pop(name, None)
            return self._drop(name)
        status = wire.decode(payload, wire.MonitorStatus)
        if status.fleet is None:
            self._alone[name] = status
            return name
        members = self._fleets.setdefault(status.fleet, {})
        members[name] = status
        if status.state != "offline":
            gone = [one for one, known in members.items() if known.state == "offline"]
            for one in gone:
                del members[one]
        return status.fleet

    def shown(self) -> dict[str, wire.MonitorStatus]:
        """Return one status for each monitor and each fleet, by its name.

        Of a monitor that has the name of a fleet that was, its own: what a broker retains of processes stays.
        """
        fleets = {name: _add_up_fleet(name, members) for name, members in self._fleets.items() if members}
        online = {name: one for name, one in self._alone.items() if one.state != "offline"}
        return self._alone | {name: one for name, one in fleets.items() if one.state != "offline" or name not in online}

    def processes(self, fleet: str) -> dict[str, wire.MonitorStatus]:
        """Return the statuses of the processes of a fleet that are online, by their names."""
        return {name: one for name, one in self._fleets.get(fleet, {}).items() if one.state != "offline"}

    def _drop(self, name: str) -> str:
        for fleet, members in self._fleets.items():
            if members.pop(name, None) is not None:
                return fleet
        return name


def _add_up_fleet(name: str, members: dict[str, wire.MonitorStatus]) -> wire.MonitorStatus:
    online = [one for one in members.values() if one.state != "offline"]
    if not online:
        return msgspec.structs.replace(max(members.values(), key=lambda one: one.since_s), processes=0)
    blank = msgspec.structs.replace(
        online[0],
        state="online",
        version=", ".join(sorted({one.version for one in online})),
        since_s=min(one.since_s for one in online),
        fleet=name,
        processes=sum(one.processes for one in online),
        partitions=sum(one.partitions for one in online),
    )
    return add_up(blank, online)
