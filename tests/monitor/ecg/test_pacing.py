"""A pacemaker whose spikes no heartbeat follows is no heart that beats; one that captures is."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal as filters

from monitor import wire
from monitor.classify import Classifier
from monitor.engine import Engine
from tests.monitor.one_device import BEGIN_S, play
from tests.monitor.synthetic_ecg import beat_times, make_ecg

STOP_S, SECONDS = 20.0, 60.0
FINE_HZ = 8000
PACED = [(0.02, 0.9, 0.03), (0.28, -0.3, 0.06)]
"""(offset s, height mV, width s) of the QRS complex and the T wave that a spike captures."""

Samples = npt.NDArray[np.int16]


def _spikes(times_s: npt.NDArray[np.float64], rate_hz: float, width_s: float, height_uv: float) -> Samples:
    """Spikes through a filter of 40 Hz, as ambulatory recorders have it, and the 0.05 Hz of their input."""
    fine = np.zeros(round(SECONDS * FINE_HZ))
    for time_s in times_s:
        begin = round(time_s * FINE_HZ)
        fine[begin : begin + round(width_s * FINE_HZ)] = height_uv
    low = filters.butter(2, 40.0, "low", fs=FINE_HZ, output="sos")
    high = filters.butter(1, 0.05, "high", fs=FINE_HZ, output="sos")
    fine = filters.sosfilt(high, filters.sosfilt(low, fine))
    t = np.arange(round(SECONDS * rate_hz)) / rate_hz
    return np.rint(np.interp(t, np.arange(fine.size) / FINE_HZ, fine)).astype(np.int16)


def _ecg(rate_hz: float, until_s: float = STOP_S, again_s: float = SECONDS) -> Samples:
    times = np.concatenate([beat_times(until_s), beat_times(SECONDS, 0.9, again_s)])
    return make_ecg(times, SECONDS, rate_hz)


def _pace(bpm: float, begin_s: float, end_s: float = SECONDS - 0.1) -> npt.NDArray[np.float64]:
    return np.arange(begin_s, end_s, 60 / bpm)


def _asystole(alerts: list[wire.Alert]) -> list[tuple[str, float]]:
    return [(alert.state, alert.time_s - BEGIN_S) for alert in alerts if alert.kind == "asystole"]


@pytest.mark.parametrize("rate_hz", [125.0, 200.0, 250.0, 500.0, 1000.0])
@pytest.mark.parametrize("bpm", [60.0, 72.0, 80.0])
def test_spikes_without_capture_are_a_heart_that_has_stopped(rate_hz: float, bpm: float) -> None:
    """Of 1.2 and 4.8 mV at the wire. Within 9 s of the first spike, and until the end."""
    for width_s, height_uv in ((0.0005, 20_000), (0.002, 20_000)):
        _, alerts = play(_ecg(rate_hz) + _spikes(_pace(bpm, STOP_S + 0.5), rate_hz, width_s, height_uv), rate_hz)
        [(state, time_s)] = _asystole(alerts)
        assert state == "new"
        assert STOP_S + 4 < time_s < STOP_S + 9.5


@pytest.mark.parametrize("rate_hz", [125.0, 250.0, 500.0])
@pytest.mark.parametrize("height_uv", [5000, 20_000, 50_000])
def test_spikes_that_capture_are_a_heart_that_beats(rate_hz: float, height_uv: int) -> None:
    """Also where they are three times as high as the QRS complex that they cause."""
    spikes = _pace(72.0, STOP_S + 0.5)
    captured = make_ecg(spikes + 0.06, SECONDS, rate_hz, waves=PACED)
    beats, alerts = play(_ecg(rate_hz) + captured + _spikes(spikes, rate_hz, 0.0005, height_uv), rate_hz)
    assert _asystole(alerts) == []
    assert sum(beat.r_peak_s > BEGIN_S + STOP_S for beat in beats) >= 0.95 * spikes.size


def test_when_it_captures_again_the_alert_ends() -> None:
    again_s = 40.0
    spikes = _pace(72.0, STOP_S + 0.5)
    captured = make_ecg(spikes[spikes > again_s] + 0.06, SECONDS, 250.0, waves=PACED)
    _, alerts = play(_ecg(250.0) + captured + _spikes(spikes, 250.0, 0.002, 20_000), 250.0)
    [(_, begin_s), (state, end_s)] = _asystole(alerts)
    assert begin_s < again_s < end_s < again_s + 8
    assert state == "end"


def test_so_it_does_when_the_heart_beats_by_itself_between_the_spikes() -> None:
    spikes = _spikes(_pace(72.0, STOP_S + 0.5), 250.0, 0.002, 20_000)
    _, alerts = play(_ecg(250.0, again_s=40.0) + spikes, 250.0)
    [_, (state, end_s)] = _asystole(alerts)
    assert state == "end"
    assert 40 < end_s < 50


@pytest.mark.parametrize("t_wave_mv", [0.0, 0.05, 0.15])
def test_a_regular_heart_with_small_t_waves_has_not_stopped(t_wave_mv: float) -> None:
    """From the first second on, to the millisecond and however narrow."""
    waves = [(0.0, 1.0, 0.008), (0.25, t_wave_mv, 0.05)]
    beats, alerts = play(make_ecg(beat_times(SECONDS), SECONDS, 250.0, waves=waves), 250.0)
    assert _asystole(alerts) == []
    assert max(b.r_peak_s - a.r_peak_s for a, b in pairwise(beats)) < 1


def _play_in(samples: Samples, sizes: list[int], stop: int) -> list[tuple[str, str]]:
    """Play in packets of these sizes over and over, saved and restored once."""
    engine, found = Engine(Classifier(provider="cpu")), []
    at = seq = 0
    while at < samples.size:
        part = samples[at : at + sizes[seq % len(sizes)]]
        engine.feed("a", wire.Packet(seq, BEGIN_S + at / 250, 250.0, part), 0.0)
        found += engine.flush().beats
        at, seq = at + part.size, seq + 1
        if at - part.size <= stop < at:
            saved, engine = engine.save("a"), Engine(Classifier(provider="cpu"))
            engine.restore("a", saved, 0.0)
    return [(beat.id, beat.verdict) for beat in found]


@settings(deadline=None, max_examples=8)
@given(st.lists(st.integers(50, 1250), min_size=1, max_size=4), st.integers(4500, 9000))
def test_however_it_is_cut_or_saved_the_same_spikes_are_no_beats(sizes: list[int], stop: int) -> None:
    samples = _ecg(250.0, again_s=40.0) + _spikes(_pace(72.0, STOP_S + 0.5), 250.0, 0.002, 20_000)
    assert _play_in(samples, sizes, stop) == _play_in(samples, [250], -1)
