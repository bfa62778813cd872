"""Hum of the mains: taken out at any rate, drifting or not, and nothing else is touched."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.monitor.one_stream import BeatQuality, Heartbeat, Resampler, Segmenter, resample_cut
from tests.monitor.synthetic_ecg import beat_times, make_ecg

RATES = [104.0, 125.0, 128.0, 130.061, 200.0, 250.0, 360.0, 512.617, 1000.0]
SECONDS = 40.0
TIMES = beat_times(SECONDS, [0.8, 0.75, 0.9])
LOCKED_S = 5.0


def _hum(rate_hz: float, line_hz: float, amplitude_uv: float, drift: str = "none") -> npt.NDArray[np.float64]:
    t = np.arange(round(SECONDS * rate_hz)) / rate_hz
    turns = {
        "none": 0 * t,
        "high": 0.5 * t,
        "low": -0.5 * t,
        "wandering": 0.5 * 60 / (2 * np.pi) * (1 - np.cos(2 * np.pi * t / 60)),
    }
    return amplitude_uv * np.sin(2 * np.pi * (line_hz * t + turns[drift]) + 1)


def _resample(samples: npt.ArrayLike, rate_hz: float) -> npt.NDArray[np.float32]:
    return Resampler(rate_hz, 0.0).push(np.asarray(samples, np.float32))


def _judge(samples: npt.ArrayLike, rate_hz: float) -> list[tuple[Heartbeat, str | None]]:
    gate = BeatQuality(rate_hz)
    beats = Segmenter().push(_resample(samples, rate_hz))
    return [(beat, gate.why_unfit(beat.signal)) for beat in beats if beat.median_rr is not None]


@pytest.mark.parametrize("rate_hz", RATES)
@pytest.mark.parametrize("line_hz", [50.0, 60.0])
@pytest.mark.parametrize("drift", ["none", "high", "low", "wandering"])
@pytest.mark.parametrize("amplitude_uv", [50.0, 500.0])
def test_hum_is_taken_out_and_the_beats_stay_where_they_are(
    rate_hz: float, line_hz: float, drift: str, amplitude_uv: float
) -> None:
    ecg = make_ecg(TIMES, SECONDS, rate_hz)
    humming = ecg + _hum(rate_hz, line_hz, amplitude_uv, drift)
    left = (_resample(humming, rate_hz) - _resample(ecg, rate_hz))[round(LOCKED_S * 125) :]
    assert left.std() <= 0.03 * amplitude_uv + 3
    judged = [beat for beat, reason in _judge(humming, rate_hz) if reason is None]
    r_peaks = np.array([beat.r_peak / 125 for beat in judged])
    expected = np.array([beat.r_peak / 125 for beat, _ in _judge(ecg, rate_hz)])
    expected = expected[expected > LOCKED_S + 3]  # the gate remembers eight beats
    assert all(np.abs(r_peaks - r_peak).min() <= 1.01 / 125 for r_peak in expected)


@pytest.mark.parametrize("rate_hz", RATES)
def test_small_hum_withholds_no_beat_from_the_first(rate_hz: float) -> None:
    for line_hz in (50.0, 60.0):
        told = _judge(make_ecg(TIMES, SECONDS, rate_hz) + _hum(rate_hz, line_hz, 70.0), rate_hz)
        assert [reason for _, reason in told].count(None) >= len(told) - 4


@pytest.mark.parametrize("line_hz", [50.0, 60.0])
def test_hum_that_cannot_be_followed_is_called_by_its_name(line_hz: float) -> None:
    jumping = _hum(250.0, line_hz, 500.0)
    for second in range(0, 40, 1):
        jumping[second * 250 : second * 250 + 125] *= -1  # its phase jumps twice a second
    told = [reason for _, reason in _judge(make_ecg(TIMES, SECONDS, 250.0) + jumping, 250.0)]
    assert told.count("mains") >= 0.75 * len(told)


@pytest.mark.parametrize("rate_hz", [125.0, 250.0, 512.617])
def test_hum_that_comes_and_goes_is_taken_out_while_it_is_there(rate_hz: float) -> None:
    ecg = make_ecg(TIMES, SECONDS, rate_hz)
    t = np.arange(ecg.size) / rate_hz
    there = {50.0: (t >= 5) & (t < 15), 60.0: (t >= 25) & (t < 35)}
    hum = sum(np.where(when, _hum(rate_hz, line_hz, 300.0), 0) for line_hz, when in there.items())
    left = np.abs(_resample(ecg + hum, rate_hz) - _resample(ecg, rate_hz))
    for begin_s, end_s in ((9, 14), (29, 34)):
        assert left[begin_s * 125 : end_s * 125].std() <= 12
    for begin_s, end_s in ((0, 4), (20, 24), (39, 40)):
        assert left[begin_s * 125 : end_s * 125].max() <= 1e-3


def test_other_noise_is_not_called_mains() -> None:
    noise = np.random.default_rng(0).normal(0, 200, round(SECONDS * 250))
    told = [reason for _, reason in _judge(make_ecg(TIMES, SECONDS, 250.0) + noise, 250.0)]
    assert told.count("noise") >= 0.75 * len(told)
    assert "mains" not in told


@pytest.mark.parametrize("rate_hz", RATES)
def test_without_hum_nothing_is_touched_to_the_bit(rate_hz: float) -> None:
    """A gain that no frame of the canceller could take for hum passes through the resampler linearly."""
    # Small enough for its noise not to pass for impulses, which are counted in ADC counts, at either gain.
    ecg = np.asarray(make_ecg(TIMES, SECONDS, rate_hz), np.float32) / 8
    np.testing.assert_array_equal(_resample(2 * ecg, rate_hz), 2 * _resample(ecg, rate_hz))


@settings(deadline=None, max_examples=20)
@given(st.sampled_from([125.0, 250.0]), st.lists(st.integers(1, 400), min_size=1, max_size=6))
def test_cuts_make_no_difference_to_the_bit(rate_hz: float, cuts: list[int]) -> None:
    signal = np.asarray(make_ecg(TIMES, SECONDS, rate_hz) + _hum(rate_hz, 50.0, 200.0), np.float32)[:4000]
    signal[1000:1003] = np.nan
    whole = Resampler(rate_hz, 5.001).push(signal)
    np.testing.assert_array_equal(resample_cut(Resampler(rate_hz, 5.001), signal, cuts), whole)
