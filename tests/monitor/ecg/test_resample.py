"""Resampling to 125 Hz: what passes, what does not, and that the cuts between packets make no difference."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.ecg.resample import DELAY_S, PHASES, design_kernel
from monitor.wire import NO_SAMPLE
from tests.monitor.one_stream import Resampler, resample_cut

RATES = [100.0, 125.0, 130.061, 250.0, 360.0, 512.617, 1000.0, 2000.0]


def _sine(frequency_hz: float, rate_hz: float, seconds: float = 12.0) -> npt.NDArray[np.float32]:
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    return np.sin(2 * np.pi * frequency_hz * t).astype(np.float32)


def _inner(signal: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return signal[125:-125]


@pytest.mark.parametrize(
    ("rate_hz", "frequency_hz"),
    [(rate, f) for rate in RATES for f in (1.0, 10.0, 25.0, 40.0) if (rate, f) != (100.0, 40.0)],
)  # at 100 Hz, 40 Hz is where the mains of 60 Hz are seen
def test_the_band_of_the_ecg_passes_unchanged(rate_hz: float, frequency_hz: float) -> None:
    start_s = 1000.003
    resampler = Resampler(rate_hz, start_s)
    out = resampler.push(_sine(frequency_hz, rate_hz))
    times = (resampler.first + np.arange(out.size)) / 125 - start_s
    expected = np.sin(2 * np.pi * frequency_hz * times).astype(np.float32)
    tolerance = 0.03 if rate_hz < 125 else 0.006
    np.testing.assert_allclose(_inner(out), _inner(expected), atol=tolerance)


@pytest.mark.parametrize("rate_hz", [rate for rate in RATES if rate > 200])
@pytest.mark.parametrize("frequency_hz", [75.0, 85.0, 100.0])
def test_what_would_be_folded_back_is_down_by_55_db(rate_hz: float, frequency_hz: float) -> None:
    out = _inner(Resampler(rate_hz, 0.0).push(_sine(frequency_hz, rate_hz)))
    assert 20 * np.log10(np.abs(out).max()) < -55


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(RATES), st.lists(st.integers(1, 400), min_size=1, max_size=6))
def test_cuts_make_no_difference_to_the_bit(rate_hz: float, cuts: list[int]) -> None:
    signal = np.random.default_rng(3).normal(size=3000).astype(np.float32)
    whole = Resampler(rate_hz, 5.001).push(signal)
    np.testing.assert_array_equal(resample_cut(Resampler(rate_hz, 5.001), signal, cuts), whole)


@pytest.mark.parametrize("rate_hz", [130.061, 250.0, 1000.0])
def test_it_equals_its_naive_twin(rate_hz: float) -> None:
    """The twin: each output sample is the sum of filter times input, found by its time alone."""
    signal = np.random.default_rng(4).normal(size=2000).astype(np.float32)
    resampler = Resampler(rate_hz, 0.0)
    out = resampler.push(signal)
    kernel = design_kernel(rate_hz).filters.astype(np.float64)
    half = kernel.shape[1] // 2
    for k in range(20, out.size, 7):
        position = k / 125 * rate_hz
        row = kernel[round((position % 1) * PHASES)]
        first = int(position) - half + 1
        assert out[k] == pytest.approx(row @ signal[first : first + 2 * half], abs=1e-4)


@pytest.mark.parametrize("rate_hz", RATES)
def test_delay_is_80_ms(rate_hz: float) -> None:
    out = Resampler(rate_hz, 0.0).push(_sine(5.0, rate_hz, seconds=4.0))
    assert 4.0 - DELAY_S - 0.02 <= out.size / 125 <= 4.0 - DELAY_S + 0.02


@pytest.mark.parametrize("rate_hz", [125.0, 250.0, 1000.0])
def test_a_hole_makes_missing_only_what_needs_it(rate_hz: float) -> None:
    signal = _sine(5.0, rate_hz)
    signal[round(4.0 * rate_hz) : round(4.04 * rate_hz)] = np.nan
    missing = np.flatnonzero(np.isnan(Resampler(rate_hz, 0.0).push(signal)))
    assert 500 - 10 <= missing.min() <= 500 - 5
    assert 505 + 6 <= missing.max() <= 505 + 10


@pytest.mark.parametrize("rate_hz", [125.0, 250.0, 1000.0])
def test_a_short_hole_makes_nothing_missing(rate_hz: float) -> None:
    signal = _sine(5.0, rate_hz)
    whole = Resampler(rate_hz, 0.0).push(signal)
    signal[round(4.0 * rate_hz)] = np.nan
    np.testing.assert_allclose(Resampler(rate_hz, 0.0).push(signal), whole, atol=1e-3)


def test_steps_give_what_their_values_give_and_no_sample_is_a_missing_one() -> None:
    steps = np.random.default_rng(5).integers(-3000, 3000, 2000).astype(np.int16)
    signal = steps.astype(np.float32)
    steps[700:720], signal[700:720] = NO_SAMPLE, np.nan
    steps[900], signal[900] = NO_SAMPLE, np.nan
    np.testing.assert_array_equal(Resampler(250.0, 0.0).push(steps), Resampler(250.0, 0.0).push(signal))


def test_a_restart_in_mid_stream_finds_the_same_samples() -> None:
    signal = _sine(7.0, 250.0)
    whole = Resampler(250.0, 1e9)
    late = Resampler(250.0, 1e9 + 777 / 250)
    one, other = whole.push(signal), late.push(signal[777:])
    shift = late.first - whole.first
    # Positions between samples are rounded to 1/512, and times near 1e9 s to 1e-7 s.
    np.testing.assert_allclose(other[125:], one[shift + 125 :][: other.size - 125], atol=1e-3)


def test_nothing_in_nothing_out() -> None:
    assert Resampler(250.0, 0.0).push(np.empty(0, np.float32)).size == 0
