"""From a device's rate to 125 Hz, live.

A windowed-sinc interpolator (Kaiser window) with carried state: it looks 80 ms ahead and 80 ms back, so its delay is
fixed at 80 ms. The passband reaches 54 Hz, the stop band of 55 dB starts at 75 Hz. (Devices below 130 Hz keep what
lies under half their rate.) Output samples lie on a grid of whole multiples of 8 ms since 1970, on the device's clock:
a monitor that starts again in mid-stream finds the same samples.

Impulses are repaired on the way: a pacemaker's spike, or a sample that was damaged, is no part of the heart's signal,
and narrower than any QRS complex (`monitor.ecg.impulses`).

So are holes of a sample or a few (`monitor.ecg.holes`). A longer one makes every output that would need it NaN; nothing
else is filled in.

How the stream was cut into packets makes no difference to the output, to the bit. Clocks that drift are not its
business: one input sample is ``1 / rate_hz`` seconds, always.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from monitor.beat import RATE_HZ, Signal
from monitor.ecg import holes, impulses, mains
from monitor.ecg.kernels import compiled, copy
from monitor.wire import MAX_RATE_HZ, NO_SAMPLE

DELAY_S = 0.08
"""An output sample is ready once the input reaches this far beyond it."""
STOP_HZ, STOP_DB = 75.0, 55.0
IMAGES_BELOW_HZ = 135.0
"""Of a slower device the hum of the mains has images in the output: there it is taken out of the input."""
PHASES = 512
"""Positions between two input samples that have a filter of their own: 1/1024 of a sample is the largest error."""


def _around(rate_hz: float) -> int:
    """Samples on either side of one that must be known to decide whether it is part of an impulse or a short hole."""
    return max(impulses.around(impulses.widest(rate_hz)), holes.around(holes.widest(rate_hz)))


Steps = npt.NDArray[np.int16]
"""(n,) samples as a device sends them, `NO_SAMPLE` where there was none."""

STATE = np.dtype(
    [
        ("offset", np.float64),  # input samples from the first of the stream to the first output sample
        ("step", np.float64),  # input samples from one output sample to the next
        ("consumed", np.int64),  # input samples that have left the history
        ("produced", np.int64),
        ("kept", np.int64),  # samples in the history
        ("mains", mains.STATE),
        ("history", np.float32, math.ceil((2 * DELAY_S + 1 / RATE_HZ) * MAX_RATE_HZ) + _around(MAX_RATE_HZ)),
    ],
    align=True,
)
"""Everything the resampler remembers of a stream: 3.7 kB."""


def begin(state: np.void, rate_hz: float, start_s: float) -> int:
    """Make a state that of a new stream; return the number of its first output sample on the 8 ms grid."""
    first = math.ceil(start_s * RATE_HZ)
    state["offset"] = (first / RATE_HZ - start_s) * rate_hz
    state["step"] = rate_hz / RATE_HZ
    state["consumed"] = state["produced"] = state["kept"] = 0
    return first


class Kernel(NamedTuple):
    """What depends on the rate of a device alone."""

    filters: Signal
    """(PHASES + 1, taps) float32, those of all phases, each summing to 1."""
    hum: mains.Lines
    """At the rate at which the hum is taken out."""
    slow: bool
    """Whether that is the rate of the device."""
    impulse: int
    """Most samples of an impulse."""
    hole: int
    """Most samples of a hole that is bridged."""
    around: int
    """Samples on either side of one that must be known to decide whether it is part of either."""


@lru_cache(maxsize=1024)
def design_kernel(rate_hz: float) -> Kernel:
    """Filters and how the hum is measured; those of rates within 0.5 % are shared.

    Kaiser, "Nonrecursive digital filter design using the I0-sinh window function", ISCAS 1974: the window's shape
    follows from the attenuation, and the width of the transition from the length.
    """
    shared_hz = float(f"{rate_hz:.3g}")
    slow = shared_hz < IMAGES_BELOW_HZ
    hum = mains.design(shared_hz if slow else RATE_HZ)
    impulse, hole = impulses.widest(shared_hz), holes.widest(shared_hz)
    return Kernel(_design_kernel(shared_hz), hum, slow, impulse, hole, _around(shared_hz))


@lru_cache(maxsize=64)
def _design_kernel(rate_hz: float) -> Signal:
    half_width_s = DELAY_S
    transition_hz = (STOP_DB - 7.95) / (14.36 * 2 * half_width_s)
    cutoff_hz = min(STOP_HZ - transition_hz / 2, rate_hz / 2)
    beta = 0.1102 * (STOP_DB - 8.7)
    half = math.ceil(half_width_s * rate_hz) - 1
    phase = np.arange(PHASES + 1)[:, None] / PHASES
    tap = np.arange(-half + 1, half + 1)[None, :]
    t = (tap - phase) / rate_hz  # seconds from the output sample to each input sample
    inside = np.clip(1 - (t / half_width_s) ** 2, 0, None)
    window = np.where(np.abs(t) <= half_width_s, np.i0(beta * np.sqrt(inside)), 0)
    kernel = np.sinc(2 * cutoff_hz * t) * window
    return np.ascontiguousarray(kernel / kernel.sum(axis=1, keepdims=True), dtype=np.float32)


@compiled
def resample(
    states: Any, rows: npt.NDArray[np.int64], samples: Any, ends: npt.NDArray[np.int64], kernel: Kernel
) -> tuple[Signal, npt.NDArray[np.int64]]:
    """Resample the next samples of many streams that share a kernel.

    Parameters
    ----------
    states
        (streams,) of `STATE`; changed in place.
    rows
        (k,) which of them, each at most once.
    samples, ends
        Their samples, one after the other, `NO_SAMPLE` or NaN where invalid, and where those of each end.
    kernel
        Of `design_kernel`.

    Returns
    -------
    samples, ends
        The same of the output.
    """
    outputs, most_outputs = 0, 0
    longest = 0
    start = 0
    for i in range(rows.size):
        state = states[rows[i]]
        most = int((ends[i] - start + state.kept) / state.step) + 2
        outputs, most_outputs = outputs + most, max(most_outputs, most)
        longest = max(longest, ends[i] - start)
        start = ends[i]
    room = np.empty((3, states[0].history.size + longest), np.float32)
    places = np.empty((2, most_outputs), np.int64)
    out = np.empty(outputs, np.float32)
    out_ends = np.empty_like(ends)
    start, produced = 0, 0
    for i in range(rows.size):
        produced += _push(states[rows[i]], samples[start : ends[i]], kernel, room, places, out[produced:])
        start = ends[i]
        out_ends[i] = produced
    return out[:produced], out_ends


@compiled
def count_ready(states: Any, rows: npt.NDArray[np.int64], inputs: Any, kernel: Kernel) -> npt.NDArray[np.int64]:
    """Return how many outputs of some streams were ready once they had so many inputs, of late; -1 where that is -1."""
    ready = np.full(rows.size, -1)
    for i in range(rows.size):
        if inputs[i] >= 0:
            ready[i] = states[rows[i]].produced
            while ready[i] > 0 and count_needed(states[rows[i]], ready[i], kernel) > inputs[i]:
                ready[i] -= 1
    return ready


@compiled
def count_needed(state: Any, outputs: int, kernel: Kernel) -> int:
    """Return how many inputs of a stream make so many outputs ready; see `_place`."""
    return int(math.floor(state.offset + (outputs - 1) * state.step) + kernel.filters.shape[1] // 2 + 1)


@compiled
def _to_signal(samples: Any, signal: Signal) -> None:
    """Steps of a device as signal, NaN where there was no valid sample."""
    for i in range(samples.size):
        signal[i] = np.nan if samples[i] == NO_SAMPLE else samples[i]


@compiled
def _push(state: Any, samples: Any, kernel: Any, room: Signal, places: Any, out: Signal) -> int:
    """Write the outputs that are ready to `out`, return how many.

    `room` is for the history and the samples, three times, `places` for what `_place` finds.
    """
    if samples.size == 0:
        return 0
    x, clean, latest = room[0], room[1], room[2]
    half = kernel.filters.shape[1] // 2
    history, kept = state.history, state.kept
    if kept == 0:
        # Before its first sample the stream is taken to have held that value.
        _to_signal(np.full(half, samples[0]), x)
        kept, state.consumed = half, -half
    else:
        copy(history[:kept], x)
    size = kept + samples.size
    _to_signal(samples, x[kept:])
    if kernel.slow:
        mains.cancel(state.mains, kernel.hum, x[kept:size])
    impulses.repair(x[:size], clean, latest, kernel.impulse)
    holes.repair(x[:size], clean, latest, kernel.hole)
    ready, next_begin = _place(state, kernel.filters, size, places)
    _filter(kernel, latest, clean, places, out[:ready])
    state.produced += ready
    drop = min(max(0, next_begin - 1 - kernel.around), size)
    state.kept = size - drop
    copy(x[drop:size], history)
    state.consumed += drop
    if not kernel.slow:
        mains.cancel(state.mains, kernel.hum, out[:ready])
    return ready


@compiled
def _place(state: Any, filters: Signal, size: int, places: Any) -> tuple[int, int]:
    """Find where the outputs that are ready lie; return how many, and where the first sample of the next one lies.

    Of each: position of its first sample among the `size` at hand, and of its filter in the flat `filters`.
    """
    phases, taps = filters.shape[0] - 1, filters.shape[1]
    first = taps // 2 - 1 + state.consumed  # input number of the sample before which x[0] lies `half` - 1 samples
    end = state.consumed + size - taps // 2
    offset, step, produced = state.offset, state.step, state.produced
    begins, rows = places[0], places[1]
    ready = 0
    position = offset + produced * step
    whole = math.floor(position)
    while whole < end:
        begins[ready], rows[ready] = whole - first, int((position - whole) * phases + 0.5) * taps
        ready += 1
        position = offset + (produced + ready) * step
        whole = math.floor(position)
    return ready, whole - first


@compiled
def _filter(kernel: Any, latest: Signal, clean: Signal, places: Any, out: Signal) -> None:
    """Compute outputs from where they lie, the signal and its copy without impulses and short holes.

    Whether the last samples belong to one is not known yet when they are first needed. They hardly count then, at the
    end of the filter, and `latest` has there what was before.
    """
    filters, taps = kernel.filters.ravel(), np.uint64(kernel.filters.shape[1])
    known = taps - np.uint64(kernel.around)
    for i in range(out.size):
        begin, row = np.uint64(places[0, i]), np.uint64(places[1, i])  # of no sign: numba need not look out for one
        total = np.float32(0)
        for k in range(known):
            total += filters[row + k] * clean[begin + k]
        for k in range(known, taps):
            total += filters[row + k] * latest[begin + k]
        out[i] = total
