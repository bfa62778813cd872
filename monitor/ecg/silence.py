"""Whether a signal in which no beat was found can be believed.

It cannot where the baseline is on the move: an amplifier that was driven out of its range comes back over seconds, and
hides the QRS complexes until then; in MIT-BIH's records 116 and 208 that looks like hearts that stop for four seconds.
A heart that does stop leaves a baseline that stays where it was. Nor can it where what was found before were no beats:
hands that are laid on electrodes make peaks, each of its own shape, besides which the heart is small.

The baseline is taken as medians of a quarter of a second, which QRS complexes hardly move; shapes are alike as in
`monitor.ecg.quality`.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from monitor.beat import RATE_HZ
from monitor.ecg import quality

OVER_S = 6.0
"""What is looked at: more than the longest pause that is not reported as asystole."""
BLOCK = round(0.25 * RATE_HZ)
FEWEST_BLOCKS = 4
MOVED = 0.75
"""A baseline that moved so far, over the usual height of a beat, may have hidden beats."""
ALIKE, FEWEST_BEATS = 0.75, 4
"""Beats are alike if their median correlation with the more alike half of the others is this high, and there are so
many. Of asystole spliced into MIT-BIH DS1 and svdb, 95 % follow on such beats; of the false ones in TELE none."""


def is_doubtful(signal: npt.NDArray[np.float32], gate: npt.NDArray[np.void]) -> bool:
    """Whether beats may be hidden in a signal in which none was found.

    Parameters
    ----------
    signal
        (n,) samples at 125 Hz up to the moment; those of the last `OVER_S` are looked at.
    gate
        () of `monitor.ecg.quality.STATE`: the latest beats.
    """
    known = min(int(gate["count"]), quality.REMEMBERED)
    if known < FEWEST_BEATS or measure_likeness(gate["shape"][:known], gate["length"][:known]) < ALIKE:
        return True
    return measure_movement(signal) > MOVED * math.exp(float(np.median(gate["height"][:known])))


def measure_movement(signal: npt.NDArray[np.float32]) -> float:
    """Return how far the baseline moved; 0 where there is too little signal."""
    blocks = min(signal.size, round(OVER_S * RATE_HZ)) // BLOCK
    if blocks < FEWEST_BLOCKS:
        return 0.0
    return float(np.ptp(np.median(signal[signal.size - blocks * BLOCK :].reshape(blocks, BLOCK), axis=1)))


def measure_likeness(shapes: npt.NDArray[np.float32], lengths: npt.NDArray[np.int64]) -> float:
    """Return how alike beats are: the median of their mean correlations with the more alike half of the others.

    Parameters
    ----------
    shapes, lengths
        (k, samples) latest beats, and (k,) how many samples of each are signal.
    """
    part = max(2, int(quality.SHAPE_PART * lengths.min()))
    free = shapes[:, :part] - shapes[:, :part].mean(axis=1, keepdims=True)
    size = np.linalg.norm(free, axis=1)
    if not size.all():
        return 0.0
    alike = np.sort(free @ free.T / np.outer(size, size), axis=1)[:, :-1]  # but for itself
    return float(np.median(alike[:, (alike.shape[1] + 1) // 2 :].mean(axis=1)))
