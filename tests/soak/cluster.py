"""A cluster on one machine, a fleet on it, and what faults cost: `python -m tests.soak.cluster`, `make cluster-demo`.

Starts RabbitMQ, PostgreSQL and three monitors, plays devices in real time, and meanwhile kills a monitor, lets another
join, has one leave, and freezes one past its takeover; with three nodes one of them is killed, too, and started again.
With `--faults database` it kills and restarts PostgreSQL instead, and takes it away for a minute. At the end every beat
and every alert is compared with what one engine finds that nothing befalls.
RabbitMQ and PostgreSQL must be installed, but need not run: they get ports and directories of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from monitor import wire
from monitor.broker import connection
from monitor.broker.amqp_connection import ClusterUrl
from monitor.state.location import locate
from monitor.tools.cluster import ClusterSettings, init, read_status
from tests.monitor.service.crash_harness import ALERTS, undisturbed
from tests.monitor.synthetic_ecg import beat_times, make_ecg
from tests.postgres import Postgres, run_postgres
from tests.rabbitmq import Node, address, run_rabbitmq
from tests.subscriber import Subscriber

RATE_HZ, PACKET_S, NAME, PARTITIONS = 250.0, 1.0, "fleet", 16
TOPICS = wire.Topics()
Samples = npt.NDArray[np.int16]
HEARTS = 40
INFO = wire.Info(rate_hz=RATE_HZ, lead="II", resolution_uv=1.0, first_seen_s=1e9)
LATE_S = 60.0
"""How long the last beats may take."""
THAWED_S = 10.0
"""So soon a monitor that was frozen finds that others have its devices, if anything was on its way to the store."""
TOLD_S = 12.0
"""After so long every status tells what is wrong, or that nothing is: they come every 10 s."""


class Listener(Subscriber):
    """Notes when each beat and each alert was told first, and how often."""

    def __init__(self, url: connection.BrokerUrl) -> None:
        self.times_s: list[float] = []
        topics = TOPICS.of("+", "beats"), TOPICS.of("+", "alerts"), TOPICS.monitor_status("+")
        super().__init__(url, *topics, before=lambda: self.times_s.append(time.time()))

    def on_beats(self) -> dict[str, list[tuple[float, bytes]]]:
        return self._sorted("beats")

    def on_alerts(self) -> dict[str, list[tuple[float, bytes]]]:
        return self._sorted("alerts")

    def on_statuses(self) -> list[tuple[float, wire.MonitorStatus]]:
        """Statuses of monitors, and when they came."""
        return [
            (time_s, wire.decode(payload, wire.MonitorStatus))
            for time_s, (topic, payload) in zip(self.times_s, self.received, strict=False)
            if topic.endswith("/status") and payload
        ]

    def _sorted(self, leaf: str) -> dict[str, list[tuple[float, bytes]]]:
        found: dict[str, list[tuple[float, bytes]]] = {}
        for time_s, (topic, payload) in zip(self.times_s, self.received, strict=False):
            if topic.endswith(f"/{leaf}"):
                one = json.loads(payload)
                found.setdefault(f"{one['id']} {one.get('state', '')}", []).append(
                    (time_s - one["completed_s"], payload)
                )
        return found


@dataclass
class Cluster:
    """What runs."""

    nodes: list[Node]
    database: Postgres
    stack: ExitStack
    logs: Path | None
    query: str = ""
    """What monitors add to the cluster's URL."""
    monitors: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def settings(self) -> ClusterSettings:
        """Where it is."""
        return ClusterSettings(ClusterUrl.parse(address(self.nodes)), self.database.url, NAME)

    def start_monitor(self) -> subprocess.Popen[bytes]:
        """Start one more monitor."""
        command = [
            sys.executable, "-m", "monitor", "run", "--source", address(self.nodes) + self.query,
            "--store", self.database.url, "--broker", str(self.nodes[0].url), "--name", NAME, "--beats",
            "--provider", "cpu", "--alert", f"{ALERTS.n}/{ALERTS.m}", "--silent", "3600",
        ]  # fmt: skip
        where = os.devnull if self.logs is None else self.logs / f"monitor{len(self.monitors)}.log"
        with open(where, "w") as log:
            process = subprocess.Popen(command, stderr=log)
        self.monitors.append(process)
        self.stack.callback(_end, process)
        return process

    def wait_for(self, processes: int) -> None:
        """Wait until so many monitors share the partitions."""
        until_s = time.monotonic() + 300.0
        while read_status(self.settings).processes != processes:
            assert time.monotonic() < until_s, f"{processes} monitors did not come together"
            time.sleep(0.2)


@contextmanager
def run_cluster(nodes: int, monitors: int, logs: Path | None = None) -> Iterator[Cluster]:
    """Run a cluster with so many nodes and monitors; those log in a directory, if one is named."""
    with ExitStack() as stack:
        made = Cluster(stack.enter_context(run_rabbitmq(nodes)), stack.enter_context(run_postgres()), stack, logs)
        init(made.settings, PARTITIONS, "quorum")
        for _ in range(monitors):
            made.start_monitor()
        made.wait_for(monitors)
        yield made


def make_signals(devices: int, seconds: float) -> dict[str, Samples]:
    """Return each device's ECG, of one of `HEARTS` heart rates; after a minute it is played again."""
    piece_s, size = min(seconds, 60.0), round(seconds * RATE_HZ)
    rates = range(min(devices, HEARTS))
    ecgs = [make_ecg(beat_times(piece_s, 0.36 + 0.6 * heart / HEARTS), piece_s, RATE_HZ) for heart in rates]
    return {f"d{number}": np.resize(ecgs[number % HEARTS], size) for number in range(devices)}


def cut(signals: dict[str, Samples], began_s: float) -> dict[str, list[wire.Packet]]:
    """Cut signals into packets; the devices begin one after the other, within a packet's length."""
    size = round(RATE_HZ * PACKET_S)
    return {
        device: [
            wire.Packet(
                seq, began_s + (place / len(signals) + seq) * PACKET_S, RATE_HZ, samples[seq * size : (seq + 1) * size]
            )
            for seq in range(samples.size // size)
        ]
        for place, (device, samples) in enumerate(signals.items())
    }


def play(url: connection.BrokerUrl, fleet: dict[str, list[wire.Packet]]) -> None:
    """Publish each packet when it ends."""
    client = connection.make_client(url, "fleet-devices")
    connection.connect(client, url)
    client.loop_start()
    sent = []
    for number, packets in enumerate(zip(*fleet.values(), strict=True)):
        for device, packet in zip(fleet, packets, strict=True):
            if number == 0:
                sent.append(client.publish(TOPICS.of(device, "info"), wire.encode(INFO), qos=1))
            time.sleep(max(0.0, packet.start_s + PACKET_S - time.time()))
            sent.append(client.publish(TOPICS.of(device, "samples"), wire.encode_packet(packet), qos=1))
    for one in sent:
        one.wait_for_publish(60)
    client.disconnect()
    client.loop_stop()


def main(words: Sequence[str] | None = None) -> int:
    """Run the demonstration; return 1 if anything was lost or changed, else 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=75.0)
    parser.add_argument("--nodes", type=int, default=1, help="of RabbitMQ; with 3, one of them is killed as well")
    parser.add_argument("--monitors", type=int, default=3)
    parser.add_argument("--faults", choices=FAULTS, default="monitors", help="what they are done to")
    parser.add_argument("--freeze", type=float, default=20.0, help="seconds for which a monitor is frozen")
    parser.add_argument("--away", type=float, default=60.0, help="seconds for which the database is away")
    parser.add_argument("--logs", type=Path, help="directory for what the monitors log")
    options = parser.parse_args(words)
    if options.monitors < 3 and options.faults == "monitors":
        parser.error(
            f"one each is killed, told to stop and frozen: got {options.monitors} monitors, expected at least 3"
        )
    print("starting RabbitMQ, PostgreSQL and the monitors (half a minute)", flush=True)
    signals = make_signals(options.devices, options.seconds)
    with run_cluster(options.nodes, options.monitors, options.logs) as cluster:
        listener = Listener(cluster.nodes[0].url)
        cluster.stack.callback(listener.close)
        fleet = cut(signals, time.time() + 1.0)
        playing = threading.Thread(target=play, args=(cluster.nodes[0].url, fleet))
        playing.start()
        away_s = FAULTS[options.faults](cluster, options)
        playing.join()
        bad = _report(cluster, listener, *undisturbed(fleet, INFO), options)
        return int(bad or (away_s is not None and not _tells(listener, *away_s)))


def _disturb_database(cluster: Cluster, options: argparse.Namespace) -> tuple[float, float]:
    """Kill and restart the database, and take it away for a while; return from when to when."""
    time.sleep(options.seconds / 10)
    _say("PostgreSQL is killed with -9, and started again")
    cluster.database.restart(signal.SIGKILL, 0.0)
    time.sleep(options.seconds / 10)
    _say(f"PostgreSQL is gone for {options.away:g} s")
    began_s = time.time()
    cluster.database.restart(signal.SIGINT, options.away)
    _say("and is back")
    return began_s, time.time()


def _tells(listener: Listener, began_s: float, ended_s: float) -> bool:
    """Print what came while the database was away; return whether alerts went on, and the statuses told of it."""
    beats = [(json.loads(each[0][1])["completed_s"], each[0][0]) for each in listener.on_beats().values()]
    during_s = [delay_s for completed_s, delay_s in beats if began_s <= completed_s <= ended_s]
    p50, p99, longest = np.percentile(during_s or [np.inf], [50, 99, 100])
    print(f"beats while it was away{'':5} {len(during_s)}: p50 {p50:.3f}, p99 {p99:.2f}, max {longest:.2f} s")
    statuses = listener.on_statuses()
    told = [one for at_s, one in statuses if began_s + TOLD_S < at_s < ended_s and one.state != "offline"]
    after = [one for at_s, one in statuses if at_s > ended_s + TOLD_S]
    faulty, unsaved_s = sum(one.fault is not None for one in told), max((one.unsaved_s for one in told), default=0.0)
    print(
        f"statuses meanwhile{'':10} {faulty} of {len(told)} name the fault, packets unsaved for up to {unsaved_s:.0f} s"
    )
    print(f"statuses afterwards{'':9} {sum(one.fault is not None for one in after)} of {len(after)} name a fault")
    return faulty == len(told) > 0 and longest < ended_s - began_s and not any(one.fault for one in after)


def _disturb_monitors(cluster: Cluster, options: argparse.Namespace) -> None:
    """Kill, join, leave, freeze and thaw monitors, and kill and restart a node if there are more."""
    first, second, third = cluster.monitors[:3]
    pause_s = max(1.0, (options.seconds - options.freeze - THAWED_S) / 8)
    time.sleep(2 * pause_s)
    _say("a monitor is killed with -9")
    first.kill()
    time.sleep(pause_s)
    _say("another joins")
    cluster.start_monitor()
    if len(cluster.nodes) > 1:
        time.sleep(pause_s)
        _say("a node of RabbitMQ is killed with -9")
        cluster.nodes[-1].end(signal.SIGKILL)
        time.sleep(pause_s)
        _say("and started again")
        cluster.nodes[-1].start()
    time.sleep(pause_s)
    _say("a monitor is told to stop, and another is started")
    third.terminate()
    cluster.start_monitor()
    time.sleep(pause_s)
    _say(f"a monitor is frozen for {options.freeze:g} s")
    second.send_signal(signal.SIGSTOP)
    time.sleep(options.freeze)
    _say("and thawed: others have had its devices for a while")
    second.send_signal(signal.SIGCONT)
    try:
        second.wait(THAWED_S)
    except subprocess.TimeoutExpired:
        return  # nothing of it was on its way to the store
    _say("it has found that it was superseded, and ends; another is started, as systemd would")
    cluster.start_monitor()


def _report(
    cluster: Cluster, listener: Listener, beats: set[str], alerts: set[str], options: argparse.Namespace
) -> int:
    owners = "\n".join(_status_lines(cluster))  # later nothing comes any more, and nobody takes over
    until_s = time.monotonic() + LATE_S
    while time.monotonic() < until_s and not ({key.split()[0] for key in listener.on_beats()} >= beats):
        time.sleep(0.5)
    time.sleep(12.0)  # the last are saved after ten seconds
    counted = sum(row.beats for row in locate(cluster.database.url).read_hourly(NAME, 0.0))
    print(f"\n{options.devices} devices for {options.seconds:g} s; when the last had sent: {owners}")
    bad = _compare("beats", beats, listener.on_beats()) + _compare("alerts", alerts, listener.on_alerts())
    print(f"{'hourly counts':15} {counted} beats, {len(beats)} expected")
    is_bad = bad > 0 or counted != len(beats)
    print("SOMETHING WAS LOST OR CHANGED" if is_bad else "Nothing was lost, and nothing was told differently.")
    return int(is_bad)


def _compare(what: str, expected: set[str], told: dict[str, list[tuple[float, bytes]]]) -> int:
    """Print what became of beats or alerts; return how many are missing, different, or too many."""
    ids = {key.split()[0] for key in told}
    different = sum(len({payload for _, payload in each}) > 1 for each in told.values())
    twice = sum(len(each) - 1 for each in told.values())
    first_s = np.array([each[0][0] for each in told.values()] or [0.0])
    missing, more = len(expected - ids), len(ids - expected)
    print(f"{what:15} {len(expected)} expected, {missing} missing, {more} too many, {different} told differently")
    print(f"{'':15} {twice} told once more by whoever took over, with the id and the content of before")
    if missing or more:
        print(f"{'':15} missing {sorted(expected - ids)[:9]}, too many {sorted(ids - expected)[:9]}")
    p50, p99, longest = np.percentile(first_s, [50, 99, 100])
    print(f"{'':15} from the end of its packet to the first message: p50 {p50:.3f}, p99 {p99:.2f}, max {longest:.2f} s")
    return missing + more + different


def _status_lines(cluster: Cluster) -> list[str]:
    found = read_status(cluster.settings)
    owned = sorted(Counter(one.owner for one in found.partitions if one.owner is not None).values())
    return [
        f"{found.processes} monitors, which have {', '.join(map(str, owned))} of {PARTITIONS} partitions",
        f"{len(cluster.nodes)} x {found.broker}; {found.store}",
    ]


FAULTS: dict[str, Callable[[Cluster, argparse.Namespace], tuple[float, float] | None]] = {
    "monitors": _disturb_monitors,
    "database": _disturb_database,
}


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait(20)


if __name__ == "__main__":
    sys.exit(main())
