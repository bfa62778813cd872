"""Ventricular fibrillation and flutter, told from the signal at 125 Hz; and what is none."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.beat import RATE_HZ
from monitor.ecg import vf
from tests.monitor.one_device import play
from tests.monitor.synthetic_ecg import beat_times, make_ecg

Signal = npt.NDArray[np.float32]
CALM_S, ILL_S = 20.0, 20.0
LATEST_S, LATEST_END_S = 8.0, 17.0


def _calm(seconds: float, rr_s: float = 0.8) -> Signal:
    return make_ecg(beat_times(seconds, rr_s), seconds, RATE_HZ).astype(np.float32)


def _fibrillation(seconds: float, seed: int = 0) -> Signal:
    """Waves whose period and height wander, each between 130 and 280 ms long."""
    chance = np.random.default_rng(seed)
    waves: list[npt.NDArray[np.float64]] = []
    while sum(wave.size for wave in waves) < seconds * RATE_HZ:
        n = round(chance.uniform(0.13, 0.28) * RATE_HZ)
        waves.append(chance.uniform(200, 700) * np.sin(2 * np.pi * np.arange(n) / n))
    return np.concatenate(waves)[: round(seconds * RATE_HZ)].astype(np.float32)


def _sine(seconds: float, hertz: float, height: float = 600.0) -> Signal:
    wave: Signal = np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE_HZ)) / RATE_HZ).astype(np.float32)
    return np.float32(height) * wave


def _broad_rhythm(seconds: float, rr_s: float) -> Signal:
    """Complexes of 0.2 s and T waves as high."""
    at = np.arange(round(seconds * RATE_HZ)) / RATE_HZ % rr_s / rr_s
    complexes = np.exp(-(((at - 0.25) / 0.13) ** 2)) - 0.8 * np.exp(-(((at - 0.7) / 0.16) ** 2))
    return (900 * complexes).astype(np.float32)


def _noise(seconds: float, height: float, seed: int = 0) -> Signal:
    return np.random.default_rng(seed).normal(0, height, round(seconds * RATE_HZ)).astype(np.float32)


def _find(signal: Signal, sizes: list[int] | None = None) -> list[tuple[int, int]]:
    """Where what was found, of a signal that is cut into parts of these sizes, over and over."""
    state, found, at, turn = np.zeros(1, vf.STATE), [], 0, 0
    while at < signal.size:
        part = signal[at : at + (sizes[turn % len(sizes)] if sizes else signal.size)]
        one = vf.find(state, np.array([0]), part, np.array([part.size]))
        found += list(zip(one.samples.tolist(), one.what.tolist(), strict=True))
        at, turn = at + part.size, turn + 1
    return found


def _present_s(signal: Signal | npt.NDArray[np.float64]) -> list[float]:
    return [at / RATE_HZ for at, what in _find(signal.astype(np.float32)) if what == vf.PRESENT]


ILL = np.concatenate([_calm(CALM_S), _fibrillation(ILL_S), _calm(30.0)])


@pytest.mark.parametrize("seed", range(5))
def test_fibrillation_is_told_within_seconds_of_its_onset_and_of_its_end(seed: int) -> None:
    signal = np.concatenate([_calm(CALM_S), _fibrillation(ILL_S, seed), _calm(30.0)])
    present_s = _present_s(signal + _noise(70.0, 8.0, seed))
    assert CALM_S + 2 < present_s[0] < CALM_S + LATEST_S
    assert CALM_S + ILL_S < present_s[-1] < CALM_S + ILL_S + LATEST_END_S


@pytest.mark.parametrize("hertz", [3.5, 4.0, 5.0, 6.0])
def test_so_is_flutter(hertz: float) -> None:
    present_s = _present_s(np.concatenate([_calm(CALM_S), _sine(ILL_S, hertz)]))
    assert present_s
    assert present_s[0] < CALM_S + LATEST_S


@pytest.mark.parametrize("rr_s", [0.33, 0.5, 0.8, 1.5])
def test_a_heart_with_qrs_complexes_is_in_none(rr_s: float) -> None:
    assert not _present_s(_calm(60.0, rr_s))


@pytest.mark.parametrize("rr_s", [0.4, 0.5, 0.7])
def test_nor_is_a_regular_one_too_slow_for_flutter_however_broad_its_complexes(rr_s: float) -> None:
    assert not _present_s(_broad_rhythm(60.0, rr_s))


@pytest.mark.parametrize("height", [0.0, 2.0, 10.0])
def test_nor_is_a_heart_that_stands_still(height: float) -> None:
    assert not _present_s(
        np.concatenate([_calm(CALM_S), np.zeros(round(40 * RATE_HZ), np.float32)]) + _noise(60.0, height)
    )


def test_a_wave_much_fainter_than_the_signal_usually_is_is_none() -> None:
    assert _present_s(np.concatenate([_calm(CALM_S), _sine(ILL_S, 5.0, 300.0)]))
    assert not _present_s(np.concatenate([_calm(CALM_S), _sine(ILL_S, 5.0, 8.0)]))


@pytest.mark.parametrize("height", [1000.0, 2000.0, 5000.0])
@pytest.mark.parametrize("moves", [slice(0, 520), slice(1000, 5000)])
def test_motion_before_it_does_not_hide_fibrillation(height: float, moves: slice) -> None:
    calm = _calm(100.0)
    calm[moves] += _noise(100.0, 1.0)[moves] * _sine(100.0, 3.0, height)[moves]
    found_s = [at_s for at_s in _present_s(np.concatenate([calm, _fibrillation(ILL_S)])) if at_s > 100]
    assert found_s
    assert found_s[0] < 100 + LATEST_S


def test_a_stream_that_begins_with_missing_samples_learns_what_is_usual_from_the_first_that_are_there() -> None:
    calm = _calm(60.0)
    calm[: round(5 * RATE_HZ)] = np.nan
    assert not _present_s(np.concatenate([calm, _sine(ILL_S, 5.0, 8.0)]))


@pytest.mark.parametrize("signal", [_noise(60.0, 300.0), _noise(60.0, 30.0).cumsum().astype(np.float32)])
def test_noise_is_none(signal: Signal) -> None:
    assert not _present_s(signal)


@pytest.mark.parametrize("gain", [0.1, 1.0, 30.0, -1.0])
def test_gain_and_polarity_make_no_difference(gain: float) -> None:
    assert [at for at, _ in _find(np.float32(gain) * ILL)] == pytest.approx(
        [at for at, _ in _find(ILL)], abs=2 * vf.STEP
    )


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 2000), min_size=1, max_size=6))
def test_however_the_stream_is_cut_the_same_is_found(sizes: list[int]) -> None:
    assert _find(ILL, sizes) == _find(ILL)


def test_one_sample_at_a_time_is_a_cut_too() -> None:
    assert _find(ILL, [1]) == _find(ILL)


def test_streams_do_not_know_of_each_other() -> None:
    states, rows = np.zeros(4, vf.STATE), np.array([2, 0])
    both = vf.find(states, rows, np.concatenate([ILL, ILL[:5000]]), np.array([ILL.size, ILL.size + 5000]))
    for i, alone in enumerate((_find(ILL), _find(ILL[:5000]))):
        mine = both.streams == i
        assert list(zip(both.samples[mine].tolist(), both.what[mine].tolist(), strict=True)) == alone


def test_a_new_stream_is_known_to_be_in_none_once() -> None:
    assert [what for _, what in _find(_calm(60.0))] == [vf.ABSENT]


def test_the_end_is_said_once() -> None:
    said = [what for _, what in _find(ILL)]
    assert said.count(vf.ABSENT) == 2
    assert (said[0], said[-1]) == (vf.ABSENT, vf.ABSENT)


def test_what_is_missing_is_not_seen() -> None:
    signal = ILL.copy()
    signal[round((CALM_S + 2) * RATE_HZ) : round((CALM_S + ILL_S) * RATE_HZ)] = np.nan
    assert not _present_s(signal)


def test_a_few_missing_samples_hide_nothing() -> None:
    signal = ILL.copy()
    signal[:: round(RATE_HZ)] = np.nan
    assert _present_s(signal)[0] < CALM_S + LATEST_S


def _naive(signal: Signal) -> npt.NDArray[np.float64]:
    """The numbers of a window, with what the wavelets need before it."""

    def mexican_hat(width_s: float, taps: int, rate_hz: float) -> npt.NDArray[np.float64]:
        t = (np.arange(taps) - taps // 2) / rate_hz / width_s
        bell = np.exp(-(t**2) / 2)
        hat = (1 - t**2) * bell
        hat -= bell * hat.sum() / bell.sum()
        return np.asarray(hat / np.abs(hat).sum())

    window = round(vf.STEPS * vf.STEP)
    qrs = np.convolve(signal, mexican_hat(0.016, 15, 125), "valid")[-window:]
    halved = signal.reshape(-1, 2).mean(axis=1)
    wave = np.convolve(halved, mexican_hat(0.048, 25, 62.5), "valid")[-window // 2 :]
    rests = [np.mean([np.abs(s).mean() / np.abs(s).max() for s in np.split(band, 4)]) for band in (qrs, wave)]
    quarters = halved[-window // 2 :].reshape(16, -1).mean(axis=1)
    powers = [np.log(one / (wave**2).mean()) for one in ((qrs**2).mean(), quarters.var())]
    half = round(np.pi * np.abs(wave[1:]).sum() / np.abs(np.diff(wave)).sum())
    left, whole = np.abs(wave[half:] + wave[:-half]).sum(), (np.abs(wave[half:]) + np.abs(wave[:-half])).sum()
    return np.array([max(left / whole, 0.2), *rests, *powers])


@pytest.mark.parametrize("signal", [_fibrillation(30.0), _calm(30.0), _calm(30.0, 0.5) + _noise(30.0, 50.0)])
def test_windows_are_described_as_published(signal: Signal) -> None:
    measured = vf.measure(signal)
    for i in (5, 20, 40):
        if np.isfinite(measured[i]).all():
            assert measured[i] == pytest.approx(_naive(signal[: (i + vf.STEPS) * vf.STEP].astype(float)), rel=2e-3)


def test_what_is_no_wave_is_not_described() -> None:
    assert np.isnan(vf.measure(np.zeros(2000, np.float32))).all()
    assert vf.measure(np.zeros(vf.STEP * vf.STEPS - 1, np.float32)).shape == (0, len(vf.FEATURES))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("off", [0, -32768, 30000])
def test_an_electrode_that_comes_off_in_fibrillation_begins_no_second_alert(off: int, seed: int) -> None:
    off_at = round((CALM_S + ILL_S + 0.37) * RATE_HZ)
    samples = np.concatenate([_calm(CALM_S), _fibrillation(ILL_S + 1, seed), np.zeros(round(40 * RATE_HZ))])
    whole = samples.astype(np.int16)
    whole[off_at:] = off
    _, alerts = play(whole, RATE_HZ)
    about = [(alert.kind, alert.state) for alert in alerts if alert.severity == "high" and alert.state != "update"]
    assert about == [("ventricular-fibrillation", "new"), ("ventricular-fibrillation", "end")]
