"""Tells whether a beat's signal is fit to be judged, and whether the electrode is still on the body.

A beat of unfit signal is withheld from the model, with its reason: noise looks like disease. Every index is relative
to the beat itself or to the beats before it, because gain and resolution differ between devices.

Knows nothing of rhythm, on purpose: irregular RR intervals tell noise from a healthy heart (AUC 0.94 on CinC 2017), but
hardly from atrial fibrillation (0.74).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from monitor.beat import Signal
from monitor.wire import NO_SAMPLE

FLAT_STEPS = 2.0
"""A beat that spans less than this many steps of the converter is flat."""
NOISE_RATIO = 0.05
"""A beat most of whose steps from sample to sample are larger than this part of peak-to-peak is noise, whatever came
before: outside the QRS complex a clean signal hardly moves. 0.03 % of the beats of CinC 2017 recordings labelled normal
are, 18 % of those labelled too noisy."""
LEAD_OFF_S = 2.0
"""No heart lets a signal stand still for this long at a wearable's resolution."""

CLIPPED_S = 0.02
"""A signal that keeps the highest or lowest value of all so far for this long, and for three samples or more, ..."""
CLIPPED_JUMP, CLIPPED_STEPS = 0.02, 4
"""... and came there in a jump of so much of the range, and of so many steps, has met the end of the converter's range:
the peaks of a heart are round. At 125 Hz, after the resampler's low-pass filter, they are round again. Of MIT-BIH DS1,
PTB and CinC 2017, only record 116 has such peaks."""
CLIPPED_AFTER_S = 2.0
"""Until then the range is not known: one PTB-XL record in ten seemed clipped within its first half second."""
CLIPPED_APART_S = 0.2
"""Of clipped places nearer than this, only the first is remembered."""
CLIPPED_KEPT = 128

REASONS = (None, "missing samples", "flat", "noise")

REMEMBERED = 8
"""Beats that a beat is compared with, and whose scores are averaged."""
SHAPE = 48
"""Samples of a remembered shape, at 62.5 Hz: up to 0.77 s from the R peak on."""
SHAPE_PART = 0.75
"""How much of its window a beat is compared by: the rest holds the next QRS complex, whenever that comes."""
SHORTEST = 24
"""A window of fewer samples (heart rate over 350) has no shape to compare."""
FIRST_LIKENESS, FIRST_CHANGE = 0.8, 0.1
"""Stand in while there is no beat to compare with."""
WEIGHTS = (3.0, 1.55, 1.15, -4.4)
"""Of wander, log activity, log change of height, and likeness, in the score: see `BeatQuality`."""
BIAS = 8.1
SCORES = (-1.0, 4.0)
"""A beat's score counts within these bounds, so that none of them outweighs the others for long."""
NOISE_SCORE = 1.35
"""Mean score from which the signal is noise: the lowest, in twentieths, at which at most 2 % of all CinC 2017
recordings labelled normal, and 5 % of those with atrial fibrillation, are withheld for most of their length. The fitted
half and the other one: 79.7 and 80.3 % of those labelled too noisy, 1.3 and 2.5 % of the normal ones.

The labels allow little more: by eye, half of the noisy recordings that pass are clean for most of their length, and
most of the normal ones that do not pass are noisy. Some sixty other fits (up to 29 indices; spreads and maxima over 8
to 32 beats; trees; networks; aimed at this very measure) came to 59 to 87 % of recordings kept apart, at 2.5 % of the
normal ones, three quarters of them to no more than this one. The one of those ahead that was put to a noise stress test
let more false beats pass."""

STATE = np.dtype(
    [
        ("count", np.int64),  # beats compared so far
        ("shape", np.float32, (REMEMBERED, SHAPE)),  # ring of the latest beats, without their means
        ("length", np.int64, REMEMBERED),
        ("height", np.float64, REMEMBERED),  # log peak-to-peak
        ("score", np.float64, REMEMBERED),
    ],
    align=True,
)
"""Everything the gate remembers of a stream: 1.7 kB; all of it zero at the start."""

CLIPPED = np.dtype(
    [
        ("n", np.int64),  # samples taken
        ("begun", np.uint8),  # whether any of them was valid
        ("lowest", np.int64),
        ("highest", np.int64),
        ("last", np.int64),
        ("jump", np.int64),  # how far the last sample that moved did
        ("still", np.int64),  # samples in a row with the value of the last
        ("count", np.int64),
        ("place", np.int64, CLIPPED_KEPT),  # ring of the latest clipped places
    ],
    align=True,
)
"""What `Contact` remembers of clipping: 1.1 kB."""

_compiled = njit(cache=True)


class BeatQuality:
    """Watches one stream, beat by beat, for signal that is not an ECG or drowns it.

    Four indices of a beat, none of which depends on gain or polarity:

    wander
        Distance between the medians of the first and the second half, at 62.5 Hz, over peak-to-peak. Stands for the
        relative power of the baseline (basSQI): Li, Rajagopalan, Clifford, "A machine learning approach to multi-level
        ECG signal quality classification", Comput. Methods Programs Biomed. 117 (2014).
    activity
        Median range of 64 ms over the largest one: how much happens outside the QRS complex. Stands for the share of
        the QRS complex in all the power (pSQI, kSQI): Li, Mark, Clifford, "Robust heart rate estimation from multiple
        asynchronous noisy sources", Physiol. Meas. 29 (2008).
    change
        Distance of log peak-to-peak from the median of the last eight beats: Hayn, Jammerbund, Schreier, "QRS detection
        based ECG quality assessment", Physiol. Meas. 33 (2012).
    likeness
        Correlation with the last eight beats, mean of the more alike half: Orphanidou et al., "Signal-quality indices
        for the electrocardiogram and photoplethysmogram", IEEE J. Biomed. Health Inform. 19 (2015). Their template is
        the mean of all beats; half of them here, so that a run of ectopic beats is like its own kind.

    They are fused by one logistic regression (method of Clifford et al., Physiol. Meas. 33 (2012)), whose score is
    averaged over the last eight beats. It was fitted on every second recording: CinC 2017 labelled too noisy against
    all else (CinC N, A, O; MIT-BIH DS1; PTB; PTB-XL), each recording weighing the same, the two classes alike.
    """

    def __init__(self) -> None:
        self.state = np.zeros(1, STATE)

    def why_unfit(self, signal: Signal) -> str | None:
        """Why a beat must be withheld, or None if it may be judged. Every finished beat must pass here, in order.

        Parameters
        ----------
        signal
            (n,) float32 at 125 Hz from the R peak on, the beat's window before scaling, in steps of the device's
            converter; NaN where samples are missing.
        """
        reason = why_unfit(signal)
        if reason not in (None, "noise") or signal.size < SHORTEST:
            return reason
        return "noise" if _push(self.state, signal) > NOISE_SCORE else reason


def why_unfit(signal: Signal) -> str | None:
    """Why a beat must be withheld on its own account, or None.

    Parameters
    ----------
    signal
        As for `BeatQuality.why_unfit`.
    """
    return REASONS[_own_fault(signal)]


@_compiled
def _own_fault(signal: Signal) -> int:
    """Which of `REASONS` a beat shows by itself."""
    lowest = highest = signal[0]
    for value in signal:
        if np.isnan(value):
            return 1
        lowest, highest = min(lowest, value), max(highest, value)
    if highest - lowest < FLAT_STEPS:
        return 2
    large, limit = 0, NOISE_RATIO * (highest - lowest)
    for i in range(1, signal.size):
        large += abs(signal[i] - signal[i - 1]) > limit
    return 3 if 2 * large > signal.size - 1 else 0


@_compiled
def _push(states: Any, signal: Signal) -> float:
    """Take the next beat; return the mean score of the last ones."""
    state = states[0]
    # Each mention of a record's array makes a new view of it: too dear for every sample.
    shapes, lengths, heights, scores = state.shape, state.length, state.height, state.score
    halved = _halve(signal)
    n = halved.size
    shape = _free_of_mean(halved[: min(SHAPE, int(SHAPE_PART * n))])
    span, activity = _span_and_activity(signal)
    wander = abs(_median(halved[: n // 2]) - _median(halved[n // 2 :])) / span
    known = min(state.count, REMEMBERED)
    likeness, change, height = FIRST_LIKENESS, FIRST_CHANGE, math.log(span)
    if known > 0:
        likeness = _likeness(shapes, lengths, known, shape)
        latest = np.empty(REMEMBERED)
        for k in range(known):
            latest[k] = heights[k]
        change = abs(height - _median(latest[:known]))
    score = BIAS + WEIGHTS[0] * min(wander, 0.5) + WEIGHTS[3] * likeness
    score += WEIGHTS[1] * math.log(max(activity, 0.01))
    score += WEIGHTS[2] * math.log(min(max(change, 0.01), 1.5))
    at = state.count % REMEMBERED
    for i in range(shape.size):
        shapes[at, i] = shape[i]
    lengths[at], heights[at], scores[at] = shape.size, height, min(max(score, SCORES[0]), SCORES[1])
    state.count += 1
    known, total = min(state.count, REMEMBERED), 0.0
    for k in range(known):
        total += scores[k]
    return total / known


@_compiled
def _halve(signal: Signal) -> Signal:
    """At 62.5 Hz: means of two."""
    halved = np.empty(signal.size // 2, np.float32)
    for i in range(halved.size):
        halved[i] = (signal[2 * i] + signal[2 * i + 1]) / 2
    return halved


@_compiled
def _free_of_mean(part: Signal) -> Signal:
    """A copy, without its mean."""
    total = 0.0
    for value in part:
        total += value
    mean = np.float32(total / part.size)
    shape = np.empty(part.size, np.float32)
    for i in range(part.size):
        shape[i] = part[i] - mean
    return shape


@_compiled
def _span_and_activity(signal: Signal) -> tuple[float, float]:
    """Peak-to-peak, and the median range of 64 ms over the largest."""
    ranges = np.empty(signal.size // 8, np.float32)
    lowest = highest = signal[0]
    widest = np.float32(0)
    for k in range(ranges.size):
        low = high = signal[8 * k]
        for value in signal[8 * k + 1 : 8 * k + 9]:
            low, high = min(low, value), max(high, value)
        ranges[k] = high - low
        lowest, highest, widest = min(lowest, low), max(highest, high), max(widest, high - low)
    for value in signal[8 * ranges.size :]:
        lowest, highest = min(lowest, value), max(highest, value)
    return float(highest - lowest), _median(ranges) / float(widest) if widest > 0 else 1.0


@_compiled
def _sort(values: Any) -> None:
    """In place, by insertion: the fastest way for up to a few dozen."""
    for i in range(1, values.size):
        value, k = values[i], i
        while k > 0 and values[k - 1] > value:
            values[k] = values[k - 1]
            k -= 1
        values[k] = value


@_compiled
def _median(values: Any) -> float:
    """Of a few values; sorts them."""
    _sort(values)
    return float(values[values.size // 2] + values[(values.size - 1) // 2]) / 2


@_compiled
def _likeness(shapes: Any, lengths: Any, known: int, shape: Signal) -> float:
    """Mean correlation with the more alike half of the remembered beats, the best of one sample sooner or later."""
    alike = np.empty(known)
    for k in range(known):
        other = shapes[k]
        n = min(shape.size, lengths[k])
        shifted = max(_correlation(shape[1:], other, n - 1), _correlation(shape, other[1:], n - 1))
        alike[k] = max(_correlation(shape, other, n), shifted)
    _sort(alike)
    half = (known + 1) // 2
    total = 0.0
    for k in range(known - half, known):
        total += alike[k]
    return total / half


# Sums may be reordered to use vector instructions; the shapes have next to no mean, so that nothing cancels.
@njit(cache=True, fastmath={"reassoc", "contract"})
def _correlation(a: Signal, b: Signal, n: int) -> float:
    """Pearson's, of the first n samples; 0 where one of them is flat."""
    sum_a = sum_b = ab = aa = bb = np.float32(0)
    for i in range(n):
        u, v = a[i], b[i]
        sum_a, sum_b, ab, aa, bb = sum_a + u, sum_b + v, ab + u * v, aa + u * u, bb + v * v
    square = (aa - sum_a * sum_a / n) * (bb - sum_b * sum_b / n)
    return float(ab - sum_a * sum_b / n) / math.sqrt(float(square)) if square > 1e-6 * aa * bb else 0.0


class Contact:
    """Watches one stream, at the device's rate, for an electrode that has come off.

    Off is a signal without a valid sample, or without a change, for two seconds. Also remembers where it was clipped.
    """

    def __init__(self, rate_hz: float) -> None:
        self._patience = round(LEAD_OFF_S * rate_hz)
        self._still = 0  # samples since the last that was valid and different
        self._last: int = NO_SAMPLE
        self._patience_clipped = max(3, round(CLIPPED_S * rate_hz))
        self._apart_clipped = round(CLIPPED_APART_S * rate_hz)
        self._after_clipped = round(CLIPPED_AFTER_S * rate_hz)
        self._clipped = np.zeros(1, CLIPPED)

    def push(self, samples: npt.NDArray[np.int16]) -> list[int]:
        """Take the next samples; return the places in them at which the electrode came to count as off.

        Parameters
        ----------
        samples
            (n,) int16 steps, `NO_SAMPLE` where invalid, n >= 1.
        """
        _find_clipped(self._clipped, samples, self._patience_clipped, self._apart_clipped, self._after_clipped)
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
        return off[(off >= 0) & (off < ends)].tolist()

    @property
    def is_off(self) -> bool:
        """Whether the electrode counts as off now."""
        return self._still > self._patience

    def is_clipped(self, start: int, end: int) -> bool:
        """Whether the signal was clipped between two places, counted in samples since the stream began.

        The last 25 s are known for sure: ask about a beat before the signal has gone on for longer.
        """
        places = self._clipped["place"][0, : self._clipped["count"][0]]
        return bool(((places >= start) & (places < end)).any())


def to_signal(samples: npt.NDArray[np.int16]) -> Signal:
    """(n,) int16 steps as (n,) float32, NaN where there was no valid sample."""
    signal = samples.astype(np.float32)
    signal[samples == NO_SAMPLE] = np.nan
    return signal


@_compiled
def _find_clipped(states: Any, samples: npt.NDArray[np.int16], patience: int, apart: int, after: int) -> None:
    state = states[0]
    for sample in samples:
        value = int(sample)
        if value == NO_SAMPLE:
            state.still = state.jump = 0
        elif state.still > 0 and value == state.last:
            state.still += 1
        else:
            state.jump = abs(value - state.last) if state.still > 0 else 0
            state.last, state.still = value, 1
            state.lowest = min(state.lowest, value) if state.begun else value
            state.highest = max(state.highest, value) if state.begun else value
            state.begun = True
        at_the_end = state.n >= after and (state.last == state.lowest or state.last == state.highest)
        jumped = state.jump >= max(CLIPPED_STEPS, CLIPPED_JUMP * (state.highest - state.lowest))
        latest = state.place[(state.count - 1) % CLIPPED_KEPT]
        if state.still == patience and at_the_end and jumped and (state.count == 0 or state.n - latest >= apart):
            state.place[state.count % CLIPPED_KEPT] = state.n
            state.count += 1
        state.n += 1
