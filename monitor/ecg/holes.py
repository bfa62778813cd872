"""Holes: a sample or a few that a device left out, while the signal on either side is known.

Nothing of a heartbeat fits into 9 ms that its neighbours do not show, so such a hole is bridged: by the cubic through
the two valid samples before it and the two after it (Lagrange's), which meets a QRS complex better than a straight
line. Where more is missing, be it in one hole or in several side by side, it stays so, and what needs it is missing:
what nobody saw is not made up.

What is decided of a sample depends on its neighbours alone, so it is the same however the stream was cut.
"""

from __future__ import annotations

import numpy as np

from monitor.beat import Signal
from monitor.ecg.kernels import compiled_exactly

LONGEST_S = 0.009
OTHERS = 1
"""Samples that may be missing besides, between the four that a hole is bridged from."""


def widest(rate_hz: float) -> int:
    """Return the most samples of a hole that is bridged at a rate: one at least."""
    return max(1, int(LONGEST_S * rate_hz))


def around(width: int) -> int:
    """Return how many samples on either side of a missing one must be known to decide whether it is bridged."""
    return width - 1 + OTHERS + 2


@compiled_exactly
def repair(x: Signal, clean: Signal, latest: Signal, width: int) -> None:
    """Fill the short holes of a signal.

    Parameters
    ----------
    x
        (n,) float32; NaN where a sample is missing.
    clean
        Where to, at least as long: as `x`, but for what was repaired otherwise.
    latest
        As `x`, too, for what must be used before it is known how long a hole is: the sample before it goes on.
    width
        Of `widest`.
    """
    if _are_in(x):
        bridge(x, clean, width)
        _hold(latest[: x.size])


@compiled_exactly
def _are_in(x: Signal) -> bool:
    missing = np.int32(0)
    for value in x:
        missing += np.int32(np.isnan(value))
    return bool(missing > 0)


@compiled_exactly
def _hold(x: Signal) -> None:
    for i in range(1, x.size):
        if np.isnan(x[i]):
            x[i] = x[i - 1]


@compiled_exactly
def bridge(x: Signal, clean: Signal, width: int) -> None:
    """Fill the short holes of (n,) samples; see `repair`."""
    end = 0
    for begin in range(x.size):
        if begin < end or not np.isnan(x[begin]):
            continue
        end = _next_valid(x, begin, 1)
        first, last = _next_valid(x, begin - 2, -1), _next_valid(x, end + 1, 1)
        if end - begin <= width and begin > 0 and first >= 0 and last < x.size and last - first - 3 <= width + OTHERS:
            fill(x, clean, (first, begin - 1, end, last))


@compiled_exactly
def _next_valid(x: Signal, at: int, step: int) -> int:
    """Where the next valid sample lies, that place included, or the first place beyond the signal."""
    while 0 <= at < x.size and np.isnan(x[at]):
        at += step
    return at


@compiled_exactly
def fill(x: Signal, clean: Signal, known: tuple[int, int, int, int]) -> None:
    """Put the cubic through four samples of a signal in the place of those between the second and the third of them.

    Parameters
    ----------
    x, clean
        (n,) signal, and where to.
    known
        Places of the four, in order.
    """
    for at in range(known[1] + 1, known[2]):
        value = 0.0
        for one in known:
            value += _weight(known, one, at) * x[one]
        clean[at] = value


@compiled_exactly
def _weight(known: tuple[int, int, int, int], one: int, at: int) -> float:
    """Of one of four samples in what the cubic through them has at a place."""
    weight = 1.0
    for other in known:
        if other != one:
            weight *= (at - other) / (one - other)
    return weight
