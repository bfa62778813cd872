"""What the monitor does on this machine: latency per beat, cost beside other software, and how many devices it carries.

This module runs what is asked for and tells the result; it measures the latency itself, and leaves the rest to
`monitor.versus` and `monitor.capacity`.

Method of the latency. Simulated devices, the monitor, and this subscriber are processes of their own, joined by a real
broker. The latency of a beat runs from the end of the packet that completed it, on the device's clock, to the arrival
of its verdict at this subscriber; all clocks are this machine's. Lateness of the simulator counts as latency. The first
seconds are not counted; their packets are kept, and each stage is then timed on them, call by call, in this process.
"""

from __future__ import annotations

import os
import platform
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np

from monitor import beat, capacity, mqtt, rig, versus, wire
from monitor.audience import QUANTILES, Audience, make_client, quantiles
from monitor.benchpage import page
from monitor.capacity import CapacitySettings, measure_capacity
from monitor.classify import Classifier
from monitor.engine import Engine, Output, warm_up
from monitor.report import Latency, Report, Row, compare, format_changes, read_report, unlike
from monitor.settings import VERSION
from monitor.versus import VersusSettings, measure_versus

WIDTH = 110
"""Columns of the text below the tables."""
WARM_UP_S = 6.0
FEWEST_CALLS = 2000
"""Each stage is timed at least this often."""


@dataclass(frozen=True, slots=True)
class LatencySettings:
    """How to measure the latency.

    Raises
    ------
    ValueError
        A number is not positive.
    """

    devices: int = 8
    packet_s: float = 0.2
    seconds: float = 30.0

    def __post_init__(self) -> None:
        if self.devices < 1 or not self.packet_s > 0 or not self.seconds > 0:
            raise ValueError(
                "Devices, packet and seconds must be more than 0: "
                f"got {self.devices}, {self.packet_s:g} s and {self.seconds:g} s."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchSettings:
    """What to measure, with what, and what to make of it.

    Raises
    ------
    ValueError
        A page that could not be written after minutes of measuring, or a limit that nothing can keep.
    """

    latency: LatencySettings | None = None
    versus: VersusSettings | None = None
    capacity: CapacitySettings | None = None
    setup: rig.Setup = field(default_factory=rig.Setup)
    as_json: bool = False
    html: Path | None = None
    """Where to write a page about it."""
    baseline: Path | None = None
    """JSON of an earlier run to compare with."""
    worse_than: float = 1.25
    """So many times as bad as then is too bad."""

    def __post_init__(self) -> None:
        if self.html is not None and (self.html.is_dir() or not self.html.parent.is_dir()):
            raise ValueError(f"No page can be written to {self.html}: expected a file in a directory that is there.")
        if not self.worse_than >= 1:
            raise ValueError(f"Worse than: got {self.worse_than:g}, expected 1 or more.")


def run_bench(settings: BenchSettings) -> int:
    """Measure, tell the result, and return the exit status: 1 if it became worse than it may.

    Raises
    ------
    ConnectionError
        The broker, the monitor or the simulator did not start.
    ValueError
        Settings that cannot work, or a baseline that is none.
    """
    baseline = None if settings.baseline is None else read_report(settings.baseline)
    report = measure(settings)
    print(msgspec.json.encode(report).decode() if settings.as_json else format_report(report))
    if settings.html is not None:
        settings.html.write_text(page(report, methods(report), capacity.LATEST_MS), encoding="utf-8")
    return 0 if baseline is None else _judge(baseline, report, settings)


def measure(settings: BenchSettings) -> Report:
    """Measure what is asked for, one after the other."""
    setup = settings.setup
    classifier = Classifier(setup.model, setup.provider)
    return Report(
        machine=describe_machine(classifier),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        latency=None if settings.latency is None else measure_latency(setup, settings.latency, classifier),
        versus=None if settings.versus is None else measure_versus(settings.versus, classifier),
        capacity=None if settings.capacity is None else measure_capacity(setup, settings.capacity),
    )


def describe_machine(classifier: Classifier) -> dict[str, str]:
    """What the figures were measured on."""
    return {
        "cpu": rig.cpu_name(),
        "python": platform.python_version(),
        "ecgwatch": VERSION,
        "onnxruntime": version("onnxruntime"),
        "model": classifier.info.name,
        "provider": classifier.provider,
    }


def format_report(report: Report) -> str:
    """All that was measured, for people."""
    parts, how = ["  ".join(f"{key} {value}" for key, value in report.machine.items())], methods(report)
    if report.latency is not None:
        parts += [format_table(report.latency.milliseconds), _fill(how["latency"])]
    if report.versus is not None:
        parts += [versus.format_versus(report.versus), _fill(how["versus"])]
    if report.capacity is not None:
        parts += [capacity.format_capacity(report.capacity), _fill(how["capacity"])]
    return "\n\n".join(parts)


def methods(report: Report) -> dict[str, list[str]]:
    """How the parts were measured, in sentences."""
    told = {}
    if report.latency is not None:
        told["latency"] = explain(report.latency)
    if report.versus is not None:
        told["versus"] = versus.explain(report.versus)
    if report.capacity is not None:
        told["capacity"] = capacity.explain(report.capacity)
    return told


def _fill(sentences: Sequence[str]) -> str:
    """Sentences in lines that a terminal has room for."""
    return "\n".join(textwrap.fill(sentence, WIDTH) for sentence in sentences)


def _judge(baseline: Report, report: Report, settings: BenchSettings) -> int:
    """Compare with an earlier run, and say what became too bad."""
    out = sys.stderr if settings.as_json else sys.stdout  # the JSON stays alone
    changes = compare(baseline, report)
    if not changes:
        raise ValueError(f"{settings.baseline} has none of the figures that were measured now.")
    print(f"\nBeside {settings.baseline}, {baseline.date}", file=out)
    for difference in unlike(baseline, report):
        print(f"not the same: {difference}", file=out)
    print(format_changes(changes, settings.worse_than), file=out)
    worse = [change for change in changes if change.worse > settings.worse_than]
    if worse:
        named = ", ".join(change.name for change in worse)
        print(f"more than {settings.worse_than:g} times as bad: {named}", file=sys.stderr)
    return 1 if worse else 0


def explain(latency: Latency) -> list[str]:
    """How the latency was measured."""
    return [
        f"{latency.devices} devices, packets of {latency.packet_s:g} s, {latency.seconds:g} s "
        f"after {WARM_UP_S:g} s of warm-up, through {latency.broker}.",
        "Stages: one call each (decode a packet, segment it by itself, classify and publish a beat).",
        "Whole path: from the end of the packet that completed a beat to the arrival of its verdict here.",
    ]


def measure_latency(setup: rig.Setup, method: LatencySettings, classifier: Classifier) -> Latency:
    """Measure the whole path through a broker, and each stage by itself.

    Raises
    ------
    ConnectionError
        The broker, the monitor or the simulator did not start.
    """
    with rig.broker(setup.broker) as broker:
        beats, alerts, payloads = _measure_path(setup, method, broker.url)
        rows = _measure_stages(payloads, classifier, broker.url, setup.tls)
    rows |= {"whole path, beat": quantiles(beats), "whole path, alert": quantiles(alerts)}
    return Latency(**asdict(method), broker=broker.name, milliseconds=rows)


def format_table(rows: dict[str, Row]) -> str:
    """One line a row, in milliseconds."""
    lines = [f"{'milliseconds':<20}" + "".join(f"{name:>10}" for name in QUANTILES) + f"{'n':>9}"]
    for name, row in rows.items():
        cells = "".join(f"{row[q]:>10.3f}" if q in row else f"{'-':>10}" for q in QUANTILES)
        lines.append(f"{name:<20}{cells}{row['n']:>9.0f}")
    return "\n".join(lines)


def _measure_path(
    setup: rig.Setup, method: LatencySettings, url: mqtt.BrokerUrl
) -> tuple[list[float], list[float], list[tuple[str, bytes]]]:
    """Latencies of beats and alerts, and the packets of the warm-up."""
    broker = rig.broker_words(url, setup.tls)
    devices = ["--devices", str(method.devices), "--packet", str(method.packet_s)]
    monitor = ["--beats", "--alert", "1/1", *setup.model_words]
    name = f"bench-{os.getpid()}"
    audience = Audience(url, setup.tls, wire.Topics(), name, ("beats", "alerts", "samples"))
    try:
        with rig.monitor(name, url, setup.tls, *monitor) as running:
            running.wait_until(audience.is_online)
            with rig.running("The simulator", "simulator", "replay", *devices, *broker) as playing:
                playing.wait_until(lambda: bool(audience.payloads))
                time.sleep(WARM_UP_S)
                audience.spare_samples()
                audience.begin()
                time.sleep(method.seconds)
    finally:
        audience.close()
    return audience.beats, audience.alerts, audience.payloads


def _measure_stages(
    payloads: list[tuple[str, bytes]], classifier: Classifier, url: mqtt.BrokerUrl, tls: mqtt.TlsFiles
) -> dict[str, Row]:
    warm_up()
    packets = [(device, wire.decode_packet(payload)) for device, payload in payloads]
    windows = np.random.default_rng(0).random((256, 1, beat.LENGTH), np.float32)
    free = cast(Classifier, versus.FreeModel(classifier))
    told: list[Output] = []
    feeding: list[float] = []
    while len(feeding) < FEWEST_CALLS:
        engine = Engine(free)

        def segment(device: str, packet: wire.Packet, engine: Engine = engine) -> None:
            engine.feed(device, packet, 0.0)
            told.append(engine.flush())

        feeding += _time(segment, packets)
    found = [beat_ for output in told for beat_ in output.beats]
    decoding = _time(lambda _, payload: wire.decode_packet(payload), payloads, FEWEST_CALLS)
    rr = beat.rr_context([0.8], [0.8], [0.8])
    judging = _time(classifier.probabilities, [(w, rr) for w in windows], FEWEST_CALLS)
    client = make_client(url, f"ecgwatch-bench-{os.getpid()}-publisher", tls)
    mqtt.connect(client, url)
    client.loop_start()
    topic = wire.Topics().of("bench", "beats")
    publishing = _time(lambda told: client.publish(topic, wire.encode(told)), [(told,) for told in found], FEWEST_CALLS)
    rig.leave(client)
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
