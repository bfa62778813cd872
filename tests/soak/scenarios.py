"""The faults, one function each; what each promises stands in its docstring."""

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
from tests.soak.fuzz import fuzz_apart
from tests.soak.harness import NAME, START_S, Devices, Listener, Monitor, stage, wait, watched

KILLS = 10
CATCH_UP = 10.0
"""So many times as fast as they were sent, packets that waited must be taken at least."""
KEPT_UP = 5.0
"""So many times real time must be kept up with where the broker has its own settings."""
CUT_S = 30.0
MISCHIEF = 0.05
"""Share of packets that come twice, and of those that come late, in the row that has them."""
QUIET_S = 4.0
"""After so long without a message, nothing more is expected."""
AUTOSAVE_S = 6.0
"""mosquitto writes its file at least so often: each `autosave_interval`, in whole seconds."""
PLAYED_S = 20.0
FORGETFUL: tuple[Kind, ...] = ("iotcore", "mosquitto without persistence")
FUZZ_GROWTH_MB = 60.0


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    name: str
    counts: str
    is_met: bool


@dataclass(frozen=True)
class Plan:
    """How long and where."""

    minutes: float
    devices: int
    """To load with."""
    packets: int
    """To fuzz with."""
    folder: Path


def killed_monitor(plan: Plan) -> list[Row]:
    """A monitor killed ten times under load loses nothing, and repeats only what it had said."""
    rng = random.Random(1)
    fleet = Fleet(100, max(120.0, 60 * plan.minutes))
    with stage(plan.folder, fleet) as (broker, heard, devices), watched(Monitor(broker.url, plan.folder)) as monitor:
        start(monitor, heard)
        playing = play(devices, fleet.rounds * fleet.packet_s / 2)
        for _ in range(KILLS):
            time.sleep(rng.uniform(2.0, 6.0))
            monitor.end(signal.SIGKILL)
            monitor.start()
        row = finish(f"monitor killed -9 {KILLS} times, 100 devices, 400 packets/s", fleet, heard, devices, playing)
        monitor.end()
    kept = sum(hour.beats for hour in locate(monitor.state).read_hourly(NAME, 0.0))
    return [Row(row.name, f"{row.counts}; {kept} beats in the history", row.is_met and kept == len(fleet.beats))]


def handover(plan: Plan) -> list[Row]:
    """A new monitor is started beside the old one, which then stops: nothing is lost."""
    fleet = Fleet(100, 40.0)
    with (
        stage(plan.folder, fleet) as (broker, heard, devices),
        watched(Monitor(broker.url, plan.folder)) as old,
        watched(Monitor(broker.url, plan.folder)) as new,
    ):
        start(old, heard)
        playing = play(devices, 20.0)
        time.sleep(3)
        new.start()
        time.sleep(6)
        old.end()
        return [finish("handover: new monitor waits, old one stops", fleet, heard, devices, playing)]


def stopped_monitor(plan: Plan) -> list[Row]:
    """What came while the monitor was stopped is caught up with, much faster than it came."""
    seconds = 60.0 * min(plan.minutes, 5.0)
    fleet = Fleet(200, 20.0 + seconds, 1.0)
    with stage(plan.folder, fleet) as (broker, heard, devices), watched(Monitor(broker.url, plan.folder)) as monitor:
        start(monitor, heard)
        devices.play(10.0, 0, 10)
        monitor.end()
        devices.play(seconds, 10, fleet.rounds - 10)
        monitor.start()
        wait(lambda: heard.is_online, START_S, "the monitor is not online")
        came_s = time.monotonic()
        wait(lambda: sum(heard.acks.values()) >= (fleet.rounds - 10) * 200, 120, "what waited was not taken")
        factor = seconds / (time.monotonic() - came_s)
        playing = play(devices, 10.0, fleet.rounds - 10)
        row = finish(f"monitor stopped {seconds:.0f} s, 200 devices", fleet, heard, devices, playing)
        counts = f"{row.counts}; caught up at {factor:.0f} x real time"
        return [Row(row.name, counts, row.is_met and factor > CATCH_UP)]


def default_broker(plan: Plan) -> list[Row]:
    """With mosquitto's own settings, 20 messages in flight and 1000 queued, five times real time is kept up with.

    More is not asked for: with Nagle's algorithm on, the broker now and then lets 40 ms go by, and drops what it has no
    room for meanwhile.
    """
    fleet = Fleet(200, 60.0, 1.0)
    with (
        stage(plan.folder, fleet, "mosquitto by default") as (broker, heard, devices),
        watched(Monitor(broker.url, plan.folder)) as monitor,
    ):
        start(monitor, heard)
        devices.play(10.0, 0, 10)
        playing = play(devices, (fleet.rounds - 10) / KEPT_UP, 10)
        name = f"mosquitto's defaults (20 in flight), 200 devices, 10 s at 1 x and 50 s at {KEPT_UP:.0f} x real time"
        return [finish(name, fleet, heard, devices, playing)]


def restarted_broker(plan: Plan) -> list[Row]:
    """A broker that is stopped or killed and comes back: the monitor goes on, and what is lost is counted."""
    return [
        _restart_broker(plan, "stopped politely", signal.SIGTERM, False),
        _restart_broker(plan, "killed -9", signal.SIGKILL, False),
        _restart_broker(plan, "killed -9 while the monitor is away", signal.SIGKILL, True),
    ]


def _restart_broker(plan: Plan, how: str, number: signal.Signals, away: bool) -> Row:
    fleet, folder = Fleet(100, 40.0), plan.folder / f"{number.name}-{away}"
    with stage(folder, fleet) as (broker, heard, devices), watched(Monitor(broker.url, folder)) as monitor:
        start(monitor, heard)
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
        row = finish(f"mosquitto {how}", fleet, heard, devices, playing)
        monitor.end()
        if not away:
            return row
        # Packets are gone that the broker had confirmed after it wrote its file; each device's loss must be told.
        lost = fleet.packets - _handled(heard)
        told = {alert["device"] for alert in map(json.loads, heard.alerts.values()) if alert["kind"] == "gap"}
        counts = (
            f"{fleet.packets} packets, {lost} lost: confirmed by mosquitto since its last autosave_interval (5 s); "
            f"told as gaps of {len(told)} devices"
        )
        most = AUTOSAVE_S * len(fleet.ids) * fleet.rounds / PLAYED_S
        return Row(row.name, counts, lost <= most and (lost == 0 or len(told) > 0))


def resent(plan: Plan) -> list[Row]:
    """Devices that keep their packets until the monitor's `ack` lose nothing by a broker that forgets all it had."""
    return [_kill_forgetful_broker(kind, plan.folder / kind) for kind in FORGETFUL]


def _kill_forgetful_broker(kind: Kind, folder: Path) -> Row:
    broker, rng = Broker(kind, folder), random.Random(kind)

    def outage() -> None:
        time.sleep(rng.uniform(3, 6))
        line.stalled = True
        time.sleep(1)  # what the broker confirms to devices now, the monitor does not get
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
        f"{summary.packets} packets, {summary.resent} sent again; {len(beats)} beats, {len(beats - endured.beats)} "
        f"missing, {len(endured.beats - beats)} wrong; {len(alerts)} alerts, {len(alerts - endured.alerts)} missing, "
        f"{len(endured.alerts - alerts)} wrong; breaks counted: {endured.breaks or 0}"
    )
    return Row(f"{kind}, killed -9 twice, devices resend", counts, endured.is_whole and summary.resent > 0)


def _handled(heard: Listener) -> int:
    """Packets that monitors took, each counted once."""
    wait(lambda: not heard.is_online, 10.0, "the monitor did not say goodbye")
    return heard.total("packets") - heard.total("duplicates")


def cut_network(plan: Plan) -> list[Row]:
    """The cable is cut for half a minute; packets come twice and out of order: no beat is missing or wrong."""
    fleet = Fleet(100, 60.0)
    with (
        stage(plan.folder, fleet) as (broker, heard, devices),
        Proxy(broker.url.port) as line,
        watched(Monitor(line.url, plan.folder)) as monitor,
    ):
        start(monitor, heard)
        playing = play(devices, 60.0, mischief=MISCHIEF)
        time.sleep(10)
        line.stalled = True
        time.sleep(CUT_S)
        line.cut()
        line.stalled = False
        name = f"network cut {CUT_S:.0f} s, 5 % of packets twice, 5 % late"
        return [finish(name, fleet, heard, devices, playing)]


def full_disk(plan: Plan) -> list[Row]:
    """A disk that is full and a file that is damaged stop nothing, and are told."""
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
    happen: Callable[[Monitor, Listener], str],
) -> Row:
    """Play to a monitor to which something happens meanwhile; then kill it, and play on."""
    fleet, folder = Fleet(20, 140.0), plan.folder / name.replace(" ", "-")
    with stage(folder, fleet) as (broker, heard, devices), watched(Monitor(broker.url, folder)) as monitor:
        start(monitor, heard)
        playing = play(devices, 30.0, 0, fleet.rounds - 40)
        time.sleep(3)
        told = happen(monitor, heard)
        playing.join()
        is_alive, fault_at_end = monitor.is_alive, heard.statuses[-1].get("fault")
        time.sleep(6.0)  # until all is settled
        monitor.end(signal.SIGKILL)
        monitor.start()
        row = finish(name, fleet, heard, devices, play(devices, 5.0, fleet.rounds - 40))
        counts = f"{row.counts}; status said {told!r}, then {fault_at_end!r}; killed -9 later"
        return Row(name, counts, row.is_met and is_alive and bool(told) and fault_at_end is None)


def _start_with_a_full_disk(monitor: Monitor, heard: Listener) -> None:
    monitor.start(most_bytes=2000)
    _await_fault(heard)


def _wait_and_make_room(monitor: Monitor, heard: Listener) -> str:
    told = _await_fault(heard)
    monitor.limit_files()
    _await_recovery(heard)
    return told


def _fill_disk_and_make_room(monitor: Monitor, heard: Listener) -> str:
    monitor.limit_files(8192)
    return _wait_and_make_room(monitor, heard)


def _start_with_garbage(monitor: Monitor, heard: Listener) -> None:
    monitor.state.mkdir(parents=True)
    (monitor.state / "soak.db").write_bytes(random.Random(0).randbytes(100_000))
    start(monitor, heard)


def _overwrite(monitor: Monitor, heard: Listener) -> str:
    rng = random.Random(0)
    for suffix in ("", "-wal"):
        with open(f"{monitor.state}/soak.db{suffix}", "r+b") as file:
            size = file.seek(0, 2)
            file.seek(0)
            file.write(rng.randbytes(size))
    return _await_count(monitor, heard)


def _await_count(monitor: Monitor, heard: Listener) -> str:
    wait(lambda: heard.counts.get("store faults"), 30.0, "no damage was told")
    return f"{heard.counts['store faults']} store faults"


def _await_fault(heard: Listener) -> str:
    wait(lambda: heard.is_online and heard.statuses[-1].get("fault"), START_S, "no fault was told")
    return str(heard.statuses[-1]["fault"]).rpartition(": ")[2]


def _await_recovery(heard: Listener) -> None:
    wait(lambda: heard.statuses[-1].get("fault") is None, 40.0, "the fault was not over")


def fuzzed(plan: Plan) -> list[Row]:
    """Nothing that is sent stops the monitor, lets its memory grow, or changes another device's beats."""
    outcome = fuzz_apart(plan.packets, plan.folder)
    name = f"{plan.packets} fuzzed packets"
    if outcome is None:
        return [Row(name, "the process died", False)]
    counts = (
        f"{outcome.rejected} rejected, {outcome.internal_errors} internal errors; memory {outcome.before_mb:.0f} -> "
        f"{outcome.after_mb:.0f} MB (bound +{FUZZ_GROWTH_MB:.0f}); undisturbed device: {outcome.beats} beats, "
        f"{outcome.missing} missing, {outcome.wrong} wrong"
    )
    grown = outcome.after_mb - outcome.before_mb
    is_met = not (outcome.internal_errors or outcome.missing or outcome.wrong) and grown < FUZZ_GROWTH_MB
    return [Row(name, counts, is_met and outcome.beats > 100)]


def start(monitor: Monitor, heard: Listener) -> None:
    monitor.start()
    wait(lambda: heard.is_online, START_S, "the monitor is not online")


def play(
    devices: Devices, seconds: float, first: int = 0, last: int | None = None, mischief: float = 0.0
) -> threading.Thread:
    playing = threading.Thread(target=devices.play, args=(seconds, first, last, mischief), daemon=True)
    playing.start()
    return playing


def _await_quiet(heard: Listener, is_complete: Callable[[], bool]) -> None:
    """Wait until all is there or, after the monitor could be started twice over, nothing more comes."""
    began_s = time.monotonic()
    while not is_complete() and time.monotonic() - max(began_s + 10, heard.heard_s) < QUIET_S:
        time.sleep(0.1)
    time.sleep(1)


def finish(name: str, fleet: Fleet, heard: Listener, devices: Devices, playing: threading.Thread) -> Row:
    """Wait until all was sent, confirmed and told, and count."""
    playing.join()
    devices.finish()
    packets = fleet.packets
    _await_quiet(
        heard,
        lambda: (
            sum(heard.acks.values()) >= packets
            and heard.beats.keys() >= fleet.beats.keys()
            and heard.alerts.keys() >= fleet.alerts.keys()
        ),
    )
    beats, beats_wrong = _compare(fleet.beats, heard.beats)
    alerts, alerts_wrong = _compare(fleet.alerts, heard.alerts)
    unsettled = packets - sum(heard.acks.values())
    counts = (
        f"{packets} packets, {unsettled} not settled; {len(fleet.beats)} beats, {beats} missing, {beats_wrong} wrong; "
        f"{len(fleet.alerts)} alerts, {alerts} missing, {alerts_wrong} wrong; "
        f"{heard.repeated} repeated, {heard.different} of them not identical"
    )
    return Row(name, counts, not (unsettled or beats or beats_wrong or alerts or alerts_wrong or heard.different))


def _compare(expected: dict[str, bytes], heard: dict[str, bytes]) -> tuple[int, int]:
    """Count what is missing, and what was told that is not so."""
    told = dict(heard)
    return len(expected.keys() - told.keys()), sum(expected.get(id_) != payload for id_, payload in told.items())


ROWS: dict[str, Callable[[Plan], list[Row]]] = {
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
