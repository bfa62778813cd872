"""Whether beats may be hidden where none was found."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from monitor.ecg import quality
from monitor.ecg.silence import is_doubtful, measure_likeness, measure_movement
from tests.monitor.synthetic_ecg import beat_times, make_ecg

CHANCE = np.random.default_rng(0)
FLAT = CHANCE.normal(0, 20, 1000).astype(np.float32)
BEAT = (1000 * np.exp(-((np.arange(quality.SHAPE) - 8.0) ** 2) / 8)).astype(np.float32)


def _gate(shapes: npt.NDArray[np.float32]) -> npt.NDArray[np.void]:
    """Return what is remembered of eight beats of 1000 ADC counts."""
    gate = np.zeros((), quality.STATE)
    gate["count"], gate["length"], gate["height"], gate["shape"] = 8, quality.SHAPE, np.log(1000), shapes
    return gate


ALIKE = _gate(np.tile(BEAT, (8, 1)))
EACH_OTHERWISE = _gate(CHANCE.normal(0, 1000, (8, quality.SHAPE)).astype(np.float32))


def test_a_flat_line_after_beats_of_one_shape_is_believed() -> None:
    assert not is_doubtful(FLAT, ALIKE)


def test_a_flat_line_after_peaks_each_of_its_own_shape_is_not() -> None:
    assert is_doubtful(FLAT, EACH_OTHERWISE)


def test_nor_is_one_while_an_amplifier_recovers() -> None:
    recovering = (4000 * np.exp(-np.arange(750) / 250)).astype(np.float32)
    assert is_doubtful(recovering, ALIKE)


def test_nor_where_no_beats_are_known() -> None:
    assert is_doubtful(FLAT, np.zeros((), quality.STATE))


def test_beats_alone_move_no_baseline() -> None:
    ecg = make_ecg(beat_times(10.0), 10.0, 125.0)
    assert measure_movement(ecg.astype(np.float32)) < 0.5 * np.ptp(ecg)


def test_only_the_last_seconds_count() -> None:
    assert measure_movement(np.concatenate([np.full(1000, 5000.0), np.zeros(750)]).astype(np.float32)) == 0


def test_too_little_signal_does_not_move() -> None:
    assert measure_movement(np.arange(50, dtype=np.float32)) == 0


def test_two_kinds_of_beats_are_alike_among_themselves() -> None:
    shapes = np.stack([BEAT if k % 2 else BEAT[::-1] for k in range(8)])
    assert measure_likeness(shapes, np.full(8, quality.SHAPE)) > 0.75
    assert measure_likeness(np.zeros((4, quality.SHAPE), np.float32), np.full(4, quality.SHAPE)) == 0


@pytest.mark.parametrize("gain", [0.01, 1.0, 100.0])
def test_gain_makes_no_difference(gain: float) -> None:
    gate = ALIKE.copy()
    gate["height"] += np.log(gain)
    gate["shape"] *= gain
    assert not is_doubtful((gain * FLAT).astype(np.float32), gate)
