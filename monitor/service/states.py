"""How each device is, as a retained message: whoever comes late sees what is active.

Twice a minute or so a heart rate has moved a little, and most devices have nothing else to say. So all devices are
looked at in one go every `LOOK_S`, and what is told is compared with what was told last; only a device that has
changed costs more. That an alert begins or ends, or that people decide something, is told at once.

Knows clocks; nothing of how what it tells was found or decided.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable

import msgspec
import numpy as np
import numpy.typing as npt

from monitor import wire
from monitor.broker.source import Source
from monitor.devices import Device
from monitor.engine import CONNECTIONS, Engine, Look
from monitor.service.decisions import Decisions, DeviceDecisions

LOOK_S = 2.0
"""How often all devices are looked at: the least time between two messages of one, but for alerts and decisions."""
SMALL_S = 20.0
"""A small change is told after this time."""
SMALL_BPM, LARGE_BPM = 2.0, 5.0
"""Changes of the heart rate that are told after `SMALL_S`, and at once."""
SMALL_SHARE, LARGE_SHARE = 0.03, 0.1
"""The same of the share of beats that could be judged."""
RHYTHMS = {
    "ventricular-fibrillation": "ventricular fibrillation",
    "asystole": "asystole",
    "ventricular-tachycardia": "ventricular tachycardia",
    "ventricular-run": "run of ventricular beats",
    "atrial-fibrillation": "atrial fibrillation",
    "bigeminy": "ventricular bigeminy",
    "trigeminy": "ventricular trigeminy",
}
"""Alerts that name a rhythm, the gravest first."""
NO_RATE = frozenset({"ventricular-fibrillation", "asystole"})
"""While one of these is alerted there is no heart rate: what was known before is no longer so."""
SEVERITIES: tuple[wire.Severity, ...] = ("high", "medium", "low", "technical")


class States:
    """Publishes the states of devices.

    Parameters
    ----------
    engine
        Knows how they are.
    source
        Where to.
    decisions
        What people have decided about them.
    topics
        Of the wire.
    monitor
        Name of the monitor, or of its fleet.
    told
        Keeps the latest state of each device for others to read; None: nobody does.
    """

    def __init__(
        self,
        engine: Engine,
        source: Source,
        decisions: Decisions,
        topics: wire.Topics,
        monitor: str,
        told: dict[str, wire.DeviceState] | None = None,
    ) -> None:
        self._latest = told
        self._engine = engine
        self._source = source
        self._decisions = decisions
        self._topics = topics
        self._monitor = monitor
        self._told: set[str] = set()  # devices whose state the broker has
        self._values = np.zeros((4, 0))  # what was told last, by row; see `_has_changed`
        self._due: set[str] = set()
        self._look_due_s = -math.inf
        self._connections = 0

    def touch(self, devices: Iterable[str]) -> None:
        """Let devices be told of at the next turn, whatever has changed."""
        self._due.update(devices)

    def note(self, alerts: Iterable[wire.Alert]) -> None:
        """Take alerts that were found: what begins or ends is told at the next turn."""
        self._due.update([alert.device for alert in alerts if alert.state != "update"])

    def repeat(self) -> None:
        """Let all devices be told of at the next turn, as after a new connection."""
        self._connections, self._look_due_s = 0, -math.inf

    def leave(self, devices: Iterable[str]) -> None:
        """Tell no more of devices that another process goes on with, nor that they are gone."""
        gone = set(devices)
        self._told -= gone
        self._due -= gone
        self._drop(gone)

    def turn(self, now_s: float, arrived_s: float) -> None:
        """Publish what is due.

        Parameters
        ----------
        now_s
            On a clock that does not run back.
        arrived_s
            On the clock of `Engine.feed`.
        """
        if not self._due and now_s < self._look_due_s:
            return
        if not self._source.connected:
            return
        time_s = time.time()
        if now_s >= self._look_due_s:
            self._look_due_s = now_s + LOOK_S
            self._due.update(self._decisions.expire(time_s))
            look = self._engine.look(arrived_s)
            ids = [known.id for known in look.devices]
            self._forget(self._told.difference(ids))
            which = self._choose(ids, self._has_changed(look, now_s))
        else:
            look = self._engine.look(arrived_s, self._due)
            self._forget(self._due.difference(known.id for known in look.devices) & self._told)
            which = list(range(len(look.devices)))
        self._due.clear()
        self._tell(look, which, now_s, time_s - arrived_s)

    def clear(self, devices: Iterable[str]) -> None:
        """Let the broker forget the states of devices that are not watched any more."""
        for device in devices:
            self._told.discard(device)
            self._due.discard(device)
            self._publish(device, b"")
            self._drop({device})

    def _choose(self, ids: list[str], changed: npt.NDArray[np.bool_]) -> list[int]:
        """Return which of the devices to tell of, by their positions."""
        if self._source.connections != self._connections:  # what was on its way is lost, or the broker lost it
            self._connections = self._source.connections
            return list(range(len(ids)))
        if not self._due and len(self._told) == len(ids):
            return np.flatnonzero(changed).tolist()
        told, due = self._told, self._due
        return [k for k, is_other in enumerate(changed.tolist()) if is_other or ids[k] in due or ids[k] not in told]

    def _has_changed(self, look: Look, now_s: float) -> npt.NDArray[np.bool_]:
        """(n,) Whether devices are no longer as they were told to be."""
        self._make_room(look.rows)
        connections, rate_bpm, judged, told_s = self._values[:, look.rows]
        rate, share = _differences(look.rate_bpm, rate_bpm), _differences(look.judged, judged)
        is_small = (rate >= SMALL_BPM) | (share >= SMALL_SHARE)
        is_large = (rate >= LARGE_BPM) | (share >= LARGE_SHARE) | (look.connections != connections)
        changed: npt.NDArray[np.bool_] = is_large | (is_small & (now_s - told_s >= SMALL_S))
        return changed

    def _make_room(self, rows: npt.NDArray[np.int64]) -> None:
        if rows.size and (most := int(rows.max()) + 1) > self._values.shape[1]:
            self._values = np.pad(self._values, ((0, 0), (0, most)))

    def _tell(self, look: Look, which: list[int], now_s: float, epoch_s: float) -> None:
        """Publish some of the devices that were looked at; `epoch_s` is when the clock of `Engine.feed` showed 0."""
        time_s = time.time()
        self._make_room(look.rows)
        values = np.array([look.connections, look.rate_bpm, look.judged, np.full(len(look.devices), now_s)])
        self._values[:, look.rows[which]] = values[:, which]
        rates, shares = look.rate_bpm.tolist(), look.judged.tolist()
        for k in which:
            known = look.devices[k]
            connection = CONNECTIONS[look.connections[k]]
            state = self._describe(known, connection, rates[k], shares[k], (time_s, known.arrived_s + epoch_s))
            self._told.add(known.id)
            if self._latest is not None:
                self._latest[known.id] = state
            self._publish(known.id, wire.encode(state))

    def _describe(
        self,
        known: Device,
        connection: wire.Connection,
        rate_bpm: float,
        judged: float,
        times_s: tuple[float, float],
    ) -> wire.DeviceState:
        """Return the state of a device; `times_s` are now, and when its last message came."""
        time_s, heard_s = times_s
        decided = self._decisions.of(known.id)
        has_rate = not math.isnan(rate_bpm) and NO_RATE.isdisjoint(known.active)
        return wire.DeviceState(
            device=known.id,
            name=self._decisions.name_of(known.id),
            connection=connection,
            heart_rate_bpm=round(rate_bpm, 1) if has_rate else None,
            rhythm=self._name_rhythm(known, has_rate),
            judged=None if math.isnan(judged) else round(judged, 3),
            alerts=_list_alerts(known, decided) if known.active else [],
            silenced=[one for one in decided.silences if one.until_s > time_s],
            limits=self._decisions.limits_of(known.id),
            lead=known.lead or None,
            resolution_uv=known.resolution_uv,
            monitor=self._monitor,
            heard_s=round(min(max(heard_s, 0.0), time_s), 3),
            time_s=round(time_s, 3),
        )

    def _name_rhythm(self, known: Device, has_rate: bool) -> str | None:
        """In words; that it is a sinus rhythm is not known."""
        if known.active:
            for kind, words in RHYTHMS.items():
                if kind in known.active:
                    return words
        is_irregular = self._engine.is_irregular(known.id) if has_rate else None
        return None if is_irregular is None else ("irregular" if is_irregular else "regular")

    def _forget(self, gone: set[str]) -> None:
        for device in gone:
            self._told.discard(device)
            self._publish(device, b"")
        self._drop(gone)

    def _drop(self, gone: set[str]) -> None:
        if self._latest is not None:
            for device in gone:
                self._latest.pop(device, None)

    def _publish(self, device: str, payload: bytes) -> None:
        self._source.publish(self._topics.of(device, "state"), payload, qos=0, retain=True)


def _list_alerts(known: Device, decided: DeviceDecisions) -> list[wire.ActiveAlert]:
    """Return the active alerts, the gravest first, with who has seen them."""
    alerts = []
    for one in sorted(known.active.values(), key=lambda one: (SEVERITIES.index(one.severity), one.since_s)):
        seen = decided.acknowledged.get(one.episode)
        alerts.append(
            one if seen is None else msgspec.structs.replace(one, acknowledged_by=seen.by, acknowledged_s=seen.at_s)
        )
    return alerts


def _differences(values: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(n,) By how much values differ; infinite where only one of the two is known."""
    unknown, others_unknown = np.isnan(values), np.isnan(others)
    apart = np.where(unknown != others_unknown, np.inf, 0.0)
    return np.where(unknown | others_unknown, apart, np.abs(values - others))
