"""How long a beat takes, stage by stage and through a broker.

Method. Simulated devices, the monitor, and this subscriber are processes of their own, joined by a real broker. The
latency of a beat runs from the end of the packet that completed it, on the device's clock, to the arrival of its
verdict at this subscriber; all clocks are this machine's. Lateness of the simulator counts as latency. The first
seconds are not counted; their packets are kept, and each stage is then timed on them, call by call, in this process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np

from monitor import beat, beat2, wire
from monitor.broker import connection
from monitor.classify import Classifier
from monitor.engine import Engine, Output, warm_up
from monitor.panel import Panel
from monitor.tools.bench import harness
from monitor.tools.bench.report import Latency, Row
from monitor.tools.bench.subscriber import QUANTILES, Subscriber, make_client, quantiles
from monitor.tools.bench.versus import free_panel

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


def measure_latency(setup: harness.Setup, method: LatencySettings, panel: Panel) -> Latency:
    """Measure the whole path through a broker, and each stage by itself.

    Raises
    ------
    ConnectionError
        The broker, the monitor or the simulator did not start.
    """
    with harness.broker(setup.broker) as broker:
        beats, alerts, payloads = _measure_path(setup, method, broker.url)
        rows = _measure_stages(payloads, panel, broker.url, setup.tls)
    rows |= {"whole path, beat": quantiles(beats), "whole path, alert": quantiles(alerts)}
    return Latency(**asdict(method), broker=broker.name, milliseconds=rows)


def _measure_path(
    setup: harness.Setup, method: LatencySettings, url: connection.BrokerUrl
) -> tuple[list[float], list[float], list[tuple[str, bytes]]]:
    """Latencies of beats and alerts, and the packets of the warm-up."""
    broker = harness.broker_words(url, setup.tls)
    devices = ["--devices", str(method.devices), "--packet", str(method.packet_s)]
    monitor = ["--beats", "--alert", "1/1", *setup.model_words]
    name = f"bench-{os.getpid()}"
    subscriber = Subscriber(url, setup.tls, wire.Topics(), name, ("beats", "alerts", "samples"))
    try:
        with harness.monitor(name, url, setup.tls, *monitor) as running:
            running.wait_until(subscriber.is_online)
            with harness.running("The simulator", "simulator", "replay", *devices, *broker) as playing:
                playing.wait_until(lambda: bool(subscriber.payloads))
                time.sleep(WARM_UP_S)
                subscriber.unsubscribe_samples()
                subscriber.begin()
                time.sleep(method.seconds)
    finally:
        subscriber.close()
    return subscriber.beats, subscriber.alerts, subscriber.payloads


def _measure_stages(
    payloads: list[tuple[str, bytes]], panel: Panel, url: connection.BrokerUrl, tls: connection.TlsFiles
) -> dict[str, Row]:
    warm_up()
    packets = [(device, wire.decode_packet(payload)) for device, payload in payloads]
    free = free_panel(panel)
    outputs: list[Output] = []
    feeding: list[float] = []
    while len(feeding) < FEWEST_CALLS:
        engine = Engine(free)

        def segment(device: str, packet: wire.Packet, engine: Engine = engine) -> None:
            engine.feed(device, packet, 0.0)
            outputs.append(engine.flush())

        feeding += _time(segment, packets)
    found = [beat_ for output in outputs for beat_ in output.beats]
    decoding = _time(lambda _, payload: wire.decode_packet(payload), payloads, FEWEST_CALLS)
    judging = _time(lambda judge: judge(), [(_judge_one(panel),)], FEWEST_CALLS)
    client = make_client(url, f"ecgwatch-bench-{os.getpid()}-publisher", tls)
    connection.connect(client, url)
    client.loop_start()
    topic = wire.Topics().of("bench", "beats")
    publishing = _time(lambda one: client.publish(topic, wire.encode(one)), [(one,) for one in found], FEWEST_CALLS)
    harness.leave(client)
    return {
        "decode": quantiles(decoding),
        "segment": quantiles(feeding),
        "classify": quantiles(judging),
        "publish": quantiles(publishing),
    }


def _judge_one(panel: Panel) -> Callable[[], None]:
    """Return what asks all models about one beat."""
    rng = np.random.default_rng(0)
    window, rr = rng.random((1, beat.LENGTH), np.float32), beat.rr_context([0.8], [0.8], [0.8])
    two, context = rng.random((1, 2, beat2.LENGTH), np.float32), np.ones((1, len(beat2.CONTEXT)), np.float32)

    def judge() -> None:
        if panel.class_model is None:
            cast(Classifier, panel.main).probabilities(window, rr)
            return
        panel.class_model.probabilities(two, context)
        if panel.shape is not None:
            panel.shape.probabilities(window)

    return judge


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


def format_table(rows: dict[str, Row]) -> str:
    """One line a row, in milliseconds."""
    lines = [f"{'milliseconds':<20}" + "".join(f"{name:>10}" for name in QUANTILES) + f"{'n':>9}"]
    for name, row in rows.items():
        cells = "".join(f"{row[q]:>10.3f}" if q in row else f"{'-':>10}" for q in QUANTILES)
        lines.append(f"{name:<20}{cells}{row['n']:>9.0f}")
    return "\n".join(lines)


def explain(latency: Latency) -> list[str]:
    """How the latency was measured."""
    return [
        f"{latency.devices} devices, packets of {latency.packet_s:g} s, {latency.seconds:g} s "
        f"after {WARM_UP_S:g} s of warm-up, through {latency.broker}.",
        "Stages: one call each (decode a packet, segment it by itself, classify and publish a beat).",
        "Whole path: from the end of the packet that completed a beat to the arrival of its verdict here.",
    ]
