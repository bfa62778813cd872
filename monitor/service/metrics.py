"""How the monitor is, over HTTP: metrics for Prometheus, liveness and readiness.

Rules
-----
* ``/metrics``: the figures of the monitor's status, summed over all devices. No device is named, unless that is asked
  for: then each has its latest state, as it is told to the broker.
* ``/healthz``: 200 while the monitor's loop turns, else 503: it ought to be restarted.
* ``/readyz``: 200 while packets can come in, else 503: without a broker, or without one of the workers.

A thread of its own serves them from a `HealthBoard`, on which the loop writes: a request costs the loop nothing, and is
answered also when the loop hangs. prometheus-client is imported only where metrics are served.

Knows nothing of brokers, devices or engines.
"""

from __future__ import annotations

import logging
import math
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, get_args

from monitor import counters, wire

if TYPE_CHECKING:
    from prometheus_client import Metric

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
LATE_S = 15.0
"""A loop that has not turned for so long hangs: opening a connection may keep it for some seconds."""
CLIENT_S = 5.0
"""How long a client may take to ask."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to serve HTTP."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Parse ``[HOST:]PORT``; an IPv6 host stands in brackets.

        Raises
        ------
        ValueError
            It is not such an address.
        """
        in_front, colon, port = text.rpartition(":")
        bracketed = in_front[:1] + in_front[-1:] == "[]"
        host = in_front[1:-1] if bracketed else in_front
        is_host = host != "" and (":" in host) == bracketed and not set(host) & set("[]")
        if not (port.isdecimal() and port.isascii()) or int(port) > 65535 or (colon and not is_host):
            raise ValueError(f"Not an address to listen on: got {text!r}, expected [HOST:]PORT such as {HOST}:9188.")
        return cls(host or HOST, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(slots=True)
class HealthBoard:
    """What is known of a monitor: written by its loop, read by the threads that serve requests."""

    status: wire.MonitorStatus | None = None
    noted_s: float = field(default_factory=time.monotonic)
    """When that status was made, on the monotonic clock."""
    turned_s: float = field(default_factory=time.monotonic)
    """When the loop last turned."""
    ready: bool = False
    """Whether packets can come in."""
    states: dict[str, wire.DeviceState] | None = None
    """How each device is; None: no device is named."""

    def note(self, status: wire.MonitorStatus) -> None:
        """Take a status made just now."""
        self.status, self.noted_s = status, time.monotonic()

    @property
    def alive(self) -> bool:
        """Whether the loop turns."""
        return time.monotonic() - self.turned_s < LATE_S


class Collector:
    """Exports what is on a board to Prometheus."""

    def __init__(self, board: HealthBoard) -> None:
        self._board = board

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of now."""
        status = self._board.status
        if status is not None:
            yield from _counters(status.counts)
            yield from _gauges(status, self._board)
        if self._board.states is not None:
            yield from _devices(list(self._board.states.values()))  # in one step, while the loop goes on


_FROM_THE_START = {counters.BEATS: get_args(wire.Verdict)}
"""Values of families that are exported before anything was counted."""


def _counters(counts: dict[str, int]) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily

    left = Counter(counts)
    for one in counters.DEFINED:
        if one.label is None:
            yield CounterMetricFamily(one.metric, one.help, value=left.pop(one.name, 0))
    for family in counters.FAMILIES:
        metric = CounterMetricFamily(family.metric, family.help, labels=[family.label])
        names = [name for name in left if name.startswith(family.prefix)]
        values = dict.fromkeys(_FROM_THE_START.get(family, ()), 0)
        values |= {name.removeprefix(family.prefix): left.pop(name) for name in names}
        for value, n in sorted(values.items()):
            metric.add_metric([value], n)
        yield metric


def _gauges(status: wire.MonitorStatus, board: HealthBoard) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily

    about = {"version": status.version, "model": status.model, "model_sha256": status.model_sha256}
    yield InfoMetricFamily("ecgwatch", "Version of the monitor, and its model.", value=about)
    devices = GaugeMetricFamily("ecgwatch_devices", "Devices watched, by state.", labels=["state"])
    for state, n in ("streaming", status.streaming), ("lead off", status.lead_off), ("silent", status.silent):
        devices.add_metric([state], n)
    yield devices
    silence_s = math.nan if status.heard_s is None else time.time() - status.heard_s
    late_s = math.nan if status.lateness_s is None else status.lateness_s
    for name, text, value in [
        ("connected", "Whether packets can come in: 1 or 0.", board.ready),
        ("unsettled_packets", "Packets that the broker would deliver again after a crash.", status.unsettled),
        ("silence_seconds", "Time since the last message of a device; NaN if there was none.", silence_s),
        ("lateness_seconds", "Median time from the end of a packet to its arrival; NaN without packets.", late_s),
        ("behind_seconds", "For how long the loop has been busy without a pause.", status.behind_s),
        ("overloaded", "Whether packets arrive faster than they are processed: 1 or 0.", status.state == "overloaded"),
        ("store_fault", "Whether nothing can be saved: 1 or 0.", status.fault is not None),
        ("start_time_seconds", "Start time of the monitor, in seconds since 1970.", status.since_s),
        ("status_age_seconds", "Age of these figures.", time.monotonic() - board.noted_s),
    ]:
        yield GaugeMetricFamily(f"ecgwatch_{name}", text, value=float(value))


def _devices(states: list[wire.DeviceState]) -> Iterator[Metric]:
    """Yield what is known of each device; its name stands in one metric alone, since it may change."""
    from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily

    info = InfoMetricFamily("ecgwatch_device", "What people call a device.", labels=["device"])
    rate = GaugeMetricFamily("ecgwatch_device_heart_rate_bpm", "Heart rate, where known.", labels=["device"])
    judged = GaugeMetricFamily(
        "ecgwatch_device_judged_ratio", "Share of the last minute's beats that could be judged.", labels=["device"]
    )
    connection = GaugeMetricFamily(
        "ecgwatch_device_connection", "1 for how the device is connected.", labels=["device", "connection"]
    )
    alerts = GaugeMetricFamily(
        "ecgwatch_device_active_alerts", "Active alerts by priority.", labels=["device", "severity"]
    )
    for state in states:
        info.add_metric([state.device], {"name": state.name or state.device})
        connection.add_metric([state.device, state.connection], 1)
        if state.heart_rate_bpm is not None:
            rate.add_metric([state.device], state.heart_rate_bpm)
        if state.judged is not None:
            judged.add_metric([state.device], state.judged)
        active = Counter(alert.severity for alert in state.alerts)
        for severity in get_args(wire.Severity):
            alerts.add_metric([state.device, severity], active[severity])
    yield from (info, rate, judged, connection, alerts)


class _Server(ThreadingMixIn, TCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, address: Address, board: HealthBoard) -> None:
        from prometheus_client import CollectorRegistry

        self.address_family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        self.board = board
        self.registry = CollectorRegistry()
        super().__init__((address.host, address.port), _Handler)
        self.registry.register(Collector(board))

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore a client that hangs up."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = CLIENT_S
    server_version, sys_version = "ecgwatch", ""

    def do_GET(self) -> None:
        path, board = self.path.partition("?")[0], self.server.board
        if path == "/metrics":
            self._send_metrics()
        elif path == "/healthz":
            self._answer_health(board.alive, "alive" if board.alive else "the loop hangs")
        elif path == "/readyz":
            ready = board.alive and board.ready
            self._answer_health(ready, "ready" if ready else "no broker, or not all workers report")
        else:
            self._answer(404, "text/plain; charset=utf-8", b"/metrics, /healthz, /readyz\n")

    do_HEAD = do_GET  # noqa: N815 - the name is http.server's

    def _send_metrics(self) -> None:
        from prometheus_client.exposition import choose_encoder

        encode, content_type = choose_encoder(self.headers.get("Accept", ""))
        self._answer(200, content_type, encode(self.server.registry))

    def _answer_health(self, healthy: bool, text: str) -> None:
        self._answer(200 if healthy else 503, "text/plain; charset=utf-8", f"{text}\n".encode())

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: requests come every few seconds."""


@contextmanager
def serve(address: Address | None, board: HealthBoard) -> Iterator[Address | None]:
    """Serve a board over HTTP, if there is an address for it; yields the address, with the port taken if it was 0.

    Raises
    ------
    OSError
        The address cannot be bound.
    """
    if address is None:
        yield None
        return
    try:
        server = _Server(address, board)
    except OSError as error:
        raise OSError(f"Metrics cannot be served at {address}: {error.strerror or error}.") from None
    with server:
        thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
        thread.start()
        found = Address(address.host, server.server_address[1])
        log.info("metrics at http://%s/metrics", found)
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()
