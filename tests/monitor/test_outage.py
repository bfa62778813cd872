"""What a broker loses that is killed, and a line that breaks, the devices send again: real brokers, kill -9."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from monitor import wire
from monitor.engine import Output
from monitor.mqtt import BrokerUrl
from monitor.service import Service
from monitor.settings import ServiceSettings
from monitor.store import Store
from simulator.broker import HOST, free_port
from simulator.devices import Device, Feed, Profile
from simulator.packets import at
from simulator.replay import Replay, Summary
from simulator.stream import Stretch
from tests.conftest import DEPLOYED, find_mosquitto, listens
from tests.monitor.ecg import beat_times, make_ecg
from tests.monitor.ordeal import ALERTS, TOPICS, start_monitor, undisturbed, wait
from tests.monitor.proxy import Proxy
from tests.simulator.recorder import Recorder

SECONDS, RATE_HZ = 24.0, 250.0
PACKETS = (50, 50, 125, 250)
"""Samples in a packet of each device: some are short, so that many come before a lost one can be sent again."""


class _Broker:
    """A broker that can be killed and started again on its port."""

    def __init__(self, port: int, *command: str) -> None:
        self.url = BrokerUrl(HOST, port)
        self._command = command
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        wait(lambda: listens(self.url.port))

    def end(self, how: signal.Signals) -> None:
        os.killpg(self._process.pid, how)  # iotcore has a process of its own below
        self._process.wait(10)
        wait(lambda: not listens(self.url.port))

    def restart(self, how: signal.Signals, away_s: float) -> None:
        self.end(how)
        time.sleep(away_s)
        self.start()


@contextmanager
def _broker(kind: str, folder: Path) -> Iterator[_Broker]:
    port = free_port()
    if kind == "iotcore":
        command = [sys.executable, "-m", "simulator", "broker", "--port", str(port)]
    else:
        # Started by root, it must stay root: others cannot write where the tests have their files.
        settings = DEPLOYED.read_text().replace("listener 1883", f"user root\nlistener {port}")
        settings = settings.replace("/var/lib/mosquitto/", f"{folder}/")
        if kind == "mosquitto without persistence":
            settings = settings.replace("persistence true", "persistence false")
        (folder / "mosquitto.conf").write_text(settings)
        command = [find_mosquitto(), "-c", str(folder / "mosquitto.conf")]
    broker = _Broker(port, *command)
    try:
        yield broker
    finally:
        broker.end(signal.SIGKILL)


class _Monitor(Service):
    """A monitor that keeps the ids of all it has found: a broker that is killed takes what subscribers would get."""

    def __init__(self, url: BrokerUrl, state: Path) -> None:
        super().__init__(ServiceSettings(broker=url, provider="cpu", alerts=ALERTS, state=state))
        self.beats: set[str] = set()
        self.alerts: set[str] = set()

    @property
    def is_connected(self) -> bool:
        return self._connected

    def _tell(self, output: Output) -> None:
        self.beats |= {beat.id for beat in output.beats}
        self.alerts |= {alert.id for alert in output.alerts}
        super()._tell(output)


@contextmanager
def _monitor(url: BrokerUrl, state: Path) -> Iterator[_Monitor]:
    monitor = _Monitor(url, state)
    thread = threading.Thread(target=monitor.run)
    thread.start()
    try:
        wait(lambda: monitor.is_connected)
        yield monitor
    finally:
        monitor.stop()
        thread.join(20)
    assert not thread.is_alive()


class _Devices:
    """Devices that play an ECG each, of its own heart rate, once."""

    def __init__(self, url: BrokerUrl) -> None:
        self._replay = Replay(self._feeds(), url)
        self._summaries: list[Summary] = []
        self._thread = threading.Thread(target=lambda: self._summaries.append(self._replay.run()))
        self._thread.start()

    def finish(self) -> Summary:
        self._thread.join(60)
        [summary] = self._summaries
        return summary

    def packets(self) -> dict[str, list[wire.Packet]]:
        """What each one sends."""
        return {
            feed.device.id: [at(outgoing.packet, epoch_s) for outgoing, _ in feed.packets()]
            for feed, epoch_s in zip(self._feeds(), self._replay._epochs, strict=True)
        }

    @staticmethod
    def _feeds() -> list[Feed]:
        feeds = []
        for number, size in enumerate(PACKETS):
            ecg = make_ecg(beat_times(SECONDS, 0.5 + 0.1 * number), SECONDS, RATE_HZ)
            feeds.append(
                Feed(Device(f"d{number}", Profile(RATE_HZ, size, 1.0, "II")), iter([Stretch(ecg.astype(float))]))
            )
        return feeds


def _nothing_is_lost(
    url: BrokerUrl, state: Path, *outages: Callable[[], object], monitored_at: BrokerUrl | None = None
) -> Summary:
    """Play, have the outages happen, and compare with a monitor that nothing befalls."""
    with _monitor(monitored_at or url, state) as monitor:
        devices = _Devices(url)
        for outage in outages:
            outage()
        summary = devices.finish()
        beats, alerts = undisturbed(devices.packets())
        assert len(beats) > 100
        assert alerts
        wait(lambda: monitor.beats >= beats and monitor.alerts >= alerts)
        time.sleep(1)
    assert monitor.beats == beats  # nothing else either
    assert monitor.alerts == alerts
    assert not {"gaps", "clock jumps", "device restarts"} & set(monitor.engine.counts)
    assert (summary.lost, summary.dropped) == (0, 0)
    return summary


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("iotcore", signal.SIGKILL),
        pytest.param("mosquitto without persistence", signal.SIGKILL, marks=pytest.mark.long),
        pytest.param("mosquitto", signal.SIGKILL, marks=pytest.mark.long),
        pytest.param("mosquitto", signal.SIGTERM, marks=pytest.mark.long),
    ],
)
def test_a_broker_that_is_killed_and_started_again_costs_no_beat(
    kind: str, how: signal.Signals, tmp_path: Path
) -> None:  # fmt: skip
    rng = random.Random(f"{kind} {how}")

    def outage() -> None:
        time.sleep(rng.uniform(3, 6))
        line.stalled = True
        time.sleep(1)  # what the broker confirms to devices now, the monitor does not get
        broker.end(how)
        line.cut()
        line.stalled = False
        time.sleep(rng.uniform(0, 2))
        broker.start()

    with _broker(kind, tmp_path) as broker, Proxy(broker.url.port) as line:
        summary = _nothing_is_lost(broker.url, tmp_path / "state", outage, outage, monitored_at=line.url)
    assert (kind == "mosquitto") == (tmp_path / "mosquitto.db").exists()
    assert summary.reconnects >= 2 * len(PACKETS)
    assert summary.again > 0


@pytest.mark.parametrize(
    ("stalled_s", "cut"),
    [
        (4.0, True),
        *(pytest.param(*case, marks=pytest.mark.long) for case in ((4.0, False), (13.0, True), (13.0, False))),
    ],
)
def test_a_line_that_dies_unnoticed_costs_no_beat(stalled_s: float, cut: bool, tmp_path: Path) -> None:
    def outage() -> None:
        time.sleep(6.3)
        line.stalled = True
        time.sleep(stalled_s)
        if cut:
            line.cut()
        line.stalled = False

    with _broker("mosquitto", tmp_path) as broker, Proxy(broker.url.port) as line:
        _nothing_is_lost(line.url, tmp_path / "state", outage)


@pytest.mark.long
@pytest.mark.parametrize("given_up", [False, True])
def test_a_monitor_that_comes_back_long_after_the_devices_gets_what_they_kept(
    given_up: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker has forgotten the monitor's subscription, and confirms what nobody gets."""
    if given_up:
        monkeypatch.setattr("simulator.outbox.KNOCK_S", 2.0)
        monkeypatch.setattr("simulator.outbox.SILENCE_S", 5.0)

    def outage() -> None:
        time.sleep(6.3)
        line.stalled = True
        broker.restart(signal.SIGKILL, 0.0)
        time.sleep(8)
        line.stalled = False

    with _broker("mosquitto without persistence", tmp_path) as broker, Proxy(broker.url.port) as line:
        _nothing_is_lost(broker.url, tmp_path / "state", outage, monitored_at=line.url)


@pytest.mark.long
def test_a_monitor_killed_together_with_a_broker_that_forgets_costs_no_alert(tmp_path: Path) -> None:
    state, options = tmp_path / "state", ("--state", str(tmp_path / "state"))
    with _broker("mosquitto without persistence", tmp_path) as broker:
        with Recorder(broker.url, TOPICS.monitor_status("monitor")) as recorder:
            monitor = start_monitor(broker.url, *options)
            wait(lambda: bool(recorder.messages))
        devices = _Devices(broker.url)
        for away_s in (0.0, 2.0):
            time.sleep(5)
            monitor.kill()
            monitor.wait()
            broker.restart(signal.SIGKILL, away_s)
            monitor = start_monitor(broker.url, *options)
        devices.finish()
        _, alerts = undisturbed(devices.packets())
        store = Store(state, "monitor")
        wait(lambda: _told(store) >= alerts)
        time.sleep(1)
        monitor.send_signal(signal.SIGTERM)
        monitor.wait(20)
    assert _told(store) == alerts
    store.close()


def _told(store: Store) -> set[str]:
    return {wire.decode(payload, wire.Alert).id for payload in store.read_alerts(0.0)}
