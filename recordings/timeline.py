"""Samples that carry their times -> samples at one rate, with holes where time went on without them.

Rules
-----
* Several rows may carry one time: they are a block, whose samples follow each other.
* The rate is that of the blocks that follow each other without a hole. A whole number of hertz is taken where the times
  are too coarse to tell it from that.
* A hole is where a block begins later than its predecessor ends, by more than the times jitter: it is NaN, and what
  follows stands where its time says. Nothing is filled in.

Knows nothing of files.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recordings.recording import Signal, check_size

JITTER = 3.0
"""A hole is longer than this many times what 90 % of the blocks are early or late."""
LEAST_HZ, MOST_HZ = 1.0, 100_000.0
"""Rates beyond these are no rates of a signal."""
ROUNDS = 3
"""Often enough for the rate to settle: holes found by it are left out of the next one."""


@dataclass(frozen=True, eq=False)
class Timeline:
    """Samples at one rate."""

    rate_hz: float
    samples_uv: Signal
    notes: tuple[str, ...]


def lay_out(times_s: npt.NDArray[np.float64], samples_uv: Signal, rate_hz: float | None = None) -> Timeline:
    """Lay samples out at one rate.

    Parameters
    ----------
    times_s
        (n,) of each sample; equal ones make a block.
    samples_uv
        (n,) of the samples.
    rate_hz
        Of the device, if known.

    Raises
    ------
    ValueError
        The times are not finite, run back, or are all the same; or the holes are too long.
    """
    _check(times_s)
    first = np.flatnonzero(np.diff(times_s, prepend=-np.inf) > 0)
    if first.size < 2:
        raise ValueError(f"got one time for all {times_s.size} samples, expected times that grow")
    counts = np.diff(first)
    steps = np.diff(times_s[first])
    notes: list[str] = []
    if rate_hz is None:
        rate_hz = find_rate(counts, steps)
        notes.append(f"the rate is taken from the times: {rate_hz:.6g} Hz")
    late = np.flatnonzero(_is_hole(counts, steps, rate_hz)) + 1
    places = np.rint((times_s[first[late]] - times_s[0]) * rate_hz).astype(np.int64) - first[late]
    missing = np.diff(np.maximum.accumulate(np.maximum(places, 0)), prepend=0)
    if (total := int(missing.sum())) > 0:
        check_size(samples_uv.size + total)
        holes = int(np.count_nonzero(missing))
        notes.append(f"{holes} hole{'s' * (holes > 1)} in its times, {total / rate_hz:.1f} s in all, stay missing")
    return Timeline(rate_hz, open_holes(samples_uv, first[late], missing), tuple(notes))


def open_holes(samples_uv: Signal, before: npt.NDArray[np.int64], missing: npt.NDArray[np.int64]) -> Signal:
    """Insert NaN: so many `missing` samples before each of the positions `before`."""
    return np.insert(samples_uv, np.repeat(before, missing), np.nan)


def _check(times_s: npt.NDArray[np.float64]) -> None:
    if not np.isfinite(times_s).all():
        raise ValueError(f"got no time in row {int(np.argmin(np.isfinite(times_s)))}, expected one in each")
    back = np.flatnonzero(np.diff(times_s) < 0)
    if back.size:
        row = int(back[0])
        raise ValueError(
            f"got time {times_s[row + 1]:.6f} after {times_s[row]:.6f} (row {row + 1}), expected one that grows"
        )


def find_rate(counts: npt.NDArray[np.int64], steps: npt.NDArray[np.float64], nominal_hz: float | None = None) -> float:
    """Rate of blocks of which the holes are not known yet.

    Parameters
    ----------
    counts
        (m,) samples of each block.
    steps
        (m,) seconds from its time to that of the next.
    nominal_hz
        Taken where the times are too coarse to tell the rate from it; the next whole number if not given.

    Raises
    ------
    ValueError
        The times make no rate of a signal.
    """
    rate_hz = float(np.median(counts / steps))
    for _ in range(ROUNDS):
        follows = ~_is_hole(counts, steps, rate_hz)
        rate_hz = float(counts[follows].sum() / steps[follows].sum())
    if not LEAST_HZ < rate_hz < MOST_HZ:
        raise ValueError(f"got times by which the rate is {rate_hz:.3g} Hz, expected one of an ECG")
    late = np.abs(steps - counts / rate_hz)[follows]
    doubt_hz = rate_hz * 2 * float(late.max()) / float(steps[follows].sum())
    round_hz = float(np.rint(rate_hz)) if nominal_hz is None else nominal_hz
    return round_hz if abs(round_hz - rate_hz) <= doubt_hz else rate_hz


def _is_hole(counts: npt.NDArray[np.int64], steps: npt.NDArray[np.float64], rate_hz: float) -> npt.NDArray[np.bool_]:
    """(m,) whether there is a hole after each block."""
    late = steps - counts / rate_hz
    jitter = float(np.percentile(np.abs(late), 90))
    is_hole: npt.NDArray[np.bool_] = late > max(1.5 / rate_hz, JITTER * jitter) - 1e-9
    return is_hole
