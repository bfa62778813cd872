"""From a device's rate to 125 Hz, live.

A windowed-sinc interpolator (Kaiser window) with carried state: it looks 80 ms ahead and 80 ms back, so its delay is
fixed at 80 ms. The passband reaches 54 Hz, the stop band of 55 dB starts at 75 Hz. (Devices below 130 Hz keep what
lies under half their rate.) Output samples lie on a grid of whole multiples of 8 ms since 1970, on the device's clock:
a monitor that starts again in mid-stream finds the same samples.

Impulses are repaired on the way: a pacemaker's spike, or a sample that was damaged, is no part of the heart's signal,
and narrower than any QRS complex (`monitor.ecg.impulses`).

How the stream was cut into packets makes no difference to the output, to the bit. A missing sample (NaN) makes every
output that would need it NaN; nothing is filled in. Clocks that drift are not its business: one input sample is
``1 / rate_hz`` seconds, always.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from monitor.beat import RATE_HZ, Signal
from monitor.ecg import impulses, mains
from monitor.ecg.kernels import compiled
from monitor.wire import MAX_RATE_HZ, NO_SAMPLE

DELAY_S = 0.08
"""An output sample is ready once the input reaches this far beyond it."""
STOP_HZ, STOP_DB = 75.0, 55.0
IMAGES_BELOW_HZ = 135.0
"""Of a slower device the hum of the mains has images in the output: there it is taken out of the input."""
PHASES = 512
"""Positions between two input samples that have a filter of their own: 1/1024 of a sample is the largest error."""

Steps = npt.NDArray[np.int16]
"""(n,) samples as a device sends them, `NO_SAMPLE` where there was none."""

STATE = np.dtype(
    [
        ("offset", np.float64),  # input samples from the first of the stream to the first output sample
        ("step", np.float64),  # input samples from one output sample to the next
        ("consumed", np.int64),  # input samples that have left the history
        ("produced", np.int64),
        ("mains", mains.LINE, len(mains.LINES_HZ)),
        ("kept", np.int64),  # samples in the history
        ("history", np.float32, math.ceil((2 * DELAY_S + 1 / RATE_HZ) * MAX_RATE_HZ) + impulses.BEFORE),
    ],
    align=True,
)
"""Everything the resampler remembers of a stream: 2.8 kB."""


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
    frame: int
    """With `turns` and `measures`: of `monitor.ecg.mains.design`, at the rate at which the hum is taken out."""
    turns: npt.NDArray[np.float64]
    measures: npt.NDArray[np.float32]
    slow: bool
    """Whether that is the rate of the device."""
    impulse: int
    """Most samples of an impulse."""


def design_kernel(rate_hz: float) -> Kernel:
    """Filters and how the hum is measured; those of rates within 0.5 % are shared.

    Kaiser, "Nonrecursive digital filter design using the I0-sinh window function", ISCAS 1974: the window's shape
    follows from the attenuation, and the width of the transition from the length.
    """
    shared_hz = float(f"{rate_hz:.3g}")
    slow = shared_hz < IMAGES_BELOW_HZ
    hum = mains.design(shared_hz if slow else RATE_HZ)
    return Kernel(_design_kernel(shared_hz), *hum, slow, impulses.widest(shared_hz))


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
    outputs = 0
    longest = 0
    start = 0
    for i in range(rows.size):
        state = states[rows[i]]
        outputs += int((ends[i] - start + state.kept) / state.step) + 2
        longest = max(longest, ends[i] - start)
        start = ends[i]
    x = np.empty((2, states[0].history.size + longest), np.float32)
    out = np.empty(outputs, np.float32)
    out_ends = np.empty_like(ends)
    start, produced = 0, 0
    for i in range(rows.size):
        produced += _push(states[rows[i]], samples[start : ends[i]], kernel, x, out[produced:])
        start = ends[i]
        out_ends[i] = produced
    return out[:produced], out_ends


@compiled
def _to_signal(samples: Any, signal: Signal) -> None:
    """Steps of a device as signal, NaN where there was no valid sample."""
    for i in range(samples.size):
        signal[i] = np.nan if samples[i] == NO_SAMPLE else samples[i]


@compiled
def _push(state: Any, samples: Any, kernel: Any, room: Signal, out: Signal) -> int:
    """Write the outputs that are ready to `out`, return how many; `room` is for the history and the samples, twice."""
    if samples.size == 0:
        return 0
    x, clean = room[0], room[1]
    filters = kernel.filters
    phases, taps = filters.shape[0] - 1, filters.shape[1]
    half = taps // 2
    history, kept = state.history, state.kept
    if kept == 0:
        # Before its first sample the stream is taken to have held that value.
        _to_signal(np.full(half, samples[0]), x)
        kept, state.consumed = half, -half
    else:
        x[:kept] = history[:kept]
    size = kept + samples.size
    _to_signal(samples, x[kept:])
    if kernel.slow:
        mains.cancel(state.mains, kernel.frame, kernel.turns, kernel.measures, x[kept:size])
    impulses.repair(x[:size], clean, kernel.impulse)
    # Whether the last samples belong to an impulse is not known yet when they are first needed. They hardly count then,
    # at the end of the filter, and are taken as they are.
    known = taps - impulses.after(kernel.impulse)
    first = half - 1 + state.consumed  # input number of the sample before which x[0] lies `half` - 1 samples
    ready = 0
    position = state.offset + state.produced * state.step
    whole = math.floor(position)
    while whole + half < state.consumed + size:
        begin = whole - first
        weights = filters[int((position - whole) * phases + 0.5)]
        near, raw = clean[begin : begin + taps], x[begin : begin + taps]
        total = np.float32(0)
        for k in range(known):
            total += weights[k] * near[k]
        for k in range(known, taps):
            total += weights[k] * raw[k]
        out[ready] = total
        ready += 1
        position = state.offset + (state.produced + ready) * state.step
        whole = math.floor(position)
    state.produced += ready
    drop = min(max(0, whole - half - impulses.BEFORE - state.consumed), size)
    state.kept = size - drop
    history[: size - drop] = x[drop:size]
    state.consumed += drop
    if not kernel.slow:
        mains.cancel(state.mains, kernel.frame, kernel.turns, kernel.measures, out[:ready])
    return ready
