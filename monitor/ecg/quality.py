"""Tells whether a beat's signal is fit to be judged, and whether the electrode is still on the body.

A beat of unfit signal is withheld from the model, with its reason: noise looks like disease. Every index is relative
to the beat itself or to the beats before it, because gain and resolution differ between devices.

Four indices of a beat, none of which depends on gain or polarity:

wander
    Distance between the medians of the first and the second half, at 31.25 Hz, over peak-to-peak. Stands for the
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

Where the segmenter has learned its thresholds again, scores from before do not count, though shapes do: after a heart
has stopped, the good scores of its last beats would let the first "beats" in the noise pass, and so end the alert.

Noise that is hum of the mains, more than `monitor.ecg.mains` could take out, has a reason of its own.

An electrode is off where the signal has no valid sample, or does not change, for two seconds; that is watched at the
device's rate, and so is where the signal was clipped.

Knows nothing of rhythm, on purpose: irregular RR intervals tell noise from a healthy heart (AUC 0.94 on CinC 2017), but
hardly from atrial fibrillation (0.74).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from monitor.beat import RATE_HZ, Signal
from monitor.ecg import held, mains, silence
from monitor.ecg.kernels import compiled, median, sort
from monitor.wire import NO_SAMPLE

FLAT_STEPS = 2.0
"""A beat that spans less than this many steps of the converter is flat."""
NOISE_RATIO = 0.05
"""A beat most of whose steps from sample to sample are larger than this, over peak-to-peak, is noise, whatever came
before: outside the QRS complex a clean signal hardly moves. Such are 0.03 % of the beats of CinC 2017 recordings
labelled normal, 18 % of those labelled too noisy."""
TREMOR_ALIKE, TREMOR_PART = 0.9, 16
"""Unless its QRS complex stands out of tremor: its first 0.26 s, of so many samples at 62.5 Hz, correlate so well with
those of the beats before it, as the peaks of noise do not, ..."""
TREMOR_STEP = 0.1
"""... and most steps between means of 32 ms are no larger than this, over peak-to-peak: those of a broad, fast complex
and of a coarse motion are."""
ROUGH = 0.7
"""Or unless it is smooth: a broad, fast ventricular complex moves all the time as well. Rough is a signal whose second
differences sum up to more than this share of the first ones, as those of a wave of more than 14 Hz do. Of beats most of
whose steps are large, nine in ten have .40 to 1.02 in vfdb's ventricular tachycardia, .82 to 1.21 in CinC 2017
recordings labelled too noisy, .75 to 1.32 in graded motion artefacts."""
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
STILLS = 32
"""Places where the signal stood still that are remembered, a second each at least: all that a beat may wait for to be
finished, the signal before it, and a part of a packet."""
PART = 64
"""Samples that are passed over at once where the signal moves."""
WRAPPED = 2**15 - 1
"""A larger step from one sample to the next is a value of more than 16 bits that was cut to its last 16."""

HUM_SHARE = 0.5
"""Noise so much of whose second differences is one frequency, near 50 or 60 Hz, is hum of the mains."""
HUM_PART = 25
"""It is looked for in parts of 0.2 s, in which its phase need not be the same."""

REASONS = (
    None,
    "missing samples",
    "flat",
    "noise",
    "clipped",
    "window incomplete",
    "rhythm unknown",
    "no answer of the model",
    "mains",
)
"""Why a beat must be withheld; 0 stands for a beat that may be judged."""
MISSING, FLAT, NOISE, CLIPPED, INCOMPLETE, NO_RHYTHM, NO_ANSWER, MAINS = range(1, 9)
CLIPPED_BEFORE_S = 0.04
"""A beat is clipped if the signal was, from so long before its R peak on: where a peak is cut off flat, any of its
samples may be the highest."""

ALIKE, ALIKE_PART, ALIKE_OF, ALIKE_HEIGHT = 0.92, 20, 3, 0.4
"""A beat is steady if it is smooth, and most of so many beats before it are, in the 0.32 s from the R peak, so like it
and, by log peak-to-peak, so nearly as high. It passes whatever the mean score: a tachycardia of broad complexes is
like itself from beat to beat, noise and motion are not."""

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
"""Of wander, log activity, log change of height, and likeness, in the score."""
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
        ("scored", np.int64),  # of them, those whose scores count
        ("shape", np.float32, (REMEMBERED, SHAPE)),  # ring of the latest beats, without their means
        ("length", np.int64, REMEMBERED),
        ("height", np.float64, REMEMBERED),  # log peak-to-peak
        ("score", np.float64, REMEMBERED),
    ],
    align=True,
)
"""Everything the gate remembers of a stream: 1.7 kB; all of it zero at the start."""

CONTACT = np.dtype(
    [
        ("rate_hz", np.float64),
        ("n", np.int64),  # samples taken
        ("previous", np.int64),  # the last sample
        ("unmoved", np.int64),  # samples since the last that was valid and different from the one before
        ("begun", np.uint8),  # whether any sample was valid
        ("lowest", np.int64),
        ("highest", np.int64),
        ("last", np.int64),  # the last valid sample
        ("jump", np.int64),  # how far the last sample that moved did
        ("still", np.int64),  # samples in a row with the value of the last
        ("count", np.int64),
        ("clipped", np.int64, CLIPPED_KEPT),  # ring of the latest clipped places
        ("stills", np.int64),
        ("still_begin", np.int64, STILLS),  # ring of where the signal stood still for long
        ("still_end", np.int64, STILLS),
        ("held", held.STATE),  # where values were held for less long
    ],
    align=True,
)
"""What is remembered of a stream's electrode, and of where it was clipped: 1.7 kB."""


_fold = compiled(mains.fold)


@compiled
def judge(
    gates: Any, contacts: Any, rows: Any, beats: Any, signals: Signal, start_s: Any
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Which of `REASONS` keeps each beat from being judged, and whether others may be hidden before it if it came late.

    Parameters
    ----------
    gates, contacts
        (streams,) of `STATE` and `CONTACT`; the gates are changed in place.
    rows
        (k,) the streams that were pushed.
    beats, signals
        Finished beats of theirs, of `monitor.ecg.segment`, in order per stream.
    start_s
        (n,) R peak of each beat, seconds since its stream began.
    """
    reasons, doubtful = np.zeros(beats.size, np.uint8), np.zeros(beats.size, np.uint8)
    for i in range(beats.size):
        one, row = beats[i], rows[beats[i].stream]
        doubtful[i] = _hides_beats(gates[row], contacts[row], one, start_s[i])
        if one.relearned:
            gates[row].scored = 0
        if not one.complete:
            reasons[i] = INCOMPLETE
        elif np.isnan(one.median_rr):
            reasons[i] = NO_RHYTHM
        else:
            reasons[i] = _judge(gates[row], signals[i, : one.length], contacts[row].rate_hz)
            if reasons[i] == NOISE and _is_hum(signals[i, : one.length], contacts[row].rate_hz):
                reasons[i] = MAINS
            if reasons[i] == 0 and _is_clipped(contacts[row], start_s[i], one.length / RATE_HZ):
                reasons[i] = CLIPPED
    return reasons, doubtful


@compiled
def _hides_beats(gate: Any, contact: Any, beat: Any, start_s: float) -> int:
    """Whether others may be hidden before a beat that came late: 0, 1, or `NO_SIGNAL`."""
    if 0 < beat.rr <= silence.LATE:
        return 0
    qrs_s = start_s + (beat.fiducial - beat.r_peak) / RATE_HZ
    over_s = min(beat.rr or silence.OVER, silence.OVER) / RATE_HZ
    if _stood_still(contact, qrs_s, over_s) or _was_held(contact, qrs_s - silence.BEFORE / RATE_HZ, over_s):
        return silence.NO_SIGNAL
    return int(beat.moved == np.inf) if beat.rr > 0 else int(_doubts(gate, beat.moved))


def stood_still(contact: np.void, until_s: float) -> bool:
    """Whether a signal did not change for long, or for much of what is looked at; see `monitor.ecg.silence`.

    Parameters
    ----------
    contact
        Of `CONTACT`.
    until_s
        Since the stream began, not long ago: what comes after makes no difference.
    """
    over_s = silence.OVER / RATE_HZ
    return bool(_stood_still(contact, until_s, over_s) or _was_held(contact, until_s, over_s))


@compiled
def _was_held(contact: Any, until_s: float, over_s: float) -> bool:
    """Whether values were held for more of so many seconds before a time than may be missing."""
    held_s = held.seconds(contact.held, until_s - over_s, until_s)
    return bool(held_s > max(silence.UNSEEN * over_s, silence.FEW / RATE_HZ))


@compiled
def _stood_still(contact: Any, until_s: float, over_s: float) -> bool:
    """Whether it did in so many seconds before a time since the stream began; what comes after makes no difference."""
    rate_hz = contact.rate_hz
    begin = math.floor((until_s - over_s) * rate_hz + 0.5)
    end, shortest = math.floor(until_s * rate_hz + 0.5), np.rint(silence.STILL_S * rate_hz)
    found = 0
    for k in range(min(contact.stills, STILLS)):
        found += min(end, contact.still_end[k]) - max(begin, contact.still_begin[k]) >= shortest
    return found > 0


def doubts(gate: np.void, moved: float) -> bool:
    """Whether beats may be hidden in a signal in which none was found; see `monitor.ecg.silence`."""
    return bool(_doubts(gate, moved))


@compiled
def _doubts(gate: Any, moved: float) -> bool:
    known = min(gate.count, REMEMBERED)
    return bool(silence.is_doubtful(known, gate.shape, gate.length, gate.height, moved))


@compiled
def _judge(state: Any, signal: Signal, rate_hz: float) -> int:
    fault = _own_fault(signal)
    if fault in (MISSING, FLAT) or signal.size < SHORTEST:
        return fault
    if fault == NOISE and not _is_hum(signal, rate_hz) and _stands_out(state, signal):
        fault = 0
    if _push(state, signal) > NOISE_SCORE and not _is_steady(state, signal):
        return NOISE
    return fault


@compiled
def _stands_out(state: Any, signal: Signal) -> bool:
    """Whether the next beat's QRS complex is like those before it, and the rest calm but for what is rapid."""
    known, halved = min(state.count, REMEMBERED), _halve(signal)
    if known == 0:
        return False
    coarse = _halve(halved)
    limit, large = TREMOR_STEP * (signal.max() - signal.min()), 0
    for i in range(coarse.size - 1):
        large += abs(coarse[i + 1] - coarse[i]) > limit
    if 2 * large > coarse.size - 1:
        return False
    return _likeness(state.shape, state.length, known, _free_of_mean(halved[:TREMOR_PART])) >= TREMOR_ALIKE


@compiled
def _is_hum(signal: Signal, rate_hz: float) -> bool:
    """Whether most of what is rapid in a beat is hum of the mains, as seen at the device's rate."""
    bends = signal[2:] - 2 * signal[1:-1] + signal[:-2]
    for line_hz in mains.LINES_HZ:
        turn = 2 * math.pi * _fold(line_hz, rate_hz) / RATE_HZ
        total = hum = 0.0
        for begin in range(0, bends.size - HUM_PART + 1, HUM_PART):
            cosine = sine = 0.0
            for i in range(HUM_PART):
                bend = bends[begin + i]
                total += bend * bend
                cosine += bend * math.cos(turn * i)
                sine += bend * math.sin(turn * i)
            hum += 2 * (cosine * cosine + sine * sine) / HUM_PART
        if hum > HUM_SHARE * total:
            return True
    return False


@compiled
def _is_clipped(contact: Any, start_s: float, seconds: float) -> bool:
    begin = math.floor((start_s - CLIPPED_BEFORE_S) * contact.rate_hz + 0.5)
    end = math.floor((start_s + seconds) * contact.rate_hz + 0.5)
    inside, places = 0, contact.clipped
    for i in range(min(contact.count, CLIPPED_KEPT)):
        inside += begin <= places[i] < end
    return inside > 0


@compiled
def _own_fault(signal: Signal) -> int:
    """Which of `REASONS` a beat shows by itself."""
    lowest = highest = signal[0]
    missing = 0
    for value in signal:
        missing += np.isnan(value)
        lowest, highest = min(lowest, value), max(highest, value)
    if missing > 0:
        return MISSING
    if highest - lowest < FLAT_STEPS:
        return FLAT
    large, before = 0, signal[:-1]
    for i in range(before.size):
        large += abs(signal[i + 1] - before[i]) > NOISE_RATIO * (highest - lowest)
    return NOISE if 2 * large > before.size and _is_rough(signal) else 0


@compiled
def _is_rough(signal: Signal) -> bool:
    steps = bends = 0.0
    for i in range(1, signal.size - 1):
        steps += abs(signal[i] - signal[i - 1])
        bends += abs(signal[i + 1] - 2 * signal[i] + signal[i - 1])
    return bends > ROUGH * steps


@compiled
def _is_steady(state: Any, signal: Signal) -> bool:
    """Whether the latest beat is smooth and like most of those just before it."""
    if state.count <= ALIKE_OF or _is_rough(signal):
        return False
    shapes, lengths, heights = state.shape, state.length, state.height
    at, found = (state.count - 1) % REMEMBERED, 0
    shape = shapes[at, : min(ALIKE_PART, lengths[at])]
    for back in range(1, ALIKE_OF + 1):
        k = (at - back) % REMEMBERED
        is_alike = _alikeness(shape, shapes[k], lengths[k]) >= ALIKE
        found += is_alike and abs(heights[k] - heights[at]) <= ALIKE_HEIGHT
    return 2 * found > ALIKE_OF


@compiled
def _push(state: Any, signal: Signal) -> float:
    """Take the next beat; return the mean score of the last ones."""
    # Each mention of a record's array makes a new view of it: too dear for every sample.
    shapes, lengths, heights, scores = state.shape, state.length, state.height, state.score
    halved = _halve(signal)
    n = halved.size
    shape = _free_of_mean(halved[: min(SHAPE, int(SHAPE_PART * n))])
    span, activity = _span_and_activity(signal)
    wander = abs(median(halved[: n // 2 : 2]) - median(halved[n // 2 :: 2])) / span
    known = min(state.count, REMEMBERED)
    likeness, change, height = FIRST_LIKENESS, FIRST_CHANGE, math.log(span)
    if known > 0:
        likeness = _likeness(shapes, lengths, known, shape)
        latest = np.empty(REMEMBERED)
        for k in range(known):
            latest[k] = heights[k]
        change = abs(height - median(latest[:known]))
    score = BIAS + WEIGHTS[0] * min(wander, 0.5) + WEIGHTS[3] * likeness
    score += WEIGHTS[1] * math.log(max(activity, 0.01))
    score += WEIGHTS[2] * math.log(min(max(change, 0.01), 1.5))
    at = state.count % REMEMBERED
    for i in range(shape.size):
        shapes[at, i] = shape[i]
    lengths[at], heights[at], scores[at] = shape.size, height, min(max(score, SCORES[0]), SCORES[1])
    state.count += 1
    state.scored += 1
    latest_scores, total = min(state.scored, REMEMBERED), 0.0
    for k in range(latest_scores):
        total += scores[(at - k) % REMEMBERED]
    return total / latest_scores


@compiled
def _halve(signal: Signal) -> Signal:
    """At 62.5 Hz: means of two."""
    halved = np.empty(signal.size // 2, np.float32)
    for i in range(halved.size):
        halved[i] = (signal[2 * i] + signal[2 * i + 1]) / 2
    return halved


@compiled
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


@compiled
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
    return float(highest - lowest), median(ranges) / float(widest) if widest > 0 else 1.0


@compiled
def _likeness(shapes: Any, lengths: Any, known: int, shape: Signal) -> float:
    """Mean correlation with the more alike half of the remembered beats, the best of one sample sooner or later."""
    alike = np.empty(known)
    for k in range(known):
        alike[k] = _alikeness(shape, shapes[k], lengths[k])
    sort(alike)
    half = (known + 1) // 2
    total = 0.0
    for k in range(known - half, known):
        total += alike[k]
    return total / half


@compiled
def _alikeness(a: Signal, b: Signal, length: int) -> float:
    """Correlation of two shapes, as far as both go: as they are, or one sample sooner or later, whatever is best.

    The samples have next to no mean: nothing cancels.
    """
    n = min(a.size, length)
    sum_a = sum_b = aa = bb = ab = later = sooner = np.float32(0)
    next_a, next_b = a[1:], b[1:]
    for i in range(n - 1):
        u, v = a[i], b[i]
        sum_a, sum_b, aa, bb = sum_a + u, sum_b + v, aa + u * u, bb + v * v
        ab, later, sooner = ab + u * v, later + next_a[i] * v, sooner + u * next_b[i]
    first_a, last_a, first_b, last_b = a[0], a[n - 1], b[0], b[n - 1]
    best = _pearson(sum_a + last_a, sum_b + last_b, ab + last_a * last_b, aa + last_a**2, bb + last_b**2, n)
    step_a, step_aa = sum_a + last_a - first_a, aa + last_a**2 - first_a**2
    step_b, step_bb = sum_b + last_b - first_b, bb + last_b**2 - first_b**2
    best = max(best, _pearson(step_a, sum_b, later, step_aa, bb, n - 1))
    return max(best, _pearson(sum_a, step_b, sooner, aa, step_bb, n - 1))


@compiled
def _pearson(sum_a: Any, sum_b: Any, ab: Any, aa: Any, bb: Any, n: int) -> float:
    """From the sums over n samples; 0 where one of the two is flat."""
    square = (aa - sum_a * sum_a / n) * (bb - sum_b * sum_b / n)
    return float(ab - sum_a * sum_b / n) / math.sqrt(float(square)) if square > 1e-6 * aa * bb else 0.0


def begin_contact(state: np.void, rate_hz: float) -> None:
    """Make a state, all zeros, that of a new stream."""
    state["rate_hz"], state["previous"] = rate_hz, NO_SAMPLE


def is_off(states: npt.NDArray[np.void], rows: npt.NDArray[np.int64] | slice) -> npt.NDArray[np.bool_]:
    """Whether the electrodes of some streams count as off now."""
    off: npt.NDArray[np.bool_] = states["unmoved"][rows] > np.rint(LEAD_OFF_S * states["rate_hz"][rows])
    return off


def was_off(contact: np.void, samples: int) -> bool:
    """Whether the electrode of a stream counted as off after so many samples, not long ago."""
    begins, ends, known = contact["still_begin"], contact["still_end"], slice(min(contact["stills"], STILLS))
    off = (ends[known] >= samples) & (samples - begins[known] > np.rint(LEAD_OFF_S * contact["rate_hz"]))
    return bool(off.any())


@compiled
def watch(
    states: Any, rows: npt.NDArray[np.int64], samples: npt.NDArray[np.int16], ends: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Take the next samples of many streams, and watch their electrodes.

    Parameters
    ----------
    states
        (streams,) of `CONTACT`; changed in place.
    rows
        (k,) which of them, each at most once.
    samples, ends
        Their samples, one after the other, and where those of each end.

    Returns
    -------
    streams, places
        Position in `rows` of each electrode that came to count as off, and in that stream's samples where it did.
    """
    streams, places = [np.int64(0)][:0], [np.int64(0)][:0]
    start = np.int64(0)
    for i in range(rows.size):
        _watch(states[rows[i]], samples[start : ends[i]], i, streams, places)
        start = ends[i]
    return np.array(streams), np.array(places)


@compiled
def _watch(state: Any, samples: npt.NDArray[np.int16], stream: int, streams: Any, places: Any) -> None:
    for begin in range(0, samples.size, PART):
        end = min(begin + PART, samples.size)
        if not _pass_over(state, samples[begin:end]):
            _watch_closely(state, samples, begin, end, stream, streams, places)


@compiled
def _patience(rate_hz: float) -> tuple[int, int, int, int]:
    """After how many equal samples a signal may be clipped or held, is not that of a body, and an electrode is off."""
    clipped_after, held_after = max(3, int(np.rint(CLIPPED_S * rate_hz))), max(3, int(np.rint(held.LEAST_S * rate_hz)))
    return clipped_after, held_after, int(np.rint(silence.STILL_S * rate_hz)), int(np.rint(LEAD_OFF_S * rate_hz))


@compiled
def _pass_over(state: Any, part: npt.NDArray[np.int16]) -> bool:
    """Take some samples if none of them can matter: all are valid, and so few are repeated that no signal stands still.

    That is a tenth of the work of looking at each of them.
    """
    if state.previous == NO_SAMPLE:
        return False
    clipped_after, _, still_after, _ = _patience(state.rate_hz)
    before, now = part[:-1], part[1:]
    first = np.int32(part[0])
    low, high, large = first, first, np.int32(abs(first - state.previous) > WRAPPED)
    repeats = np.int32(first == state.previous)
    for i in range(now.size):
        value, step = np.int32(now[i]), np.int32(now[i]) - np.int32(before[i])
        low, high = min(low, value), max(high, value)
        large += np.int32(abs(step) > np.int32(WRAPPED))
        repeats += np.int32(step == 0)
    moves = low > NO_SAMPLE and large == 0 and repeats < part.size
    if not moves or state.still + repeats >= clipped_after or state.unmoved + repeats >= still_after:
        return False
    at = part.size - 1
    while at > 0 and part[at] == part[at - 1]:
        at -= 1
    state.jump = abs(np.int64(part[at]) - (np.int64(part[at - 1]) if at > 0 else state.previous))
    state.previous = state.last = part[at]
    state.unmoved = state.still = part.size - at
    state.lowest, state.highest = min(state.lowest, low), max(state.highest, high)
    state.n += part.size
    return True


@compiled
def _watch_closely(
    state: Any, samples: npt.NDArray[np.int16], begin: int, end: int, stream: int, streams: Any, places: Any
) -> None:
    """Watch some of the samples one by one."""
    rate_hz = state.rate_hz
    clipped_after, held_after, still_after, patience = _patience(rate_hz)
    previous, unmoved = state.previous, state.unmoved
    last, still = state.last, state.still
    for i in range(begin, end):
        value = np.int64(samples[i])
        if value not in (previous, NO_SAMPLE):
            unmoved = 1
        else:
            unmoved += 1
            if unmoved >= still_after:
                _stand_still(state, state.n + i - begin + 1, unmoved, unmoved == still_after)
            if unmoved == patience + 1:
                streams.append(np.int64(stream))
                places.append(np.int64(i))
        previous = value
        if still >= held_after and value != last:
            leap = 0 if value == NO_SAMPLE else abs(value - last)
            if max(state.jump, leap) >= held.JUMP:
                held.add(state.held, state.n + i - begin, still, rate_hz)
        if value == NO_SAMPLE:
            still = 0
            state.jump = 0
        elif still > 0 and value == last:
            still += 1
            if still == clipped_after:
                _see_end_of_range(state, state.n + i - begin, last)
        else:
            state.jump = abs(value - last) if still > 0 else 0
            last, still = value, 1
            if state.jump > WRAPPED:
                _remember_clipped(state, state.n + i - begin, CLIPPED_BEFORE_S)
            state.lowest = min(state.lowest, value) if state.begun else value
            state.highest = max(state.highest, value) if state.begun else value
            state.begun = True
    state.previous, state.unmoved, state.last, state.still = previous, unmoved, last, still
    state.n += end - begin


@compiled
def _stand_still(state: Any, end: int, unmoved: int, is_new: bool) -> None:
    """The signal has not changed for long: remember from where on, and until where."""
    if is_new:
        state.still_begin[state.stills % STILLS] = end - unmoved
        state.stills += 1
    state.still_end[(state.stills - 1) % STILLS] = end


@compiled
def _see_end_of_range(state: Any, n: int, value: int) -> None:
    """The signal stands still: remember the place if it is clipped there."""
    at_the_end = n >= np.rint(CLIPPED_AFTER_S * state.rate_hz) and (value == state.lowest or value == state.highest)
    jumped = state.jump >= max(CLIPPED_STEPS, CLIPPED_JUMP * (state.highest - state.lowest))
    if at_the_end and jumped:
        _remember_clipped(state, n, CLIPPED_APART_S)


@compiled
def _remember_clipped(state: Any, n: int, apart_s: float) -> None:
    apart = np.rint(apart_s * state.rate_hz)
    latest = state.clipped[(state.count - 1) % CLIPPED_KEPT]
    if state.count == 0 or n - latest >= apart:
        state.clipped[state.count % CLIPPED_KEPT] = n
        state.count += 1
