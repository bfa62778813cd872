"""A steady load, with something that befalls monitor or broker each minute."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from monitor import mqtt
from tests.brokers import Broker
from tests.soak.crowd import Crowd, Tally
from tests.soak.fleet import Fleet
from tests.soak.fuzz import IDS, Fuzzer
from tests.soak.rig import TOPICS, Monitor, wait
from tests.soak.rows import Plan, Row, start

FROZEN_S = 10.0
AWAY_S = 5.0
FULL_BYTES = 8192
"""A disk on which no file may be larger is full."""
POISON = 2000
"""Packets that nobody should send, in one fault."""
CYCLE = 60
"""Only the first minutes of so many end a monitor's life: in the others its memory is watched."""
SETTLED_S = 600.0
"""By this age, each fault that a monitor survives has befallen it once, and its buffers have the size they need."""
GROWTH = 0.05
"""A monitor's memory may grow by this share from there on."""
CAUGHT_UP_S = 180.0
"""All that is left must be settled so long after the last packet was due."""


@dataclass
class Scene:
    """What may be hurt."""

    folder: Path
    broker: Broker
    heard: Tally
    monitor: Monitor
    rng: random.Random


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
    client = mqtt.make_client(scene.broker.url, "soak-stranger")
    mqtt.connect(client, scene.broker.url)
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
    """One a minute, for ever."""
    other = 0
    while True:
        for minute in range(CYCLE):
            if minute < len(LETHAL):
                yield list(LETHAL.items())[minute]
            else:
                yield list(OTHER.items())[other % len(OTHER)]
                other += 1


@dataclass
class _Memory:
    """How the memory of one monitor went, in MB."""

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


def loaded(plan: Plan) -> list[Row]:
    """Under a steady load, with a fault each minute, no packet and no alert is missing, and memory stays flat."""
    minutes = max(2, round(plan.minutes))
    fleet = Fleet(plan.devices, 60.0 * minutes, 1.0)
    broker = Broker("mosquitto", plan.folder / "broker")
    heard = Tally(broker.url, fleet)
    scene = Scene(plan.folder, broker, heard, Monitor(broker.url, plan.folder, beats=False), random.Random(0))
    crowd = Crowd(broker.url, fleet, heard)
    lives: list[_Memory] = []
    try:
        start(scene.monitor, heard)
        crowd.start()
        began_s, faults = time.monotonic(), _faults()
        life, watched = _Memory(began_s), scene.monitor.pid
        lives.append(life)
        for minute in range(1, minutes + 1):
            while (left_s := began_s + 60 * minute - time.monotonic()) > 0:
                if scene.monitor.pid != watched:
                    life, watched = _Memory(time.monotonic()), scene.monitor.pid
                    lives.append(life)
                life.note(scene.monitor.rss_mb)
                time.sleep(min(1.0, left_s))
            if minute < minutes:
                name, do = next(faults)
                do(scene)
                print(
                    f"        {minute:3} min: {name}; {crowd.sent} sent, {heard.settled} settled, {heard.wrong} wrong, "
                    f"memory {life}",
                    flush=True,
                )
        with contextlib.suppress(TimeoutError):
            wait(
                lambda: heard.settled >= fleet.packets and heard.alerts_heard >= heard.alerts_due,
                CAUGHT_UP_S,
                "not all was settled",
            )
        time.sleep(6)  # the last status
        return [_count(fleet, heard, crowd, lives, minutes)]
    finally:
        crowd.stop()
        scene.monitor.end()
        heard.close()
        broker.end()


def _count(fleet: Fleet, heard: Tally, crowd: Crowd, lives: list[_Memory], minutes: int) -> Row:
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
    name = f"{len(fleet.ids)} devices, {minutes} min, a fault each minute"
    return Row(name, counts, not (missing or alerts_missing or heard.wrong or errors) and is_flat)
