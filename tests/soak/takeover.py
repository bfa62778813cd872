"""How soon another monitor goes on with the devices of one that dies or freezes: `python -m tests.soak.takeover`.

For each device of the monitor to which it is done: the longest time from the end of a packet to the first message about
a beat in it, of the packets around that moment. So what was told before, and what is told late, both count as they do
for whoever waits for an alert. Also how many monitors to which nothing was done lost their connection meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from monitor.broker.amqp import AmqpSource
from monitor.broker.amqp_connection import ClusterUrl, Login
from monitor.broker.mqtt import MqttSource
from monitor.broker.topology import Topology
from monitor.tools.bench.harness import cpu_name
from monitor.tools.cluster import read_status
from tests.rabbitmq import address
from tests.soak.cluster import NAME, TOPICS, Cluster, Listener, cut, make_signals, play, run_cluster
from tests.subscriber import Subscriber

WAIT_S = 60.0
BEFORE_S = 1.0
"""Packets that ended so long before it was done are looked at."""
REST_S = 8.0
"""Between two times, when all monitors have their share again."""
LOST = "lost the cluster at"


def find_partitions(cluster: Cluster, devices: Sequence[str]) -> dict[str, int]:
    """Return to which partition each device belongs; no monitor may run yet."""
    node = cluster.nodes[0]
    out = MqttSource(node.url, "takeover-finds", [], clean=True)
    source = AmqpSource(Login(ClusterUrl.parse(address(cluster.nodes))), Topology.of_fleet(NAME, TOPICS.prefix), out)
    source.open()
    found: dict[str, int] = {}
    with Subscriber(node.url) as sender:
        for device in devices:
            sender.publish(TOPICS.of(device, "samples"), b"")
        until_s = time.monotonic() + WAIT_S
        while len(found) < len(devices):
            assert time.monotonic() < until_s, "not all devices were seen"
            messages = source.poll(0.1, 1000)
            found |= {TOPICS.parse(one.topic)[0]: one.partition for one in messages if one.partition is not None}
            source.ack([one.token for one in messages if one.token is not None])
            source.flush()
    source.close()
    return found


def main(words: Sequence[str] | None = None) -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5, help="how often it is done")
    parser.add_argument("--how", choices=("kill", "freeze"), default="kill")
    parser.add_argument("--devices", type=int, default=200)
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--monitors", type=int, default=3)
    parser.add_argument("--heartbeat", type=int, help="seconds")
    options = parser.parse_args(words)
    late_s = 20.0 if options.how == "freeze" else 5.0
    seconds = options.times * (2 * REST_S + late_s) + 30.0  # a monitor starts in less than the second REST_S
    print(f"{cpu_name()}, load {os.getloadavg()[0]:.1f}", flush=True)
    with tempfile.TemporaryDirectory() as folder, run_cluster(options.nodes, 0, Path(folder)) as cluster:
        cluster.query = f"?heartbeat={options.heartbeat}" if options.heartbeat else ""
        signals = make_signals(options.devices, seconds)
        partitions = find_partitions(cluster, list(signals))
        for _ in range(options.monitors):
            cluster.start_monitor()
        cluster.wait_for(options.monitors)
        listener = Listener(cluster.nodes[0].url)
        cluster.stack.callback(listener.close)
        playing = threading.Thread(target=play, args=(cluster.nodes[0].url, cut(signals, time.time() + 1.0)))
        playing.daemon = True
        playing.start()
        time.sleep(2 * REST_S)
        done = [_do(cluster, partitions, options.how, late_s) for _ in range(options.times)]
        _print(listener, done, late_s)
        lost = _find_lost(Path(folder), done)
        print("\n".join([f"connections lost by monitors to which nothing was done: {len(lost)}", *lost]))


def _do(cluster: Cluster, partitions: dict[str, int], how: str, late_s: float) -> tuple[int, float, set[str]]:
    """Do it to the monitor that has run longest; return its number, when, and which devices it had."""
    running = [k for k, one in enumerate(cluster.monitors) if one.poll() is None]
    number, monitors = running[0], len(running)
    victim = cluster.monitors[number]
    owned = {
        one.number
        for one in read_status(cluster.settings).partitions
        if one.owner is not None and one.owner.split()[-1] == str(victim.pid)
    }
    time.sleep(np.random.default_rng(number).uniform(0.0, 1.0))
    at_s = time.time()
    victim.send_signal(signal.SIGKILL if how == "kill" else signal.SIGSTOP)
    time.sleep(late_s)
    _end(victim)
    cluster.start_monitor()
    cluster.wait_for(monitors)
    time.sleep(REST_S)
    return number, at_s, {device for device, partition in partitions.items() if partition in owned}


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(20)


def _print(listener: Listener, done: Sequence[tuple[int, float, set[str]]], late_s: float) -> None:
    told: dict[str, list[tuple[float, float]]] = {}  # by device: end of the packet, delay of the first message
    for [(delay_s, payload), *_] in listener.on_beats().values():
        beat = json.loads(payload)
        told.setdefault(beat["device"], []).append((beat["completed_s"], delay_s))
    worst_s = []
    for number, at_s, devices in done:
        ones = [
            max((delay_s for end_s, delay_s in told[device] if at_s - BEFORE_S <= end_s <= at_s + late_s), default=0.0)
            for device in sorted(devices & told.keys())
        ]
        worst_s += ones
        print(f"monitor {number}, {len(ones)} devices: p50 {np.median(ones):.2f} s, at most {max(ones):.2f} s")
    p50, p99, longest = np.percentile(worst_s, [50, 99, 100])
    print(
        f"end of the packet to the first message, {len(worst_s)} devices: p50 {p50:.2f}, p99 {p99:.2f}, "
        f"max {longest:.2f} s"
    )


def _find_lost(folder: Path, done: Sequence[tuple[int, float, set[str]]]) -> list[str]:
    hit = {number for number, _, _ in done}
    logs = [path for path in folder.glob("monitor*.log") if int(path.stem.removeprefix("monitor")) not in hit]
    return [f"{path.stem}: {line}" for path in logs for line in path.read_text().splitlines() if LOST in line]


if __name__ == "__main__":
    main()
