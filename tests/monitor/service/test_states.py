"""The retained state of each device: what a late subscriber sees, and how seldom it is told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from monitor import wire
from monitor.alerts.episode import AlertSettings
from monitor.alerts.limits import Limits
from monitor.broker.memory import MemoryBroker
from tests.monitor.service.one_monitor import CALM, RATE_HZ, SLOW, TOPICS, Monitor, heart, running
from tests.monitor.synthetic_ecg import WAVES, beat_times, make_ecg

STATE = TOPICS.of("a", "state")


@pytest.fixture
def monitor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Monitor]:
    """A monitor that looks at its devices at every turn."""
    monkeypatch.setattr("monitor.service.states.LOOK_S", 0.0)
    with running(MemoryBroker(), state=f"memory:{uuid4()}") as running_one:
        yield running_one


def _state(monitor: Monitor, device: str = "a") -> wire.DeviceState:
    state = monitor.state(device)
    assert state is not None
    return state


def _age(monitor: Monitor, seconds: float) -> None:
    """Let the loop believe that so much time goes by without a message."""
    monitor.loop._health.attention.away_s -= seconds


def test_a_device_that_is_well_streams_with_its_heart_rate(monitor: Monitor) -> None:
    monitor.play("a", CALM)
    state = _state(monitor)
    assert (state.device, state.connection, state.alerts, state.silenced) == ("a", "streaming", [], [])
    assert state.heart_rate_bpm == pytest.approx(75, abs=1)
    assert (state.rhythm, state.judged, state.schema) == ("regular", 1.0, wire.SCHEMA)


def test_it_says_who_watches_the_device_and_when_its_last_message_came(monitor: Monitor) -> None:
    monitor.play("a", CALM)
    state = _state(monitor)
    assert state.monitor == "monitor"
    assert state.heard_s == pytest.approx(state.time_s, abs=1)
    _age(monitor, 120)
    monitor.loop.turn(0.0)
    state = _state(monitor)
    assert state.connection == "silent"
    assert state.heard_s == pytest.approx(state.time_s - 120, abs=1), "not when that was said"


def test_the_status_tells_its_time_and_the_limits_that_are_not_as_they_come() -> None:
    alerts = AlertSettings(limits=Limits(bradycardia_bpm=50))
    with running(MemoryBroker(), state=f"memory:{uuid4()}", alerts=alerts) as monitor:
        monitor.turn()
        [kept] = [one for topic, one in monitor.broker.retained.items() if topic == TOPICS.monitor_status("monitor")]
    status = wire.decode(kept.payload, wire.MonitorStatus)
    assert status.limits == {"bradycardia": {"below_bpm": 50}}
    assert status.time_s == pytest.approx(time.time(), abs=60)


def test_an_alert_is_in_it_from_its_begin_to_its_end(monitor: Monitor) -> None:
    monitor.play("a", SLOW)
    [new] = monitor.alerts("a")
    [shown] = _state(monitor).alerts
    assert (shown.episode, shown.kind, shown.severity, shown.since_s) == (
        new.episode, "bradycardia", "medium", new.since_s,
    )  # fmt: skip
    assert shown.text == new.text
    monitor.play("a", CALM)
    assert _state(monitor).alerts == []


def test_a_rhythm_that_is_alerted_is_named(monitor: Monitor) -> None:
    rng = np.random.default_rng(0)
    times_s = beat_times(90.0, rng.uniform(0.45, 1.1, 200).tolist())
    monitor.play("a", make_ecg(times_s, 90.0, RATE_HZ, waves=WAVES[1:]))  # without P waves
    assert [one.kind for one in _state(monitor).alerts] == ["atrial-fibrillation"]
    assert _state(monitor).rhythm == "atrial fibrillation"


def test_an_electrode_that_is_off_leaves_no_heart_rate(monitor: Monitor) -> None:
    monitor.play("a", CALM)
    monitor.play("a", np.zeros(1000, np.int16))
    state = _state(monitor)
    assert (state.connection, state.heart_rate_bpm, state.rhythm) == ("lead-off", None, None)
    assert [one.kind for one in state.alerts] == ["lead-off"]
    monitor.play("a", CALM)
    assert (_state(monitor).connection, _state(monitor).alerts) == ("streaming", [])


def test_a_heart_that_stops_has_no_heart_rate(monitor: Monitor) -> None:
    noise = np.random.default_rng(0).normal(0, 5, round(8 * RATE_HZ))
    monitor.play("a", CALM)
    monitor.play("a", np.rint(noise).astype(np.int16))
    assert (_state(monitor).heart_rate_bpm, _state(monitor).rhythm) == (None, "asystole")


def test_a_heart_that_fibrillates_has_no_heart_rate_whatever_was_known_before(monitor: Monitor) -> None:
    waves = 600 * np.sin(2 * np.pi * 3.5 * np.arange(round(15 * RATE_HZ)) / RATE_HZ)
    monitor.play("a", CALM)
    monitor.play("a", np.rint(waves).astype(np.int16))
    assert [one.kind for one in _state(monitor).alerts] == ["ventricular-fibrillation"]
    assert (_state(monitor).heart_rate_bpm, _state(monitor).rhythm) == (None, "ventricular fibrillation")


def test_a_device_that_says_that_it_leaves_is_offline_until_it_sends_again(monitor: Monitor) -> None:
    monitor.play("a", CALM)
    monitor.broker.publish(TOPICS.of("a", "status"), wire.encode(wire.DeviceStatus(state="offline")))
    monitor.turn()
    assert (_state(monitor).connection, _state(monitor).heart_rate_bpm) == ("offline", None)
    monitor.play("a", CALM)
    assert _state(monitor).connection == "streaming"


def test_a_device_from_which_nothing_comes_is_silent_and_then_forgotten(monitor: Monitor) -> None:
    monitor.play("a", CALM)
    _age(monitor, 11.0)
    monitor.turn()
    assert (_state(monitor).connection, _state(monitor).heart_rate_bpm) == ("silent", None)
    _age(monitor, 600.0)
    monitor.loop.housekeeping(time.monotonic())
    monitor.turn()
    assert monitor.state("a") is None
    assert monitor.messages(STATE)[-1] == b""


def test_what_does_not_change_is_told_once(monitor: Monitor) -> None:
    monitor.play("a", CALM)
    before = len(monitor.messages(STATE))
    for _ in range(5):
        monitor.play("a", CALM)
    assert len(monitor.messages(STATE)) == before


def test_between_two_looks_only_alerts_and_decisions_are_told() -> None:
    with running(MemoryBroker(), state=f"memory:{uuid4()}") as monitor:
        for _ in range(4):
            monitor.play("a", CALM)
            monitor.turn()
        first = len(monitor.messages(STATE))
        assert first <= 1
        monitor.play("a", SLOW)
        assert _state(monitor).alerts
        monitor.ask("acknowledge", "a")
        assert _state(monitor).alerts[0].acknowledged_by == "nurse"
        assert len(monitor.messages(STATE)) <= first + 2


def test_after_a_crash_the_states_are_those_of_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.service.states.LOOK_S", 0.0)
    broker = MemoryBroker()
    with running(broker, finishes=False, state=tmp_path) as first:
        first.play("a", SLOW)
        before = _state(first)
    broker.retained.clear()
    with running(broker, state=tmp_path) as second:
        second.sent = first.sent
        second.play("a", SLOW[:250])
        after = _state(second)
    assert [one.episode for one in after.alerts] == [one.episode for one in before.alerts]
    assert (after.rhythm, after.connection) == (before.rhythm, "streaming")
    assert after.heart_rate_bpm == pytest.approx(before.heart_rate_bpm, abs=0.5)


def test_a_device_that_went_away_with_a_killed_monitor_is_silent_then_alerted_then_cleared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor.service.states.LOOK_S", 0.0)
    broker = MemoryBroker()
    with running(broker, finishes=False, state=tmp_path) as first:
        first.play("a", SLOW)
    assert _state(first).connection == "streaming"
    with running(broker, state=tmp_path, alerts=AlertSettings(silent_s=60.0)) as second:
        second.loop.housekeeping(time.monotonic())
        assert second.service.engine.devices == 0  # it may still be heard
        _age(second, 11.0)
        second.loop.housekeeping(time.monotonic())
        second.turn()
        assert _state(second).connection == "silent"
        assert [one.kind for one in _state(second).alerts] == ["bradycardia"]
        _age(second, 60.0)
        second.turn()
        assert [one.kind for one in _state(second).alerts] == ["bradycardia", "device-silent"]
        _age(second, 600.0)
        second.loop.housekeeping(time.monotonic())
        second.turn()
        assert second.state("a") is None
        assert [(one.kind, one.state) for one in second.alerts("a")[-2:]] == [
            ("bradycardia", "end"),
            ("device-silent", "end"),
        ]


def test_a_state_that_is_too_old_to_go_on_from_is_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = MemoryBroker()
    with running(broker, finishes=False, state=tmp_path) as first:
        first.play("a", SLOW)
        first.turn()
    assert first.state("a") is not None
    monkeypatch.setattr("monitor.state.sqlite.KEEP_STATE_S", -1.0)
    with running(broker, state=tmp_path) as second:
        _age(second, 11.0)
        second.loop.housekeeping(time.monotonic())
        second.turn()
        assert second.state("a") is None
        assert second.service.engine.devices == 0


def test_a_broker_that_has_lost_its_retained_messages_gets_them_again(monitor: Monitor) -> None:
    monitor.play("a", CALM)
    monitor.broker.cut("monitor")
    monitor.broker.retained.clear()
    monitor.turn()
    assert _state(monitor).connection == "streaming"


def test_a_monitor_that_keeps_nothing_leaves_no_states_behind() -> None:
    broker = MemoryBroker()
    with running(broker) as monitor:
        monitor.play("a", SLOW)
        assert monitor.state("a") is not None
    assert monitor.state("a") is None


def test_the_gravest_alert_comes_first(monitor: Monitor) -> None:
    monitor.play("a", SLOW)
    monitor.play("a", np.zeros(1000, np.int16))
    noise = np.rint(np.random.default_rng(0).normal(0, 5, round(8 * RATE_HZ))).astype(np.int16)
    monitor.play("a", heart(0.8, 60.0))
    monitor.play("a", noise)
    kinds = [one.kind for one in _state(monitor).alerts]
    assert kinds[0] == "asystole"
