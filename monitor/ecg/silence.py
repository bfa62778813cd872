"""Whether a signal in which no beat was found can be believed.

It cannot where the baseline is on the move: an amplifier that was driven out of its range comes back over seconds, and
hides the QRS complexes until then; in MIT-BIH's records 116 and 208 that looks like hearts that stop for four seconds.
A heart that does stop leaves a baseline that stays where it was. Nor can it where what was found before were no beats:
hands that are laid on electrodes make peaks, each of its own shape, besides which the heart is small. Nor can it where
more than a few of its samples are missing, as while an electrode has lost contact, are the highest or lowest that a
packet can hold, or do not change for a second: a heart that nobody can see has not stopped.

The baseline is taken as medians of a quarter of a second, which QRS complexes hardly move; `monitor.ecg.segment` keeps
them. Shapes are those that `monitor.ecg.quality` remembers.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from monitor.beat import RATE_HZ
from monitor.ecg.kernels import compiled, median, sort

OVER = round(6.0 * RATE_HZ)
"""Samples of baseline that are looked at: more than the longest pause that is not reported as asystole."""
LOOK = 64
"""A silence is looked at after every so many samples of the stream (0.512 s), by what was known then: a heart that
stops is told at the same time however packets are cut."""
BLOCK = round(0.25 * RATE_HZ)
FEWEST_BLOCKS = 4
BEFORE = round(0.15 * RATE_HZ)
"""So much before its fiducial a QRS complex has not begun."""
LATE = round(1.2 * RATE_HZ)
"""A beat is late so long after the one before: more than this, and the heart may seem slow, or to have stopped."""
NO_SIGNAL = 2
"""Of how doubtful a silence is: much of it stood still or was held, so it is none of the heart's."""
UNSEEN, FEW = 0.05, round(0.2 * RATE_HZ)
"""Share of samples that may be missing, or so many if those are more: after the resampler a hole that is too long to be
bridged (`monitor.ecg.holes`) is twenty more."""
END_OF_RANGE = 32_700.0
"""A value so far from zero is the end of a converter's range, or next to it: packets hold 16 bits."""
STILL_S = 1.0
"""A signal that does not change for so long is not that of a body, even where it moves again before the electrode
counts as off (`monitor.ecg.quality.LEAD_OFF_S`)."""
MOVED = 0.75
"""A baseline that moved so far, over the usual height of a beat, may have hidden beats."""
ALIKE, FEWEST_BEATS = 0.75, 4
"""Beats are alike if their median correlation with the more alike half of the others is this high, and there are so
many. Of asystole spliced into MIT-BIH DS1 and svdb, 95 % follow on such beats; of the false ones in TELE none."""
SHAPE_PART = 0.75
"""How much of the shortest of some shapes is compared."""


@compiled
def is_doubtful(known: int, shapes: Any, lengths: Any, heights: Any, moved: float) -> bool:
    """Whether beats may be hidden in a signal in which none was found.

    Parameters
    ----------
    known
        How many beats are remembered; the first so many of the rest.
    shapes, lengths
        (k, samples) shapes of the latest beats, and (k,) how many samples of each are signal.
    heights
        (k,) logs of their peak-to-peak.
    moved
        How far the baseline moved in that signal; infinite where that was not seen.
    """
    if known < FEWEST_BEATS or measure_likeness(shapes[:known], lengths[:known]) < ALIKE:
        return True
    return moved > MOVED * math.exp(median(heights[:known]))


@compiled
def measure_movement(medians: Any) -> float:
    """Return how far a baseline moved, by its medians in any order; 0 where there is too little signal."""
    if medians.size < FEWEST_BLOCKS:
        return 0.0
    return float(medians.max() - medians.min())


@compiled
def measure_likeness(shapes: Any, lengths: Any) -> float:
    """Return how alike beats are: the median of their mean correlations with the more alike half of the others.

    Parameters
    ----------
    shapes, lengths
        See `is_doubtful`.
    """
    n, part = lengths.size, max(2, int(SHAPE_PART * lengths.min()))
    alike, others = np.empty(n), np.empty(n - 1)
    for i in range(n):
        for k in range(n - 1):
            others[k] = _correlation(shapes[i], shapes[k + (k >= i)], part)
        sort(others)
        alike[i] = others[(others.size + 1) // 2 :].mean()
    return median(alike)


@compiled
def _correlation(a: Any, b: Any, n: int) -> float:
    """Pearson's, of the first n samples; 0 where one of them is flat."""
    mean_a, mean_b = a[:n].mean(), b[:n].mean()
    ab = aa = bb = 0.0
    for i in range(n):
        u, v = float(a[i] - mean_a), float(b[i] - mean_b)
        ab, aa, bb = ab + u * v, aa + u * u, bb + v * v
    return ab / math.sqrt(aa * bb) if aa * bb > 0 else 0.0
