"""What a broker loses that is killed, and a line that breaks, the devices send again: real brokers, kill -9."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from monitor import wire
from monitor.broker.connection import BrokerUrl
from monitor.state.location import locate
from simulator.replay import Summary
from tests.brokers import Broker, Kind
from tests.monitor.service.crash_harness import TOPICS, start_monitor, undisturbed, wait
from tests.monitor.service.outage import INFO, PACKETS, Devices, endure
from tests.monitor.service.proxy import Proxy
from tests.simulator.recorder import Recorder


@contextmanager
def _broker(kind: Kind, folder: Path) -> Iterator[Broker]:
    broker = Broker(kind, folder)
    try:
        yield broker
    finally:
        broker.end(signal.SIGKILL)


def _nothing_is_lost(
    url: BrokerUrl, state: Path, *outages: Callable[[], object], monitored_at: BrokerUrl | None = None
) -> Summary:
    endured = endure(url, state, *outages, monitored_at=monitored_at)
    assert len(endured.expected_beats) > 100
    assert endured.expected_alerts
    assert endured.is_whole, endured
    return endured.summary


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
    kind: Kind, how: signal.Signals, tmp_path: Path
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
    assert summary.resent > 0


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
        monkeypatch.setattr("simulator.outbox.PROBE_S", 2.0)
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
        devices = Devices(broker.url)
        for away_s in (0.0, 2.0):
            time.sleep(5)
            monitor.kill()
            monitor.wait()
            broker.restart(signal.SIGKILL, away_s)
            monitor = start_monitor(broker.url, *options)
        devices.finish()
        _, alerts = undisturbed(devices.packets(), INFO)
        wait(lambda: _told(state) >= alerts)
        time.sleep(1)
        monitor.send_signal(signal.SIGTERM)
        monitor.wait(20)
    assert _told(state) == alerts


def _told(state: Path) -> set[str]:
    return {wire.decode(payload, wire.Alert).id for _, payload in locate(state).read_history("monitor", 0.0)}
