"""Values that a device held: where they are counted, and that no alert about the heart comes of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.ecg import held, quality
from monitor.wire import NO_SAMPLE
from tests.monitor.one_device import play
from tests.monitor.synthetic_ecg import beat_times, make_ecg

Samples = npt.NDArray[np.int16]
ON_S, SECONDS = 20.0, 60.0
TOP, BOTTOM = 2047, -2048


def _watch(samples: Samples, rate_hz: float, sizes: list[int]) -> npt.NDArray[np.void]:
    state = np.zeros(1, quality.CONTACT)
    quality.begin_contact(state[0], rate_hz)
    at, turn = 0, 0
    while at < samples.size:
        part = samples[at : at + sizes[turn % len(sizes)]]
        quality.watch(state, np.array([0]), part, np.array([part.size]))
        at, turn = at + part.size, turn + 1
    return state


def _held_s(samples: Samples, rate_hz: float, from_s: float = 0.0, until_s: float = 10.24) -> float:
    state = _watch(samples, rate_hz, [samples.size])
    return float(held.seconds(state["held"][0], from_s, until_s))


def _noise(seconds: float, rate_hz: float, uv: float = 50.0) -> Samples:
    return np.rint(np.random.default_rng(0).normal(0, uv, round(seconds * rate_hz))).astype(np.int16)


@pytest.mark.parametrize("rate_hz", [125.0, 250.0, 1000.0])
@pytest.mark.parametrize("seconds", [0.1, 0.3, 0.9])
def test_a_value_that_is_held_and_left_by_a_jump_is_counted(rate_hz: float, seconds: float) -> None:
    samples = _noise(12.0, rate_hz)
    begin, size = round(5 * rate_hz), round(seconds * rate_hz)
    samples[begin : begin + size] = 500
    assert _held_s(samples, rate_hz) == pytest.approx(size / rate_hz, abs=held.UNIT_S)
    assert _held_s(samples, rate_hz, 6.2) == 0
    assert _held_s(samples, rate_hz, 0.0, 4.9) == 0


def test_one_that_is_held_for_less_is_not() -> None:
    samples = _noise(12.0, 250.0)
    samples[1000:1019] = 500
    assert _held_s(samples, 250.0) == 0


def test_a_coarse_converter_whose_signal_drifts_by_single_steps_holds_nothing() -> None:
    drift = np.rint(5 * np.sin(np.arange(3000) / 250)).astype(np.int16)
    assert (np.diff(drift) == 0).sum() > 2900
    assert _held_s(drift, 250.0) == 0


def test_missing_samples_are_not_held() -> None:
    samples = _noise(12.0, 250.0)
    samples[1000:1100] = NO_SAMPLE
    assert _held_s(samples, 250.0) == 0


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=6))
def test_however_the_stream_is_cut_the_same_is_remembered(sizes: list[int]) -> None:
    samples = _holding(250.0, 0.3, 0.4, "rails")[:10_000]
    assert _watch(samples, 250.0, sizes).tobytes() == _watch(samples, 250.0, [samples.size]).tobytes()


def test_what_is_older_than_the_ring_is_forgotten() -> None:
    samples = np.concatenate([_holding(250.0, 0.3, 0.4, "rails"), _noise(40.0, 250.0)])
    state = _watch(np.append(samples, np.array([900] * 100 + [0], np.int16)), 250.0, [2500])["held"][0]
    assert held.seconds(state, 0.0, 101.0) == pytest.approx(0.4)


def _holding(rate_hz: float, hold_s: float, apart_s: float, kind: str) -> Samples:
    """An ECG, parts of which are held at a value from `ON_S` on."""
    samples = make_ecg(beat_times(SECONDS), SECONDS, rate_hz)
    at, turn = round(ON_S * rate_hz), 0
    while at < samples.size:
        size = max(1, int(hold_s * rate_hz))
        value = {"last": samples[at - 1], "zero": 0, "top": TOP, "rails": (TOP, BOTTOM)[turn % 2]}[kind]
        samples[at : at + size] = value
        at, turn = at + size + max(1, int(apart_s * rate_hz)), turn + 1
    return samples


@pytest.mark.parametrize("rate_hz", [125.0, 500.0])
@pytest.mark.parametrize("kind", ["last", "zero", "top", "rails"])
@pytest.mark.parametrize(("hold_s", "apart_s"), [(0.1, 0.1), (0.15, 0.15), (0.5, 0.5), (0.9, 0.1), (0.9, 0.5)])
def test_a_signal_that_is_held_again_and_again_says_nothing_of_the_heart(
    rate_hz: float, kind: str, hold_s: float, apart_s: float
) -> None:
    _, alerts = play(_holding(rate_hz, hold_s, apart_s, kind), rate_hz)
    assert {alert.kind for alert in alerts if alert.severity in ("high", "medium")} == set()


@pytest.mark.parametrize("resolution", [1, 5, 20])
@pytest.mark.parametrize("hold_s", [0.0, 0.1])
def test_a_heart_that_stops_is_told_by_a_coarse_converter_too_and_if_it_once_held_a_value(
    resolution: int, hold_s: float
) -> None:
    ecg = make_ecg(beat_times(ON_S), SECONDS, 250.0) + np.random.default_rng(0).normal(0, 15, round(SECONDS * 250))
    samples = np.rint(ecg / resolution).astype(np.int16)
    begin = round((ON_S + 2) * 250)
    samples[begin : begin + round(hold_s * 250)] = samples[begin - 1]
    _, alerts = play(samples, 250.0)
    [told_s] = [alert.time_s for alert in alerts if alert.kind == "asystole" and alert.state == "new"]
    assert told_s - 1e9 < ON_S + 12
