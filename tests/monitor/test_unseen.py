"""A heart that cannot be seen has not stopped: samples are missing, or stand still, in bursts of any length."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor import wire
from tests.monitor.one_device import BEGIN_S, play, play_cut
from tests.monitor.synthetic_ecg import beat_times, make_ecg

RATE_HZ, SECONDS = 125.0, 70.0
FROM_S, UNTIL_S = 20.0, 60.0
LENGTHS_S, APART_S = (0.3, 1.0, 1.9, 2.5, 4.0, 8.0), (0.1, 0.4, 1.0, 3.0, 8.0)
RAIL = 2**15 - 1


def _bursts(length_s: float, apart_s: float, seed: int = 0) -> list[slice]:
    """Where the bursts lie, their lengths and distances 20 % more or less."""
    chance, bursts, at_s = np.random.default_rng(seed), [], FROM_S
    while at_s < UNTIL_S:
        end_s = at_s + length_s * chance.uniform(0.8, 1.2)
        bursts.append(slice(round(at_s * RATE_HZ), round(end_s * RATE_HZ)))
        at_s = end_s + apart_s * chance.uniform(0.8, 1.2)
    return bursts


def _ecg(rr_s: float, bursts: list[slice], fill: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    """An ECG whose samples in bursts are those of `fill`."""
    ecg = make_ecg(beat_times(SECONDS, rr_s), SECONDS, RATE_HZ)
    for burst in bursts:
        ecg[burst] = fill[burst]
    return ecg


def _fill(kind: str) -> npt.NDArray[np.int16]:
    size = round(SECONDS * RATE_HZ)
    fill = np.full(size, {"still": 0, "at the end of the range": RAIL}.get(kind, wire.NO_SAMPLE), np.int16)
    if kind == "missing here and there":
        fill[np.random.default_rng(0).random(size) < 0.5] = 0
    if kind == "still, then missing":
        fill[np.arange(size) % 400 < 200] = 0
    return fill


def _high(alerts: list[wire.Alert]) -> list[tuple[str, float]]:
    return [(one.kind, one.time_s - BEGIN_S) for one in alerts if one.severity == "high" and one.state == "new"]


@pytest.mark.parametrize("rr_s", [0.8, 1.3])
@pytest.mark.parametrize("kind", ["missing", "missing here and there", "still, then missing"])
def test_a_heart_that_beats_behind_missing_samples_raises_no_high_alert(kind: str, rr_s: float) -> None:
    """Of 30 patterns each."""
    fill = _fill(kind)
    raised = {}
    for length_s in LENGTHS_S:
        for apart_s in APART_S:
            _, alerts = play(_ecg(rr_s, _bursts(length_s, apart_s), fill), RATE_HZ)
            raised[length_s, apart_s] = _high(alerts)
    assert not {pattern: high for pattern, high in raised.items() if high}


@pytest.mark.parametrize("kind", ["still", "at the end of the range"])
@pytest.mark.parametrize("length_s", [1.5, 1.9, 2.5, 4.0])
def test_nor_does_one_behind_a_signal_that_stands_still_mean_a_slow_or_stopped_heart(
    kind: str, length_s: float
) -> None:
    for apart_s in APART_S:
        _, alerts = play(_ecg(0.8, _bursts(length_s, apart_s), _fill(kind)), RATE_HZ)
        assert not {kind for kind, _ in _high(alerts)} & {"asystole", "extreme-bradycardia"}, apart_s


@pytest.mark.parametrize("apart_s", [0.1, 0.4, 1.0])
@pytest.mark.parametrize("length_s", [1.0, 1.5, 2.5, 8.0])
def test_but_there_is_a_technical_alert(length_s: float, apart_s: float) -> None:
    """Within 13 s where the electrode counts as off or no beat is found; else once 15 beats were withheld."""
    _, alerts = play(_ecg(0.8, _bursts(length_s, apart_s), _fill("missing")), RATE_HZ)
    technical = [one.time_s - BEGIN_S for one in alerts if one.severity == "technical" and one.state == "new"]
    assert technical
    assert FROM_S < technical[0] < FROM_S + (13 if length_s > 2 else 40)


@pytest.mark.parametrize("missing_s", [0.0, 0.016])
def test_a_heart_that_stops_before_all_eyes_is_told_in_time(missing_s: float) -> None:
    """Though a sample or two may be missing."""
    times = beat_times(FROM_S)
    ecg = make_ecg(times, SECONDS, RATE_HZ)
    begin = round((FROM_S + 2) * RATE_HZ)
    ecg[begin : begin + round(missing_s * RATE_HZ)] = wire.NO_SAMPLE
    _, alerts = play(ecg, RATE_HZ)
    [(kind, time_s)] = _high(alerts)
    assert kind == "asystole"
    assert times[-1] + 4 < time_s <= times[-1] + 5.1


def test_a_heart_that_is_seen_to_stand_still_long_enough_after_a_gap_is_told() -> None:
    times = beat_times(FROM_S)
    ecg = make_ecg(times, SECONDS, RATE_HZ)
    end_s = FROM_S + 3
    ecg[round((FROM_S + 1.5) * RATE_HZ) : round(end_s * RATE_HZ)] = wire.NO_SAMPLE
    _, alerts = play(ecg, RATE_HZ)
    [(kind, time_s)] = _high(alerts)
    assert kind == "asystole"
    assert end_s + 4 < time_s < end_s + 7.5


def _play(ecg: npt.NDArray[np.int16], sizes: list[int], stop: int) -> list[tuple[str, str, float]]:
    """Play in packets of these sizes over and over, saved and restored once; return what does not hang on packets."""
    _, alerts = play_cut(ecg, RATE_HZ, sizes, stop)
    seen = {"bradycardia", "extreme-bradycardia", "pause", "lead-off"}
    return [(one.kind, one.state, one.time_s) for one in alerts if one.kind in seen]


def _hard_to_see() -> npt.NDArray[np.int16]:
    bursts = _bursts(1.6, 2.5)
    ecg = _ecg(1.3, bursts[::2], _fill("missing"))
    for burst in bursts[1::2]:
        ecg[burst] = 0
    return ecg


HARD_TO_SEE = _hard_to_see()


@settings(deadline=None, max_examples=8)
@given(st.lists(st.integers(20, 1250), min_size=1, max_size=4), st.integers(0, HARD_TO_SEE.size))
def test_however_the_stream_is_cut_or_saved_as_much_is_believed(sizes: list[int], stop: int) -> None:
    assert _play(HARD_TO_SEE, sizes, stop) == _play(HARD_TO_SEE, [125], -1)
