"""Contract 3, for class models: a heartbeat beside the wearer's usual one, and the RR intervals before it.

What tells the class of a beat stands around its QRS complex and before it: the P wave, the begin of the complex, and
how much it differs from what is usual for this wearer. So a beat of `beat/2` is:

* a *window* of 0.96 s at 125 Hz, from 0.36 s before the QRS fiducial (`monitor.ecg.segment`) to 0.6 s after it;
* the *template*: what such a window usually looks like in this wearer, learned from the beats before this one;
* the *context*: numbers in `CONTEXT` that tell how early the beat comes, how regular the rhythm is, and how alike the
  two are. Nothing in it comes after the window: the next beat need not be waited for.

Window and template have the median of their own as zero, and the height of the template's QRS complex as unit, with the
sign that makes its main deflection point up. So neither gain nor polarity of a device matters.

`monitor.ecg.wearer` computes all this live, `training.wearers` for training. Contract 1 is `monitor.beat`. This module
knows nothing of devices, detectors or networks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

CONTRACT = "beat/2"
"""Name and version of this contract; stands in every model file."""
RATE_HZ = 125.0
"""Sampling rate of a window."""
BEFORE = 45
"""Samples of a window before the QRS fiducial (0.36 s)."""
LENGTH = 120
"""Samples in a window (0.96 s)."""
LIMIT = 4.0
"""No sample counts for more than this many heights of the template's QRS complex."""
CONTEXT = (
    "rr",  # the interval that the beat ends, over the median of the last 32
    "previous_rr",  # the one before, likewise
    "before_previous_rr",
    "rr_to_slow",  # the first, over the slow mean of some hundred intervals
    "median_to_slow",
    "median_rr_s",  # seconds
    "irregularity",  # median change from interval to interval, over the median
    "spread",  # median distance of the intervals from their median, over it
    "early_share",  # of the last intervals, those shorter than 0.85 of their median
    "rr_rank",  # of the last intervals, those shorter than this one
    "likeness_qrs",  # correlation of window and template around the QRS complex, at the best of few shifts
    "likeness",  # the same of the whole, at that shift
    "height",  # of the QRS complex, peak to peak, over that of the template
    "steep",  # samples around the QRS complex at which the window is steep, in tenths
    "template_steep",
    "learned",  # share of the beats that make a template reliable
    "previous_likeness_qrs",  # of the beat before; 0 if there was none
    "previous_height",
    "previous_steep",
    "usual_likeness_qrs",  # running mean over the beats before
    "usual_likeness",
)
"""Names of the columns of the context, in order."""

Windows = npt.NDArray[np.float32]
"""(n, 2, 120) float32: window and template of each beat."""
Context = npt.NDArray[np.float32]
"""(n, 21) float32, see `CONTEXT`."""


def check_inputs(windows: npt.ArrayLike, context: npt.ArrayLike) -> tuple[Windows, Context]:
    """Return inputs of a class model as (n, 2, 120) and (n, 21) float32, or raise an error that names what is wrong.

    Raises
    ------
    ValueError
        The shapes are others, they differ in n, or a value is not finite or out of bounds.
    """
    x, about = np.asarray(windows, np.float32), np.asarray(context, np.float32)
    if x.ndim != 3 or x.shape[1:] != (2, LENGTH):
        raise ValueError(f"Windows and templates must have the shape (n, 2, {LENGTH}): got {x.shape}.")
    if about.shape != (len(x), len(CONTEXT)):
        raise ValueError(f"Context must have the shape ({len(x)}, {len(CONTEXT)}): got {about.shape}.")
    x, about = np.ascontiguousarray(x), np.ascontiguousarray(about)
    if (bad := _find_unusable(x, about)) >= 0:
        raise ValueError(f"Inputs must be finite, windows within {LIMIT:g} heights: beat {bad} is not.")
    return x, about


@njit(cache=True)
def _find_unusable(windows: Any, context: Any) -> int:
    """Number of the first beat with a value that is out of bounds, or not finite; -1: there is none."""
    for i in range(len(windows)):
        for value in windows[i].ravel():
            if not abs(value) <= LIMIT:  # NaN compares false
                return i
        for value in context[i]:
            if not np.isfinite(value):
                return i
    return -1
