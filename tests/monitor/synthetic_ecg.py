"""A synthetic ECG whose R peaks are known exactly: five Gaussian waves a beat, as in McSharry et al. 2003."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

WAVES = [(-0.2, 0.12, 0.025), (-0.035, -0.12, 0.01), (0.0, 1.0, 0.011), (0.035, -0.2, 0.01), (0.25, 0.3, 0.05)]
"""(offset s, height mV, width s) of P, Q, R, S, T."""


def beat_times(seconds: float, rr_s: float | Sequence[float] = 0.8, first_s: float = 0.5) -> npt.NDArray[np.float64]:
    """Times of the R peaks; a sequence of RR intervals is repeated."""
    intervals = [rr_s] if isinstance(rr_s, float) else list(rr_s)
    times = [first_s]
    while times[-1] < seconds - 0.3:
        times.append(times[-1] + intervals[(len(times) - 1) % len(intervals)])
    return np.array(times[:-1])


def make_ecg(
    times_s: npt.NDArray[np.float64],
    seconds: float,
    rate_hz: float,
    amplitude_uv: float = 1000.0,
    waves: Sequence[tuple[float, float, float]] = WAVES,
) -> npt.NDArray[np.int16]:
    """(n,) int16 microvolts with an R peak at each of the times, and a little noise."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    signal = np.zeros_like(t)
    for peak in times_s:
        for offset, height, width in waves:
            signal += height * np.exp(-((t - peak - offset) ** 2) / (2 * width**2))
    noise = np.random.default_rng(0).normal(0, 5, t.size)
    return np.rint(signal * amplitude_uv + noise).astype(np.int16)
