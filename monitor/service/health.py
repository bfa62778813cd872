"""How the monitor is: what its loop notes turn by turn, and the status that is made of it.

Knows clocks and systemd; nothing of what is in a message.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from monitor import counters, wire
from monitor.alerts.episode import AlertSettings
from monitor.alerts.override import differing
from monitor.alerts.registry import make_detectors
from monitor.broker.source import Source
from monitor.engine import Engine
from monitor.panel import Panel
from monitor.service import systemd
from monitor.service.configured import Configured
from monitor.service.intake import Intake
from monitor.service.metrics import HealthBoard
from monitor.service.partitions import Partitions
from monitor.service.publisher import Publisher
from monitor.service.requests import Requests
from monitor.service.settings import ALIVE_S, NOTE_S, VERSION, ServiceSettings
from monitor.service.states import States
from monitor.state.checkpoint import Checkpoint
from monitor.state.store import StateStore

_USUAL = {detector.kind: detector for detector in make_detectors(AlertSettings())}
STALLED_S = 5.0
"""A turn of the loop that takes so long was none: the process, or the machine, was stopped."""
OVERLOADED_S = 5.0
"""Without a pause in what comes for so long, the monitor is behind."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a monitor consists of."""

    panel: Panel
    engine: Engine
    source: Source
    store: StateStore | None
    checkpoint: Checkpoint
    publisher: Publisher
    intake: Intake
    states: States
    requests: Requests
    configured: Configured
    partitions: Partitions | None = None
    """Where the fleet is dealt out to several processes."""


class Timer:
    """Something that is due every so often."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._due_s = 0.0

    def is_due(self, now_s: float) -> bool:
        """Whether it is due; if so, it is next due after the interval."""
        if now_s < self._due_s:
            return False
        self._due_s = now_s + self._every_s
        return True


class Attention:
    """Whether devices can be heard, and whether the loop keeps up; times are on the monotonic clock."""

    def __init__(self) -> None:
        now_s = time.monotonic()
        self.is_listening = False
        """Whether messages can come in."""
        self.away_s = 0.0
        """For how long, in all, no device could be heard."""
        self.paused_s = now_s
        """When there was last nothing left to read."""
        self.heard_s: float | None = None
        """When the last message of a device came."""
        self._turned_s = now_s

    def turn(self, now_s: float) -> None:
        """Note that the loop turns."""
        if not self.is_listening or now_s - self._turned_s > STALLED_S:
            self.away_s += now_s - self._turned_s
        self._turned_s = now_s

    def arrived_s(self, now_s: float) -> float:
        """Time on the clock of `Engine.feed`: that in which no device could be heard does not count."""
        return now_s - self.away_s

    def behind_s(self, now_s: float) -> float:
        """For how long the loop has been at it without a pause."""
        return now_s - self.paused_s if self.is_listening else 0.0

    def state(self, now_s: float) -> wire.MonitorState:
        """How the monitor is."""
        if not self.is_listening:
            return "offline"
        return "online" if self.behind_s(now_s) < OVERLOADED_S else "overloaded"


class Health:
    """Reports how the monitor is: to the broker, to metrics, to systemd, or to the process that started it.

    Parameters
    ----------
    settings
        How it runs.
    parts
        Of which it reports.
    board
        Shows it to those who ask for metrics.
    report
        Gets the status instead of the broker and of metrics; see `monitor.service.supervisor`.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        parts: Parts,
        board: HealthBoard,
        report: Callable[[wire.MonitorStatus], None] | None = None,
    ) -> None:
        self._board = board
        self.attention = Attention()
        self._settings = settings
        self._parts = parts
        self._report = report
        self._since_s = time.time()
        self._lateness_s: float | None = None  # as published last
        self._alive, self._note = Timer(ALIVE_S), Timer(NOTE_S)

    def turn(self, now_s: float) -> None:
        """Note that the loop turns, and show it to all that watch it."""
        attention = self.attention
        attention.turn(now_s)
        attention.is_listening = self._parts.source.listening
        self._board.turned_s, self._board.ready = now_s, attention.is_listening
        if self._alive.is_due(now_s):
            systemd.notify("WATCHDOG=1")
        if self._settings.metrics is not None and self._note.is_due(now_s):
            status = self.status(attention.state(now_s), now_s)
            self._board.note(status)
            if self._report is not None:
                self._report(status)

    def publish(self, now_s: float) -> None:
        """Publish the status."""
        self._publish(self.attention.state(now_s), now_s)

    def publish_offline(self) -> None:
        """Publish that the monitor leaves."""
        self._publish("offline", time.monotonic())

    def _publish(self, state: wire.MonitorState, now_s: float) -> None:
        self._lateness_s = self._parts.intake.take_lateness()
        status = self.status(state, now_s)
        if self._report is not None:
            self._report(status)
            return
        topic = wire.Topics(self._settings.prefix).monitor_status(self._settings.status_name)
        self._parts.source.publish(topic, wire.encode(status), qos=1, retain=True)

    def status(self, state: wire.MonitorState, now_s: float) -> wire.MonitorStatus:
        """Return the status."""
        parts, attention = self._parts, self.attention
        behind_s = round(attention.behind_s(now_s), 3)
        tally = parts.engine.tally(attention.arrived_s(now_s))
        faults = {} if parts.store is None else {counters.STORE_FAULTS: parts.store.faults}
        since_epoch_s = time.time() - now_s
        return wire.MonitorStatus(
            state=state,
            version=VERSION,
            **parts.panel.names(),
            since_s=self._since_s,
            time_s=round(time.time(), 3),
            limits=differing(parts.engine.detectors, _USUAL),
            counts=dict(parts.engine.counts) | faults,
            devices=parts.engine.devices,
            streaming=tally.streaming,
            lead_off=tally.lead_off,
            silent=tally.silent,
            unsettled=parts.checkpoint.uncommitted,
            unsaved_s=round(parts.checkpoint.waited_s(now_s), 3),
            heard_s=None if attention.heard_s is None else round(since_epoch_s + attention.heard_s, 3),
            lateness_s=self._lateness_s,
            behind_s=behind_s,
            overloaded_since_s=round(since_epoch_s + now_s - behind_s, 3) if state == "overloaded" else None,
            fault=None if parts.store is None else parts.store.fault or parts.store.delay,
            broker_fault=parts.source.fault,
            fleet=None if parts.partitions is None else self._settings.name,
            partitions=0 if parts.partitions is None else parts.partitions.owned,
        )
