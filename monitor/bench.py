"""Latency per beat on this machine: each stage by itself, and the whole path through a broker.

Method. Simulated devices, the monitor, and this subscriber are processes of their own, joined by a real broker. The
latency of a beat runs from the end of the packet that completed it, on the device's clock, to the arrival of its
verdict at this subscriber; all clocks are this machine's. Lateness of the simulator counts as latency. The first
seconds are not counted; their packets are kept, and each stage is then timed on them, call by call, in this process.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import paho.mqtt.client as paho

from monitor import beat, mqtt, wire
from monitor.classify import Classifier, Provider
from monitor.engine import Engine, warm_up

WARM_UP_S = 6.0
START_S = 60.0
FEWEST_CALLS = 2000
"""Each stage is timed at least this often."""
QUANTILES = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "max": 100.0}

Row = dict[str, float]
"""Quantiles of a latency in milliseconds, and how many were measured."""


@dataclass(frozen=True, slots=True)
class BenchSettings:
    """What to measure.

    Raises
    ------
    ValueError
        A number is not positive.
    """

    devices: int
    packet_s: float
    seconds: float
    broker: str | None
    """URL of a broker; None starts the embedded one."""
    tls: mqtt.TlsFiles
    model: str
    provider: Provider
    as_json: bool

    def __post_init__(self) -> None:
        if self.devices < 1 or not self.packet_s > 0 or not self.seconds > 0:
            raise ValueError(
                "Devices, packet and seconds must be more than 0: "
                f"got {self.devices}, {self.packet_s:g} s and {self.seconds:g} s."
            )


def run_bench(settings: BenchSettings) -> int:
    """Measure, print the result, return the exit status.

    Raises
    ------
    ConnectionError
        The broker or the monitor did not start.
    """
    classifier = Classifier(settings.model, settings.provider)
    machine = describe_machine(classifier)
    with ExitStack() as stack:
        url = mqtt.BrokerUrl.parse(settings.broker or stack.enter_context(_embedded_broker()))
        beats, alerts, payloads = _measure_path(settings, url)
        rows = _measure_stages(payloads, classifier, url, settings.tls)
    rows |= {"whole path, beat": quantiles(beats), "whole path, alert": quantiles(alerts)}
    if settings.as_json:
        method = {"devices": settings.devices, "packet_s": settings.packet_s, "seconds": settings.seconds}
        print(json.dumps({"machine": machine, "method": method | {"broker": settings.broker}, "latency_ms": rows}))
        return 0
    print("  ".join(f"{key} {value}" for key, value in machine.items()))
    print(
        f"{settings.devices} devices, packets of {settings.packet_s:g} s, {settings.seconds:g} s "
        f"after {WARM_UP_S:g} s of warm-up, through {settings.broker or 'the embedded broker'}\n"
    )
    print(format_table(rows))
    print("\nStages: one call each (decode and segment a packet, classify and publish a beat).")
    print("Whole path: from the end of the packet that completed a beat to the arrival of its verdict here.")
    return 0


def describe_machine(classifier: Classifier) -> dict[str, str]:
    """What the figures were measured on."""
    return {
        "cpu": f"{_cpu_name()} x {os.cpu_count()}",
        "python": platform.python_version(),
        "onnxruntime": version("onnxruntime"),
        "model": classifier.info.name,
        "provider": classifier.provider,
    }


def quantiles(latency_s: list[float]) -> Row:
    """Quantiles of latencies given in seconds, in milliseconds."""
    if not latency_s:
        return {"n": 0}
    values = np.percentile(latency_s, list(QUANTILES.values())) * 1000
    return {"n": len(latency_s)} | dict(zip(QUANTILES, values.round(4).tolist(), strict=True))


def format_table(rows: dict[str, Row]) -> str:
    """One line a row, in milliseconds."""
    lines = [f"{'milliseconds':<20}" + "".join(f"{name:>10}" for name in QUANTILES) + f"{'n':>9}"]
    for name, row in rows.items():
        cells = "".join(f"{row[q]:>10.3f}" if q in row else f"{'-':>10}" for q in QUANTILES)
        lines.append(f"{name:<20}{cells}{row['n']:>9.0f}")
    return "\n".join(lines)


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _make_client(url: mqtt.BrokerUrl, client_id: str, tls: mqtt.TlsFiles) -> paho.Client:
    return mqtt.make_client(url, client_id, password=mqtt.read_password(url), **asdict(tls))


class _Subscriber:
    """Times what arrives."""

    def __init__(self, url: mqtt.BrokerUrl, tls: mqtt.TlsFiles) -> None:
        self.beats: list[float] = []
        self.alerts: list[float] = []
        self.payloads: list[tuple[str, bytes]] = []
        self.online = threading.Event()
        self._from_s = float("inf")
        self._topics = wire.Topics()
        self._name = f"bench-{os.getpid()}"
        self._client = _make_client(url, f"ecgwatch-{self._name}-subscriber", tls)
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message
        mqtt.connect(self._client, url)
        self._client.loop_start()

    @property
    def monitor_name(self) -> str:
        """Name the monitor is to run under."""
        return self._name

    def begin(self) -> None:
        """The warm-up is over: count from now on, and take no more packets."""
        self._client.unsubscribe(self._topics.of("+", "samples"))
        self._from_s = time.time()

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, client: paho.Client, *_: Any) -> None:
        leaves = [(self._topics.of("+", leaf), 1) for leaf in ("beats", "alerts", "samples")]
        client.subscribe([*leaves, (self._topics.monitor_status(self._name), 1)])

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        now, payload = time.time(), bytes(message.payload)
        if message.topic == self._topics.monitor_status(self._name):
            if wire.decode(payload, wire.MonitorStatus).state == "online":
                self.online.set()
            return
        device, leaf = self._topics.parse(message.topic)
        if leaf == "samples":
            self.payloads.append((device, payload))
            return
        if leaf == "alerts":
            alert = wire.decode(payload, wire.Alert)
            self._count(self.alerts, now, alert.completed_s)
            return
        found = wire.decode(payload, wire.Beat)
        if found.verdict != "withheld":  # the last ones of a stream are told when it is over
            self._count(self.beats, now, found.completed_s)

    def _count(self, latencies: list[float], now: float, completed_s: float) -> None:
        if completed_s >= self._from_s:
            latencies.append(now - completed_s)


def _measure_path(
    settings: BenchSettings, url: mqtt.BrokerUrl
) -> tuple[list[float], list[float], list[tuple[str, bytes]]]:
    """Latencies of beats and alerts, and the packets of the warm-up."""
    subscriber = _Subscriber(url, settings.tls)
    broker = ["--broker", str(url)]
    broker += [f"--{name}={file}" for name, file in asdict(settings.tls).items() if file is not None]
    monitor = ["monitor", "run", "--beats", "--alert", "1/1", "--name", subscriber.monitor_name]
    monitor += ["--model", settings.model, "--provider", settings.provider]
    devices = ["simulator", "replay", "--devices", str(settings.devices), "--packet", str(settings.packet_s)]
    try:
        with _process(*monitor, *broker) as running:
            _wait(subscriber.online.is_set, running, "The monitor")
            with _process(*devices, *broker) as playing:
                _wait(lambda: bool(subscriber.payloads), playing, "The simulator")
                time.sleep(WARM_UP_S)
                subscriber.begin()
                time.sleep(settings.seconds)
    finally:
        subscriber.close()
    return subscriber.beats, subscriber.alerts, subscriber.payloads


def _measure_stages(
    payloads: list[tuple[str, bytes]], classifier: Classifier, url: mqtt.BrokerUrl, tls: mqtt.TlsFiles
) -> dict[str, Row]:
    warm_up()
    packets = [(device, wire.decode_packet(payload)) for device, payload in payloads]
    windows = np.random.default_rng(0).random((256, 1, beat.LENGTH), np.float32)
    found: list[wire.Beat] = []
    feeding: list[float] = []
    while len(feeding) < FEWEST_CALLS:
        engine = Engine(classifier)
        feeding += _time(lambda device, packet, e=engine: e.feed(device, packet, 0.0), packets)
        found += engine.flush().beats
    decoding = _time(lambda _, payload: wire.decode_packet(payload), payloads, FEWEST_CALLS)
    rr = beat.rr_context([0.8], [0.8], [0.8])
    judging = _time(classifier.probabilities, [(w, rr) for w in windows], FEWEST_CALLS)
    client = _make_client(url, f"ecgwatch-bench-{os.getpid()}-publisher", tls)
    mqtt.connect(client, url)
    client.loop_start()
    topic = wire.Topics().of("bench", "beats")
    publishing = _time(lambda told: client.publish(topic, wire.encode(told)), [(told,) for told in found], FEWEST_CALLS)
    client.disconnect()
    client.loop_stop()
    return {
        "decode": quantiles(decoding),
        "segment": quantiles(feeding),
        "classify": quantiles(judging),
        "publish": quantiles(publishing),
    }


def _time(call: Callable[..., Any], arguments: list[Any], at_least: int = 0) -> list[float]:
    """Seconds of each call, over all arguments, again until there are enough."""
    if not arguments:
        return []
    taken: list[float] = []
    while True:
        for given in arguments:
            start = time.perf_counter()
            call(*given)
            taken.append(time.perf_counter() - start)
        if len(taken) >= at_least:
            return taken


@contextmanager
def _embedded_broker() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with _process("simulator", "broker", "--port", str(port)) as broker:
        _wait(lambda: _listens(port), broker, "The embedded broker")
        yield f"mqtt://127.0.0.1:{port}"


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def _process(module: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """One of our own commands as a process of its own, ended at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=30)


def _wait(ready: Callable[[], bool], process: subprocess.Popen[bytes], name: str) -> None:
    until_s = time.monotonic() + START_S
    while not ready():
        if process.poll() is not None or time.monotonic() > until_s:
            process.kill()
            said = process.communicate()[1].decode(errors="replace").strip()
            raise ConnectionError(f"{name} did not start: {said}")
        time.sleep(0.05)
