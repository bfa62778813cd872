"""The processes into which faults are injected, and the clients that send and listen."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import psutil

from monitor import wire
from monitor.alerts.finding import GONE
from monitor.broker import connection
from monitor.broker.connection import BrokerUrl
from tests.brokers import Broker, Kind
from tests.monitor.service.outage import OF_PRESENCE
from tests.soak.fleet import Fleet

TOPICS = wire.Topics()
NAME = "soak"
START_S = 60.0
"""Timeout for the start of a process."""


class Monitor:
    """A `python -m monitor run` process that can be killed and restarted.

    Parameters
    ----------
    url
        The broker.
    folder
        Folder of its state and its log.
    beats
        Whether it publishes each beat.
    options
        More command line options.
    """

    def __init__(self, url: BrokerUrl, folder: Path, beats: bool = True, options: Sequence[str] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.state, self.log = folder / "state", folder / "monitor.log"
        self._url = url
        self._options = [*(["--beats"] if beats else []), *options]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, max_bytes: int = resource.RLIM_INFINITY) -> None:
        """Start it, with a limit on the size of the files that it writes."""
        command = [sys.executable, "-m", "monitor", "run", "--broker", str(self._url), "--provider", "cpu"]
        command += ["--alert", "1/2", "--name", NAME, "--state", str(self.state), *self._options]
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(command, stderr=log)
        self.limit_files(max_bytes)

    def limit_files(self, max_bytes: int = resource.RLIM_INFINITY) -> None:
        """Limit the size of the files that it writes from now on: for the process, the disk is full."""
        assert self._process is not None
        hard = resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (max_bytes, hard))

    def freeze(self, seconds: float) -> None:
        """Suspend it for a while; its connections stay open."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it with a signal."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(30)
            self._process = None

    @property
    def is_alive(self) -> bool:
        """Whether it is running."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def rss_mb(self) -> float:
        """Its resident memory, in MB."""
        return rss_mb(self.pid)


def rss_mb(pid: int) -> float:
    """Resident memory of a process, in MB."""
    return float(psutil.Process(pid).memory_info().rss / 1e6)


class Listener:
    """Subscribes to all that monitors publish, in a persistent session."""

    def __init__(self, url: BrokerUrl) -> None:
        self.beats: dict[str, bytes] = {}
        self.alerts: dict[str, bytes] = {}
        self.acks: dict[str, int] = {}
        self.statuses: list[dict[str, Any]] = []
        self.repeated = self.different = 0
        """Messages whose id had arrived before; those of them with different content."""
        self.last_message_s = time.monotonic()
        self._client = connection.make_client(url, "soak-listener", clean_session=False)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_message = self._on_message
        subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: subscribed.set()
        topics = [*(TOPICS.of("+", leaf) for leaf in ("beats", "alerts", "ack")), TOPICS.monitor_status(NAME)]
        self._client.on_connect = lambda client, *_: client.subscribe([(topic, 1) for topic in topics])
        connection.connect(self._client, url)
        self._client.loop_start()
        assert subscribed.wait(10)

    def _on_message(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        self.last_message_s = time.monotonic()
        payload, (device, _, leaf) = bytes(message.payload), message.topic[len(TOPICS.prefix) + 1 :].partition("/")
        if device == "monitor":
            self.statuses.append(json.loads(payload))
        else:
            self.handle(device, leaf, payload)

    def handle(self, device: str, leaf: str, payload: bytes) -> None:
        """Record a message of a monitor about a device."""
        if leaf == "ack":
            self.acks[device] = max(json.loads(payload)["seq"], self.acks.get(device, 0))
        else:
            known, message = self.beats if leaf == "beats" else self.alerts, json.loads(payload)
            if leaf == "alerts" and (message["kind"] == OF_PRESENCE or message.get("reason") == GONE):
                return
            before = known.setdefault(message["id"], payload)
            if before is not payload:
                self.repeated += 1
                self.different += before != payload

    @property
    def is_online(self) -> bool:
        """Whether the last status of the monitor is not "offline"."""
        return bool(self.statuses) and self.statuses[-1]["state"] != "offline"

    @property
    def counts(self) -> dict[str, int]:
        """Counts of the monitor's last status."""
        return dict(self.statuses[-1]["counts"])

    def total(self, name: str) -> int:
        """Sum of a count over all monitor processes, from the last status of each."""
        last: dict[float, int] = {}
        for status in self.statuses:  # a broker that was killed may deliver old ones again
            last[status["since_s"]] = max(status["counts"].get(name, 0), last.get(status["since_s"], 0))
        return sum(last.values())

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()


class Devices:
    """Send a fleet's packets with QoS 1, and resend them until the broker has confirmed them."""

    def __init__(self, url: BrokerUrl, fleet: Fleet, seed: int = 0) -> None:
        self._fleet = fleet
        self._rng = random.Random(seed)
        self.sent = self.confirmed = 0
        self._client = connection.make_client(url, "soak-devices", clean_session=False)
        self._client.max_queued_messages_set(0)
        self._client.max_inflight_messages_set(1000)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_publish = self._on_publish
        connection.connect(self._client, url)
        self._client.loop_start()

    def _on_publish(self, *_: Any) -> None:
        self.confirmed += 1

    def play(self, seconds: float, first: int = 0, last: int | None = None, disorder: float = 0.0) -> None:
        """Send rounds of packets, one of each device, spread evenly over a time.

        Parameters
        ----------
        seconds
            Duration; 0 is as fast as possible.
        first, last
            Rounds to send: all if not given.
        disorder
            Fraction of the packets that are sent twice, and of those that are sent up to three packets late.
        """
        fleet = self._fleet
        last = fleet.rounds if last is None else last
        began, total = time.monotonic(), (last - first) * len(fleet.ids)
        orders = [self._order(first, last, disorder) for _ in fleet.ids]
        done = 0
        for turn in range(max(map(len, orders))):
            for device, order in enumerate(orders):
                if turn < len(order):
                    self._send(device, order[turn])
                    done += 1
                    early_s = seconds * min(1.0, done / total) - (time.monotonic() - began)
                    if early_s > 0.002:
                        time.sleep(early_s)

    def _order(self, first: int, last: int, disorder: float) -> list[int]:
        """Return the order of a device's packets."""
        rng, rounds = self._rng, range(first, last)
        late = {seq for seq in rounds if rng.random() < disorder}
        positions = [(seq + (rng.randint(1, 3) + 0.5 if seq in late else 0), seq) for seq in rounds]
        positions += [(seq + rng.uniform(0.1, 4), seq) for seq in rounds if rng.random() < disorder]
        return [seq for _, seq in sorted(positions)]

    def _send(self, device: int, seq: int) -> None:
        topic = TOPICS.of(self._fleet.ids[device], "samples")
        self._client.publish(topic, self._fleet.payload(device, seq), qos=1)
        self.sent += 1

    def finish(self, seconds: float = 60.0) -> None:
        """Wait until the broker has confirmed all, and disconnect."""
        wait(lambda: self.confirmed >= self.sent, seconds, "the broker did not confirm all packets")
        self._client.disconnect()
        self._client.loop_stop()


@contextmanager
def fleet_on_broker(folder: Path, fleet: Fleet, kind: Kind = "mosquitto") -> Iterator[tuple[Broker, Listener, Devices]]:
    """Run a broker with a listener and devices that have not started to send."""
    broker = Broker(kind, folder / "broker")
    try:
        listener = Listener(broker.url)
        try:
            yield broker, listener, Devices(broker.url, fleet)
        finally:
            listener.close()
    finally:
        broker.end()


@contextmanager
def stopping(monitor: Monitor) -> Iterator[Monitor]:
    """End a monitor process on exit, whatever happens."""
    try:
        yield monitor
    finally:
        monitor.end()


def wait(condition: Callable[[], object], seconds: float, failure: str) -> None:
    """Wait until a condition holds.

    Raises
    ------
    TimeoutError
        The time is over.
    """
    until_s = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until_s:
            raise TimeoutError(f"After {seconds:g} s: {failure}.")
        time.sleep(0.02)
