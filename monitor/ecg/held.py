"""Where a device held a value: its converter stood at the end of its range, or its link repeated the last sample.

A signal from a body that does not change for a tenth of a second moves by a step of the converter when it moves again,
however coarse the converter. So a value that stays for longer, and is entered or left by a jump, is no signal. What was
held is counted in bins of half a second; each time counts where it ended, so that what is known of a bin does not
depend on what comes after it, nor on how the stream was cut.

Watched at the device's rate by `monitor.ecg.quality`: at 125 Hz a held value is a wave like any other.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from monitor.ecg.kernels import compiled

LEAST_S = 0.08
"""A value that stays for so long, ..."""
JUMP = 3
"""... and is entered or left by so many steps of the converter, was held."""
BIN_S = 0.512
BINS = 64
"""Bins that are remembered: what a beat may wait for to be finished, the signal before it, and a part of a packet."""
ROUNDING = 1e-6

UNIT_S, MOST = 0.008, 255

STATE = np.dtype([("latest", np.int64), ("units", np.uint8, BINS)], align=True)
"""Bin that was written last, and ring of for how many `UNIT_S` values were held; all of it zero at the start."""


@compiled
def add(state: Any, end: int, samples: int, rate_hz: float) -> None:
    """Note that a value was held.

    Parameters
    ----------
    state
        Record of `STATE`; changed.
    end
        Number of the first sample that was another, counted from the start of the stream.
    samples
        For how many it stayed.
    rate_hz
        Of the device.
    """
    ring, at = state.units, int(end / rate_hz / BIN_S)
    for k in range(max(state.latest + 1, at - BINS + 1), at + 1):
        ring[k % BINS] = 0
    state.latest = max(state.latest, at)
    ring[at % BINS] = min(MOST, int(ring[at % BINS] + samples / rate_hz / UNIT_S + 0.5))


@compiled
def seconds(state: Any, from_s: float, until_s: float) -> float:
    """Return for how long values were held that ended in the whole bins between two times since the stream began."""
    total, latest = 0, state.latest
    first = max(int(np.ceil(from_s / BIN_S - ROUNDING)), latest - BINS + 1, 0)
    last = min(int(until_s / BIN_S + ROUNDING) - 1, latest)
    for k in range(first, last + 1):
        total += state.units[k % BINS]
    return total * UNIT_S
