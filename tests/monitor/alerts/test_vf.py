"""Ventricular fibrillation: the alert, what it hides, and a device that falls into it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from monitor import wire
from monitor.alerts.episode import AlertSettings
from monitor.alerts.finding import ABNORMAL, NORMAL, WITHHELD
from monitor.alerts.registry import CHAINS, make_detectors
from monitor.classify import Classifier
from monitor.engine import Engine
from tests.monitor.alerts.player import Beat, Moment, Player, Step
from tests.monitor.one_device import BEGIN_S, play
from tests.monitor.synthetic_ecg import beat_times, make_ecg

KIND = "ventricular-fibrillation"
WELL: list[Step] = [Beat(0.8, NORMAL, 0.1)] * 10
ILL: list[Step] = [Moment(0.512, "vf")] * 40
OVER: list[Step] = [Moment(0.512, "no-vf")]
NOISE: list[Step] = [Beat(0.3, WITHHELD, is_poor=True)] * 40

RATE_HZ, ONSET_S, END_S, SECONDS = 250.0, 40.0, 60.0, 100.0


def _states(*parts: list[Step]) -> list[tuple[str, str]]:
    player = Player(make_detectors(AlertSettings()))
    player.play([step for part in parts for step in part])
    return [(alert.kind, alert.state) for alert in player.alerts if alert.state != "update"]


def test_it_begins_at_once_and_ends_when_the_signal_is_another() -> None:
    assert _states(WELL, ILL) == [(KIND, "new")]
    assert _states(WELL, ILL, WELL, OVER, WELL) == [(KIND, "new"), (KIND, "end")]


def test_it_may_begin_again_at_once() -> None:
    assert _states(ILL, OVER, ILL) == [(KIND, "new"), (KIND, "end"), (KIND, "new")]


def test_it_goes_on_with_an_update_every_ten_seconds() -> None:
    player = Player(make_detectors(AlertSettings()))
    player.play([Moment(0.512, "vf")] * 60)
    assert [alert.state for alert in player.alerts] == ["new", "update", "update"]


def test_no_beat_ends_it() -> None:
    assert _states(ILL, WELL, [Beat(0.5, ABNORMAL, 0.9)] * 20) == [(KIND, "new")]


def test_it_ends_where_the_electrode_comes_off() -> None:
    player = Player(make_detectors(AlertSettings()))
    player.play([*ILL, Moment(1.0, "lead-off")])
    [end] = [alert for alert in player.alerts if alert.state == "end"]
    assert (end.kind, end.reason) == (KIND, "lead-off")


def test_what_beats_would_say_is_not_said_meanwhile() -> None:
    assert {kind for kind, _ in _states(WELL, ILL, NOISE, [Moment(20.0, "no-beats")])} == {KIND}
    assert {kind for kind, _ in _states(WELL, ILL, [Beat(0.25, ABNORMAL, 0.9)] * 60)} == {KIND}


def test_asystole_turns_into_it() -> None:
    silence: list[Step] = [Moment(5.0, "no-beats")]
    kinds = [entry for entry in _states(WELL, silence, ILL) if entry[0] != "no-beats"]
    assert kinds == [("asystole", "new"), (KIND, "new"), ("asystole", "end")]


def test_nothing_is_graver() -> None:
    assert all(chain.index(KIND) == 0 for chain in CHAINS if KIND in chain)


def test_no_rate_is_stated_where_there_are_no_beats() -> None:
    player = Player(make_detectors(AlertSettings()))
    player.play([*WELL, *ILL])
    [new] = [alert for alert in player.alerts if alert.state == "new"]
    assert (new.severity, new.heart_rate_bpm, new.recent) == ("high", None, [])


def _device(wave: npt.NDArray[np.float64]) -> npt.NDArray[np.int16]:
    """An ECG with something else instead from `ONSET_S` to `END_S`, and a little noise."""
    times = np.concatenate([beat_times(ONSET_S), beat_times(SECONDS, 0.9, END_S + 0.5)])
    ecg = make_ecg(times, SECONDS, RATE_HZ) + np.random.default_rng(0).normal(0, 8, round(SECONDS * RATE_HZ))
    begin = round(ONSET_S * RATE_HZ)
    ecg[begin : begin + wave.size] = wave
    return np.rint(ecg).astype(np.int16)


def _flutter(hertz: float) -> npt.NDArray[np.float64]:
    return np.asarray(600 * np.sin(2 * np.pi * hertz * np.arange(round((END_S - ONSET_S) * RATE_HZ)) / RATE_HZ))


def _waves(seed: int) -> npt.NDArray[np.float64]:
    """Waves whose period and height wander."""
    chance, waves = np.random.default_rng(seed), np.zeros(0)
    while waves.size < (END_S - ONSET_S) * RATE_HZ:
        n = round(chance.uniform(0.13, 0.28) * RATE_HZ)
        waves = np.append(waves, chance.uniform(200, 700) * np.sin(2 * np.pi * np.arange(n) / n))
    return waves[: round((END_S - ONSET_S) * RATE_HZ)]


def _about_it(alerts: list[wire.Alert]) -> list[tuple[str, float]]:
    return [(one.state, one.time_s - BEGIN_S) for one in alerts if one.kind == KIND and one.state != "update"]


@pytest.mark.parametrize("wave", [_flutter(3.5), _flutter(5.0), _waves(0), _waves(1)], ids=str)
def test_a_device_is_told_within_ten_seconds_and_nothing_else_is_while_it_lasts(wave: npt.NDArray[np.float64]) -> None:
    _, alerts = play(_device(wave), RATE_HZ)
    [(begun, at_s), (ended, end_s)] = _about_it(alerts)
    assert (begun, ended) == ("new", "end")
    assert ONSET_S + 2 < at_s < ONSET_S + 10
    assert END_S < end_s < END_S + 18
    meanwhile = {one.kind for one in alerts if at_s < one.time_s - BEGIN_S < END_S}
    assert meanwhile <= {KIND}


def test_a_heart_that_stands_still_is_not_in_fibrillation() -> None:
    _, alerts = play(_device(np.random.default_rng(1).normal(0, 10, round((END_S - ONSET_S) * RATE_HZ))), RATE_HZ)
    assert _about_it(alerts) == []
    assert "asystole" in {one.kind for one in alerts}


def test_p_waves_alone_are_no_fibrillation() -> None:
    t = np.arange(round((END_S - ONSET_S) * RATE_HZ)) / RATE_HZ
    p_waves = 120 * np.exp(-(((t % 0.75 - 0.4) / 0.03) ** 2))
    _, alerts = play(_device(p_waves + np.random.default_rng(1).normal(0, 6, t.size)), RATE_HZ)
    assert _about_it(alerts) == []


def test_lost_packets_leave_the_alert_open_until_the_signal_is_known_again() -> None:
    samples = _device(np.concatenate([_flutter(5.0), _flutter(5.0)]))
    engine, alerts = Engine(Classifier(provider="cpu")), list[wire.Alert]()
    for seq in range(int(SECONDS)):
        if seq not in (55, 70):
            part = samples[seq * int(RATE_HZ) : (seq + 1) * int(RATE_HZ)]
            engine.feed("a", wire.Packet(seq, BEGIN_S + seq, RATE_HZ, part), 0.0)
            alerts += engine.flush().alerts
    assert "gap" in {one.kind for one in alerts}
    [(begun, _), (ended, end_s)] = _about_it(alerts)
    assert (begun, ended) == ("new", "end")
    assert end_s > ONSET_S + 2 * (END_S - ONSET_S)
