"""Tells ventricular fibrillation and flutter by the signal itself, before anything is called a beat.

In fibrillation there are no QRS complexes: whatever is found and counted as beats is not there, and the quality gate
rightly calls it noise. What is there is a wave of 3 to 9 Hz that never rests. So every 0.5 s the last 4 s are described
by five numbers, which are published for this purpose or are variants of such, and weighed by one logistic regression:

leakage
    How little the wave cancels itself half a period later (the VF filter): Kuo and Dillman, "Computer detection of
    ventricular fibrillation", Computers in Cardiology 1978, as stated by Amann, Tratnig, Unterkofler, "Reliability of
    old and new ventricular fibrillation detection algorithms for automated external defibrillators", BioMed. Eng.
    OnLine 4:60 (2005); here of the wave alone, so that baseline wander does not count.
qrs_rest, wave_rest
    Mean over largest magnitude within 1 s, of the QRS band and of the wave: small where complexes stand out between
    rests. After the threshold crossing sample count: Arafat, Chowdhury, Hasan, "A simple time domain algorithm for the
    detection of ventricular fibrillation in electrocardiogram", Signal Image Video Process. 5 (2011).
qrs_power, slow_power
    Log power of the QRS band, and of what is slower than 2 Hz, over that of the wave. Spectral features of this kind
    are compared in Figuera et al., "Machine learning techniques for the detection of shockable rhythms in automated
    external defibrillators", PLoS ONE 11 (2016).

Two things are no fibrillation, whatever these numbers say. One is a signal much fainter than this wearer's usually is:
the noise of an electrode on a heart that stands still. The other repeats itself well after 0.35 to 1 s but not sooner:
a regular rhythm of less than 180 a minute, however broad its complexes; flutter is faster than that.

The score of a window is clipped, so that none outweighs others, and averaged over 3 s. All numbers are ratios: gain,
resolution and polarity make no difference, nor does how the stream was cut. `training.vf` learns the weights
(``ecgwatch train vf``); docs/MEASURED.md says how well they do.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from monitor.beat import RATE_HZ, Signal
from monitor.ecg import held
from monitor.ecg.kernels import compiled

STEP = 64
"""Samples after which the signal is looked at anew: 0.512 s."""
STEPS = 8
"""Of a window: 4.1 s."""
HALF = STEP // 2
"""Samples of a step at 62.5 Hz."""
WINDOW = STEPS * HALF
QRS_S, QRS_TAPS = 0.016, 15
"""Width of the Mexican hat wavelet whose response is highest at 14 Hz (as in `monitor.ecg.segment`), ..."""
WAVE_S, WAVE_TAPS = 0.048, 25
"""... and of the one for the wave, at 62.5 Hz: highest at 4.7 Hz, half as high at 2 and 9 Hz."""
BEAT_S, BEAT_TAPS = 0.064, 17
"""And of the one for the beat, at 31.25 Hz: highest at 3.5 Hz."""
BEFORE = 2 * (BEAT_TAPS - 1)
"""Samples at 62.5 Hz that the wavelets need before a window."""
LEAST_LEAKAGE = 0.2
"""A smoother wave is no more of a flutter."""
QUARTERS = 16
"""Parts of a window whose means show what is slower than 2 Hz."""
FASTEST, SLOWEST_WAVE, SLOWEST = 2, 10, 31
"""Lags at 31.25 Hz at which the signal is compared with itself: 0.06, 0.32 and 0.99 s."""
REGULAR, SOONER = 0.8, 0.2
"""A slow rhythm is so much like itself a period ago, and so much more than at any shorter lag. So are 95, 82 and 100 %
of the windows of three such rhythms in cudb and svdb that else look like flutter, and 0.4 % of those in fibrillation or
flutter in vfdb and MIT-BIH."""
MOST_MISSING = 0.25
"""A window of which more is missing, or was held at one value (`monitor.ecg.held`), tells nothing."""
FAINT_AT_ONSET, FAINT = 0.45, 0.2
"""Of the wave's usual amplitude; less is none. Fibrillation begins coarse, and fades: in vfdb, cudb and MIT-BIH (11, 18
and 1 records) no window within 10 s of an onset had less than 0.5 of it, later ones have down to 0.2."""
FAINTEST = 1.0
"""Steps of the converter; a wave of less is none."""
ADAPTS, HALF_SIZE, ADAPTS_TO_FAINT = 0.01, 0.5, 0.001
"""The log of the usual amplitude follows by so much a step at most: a running median, which no burst of noise can move
far. To less than half of it it follows slower: else the noise of minutes without a heart would be what is usual."""
PEAKED, ADAPTS_TO_QRS = 0.15, 0.05
"""Where the QRS band rests so much between its peaks (`qrs_rest`), a heart beats, and to its amplitude it falls faster:
else motion while electrodes are put on, or of a runner, would be what is usual for minutes. That is so of 95 to 100 %
of the windows of normal rhythm in MIT-BIH 101, 119, 201, 203, 208 and vfdb 420, 422, of none in fibrillation (vfdb 418,
422, 424), and of less than 1 % of recorded muscle and motion noise."""

FEATURES = ("leakage", "qrs_rest", "wave_rest", "qrs_power", "slow_power")
WEIGHTS = (-11.15, 13.03, 6.856, -1.505, -0.3362)
BIAS = -1.934
MOST = 4.0
"""Scores are clipped to this, either way."""
AVERAGED = 6
"""Scores that are averaged: 3.1 s."""
BEGINS, ENDS = 2.25, 0.0
"""Mean score from which there is fibrillation, and below which there is none any more, ..."""
LASTS = 20
"""... once it was below for so many steps (10 s): flutter comes in bursts."""

SUSPECTED = 2
"""It is suspected by the mean of so many."""

STATE = np.dtype(
    [
        ("n", np.int64),  # samples taken
        ("held", np.float32),  # the last valid sample stands in for a missing one
        ("block", np.float32, QRS_TAPS - 1 + STEP),  # the samples of this step, after the last ones of the step before
        ("missing", np.int64),  # of this step
        ("halved", np.float32, BEFORE + WINDOW),  # the window at 62.5 Hz, after what the wavelets need before it
        ("steps", np.float32, (STEPS, 7)),  # ring: what is known of each step; see `_take`
        ("usual", np.float64),  # log of the usual amplitude of the wave
        ("scores", np.float64, AVERAGED),  # ring
        ("found", np.uint8),  # whether there is fibrillation
        ("calm", np.int64),  # steps without any since
    ],
    align=True,
)
"""Everything that is remembered of a stream: 1.8 kB; all of it zero at the start."""
_MISSING, _QRS_SUM, _QRS_MAX, _QRS_POWER, _WAVE_SUM, _WAVE_MAX, _WAVE_POWER = range(7)

ABSENT, PRESENT = 0, 1
"""What can be found of a stream: there is no fibrillation (any more), there is."""


class Found(NamedTuple):
    """What was found in many streams, in order per stream."""

    streams: npt.NDArray[np.int64]
    """(n,) positions in the rows that were given."""
    samples: npt.NDArray[np.int64]
    """(n,) samples of the stream after which it was found."""
    what: npt.NDArray[np.int64]
    """(n,) `ABSENT`, once it is known of a new stream and when fibrillation is over; `PRESENT` each 0.5 s of it."""


def _mexican_hat(width_s: float, taps: int, rate_hz: float) -> Signal:
    """Second derivative of a Gaussian, made free of a mean, of norm 1 in magnitudes."""
    t = (np.arange(taps) - taps // 2) / rate_hz / width_s
    bell = np.exp(-(t**2) / 2)
    hat = (1 - t**2) * bell
    hat -= bell * hat.sum() / bell.sum()
    return (hat / np.abs(hat).sum()).astype(np.float32)


class Wavelets(NamedTuple):
    """Mexican hats, by what they pick out."""

    qrs: Signal
    wave: Signal
    beat: Signal


_WAVELETS = Wavelets(
    _mexican_hat(QRS_S, QRS_TAPS, RATE_HZ),
    _mexican_hat(WAVE_S, WAVE_TAPS, RATE_HZ / 2),
    _mexican_hat(BEAT_S, BEAT_TAPS, RATE_HZ / 4),
)
_WEIGHTS = np.array([*WEIGHTS, BIAS])
_NO_CONTACT = np.dtype([("held", held.STATE)])


def reset(state: np.void) -> None:
    """Forget what was found of a stream: its electrode came off."""
    state["found"], state["calm"] = 0, 0
    state["scores"][:] = -MOST
    state["steps"][:, _MISSING] = STEP  # nor may what came before be looked at again


def find(
    states: npt.NDArray[np.void],
    rows: npt.NDArray[np.int64],
    samples: Signal,
    ends: npt.NDArray[np.int64],
    weights: npt.NDArray[np.float64] | None = None,
    contacts: npt.NDArray[np.void] | None = None,
) -> Found:
    """Look for fibrillation in the next samples of many streams.

    Parameters
    ----------
    states
        (streams,) of `STATE`; changed in place.
    rows
        (k,) which of them, each at most once.
    samples, ends
        Their samples at 125 Hz, one after the other, NaN where missing, and where those of each end.
    weights
        (6,) of `FEATURES`, and the bias; those of this module unless given.
    contacts
        (streams,) of `monitor.ecg.quality.CONTACT`, which has seen the samples at the device's rate; without it no
        value counts as held.
    """
    contacts = np.zeros(states.size, _NO_CONTACT) if contacts is None else contacts
    return Found(*_find(states, rows, samples, ends, _WAVELETS, _WEIGHTS if weights is None else weights, contacts))


def is_suspected(state: np.void) -> bool:
    """Whether the latest windows of a stream look like fibrillation, which may not be known yet."""
    known = int(state["n"]) // STEP - STEPS + 1
    latest = [float(state["scores"][(known - k) % AVERAGED]) for k in range(SUSPECTED)]
    return known >= SUSPECTED and sum(latest) > ENDS * SUSPECTED


def measure(samples: Signal) -> npt.NDArray[np.float64]:
    """Return the numbers that windows are described by, for training.

    Parameters
    ----------
    samples
        (n,) at 125 Hz, NaN where missing.

    Returns
    -------
    ndarray
        (windows, 5) `FEATURES` of the windows that end after `STEPS`, `STEPS` + 1 ... steps; NaN where a window tells
        nothing.
    """
    return _measure(np.zeros(1, STATE), samples.astype(np.float32), _WAVELETS)


@compiled
def _find(
    states: Any, rows: Any, samples: Signal, ends: Any, wavelets: Wavelets, weights: Any, contacts: Any
) -> tuple[Any, Any, Any]:
    streams, places, what = [np.int64(0)][:0], [np.int64(0)][:0], [np.int64(0)][:0]
    start = np.int64(0)
    for i in range(rows.size):
        before = len(places)
        part, contact = samples[start : ends[i]], contacts[rows[i]]
        _push(states[rows[i]], part, wavelets, weights, contact, places, what)
        for _ in range(len(places) - before):
            streams.append(np.int64(i))
        start = ends[i]
    return np.array(streams), np.array(places), np.array(what)


@compiled
def _push(state: Any, samples: Signal, wavelets: Wavelets, weights: Any, contact: Any, places: Any, what: Any) -> None:
    taken = 0
    while taken < samples.size:
        taken += _fill(state, samples[taken:])
        if state.n % STEP == 0:
            _take(state, wavelets)
            found = _judge(state, wavelets, weights, _is_held(contact, state.n / RATE_HZ))
            if found >= 0:
                places.append(np.int64(state.n))
                what.append(np.int64(found))


@compiled
def _measure(states: Any, samples: Signal, wavelets: Wavelets) -> Any:
    state, taken = states[0], 0
    numbers = np.full((max(0, samples.size // STEP - STEPS + 1), len(FEATURES)), np.nan)
    while taken < samples.size:
        taken += _fill(state, samples[taken:])
        if state.n % STEP > 0:
            break
        _take(state, wavelets)
        if state.n < STEP * STEPS or not _is_wave(state):
            continue
        window = numbers[state.n // STEP - STEPS]
        _describe_steps(state, window)
        if not _describe_wave(state.halved, wavelets, window):
            window[:] = np.nan
    return numbers


@compiled
def _fill(state: Any, samples: Signal) -> int:
    """Take samples, as many as this step lacks; return how many."""
    block, held = state.block, state.held
    at = state.n % STEP
    size = min(samples.size, STEP - at)
    if state.n == 0:
        held = np.float32(0) if np.isnan(samples[0]) else samples[0]
        block[:] = held
        state.halved[:] = held
    missing = 0
    for i in range(size):
        gone = np.isnan(samples[i])
        missing += gone
        if not gone:
            held = samples[i]
        block[QRS_TAPS - 1 + at + i] = held
    state.held = held
    state.missing += missing
    state.n += size
    return size


@compiled
def _take(state: Any, wavelets: Wavelets) -> None:
    """A step is complete: note what it holds."""
    block, halved = state.block, state.halved
    step = state.steps[(state.n // STEP) % STEPS]
    step[_MISSING] = state.missing
    state.missing = 0
    band = np.empty(STEP, np.float32)
    _filter(wavelets.qrs, block, band)
    step[_QRS_SUM], step[_QRS_MAX], step[_QRS_POWER] = _sum_up(band)
    halved[:-HALF] = halved[HALF:].copy()
    near = halved[halved.size - HALF :]
    for i in range(HALF):
        near[i] = (block[QRS_TAPS - 1 + 2 * i] + block[QRS_TAPS + 2 * i]) / 2
    _filter(wavelets.wave, halved[halved.size - HALF - WAVE_TAPS + 1 :], band[:HALF])
    step[_WAVE_SUM], step[_WAVE_MAX], step[_WAVE_POWER] = _sum_up(band[:HALF])
    block[: QRS_TAPS - 1] = block[STEP:]


@compiled
def _filter(taps: Signal, signal: Signal, out: Signal) -> None:
    """Of taps that are symmetric."""
    middle, weight = taps.size // 2, taps[taps.size // 2]
    for i in range(out.size):
        out[i] = weight * signal[middle + i]
    for k in range(middle):
        weight, early, late = taps[k], signal[k:], signal[taps.size - 1 - k :]
        for i in range(out.size):
            out[i] += weight * (early[i] + late[i])


@compiled
def _sum_up(band: Signal) -> tuple[float, float, float]:
    """Sum and largest of magnitudes, and sum of squares."""
    total = largest = power = np.float32(0)
    for value in band:
        size = abs(value)
        total += size
        largest = max(largest, size)
        power += value * value
    return float(total), float(largest), float(power)


@compiled
def _is_wave(state: Any) -> bool:
    """Whether there is enough of a signal to be looked at; learns how much there usually is."""
    steps = state.steps
    power = missing = 0.0
    for k in range(STEPS):
        power += steps[k, _WAVE_POWER]
        missing += steps[k, _MISSING]
    if missing > MOST_MISSING * STEP * STEPS:
        return False
    size = math.log(max(math.sqrt(power / WINDOW), FAINTEST))
    if state.usual == 0:
        state.usual = size
    faint = FAINT if state.found else FAINT_AT_ONSET
    is_wave = bool(size > math.log(FAINTEST) and size > state.usual + math.log(faint))
    least = -ADAPTS if size > state.usual + math.log(HALF_SIZE) else -ADAPTS_TO_FAINT
    if size < state.usual and _rest_of_qrs(state) < PEAKED:
        least = -ADAPTS_TO_QRS
    state.usual += min(max(size - state.usual, least), ADAPTS)
    return is_wave


@compiled
def _is_held(contact: Any, end_s: float) -> bool:
    """Whether in too much of the window that ends then a value was held."""
    window_s = STEPS * STEP / RATE_HZ
    return bool(held.seconds(contact.held, end_s - window_s, end_s) > MOST_MISSING * window_s)


@compiled
def _judge(state: Any, wavelets: Wavelets, weights: Any, is_held: bool) -> int:
    """Score the window; return what is to be said of it, or -1."""
    known = state.n // STEP - STEPS + 1
    if known < 1:
        return -1
    scores = state.scores
    is_one = not is_held and _is_wave(state)
    scores[known % AVERAGED] = _score(state, wavelets, weights) if is_one else -MOST
    if known < AVERAGED:
        return -1
    mean = 0.0
    for k in range(AVERAGED):
        mean += scores[k] / AVERAGED
    was_found = state.found
    state.calm = state.calm + 1 if mean < ENDS else 0
    state.found = mean >= BEGINS or (was_found and state.calm < LASTS)
    if state.found:
        return PRESENT
    return ABSENT if was_found or known == AVERAGED else -1


@compiled
def _score(state: Any, wavelets: Wavelets, weights: Any) -> float:
    numbers = np.empty(weights.size - 1)
    _describe_steps(state, numbers)
    score = weights[-1]
    for k in range(1, numbers.size):
        score += weights[k] * numbers[k]
    if score + weights[0] * LEAST_LEAKAGE < ENDS:  # with any leakage: the rest is dear, and most windows end here
        return -MOST
    if not _describe_wave(state.halved, wavelets, numbers):
        return -MOST
    return min(max(score + weights[0] * numbers[0], -MOST), MOST)


@compiled
def _describe_steps(state: Any, numbers: Any) -> None:
    """Write `FEATURES` of the window but the leakage."""
    steps = state.steps
    first = state.n // STEP + 1  # of the ring: the oldest
    qrs_power = wave_power = 0.0
    numbers[1], numbers[2] = _rest_of_qrs(state), 0.0
    for k in range(0, STEPS, 2):
        one, two = steps[(first + k) % STEPS], steps[(first + k + 1) % STEPS]
        qrs_power += one[_QRS_POWER] + two[_QRS_POWER]
        wave_power += one[_WAVE_POWER] + two[_WAVE_POWER]
        numbers[2] += _rest(one[_WAVE_SUM] + two[_WAVE_SUM], max(one[_WAVE_MAX], two[_WAVE_MAX]), STEP)
    numbers[2] /= STEPS / 2
    wave_power /= WINDOW
    numbers[3] = math.log((qrs_power / (2 * WINDOW) + 1e-3) / (wave_power + 1e-3))
    numbers[4] = math.log((_slow_power(state.halved[BEFORE:]) + 1e-3) / (wave_power + 1e-3))


@compiled
def _rest_of_qrs(state: Any) -> float:
    """How much there is of the QRS band, as a mean over the window's seconds, against the largest of it in each."""
    rest = 0.0
    for k in range(0, STEPS, 2):
        first = state.n // STEP + 1 + k
        one, two = state.steps[first % STEPS], state.steps[(first + 1) % STEPS]
        rest += _rest(one[_QRS_SUM] + two[_QRS_SUM], max(one[_QRS_MAX], two[_QRS_MAX]), 2 * STEP)
    return rest / (STEPS / 2)


@compiled
def _describe_wave(halved: Signal, wavelets: Wavelets, numbers: Any) -> bool:
    """Write the leakage; return whether the window may be fibrillation at all."""
    band = np.empty(WINDOW, np.float32)
    _filter(wavelets.wave, halved[BEFORE - WAVE_TAPS + 1 :], band)
    numbers[0] = _leakage(band)
    return not _is_slow_rhythm(_beat_band(halved, wavelets.beat))


@compiled
def _rest(total: float, largest: float, size: int) -> float:
    return total / (size * largest) if largest > 0 else 0.0


@compiled
def _slow_power(halved: Signal) -> float:
    """Variance of the means of a quarter of a second."""
    size = WINDOW // QUARTERS
    total = squares = 0.0
    for k in range(QUARTERS):
        mean = 0.0
        for i in range(size):
            mean += halved[k * size + i] - halved[0]
        mean /= size
        total += mean
        squares += mean * mean
    return max(0.0, squares / QUARTERS - (total / QUARTERS) ** 2)


@compiled
def _leakage(wave: Signal) -> float:
    """`LEAST_LEAKAGE` for a sine, 1 for what never cancels itself half a period later."""
    size = steps = np.float32(0)
    for i in range(1, wave.size):
        size += abs(wave[i])
        steps += abs(wave[i] - wave[i - 1])
    if not steps > 0:
        return 1.0
    half = min(max(int(math.pi * size / steps + 0.5), 1), WINDOW // 2)
    left = whole = np.float32(0)
    for i in range(half, wave.size):
        left += abs(wave[i] + wave[i - half])
        whole += abs(wave[i]) + abs(wave[i - half])
    return max(float(left / whole), LEAST_LEAKAGE) if whole > 0 else 1.0


@compiled
def _beat_band(halved: Signal, beat: Signal) -> Signal:
    quartered, band = np.empty(halved.size // 2, np.float32), np.empty(WINDOW // 2, np.float32)
    for i in range(quartered.size):
        quartered[i] = (halved[2 * i] + halved[2 * i + 1]) / 2
    _filter(beat, quartered, band)
    return band


@compiled
def _is_slow_rhythm(band: Signal) -> bool:
    """Whether the window shows a regular rhythm that is too slow for flutter."""
    fast = slow = 0.0
    was_unlike = False
    for lag in range(FASTEST, SLOWEST + 1):
        like = _likeness(band[lag:], band[: band.size - lag])
        was_unlike = was_unlike or like < 0
        if lag > SLOWEST_WAVE:
            slow = max(slow, like)
        elif was_unlike:
            fast = max(fast, like)
    return slow >= REGULAR and slow - fast >= SOONER


@compiled
def _likeness(a: Signal, b: Signal) -> float:
    both = one = two = np.float32(0)
    for i in range(a.size):
        both += a[i] * b[i]
        one += a[i] * a[i]
        two += b[i] * b[i]
    return float(both) / math.sqrt(float(one * two)) if one * two > 0 else 0.0
