"""A steady load, with a fault of monitor or broker each minute, or more often in a short run."""

from __future__ import annotations

import contextlib
import itertools
import math
import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from monitor.broker import connection
from monitor.service.settings import STATUS_S
from tests.brokers import Broker
from tests.soak.fleet import Fleet
from tests.soak.fuzz import IDS, Fuzzer
from tests.soak.harness import TOPICS, Monitor, wait
from tests.soak.large_fleet import FleetListener, FleetSender
from tests.soak.scenarios import Outcome, Plan, start

LONG_S, SHORT_S = 600.0, 200.0
"""Duration from which there is a fault each minute, and minimum duration, with a fault every `OFTEN_S`."""
OFTEN_S = 20.0
FROZEN_S = 10.0
AWAY_S = 5.0
FULL_BYTES = 8192
"""File size limit that simulates a full disk."""
MALFORMED = 2000
"""Malformed packets in one fault."""
CYCLE = 60
"""Only the first of this many faults end the monitor process: during the others its memory is measured."""
WARM_UP_S = 600.0
"""By this age, each fault that a monitor survives has happened once, and its buffers have reached their size."""
GROWTH = 0.05
"""Fraction by which a monitor's memory may grow after that."""
CAUGHT_UP_S = 180.0
"""Time after the last packet was due within which all must be acknowledged."""


@dataclass
class _Memory:
    """Memory of one monitor process over time, in MB."""

    pid: int
    started_s: float
    max_early_mb: float = 0.0
    max_mb: float = 0.0
    last_mb: float = 0.0
    age_s: float = 0.0

    def record(self, mb: float) -> None:
        """Record a measurement."""
        self.last_mb, self.max_mb, self.age_s = mb, max(mb, self.max_mb), time.monotonic() - self.started_s
        if self.age_s < WARM_UP_S:
            self.max_early_mb = self.max_mb

    @property
    def is_flat(self) -> bool:
        """Whether it did not grow after the first minutes."""
        return self.max_mb <= (1 + GROWTH) * self.max_early_mb

    def __str__(self) -> str:
        early = f"at most {self.max_early_mb:.0f} until 10 min, " if self.age_s > WARM_UP_S else ""
        return f"{early}at most {self.max_mb:.0f}, {self.last_mb:.0f} at {self.age_s / 60:.1f} min"


@dataclass
class Scene:
    """The processes into which faults are injected."""

    folder: Path
    broker: Broker
    listener: FleetListener
    monitor: Monitor
    rng: random.Random
    processes: list[_Memory]
    """Memory of each monitor process so far."""

    def measure_memory(self, until_s: float) -> None:
        """Record the monitor's memory until then."""
        while (left_s := until_s - time.monotonic()) > 0:
            if not self.processes or self.processes[-1].pid != self.monitor.pid:
                self.processes.append(_Memory(self.monitor.pid, time.monotonic()))
            self.processes[-1].record(self.monitor.rss_mb)
            time.sleep(min(1.0, left_s))


def _kill_monitor(scene: Scene) -> None:
    scene.monitor.end(signal.SIGKILL)
    start(scene.monitor, scene.listener)


def _restart_monitor(scene: Scene) -> None:
    scene.monitor.end()
    time.sleep(AWAY_S)
    start(scene.monitor, scene.listener)


def _hand_over(scene: Scene) -> None:
    new = Monitor(scene.broker.url, scene.folder, beats=False)
    new.start()
    time.sleep(AWAY_S)
    scene.monitor.end()
    scene.monitor = new


def _restart_broker(scene: Scene) -> None:
    scene.broker.restart(signal.SIGTERM, 2.0)


def _kill_broker(scene: Scene) -> None:
    scene.broker.restart(signal.SIGKILL, 2.0)


def _freeze_broker(scene: Scene) -> None:
    scene.broker.freeze(FROZEN_S)


def _freeze_monitor(scene: Scene) -> None:
    scene.monitor.freeze(FROZEN_S)


def _fill_disk(scene: Scene) -> None:
    scene.monitor.limit_files(FULL_BYTES)
    time.sleep(FROZEN_S)
    scene.monitor.limit_files()


def _send_malformed(scene: Scene) -> None:
    fuzzer = Fuzzer(scene.rng.randrange(2**32))
    client = connection.make_client(scene.broker.url, "soak-unknown")
    connection.connect(client, scene.broker.url)
    client.loop_start()
    for _ in range(MALFORMED):
        client.publish(TOPICS.of(f"bad-{scene.rng.randrange(IDS)}", "samples"), fuzzer.payload(), qos=1)
        time.sleep(0.002)
    client.disconnect()
    client.loop_stop()


LETHAL = {
    "monitor killed -9": _kill_monitor,
    "new monitor started, old one stopped": _hand_over,
    f"monitor stopped for {AWAY_S:.0f} s": _restart_monitor,
}
OTHER = {
    "mosquitto restarted": _restart_broker,
    f"mosquitto frozen for {FROZEN_S:.0f} s": _freeze_broker,
    f"{MALFORMED} fuzzed packets": _send_malformed,
    "mosquitto killed -9": _kill_broker,
    f"monitor frozen for {FROZEN_S:.0f} s": _freeze_monitor,
    f"disk full for {FROZEN_S:.0f} s": _fill_disk,
}


def _faults() -> Iterator[tuple[str, Callable[[Scene], None]]]:
    """Yield one fault after the other, endlessly."""
    others = itertools.cycle(OTHER.items())
    while True:
        yield from LETHAL.items()
        yield from itertools.islice(others, CYCLE - len(LETHAL))


def steady_load(plan: Plan) -> list[Outcome]:
    """Under a steady load with one fault after the other, no packet and no alert is missing; memory stays flat."""
    seconds = max(60.0 * plan.minutes, SHORT_S)
    every_s = 60.0 if seconds >= LONG_S else OFTEN_S
    fleet = Fleet(plan.devices, seconds, 1.0)
    broker = Broker("mosquitto", plan.folder / "broker")
    listener = FleetListener(broker.url, fleet)
    scene = Scene(plan.folder, broker, listener, Monitor(broker.url, plan.folder, beats=False), random.Random(0), [])
    sender = FleetSender(broker.url, fleet, listener)
    try:
        start(scene.monitor, listener)
        sender.start()
        started_s = time.monotonic()
        for number, (name, inject) in zip(range(1, math.ceil(seconds / every_s)), _faults(), strict=False):
            scene.measure_memory(started_s + number * every_s)
            inject(scene)
            progress = f"{sender.sent} sent, {listener.acknowledged} acknowledged, {listener.wrong} wrong"
            print(
                f"        {number * every_s / 60:6.1f} min: {name}; {progress}, memory {scene.processes[-1]}",
                flush=True,
            )
        scene.measure_memory(started_s + seconds)
        with contextlib.suppress(TimeoutError):
            wait(lambda: _is_complete(fleet, listener), CAUGHT_UP_S, "not all was acknowledged")
        time.sleep(STATUS_S + 1)
        return [
            _count(fleet, listener, sender, scene.processes, f"{seconds / 60:.1f} min, a fault each {every_s:.0f} s")
        ]
    finally:
        sender.stop()
        scene.monitor.end()
        listener.close()
        broker.end()


def _is_complete(fleet: Fleet, listener: FleetListener) -> bool:
    return listener.acknowledged >= fleet.packets and listener.alerts_received >= listener.alerts_expected


def _count(fleet: Fleet, listener: FleetListener, sender: FleetSender, processes: list[_Memory], how: str) -> Outcome:
    missing, alerts_missing = fleet.packets - listener.acknowledged, listener.alerts_expected - listener.alerts_received
    errors = listener.total("internal errors")
    counts = (
        f"{fleet.packets} packets, {missing} not acknowledged, {sender.resent} resent over {sender.connections} "
        f"connections; {listener.alerts_expected} alerts, {alerts_missing} missing, {listener.wrong} wrong, "
        f"{listener.repeated} repeated; {errors} internal errors; memory in MB of each monitor: "
        f"{'; '.join(map(str, processes))}"
    )
    if listener.wrong_alerts:
        counts += f"; wrong was {listener.wrong_alerts}"
    is_flat = all(one.is_flat for one in processes)
    return Outcome(
        f"{len(fleet.ids)} devices, {how}",
        counts,
        not (missing or alerts_missing or listener.wrong or errors) and is_flat,
    )
