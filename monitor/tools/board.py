"""What a person at a terminal watches: the fleet as the monitors tell of it, what is alerted, and one device's signal.

Made from messages of the wire alone; knows nothing of terminals or connections.
"""

from __future__ import annotations

import re
from collections import deque
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from monitor import wire
from monitor.broker.source import Message
from monitor.device_clock import DeviceClock, tells_time
from monitor.summary import Monitors
from monitor.tools.watch import format_alert
from monitor.watching import Watch, WatchNews

RANKS: dict[str, int] = {"high": 3, "medium": 2, "low": 1, "technical": 0}
TROUBLES: dict[str, int] = {"lead-off": 13, "silent": 12, "offline": 11}
"""How much a device needs a person that sends nothing; what is alerted and answered needs less."""
UNANSWERED = 20
"""From here on a device has an alert that nobody has answered."""
STRIP_S = 6.0
"""How much of the live signal is kept."""
LIVE_S = 5.0
"""A live strip that has not grown for so long is none."""
RECENT = 50
"""Lines of alerts that are kept."""


class Trace(NamedTuple):
    """A stretch of signal to be shown."""

    samples: npt.NDArray[np.float64]
    """(n,) evenly spaced, NaN where there was none; in whatever unit."""
    seconds: float
    """How long it is."""
    is_live: bool
    """Whether it goes on; else it is the strip of an alert."""


class Board:
    """What is known of the fleet.

    Parameters
    ----------
    topics
        Of the wire.
    """

    def __init__(self, topics: wire.Topics) -> None:
        self._topics = topics
        self._status = topics.monitor_status("\n").split("\n")
        self.states: dict[str, wire.DeviceState] = {}
        """By device."""
        self.monitors: dict[str, wire.MonitorStatus] = {}
        """By name, each fleet as one."""
        self._monitors = Monitors()
        self._watch = Watch()
        self.doubtful: set[str] = set()
        """Monitors and fleets that ought to be asked whether they are still there."""
        self.has_retained = False
        """Whether the broker has handed out what it retains."""
        self.is_connected = True
        """Whether messages can come."""
        self.recent: deque[tuple[wire.Severity, str]] = deque(maxlen=RECENT)
        """Lines of the latest alerts, oldest first, each with its priority."""
        self._strips: dict[str, wire.Strip] = {}
        self._clocks: dict[str, DeviceClock] = {}
        self._live: deque[tuple[float, float, npt.NDArray[np.float64]]] = deque()
        self._live_device: str | None = None
        self._live_at_s = 0.0

    def take(self, message: Message, now_s: float, time_s: float) -> None:
        """Take a message; what cannot be read is left out.

        Parameters
        ----------
        message
            On one of the topics of `monitor.tools.watch.subscribe_all`, or samples of the device in focus.
        now_s
            On any clock that does not run back.
        time_s
            Seconds since 1970.
        """
        self.has_retained |= message.retained
        try:
            if message.topic.startswith(self._status[0]) and message.topic.endswith(self._status[1]):
                self._take_status(message, time_s)
                return
            device, leaf = self._topics.parse(message.topic)
            if leaf == "state":
                self._take_state(device, message.payload)
            elif leaf == "alerts":
                self._take_alert(device, message.payload, time_s)
            elif leaf == "samples" and device == self._live_device:
                self._take_packet(wire.decode_packet(message.payload), now_s)
        except wire.PacketError:
            return

    def _take_status(self, message: Message, time_s: float) -> None:
        name = message.topic[len(self._status[0]) : -len(self._status[1])]
        group = self._monitors.take(name, message.payload)
        self.monitors = self._monitors.shown()
        status = wire.decode(message.payload, wire.MonitorStatus) if message.payload else None
        if self._watch.take(name, status, message.retained, time_s):
            self.doubtful.add(group)

    def _take_state(self, device: str, payload: bytes) -> None:
        if payload:
            self.states[device] = wire.decode(payload, wire.DeviceState)
            return
        self.states.pop(device, None)
        self._strips.pop(device, None)
        self._clocks.pop(device, None)

    def began_s(self, device: str, alert: wire.ActiveAlert) -> float:
        """Return when an alert of a device began, by our clock as far as it is known how far ahead the device's is."""
        clock = self._clocks.get(device)
        return alert.since_s - (0.0 if clock is None else clock.ahead_s)

    def _take_alert(self, device: str, payload: bytes, time_s: float) -> None:
        alert = wire.decode(payload, wire.Alert)
        if alert.strip is not None:
            self._strips[device] = alert.strip
        if alert.state != "update":
            self.recent.append((alert.severity, format_alert(payload, as_json=False, heard_s=time_s)))
        if tells_time(alert):
            self._clocks.setdefault(device, DeviceClock()).note(alert.completed_s, time_s)

    def _take_packet(self, packet: wire.Packet, now_s: float) -> None:
        if self._live and abs(packet.start_s - self._live[-1][0]) > STRIP_S:
            self._live.clear()  # the device's clock was set
        samples = packet.samples.astype(np.float64)
        samples[packet.samples == wire.NO_SAMPLE] = np.nan
        self._live.append((packet.start_s, packet.rate_hz, samples))
        self._live_at_s = now_s
        end_s = packet.start_s + samples.size / packet.rate_hz
        while self._live[0][0] + self._live[0][2].size / self._live[0][1] < end_s - STRIP_S:
            self._live.popleft()

    def follow(self, device: str | None) -> None:
        """Take live signal of this device from now on."""
        if device != self._live_device:
            self._live.clear()
            self._live_device = device

    def trace(self, device: str, now_s: float) -> Trace | None:
        """Return what there is to see of a device's signal: live, if it comes, else the strip of its last alert."""
        if device == self._live_device and self._live and now_s - self._live_at_s < LIVE_S:
            return _join(self._live)
        strip = self._strips.get(device)
        if strip is None or not strip.samples:
            return None
        samples = np.array([np.nan if one is None else one for one in strip.samples], dtype=np.float64)
        return Trace(samples, samples.size / strip.rate_hz, is_live=False)

    def sorted(self) -> list[wire.DeviceState]:
        """Return how all devices are, what needs a person first."""
        return sorted(self.states.values(), key=lambda state: (-need(state), in_order(state.name or state.device)))

    def active(self) -> list[tuple[wire.DeviceState, wire.ActiveAlert]]:
        """Return what is alerted, the gravest first; of equals what nobody has answered, then the newest."""
        pairs = [(state, alert) for state in self.states.values() for alert in state.alerts]
        pairs.sort(key=lambda pair: (is_answered(*pair), -RANKS[pair[1].severity], -pair[1].since_s))
        return pairs

    def watch(self, time_s: float) -> WatchNews:
        """Return who is watched, at a time in seconds since 1970: without a monitor no alert means nothing."""
        return self._watch.judge(self.is_connected, time_s)


def need(state: wire.DeviceState) -> int:
    """How much a device needs a person, the higher the more, as on the page's fleet."""
    ranks = [(1 if is_answered(state, alert) else UNANSWERED) + RANKS[alert.severity] for alert in state.alerts]
    return max([TROUBLES.get(state.connection, 0), *ranks])


def in_order(name: str) -> str:
    """Return a name as it is sorted: Bed 2 stands before Bed 10."""
    return re.sub(r"[0-9]+", lambda digits: digits[0].zfill(12), name.lower())


def is_answered(state: wire.DeviceState, alert: wire.ActiveAlert) -> bool:
    """Whether somebody has acknowledged or silenced an alert."""
    return alert.acknowledged_by is not None or any(one.kind in (None, alert.kind) for one in state.silenced)


def _join(packets: deque[tuple[float, float, npt.NDArray[np.float64]]]) -> Trace:
    """Put packets where their times say, NaN between them."""
    start_s, rate_hz, _ = packets[0]
    end_s = max(begin_s + samples.size / rate for begin_s, rate, samples in packets)
    joined = np.full(max(1, round((end_s - start_s) * rate_hz)), np.nan)
    for begin_s, _, samples in packets:
        at = max(0, round((begin_s - start_s) * rate_hz))
        part = joined[at : at + samples.size]
        part[:] = samples[: part.size]
    most = round(STRIP_S * rate_hz)
    return Trace(joined[-most:], joined[-most:].size / rate_hz, is_live=True)
