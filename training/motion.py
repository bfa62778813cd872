"""Recordings of a chest sensor on healthy people at rest and in motion (K. Kalouskova), as its files have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

RATE_HZ, STEP_UV = 500.0, 5.0
"""Sampling rate, and microvolts of a step of the converter."""
ZERO = 2048
"""What the converter shows for no voltage."""
JITTER = 5
"""Samples that need not be missing where the radio delivered them so much later."""


def read_motion(path: Path) -> tuple[npt.NDArray[np.float64], list[tuple[int, int, int]]]:
    """Read samples where the radio delivered them.

    Parameters
    ----------
    path
        An `.npz` file with `time` (s), `adc` (12 bits) and `grade` (first sample, last, grade).

    Returns
    -------
    tuple
        (n,) microvolts at `RATE_HZ`, NaN where samples are missing; and stretches: begin and end among these samples,
        and how bad artefacts are in it, 1 (clean) to 4 (unusable).
    """
    with np.load(path) as stored:
        time_s, counts, grades = stored["time"], stored["adc"].astype(np.float64), stored["grade"].tolist()
    missing = np.maximum(0, np.rint(np.diff(time_s) * RATE_HZ) - 1).astype(np.int64)
    missing[missing < JITTER] = 0
    at = np.r_[0, np.cumsum(1 + missing)]
    signal = np.full(at[-1] + 1, np.nan)
    signal[at] = STEP_UV * (counts - ZERO)
    last = at.size - 1
    return signal, [(int(at[begin]), int(at[min(end, last)]), int(grade)) for begin, end, grade in grades]
