"""Impulses: some samples that leap away and come back, while the signal on either side is calm.

The spikes of a pacemaker last 0.2 to 2 ms, and a sample that was damaged on its way is one sample long; no QRS complex
is so narrow, and its slopes rise and fall gradually. So an impulse is `widest` samples or fewer that stand out by a
jump there and a jump back, with steps before and after that are smaller by a factor of `1 / CALM`; on one side another
one as near as that is passed over. From 223 Hz on a single sample that lies far beside the curve through its neighbours
is one, too, in a QRS complex as well. They are replaced by a cubic through the two calm samples on either side
(`monitor.ecg.holes`). In 170,000 beats of MIT-BIH DS1 (360 Hz) and svdb (128 Hz), 32 QRS complexes have such a sample.

What is decided of a sample depends on its neighbours alone, so it is the same however the stream was cut.
"""

from __future__ import annotations

import numpy as np

from monitor.beat import Signal
from monitor.ecg.holes import fill
from monitor.ecg.kernels import compiled_exactly, copy

LONGEST_S = 0.009
MOST_SAMPLES = 5
SMALLEST = 32.0
"""ADC counts that an impulse stands out by at least: less is the converter's own noise."""
CALM = 0.15
"""Of the jump, at most so much is the largest of the two steps before, and of the two after."""
LANDS = 0.35
"""Of the jump, the signal comes back to within so much of where it left."""
INSIDE = 0.5
"""All samples of an impulse stand out by so much of the jump."""
BENT = 2.0
"""A single sample was damaged if it lies so many times the steps around it beside the cubic through its neighbours. Of
51,000 beats of MIT-BIH DS1, 5 have such a sample at 360 Hz, 18 at 250 Hz, but 2800 at 128 Hz."""
BENT_FROM = 2
"""Width of an impulse from which that holds."""
STEPS = 3
"""Samples that two steps and the one beside them span."""
BLOCK = 64
"""Samples that are passed over at once where no step is so large."""


def widest(rate_hz: float) -> int:
    """Return the most samples of an impulse at a rate."""
    return max(1, min(MOST_SAMPLES, int(LONGEST_S * rate_hz)))


def around(width: int) -> int:
    """Return how many samples on either side of one must be known to decide whether it is part of an impulse."""
    return 2 * width + 2


@compiled_exactly
def repair(x: Signal, clean: Signal, latest: Signal, width: int) -> None:
    """Copy a signal without its impulses.

    Parameters
    ----------
    x
        (n,) float32; NaN where a sample is missing: such a one is passed over like another impulse.
    clean
        Where to, at least as long. What is less than `around(width)` samples from either end may be as it is.
    latest
        The same, for what must be used before it is known whether it is an impulse: where one may begin, the sample
        before goes on.
    width
        Of `widest`.
    """
    copy(x, clean)
    copy(x, latest)
    for begin in range(STEPS, x.size, BLOCK):
        end = min(begin + BLOCK, x.size)
        part = x[begin - STEPS : end + STEPS - 1]
        if width >= BENT_FROM and _may_be_bent(part):
            _straighten(x, clean, begin, end)
        if _may_leap(part):
            _repair_from(x, clean, width, begin - width, end)
            _hold_from(x, latest, width, begin, end)
    _hold_from(x, latest, width, max(STEPS, x.size - STEPS), x.size)  # of these is not known what comes after


@compiled_exactly
def _may_leap(x: Signal) -> bool:
    """Whether a step is so much larger than the two before it, or the two after it, that an impulse may be there."""
    leaps, smallest, calm = np.int32(0), np.float32(SMALLEST), np.float32(1.01 * CALM)
    a, b, c, d, e, f = x[:-5], x[1:-4], x[2:-3], x[3:-2], x[4:-1], x[5:]
    for i in range(f.size):
        step = abs(d[i] - c[i])
        most = calm * step
        before = (abs(c[i] - b[i]) <= most) & (abs(b[i] - a[i]) <= most)
        after = (abs(e[i] - d[i]) <= most) & (abs(f[i] - e[i]) <= most)
        leaps += np.int32((step >= smallest) & (before | after))
    return bool(leaps > 0)


@compiled_exactly
def _may_be_bent(x: Signal) -> bool:
    """Whether a sample may lie far beside its neighbours."""
    bent = np.int32(0)
    a, b, c, d, e = x[1:-4], x[2:-3], x[3:-2], x[4:-1], x[5:]
    for i in range(e.size):
        beside = abs(a[i] - 4 * b[i] + 6 * c[i] - 4 * d[i] + e[i])
        steps = max(abs(b[i] - a[i]), max(abs(d[i] - b[i]), abs(e[i] - d[i])))
        bent += np.int32((beside >= np.float32(5.9 * SMALLEST)) & (beside >= np.float32(5.9 * BENT) * steps))
    return bool(bent > 0)


@compiled_exactly
def _straighten(x: Signal, clean: Signal, begin: int, end: int) -> None:
    """Replace the single samples of a part of the signal that lie far beside their neighbours."""
    for i in range(begin, min(end, x.size - 2)):
        beside = abs(x[i] - (4 * (x[i - 1] + x[i + 1]) - x[i - 2] - x[i + 2]) / 6)
        steps = max(abs(x[i - 1] - x[i - 2]), max(abs(x[i + 1] - x[i - 1]), abs(x[i + 2] - x[i + 1])))
        if beside >= SMALLEST and beside >= BENT * steps:
            fill(x, clean, (i - 2, i - 1, i + 1, i + 2))


@compiled_exactly
def _repair_from(x: Signal, clean: Signal, width: int, begin: int, end: int) -> None:
    """Repair the impulses that begin in a part of the signal."""
    for i in range(max(begin, 1), end):
        up = abs(x[i] - x[i - 1])
        for k in range(1, min(width, x.size - 1 - i) + 1):
            jump = min(up, abs(x[i + k] - x[i + k - 1]))
            lands = jump >= SMALLEST and abs(x[i + k] - x[i - 1]) <= LANDS * jump
            if lands and _repair_one(x, clean, i, k, jump, width):
                break


@compiled_exactly
def _repair_one(x: Signal, clean: Signal, i: int, k: int, jump: float, width: int) -> bool:
    """Replace the k samples from i on, to which and from which the signal jumps, if they are an impulse."""
    level = (x[i - 1] + x[i + k]) / 2
    for q in range(k):
        if not abs(x[i + q] - level) >= INSIDE * jump:
            return False
    before, after = _next_calm(x, i - 1, -1, 0, CALM * jump), _next_calm(x, i + k, 1, 0, CALM * jump)
    if before < 0 and after < 0:
        return False
    if before < 0:
        before = _next_calm(x, i - 1, -1, width, CALM * jump)
    if after < 0:
        after = _next_calm(x, i + k, 1, width, CALM * jump)
    if before < 0 or after < 0:
        return False
    fill(x, clean, (before, i - 1, i + k, after))
    return True


@compiled_exactly
def _next_calm(x: Signal, at: int, step: int, others: int, most: float) -> int:
    """Where the signal is a step away, if that and the next one are calm, so many samples being passed over; else -1.

    That is in one direction, `step`, from a sample on; calm is a step of at most so much.
    """
    here, first, passed = x[at], -1, 0
    at += step
    while 0 <= at < x.size and passed <= others:
        if abs(x[at] - here) <= most:
            if first >= 0:
                return first
            here, first = x[at], at
        else:
            passed += 1
        at += step
    return -1


@compiled_exactly
def _hold_from(x: Signal, latest: Signal, width: int, begin: int, end: int) -> None:
    """Let the sample before go on where an impulse may begin."""
    for i in range(begin, end):
        step = abs(x[i] - x[i - 1])
        if step >= SMALLEST and _next_calm(x, i - 1, -1, 0, CALM * step) >= 0:
            for q in range(i, min(i + width, x.size)):
                latest[q] = x[i - 1]
