"""A subscriber that times what a monitor publishes: from the end of the packet that caused it to its arrival here.

Knows nothing of what plays the devices, or why.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import paho.mqtt.client as paho

from monitor import wire
from monitor.broker import connection
from monitor.tools.bench import harness
from monitor.tools.bench.report import Row

QUANTILES = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "max": 100.0}


class Subscriber:
    """Receives beats, alerts or samples of all devices, and the status of one monitor.

    Parameters
    ----------
    url, tls
        The broker.
    topics
        Names of the topics.
    monitor
        Name of the monitor.
    leaves
        What to receive of each device: "beats", "alerts", "samples".
    """

    def __init__(
        self,
        url: connection.BrokerUrl,
        tls: connection.TlsFiles,
        topics: wire.Topics,
        monitor: str,
        leaves: Sequence[str],
    ) -> None:
        self.beats: list[float] = []
        """Seconds from the end of a packet to the verdict on a beat; likewise `alerts`."""
        self.alerts: list[float] = []
        self.payloads: list[tuple[str, bytes]] = []
        """Devices and packets, until `unsubscribe_samples`."""
        self.status: wire.MonitorStatus | None = None
        """The last one of the monitor that is not retained."""
        self._from_s, self._to_s = float("inf"), float("inf")
        self._topics, self._monitor, self._leaves = topics, monitor, leaves
        self._connected = threading.Event()
        self._client = make_client(url, f"ecgwatch-{monitor}-subscriber", tls)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = lambda *_: self._connected.set()
        self._client.on_message = self._on_message
        connection.connect(self._client, url)
        self._client.loop_start()
        if not self._connected.wait(10):
            self.close()
            raise ConnectionError(f"The broker {url} did not confirm the subscription.")

    def is_online(self) -> bool:
        """Whether the last status of the monitor is not offline."""
        return self.status is not None and self.status.state != "offline"

    def wait_until_offline(self, at_most_s: float) -> None:
        """Wait until the monitor has published that it is offline."""
        until_s = time.monotonic() + at_most_s
        while self.is_online() and time.monotonic() < until_s:
            time.sleep(0.05)

    def unsubscribe_samples(self) -> None:
        """Receive no more packets."""
        self._client.unsubscribe(self._topics.of("+", "samples"))

    def begin(self) -> None:
        """Count what follows from packets that end from now on."""
        self._from_s = time.time()

    def end(self) -> None:
        """Leave out what follows from packets that end later."""
        self._to_s = time.time()

    def close(self) -> None:
        """Disconnect."""
        harness.leave(self._client)

    def _on_connect(self, client: paho.Client, *_: Any) -> None:
        topics = [(self._topics.of("+", leaf), 1) for leaf in self._leaves]
        client.subscribe([*topics, (self._topics.monitor_status(self._monitor), 1)])

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        now, payload = time.time(), bytes(message.payload)
        if message.topic == self._topics.monitor_status(self._monitor):
            if payload and not message.retain:
                self.status = wire.decode(payload, wire.MonitorStatus)
            return
        device, leaf = self._topics.parse(message.topic)
        if leaf == "samples":
            self.payloads.append((device, payload))
        elif leaf == "alerts":
            self._count(self.alerts, now, wire.decode(payload, wire.Alert).completed_s)
        elif leaf == "beats":
            found = wire.decode(payload, wire.Beat)
            if found.verdict != "withheld":  # the last ones of a stream are published when it ends
                self._count(self.beats, now, found.completed_s)

    def _count(self, latencies: list[float], now: float, completed_s: float) -> None:
        if self._from_s <= completed_s <= self._to_s:
            latencies.append(now - completed_s)


def make_client(url: connection.BrokerUrl, client_id: str, tls: connection.TlsFiles) -> paho.Client:
    """Return a client for a broker, not yet connected."""
    return connection.make_client(url, client_id, password=connection.read_password(url), **asdict(tls))


def quantiles(latency_s: Sequence[float]) -> Row:
    """Quantiles of latencies given in seconds, in milliseconds."""
    if not latency_s:
        return {"n": 0}
    values = np.percentile(latency_s, list(QUANTILES.values())) * 1000
    return {"n": len(latency_s)} | dict(zip(QUANTILES, values.round(4).tolist(), strict=True))
