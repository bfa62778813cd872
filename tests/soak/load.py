"""A steady load, with something that befalls monitor or broker each minute, or more often where there is less time."""

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
from tests.soak.crowd import Crowd, Tally
from tests.soak.fleet import Fleet
from tests.soak.fuzz import IDS, Fuzzer
from tests.soak.harness import TOPICS, Monitor, wait
from tests.soak.scenarios import Plan, Row, start

LONG_S, SHORT_S = 600.0, 200.0
"""From so long on there is a fault each minute; else it is so long at least, and there is one each `OFTEN_S`."""
OFTEN_S = 20.0
FROZEN_S = 10.0
AWAY_S = 5.0
FULL_BYTES = 8192
"""A disk on which no file may be larger is full."""
POISON = 2000
"""Packets that nobody should send, in one fault."""
CYCLE = 60
"""Only the first of so many faults end a monitor's life: through the others its memory is watched."""
SETTLED_S = 600.0
"""By this age, each fault that a monitor survives has befallen it once, and its buffers have the size they need."""
GROWTH = 0.05
"""A monitor's memory may grow by this share from there on."""
CAUGHT_UP_S = 180.0
"""All that is left must be settled so long after the last packet was due."""


@dataclass
class _Memory:
    """How the memory of one monitor went, in MB."""

    pid: int
    began_s: float
    most_early_mb: float = 0.0
    most_mb: float = 0.0
    last_mb: float = 0.0
    age_s: float = 0.0

    def note(self, mb: float) -> None:
        """Take it down."""
        self.last_mb, self.most_mb, self.age_s = mb, max(mb, self.most_mb), time.monotonic() - self.began_s
        if self.age_s < SETTLED_S:
            self.most_early_mb = self.most_mb

    @property
    def is_flat(self) -> bool:
        """Whether it stayed where it was after the first minutes."""
        return self.most_mb <= (1 + GROWTH) * self.most_early_mb

    def __str__(self) -> str:
        early = f"at most {self.most_early_mb:.0f} until 10 min, " if self.age_s > SETTLED_S else ""
        return f"{early}at most {self.most_mb:.0f}, {self.last_mb:.0f} at {self.age_s / 60:.1f} min"


@dataclass
class Scene:
    """What may be hurt."""

    folder: Path
    broker: Broker
    heard: Tally
    monitor: Monitor
    rng: random.Random
    lives: list[_Memory]
    """Of each monitor so far."""

    def watch(self, until_s: float) -> None:
        """Take down the monitor's memory until then."""
        while (left_s := until_s - time.monotonic()) > 0:
            if not self.lives or self.lives[-1].pid != self.monitor.pid:
                self.lives.append(_Memory(self.monitor.pid, time.monotonic()))
            self.lives[-1].note(self.monitor.rss_mb)
            time.sleep(min(1.0, left_s))


def _kill_monitor(scene: Scene) -> None:
    scene.monitor.end(signal.SIGKILL)
    start(scene.monitor, scene.heard)


def _restart_monitor(scene: Scene) -> None:
    scene.monitor.end()
    time.sleep(AWAY_S)
    start(scene.monitor, scene.heard)


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


def _poison(scene: Scene) -> None:
    fuzzer = Fuzzer(scene.rng.randrange(2**32))
    client = connection.make_client(scene.broker.url, "soak-stranger")
    connection.connect(client, scene.broker.url)
    client.loop_start()
    for _ in range(POISON):
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
    f"{POISON} fuzzed packets": _poison,
    "mosquitto killed -9": _kill_broker,
    f"monitor frozen for {FROZEN_S:.0f} s": _freeze_monitor,
    f"disk full for {FROZEN_S:.0f} s": _fill_disk,
}


def _faults() -> Iterator[tuple[str, Callable[[Scene], None]]]:
    """One after the other, for ever."""
    others = itertools.cycle(OTHER.items())
    while True:
        yield from LETHAL.items()
        yield from itertools.islice(others, CYCLE - len(LETHAL))


def loaded(plan: Plan) -> list[Row]:
    """Under a steady load, with one fault after the other, no packet and no alert is missing; memory stays flat."""
    seconds = max(60.0 * plan.minutes, SHORT_S)
    every_s = 60.0 if seconds >= LONG_S else OFTEN_S
    fleet = Fleet(plan.devices, seconds, 1.0)
    broker = Broker("mosquitto", plan.folder / "broker")
    heard = Tally(broker.url, fleet)
    scene = Scene(plan.folder, broker, heard, Monitor(broker.url, plan.folder, beats=False), random.Random(0), [])
    crowd = Crowd(broker.url, fleet, heard)
    try:
        start(scene.monitor, heard)
        crowd.start()
        began_s = time.monotonic()
        for number, (name, do) in zip(range(1, math.ceil(seconds / every_s)), _faults(), strict=False):
            scene.watch(began_s + number * every_s)
            do(scene)
            told = f"{crowd.sent} sent, {heard.settled} settled, {heard.wrong} wrong, memory {scene.lives[-1]}"
            print(f"        {number * every_s / 60:6.1f} min: {name}; {told}", flush=True)
        scene.watch(began_s + seconds)
        with contextlib.suppress(TimeoutError):
            wait(lambda: _is_complete(fleet, heard), CAUGHT_UP_S, "not all was settled")
        time.sleep(STATUS_S + 1)
        return [_count(fleet, heard, crowd, scene.lives, f"{seconds / 60:.1f} min, a fault each {every_s:.0f} s")]
    finally:
        crowd.stop()
        scene.monitor.end()
        heard.close()
        broker.end()


def _is_complete(fleet: Fleet, heard: Tally) -> bool:
    return heard.settled >= fleet.packets and heard.alerts_heard >= heard.alerts_due


def _count(fleet: Fleet, heard: Tally, crowd: Crowd, lives: list[_Memory], how: str) -> Row:
    missing, alerts_missing = fleet.packets - heard.settled, heard.alerts_due - heard.alerts_heard
    errors = heard.total("internal errors")
    counts = (
        f"{fleet.packets} packets, {missing} not settled, {crowd.again} sent again over {crowd.connections} "
        f"connections; {heard.alerts_due} alerts, {alerts_missing} missing, {heard.wrong} wrong, {heard.repeated} "
        f"repeated; {errors} internal errors; memory in MB of each monitor: "
        f"{'; '.join(map(str, lives))}"
    )
    if heard.shown:
        counts += f"; wrong was {heard.shown}"
    is_flat = all(life.is_flat for life in lives)
    return Row(
        f"{len(fleet.ids)} devices, {how}", counts, not (missing or alerts_missing or heard.wrong or errors) and is_flat
    )
