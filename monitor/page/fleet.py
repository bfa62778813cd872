"""What a page knows of all devices and alerts, from the messages on the wire. No I/O, no clock.

Rules
-----
* A row is what one line of the fleet shows; an episode is an alert with its whole life. Whatever changes gets a higher
  `version`, so that each browser is sent what changed since it was last sent something.
* A monitor of an older version publishes no `DeviceState`: rows are then made of beats, alerts and the device's status.
* An alert that is not among those of its device's state any more is over, even if its end was not heard.
* Who answers an alert that is not known here, answers an old one: it counts as over until it is heard of otherwise.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

from monitor import wire
from monitor.device_clock import DeviceClock

MOST_DEVICES = 20_000
MOST_EPISODES = 5_000
"""Alerts that are remembered; the oldest of those that are over go first, and none that is active."""
MOST_ACTIVE = 2 * MOST_DEVICES
"""Beyond so many the oldest active ones go, too."""
SILENT_S = 10.0
"""From then on a device without a `DeviceState` counts as silent."""
HEARD_S = 5.0
"""For so long the state of a device need not list an alert that was just heard."""
_RANKS: dict[str, int] = {"high": 3, "medium": 2, "low": 1, "technical": 0}
_ANSWERS = ("acknowledged", "silenced", "commented")
AWAY: tuple[wire.Connection, ...] = ("silent", "offline")
"""Nothing comes of such a device."""
NOT_HEARD = "end-not-heard"
"""Why an alert is over of which only an answer was heard."""


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """A step of an alert's life."""

    state: wire.AlertState
    time_s: float
    by: str | None = None
    text: str | None = None
    right: bool | None = None


class Episode(msgspec.Struct, omit_defaults=True):
    """An alert, from its begin to its end and beyond."""

    episode: str
    device: str
    kind: str
    severity: str
    since_s: float
    time_s: float
    """Of the last message."""
    text: str = ""
    ended_s: float | None = None
    reason: str | None = None
    """Why it ended, if not by what was observed."""
    beats: int = 0
    label: str | None = None
    probability: float | None = None
    heart_rate_bpm: float | None = None
    model: str | None = None
    acknowledged_by: str | None = None
    acknowledged_s: float | None = None
    silenced: bool = False
    right: bool | None = None
    has_strip: bool = False
    steps: list[Step] = []
    heard_s: float = 0.0
    """When it was last heard of, on the page's clock."""
    version: int = 0

    @property
    def is_active(self) -> bool:
        """Whether it is not over."""
        return self.ended_s is None


class Row(msgspec.Struct, omit_defaults=True):
    """A device, as the fleet shows it."""

    id: str
    name: str | None = None
    connection: wire.Connection = "streaming"
    heart_rate_bpm: float | None = None
    rhythm: str | None = None
    judged: float | None = None
    alerts: list[str] = []
    """Episodes that are active, the gravest first."""
    silenced: list[wire.Silence] = []
    limits: dict[str, dict[str, float]] = {}
    seen_s: float = 0.0
    """When it was last heard, on the page's clock; 0 if that is not known."""
    ahead_s: float = 0.0
    """Its clock minus the page's, by the latest that came of it; 0 if they are in step."""
    monitor: str | None = None
    """Who watches it, if that is known."""
    has_state: bool = False
    """Whether the monitor publishes its state."""
    version: int = 0


_T = TypeVar("_T", Row, Episode)


class Fleet:
    """All devices, and all alerts that are active or recent."""

    def __init__(self) -> None:
        self.version = 0
        self.ahead_s = 0.0
        """The monitor's clock minus the page's."""
        self.rows: OrderedDict[str, Row] = OrderedDict()
        """By device; what changed last stands last."""
        self.episodes: OrderedDict[str, Episode] = OrderedDict()
        self.gone: OrderedDict[str, int] = OrderedDict()
        """Devices that were forgotten, and in which version."""
        self.monitors: dict[str, wire.MonitorStatus] = {}
        self._clocks: dict[str, DeviceClock] = {}
        self._strips: dict[str, dict[str, wire.Strip | wire.Waveform]] = {}
        self._of_device: defaultdict[str, dict[str, Episode]] = defaultdict(dict)
        self._over: OrderedDict[str, None] = OrderedDict()
        """Episodes that are over; what changed last stands last."""
        self._ids: OrderedDict[str, None] = OrderedDict()

    def take_state(self, state: wire.DeviceState, now_s: float, is_retained: bool = False) -> None:
        """Take a device's state; one that the broker had retained says nothing of now."""
        row = self._row(state.device)
        if row is None:
            return
        row.has_state = True
        row.name, row.connection, row.rhythm, row.judged = state.name, state.connection, state.rhythm, state.judged
        row.heart_rate_bpm, row.limits = state.heart_rate_bpm, state.limits
        row.silenced = [msgspec.structs.replace(one, until_s=one.until_s - self.ahead_s) for one in state.silenced]
        row.monitor = state.monitor
        row.seen_s = self._heard_s(state, row, now_s, is_retained)
        for active in state.alerts:
            self._take_active(state.device, active, now_s)
        listed = {active.episode for active in state.alerts}
        for episode in list(self._of_device.get(state.device, {}).values()):
            if episode.is_active and episode.episode not in listed and episode.heard_s + HEARD_S < now_s:
                self._end(episode, state.time_s - self.ahead_s + row.ahead_s, None)
        self._touch(row)

    def _heard_s(self, state: wire.DeviceState, row: Row, now_s: float, is_retained: bool) -> float:
        """When a device was last heard, on the page's clock: that something is said of it is not that."""
        if state.heard_s is not None:
            return min(now_s, max(row.seen_s, state.heard_s - self.ahead_s))
        if is_retained or state.connection in AWAY:
            return row.seen_s
        return now_s

    def set_clock(self, ahead_s: float) -> None:
        """Note the monitor's clock minus the page's, also for what was told before that was known."""
        by_s, self.ahead_s = self.ahead_s - ahead_s, ahead_s
        if by_s:
            for row in [row for row in self.rows.values() if row.has_state and row.connection in AWAY and row.seen_s]:
                row.seen_s += by_s
                self._touch(row)

    def note_clock(self, device: str, shown_s: float, now_s: float) -> None:
        """Note what a device's clock showed when something came of it that is of now."""
        row = self.rows.get(device)
        if row is None:
            return
        clock = self._clocks.setdefault(device, DeviceClock())
        if clock.note(shown_s, now_s):
            row.ahead_s = clock.ahead_s
            self._touch(row)

    def forget(self, device: str) -> None:
        """Drop a device whose state was cleared; its alerts stay."""
        self._clocks.pop(device, None)
        if self.rows.pop(device, None) is not None:
            self.version += 1
            self.gone[device] = self.version
            if len(self.gone) > MOST_DEVICES:
                self.gone.popitem(last=False)

    def erase(self, device: str) -> None:
        """Drop a device that a person had forgotten, with its alerts."""
        for episode in list(self._of_device.get(device, {})):
            self._drop(episode)
        self._ids = OrderedDict((one, None) for one in self._ids if not one.startswith(f"{device}-"))
        self.forget(device)

    def take_alert(self, alert: wire.Alert, now_s: float) -> None:
        """Take a step of an alert's life; one that came before changes nothing."""
        if alert.id in self._ids:
            return
        self._ids[alert.id] = None
        if len(self._ids) > 4 * MOST_EPISODES:
            self._ids.popitem(last=False)
        is_answer = alert.state in _ANSWERS
        episode = self._episode(alert, alert.time_s if is_answer else None)
        episode.heard_s = now_s
        if is_answer:
            self._take_answer(episode, alert)
        else:
            self._take_message(episode, alert)
        self._note_strip(episode, alert)
        self._touch_episode(episode)
        row = self.rows.get(alert.device) if is_answer else self._row(alert.device)
        if row is not None:
            self._touch(row)

    def take_beat(self, beat: wire.Beat, judged: float | None, now_s: float) -> None:
        """Take a beat: it says how a device is whose state nobody publishes."""
        row = self._row(beat.device)
        if row is None or row.has_state:
            return
        row.seen_s, row.connection, row.judged = now_s, "streaming", judged
        row.heart_rate_bpm = beat.heart_rate_bpm
        self._touch(row)

    def take_status(self, device: str, status: wire.DeviceStatus) -> None:
        """Take what a device, or its last will, says of its connection."""
        row = self._row(device)
        if row is not None and not row.has_state:
            row.connection = "offline" if status.state == "offline" else "streaming"
            self._touch(row)

    def see(self, device: str, now_s: float) -> Row | None:
        """Note that something came of a device; None if there are too many."""
        row = self._row(device)
        if row is None:
            return None
        row.seen_s = now_s
        if not row.has_state and row.connection == "silent":
            row.connection = "streaming"
            self._touch(row)
        return row

    def tick(self, now_s: float) -> None:
        """Note which devices without a state are silent by now."""
        for row in list(self.rows.values()):
            if not row.has_state and row.connection == "streaming" and row.seen_s < now_s - SILENT_S:
                row.connection, row.heart_rate_bpm = "silent", None
                self._touch(row)

    def rows_since(self, version: int) -> list[Row]:
        """Return the rows that have changed since a version."""
        return list(_since(self.rows, version))

    def episodes_since(self, version: int) -> list[Episode]:
        """Return the alerts that have changed since a version."""
        return list(_since(self.episodes, version))

    def gone_since(self, version: int) -> list[str]:
        """Return the devices that were forgotten since a version."""
        return [device for device, when in self.gone.items() if when > version and device not in self.rows]

    def strips(self, episode: str) -> dict[str, wire.Strip | wire.Waveform]:
        """Return the signal around an alert: "new", "end", "beat", as far as it is known."""
        return self._strips.get(episode, {})

    def _row(self, device: str) -> Row | None:
        row = self.rows.get(device)
        if row is None and len(self.rows) < MOST_DEVICES:
            row = self.rows[device] = Row(device)
            self.gone.pop(device, None)
            self._touch(row)
        return row

    def _touch(self, row: Row) -> None:
        active = [one for one in self._of_device.get(row.id, {}).values() if one.is_active]
        row.alerts = [one.episode for one in sorted(active, key=_urgency)]
        self.version += 1
        row.version = self.version
        self.rows.move_to_end(row.id)

    def _touch_episode(self, episode: Episode) -> None:
        self.version += 1
        episode.version = self.version
        self.episodes.move_to_end(episode.episode)
        if not episode.is_active:
            self._over[episode.episode] = None
            self._over.move_to_end(episode.episode)

    def _episode(self, alert: wire.Alert, ended_s: float | None) -> Episode:
        known = self.episodes.get(alert.episode)
        if known is not None:
            return known
        episode = Episode(
            alert.episode, alert.device, alert.kind, alert.severity, alert.since_s, alert.time_s, alert.text
        )
        episode.ended_s, episode.reason = ended_s, None if ended_s is None else NOT_HEARD
        return self._add(episode)

    def _revive(self, episode: Episode) -> None:
        """An alert whose end was only assumed is heard of as active."""
        if episode.reason == NOT_HEARD:
            episode.ended_s = episode.reason = None
            self._over.pop(episode.episode, None)
            self._touch_episode(episode)

    def _add(self, episode: Episode) -> Episode:
        while len(self.episodes) >= MOST_EPISODES and self._over:
            self._drop(next(iter(self._over)))
        if len(self.episodes) >= MOST_ACTIVE:
            self._drop(next(iter(self.episodes)))
        episode.steps = []
        self.episodes[episode.episode] = self._of_device[episode.device][episode.episode] = episode
        return episode

    def _drop(self, id_: str) -> None:
        self._over.pop(id_, None)
        self._strips.pop(id_, None)
        episode = self.episodes.pop(id_, None)
        if episode is not None:
            of_device = self._of_device[episode.device]
            of_device.pop(id_, None)
            if not of_device:
                del self._of_device[episode.device]

    def _take_active(self, device: str, active: wire.ActiveAlert, now_s: float) -> None:
        episode = self.episodes.get(active.episode)
        if episode is None:
            episode = self._add(
                Episode(
                    active.episode, device, active.kind, active.severity, active.since_s, active.since_s, active.text
                )
            )
        episode.heard_s = now_s
        self._revive(episode)
        if episode.version == 0 or episode.acknowledged_by != active.acknowledged_by:
            episode.acknowledged_by, episode.acknowledged_s = active.acknowledged_by, active.acknowledged_s
            self._touch_episode(episode)

    def _take_message(self, episode: Episode, alert: wire.Alert) -> None:
        episode.severity, episode.time_s = alert.severity, alert.time_s
        episode.text = alert.text or episode.text
        episode.beats, episode.silenced = alert.beats, alert.silenced
        if alert.state != "end" or not episode.steps:  # the beat that ended it is not one of those that it was about
            episode.label, episode.probability, episode.model = alert.label, alert.probability, alert.model
            episode.heart_rate_bpm = alert.heart_rate_bpm
        if alert.state != "end":
            self._revive(episode)
        if alert.state == "end":
            self._end(episode, alert.time_s, alert.reason if isinstance(alert.reason, str) else None)
        elif alert.state == "new":
            episode.steps.append(Step("new", alert.time_s, text=alert.text or None))

    def _take_answer(self, episode: Episode, alert: wire.Alert) -> None:
        episode.steps.append(Step(alert.state, alert.time_s, alert.by, alert.comment, alert.right))
        if alert.state == "acknowledged":
            episode.acknowledged_by, episode.acknowledged_s = alert.by, alert.time_s
        if alert.state == "silenced":
            episode.silenced = True
        if alert.right is not None:
            episode.right = alert.right

    def _end(self, episode: Episode, time_s: float, reason: str | None) -> None:
        episode.ended_s, episode.reason = time_s, reason
        episode.steps.append(Step("end", time_s, text=reason))
        self._touch_episode(episode)

    def _note_strip(self, episode: Episode, alert: wire.Alert) -> None:
        strips = self._strips.setdefault(episode.episode, {})
        if alert.strip is not None:
            strips.setdefault("end" if alert.state == "end" else "new", alert.strip)
        if alert.waveform is not None:
            strips.setdefault("beat", alert.waveform)
        episode.has_strip = bool(strips)


def _since(kept: OrderedDict[str, _T], version: int) -> Iterator[_T]:
    for one in reversed(kept.values()):
        if one.version <= version:
            return
        yield one


def _urgency(episode: Episode) -> tuple[int, float]:
    return -_RANKS.get(episode.severity, 0), episode.since_s


def as_detail(fleet: Fleet, episode: str) -> dict[str, Any] | None:
    """Return an alert with its strips; None if it is not known."""
    known = fleet.episodes.get(episode)
    return None if known is None else {"alert": known, "strips": fleet.strips(episode)}
