"""Thousands of devices that keep what they sent until the monitor has acknowledged it, and who hears them all.

Both are cheap: packets are laid end to end for one plain connection, and of an alert only that it came is kept.
"""

from __future__ import annotations

import json
import threading
import time

import numpy as np

from monitor.broker.connection import BrokerUrl
from simulator.publisher import Link, publish_frame
from tests.soak.fleet import NOBODY, Fleet
from tests.soak.harness import TOPICS, Listener

TICK_S = 0.01
AT_ONCE = 500
"""Packets that are handed over together at most."""
SHOWN = 5
"""So many alerts that should not have come are kept."""


class Tally(Listener):
    """Hears a large fleet.

    Parameters
    ----------
    url
        The broker.
    fleet
        What is to be heard.
    """

    def __init__(self, url: BrokerUrl, fleet: Fleet) -> None:
        self._fleet = fleet
        self._numbers = {id_: number for number, id_ in enumerate(fleet.ids)}
        self._places = [{id_: place for place, id_ in enumerate(alerts)} for alerts in fleet.stream_alerts]
        self._came = np.zeros((max(map(len, fleet.stream_alerts)), len(fleet.ids)), bool)
        self._acked = np.zeros(len(fleet.ids), np.int64)
        self.wrong = 0
        """Alerts that are not so."""
        self.shown: list[bytes] = []
        """The first of them."""
        super().__init__(url)

    def hear(self, device: str, leaf: str, payload: bytes) -> None:
        """Note an acknowledgement or an alert; other devices than the fleet's are nothing to us."""
        if (number := self._numbers.get(device)) is None:
            return
        if leaf == "ack":
            self._acked[number] = max(self._acked[number], json.loads(payload)["seq"])
        else:
            self._check(number, payload.replace(device.encode(), NOBODY.encode()))

    def _check(self, number: int, payload: bytes) -> None:
        stream = number % self._fleet.streams
        id_ = json.loads(payload)["id"]
        if self._fleet.stream_alerts[stream].get(id_) != payload:
            self.wrong += 1
            self.shown += [payload][: SHOWN - len(self.shown)]
            return
        place = self._places[stream][id_]
        self.repeated += int(self._came[place, number])
        self._came[place, number] = True

    @property
    def safe(self) -> int:
        """So many packets of the fleet, in the order they are sent, are settled without exception."""
        devices = len(self._fleet.ids)
        return int((self._acked * devices + np.arange(devices)).min())

    @property
    def settled(self) -> int:
        """Packets that are settled."""
        return int(self._acked.sum())

    @property
    def alerts_heard(self) -> int:
        """Alerts that came, each counted once."""
        return int(self._came.sum())

    @property
    def alerts_due(self) -> int:
        """Alerts that must come in the end."""
        return sum(len(self._fleet.stream_alerts[n % self._fleet.streams]) for n in range(len(self._fleet.ids)))


class Crowd(threading.Thread):
    """Sends a fleet's packets, evenly and in turn, and after each lost connection again what is not settled.

    Parameters
    ----------
    url
        The broker.
    fleet
        Who sends.
    heard
        Who knows what is settled.
    """

    def __init__(self, url: BrokerUrl, fleet: Fleet, heard: Tally) -> None:
        super().__init__(daemon=True)
        self._url, self._fleet, self._heard = url, fleet, heard
        self._stopped = threading.Event()
        self.sent = self.again = self.connections = 0
        self.most_late_s = 0.0

    def run(self) -> None:
        """Send all there is."""
        began_s = time.monotonic()
        while not self._stopped.is_set() and self._heard.safe < self._fleet.packets:
            try:
                link = Link(self._url, f"soak-crowd-{self.connections}")
            except ConnectionError:
                time.sleep(0.5)
                continue
            self.connections += 1
            self._go_back()
            try:
                self._send(link, began_s)
            except ConnectionError:
                continue
            finally:
                link.close()

    def stop(self) -> None:
        """Send no more."""
        self._stopped.set()
        self.join()

    def _go_back(self) -> None:
        safe = min(self._heard.safe, self.sent)
        self.again += self.sent - safe
        self.sent = safe

    def _send(self, link: Link, began_s: float) -> None:
        fleet, devices = self._fleet, len(self._fleet.ids)
        while not self._stopped.is_set() and self._heard.safe < fleet.packets:
            now_s = time.monotonic()
            link.turn(now_s)
            due = min(int((now_s - began_s) * devices / fleet.packet_s), fleet.packets)
            count = min(due - self.sent, link.room, AT_ONCE)
            if count > 0:
                self.most_late_s = max(self.most_late_s, now_s - began_s - self.sent * fleet.packet_s / devices)
                link.send(self._frames(link, count), count)
            if count < AT_ONCE:
                time.sleep(TICK_S)

    def _frames(self, link: Link, count: int) -> memoryview:
        frames = []
        for packet, id_ in zip(range(self.sent, self.sent + count), link.next_ids(count), strict=True):
            seq, device = divmod(packet, len(self._fleet.ids))
            topic = TOPICS.of(self._fleet.ids[device], "samples")
            frames.append(publish_frame(topic, self._fleet.payload(device, seq), int(id_)))
        self.sent += count
        return memoryview(b"".join(frames))
