"""Thousands of devices that keep packets until the monitor has acknowledged them, and a listener for them all.

Both are cheap: packets are sent back to back over one plain connection, and of an alert only its arrival is kept.
"""

from __future__ import annotations

import json
import threading
import time

import numpy as np

from monitor.broker.connection import BrokerUrl
from simulator.publisher import Link, publish_frame
from tests.soak.fleet import PLACEHOLDER, Fleet
from tests.soak.harness import TOPICS, Listener

TICK_S = 0.01
BATCH = 500
"""Maximum number of packets that are sent together."""
KEPT_WRONG = 5
"""Number of wrong alerts that are kept."""


class FleetListener(Listener):
    """Listener for a large fleet.

    Parameters
    ----------
    url
        The broker.
    fleet
        The fleet.
    """

    def __init__(self, url: BrokerUrl, fleet: Fleet) -> None:
        self._fleet = fleet
        self._numbers = {id_: number for number, id_ in enumerate(fleet.ids)}
        self._places = [{id_: position for position, id_ in enumerate(alerts)} for alerts in fleet.stream_alerts]
        self._arrived = np.zeros((max(map(len, fleet.stream_alerts)), len(fleet.ids)), bool)
        self._acked = np.zeros(len(fleet.ids), np.int64)
        self.wrong = 0
        """Alerts that differ from the expected ones."""
        self.wrong_alerts: list[bytes] = []
        """The first of them."""
        super().__init__(url)

    def handle(self, device: str, leaf: str, payload: bytes) -> None:
        """Record an acknowledgement or an alert; ignore devices that are not of the fleet."""
        if (number := self._numbers.get(device)) is None:
            return
        if leaf == "ack":
            self._acked[number] = max(self._acked[number], json.loads(payload)["seq"])
        else:
            self._check(number, payload.replace(device.encode(), PLACEHOLDER.encode()))

    def _check(self, number: int, payload: bytes) -> None:
        stream = number % self._fleet.streams
        id_ = json.loads(payload)["id"]
        if self._fleet.stream_alerts[stream].get(id_) != payload:
            self.wrong += 1
            self.wrong_alerts += [payload][: KEPT_WRONG - len(self.wrong_alerts)]
            return
        position = self._places[stream][id_]
        self.repeated += int(self._arrived[position, number])
        self._arrived[position, number] = True

    @property
    def safe(self) -> int:
        """Number of packets, in the order they are sent, up to the first that is not acknowledged."""
        devices = len(self._fleet.ids)
        return int((self._acked * devices + np.arange(devices)).min())

    @property
    def acknowledged(self) -> int:
        """Packets that are acknowledged."""
        return int(self._acked.sum())

    @property
    def alerts_received(self) -> int:
        """Alerts that arrived, each counted once."""
        return int(self._arrived.sum())

    @property
    def alerts_expected(self) -> int:
        """Alerts that must arrive in the end."""
        return sum(len(self._fleet.stream_alerts[n % self._fleet.streams]) for n in range(len(self._fleet.ids)))


class FleetSender(threading.Thread):
    """Sends a fleet's packets, evenly and round robin, and resends unacknowledged ones after a lost connection.

    Parameters
    ----------
    url
        The broker.
    fleet
        The devices.
    listener
        Listener that receives the acknowledgements.
    """

    def __init__(self, url: BrokerUrl, fleet: Fleet, listener: FleetListener) -> None:
        super().__init__(daemon=True)
        self._url, self._fleet, self._listener = url, fleet, listener
        self._stopped = threading.Event()
        self.sent = self.resent = self.connections = 0
        self.max_late_s = 0.0

    def run(self) -> None:
        """Send all packets."""
        began_s = time.monotonic()
        while not self._stopped.is_set() and self._listener.safe < self._fleet.packets:
            try:
                link = Link(self._url, f"soak-fleet-{self.connections}")
            except ConnectionError:
                time.sleep(0.5)
                continue
            self.connections += 1
            self._rewind()
            try:
                self._send(link, began_s)
            except ConnectionError:
                continue
            finally:
                link.close()

    def stop(self) -> None:
        """Stop sending."""
        self._stopped.set()
        self.join()

    def _rewind(self) -> None:
        safe = min(self._listener.safe, self.sent)
        self.resent += self.sent - safe
        self.sent = safe

    def _send(self, link: Link, began_s: float) -> None:
        fleet, devices = self._fleet, len(self._fleet.ids)
        while not self._stopped.is_set() and self._listener.safe < fleet.packets:
            now_s = time.monotonic()
            link.turn(now_s)
            due = min(int((now_s - began_s) * devices / fleet.packet_s), fleet.packets)
            count = min(due - self.sent, link.room, BATCH)
            if count > 0:
                self.max_late_s = max(self.max_late_s, now_s - began_s - self.sent * fleet.packet_s / devices)
                link.send(self._frames(link, count), count)
            if count < BATCH:
                time.sleep(TICK_S)

    def _frames(self, link: Link, count: int) -> memoryview:
        frames = []
        for packet, id_ in zip(range(self.sent, self.sent + count), link.next_ids(count), strict=True):
            seq, device = divmod(packet, len(self._fleet.ids))
            topic = TOPICS.of(self._fleet.ids[device], "samples")
            frames.append(publish_frame(topic, self._fleet.payload(device, seq), int(id_)))
        self.sent += count
        return memoryview(b"".join(frames))
