"""Tells whether a beat's signal is fit to be judged, and whether the electrode is still on the body.

A beat of unfit signal is withheld from the model, with its reason: noise looks like disease. Every index is relative
to the beat itself, because gain and resolution differ between devices.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from monitor.beat import Signal
from monitor.wire import NO_SAMPLE

FLAT_STEPS = 2.0
"""A beat that spans less than this many steps of the converter is flat."""
NOISE_RATIO = 0.05
"""Median step from sample to sample over peak-to-peak from which a beat is noise: outside the QRS complex a clean
signal hardly moves. 0.03 % of the beats of CinC 2017 recordings labelled normal exceed it, 18 % of those labelled too
noisy."""
LEAD_OFF_S = 2.0
"""No heart lets a signal stand still for this long at a wearable's resolution."""


def why_unfit(signal: Signal) -> str | None:
    """Why a beat must be withheld, or None if it may be judged.

    Parameters
    ----------
    signal
        (n,) float32 at 125 Hz, the beat's window before scaling, in steps of the device's converter.
    """
    if np.isnan(signal).any():
        return "missing samples"
    span = float(np.ptp(signal))
    if span < FLAT_STEPS:
        return "flat"
    if float(np.median(np.abs(np.diff(signal)))) > NOISE_RATIO * span:
        return "noise"
    return None


class Contact:
    """Watches one stream, at the device's rate, for an electrode that has come off.

    Off is a signal without a valid sample, or without a change, for two seconds.
    """

    def __init__(self, rate_hz: float) -> None:
        self._patience = round(LEAD_OFF_S * rate_hz)
        self._still = 0  # samples since the last that was valid and different
        self._last: int = NO_SAMPLE

    def push(self, samples: npt.NDArray[np.int16]) -> list[int]:
        """Take the next samples; return the places in them at which the electrode came to count as off.

        Parameters
        ----------
        samples
            (n,) int16 steps, `NO_SAMPLE` where invalid, n >= 1.
        """
        moved = np.empty(samples.size, np.bool_)
        moved[0] = samples[0] != self._last
        np.not_equal(samples[1:], samples[:-1], out=moved[1:])
        moved &= samples != NO_SAMPLE
        self._last = int(samples[-1])
        moves = np.flatnonzero(moved)
        starts = np.concatenate(([-self._still], moves))
        ends = np.append(moves, samples.size)
        self._still = samples.size - int(starts[-1])
        off = starts + self._patience
        return off[(off >= 0) & (off < ends)].tolist()  # type: ignore[no-any-return]

    @property
    def is_off(self) -> bool:
        """Whether the electrode counts as off now."""
        return self._still > self._patience


def to_signal(samples: npt.NDArray[np.int16]) -> Signal:
    """(n,) int16 steps as (n,) float32, NaN where there was no valid sample."""
    signal = samples.astype(np.float32)
    signal[samples == NO_SAMPLE] = np.nan
    return signal
