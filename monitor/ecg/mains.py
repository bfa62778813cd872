"""Takes the hum of the mains out of a signal, live: 50 and 60 Hz, whichever is there, and nothing where there is none.

An adaptive canceller (Widrow et al., "Adaptive noise cancelling: principles and applications", Proc. IEEE 63 (1975)):
the hum is predicted from what was seen of it and subtracted, so that the signal is not delayed and no filter rings
after a QRS complex. Hamilton, "A comparison of adaptive and nonadaptive filters for reduction of power line
interference in the ECG", IEEE Trans. Biomed. Eng. 43 (1996), has the reasons. The steps:

1. The hum of a frame of 0.2 s is measured by least squares on the second differences, which know nothing of baseline
   and little of T waves. A frame holds whole periods of both lines.
2. Its prediction is the hum of the frame before, turned on by its frequency. A QRS complex is a surprise in one frame
   of several: what was missed counts for at most twice the median of the last eight frames.
3. Half of it corrects the hum, and the turn that is in it corrects the frequency (an alpha-beta tracker).
4. The hum is subtracted while it is several times larger than what its prediction misses. Noise, muscles and QRS
   complexes have no steady phase: they are left as they are, to the bit.

A device that samples at less than 120 Hz sees 60 Hz folded to a lower frequency, and so it is looked for there.
Harmonics lie beyond what `monitor.ecg.resample` lets through. How the stream was cut makes no difference.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from monitor.beat import Signal
from monitor.ecg.kernels import compiled, compiled_exactly, median

LINES_HZ = (50.0, 60.0)
LOWEST_HZ = 38.0
"""A line that folds to less than this is left alone: there the QRS complex is."""
APART_HZ = 1.5
"""So near to half the rate a line cannot be followed: it is its own mirror image."""
DRIFT_HZ = 1.0
"""How far from its nominal frequency a line is followed: the device's clock errs as well."""
FRAME_S = 0.2
ROOM = 32
"""For a frame and the two samples before it, up to 135 Hz; of one size, so that the sums over it use vector
instructions."""
ALPHA, BETA = 0.5, 0.3
"""How much of what a frame was missed by corrects the hum, and how much of its turn the frequency."""
SURPRISE = 2.0
REMEMBERED = 8
ONSET = 0.7
"""A line is followed from a frame on in which it is so much of what is rapid, ..."""
DOUBTS = 10
"""... until it was not found in so many frames."""
STEADY = 2.5
"""So many times what the prediction usually misses, the hum is found, ..."""
SHARE = 0.1
"""... if it is so much of what is rapid in most frames: other tones and small hum are left alone."""

LINE = np.dtype(
    [
        ("taken", np.int64),  # samples of this frame
        ("window", np.float32, ROOM + 2),  # those, after the last two of the frame before, without the predicted hum
        ("followed", np.uint8),
        ("found", np.uint8),  # whether the hum is subtracted
        ("doubts", np.int64),
        ("frames", np.int64),  # measured since it is followed
        ("drift", np.float64),  # radians a sample more than the nominal frequency
        ("hum", np.complex128),  # predicted, amplitude and phase at the middle of this frame
        ("next", np.complex128),  # and at the next sample
        ("missed", np.float64, REMEMBERED),  # ring: by how much the latest frames were
        ("rapid", np.float64, REMEMBERED),  # ring: and their sums of squared second differences
    ],
    align=True,
)
"""What is remembered of a line; all of it zero at the start."""


def fold(line_hz: float, rate_hz: float) -> float:
    """Where a frequency is seen at a rate."""
    return abs(line_hz - rate_hz * round(line_hz / rate_hz))


@lru_cache(maxsize=64)
def design(rate_hz: float) -> tuple[int, npt.NDArray[np.float64], npt.NDArray[np.float32]]:
    """How the lines are measured at a rate below 135 Hz.

    Returns
    -------
    frame
        Samples of a frame.
    turns
        (lines,) radians from one sample to the next, 0 where a line is not looked for.
    measures
        (lines, 3, ROOM) float32: weights of the samples of a frame and the two before it in the cosine and the sine at
        the middle of the frame, and 1 for each of its second differences.
    """
    n = round(FRAME_S * rate_hz)
    bend = np.diff(np.eye(n + 2), 2, axis=0)
    turns, measures = np.zeros(len(LINES_HZ)), np.zeros((len(LINES_HZ), 3, ROOM), np.float32)
    for i, line_hz in enumerate(LINES_HZ):
        folded_hz = fold(line_hz, rate_hz)
        known = any(abs(folded_hz - fold(other_hz, rate_hz)) < 1 / FRAME_S for other_hz in LINES_HZ[:i])
        if LOWEST_HZ <= folded_hz <= rate_hz / 2 - APART_HZ and not known:
            turns[i] = 2 * math.pi * folded_hz / rate_hz
            at = turns[i] * (np.arange(-2, n) - (n - 1) / 2)
            tones = np.stack([np.cos(at), -np.sin(at)], axis=1)
            measures[i, :2, : n + 2] = np.linalg.pinv(bend @ tones) @ bend
            measures[i, 2, :n] = 1
    return n, turns, measures


@compiled_exactly
def cancel(lines: Any, frame: int, turns: Any, measures: Any, signal: Signal) -> None:
    """Take the hum out of the next samples of a signal, in place.

    Parameters
    ----------
    lines
        (lines,) of `LINE`; changed in place.
    frame, turns, measures
        Of `design`.
    signal
        (n,) float32, NaN where there is no valid sample.
    """
    for i in range(turns.size):
        if turns[i] > 0:
            _cancel(lines[i], frame, turns[i], measures[i], signal)


@compiled_exactly
def _cancel(line: Any, frame: int, turn: float, measure: Signal, signal: Signal) -> None:
    window, at, taken = line.window, 0, line.taken
    while at < signal.size:
        size = min(frame - taken, signal.size - at)
        if line.followed:
            _subtract(line, turn, signal[at : at + size], window[2 + taken :])
        else:
            for i in range(size):
                window[2 + taken + i] = signal[at + i]
        at, taken = at + size, taken + size
        if taken == frame:
            _learn(line, frame, turn, measure, window)
            window[0], window[1], taken = window[frame], window[frame + 1], 0
    line.taken = taken


@compiled_exactly
def _subtract(line: Any, turn: float, signal: Signal, window: Signal) -> None:
    hum, step, found = line.next, _turned(turn + line.drift), line.found
    for i in range(signal.size):
        window[i] = signal[i] - hum.real
        if found:
            signal[i] = window[i]
        hum *= step
    line.next = hum


@compiled_exactly
def _turned(angle: float) -> complex:
    return complex(math.cos(angle), math.sin(angle))


@compiled
def _measure(measure: Signal, window: Signal) -> tuple[float, float, float]:
    """Cosine and sine of the hum, and the sum of the squared second differences: NaN if a sample is missing."""
    cosine = sine = rapid = np.float32(0)
    for i in range(ROOM):
        cosine += measure[0, i] * window[i]
        sine += measure[1, i] * window[i]
        bend = window[i] - 2 * window[i + 1] + window[i + 2]
        rapid += measure[2, i] * bend * bend
    return float(cosine), float(sine), float(rapid)


@compiled_exactly
def _learn(line: Any, frame: int, turn: float, measure: Signal, window: Signal) -> None:
    """Correct the prediction by what a frame shows that it missed, and predict the next one."""
    cosine, sine, rapid = _measure(measure, window)
    power = 8 * frame * math.sin(turn / 2) ** 4  # of a hum of amplitude 1, in second differences
    if not line.followed:
        if not power * (cosine * cosine + sine * sine) > ONSET * rapid:
            return
        line.followed, line.found, line.frames, line.doubts, line.drift = True, False, 0, 0, 0.0
        line.hum = complex(cosine, sine)
        for i in range(2):
            window[frame + i] -= (line.hum * _turned(turn * ((frame - 3) / 2 + i))).real
    elif not np.isnan(rapid):
        _correct(line, frame, complex(cosine, sine), rapid, power)
    line.hum *= _turned((turn + line.drift) * frame)
    line.next = line.hum * _turned(-(turn + line.drift) * (frame - 1) / 2)


@compiled_exactly
def _correct(line: Any, frame: int, missed: complex, rapid: float, power: float) -> None:
    line.missed[line.frames % REMEMBERED], line.rapid[line.frames % REMEMBERED] = abs(missed), rapid
    line.frames += 1
    known = min(line.frames, REMEMBERED)
    usual = median(line.missed[:known])
    if abs(missed) > SURPRISE * usual:
        missed *= SURPRISE * usual / abs(missed)
    line.hum += ALPHA * missed
    size = abs(line.hum)
    if size > 0:
        turned = (missed * line.hum.conjugate()).imag / size**2
        most = DRIFT_HZ * FRAME_S * 2 * math.pi / frame
        line.drift = min(max(line.drift + BETA * min(max(turned, -0.5), 0.5) / frame, -most), most)
    line.found = size > STEADY * usual and power * size**2 > SHARE * median(line.rapid[:known])
    line.doubts = 0 if line.found else line.doubts + 1
    line.followed = line.doubts < DOUBTS
