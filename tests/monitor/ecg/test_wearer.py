from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor import beat2
from monitor.ecg import wearer

Floats = npt.NDArray[np.float64]
COLUMN = {name: number for number, name in enumerate(beat2.CONTEXT)}


def waves(heights: tuple[float, ...], widths: tuple[float, ...] = (4, 2, 8), shift: float = 0) -> Floats:
    """A window with P, QRS and T of some heights, microvolts, and widths, samples."""
    time = np.arange(beat2.LENGTH) - beat2.BEFORE - shift
    centers = (-20, 0, 35)
    bumps = [h * np.exp(-0.5 * ((time - c) / w) ** 2) for h, c, w in zip(heights, centers, widths, strict=True)]
    return np.asarray(np.sum(bumps, axis=0))


NORMAL = waves((100, 1000, 200))
ECTOPIC = waves((0, -1500, 600), (4, 7, 12))


def beats_of(seed: int, n: int = 80) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """A person with early ectopic beats, noise, wander and unknown intervals."""
    rng = np.random.default_rng(seed)
    ectopic = rng.random(n) < 0.2
    windows = np.where(ectopic[:, None], ECTOPIC, NORMAL) + rng.normal(0, 20, (n, 120)) + rng.normal(0, 300, (n, 1))
    rr = np.where(ectopic, 60, rng.integers(90, 110, n))
    rr[rng.random(n) < 0.05] = 0
    return windows.astype(np.float32), rr


def observe(windows: Any, rr: Any, states: Any = None) -> tuple[beat2.Windows, beat2.Context]:
    states = np.zeros(1, wearer.STATE) if states is None else states
    return wearer.observe(
        states, np.zeros(len(rr), np.int64), np.asarray(windows, np.float32), np.asarray(rr, np.int64)
    )


def observe_shapes(abnormal: list[bool], states: Any = None) -> list[bool]:
    states = np.zeros(1, wearer.STATE) if states is None else states
    unusual = wearer.observe_shapes(states, np.zeros(len(abnormal), np.int64), np.array(abnormal, bool))
    return [bool(one) for one in unusual]


def test_an_abnormal_shape_is_unusual_until_it_has_stayed_for_a_while_or_been_away_for_longer() -> None:
    stays = observe_shapes([True] * 100)
    assert stays.index(False) == 37
    assert not any(stays[37:])
    back = observe_shapes([True] * 500 + [False] * 170 + [True] * 3)
    assert not any(back[40:670])
    assert not any(back[670:])
    assert all(observe_shapes([True] * 500 + [False] * 190 + [True] * 3)[690:])


def test_a_shape_that_is_seldom_abnormal_is_unusual_each_time() -> None:
    assert observe_shapes([k % 8 == 0 for k in range(800)]) == [k % 8 == 0 for k in range(800)]


@settings(deadline=None, max_examples=20)
@given(st.lists(st.booleans(), max_size=300), st.integers(0, 300))
def test_how_shapes_were_batched_makes_no_difference(abnormal: list[bool], cut: int) -> None:
    states = np.zeros(1, wearer.STATE)
    assert observe_shapes(abnormal[:cut], states) + observe_shapes(abnormal[cut:], states) == observe_shapes(abnormal)


class Naive:
    """The same in plain words: lists, numpy's medians and correlations, one beat at a time."""

    def __init__(self) -> None:
        self.template = np.zeros(120)
        self.beats, self.slow = 0, 0.0
        self.rr: list[int] = []
        self.last, self.usual = [0.0] * 3, [0.0] * 2

    def observe(self, window: Floats, rr: int) -> tuple[Floats, Floats]:
        own = window - np.median(window[::4])
        if self.beats == 0:
            self.template = own.copy()
        peak = self.template[33:58]
        height = peak[np.argmax(np.abs(peak))]
        inputs = np.clip(np.stack([own, self.template]) / height, -4, 4)
        if rr:
            self.rr.append(rr)
            self.slow = self.slow or rr
            self.slow += np.clip(rr / self.slow - 1, -0.5, 0.5) * self.slow / min(len(self.rr), 100)
        alike = self.compare(*inputs)
        context = np.array([*self.rhythm(rr), *alike, min(1, self.beats / 16), *self.last, *self.usual])
        self.last = [alike[0], alike[2], alike[3]]
        weight = 1 / min(len(self.rr) + 1, 16)
        self.usual = [u + (a - u) * weight for u, a in zip(self.usual, alike, strict=False)]
        if not rr or rr >= 0.8 * self.slow:
            most = np.inf if self.beats < 3 else 0.25 * abs(height)
            self.template = self.template + np.clip(own - self.template, -most, most) / min(self.beats + 1, 24)
            self.beats = min(self.beats + 1, 40)
        return inputs, context

    def rhythm(self, rr: int) -> list[float]:
        if not self.rr:
            return [1, 1, 1, 1, 1, 0.8, 0, 0, 0, 0.5]
        last = np.array(self.rr[-32:])
        median = float(np.median(last))
        three = [*last[::-1][:3]] if rr else [median, *last[::-1][:2]]
        three += [median] * (3 - len(three))
        changes = np.abs(np.diff(last))
        distances = np.sort(np.abs(last - median))
        return [
            *(min(3, one / median) for one in three),
            min(3, rr / self.slow) if rr else 1,
            median / self.slow,
            median / 125,
            float(np.median(changes)) / median if changes.size else 0,
            distances[len(last) // 2] / median,
            float(np.mean(last < 0.85 * median)),
            float(np.mean(last < rr)) if rr else 0.5,
        ]

    def compare(self, window: Floats, template: Floats) -> list[float]:
        def correlation(begin: int, end: int, shift: int) -> float:
            return float(np.corrcoef(window[begin + shift : end + shift], template[begin:end])[0, 1])

        best = max(range(-3, 4), key=lambda shift: correlation(30, 62, shift))
        steep = [np.count_nonzero(np.abs(np.diff(one[25:70])) > 0.08) / 10 for one in (window, template)]
        height = min(4, np.ptp(window[33:58]) / np.ptp(template[33:58]))
        return [correlation(30, 62, best), correlation(3, 117, best), height, *steep]


@pytest.mark.parametrize("seed", range(4))
def test_inputs_are_those_of_a_naive_twin(seed: int) -> None:
    windows, rr = beats_of(seed)
    inputs, context = observe(windows, rr)
    twin = Naive()
    expected = [twin.observe(window.astype(float), int(one)) for window, one in zip(windows, rr, strict=True)]
    np.testing.assert_allclose(inputs, [one for one, _ in expected], atol=2e-4)
    steep = [COLUMN["steep"], COLUMN["template_steep"], COLUMN["previous_steep"]]
    smooth = np.setdiff1d(np.arange(context.shape[1]), steep)
    naive = np.array([one for _, one in expected])
    np.testing.assert_allclose(context[:, smooth], naive[:, smooth], atol=2e-4)
    np.testing.assert_allclose(context[:, steep], naive[:, steep], atol=0.11)  # a change may lie on the limit


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 80), max_size=6), seed=st.integers(0, 3))
def test_how_beats_are_batched_makes_no_difference(cuts: list[int], seed: int) -> None:
    windows, rr = beats_of(seed)
    states = np.zeros(1, wearer.STATE)
    edges = [0, *sorted(cuts), len(rr)]
    parts = [observe(windows[a:b], rr[a:b], states) for a, b in pairwise(edges)]
    inputs, context = observe(windows, rr)
    assert np.array_equal(np.concatenate([one for one, _ in parts]), inputs)
    assert np.array_equal(np.concatenate([one for _, one in parts]), context)


@pytest.mark.parametrize("seed", range(3))
def test_a_beat_that_does_not_teach_is_seen_like_any_other_and_changes_nothing(seed: int) -> None:
    windows, rr = beats_of(seed)
    teaches = np.random.default_rng(seed).random(len(rr)) < 0.7
    rows = np.zeros(len(rr), np.int64)
    states, without = np.zeros(1, wearer.STATE), np.zeros(1, wearer.STATE)
    inputs, context = wearer.observe(states, rows, windows, rr, teaches)
    told, _ = wearer.observe_p_waves(states, rows, windows, inputs, context, teaches)
    for i in range(len(rr)):
        if teaches[i]:
            own = wearer.observe(without, rows[:1], windows[i : i + 1], rr[i : i + 1])
            wearer.observe_p_waves(without, rows[:1], windows[i : i + 1], *own)
        else:
            own = wearer.observe(without.copy(), rows[:1], windows[i : i + 1], rr[i : i + 1])
        np.testing.assert_array_equal(inputs[i], own[0][0])
        np.testing.assert_array_equal(context[i], own[1][0])
    assert states.tobytes() == without.tobytes()
    assert np.isnan(told[~teaches]).all()


def test_wearers_do_not_know_of_each_other() -> None:
    (one, one_rr), (other, other_rr) = beats_of(0), beats_of(1)
    rows = np.tile([0, 1], 80)
    windows, rr = np.stack([one, other], 1).reshape(-1, 120), np.stack([one_rr, other_rr], 1).ravel()
    inputs, context = wearer.observe(np.zeros(2, wearer.STATE), rows, windows, rr)
    for number, own in enumerate([observe(one, one_rr), observe(other, other_rr)]):
        assert np.array_equal(inputs[rows == number], own[0])
        assert np.array_equal(context[rows == number], own[1])


@pytest.mark.parametrize("factor", [-1.0, 0.05, -20.0])
def test_neither_gain_nor_polarity_of_a_device_matters(factor: float) -> None:
    windows, rr = beats_of(0)
    windows = windows[1:]  # the first is an ectopic beat
    usual, turned = observe(windows, rr[1:]), observe(np.float32(factor) * windows, rr[1:])
    np.testing.assert_allclose(turned[0], usual[0], atol=1e-3)


def test_the_main_deflection_of_the_template_is_one_up() -> None:
    windows, rr = beats_of(2)
    inputs, _ = observe(windows, rr)
    assert np.allclose(inputs[5:, 1, 33:58].max(axis=1), 1)


def test_early_beats_of_bigeminy_leave_the_template_as_it_is() -> None:
    windows = np.array([NORMAL] * 20 + [ECTOPIC, NORMAL] * 60)
    inputs, context = observe(windows, [100] * 20 + [60, 140] * 60)
    usual = NORMAL - np.median(NORMAL[::4])
    np.testing.assert_allclose(inputs[-1, 1], usual / usual[45], atol=0.01)
    assert (context[-20::2, COLUMN["likeness_qrs"]] < 0).all()
    assert (context[-19::2, COLUMN["likeness_qrs"]] > 0.99).all()


def test_a_shape_that_stays_becomes_the_usual_one() -> None:
    inputs, _ = observe(np.array([NORMAL] * 30 + [ECTOPIC] * 300), np.full(330, 100))
    usual = ECTOPIC - np.median(ECTOPIC[::4])
    np.testing.assert_allclose(inputs[-1, 1], usual / usual[45], atol=0.05)


def test_an_early_beat_after_regular_ones_is_early_in_every_column() -> None:
    _, context = observe(np.array([NORMAL] * 40), [100] * 39 + [70])
    early = context[-1]
    assert early[COLUMN["rr"]] == pytest.approx(0.7)
    assert early[COLUMN["rr_to_slow"]] == pytest.approx(0.7, abs=0.01)
    assert early[COLUMN["rr_rank"]] == 0
    assert early[COLUMN["irregularity"]] == 0


def test_one_early_beat_makes_no_irregular_rhythm_but_many_intervals_do() -> None:
    rng = np.random.default_rng(0)
    _, regular = observe(np.array([NORMAL] * 40), [100] * 30 + [70, 130] + [100] * 8)
    _, irregular = observe(np.array([NORMAL] * 40), rng.integers(60, 140, 40))
    assert regular[-1, COLUMN["irregularity"]] == 0
    assert irregular[-1, COLUMN["irregularity"]] > 0.15


def test_a_flat_line_gives_finite_inputs() -> None:
    windows, context = observe(np.zeros((5, 120)), [0, 100, 100, 0, 100])
    beat2.check_inputs(windows, context)


def test_little_is_remembered_of_a_wearer() -> None:
    assert wearer.STATE.itemsize <= 640


SIZE, ABOVE, REST, NOISE, HEIGHT = map(wearer.P_WAVE_NUMBERS.index, ("size", "above", "rest", "noise", "height_change"))


def _p_waves(windows: Any, rr: Any, states: Any = None) -> Floats:
    """What is known of P waves at each beat."""
    states = np.zeros(1, wearer.STATE) if states is None else states
    rows = np.zeros(len(rr), np.int64)
    signals = np.asarray(windows, np.float32)
    inputs = wearer.observe(states, rows, signals, np.asarray(rr, np.int64))
    return wearer.observe_p_waves(states, rows, signals, *inputs)[0]


def _lies(windows: Any, rr: Any = None, states: Any = None) -> list[int]:
    """How each beat lies."""
    states = np.zeros(1, wearer.STATE) if states is None else states
    rows, signals = np.zeros(len(windows), np.int64), np.asarray(windows, np.float32)
    inputs = wearer.observe(states, rows, signals, np.full(len(windows), 100) if rr is None else rr)
    lies = wearer.observe_p_waves(states, rows, signals, *inputs)[1]
    return [int(one) for one in lies]


def _fibrillating(seed: int, n: int = 60) -> Floats:
    """Beats with waves of 6 Hz that come at any time instead of a P wave."""
    rng = np.random.default_rng(seed)
    at = (np.arange(beat2.LENGTH) / 125 + rng.random((n, 1))) * 6
    return np.asarray(waves((0, 1000, 200)) + 60 * np.sin(2 * np.pi * at) + rng.normal(0, 15, (n, 120)))


def _in_rhythm(seed: int, height: float, n: int = 60) -> Floats:
    rng = np.random.default_rng(seed)
    return np.asarray(waves((height, 1000, 200)) + rng.normal(0, 15, (n, 120)) + rng.normal(0, 300, (n, 1)))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("gain", [0.05, 1.0, -1.0])
@pytest.mark.parametrize("height", [80.0, 150.0, -80.0])
def test_a_p_wave_is_known_by_what_beats_have_in_common(seed: int, gain: float, height: float) -> None:
    likeness = _p_waves(gain * _in_rhythm(seed, height), [100] * 60)[-1, 0]
    without = _p_waves(gain * _fibrillating(seed), [100] * 60)[-1, 0]
    assert likeness > 0.75
    assert without < 0.4


def test_the_usual_p_wave_has_a_size_in_heights_of_the_beat() -> None:
    large, small = (
        _p_waves(gain * _in_rhythm(0, height), [100] * 60)[-1, SIZE] for gain, height in ((1, 150), (9, 75))
    )
    assert large - small == pytest.approx(np.log(2), abs=0.15)
    assert _p_waves(_fibrillating(0), [100] * 60)[-1, SIZE] < small


def test_nothing_is_known_of_p_waves_before_the_third_beat() -> None:
    known = np.isfinite(_p_waves(_in_rhythm(0, 100), [100] * 60)).all(axis=1)
    assert known.tolist() == [False] * 2 + [True] * 58


def test_a_p_wave_stands_above_the_line_in_any_polarity_and_its_absence_does_not() -> None:
    above = [_p_waves(gain * _in_rhythm(0, 150), [100] * 60)[-1, ABOVE] for gain in (1.0, -1.0)]
    assert above[0] == pytest.approx(above[1], abs=0.02)
    assert above[0] > _p_waves(_fibrillating(0), [100] * 60)[-1, ABOVE] + 1


def test_fibrillatory_waves_are_left_of_a_beat_and_noise_changes_faster() -> None:
    calm = _p_waves(_in_rhythm(0, 100), [100] * 60)[-1]
    waves_ = _p_waves(_fibrillating(0), [100] * 60)[-1]
    noisy = _in_rhythm(0, 100) + np.random.default_rng(1).normal(0, 40, (60, 120))
    noise = _p_waves(noisy, [100] * 60)[-1]
    assert min(waves_[REST], noise[REST]) > calm[REST] + 0.5
    assert noise[NOISE] > waves_[NOISE] + 0.5
    assert abs(waves_[NOISE] - calm[NOISE]) < 0.2


def test_beats_that_are_now_high_now_low_are_told() -> None:
    changing = _in_rhythm(0, 100) * np.where(np.arange(60) % 2, 1.3, 0.7)[:, None]
    assert _p_waves(changing, [100] * 60)[-1, HEIGHT] > _p_waves(_in_rhythm(0, 100), [100] * 60)[-1, HEIGHT] + 0.1


def test_broad_and_early_beats_say_nothing_of_p_waves() -> None:
    windows, rr = _in_rhythm(0, 100), np.full(60, 100)
    before = _p_waves(windows, rr)
    windows[40:50:2], rr[40:50:2] = waves((0, -1500, 600), (4, 7, 12)), 60
    windows[41:51:2], rr[41:51:2] = waves((0, 1000, 200)), 70
    after = _p_waves(windows, rr)
    of_atria = [*range(SIZE), SIZE, ABOVE, REST, NOISE]
    assert (after[40:50, of_atria] == after[39, of_atria]).all()
    assert after[-1, of_atria] == pytest.approx(before[-1, of_atria], abs=0.05)


def test_what_is_known_of_p_waves_is_the_same_however_beats_come_in_batches() -> None:
    windows, rr = beats_of(5)
    whole = _p_waves(windows, rr)
    states = np.zeros(1, wearer.STATE)
    parts = [_p_waves(windows[a:b], rr[a:b], states) for a, b in pairwise((0, 1, 17, 50, 80))]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_the_likeness_is_a_mean_of_correlations_as_documented() -> None:
    windows, rr = _in_rhythm(7, 60, 16), [100] * 16
    inputs, _ = observe(windows, rr)
    begin, end = wearer.P_WAVE

    def free_of_trend(one: Floats) -> Floats:
        at = np.arange(end - begin)
        return np.asarray(one - np.polyval(np.polyfit(at, one, 1), at))

    pairs = [(free_of_trend(own[begin:end]), free_of_trend(usual[begin:end])) for own, usual in inputs.astype(float)]
    expected = np.mean([np.corrcoef(own, usual)[0, 1] for own, usual in pairs])
    likeness, spread, size = _p_waves(windows, rr)[-1, : SIZE + 1]
    assert likeness == pytest.approx(expected, abs=1e-3)
    assert spread == pytest.approx(np.std([np.corrcoef(own, usual)[0, 1] for own, usual in pairs]), abs=5e-3)
    assert size == pytest.approx(np.log(np.sqrt((pairs[-1][1] ** 2).mean()) + wearer.LEAST), abs=1e-2)


@pytest.mark.parametrize("gain", [0.05, 1.0, 20.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_signal_all_of_whose_waves_point_down_is_upside_down_and_that_is_new_once(gain: float, seed: int) -> None:
    lies = _lies(-gain * _in_rhythm(seed, 120))
    first = lies.index(wearer.TURNED_NEW)
    assert 10 < first < 30
    assert lies[:first] == [wearer.UPRIGHT] * first
    assert lies[first + 1 :] == [wearer.TURNED] * (59 - first)


@pytest.mark.parametrize(
    "heights",
    [(120, 1000, 200), (120, -1000, 200), (120, -1000, -200), (-120, -1000, 200), (-120, 1000, -200), (0, -1000, -200)],
    ids=str,
)
def test_any_other_lead_is_not(heights: tuple[float, ...]) -> None:
    rng = np.random.default_rng(0)
    assert set(_lies(waves(heights) + rng.normal(0, 15, (100, 120)))) == {wearer.UPRIGHT}


def test_neither_is_one_in_fibrillation_nor_one_of_noise() -> None:
    assert set(_lies(-_fibrillating(0))) == {wearer.UPRIGHT}
    assert set(_lies(np.random.default_rng(0).normal(0, 300, (100, 120)))) == {wearer.UPRIGHT}


def test_electrodes_that_are_swapped_are_seen_in_either_direction_after_some_minutes() -> None:
    beats = _in_rhythm(1, 120, 300)
    lies = _lies(np.concatenate([-beats, beats, -beats]))
    assert lies.count(wearer.TURNED_NEW) == 2
    assert (lies[299], lies[599], lies[899]) == (wearer.TURNED, wearer.UPRIGHT, wearer.TURNED)


def test_how_beats_lie_is_the_same_however_they_come_in_batches() -> None:
    windows, states = -_in_rhythm(2, 120), np.zeros(1, wearer.STATE)
    parts = [_lies(windows[a:b], states=states) for a, b in pairwise((0, 1, 17, 20, 60))]
    assert [one for part in parts for one in part] == _lies(windows)
