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
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from monitor.beat import Signal
from monitor.ecg.kernels import compiled, compiled_exactly, copy, median

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
        ("window", np.float32, ROOM + 2),  # as of `STATE`, without the predicted hum
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
"""What is remembered of a line."""

STATE = np.dtype(
    [
        ("taken", np.int64),  # samples of this frame
        ("active", np.uint8),  # whether a line is followed: then each has its own window
        ("window", np.float32, ROOM + 2),  # the samples of this frame, after the last two of the frame before
        ("lines", LINE, len(LINES_HZ)),
    ],
    align=True,
)
"""What is remembered of a stream; all zero at the start. Without hum only what stands before the lines is used."""


def fold(line_hz: float, rate_hz: float) -> float:
    """Where a frequency is seen at a rate."""
    return abs(line_hz - rate_hz * round(line_hz / rate_hz))


class Lines(NamedTuple):
    """How the lines are measured at a rate."""

    frame: int
    """Samples of a frame."""
    turns: npt.NDArray[np.float64]
    """(lines,) radians from one sample to the next, 0 where a line is not looked for."""
    powers: npt.NDArray[np.float64]
    """(lines,) sum of the squared second differences of a hum of amplitude 1 in a frame."""
    measures: npt.NDArray[np.float32]
    """(lines, 3, ROOM): weights of the samples of a frame and the two before it in the cosine and the sine at the
    middle of the frame, and 1 for each of its second differences."""


@lru_cache(maxsize=64)
def design(rate_hz: float) -> Lines:
    """Return how the lines are measured at a rate below 135 Hz."""
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
    powers = np.array([8 * n * math.sin(turn / 2) ** 4 for turn in turns])
    return Lines(n, turns, powers, measures)


@compiled_exactly
def cancel(state: Any, design: Any, signal: Signal) -> None:
    """Take the hum out of the next samples of a signal, in place.

    Parameters
    ----------
    state
        Of `STATE`; changed in place.
    design
        `Lines`, of `design`.
    signal
        (n,) float32, NaN where there is no valid sample.
    """
    at, taken, window = 0, state.taken, state.window
    while at < signal.size:
        size = min(design.frame - taken, signal.size - at)
        part = signal[at : at + size]
        if state.active:
            for i in range(design.turns.size):
                _subtract(state.lines[i], design.turns[i], part, taken)
        else:
            copy(part, window[2 + taken :])
        at, taken = at + size, taken + size
        if taken == design.frame:
            _end_frame(state, design)
            taken = 0
    state.taken = taken


@compiled_exactly
def _end_frame(state: Any, design: Any) -> None:
    lines, window, frame = state.lines, state.window, design.frame
    if not state.active:
        for i in range(design.turns.size):
            if design.turns[i] > 0 and _is_hum(design, i, window):
                state.active = True
        if not state.active:
            window[0], window[1] = window[frame], window[frame + 1]
            return
        for i in range(design.turns.size):
            copy(window, lines[i].window)
    followed = False
    for i in range(design.turns.size):
        followed |= lines[i].followed > 0
        if design.turns[i] > 0:
            _learn(lines[i], design, i)
        followed |= lines[i].followed > 0
        own = lines[i].window
        own[0], own[1] = own[frame], own[frame + 1]
    if not followed:  # nor was it in this frame, so that all windows are the same
        state.active = False
        window[0], window[1] = lines[0].window[0], lines[0].window[1]


@compiled_exactly
def _is_hum(design: Any, i: int, window: Signal) -> bool:
    """Whether most of what is rapid in a frame is hum of a line."""
    cosine, sine, rapid = _measure(design.measures[i], window)
    return bool(design.powers[i] * (cosine * cosine + sine * sine) > ONSET * rapid)


@compiled_exactly
def _subtract(line: Any, turn: float, signal: Signal, taken: int) -> None:
    """Take a line out of samples of this frame, if it was found."""
    window = line.window[2 + taken :]
    if not line.followed:
        copy(signal, window)
        return
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
def _learn(line: Any, design: Any, i: int) -> None:
    """Correct the prediction by what a frame shows that it missed, and predict the next one."""
    frame, turn, window = design.frame, design.turns[i], line.window
    cosine, sine, rapid = _measure(design.measures[i], window)
    if not line.followed:
        if not _is_hum(design, i, window):
            return
        line.followed, line.found, line.frames, line.doubts, line.drift = True, False, 0, 0, 0.0
        line.hum = complex(cosine, sine)
        for k in range(2):
            window[frame + k] -= (line.hum * _turned(turn * ((frame - 3) / 2 + k))).real
    elif not np.isnan(rapid):
        _correct(line, frame, complex(cosine, sine), rapid, design.powers[i])
    line.hum *= _turned((turn + line.drift) * frame)
    line.next = line.hum * _turned(-(turn + line.drift) * (frame - 1) / 2)


@compiled_exactly
def _correct(line: Any, frame: int, missed: complex, rapid: float, power: float) -> None:
    missed_by = abs(missed)
    line.missed[line.frames % REMEMBERED], line.rapid[line.frames % REMEMBERED] = missed_by, rapid
    line.frames += 1
    known = min(line.frames, REMEMBERED)
    usual = median(line.missed[:known])
    if missed_by > SURPRISE * usual:
        missed *= SURPRISE * usual / missed_by
    line.hum += ALPHA * missed
    size = abs(line.hum)
    if size > 0:
        turned = (missed * line.hum.conjugate()).imag / size**2
        most = DRIFT_HZ * FRAME_S * 2 * math.pi / frame
        line.drift = min(max(line.drift + BETA * min(max(turned, -0.5), 0.5) / frame, -most), most)
    line.found = size > STEADY * usual and power * size**2 > SHARE * median(line.rapid[:known])
    line.doubts = 0 if line.found else line.doubts + 1
    line.followed = line.doubts < DOUBTS
