"""Spikes of a pacemaker that no heartbeat follows, where a device's filter made them too wide to be taken out.

They are found like QRS complexes, but nothing comes after them: no T wave, for the heart does not beat. So what was
found is such a spike, and no beat, once it is the fourth in a row that is narrow, as large as the others and at an
interval of theirs (or a small multiple, where one was taken out as an impulse), and between which the signal is flat,
against their height and against what used to be there. A spike that captures has a wide QRS complex and a T wave after
it. In 310,000 beats of MIT-BIH DS1, svdb, vfdb, cudb, EC13, PTB, CinC 2015 and CinC 2017 there is no such row.

What is lower than usual is only known of a wearer whose beats were seen before: spikes that are there from the first
second on are taken for beats.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from monitor.beat import RATE_HZ, Signal
from monitor.ecg.kernels import compiled, median

ASIDE = round(0.056 * RATE_HZ)
"""What is nearer to a spike's fiducial is the spike."""
CORE = round(0.016 * RATE_HZ)
BEFORE = round(0.16 * RATE_HZ)
"""Samples before it that must be there."""
BLOCK = 8
"""The signal between two is looked at in means of 64 ms: noise goes, T waves stay."""
FLAT, USUALLY = 0.06, 0.3
"""It is flat if these differ by so much of the height of the spike, and of what they usually do after a beat."""
NARROW = 0.2
"""From 24 ms from the fiducial on, it has at most so much of its height."""
LONGEST = round(2.0 * RATE_HZ)
ROW = 3
"""Flat intervals in a row. Two that are not end it."""
OFF, MULTIPLES = 2, 3
"""Samples by which an interval may differ from the one before, or from so many times as much at most."""
ALIKE = 2.0
"""Of two spikes, one is less than so many times as high as the other."""
SLOW = 8
"""What is usual is a running mean over so many intervals."""

STATE = np.dtype([("usual", np.float64), ("row", np.int64), ("rr", np.int64), ("height", np.float64)], align=True)
"""What is usual between beats; flat intervals in a row, and interval and height of the last of them; zero at first."""


@compiled
def observe(state: Any, signal: Signal, missing: Any, last: int, now: int) -> bool:
    """Whether what was found is a spike without a heartbeat, one of several.

    Parameters
    ----------
    state
        Record of `STATE`; changed.
    signal, missing
        (n,) samples at 125 Hz, and which of them are missing.
    last, now
        Places of two fiducials that were found one after the other; the first may lie before the signal.
    """
    if last < BEFORE or not 2 * ASIDE + 2 * BLOCK <= now - last <= LONGEST or missing[last - BEFORE : now].any():
        is_next = False
    else:
        is_next = _is_next(state, signal, last, now)
    state.row = min(state.row + 1, ROW + 1) if is_next else state.row - 1 if state.row > ROW else 0
    return bool(state.row >= ROW)


@compiled
def _is_next(state: Any, signal: Signal, last: int, now: int) -> bool:
    """Whether an interval goes on with a row, or begins one: a flat one that is unlike the last begins anew."""
    between = signal[last + ASIDE : now - ASIDE]
    level, differ = median(between[::4]), _differ(between)
    height = abs(signal[last] - level)
    if not (differ <= USUALLY * state.usual and differ <= FLAT * height and _is_narrow(signal, last, level, height)):
        state.usual = differ if state.usual == 0 else state.usual + (differ - state.usual) / SLOW
        return False
    rr = now - last
    shorter, longer = min(rr, state.rr), max(rr, state.rr)
    times = int(longer / max(1, shorter) + 0.5)
    fits = times <= MULTIPLES and abs(longer - times * shorter) <= OFF * times
    if not (fits and height < ALIKE * state.height and state.height < ALIKE * height):
        state.row = 0
    state.rr, state.height = rr, height
    return True


@compiled
def _differ(between: Signal) -> float:
    """By how much the means of its blocks do."""
    low, high = np.inf, -np.inf
    for k in range(between.size // BLOCK):
        mean = between[k * BLOCK : (k + 1) * BLOCK].mean()
        low, high = min(low, mean), max(high, mean)
    return float(high - low)


@compiled
def _is_narrow(signal: Signal, at: int, level: float, height: float) -> bool:
    widest = 0.0
    for k in range(CORE + 1, ASIDE + 1):
        widest = max(widest, abs(signal[at - k] - level), abs(signal[at + k] - level))
    return bool(widest <= NARROW * height)
