"""The scenarios, one function each; its docstring states what must hold."""

from __future__ import annotations

import json
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from monitor.state.location import locate
from tests.brokers import Broker, Kind
from tests.monitor.service.outage import endure
from tests.monitor.service.proxy import Proxy
from tests.soak.fleet import Fleet
from tests.soak.fuzz import fuzz_in_process
from tests.soak.harness import NAME, START_S, Devices, Listener, Monitor, fleet_on_broker, stopping, wait

KILLS = 10
CATCH_UP = 10.0
"""Minimum speed, relative to real time, at which waiting packets must be processed."""
DEFAULTS_SPEED = 5.0
"""Speed, relative to real time, that a broker with its default settings must sustain."""
CUT_S = 30.0
DISORDER = 0.05
"""Fraction of packets that are sent twice, and of those that are sent late, where there are such."""
QUIET_S = 4.0
"""Time without a message after which no more are expected."""
AUTOSAVE_S = 6.0
"""Maximum time between two writes of mosquitto's file: its `autosave_interval`, in whole seconds."""
PLAYED_S = 20.0
NOT_PERSISTENT: tuple[Kind, ...] = ("iotcore", "mosquitto without persistence")
FUZZ_GROWTH_MB = 60.0


@dataclass(frozen=True)
class Outcome:
    """The outcome of a scenario: a line of the table."""

    name: str
    counts: str
    is_met: bool


@dataclass(frozen=True)
class Plan:
    """Size, duration and folder of the scenarios."""

    minutes: float
    devices: int
    """Devices of the steady load."""
    packets: int
    """Packets to fuzz with."""
    folder: Path


def killed_monitor(plan: Plan) -> list[Outcome]:
    """A monitor killed ten times under load loses nothing, and repeats only identical messages."""
    rng = random.Random(1)
    fleet = Fleet(100, max(120.0, 60 * plan.minutes))
    with (
        fleet_on_broker(plan.folder, fleet) as (broker, listener, devices),
        stopping(Monitor(broker.url, plan.folder)) as monitor,
    ):
        start(monitor, listener)
        playing = play(devices, fleet.rounds * fleet.packet_s / 2)
        for _ in range(KILLS):
            time.sleep(rng.uniform(2.0, 6.0))
            monitor.end(signal.SIGKILL)
            monitor.start()
        outcome = finish(
            f"monitor killed -9 {KILLS} times, 100 devices, 400 packets/s", fleet, listener, devices, playing
        )
        monitor.end()
    kept = sum(hour.beats for hour in locate(monitor.state).read_hourly(NAME, 0.0))
    return [
        Outcome(
            outcome.name, f"{outcome.counts}; {kept} beats in the history", outcome.is_met and kept == len(fleet.beats)
        )
    ]


def handover(plan: Plan) -> list[Outcome]:
    """A new monitor is started beside the old one, which then stops: nothing is lost."""
    fleet = Fleet(100, 40.0)
    with (
        fleet_on_broker(plan.folder, fleet) as (broker, listener, devices),
        stopping(Monitor(broker.url, plan.folder)) as old,
        stopping(Monitor(broker.url, plan.folder)) as new,
    ):
        start(old, listener)
        playing = play(devices, 20.0)
        time.sleep(3)
        new.start()
        time.sleep(6)
        old.end()
        return [finish("handover: new monitor waits, old one stops", fleet, listener, devices, playing)]


def stopped_monitor(plan: Plan) -> list[Outcome]:
    """Packets sent while the monitor was stopped are processed afterwards, much faster than real time."""
    seconds = 60.0 * min(plan.minutes, 5.0)
    fleet = Fleet(200, 20.0 + seconds, 1.0)
    with (
        fleet_on_broker(plan.folder, fleet) as (broker, listener, devices),
        stopping(Monitor(broker.url, plan.folder)) as monitor,
    ):
        start(monitor, listener)
        devices.play(10.0, 0, 10)
        monitor.end()
        devices.play(seconds, 10, fleet.rounds - 10)
        monitor.start()
        wait(lambda: listener.is_online, START_S, "the monitor is not online")
        online_s = time.monotonic()
        wait(
            lambda: sum(listener.acks.values()) >= (fleet.rounds - 10) * 200,
            120,
            "the waiting packets were not processed",
        )
        factor = seconds / (time.monotonic() - online_s)
        playing = play(devices, 10.0, fleet.rounds - 10)
        outcome = finish(f"monitor stopped {seconds:.0f} s, 200 devices", fleet, listener, devices, playing)
        counts = f"{outcome.counts}; caught up at {factor:.0f} x real time"
        return [Outcome(outcome.name, counts, outcome.is_met and factor > CATCH_UP)]


def default_broker(plan: Plan) -> list[Outcome]:
    """With mosquitto's defaults, 20 messages in flight and 1000 queued, the monitor sustains five times real time.

    More is not required: with Nagle's algorithm on, the broker sometimes pauses for 40 ms, and drops what does not fit
    its queue meanwhile.
    """
    fleet = Fleet(200, 60.0, 1.0)
    with (
        fleet_on_broker(plan.folder, fleet, "mosquitto by default") as (broker, listener, devices),
        stopping(Monitor(broker.url, plan.folder)) as monitor,
    ):
        start(monitor, listener)
        devices.play(10.0, 0, 10)
        playing = play(devices, (fleet.rounds - 10) / DEFAULTS_SPEED, 10)
        name = (
            f"mosquitto's defaults (20 in flight), 200 devices, 10 s at 1 x, 50 s at {DEFAULTS_SPEED:.0f} x real time"
        )
        return [finish(name, fleet, listener, devices, playing)]


def restarted_broker(plan: Plan) -> list[Outcome]:
    """A broker that is stopped or killed and restarted: the monitor continues, and lost packets are counted."""
    return [
        _restart_broker(plan, "stopped by SIGTERM", signal.SIGTERM, False),
        _restart_broker(plan, "killed -9", signal.SIGKILL, False),
        _restart_broker(plan, "killed -9 while the monitor is away", signal.SIGKILL, True),
    ]


def _restart_broker(plan: Plan, how: str, number: signal.Signals, away: bool) -> Outcome:
    fleet, folder = Fleet(100, 40.0), plan.folder / f"{number.name}-{away}"
    with (
        fleet_on_broker(folder, fleet) as (broker, listener, devices),
        stopping(Monitor(broker.url, folder)) as monitor,
    ):
        start(monitor, listener)
        playing = play(devices, PLAYED_S)
        time.sleep(5)
        if away:
            monitor.end()
        time.sleep(3.3)
        broker.end(number)
        time.sleep(2)
        broker.start()
        if away:
            monitor.start()
        outcome = finish(f"mosquitto {how}", fleet, listener, devices, playing)
        monitor.end()
        if not away:
            return outcome
        # Packets that the broker confirmed after it last wrote its file are lost; each device's loss must be reported.
        lost = fleet.packets - _processed(listener)
        reported = {alert["device"] for alert in map(json.loads, listener.alerts.values()) if alert["kind"] == "gap"}
        counts = (
            f"{fleet.packets} packets, {lost} lost: confirmed by mosquitto since its last autosave_interval (5 s); "
            f"reported as gaps of {len(reported)} devices"
        )
        limit = AUTOSAVE_S * len(fleet.ids) * fleet.rounds / PLAYED_S
        return Outcome(outcome.name, counts, lost <= limit and (lost == 0 or len(reported) > 0))


def resent(plan: Plan) -> list[Outcome]:
    """Devices that keep their packets until the monitor's `ack` lose nothing when a broker loses everything."""
    return [_kill_broker_without_persistence(kind, plan.folder / kind) for kind in NOT_PERSISTENT]


def _kill_broker_without_persistence(kind: Kind, folder: Path) -> Outcome:
    broker, rng = Broker(kind, folder), random.Random(kind)

    def outage() -> None:
        time.sleep(rng.uniform(3, 6))
        line.stalled = True
        time.sleep(1)  # what the broker confirms to devices now does not reach the monitor
        broker.end(signal.SIGKILL)
        line.cut()
        line.stalled = False
        time.sleep(rng.uniform(0, 2))
        broker.start()

    try:
        with Proxy(broker.url.port) as line:
            endured = endure(broker.url, folder / "state", outage, outage, monitored_at=line.url)
    finally:
        broker.end(signal.SIGKILL)
    beats, alerts, summary = endured.expected_beats, endured.expected_alerts, endured.summary
    counts = (
        f"{summary.packets} packets, {summary.resent} resent; {len(beats)} beats, {len(beats - endured.beats)} "
        f"missing, {len(endured.beats - beats)} wrong; {len(alerts)} alerts, {len(alerts - endured.alerts)} missing, "
        f"{len(endured.alerts - alerts)} wrong; breaks counted: {endured.breaks or 0}"
    )
    return Outcome(f"{kind}, killed -9 twice, devices resend", counts, endured.is_whole and summary.resent > 0)


def _processed(listener: Listener) -> int:
    """Packets that monitors processed, each counted once."""
    wait(lambda: not listener.is_online, 10.0, "the monitor did not go offline")
    return listener.total("packets") - listener.total("duplicates")


def cut_network(plan: Plan) -> list[Outcome]:
    """The network is down for half a minute, packets are duplicated and reordered: no beat is missing or wrong."""
    fleet = Fleet(100, 60.0)
    with (
        fleet_on_broker(plan.folder, fleet) as (broker, listener, devices),
        Proxy(broker.url.port) as line,
        stopping(Monitor(line.url, plan.folder)) as monitor,
    ):
        start(monitor, listener)
        playing = play(devices, 60.0, disorder=DISORDER)
        time.sleep(10)
        line.stalled = True
        time.sleep(CUT_S)
        line.cut()
        line.stalled = False
        name = f"network cut {CUT_S:.0f} s, 5 % of packets twice, 5 % late"
        return [finish(name, fleet, listener, devices, playing)]


def full_disk(plan: Plan) -> list[Outcome]:
    """A full disk and a damaged file stop nothing, and are reported."""
    return [
        _with_fault(plan, "disk full from the start, then not", _start_with_a_full_disk, _wait_and_make_room),
        _with_fault(plan, "disk full in the middle, then not", start, _fill_disk_and_make_room),
        _with_fault(plan, "database overwritten before the start", _start_with_garbage, _await_count),
        _with_fault(plan, "database overwritten while it is in use", start, _overwrite),
    ]


def _with_fault(
    plan: Plan,
    name: str,
    start: Callable[[Monitor, Listener], None],
    inject: Callable[[Monitor, Listener], str],
) -> Outcome:
    """Inject a fault into a monitor during play; then kill it, and play on."""
    fleet, folder = Fleet(20, 140.0), plan.folder / name.replace(" ", "-")
    with (
        fleet_on_broker(folder, fleet) as (broker, listener, devices),
        stopping(Monitor(broker.url, folder)) as monitor,
    ):
        start(monitor, listener)
        playing = play(devices, 30.0, 0, fleet.rounds - 40)
        time.sleep(3)
        reported = inject(monitor, listener)
        playing.join()
        is_alive, fault_at_end = monitor.is_alive, listener.statuses[-1].get("fault")
        time.sleep(6.0)  # until everything is acknowledged
        monitor.end(signal.SIGKILL)
        monitor.start()
        outcome = finish(name, fleet, listener, devices, play(devices, 5.0, fleet.rounds - 40))
        counts = f"{outcome.counts}; fault in status: {reported!r}, then {fault_at_end!r}; killed -9 later"
        return Outcome(name, counts, outcome.is_met and is_alive and bool(reported) and fault_at_end is None)


def _start_with_a_full_disk(monitor: Monitor, listener: Listener) -> None:
    monitor.start(max_bytes=2000)
    _await_fault(listener)


def _wait_and_make_room(monitor: Monitor, listener: Listener) -> str:
    fault = _await_fault(listener)
    monitor.limit_files()
    _await_recovery(listener)
    return fault


def _fill_disk_and_make_room(monitor: Monitor, listener: Listener) -> str:
    monitor.limit_files(8192)
    return _wait_and_make_room(monitor, listener)


def _start_with_garbage(monitor: Monitor, listener: Listener) -> None:
    monitor.state.mkdir(parents=True)
    (monitor.state / "soak.db").write_bytes(random.Random(0).randbytes(100_000))
    start(monitor, listener)


def _overwrite(monitor: Monitor, listener: Listener) -> str:
    rng = random.Random(0)
    for suffix in ("", "-wal"):
        with open(f"{monitor.state}/soak.db{suffix}", "r+b") as file:
            size = file.seek(0, 2)
            file.seek(0)
            file.write(rng.randbytes(size))
    return _await_count(monitor, listener)


def _await_count(monitor: Monitor, listener: Listener) -> str:
    wait(lambda: listener.counts.get("store faults"), 30.0, "no damage was reported")
    return f"{listener.counts['store faults']} store faults"


def _await_fault(listener: Listener) -> str:
    wait(lambda: listener.is_online and listener.statuses[-1].get("fault"), START_S, "no fault was reported")
    return str(listener.statuses[-1]["fault"]).rpartition(": ")[2]


def _await_recovery(listener: Listener) -> None:
    wait(lambda: listener.statuses[-1].get("fault") is None, 40.0, "the fault did not end")


def fuzzed(plan: Plan) -> list[Outcome]:
    """No message stops the monitor, makes its memory grow, or changes another device's beats."""
    result = fuzz_in_process(plan.packets, plan.folder)
    name = f"{plan.packets} fuzzed packets"
    if result is None:
        return [Outcome(name, "the process died", False)]
    counts = (
        f"{result.rejected} rejected, {result.internal_errors} internal errors; memory {result.before_mb:.0f} -> "
        f"{result.after_mb:.0f} MB (bound +{FUZZ_GROWTH_MB:.0f}); healthy device: {result.beats} beats, "
        f"{result.missing} missing, {result.wrong} wrong"
    )
    grown = result.after_mb - result.before_mb
    is_met = not (result.internal_errors or result.missing or result.wrong) and grown < FUZZ_GROWTH_MB
    return [Outcome(name, counts, is_met and result.beats > 100)]


def start(monitor: Monitor, listener: Listener) -> None:
    monitor.start()
    wait(lambda: listener.is_online, START_S, "the monitor is not online")


def play(
    devices: Devices, seconds: float, first: int = 0, last: int | None = None, disorder: float = 0.0
) -> threading.Thread:
    playing = threading.Thread(target=devices.play, args=(seconds, first, last, disorder), daemon=True)
    playing.start()
    return playing


def _await_quiet(listener: Listener, is_complete: Callable[[], bool]) -> None:
    """Wait until everything has arrived or, after the time of two starts of the monitor, nothing more arrives."""
    began_s = time.monotonic()
    while not is_complete() and time.monotonic() - max(began_s + 10, listener.last_message_s) < QUIET_S:
        time.sleep(0.1)
    time.sleep(1)


def finish(name: str, fleet: Fleet, listener: Listener, devices: Devices, playing: threading.Thread) -> Outcome:
    """Wait until everything was sent, confirmed and published, and count."""
    playing.join()
    devices.finish()
    packets = fleet.packets
    _await_quiet(
        listener,
        lambda: (
            sum(listener.acks.values()) >= packets
            and listener.beats.keys() >= fleet.beats.keys()
            and listener.alerts.keys() >= fleet.alerts.keys()
        ),
    )
    beats, beats_wrong = _compare(fleet.beats, listener.beats)
    alerts, alerts_wrong = _compare(fleet.alerts, listener.alerts)
    unacknowledged = packets - sum(listener.acks.values())
    counts = (
        f"{packets} packets, {unacknowledged} not acknowledged; "
        f"{len(fleet.beats)} beats, {beats} missing, {beats_wrong} wrong; "
        f"{len(fleet.alerts)} alerts, {alerts} missing, {alerts_wrong} wrong; "
        f"{listener.repeated} repeated, {listener.different} of them not identical"
    )
    return Outcome(
        name, counts, not (unacknowledged or beats or beats_wrong or alerts or alerts_wrong or listener.different)
    )


def _compare(expected: dict[str, bytes], received: dict[str, bytes]) -> tuple[int, int]:
    """Count the missing and the wrong messages."""
    published = dict(received)
    return len(expected.keys() - published.keys()), sum(
        expected.get(id_) != payload for id_, payload in published.items()
    )


SCENARIOS: dict[str, Callable[[Plan], list[Outcome]]] = {
    "kill": killed_monitor,
    "handover": handover,
    "away": stopped_monitor,
    "defaults": default_broker,
    "broker": restarted_broker,
    "resend": resent,
    "network": cut_network,
    "disk": full_disk,
    "fuzz": fuzzed,
}
