"""Between the broker and the open pages: only what somebody sees is subscribed and passed on.

Rules
-----
* States, alerts, info, status and the monitors' statuses are heard of all devices; the signal only of those that a page
  shows, and for `LINGER_S` after.
* Beats are heard of all devices while there are few (`FEW`), so that trends are there before anybody looks; beyond
  that of the devices which are shown.
* What is not of the contract is counted and dropped.
* A device that only a page has named is no device: nothing is kept of it.

Knows no sockets and no clock: it is told what came and when.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from monitor import wire
from monitor.device_clock import tells_time
from monitor.page.fleet import MOST_DEVICES, Fleet
from monitor.page.signal import Signal
from monitor.page.trend import Trend
from monitor.page.viewer import Viewer
from monitor.summary import Monitors
from monitor.watching import Watch

log = logging.getLogger(__name__)

LINGER_S = 10.0
FEW = 500
"""Devices."""
MOST_GONE = 200
"""Devices that were forgotten and whose trends are kept, in case they come back."""


class Heard(NamedTuple):
    """A message from the broker."""

    topic: str
    payload: bytes
    retained: bool = False
    """Whether the broker had kept it."""


class Broker(Protocol):
    """As much of the broker's connection as is needed here."""

    def subscribe(self, topic: str, qos: int) -> None:
        """Hear a topic from now on, also after a new connection."""

    def unsubscribe(self, topic: str) -> None:
        """Hear it no more."""


class Hub:
    """Passes on what comes.

    Parameters
    ----------
    topics
        Of the wire.
    broker
        Where to subscribe.
    """

    def __init__(self, topics: wire.Topics, broker: Broker) -> None:
        self._topics, self._broker = topics, broker
        self.fleet = Fleet()
        self.trends: dict[str, Trend] = {}
        self.viewers: set[Viewer] = set()
        self.refused: Counter[str] = Counter()
        """What was not of the contract, by the last word of its topic; "fault": what we failed to take."""
        self.connected = self.has_retained = False
        """Whether the broker is there, and whether it has handed out what it retains."""
        self._monitors = Monitors()
        self._watch = Watch()
        self.watch_news = self._watch.judge(False, 0.0)
        """Whether anybody is watched."""
        self._doubtful: set[str] = set()
        self._signals: dict[str, Signal] = {}
        self._infos: OrderedDict[str, wire.Info] = OrderedDict()
        self._steps_uv: OrderedDict[str, float] = OrderedDict()  # of signals, by what device or monitor says
        self._gone: OrderedDict[str, None] = OrderedDict()
        self._leaving_s: dict[str, float] = {}
        self._hears_all_beats = True
        self._take = {
            "samples": self._take_samples,
            "beats": self._take_beat,
            "alerts": self._take_alert,
            "info": self._take_info,
            "status": self._take_status,
        }
        for leaf, qos in (("state", 1), ("alerts", 1), ("info", 1), ("status", 1), ("beats", 0)):
            broker.subscribe(topics.of("+", leaf), qos)
        broker.subscribe(topics.monitor_status("+"), 1)
        broker.subscribe(topics.forgotten("+"), 1)

    def take(self, messages: Iterable[Heard], now_s: float) -> None:
        """Take what came from the broker."""
        for topic, payload, is_retained in messages:
            self.has_retained |= is_retained
            leaf = topic.rpartition("/")[2]
            try:
                if (
                    topic.startswith(f"{self._topics.prefix}/monitor/")
                    and topic.count("/", len(self._topics.prefix)) > 2
                ):
                    self._take_monitor(topic, payload, now_s, is_retained)
                    continue
                device, leaf = self._topics.parse(topic)
                if leaf == "state":
                    self._take_state(device, payload, now_s, is_retained)
                elif (take := self._take.get(leaf)) is not None:
                    take(device, payload, now_s)
            except wire.PacketError:
                self.refused[leaf[:32]] += 1
            except Exception:  # a fault of ours with one message must not cost those of all others behind it
                self.refused["fault"] += 1
                log.exception("a message on %.200r could not be taken", topic)

    def take_doubtful(self) -> set[str]:
        """Return monitors and fleets of which it has come to be doubtful whether they are there; each once."""
        doubtful, self._doubtful = self._doubtful, set()
        return doubtful

    def set_connected(self, connected: bool, now_s: float) -> None:
        """Note whether the broker is there."""
        self.connected = connected
        self._judge_watch(now_s)
        self._tell_monitors()

    def join(self, viewer: Viewer) -> None:
        """A page was opened."""
        self.viewers.add(viewer)
        self._tell_monitor(viewer)

    def leave(self, viewer: Viewer, now_s: float) -> None:
        """A page was closed."""
        self.viewers.discard(viewer)
        for device in viewer.watched:
            self._note_leaving(device, now_s)

    def watch(self, viewer: Viewer, had_until: Mapping[str, float], now_s: float) -> None:
        """A page shows these devices now, and has their signal until those times.

        It gets the last beats again, and knows them by their time.
        """
        added, ended = viewer.watch(had_until)
        for device in ended:
            self._note_leaving(device, now_s)
        for device in added:
            self._leaving_s.pop(device, None)
            for beat in self.trends[device].recent if device in self.trends else ():
                viewer.add_beat(beat)
            signal = self._signals.get(device)
            if signal is None:
                self._signals[device] = self._new_signal(device)
                self._subscribe(device)
                continue
            for chunk in signal.since(had_until[device]):
                viewer.add_chunk(device, chunk, signal.step_uv)

    def tick(self, now_s: float) -> None:
        """Do what is due: to be called about once a second."""
        self.fleet.tick(now_s)
        before = self.watch_news
        self._judge_watch(now_s)
        if not before.is_like(self.watch_news):
            self._tell_monitors()
        for device, since_s in list(self._leaving_s.items()):
            if since_s + LINGER_S < now_s:
                del self._leaving_s[device], self._signals[device]
                self._unsubscribe(device)
        if self._hears_all_beats and len(self.fleet.rows) > FEW:
            self._hears_all_beats = False
            self._broker.unsubscribe(self._topics.of("+", "beats"))
            for device in self._signals:
                self._broker.subscribe(self._topics.of(device, "beats"), 0)

    def trend(self, device: str) -> Trend:
        """Return what is kept of the heart of a device that has a row."""
        self._gone.pop(device, None)
        return self.trends.setdefault(device, Trend())

    def info(self, device: str) -> wire.Info | None:
        """Return what a device says of itself, if it does."""
        return self._infos.get(device)

    def _note_leaving(self, device: str, now_s: float) -> None:
        if device in self._signals and not any(device in viewer.watched for viewer in self.viewers):
            self._leaving_s[device] = now_s

    def _subscribe(self, device: str) -> None:
        self._broker.subscribe(self._topics.of(device, "samples"), 0)
        if not self._hears_all_beats:
            self._broker.subscribe(self._topics.of(device, "beats"), 0)

    def _unsubscribe(self, device: str) -> None:
        self._broker.unsubscribe(self._topics.of(device, "samples"))
        if not self._hears_all_beats:
            self._broker.unsubscribe(self._topics.of(device, "beats"))

    def _new_signal(self, device: str) -> Signal:
        signal = Signal()
        signal.step_uv = self._steps_uv.get(device, 0.0)
        return signal

    def _take_samples(self, device: str, payload: bytes, now_s: float) -> None:
        signal = self._signals.get(device)
        if signal is None or self.fleet.see(device, now_s) is None:
            return
        chunk = signal.take(wire.decode_packet(payload))
        if chunk is not None:
            self.fleet.note_clock(device, chunk.end_s, now_s)
        if chunk is not None:
            for viewer in self.viewers:
                if device in viewer.watched:
                    viewer.add_chunk(device, chunk, signal.step_uv)

    def _take_beat(self, device: str, payload: bytes, now_s: float) -> None:
        beat = wire.decode(payload, wire.Beat)
        if beat.device != device:
            raise wire.PacketError(f"A beat must be of its topic's device: got {beat.device[:80]!r} on {device}.")
        row = self.fleet.see(device, now_s)
        if row is None:
            return
        self.fleet.note_clock(device, beat.completed_s, now_s)
        trend = self.trend(device)
        trend.note_beat(beat, now_s, row.ahead_s)
        self.fleet.take_beat(beat, trend.judged(), now_s)
        for viewer in self.viewers:
            if device in viewer.watched:
                viewer.add_beat(beat)

    def _take_alert(self, device: str, payload: bytes, now_s: float) -> None:
        alert = wire.decode(payload, wire.Alert)
        if alert.device != device:
            raise wire.PacketError(f"An alert must be of its topic's device: got {alert.device[:80]!r} on {device}.")
        self.fleet.take_alert(alert, now_s)
        if tells_time(alert):
            self.fleet.note_clock(device, alert.completed_s, now_s)
        for viewer in self.viewers:
            viewer.hear_alert()

    def _take_state(self, device: str, payload: bytes, now_s: float, is_retained: bool) -> None:
        if not payload:
            self._forget(device)
            return
        state = wire.decode(payload, wire.DeviceState)
        if state.device != device:
            raise wire.PacketError(f"A state must be of its topic's device: got {state.device[:80]!r} on {device}.")
        if state.resolution_uv is not None and device not in self._infos:
            self._note_step(device, state.resolution_uv)
        before = self.fleet.version
        self.fleet.take_state(state, now_s, is_retained)
        if state.heart_rate_bpm is not None and device in self.fleet.rows:
            self.trend(device).note_told(state.time_s - self.fleet.ahead_s, state.heart_rate_bpm, now_s)
        for viewer in self.viewers:
            if state.alerts and self.fleet.version > before + 1:
                viewer.hear_alert()

    def _take_info(self, device: str, payload: bytes, now_s: float) -> None:
        if not payload:
            return
        info = self._infos[device] = wire.decode(payload, wire.Info)
        self._infos.move_to_end(device)
        if len(self._infos) > MOST_DEVICES:
            self._infos.popitem(last=False)
        self._note_step(device, info.resolution_uv)
        if device not in self.fleet.rows:
            self.fleet.see(device, 0.0)

    def _note_step(self, device: str, step_uv: float) -> None:
        self._steps_uv[device] = step_uv
        self._steps_uv.move_to_end(device)
        if len(self._steps_uv) > MOST_DEVICES:
            self._steps_uv.popitem(last=False)
        if device in self._signals:
            self._signals[device].step_uv = step_uv

    def _take_status(self, device: str, payload: bytes, now_s: float) -> None:
        if payload:
            self.fleet.take_status(device, wire.decode(payload, wire.DeviceStatus))

    def _take_monitor(self, topic: str, payload: bytes, now_s: float, is_retained: bool) -> None:
        name, leaf = topic.split("/")[-2:]
        if leaf == "forgotten":
            self._erase(wire.decode(payload, wire.Forgotten).device)
        if leaf != "status":
            return
        group = self._monitors.take(name, payload)
        self.fleet.monitors = self._monitors.shown()
        status = wire.decode(payload, wire.MonitorStatus) if payload else None
        if self._watch.take(name, status, is_retained, now_s):
            self._doubtful.add(group)
        self.fleet.set_clock(self._watch.ahead_s)
        self._judge_watch(now_s)
        self._tell_monitors()

    def _erase(self, device: str) -> None:
        """Drop all that is known of a device, its alerts too."""
        self.fleet.erase(device)
        self._infos.pop(device, None)
        self._steps_uv.pop(device, None)
        self.trends.pop(device, None)
        self._gone.pop(device, None)
        if device in self._signals:
            self._signals[device] = self._new_signal(device)

    def _forget(self, device: str) -> None:
        self.fleet.forget(device)
        if device in self.trends:
            self._gone[device] = None
        if len(self._gone) > MOST_GONE:
            self.trends.pop(self._gone.popitem(last=False)[0], None)

    def _judge_watch(self, now_s: float) -> None:
        self.watch_news = self._watch.judge(self.connected, now_s)

    def _tell_monitors(self) -> None:
        for viewer in self.viewers:
            self._tell_monitor(viewer)

    def _tell_monitor(self, viewer: Viewer) -> None:
        viewer.tell_monitor(self.fleet.monitors, self.connected, self.watch_news)
