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
from typing import NamedTuple

import msgspec

from monitor import wire
from monitor.broker.source import Source
from monitor.engine import Engine, Look
from monitor.service.decisions import Decisions

LOOK_S = 2.0
"""How often all devices are looked at: the least time between two messages of one, but for alerts and decisions."""
SMALL_S = 15.0
"""A small change is told after this time."""
SMALL_BPM, LARGE_BPM = 1.0, 5.0
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
SEVERITIES: tuple[wire.Severity, ...] = ("high", "medium", "low", "technical")


class _Told(NamedTuple):
    """What was told of a device last, as far as it is compared."""

    connection: wire.Connection
    rate_bpm: float
    judged: float
    at_s: float


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
    """

    def __init__(self, engine: Engine, source: Source, decisions: Decisions, topics: wire.Topics) -> None:
        self._engine = engine
        self._source = source
        self._decisions = decisions
        self._topics = topics
        self._told: dict[str, _Told] = {}
        self._due: set[str] = set()
        self._look_due_s = -math.inf
        self._connections = 0

    def touch(self, devices: Iterable[str]) -> None:
        """Let devices be told of at the next turn, whatever has changed."""
        self._due.update(devices)

    def note(self, alerts: Iterable[wire.Alert]) -> None:
        """Take alerts that were found: what begins or ends is told at the next turn."""
        self._due.update([alert.device for alert in alerts if alert.state != "update"])

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
        if self._source.connections != self._connections:  # what was on its way is lost, or the broker lost it
            self._connections = self._source.connections
            self._told.clear()
        if not self._source.connected:
            return
        time_s = time.time()
        if now_s >= self._look_due_s:
            self._look_due_s = now_s + LOOK_S
            self._due.update(self._decisions.expire(time_s))
            looks = self._engine.look(arrived_s)
            self._clear_others({look.device.id for look in looks})
            due = [look for look in looks if look.device.id in self._due or self._has_changed(look, now_s)]
        else:
            due = self._engine.look(arrived_s, self._due)
            self._clear(self._due - {look.device.id for look in due})
        self._due.clear()
        for look in due:
            self._told[look.device.id] = _Told(look.connection, look.rate_bpm, look.judged, now_s)
            self._publish(look.device.id, wire.encode(self._describe(look, time_s)))

    def clear(self, devices: Iterable[str]) -> None:
        """Let the broker forget the states of devices that were forgotten by an earlier process."""
        for device in devices:
            self._publish(device, b"")

    def _has_changed(self, look: Look, now_s: float) -> bool:
        told = self._told.get(look.device.id)
        if told is None or look.connection != told.connection:
            return True
        rate_bpm, judged = _difference(look.rate_bpm, told.rate_bpm), _difference(look.judged, told.judged)
        if rate_bpm >= LARGE_BPM or judged >= LARGE_SHARE:
            return True
        return (rate_bpm >= SMALL_BPM or judged >= SMALL_SHARE) and now_s - told.at_s >= SMALL_S

    def _describe(self, look: Look, time_s: float) -> wire.DeviceState:
        known = look.device
        decided = self._decisions.of(known.id)
        active = sorted(known.active.values(), key=lambda one: (SEVERITIES.index(one.severity), one.since_s))
        alerts = []
        for one in active:
            seen = decided.acknowledged.get(one.episode)
            alerts.append(
                one if seen is None else msgspec.structs.replace(one, acknowledged_by=seen.by, acknowledged_s=seen.at_s)
            )
        return wire.DeviceState(
            device=known.id,
            name=decided.name,
            connection=look.connection,
            heart_rate_bpm=None if math.isnan(look.rate_bpm) else round(look.rate_bpm, 1),
            rhythm=self._name_rhythm(look),
            judged=None if math.isnan(look.judged) else round(look.judged, 3),
            alerts=alerts,
            silenced=[one for one in decided.silences if one.until_s > time_s],
            limits=decided.limits,
            time_s=round(time_s, 3),
        )

    def _name_rhythm(self, look: Look) -> str | None:
        """In words; that it is a sinus rhythm is not known, since P waves are not looked for."""
        for kind, words in RHYTHMS.items():
            if kind in look.device.active:
                return words
        if math.isnan(look.rate_bpm):
            return None
        is_irregular = self._engine.is_irregular(look.device.id)
        return None if is_irregular is None else ("irregular" if is_irregular else "regular")

    def _clear_others(self, known: set[str]) -> None:
        self._clear(self._told.keys() - known)

    def _clear(self, gone: set[str]) -> None:
        for device in gone & self._told.keys():
            del self._told[device]
            self._publish(device, b"")

    def _publish(self, device: str, payload: bytes) -> None:
        self._source.publish(self._topics.of(device, "state"), payload, qos=0, retain=True)


def _difference(value: float, other: float) -> float:
    """By how much a value differs; infinite where only one of them is known."""
    if math.isnan(value) or math.isnan(other):
        return 0.0 if math.isnan(value) and math.isnan(other) else math.inf
    return abs(value - other)
