"""What one open page is to be sent: the latest of everything, however slow its connection is.

Rules
-----
* Rows and alerts are sent as they are when there is time to send them; a row that changed ten times goes once.
* Signal that waits is bounded to `MOST_WAITING_S` a device: the oldest is dropped, and counted.
* A page that comes back says until when it has each signal, and gets what is kept of the rest.

Knows no sockets; the caller gives the time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from monitor import wire
from monitor.page.fleet import Fleet
from monitor.page.signal import Chunk, encode_frame
from monitor.watching import WatchNews

MOST_WATCHED = 64
"""Devices whose signal one page may watch at a time."""
MOST_WAITING_S = 5.0
ROWS_S = 0.5
"""Rows are sent no more often than that."""
MOST_BEATS = 500
_encode = msgspec.json.Encoder().encode


class Viewer:
    """One open page.

    Parameters
    ----------
    wake
        Called when there is something to send at once.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self.watched: dict[str, int] = {}
        """Devices whose signal is wanted, and the numbers under which the page knows them."""
        self.dropped = 0
        """Chunks of signal that waited too long."""
        self._numbers = 0
        self._chunks: dict[str, deque[tuple[Chunk, float]]] = {}
        self._beats: deque[wire.Beat] = deque(maxlen=MOST_BEATS)
        self._sent_rows = self._sent_episodes = 0
        self._has_all = False  # whether the page has been told of the whole fleet
        self._rows_due_s = 0.0
        self._news: list[dict[str, Any]] = []

    def watch(self, devices: Iterable[str]) -> tuple[set[str], set[str]]:
        """Watch these devices and no others; return those that are new, and those that are watched no more."""
        wanted = list(dict.fromkeys(devices))[:MOST_WATCHED]
        added, ended = set(wanted) - self.watched.keys(), self.watched.keys() - set(wanted)
        for device in ended:
            self._chunks.pop(device, None)
            del self.watched[device]
        for device in wanted:
            if device in added:
                self.watched[device] = self._number()
        if added:
            self._tell({"numbers": {device: self.watched[device] for device in wanted}})
        return added, ended

    def add_chunk(self, device: str, chunk: Chunk, step_uv: float) -> None:
        """Take signal of a device that is watched."""
        waiting = self._chunks.setdefault(device, deque())
        waiting.append((chunk, step_uv))
        while len(waiting) > 1 and waiting[-1][0].end_s - waiting[0][0].start_s > MOST_WAITING_S:
            waiting.popleft()
            self.dropped += 1
        self._wake()

    def add_beat(self, beat: wire.Beat) -> None:
        """Take a beat of a device that is watched."""
        self._beats.append(beat)
        self._wake()

    def hear_alert(self) -> None:
        """Have alerts sent at once."""
        self._rows_due_s = 0.0
        self._wake()

    def tell_monitor(self, monitors: Mapping[str, wire.MonitorStatus], broker: bool, watch: WatchNews) -> None:
        """Take how the monitors are, whether the broker is there, and whether anybody is watched."""
        self._tell({"monitors": monitors, "broker": broker, "watch": watch})

    def take(self, fleet: Fleet, now_s: float) -> list[str | bytes]:
        """Return what is to be sent now, in order: text is JSON, bytes are frames of signal."""
        messages: list[str | bytes] = [_encode(one).decode() for one in self._news]
        self._news.clear()
        if now_s >= self._rows_due_s:
            messages.extend(self._take_fleet(fleet, now_s))
        if self._beats:
            messages.append(_encode({"beats": list(self._beats)}).decode())
            self._beats.clear()
        for device, waiting in self._chunks.items():
            messages.extend(encode_frame(self.watched[device], *one) for one in waiting)
            waiting.clear()
        return messages

    def _take_fleet(self, fleet: Fleet, now_s: float) -> list[str]:
        message: dict[str, Any] = {} if self._has_all else {"all": True}
        self._has_all = True
        if episodes := fleet.episodes_since(self._sent_episodes):
            message["alerts"] = episodes
        if rows := fleet.rows_since(self._sent_rows):
            message["rows"] = rows
        if gone := fleet.gone_since(self._sent_rows):
            message["gone"] = gone
        self._sent_rows = self._sent_episodes = fleet.version
        self._rows_due_s = now_s + ROWS_S
        return [_encode(message | {"now_s": now_s}).decode()] if message else []

    def _tell(self, news: dict[str, Any]) -> None:
        self._news.append(news)
        self._wake()

    def _number(self) -> int:
        """Return a number that is not in use, and has not been for long: what is on its way still has the old one."""
        in_use = set(self.watched.values())
        while True:
            self._numbers = (self._numbers + 1) % 65536
            if self._numbers not in in_use:
                return self._numbers
