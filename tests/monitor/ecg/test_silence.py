"""Whether beats may be hidden where none was found."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.beat import RATE_HZ
from monitor.ecg import quality, segment
from monitor.ecg.quality import doubts
from monitor.ecg.silence import BEFORE, BLOCK, OVER, measure_likeness
from tests.monitor.synthetic_ecg import beat_times, make_ecg

CHANCE = np.random.default_rng(0)
BEAT = (1000 * np.exp(-((np.arange(quality.SHAPE) - 8.0) ** 2) / 8)).astype(np.float32)
SECONDS, STOP_S, AGAIN_S = 40.0, 15.0, 24.0


def _gate(shapes: npt.NDArray[np.float32]) -> npt.NDArray[np.void]:
    """Return what is remembered of eight beats of 1000 ADC counts."""
    gate = np.zeros(1, quality.STATE)
    gate["count"], gate["length"], gate["height"], gate["shape"] = 8, quality.SHAPE, np.log(1000), shapes
    return gate


ALIKE = _gate(np.tile(BEAT, (8, 1)))
EACH_OTHERWISE = _gate(CHANCE.normal(0, 1000, (8, quality.SHAPE)).astype(np.float32))


def test_a_still_baseline_after_beats_of_one_shape_is_believed() -> None:
    assert not doubts(ALIKE[0], 700.0)


def test_one_that_moved_by_the_height_of_a_beat_is_not() -> None:
    assert doubts(ALIKE[0], 800.0)


def test_nor_is_one_after_peaks_each_of_its_own_shape() -> None:
    assert doubts(EACH_OTHERWISE[0], 0.0)


def test_nor_where_no_beats_are_known() -> None:
    assert doubts(np.zeros(1, quality.STATE)[0], 0.0)


def test_two_kinds_of_beats_are_alike_among_themselves() -> None:
    shapes = np.stack([BEAT if k % 2 else BEAT[::-1] for k in range(8)])
    assert measure_likeness(shapes, np.full(8, quality.SHAPE)) > 0.75
    assert measure_likeness(np.zeros((4, quality.SHAPE), np.float32), np.full(4, quality.SHAPE)) == 0


@pytest.mark.parametrize("gain", [0.01, 1.0, 100.0])
def test_gain_makes_no_difference(gain: float) -> None:
    gate = ALIKE.copy()
    gate["height"] += np.log(gain)
    gate["shape"] *= gain
    assert not doubts(gate[0], gain * 700)
    assert doubts(gate[0], gain * 800)


def _stopped() -> npt.NDArray[np.float32]:
    """An ECG with a pause, on a baseline that comes back from far away in it."""
    times = np.concatenate([beat_times(STOP_S), beat_times(SECONDS, 0.9, AGAIN_S)])
    ecg = make_ecg(times, SECONDS, RATE_HZ) + CHANCE.normal(0, 5, int(SECONDS * RATE_HZ))
    begin = round((STOP_S + 0.5) * RATE_HZ)
    ecg[begin:] += 3000 * np.exp(-np.arange(ecg.size - begin) / (2 * RATE_HZ))
    return ecg.astype(np.float32)


STOPPED = _stopped()


def _play(sizes: list[int]) -> tuple[npt.NDArray[np.void], npt.NDArray[np.void]]:
    """Cut the signal into parts of these sizes, over and over; return the beats, and the segmenter at the end."""
    state, found = np.zeros(1, segment.STATE), []
    room = segment.make_room(segment.MOST_BEATS)
    row, at, turn = np.zeros(1, np.int64), 0, 0
    while at < STOPPED.size:
        part = STOPPED[at : at + sizes[turn % len(sizes)]]
        _, n = segment.segment(state, row, part, np.array([part.size]), 0, 0, room)
        found.append(room.beats[:n].copy())
        at, turn = at + part.size, turn + 1
    return np.concatenate(found), state


def _naive(until: int) -> float:
    """How far medians of blocks moved, of which all of the last `OVER` samples hold."""
    blocks = [k for k in range(until // BLOCK) if k * BLOCK >= until - OVER]
    medians = [np.median(STOPPED[k * BLOCK : (k + 1) * BLOCK]) for k in blocks]
    return float(np.ptp(medians)) if len(medians) >= 4 else 0.0


def test_how_far_the_baseline_moved_is_known_at_the_beat_after_a_pause() -> None:
    beats, _ = _play([125])
    late = beats[(beats["rr"] == 0) & (beats["fiducial"] > STOP_S * RATE_HZ)]
    assert late.size == 1
    assert late["moved"][0] == pytest.approx(_naive(int(late["fiducial"][0]) - BEFORE), rel=1e-3)
    assert late["moved"][0] > 500


def test_and_at_any_time() -> None:
    _, state = _play([125])
    assert segment.baseline_moved(state, 0) == pytest.approx(_naive(int(state["n"][0])), rel=1e-3)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, segment.LONGEST), min_size=1, max_size=5))
def test_however_the_stream_is_cut_the_baseline_moved_as_far(sizes: list[int]) -> None:
    beats, state = _play(sizes)
    expected, at_end = _play([125])
    assert beats["moved"].tolist() == expected["moved"].tolist()
    assert segment.baseline_moved(state, 0) == segment.baseline_moved(at_end, 0)
