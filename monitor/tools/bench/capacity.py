"""How many devices this machine carries in real time, and what they cost it.

Method. A broker, a monitor with its usual settings, the load generator (`python -m simulator load`: one beat in ten is
abnormal) and the subscriber that times the alerts are processes of their own on this one machine, all fresh for each
load. The number of devices is doubled until a load is not carried; the rest is found by halving. A load is carried if,
after a warm-up, every packet that was sent has been taken within `SETTLE_S` of the end, none was found missing,
repeated or refused, and 99 % of alerts came within `LATEST_MS` of the end of the packet that they follow from.
So much may go wrong by chance on a machine that does other things as well: what is not carried is tried once more.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

import msgspec

from monitor import counters, wire
from monitor.broker import connection
from monitor.devices import MAX_DEVICES
from monitor.tools.bench import harness
from monitor.tools.bench.report import Capacity, Trial
from monitor.tools.bench.subscriber import Subscriber, make_client, quantiles

WARM_UP_S = 8.0
SETTLE_S = 1.0
"""Packets not taken this long after the last one was sent are lost, or too late."""
SPARE_S = 1.0
"""How much longer the devices play than is measured."""
END_S = 40.0
"""How long the load generator may take to end, once it is due to."""
OFFLINE_S = 20.0
"""How long the monitor may take to stop; one that publishes no offline status has taken nothing more."""
LATEST_MS = 250.0
"""Latest an alert may arrive (p99)."""
LOAD_LATEST_MS = 100.0
"""Latest the load generator itself may be (p99): beyond that the figures do not describe the monitor."""
RATE_HZ = 250.0
"""Of the devices."""
MOST = 100_000
"""Most devices that the load generator plays."""
NEAR = 1.1
"""The search ends when the lowest load that is not carried is not more than so many times the highest that is."""
SHARES = {"half": 0.5, "80 %": 0.8, "full": 1.0}
CURVE = (100, 1000, 10_000)
"""Devices for which the cost is reported, as far as they are carried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacitySettings:
    """What to search.

    Raises
    ------
    ValueError
        A number is out of range.
    """

    devices: int = 1000
    """Where the search begins."""
    most: int | None = None
    """No more are tried; None: what the workers take at all."""
    packet_s: float = 1.0
    seconds: float = 15.0
    """How long each load is measured."""
    workers: int = 1
    remembers: bool = True
    """Whether the monitor saves the devices' states, as it usually does."""

    def __post_init__(self) -> None:
        if self.workers < 1 or not self.seconds > 0:
            raise ValueError(f"Workers and seconds must be more than 0: got {self.workers} and {self.seconds:g} s.")
        if not 1 <= min(self.devices, self.highest) <= MOST or self.highest > MOST:
            raise ValueError(f"Devices must be 1 to {MOST}: got {self.devices} to {self.highest}.")
        shortest_s, longest_s = 1 / RATE_HZ, wire.MAX_SAMPLES / RATE_HZ
        if not shortest_s <= self.packet_s <= longest_s:
            raise ValueError(f"Packets must last {shortest_s:g} to {longest_s:g} s: got {self.packet_s:g} s.")

    @property
    def highest(self) -> int:
        """The most devices that are tried."""
        return min(MAX_DEVICES * self.workers, MOST) if self.most is None else self.most


def measure_capacity(setup: harness.Setup, settings: CapacitySettings) -> Capacity:
    """Search how many devices the machine carries, and measure what they cost.

    Raises
    ------
    ConnectionError
        The broker, the monitor or the load generator did not start.
    ValueError
        The broker speaks TLS only.
    """
    if setup.broker is not None and connection.BrokerUrl.parse(setup.broker).tls:
        raise ValueError(f"No TLS here, the load generator has none: got {setup.broker}, expected mqtt://.")
    trials: dict[int, Trial] = {}

    def trial(devices: int) -> Trial:
        if devices not in trials:
            trials[devices] = _try_twice(lambda: play(setup, settings, devices))
        return trials[devices]

    found, too_many = search(lambda devices: trial(devices).why_not is None, settings.devices, settings.highest)
    shares = {name: trial(max(1, round(share * found))) for name, share in SHARES.items() if found}
    for devices in CURVE:
        if devices <= found:
            trial(devices)
    return Capacity(
        devices=found,
        at_least=too_many is None,
        limit=None if too_many is None else trials[too_many].why_not,
        broker=harness.name_broker(setup.broker, prefer_mosquitto=True),
        workers=settings.workers,
        packet_s=settings.packet_s,
        seconds=settings.seconds,
        remembers=settings.remembers,
        trials=[trials[devices] for devices in sorted(trials)],
        shares=shares,
    )


def search(carries: Callable[[int], bool], start: int, most: int) -> tuple[int, int | None]:
    """Find how much is carried: double, then halve.

    Parameters
    ----------
    carries
        Whether so many are carried.
    start
        Where to begin.
    most
        No more are tried.

    Returns
    -------
    int, int or None
        The highest number that was carried, 0 if none was; the lowest above it that was not, None if `most` was.
    """
    carried, failed, next_ = 0, None, min(start, most)
    while True:
        if carries(next_):
            carried = next_
        else:
            failed = next_
        if failed is None:
            if carried >= most:
                return carried, None
            next_ = min(2 * carried, most)
        elif failed <= max(NEAR * carried, carried + 1):
            return carried, failed
        else:
            next_ = (
                failed // 2 if carried == 0 else min(max(round(math.sqrt(carried * failed)), carried + 1), failed - 1)
            )


def _try_twice(play_it: Callable[[], Trial]) -> Trial:
    first = play_it()
    if first.why_not is None:
        return first
    again = play_it()
    return again if again.why_not is None else first


@dataclass(frozen=True, slots=True)
class _Look:
    """What processes, and all of the machine, have taken until now."""

    at_s: float
    used: Mapping[str, harness.Usage | None]
    busy_s: float

    @classmethod
    def at(cls, processes: Mapping[str, int | None]) -> _Look:
        return cls(time.monotonic(), {name: harness.usage(pid) for name, pid in processes.items()}, harness.busy_s())

    def cores_since(self, before: _Look) -> dict[str, float | None]:
        """Cores that each process has kept busy, and that all others have, by the name of "other"."""
        seconds = self.at_s - before.at_s
        cores = {
            name: None if (was := before.used[name]) is None or now is None else (now.cpu_s - was.cpu_s) / seconds
            for name, now in self.used.items()
        }
        busy = (self.busy_s - before.busy_s) / seconds
        other = max(0.0, busy - sum(one or 0.0 for one in cores.values()))  # the two are not counted alike
        return cores | {"other": other}


def play(setup: harness.Setup, settings: CapacitySettings, devices: int) -> Trial:
    """Play one load to a fresh monitor, and measure how it copes."""
    name = f"bench-{os.getpid()}"
    topics = wire.Topics(f"ecgwatch-bench/{name}")
    with ExitStack() as stack:
        broker = stack.enter_context(harness.broker(setup.broker, prefer_mosquitto=True))
        if setup.broker is not None:
            stack.callback(_tidy, broker.url, setup.tls, topics, name)
        subscriber = Subscriber(broker.url, setup.tls, topics, name, ("alerts", "samples"))
        stack.callback(subscriber.close)
        monitor = stack.enter_context(
            harness.monitor(
                name, broker.url, setup.tls, *setup.model_words,
                topics=topics, workers=settings.workers, remembers=settings.remembers,
            )
        )  # fmt: skip
        monitor.wait_until(subscriber.is_online)
        empty = harness.usage(monitor.pid)
        try:
            load, cores, rss = _load(broker, monitor, subscriber, settings, devices, topics)
        except ConnectionError as error:  # the broker had enough
            return _report(_failed(devices, str(error)))
        time.sleep(SETTLE_S)
        monitor.terminate()
        subscriber.wait_until_offline(OFFLINE_S)
    counts = {} if subscriber.status is None else subscriber.status.counts
    trial = Trial(
        devices=devices,
        why_not=None,
        sent=load["packets"],
        taken=counts.get("packets", 0),
        alert_ms=quantiles(subscriber.alerts),
        load_late_ms=load["lateness_p99_ms"],
        monitor_cpu=cores["monitor"],
        broker_cpu=cores["broker"],
        load_cpu=load["cpu_user_s_per_s"] + load["cpu_system_s_per_s"],
        other_cpu=cores["other"],
        rss_per_device=None if empty is None or rss is None else (rss - empty.rss) / devices,
    )
    return _report(with_judgement(trial, load["unsent"], counts))


def _failed(devices: int, why_not: str) -> Trial:
    """A load that could not even be played to its end."""
    return Trial(
        devices=devices, why_not=why_not, sent=0, taken=0, alert_ms={"n": 0}, load_late_ms=0.0,
        monitor_cpu=None, broker_cpu=None, load_cpu=0.0,
    )  # fmt: skip


def _report(trial: Trial) -> Trial:
    harness.report_progress(
        f"capacity: {trial.devices} devices {'are carried' if trial.why_not is None else f'fail: {trial.why_not}'}"
    )
    return trial


def with_judgement(trial: Trial, unsent: int, counts: Mapping[str, int]) -> Trial:
    """Note whether the machine carries a load, and if not why."""
    return msgspec.structs.replace(trial, why_not="; ".join(_objections(trial, unsent, counts)) or None)


def _objections(trial: Trial, unsent: int, counts: Mapping[str, int]) -> Iterator[str]:
    if trial.taken != trial.sent:
        yield f"{trial.sent - trial.taken} of {trial.sent} packets not taken {SETTLE_S:g} s after the last"
    if unsent:
        yield f"{unsent} packets unsent, the broker had no room"
    yield from (f"{counts[name]} {name}" for name in counters.TROUBLE if counts.get(name))
    if trial.alert_ms.get("p99", 0.0) > LATEST_MS:
        yield f"alerts {trial.alert_ms['p99']:.0f} ms late (p99)"
    if trial.load_late_ms > LOAD_LATEST_MS:
        yield f"the load generator itself {trial.load_late_ms:.0f} ms late (p99)"


def _load(
    broker: harness.Broker,
    monitor: harness.Process,
    subscriber: Subscriber,
    settings: CapacitySettings,
    devices: int,
    topics: wire.Topics,
) -> tuple[dict[str, Any], dict[str, float | None], int | None]:
    """Play the devices: the report of the load generator, cores that were busy, and the monitor's memory."""
    seconds = WARM_UP_S + settings.seconds + SPARE_S
    words = ["--devices", str(devices), "--packet", str(settings.packet_s), "--seconds", str(seconds), "--json"]
    words += ["--rate", str(RATE_HZ), "--broker", str(broker.url), "--prefix", topics.prefix]
    with harness.running("The load generator", "simulator", "load", *words) as playing:
        playing.wait_until(lambda: bool(subscriber.payloads))
        subscriber.unsubscribe_samples()
        time.sleep(WARM_UP_S)
        subscriber.begin()
        processes = {"monitor": monitor.pid, "broker": broker.pid, "load": playing.pid}
        before = _Look.at(processes)
        time.sleep(settings.seconds)
        subscriber.end()
        now = _Look.at(processes)
        report: dict[str, Any] = json.loads(playing.wait(END_S))
    used = now.used["monitor"]
    return report, now.cores_since(before), None if used is None else used.rss


def _tidy(url: connection.BrokerUrl, tls: connection.TlsFiles, topics: wire.Topics, name: str) -> None:
    """Let a broker that is not ours forget the descriptions of the devices."""
    heard = threading.Event()
    client = make_client(url, f"ecgwatch-{name}-tidy", tls)

    def clear(_client: Any, _data: Any, message: Any) -> None:
        if message.retain and message.payload:
            heard.set()
            client.publish(message.topic, b"", qos=0, retain=True)

    def subscribe(*_: Any) -> None:
        client.subscribe(topics.of("+", "info"))

    client.on_message, client.on_connect = clear, subscribe
    with suppress(OSError):
        connection.connect(client, url)
        client.loop_start()
        while heard.wait(SETTLE_S):
            heard.clear()
        harness.leave(client)


def format_capacity(capacity: Capacity) -> str:
    """What is carried, and every load that was tried."""
    columns = (
        ("alert p50", 11),
        ("p99 ms", 9),
        ("n", 7),
        ("load late", 11),
        ("monitor", 9),
        ("broker", 8),
        ("load", 7),
    )
    head = "".join(f"{name:>{width}}" for name, width in (*columns, ("us/device-s", 13), ("kB/device", 11)))
    lines = [summarise(capacity), "", f"{'devices':>8}{head}"]
    lines += [_line(trial) for trial in capacity.trials]
    lines += ["", *(_share_line(name, trial) for name, trial in capacity.shares.items())]
    return "\n".join(lines)


def summarise(capacity: Capacity) -> str:
    """The one figure, and its limit."""
    workers = "1 worker" if capacity.workers == 1 else f"{capacity.workers} workers"
    how = f"in packets of {capacity.packet_s:g} s, through {capacity.broker}, {workers}"
    if not capacity.devices:
        return f"This machine carries none of the loads that were tried, {how}: {capacity.limit}"
    if capacity.at_least:
        return f"This machine carries {capacity.devices:,} devices, {how}; no more were tried."
    return f"This machine carries {capacity.devices:,} devices, {how}. Beyond that: {capacity.limit}."


def explain(capacity: Capacity) -> list[str]:
    """How it was measured, in a few sentences."""
    remembers = "saving the devices' states" if capacity.remembers else "remembering nothing"
    return [
        "Broker, monitor, load generator, and the subscriber that times the alerts share this machine; each load is "
        f"measured for {capacity.seconds:g} s after {WARM_UP_S:g} s of warm-up, with a fresh monitor, {remembers}.",
        f"Carried: no packet missing or late, 99 % of alerts within {LATEST_MS:g} ms of the end of the packet they "
        f"follow from, the load generator within {LOAD_LATEST_MS:g} ms (p99); else tried once more.",
        "monitor, broker, load, other: cores kept busy, the last by all else on this machine; us/device-s: processor "
        "time of the monitor per second of a device.",
    ]


def _line(trial: Trial) -> str:
    cells = [
        _cell(trial.alert_ms.get("p50"), 11, 1),
        _cell(trial.alert_ms.get("p99"), 9, 1),
        _cell(trial.alert_ms["n"], 7, 0),
        _cell(trial.load_late_ms, 11, 1),
        _cell(trial.monitor_cpu, 9, 3),
        _cell(trial.broker_cpu, 8, 3),
        _cell(trial.load_cpu, 7, 3),
        _cell(trial.other_cpu, 7, 2),
        _cell(trial.us_per_device_second, 13, 1),
        _cell(None if trial.rss_per_device is None else trial.rss_per_device / 1000, 11, 1),
    ]
    return f"{trial.devices:>8}{''.join(cells)}{'' if trial.why_not is None else f'  fails: {trial.why_not}'}"


def _share_line(name: str, trial: Trial) -> str:
    return f"{name:>5} load, {trial.devices:>6} devices: alerts p99 {_cell(trial.alert_ms.get('p99'), 0, 1)} ms"


def _cell(value: float | None, width: int, digits: int) -> str:
    return f"{'-' if value is None else f'{value:.{digits}f}':>{width}}"
