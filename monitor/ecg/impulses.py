"""Impulses: some samples that leap away and come back, while the signal on either side is calm.

The spikes of a pacemaker last 0.2 to 2 ms, and a sample that was damaged on its way is one sample long; no QRS complex
is so narrow, and its slopes rise and fall gradually. So an impulse is `widest` samples or fewer that stand out by a
jump there and a jump back, with steps before and after that are smaller by a factor of `1 / CALM`. They are replaced by
a straight line. In 170,000 beats of MIT-BIH DS1 (360 Hz) and svdb (128 Hz), 10 QRS complexes have such a sample.

What is decided of a sample depends on its neighbours alone, so it is the same however the stream was cut.
"""

from __future__ import annotations

import numpy as np

from monitor.beat import Signal
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
BLOCK = 64
"""Samples that are passed over at once where no step is so large."""
STEPS = 3
"""Samples before an impulse that are looked at."""
BEFORE = STEPS + MOST_SAMPLES - 1
"""Samples before one that must be known to decide whether it is part of an impulse."""


def widest(rate_hz: float) -> int:
    """Return the most samples of an impulse at a rate."""
    return max(1, min(MOST_SAMPLES, int(LONGEST_S * rate_hz)))


@compiled_exactly
def after(width: int) -> int:
    """Return how many samples after one must be known to decide whether it is part of an impulse."""
    return width + 2


@compiled_exactly
def repair(x: Signal, clean: Signal, width: int) -> None:
    """Copy a signal without its impulses.

    Parameters
    ----------
    x
        (n,) float32; NaN where a sample is missing: what touches it is left as it is.
    clean
        Where to, at least as long. The last `after(width)` samples, and the first `BEFORE`, are copied as they are.
    width
        Of `widest`.
    """
    copy(x, clean)
    for begin in range(STEPS, x.size - 3, BLOCK):
        end = min(begin + BLOCK, x.size - 3)
        if _may_leap(x[begin - STEPS : end]):
            _repair_from(x, clean, width, begin, end)


@compiled_exactly
def _may_leap(x: Signal) -> bool:
    """Whether a step is so much larger than the two before it that an impulse may begin with it."""
    leaps, smallest, calm = np.int32(0), np.float32(SMALLEST), np.float32(1.01 * CALM)
    a, b, c, d = x[:-3], x[1:-2], x[2:-1], x[3:]
    for i in range(d.size):
        step = abs(d[i] - c[i])
        leaps += np.int32((step >= smallest) & (max(abs(c[i] - b[i]), abs(b[i] - a[i])) <= calm * step))
    return bool(leaps > 0)


@compiled_exactly
def _repair_from(x: Signal, clean: Signal, width: int, begin: int, end: int) -> None:
    """Repair the impulses that begin in a part of the signal."""
    for i in range(begin, end):
        up = x[i] - x[i - 1]
        if abs(up) < SMALLEST or abs(x[i - 1] - x[i - 2]) > CALM * abs(up):
            continue
        k = _samples_of_impulse(x, i, min(width, x.size - 3 - i))
        for q in range(k):
            clean[i + q] = x[i - 1] + (x[i + k] - x[i - 1]) * (q + 1) / (k + 1)


@compiled_exactly
def _samples_of_impulse(x: Signal, i: int, most: int) -> int:
    """How many samples from i on are an impulse; 0 if there is none."""
    for k in range(1, most + 1):
        if _is_impulse(x, i, k):
            return k
    return 0


@compiled_exactly
def _is_impulse(x: Signal, i: int, k: int) -> bool:
    """Whether the k samples from i on are one."""
    up, down = x[i] - x[i - 1], x[i + k] - x[i + k - 1]
    jump = min(abs(up), abs(down))
    if not (up * down < 0 and jump >= SMALLEST and abs(x[i + k] - x[i - 1]) <= LANDS * jump):
        return False
    for j in (i - 1, i - 2, i + k + 1, i + k + 2):
        if not abs(x[j] - x[j - 1]) <= CALM * jump:
            return False
    level = (x[i - 1] + x[i + k]) / 2
    inside = 0
    for q in range(k):
        inside += (x[i + q] - level) * (1 if up > 0 else -1) >= INSIDE * jump
    return inside == k
