"""The whole path in one command: broker, monitor, simulated devices, and a comparison of their results at the end.

The demo is an ordinary subscriber: it knows the true beats from its own replay, reads beats and alerts from the broker
like any client, and compares. The monitor runs in its own process, as in production.
"""

from __future__ import annotations

import bisect
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import numpy as np
import paho.mqtt.client as paho

from monitor import beat, wire
from monitor.broker import connection
from monitor.classify import SHAPE_MODEL, Classifier
from monitor.tools.watch import describe
from simulator.broker import HOST, EmbeddedBroker
from simulator.devices import Device, Library, make_fleet, open_feed
from simulator.replay import Replay, Summary

MATCH_S = 0.15
"""A beat counts as detected if an R peak was detected within this distance (ANSI/AAMI EC57)."""
QUIET_S = 2.0
"""Maximum time to wait for the last beats at the end."""
READY_S = 60.0
"""Maximum time for the monitor to start; the first time it compiles its loops."""
MONITOR = "demo"
PAGE_PORT = 8520
"""Of the web page, unless it is taken."""


@dataclass(frozen=True, slots=True)
class _Played:
    """A beat that a device played, and its original window."""

    truth: wire.Truth
    window: beat.Windows | None


class _Listener:
    """A subscriber that collects the monitor's messages."""

    def __init__(self, url: connection.BrokerUrl, topics: wire.Topics, quiet: bool) -> None:
        self.beats: list[wire.Beat] = []
        self.alerts: list[wire.Alert] = []
        self.beat_latency_s: list[float] = []
        self.alert_latency_s: list[float] = []
        self.status: wire.MonitorStatus | None = None
        self.online = threading.Event()
        self._quiet = quiet
        self._topics = topics
        self._client = connection.make_client(url, f"ecgwatch-demo-{time.time_ns()}")
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message
        connection.connect(self._client, url)
        self._client.loop_start()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, client: paho.Client, *_: Any) -> None:
        leaves = [(self._topics.of("+", leaf), 1) for leaf in ("beats", "alerts")]
        client.subscribe([*leaves, (self._topics.monitor_status(MONITOR), 1)])

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        now, payload = time.time(), bytes(message.payload)
        if message.topic == self._topics.monitor_status(MONITOR):
            self.status = wire.decode(payload, wire.MonitorStatus)
            if self.status.state == "online":
                self.online.set()
        elif message.topic.endswith("/beats"):
            found = wire.decode(payload, wire.Beat)
            self.beats.append(found)
            if found.verdict != "withheld":  # the last ones of a stream are published when it is over
                self.beat_latency_s.append(now - found.completed_s)
        else:
            alert = wire.decode(payload, wire.Alert)
            if alert.kind == "device-silent" or alert.reason == "gone":
                return  # the devices leave at the end, and nobody need be told
            self.alerts.append(alert)
            self.alert_latency_s.append(now - alert.completed_s)
            if not self._quiet:
                print(describe(alert), flush=True)


def run_demo(
    directory: Path | None, devices: int, seconds: float, seed: int, stop: threading.Event, quiet: bool = False
) -> str:
    """Play beats, listen to the monitor, and compare.

    Parameters
    ----------
    directory
        Directory of the PTB files; None plays beats drawn from the shipped model.
    devices
        Number of devices.
    seconds
        Duration.
    stop
        Ends the demo early.
    quiet
        Do not print alerts as they arrive.

    Returns
    -------
    str
        The summary, ready to print.
    """
    library = Library(directory)
    print(library, flush=True)
    fleet = make_fleet(devices, ["patch", "polar-h10", "fast"], seed=seed)
    played: dict[str, list[_Played]] = defaultdict(list)

    def record(device: Device, truth: wire.Truth, window: beat.Windows | None) -> None:
        played[device.id].append(_Played(truth, window))

    topics = wire.Topics()
    with EmbeddedBroker(0) as broker, _monitor(broker.url) as (monitor, log), _page(broker.url):
        listener = _Listener(broker.url, topics, quiet)
        try:
            _wait_until_online(listener, monitor, log, stop)
            print(
                f"{devices} devices stream to {broker.url} for {seconds:g} s (Ctrl-C ends); alerts as they arrive:",
                flush=True,
            )
            feeds = [open_feed(device, library) for device in fleet]
            sent = Replay(feeds, broker.url, on_beat=record).run(stop, seconds)
            _wait_until_quiet(listener)
            monitor.terminate()
            monitor.wait(10)
            _wait_until_quiet(listener)
        finally:
            listener.close()
    return summarise(sent, played, listener)


def summarise(sent: Summary, played: dict[str, list[_Played]], listener: _Listener) -> str:
    """Compare the beats that were played with those that were detected."""
    found = {device: sorted((b for b in listener.beats if b.device == device), key=_r_peak) for device in played}
    pairs = [
        (p, _nearest(found[device], p.truth.r_peak_s))
        for device, beats in played.items()
        for p in beats
        if found[device] and p.truth.r_peak_s <= found[device][-1].r_peak_s
    ]
    detected = [(p, b) for p, b in pairs if b is not None]
    judged = [(p, b) for p, b in detected if b.verdict != "withheld"]
    ends = {device: beats[-1].truth.r_peak_s + MATCH_S for device, beats in played.items()}
    extra = sum(b.r_peak_s <= ends.get(b.device, 0.0) for b in listener.beats) - len(detected)
    shape = Classifier(SHAPE_MODEL)
    counts = {} if listener.status is None else listener.status.counts
    lost = sent.packets - counts.get("packets", 0) - counts.get("rejected", 0)
    lines = [
        "",
        f"{sent.devices} devices, {sent.seconds:.0f} s",
        _row("packets", f"{sent.packets} sent, {lost} lost"),
        _row("beats", f"{len(pairs)} played, {_share(len(detected), len(pairs))} found, {extra} false positives"),
        _row("withheld", f"{len(detected) - len(judged)} beats, for poor signal or an unknown rhythm"),
    ]
    for label in ("normal", "abnormal"):
        of_class = [(p, b) for p, b in judged if p.truth.label == label]
        correct = sum(_called(b, shape.info.threshold) == label for _, b in of_class)
        lines.append(_row(f"{label} beats", f"{_share(correct, len(of_class))} classified as {label}"))
    lines.append(_row("same verdict", f"{_same_verdict(judged, shape)} on the shape as of the original window"))
    states = [alert.state for alert in listener.alerts]
    lines.append(_row("alerts", ", ".join(f"{states.count(s)} {s}" for s in ("new", "update", "end"))))
    lines.append(_row("latency, beat", _quantiles(listener.beat_latency_s)))
    lines.append(_row("latency, alert", _quantiles(listener.alert_latency_s)))
    lines.append("")
    lines.append("Latency: from the end of the packet that completes a beat to its arrival at this subscriber.")
    lines.append("Agreement on these beats is not a measure of diagnostic accuracy: see 'ecgwatch models ptb'.")
    lines.append("Research software, not a medical device.")
    return "\n".join(lines)


def _called(found: wire.Beat, threshold: float) -> str:
    """Whether the models call a beat abnormal, by its class or by its shape: PTB files label shapes."""
    is_abnormal = found.verdict == "abnormal" or (found.shape_probability or 0.0) >= threshold
    return "abnormal" if is_abnormal else "normal"


def _same_verdict(judged: list[tuple[_Played, wire.Beat]], shape: Classifier) -> str:
    """Ask the shape model about the original windows directly, and count equal verdicts."""
    known = [(p.window, b) for p, b in judged if p.window is not None and b.shape_probability is not None]
    if not known:
        return "0 of 0"
    direct = shape.columns(shape.probabilities(np.stack([window for window, _ in known]))) > 0
    played = np.array([b.shape_probability for _, b in known]) >= shape.info.threshold
    return _share(int((direct == played).sum()), len(known))


def _r_peak(found: wire.Beat) -> float:
    return found.r_peak_s


def _nearest(found: list[wire.Beat], r_peak_s: float) -> wire.Beat | None:
    i = bisect.bisect_left(found, r_peak_s, key=_r_peak)
    near = [b for b in found[max(0, i - 1) : i + 1] if abs(b.r_peak_s - r_peak_s) <= MATCH_S]
    return min(near, key=lambda b: abs(b.r_peak_s - r_peak_s), default=None)


def _row(name: str, text: str) -> str:
    return f"  {name:<16}{text}"


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole}" + (f" ({100 * part / whole:.1f} %)" if whole else "")


def _quantiles(latency_s: list[float]) -> str:
    if not latency_s:
        return "none received"
    p50, p95, p99 = (1000 * q for q in np.percentile(latency_s, (50, 95, 99)))
    return f"p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms, max {1000 * max(latency_s):.1f} ms"


@contextmanager
def _monitor(url: connection.BrokerUrl) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """Run a monitor in its own process; yield it and its log."""
    command = [sys.executable, "-m", "monitor", "run", "--broker", str(url), "--beats", "--no-state", "--name", MONITOR]
    with tempfile.TemporaryFile() as log:
        # Its own session: Ctrl-C reaches only the demo, which then stops the monitor cleanly.
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            yield process, log
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


@contextmanager
def _page(url: connection.BrokerUrl) -> Iterator[None]:
    """Serve the web page in its own process, and print its address; without its packages go on without it."""
    if find_spec("uvicorn") is None:
        print("no web page: pip install 'ecgwatch[page]'", flush=True)
        yield
        return
    port = 0 if _is_taken(PAGE_PORT) else PAGE_PORT
    command = [sys.executable, "-m", "monitor", "page", "--broker", str(url), "--no-history", "--name", MONITOR]
    process = subprocess.Popen(
        [*command, "--page", str(port), "--attached"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        address = process.stdout.readline().decode().strip()
        print(
            f"web page: {address}  (open it in a browser)"
            if address
            else "the web page did not start: ecgwatch page says why",
            flush=True,
        )
        yield
    finally:
        process.terminate()
        process.wait(10)
        process.stdin.close()
        process.stdout.close()


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def _wait_until_online(
    listener: _Listener, monitor: subprocess.Popen[bytes], log: IO[bytes], stop: threading.Event
) -> None:
    until_s = time.monotonic() + READY_S
    while not listener.online.wait(0.1) and not stop.is_set():
        if monitor.poll() is not None or time.monotonic() > until_s:
            log.seek(0)
            raise ConnectionError(f"The monitor did not start: {log.read().decode(errors='replace').strip()}")


def _wait_until_quiet(listener: _Listener) -> None:
    """Wait until no more messages arrive."""
    until_s = time.monotonic() + QUIET_S
    while time.monotonic() < until_s:
        before = len(listener.beats) + len(listener.alerts)
        time.sleep(0.3)
        if len(listener.beats) + len(listener.alerts) == before:
            return
