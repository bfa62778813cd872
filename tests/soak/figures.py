"""What a fleet costs, and how late it is: `python -m tests.soak.figures cost|latency|turn`.

cost: processor time of all monitors for each packet, with 1, 2 and 4 of them on one RabbitMQ and one PostgreSQL.
latency: from the end of a packet to the message about a beat in it: a monitor on mosquitto with its state in a file,
and one on RabbitMQ and PostgreSQL, in turn, at the same rate.
turn: processor time in which the engine takes a few packets at once, with its data in the processor's caches, and after
others have used them: what becomes of a monitor that shares its core with others.

Each round measures all of them once; what is given at the end is the median of the rounds.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil

from monitor.alerts.episode import AlertSettings
from monitor.broker.connection import BrokerUrl
from monitor.engine import Engine
from monitor.panel import load_panel
from monitor.tools.bench.harness import cpu_name
from tests.brokers import Broker
from tests.monitor.service.crash_harness import ALERTS
from tests.soak.cluster import NAME, Listener, cut, make_signals, play, run_cluster

WARM_S = 20.0
"""The first beats come after some seconds, and what is new is looked up."""
TURNS, TRIES, OTHERS_BYTES = (1, 3, 5, 10), 150, 32_000_000
"""Packets in a turn; how often; what others use meanwhile: no cache holds that as well."""
START_S = 180.0
"""How long a monitor may take to start: one whose compiled loops are not cached compiles them."""


def main(words: Sequence[str] | None = None) -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("cost", "latency", "turn"))
    parser.add_argument("--devices", type=int, default=1000, help="each sends a packet a second")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--monitors", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--each", action="store_true", help="of cost: so many devices for each monitor")
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args(words)
    gc.disable()  # a collection stops the sender and the listener for 0.3 s
    print(f"{cpu_name()}, load {os.getloadavg()[0]:.1f}, {options.devices} devices", flush=True)
    if options.what == "cost":
        rounds = [[_measure_cost(options, monitors) for monitors in options.monitors] for _ in range(options.rounds)]
        medians = np.median(rounds, axis=0)
        _say(f"medians of {options.rounds}: " + ", ".join(f"{one:.0f}" for one in medians) + " us a packet")
    elif options.what == "turn":
        _measure_turns()
    else:
        added_ms = np.array([_measure_latency(options) for _ in range(options.rounds)])
        p50, p99 = np.median(added_ms, axis=0)
        _say(f"median of {options.rounds}: added p50 {p50:.1f}, p99 {p99:.1f} ms")


def _measure_cost(options: argparse.Namespace, monitors: int) -> float:
    """Return the processor time of a packet in microseconds."""
    devices = options.devices * (monitors if options.each else 1)
    with run_cluster(options.nodes, monitors) as cluster, _playing(cluster.nodes[0].url, devices, options.seconds):
        time.sleep(WARM_S)
        before_s, began_s = _cpu_s(cluster.monitors), time.monotonic()
        time.sleep(options.seconds - WARM_S)
        spent_s, passed_s = _cpu_s(cluster.monitors) - before_s, time.monotonic() - began_s
    packet_us, share = float(spent_s / (passed_s * devices) * 1e6), 100 * spent_s / passed_s
    _say(f"{monitors} monitors, {devices} packets a second: {packet_us:.0f} us a packet, {share:.0f} % of a core")
    return packet_us


def _cpu_s(processes: Sequence[subprocess.Popen[bytes]]) -> float:
    times = [psutil.Process(one.pid).cpu_times() for one in processes]
    return float(sum(one.user + one.system for one in times))


def _measure_latency(options: argparse.Namespace) -> Sequence[float]:
    """Return what is added in ms at p50 and p99."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        broker = Broker("mosquitto", Path(folder) / "broker")
        try:
            with _alone(broker.url, Path(folder) / "state"):
                alone_ms = _listen(broker.url, options)
        finally:
            broker.end()
    _print("mosquitto, a file", alone_ms)
    with run_cluster(options.nodes, 1) as cluster:
        shared_ms = _listen(cluster.nodes[0].url, options)
    _print(f"RabbitMQ with {options.nodes} nodes, PostgreSQL", shared_ms)
    added = np.percentile(shared_ms, [50, 99]) - np.percentile(alone_ms, [50, 99])
    _say(f"added: p50 {added[0]:.1f}, p99 {added[1]:.1f} ms")
    return list(added)


@contextmanager
def _alone(url: BrokerUrl, state: Path) -> Iterator[None]:
    """Run a monitor as on one machine."""
    command = [sys.executable, "-m", "monitor", "run", "--broker", str(url), "--state", str(state), "--name", NAME]
    command += ["--beats", "--provider", "cpu", "--alert", f"{ALERTS.n}/{ALERTS.m}", "--silent", "3600"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            with Listener(url) as listener:
                until_s = time.monotonic() + START_S
                while not listener.on_statuses():
                    assert time.monotonic() < until_s, "the monitor did not start"
                    time.sleep(0.1)
            yield
        finally:
            process.send_signal(signal.SIGTERM)


def _listen(url: BrokerUrl, options: argparse.Namespace) -> list[float]:
    """Return how late each beat was told that came after the first seconds, in ms."""
    listener = Listener(url)
    began_s = time.time()
    with _playing(url, options.devices, options.seconds):
        time.sleep(options.seconds)
    told = [(each[0][0], json.loads(each[0][1])["completed_s"]) for each in listener.on_beats().values()]
    late_ms = [1e3 * delay_s for delay_s, completed_s in told if completed_s - began_s > WARM_S]
    listener.close()
    return late_ms


@contextmanager
def _playing(url: BrokerUrl, devices: int, seconds: float) -> Iterator[None]:
    fleet = cut(make_signals(devices, seconds + 5.0), time.time() + 1.0)
    playing = threading.Thread(target=play, args=(url, fleet))
    playing.start()
    try:
        yield
    finally:
        playing.join()


def _measure_turns() -> None:
    """Print the medians for 1, 3, 5 and 10 packets."""
    engine = Engine(load_panel(), AlertSettings())
    fleet = cut(make_signals(400, 40.0), 1e9)
    rounds = zip(*fleet.values(), strict=True)
    packets = ((device, packet) for one in rounds for device, packet in zip(fleet, one, strict=True))
    others = np.ones(OTHERS_BYTES // 8)

    def take(number: int) -> float:
        for device, packet in itertools.islice(packets, number):
            engine.feed(device, packet, packet.start_s)
        began_s = time.thread_time()
        _ = engine.flush().beats
        return 1e6 * (time.thread_time() - began_s)

    take(round(WARM_S) * len(fleet) // 2)
    for number in TURNS:
        warm_us = [take(number) for _ in range(TRIES)]
        cold_us = [take(number) for _ in range(TRIES) if others.sum()]
        warm, cold = np.median(warm_us), np.median(cold_us)
        _say(f"{number} packets: {warm:.0f} us with warm caches, {cold:.0f} us with cold ones")


def _print(what: str, late_ms: Sequence[float]) -> None:
    p50, p99, longest = np.percentile(late_ms, [50, 99, 100])
    _say(f"{what:36} {len(late_ms)} beats: p50 {p50:.1f}, p99 {p99:.1f}, max {longest:.1f} ms")


def _say(text: str) -> None:
    print(f"load {os.getloadavg()[0]:.1f}: {text}", flush=True)


if __name__ == "__main__":
    main()
