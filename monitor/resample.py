"""From a device's rate to 125 Hz, live.

A windowed-sinc interpolator (Kaiser window) with carried state: it looks 80 ms ahead and 80 ms back, so its delay is
fixed at 80 ms. The passband reaches 54 Hz, the stop band of 55 dB starts at 75 Hz. (Devices below 130 Hz keep what
lies under half their rate.) Output samples lie on a grid of whole multiples of 8 ms since 1970, on the device's clock:
a monitor that starts again in mid-stream finds the same samples.

How the stream was cut into packets makes no difference to the output, to the bit. A missing sample (NaN) makes every
output that would need it NaN; nothing is filled in. Clocks that drift are not its business: one input sample is
``1 / rate_hz`` seconds, always.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numba import njit

from monitor.beat import RATE_HZ, Signal

DELAY_S = 0.08
"""An output sample is ready once the input reaches this far beyond it."""
STOP_HZ, STOP_DB = 75.0, 55.0
PHASES = 512
"""Positions between two input samples that have a filter of their own: 1/1024 of a sample is the largest error."""


class Resampler:
    """Resamples one stream.

    Parameters
    ----------
    rate_hz
        Rate of the input, any float.
    start_s
        Time of the first input sample. Sample `k` of the output lies at ``(first + k) / 125`` seconds.
    """

    def __init__(self, rate_hz: float, start_s: float) -> None:
        self._kernel = design_kernel(float(f"{rate_hz:.3g}"))
        self._step = rate_hz / RATE_HZ
        self.first = math.ceil(start_s * RATE_HZ)
        """Number of the first output sample on the 8 ms grid."""
        self._offset = (self.first / RATE_HZ - start_s) * rate_hz
        self._half = self._kernel.shape[1] // 2
        self._history = np.empty(0, np.float32)
        self._consumed = 0  # input samples that have left the history
        self._produced = 0

    def push(self, samples: Signal) -> Signal:
        """Take the next input samples, return the output samples that are ready now.

        Parameters
        ----------
        samples
            (n,) float32, NaN where invalid.

        Returns
        -------
        ndarray
            (m,) float32 at 125 Hz, same unit, m >= 0; NaN where it would depend on an invalid sample.
        """
        if self._consumed == 0 and self._history.size == 0 and samples.size:
            # Before its first sample the stream is taken to have held that value.
            self._history = np.full(self._half, samples[0], np.float32)
            self._consumed = -self._half
        x = np.concatenate((self._history, samples))
        out = _interpolate(x, self._consumed, self._kernel, self._offset, self._step, self._produced)
        self._produced += out.size
        oldest_needed = math.floor(self._offset + self._produced * self._step) - self._half
        drop = min(max(0, oldest_needed - self._consumed), x.size)
        self._history = x[drop:]
        self._consumed += drop
        return out


@lru_cache(maxsize=64)
def design_kernel(rate_hz: float) -> Signal:
    """Filters of all phases, (PHASES + 1, taps) float32, each summing to 1.

    Kaiser, "Nonrecursive digital filter design using the I0-sinh window function", ISCAS 1974: the window's shape
    follows from the attenuation, and the width of the transition from the length.
    """
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


# Sums may be reordered to use vector instructions; the order depends on the number of taps alone.
@njit(cache=True, fastmath={"reassoc", "contract"})
def _interpolate(x: Signal, x_first: int, kernel: Signal, offset: float, step: float, produced: int) -> Signal:
    """Outputs number `produced`, `produced` + 1, ... as far as `x` reaches; x[0] is input number `x_first`."""
    phases = kernel.shape[0] - 1
    taps = kernel.shape[1]
    half = taps // 2
    end = x_first + x.size
    room = int((end - offset) / step) - produced + 2
    out = np.empty(max(0, room), np.float32)
    n = 0
    while True:
        position = offset + (produced + n) * step
        whole = math.floor(position)
        if whole + half >= end:
            break
        row = int((position - whole) * phases + 0.5)
        first = whole - half + 1 - x_first
        total = np.float32(0)
        for i in range(taps):
            total += kernel[row, i] * x[first + i]
        out[n] = total
        n += 1
    return out[:n]
