"""What is usual for a wearer, learned beat by beat, and the inputs of class models that follow from it.

The template is a running mean of the wearer's windows in which no beat counts for much: a window moves it by at most
`STEP` of its height, over `SLOW` beats, and a beat that comes early does not move it at all. So in bigeminy, where
every second beat is ectopic, and in the first minutes of a tachycardia, it keeps what is usual, as a median of the
last minutes would, at the price of one window of memory.

Beside it is followed how often a shape model calls the wearer's beats abnormal. Where it always does so, that says
nothing new: of a bundle branch block, or a lead that the model does not know. Only what is new counts, or what comes
and goes.

Beside it, too, is followed how alike the beats are where a P wave stands, which says whether there is one: the waves of
atrial fibrillation come at any time, so the usual beat shows none of them, and no beat is like it there. What is left
of a beat without the usual one is such waves, or noise; how fast it changes tells which.

All state is one plain record, `STATE`, zero at the start; the loops over beats are compiled. How beats were batched
makes no difference. Sees only beats that the gate let pass. The contract is `monitor.beat2`; knows nothing of models.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from monitor import beat2
from monitor.beat2 import LENGTH, LIMIT
from monitor.ecg.kernels import compiled, sort

RR_KEPT = 32
"""RR intervals that are remembered."""
SLOW = 24
"""Beats over which the template is a mean."""
FREE = 3
"""So many first beats move it freely."""
RELIABLE = 16
"""So many beats make it reliable."""
STEP = 0.25
"""Most by which a sample of a window may differ from the template, in its heights, when it moves it."""
EARLY = 0.8
"""A beat that comes before this share of the slow mean interval does not count as usual."""
SLOW_RR = 100
"""Intervals over which the slow mean goes."""
USUAL = 16
"""Beats over which it is followed how alike they are."""
RR_MOST = 3.0
"""Intervals count for at most this many median ones."""
QRS = (30, 62)
"""Where the QRS complex is compared: samples of the window, the second exclusive."""
PEAK = (33, 58)
"""Where its height is taken."""
AROUND = (25, 70)
"""Where steepness is counted."""
STEEP = 0.08
"""Change from sample to sample, in heights, that is steep."""
SHIFT = 3
"""Most samples by which a window is shifted to compare it."""
SHAPE_OVER = 128
"""Beats over which the share of abnormal shapes is a mean."""
USUAL_SHAPE = 0.25
"""From this share on abnormal shapes are usual: 37 beats after the first, if all of them are."""
P_WAVE = (16, 38)
"""Where a P wave stands: 0.23 to 0.06 s before the main deflection."""
P_OVER, P_FEWEST = 16, 3
"""Beats over which it is followed how alike they are there, and so many before that is known."""
P_WAVE_NUMBERS = (
    "likeness",  # where a P wave stands, correlation of a beat with the usual one: running mean
    "likeness_spread",  # standard deviation
    "size",  # log of the root mean square of the usual beat there
    "above",  # log of how high the usual beat lies above the line between the ends of the part before the QRS complex
    "below",
    "rest",  # log of the root mean square of what is left of a beat without the usual one: running mean
    "rest_change",  # the same of how much that changes in 32 ms: of fibrillatory waves, and of noise
    "noise",  # the same of the second differences of a beat, from sample to sample
    "usual_likeness_qrs",  # as in `monitor.beat2.CONTEXT`
    "usual_likeness",
    "height_change",  # log of how much higher or lower a beat is than the usual one: running mean
)
"""What `observe_p_waves` tells, sizes in heights of the usual beat."""
TOLD = len(P_WAVE_NUMBERS)
FOLLOWED = 5
"""Running means that are kept for them: the likeness, its square, the rest, its change, the noise."""
BEFORE_QRS = (4, 38)
"""Where nothing but atria is seen, unless the beat before came late: 0.33 to 0.06 s before the main deflection."""
LINE = (6, 10, 35)
"""The ends of the line below a P wave: the first two samples of its begin, one of its end, at `BEFORE_QRS`."""
REST_OVER = 4
"""Samples over which the rest changes."""
HEIGHTS_OVER, LOWEST = 24, 0.05
"""Beats over which it is followed how high they are, and the least height that counts."""
LEAST, LEAST_WAVE = 1e-3, 0.01
"""Sizes of what is nothing, and of what is no wave."""
P_QRS, P_EARLY = 0.8, 0.92
"""A beat whose QRS complex is less like the usual one, or that comes before this share of the slow mean interval, says
nothing of the usual rhythm of the atria: its P wave, if any, is another."""
P_LEAST = 1e-6
"""Power of what is no wave, in squared heights."""
P_EARLIEST, T_WAVE = 10, (62, 105)
"""From where on a P wave is looked for that says which way the signal lies, and where a T wave is highest."""
P_SURE, P_HIGH, T_HIGH = 0.6, 0.03, 0.08
"""So alike are beats before whose QRS complex there surely is a P wave, so high it and the T wave are then at least,
and twice as high as what lies below the line between the ends of that part."""
MEDIAN_EVERY = 4
"""The zero of a window is the median of every fourth sample."""

STATE = np.dtype(
    [
        ("beats", np.int32),  # that have moved the template
        ("intervals", np.int32),  # RR intervals so far
        ("slow_rr", np.float32),  # running mean of RR intervals, samples
        ("last", np.float32, 3),  # how alike, high and steep the beat before was
        ("usual", np.float32, 2),  # running means of how alike beats are
        ("shape", np.float32),  # running share of beats of abnormal shape
        ("p_beats", np.int32),  # that were compared where a P wave stands
        ("p_means", np.float32, FOLLOWED),  # running means, see `FOLLOWED`
        ("p_usual", np.float32, 3),  # size, above, below; see `P_WAVE_NUMBERS`
        ("p_heights", np.int32),  # beats whose height was compared
        ("height_change", np.float32),  # running mean
        ("polarity", np.int32),  # 1 where waves point up, -1 where the signal is upside down, 0 while that is not known
        ("rr", np.int16, RR_KEPT),  # ring of the last RR intervals, samples
        ("template", np.float32, LENGTH),  # in the unit of the stream, free of its median
    ],
    align=True,
)
"""Everything that is remembered of a wearer: 628 bytes, all of them zero at the start."""


def observe(
    states: npt.NDArray[np.void],
    rows: npt.NDArray[np.int64],
    windows: npt.NDArray[np.float32],
    rr: npt.NDArray[np.int64],
    teaches: npt.NDArray[np.bool_] | None = None,
) -> tuple[beat2.Windows, beat2.Context]:
    """Inputs of a class model for the next beats of some wearers, which are then remembered.

    Parameters
    ----------
    states
        (wearers,) of `STATE`; changed in place.
    rows
        (n,) whose beat it is; the beats of each wearer in order of time.
    windows
        (n, 120) float32 at 125 Hz, from 45 samples before the QRS fiducial on, any unit, finite.
    rr
        (n,) samples since the fiducial before; 0 where that is not known.
    teaches
        (n,) which of them are remembered: the others are only looked at. All of them unless given.

    Returns
    -------
    windows, context
        (n, 2, 120) and (n, 21) float32, see `monitor.beat2`.
    """
    inputs = np.empty((rows.size, 2, LENGTH), np.float32)
    context = np.empty((rows.size, len(beat2.CONTEXT)), np.float32)
    if teaches is None:
        teaches = np.ones(rows.size, np.bool_)
    _observe(states, rows, windows, rr, teaches, inputs, context)
    return inputs, context


def observe_shapes(
    states: npt.NDArray[np.void], rows: npt.NDArray[np.int64], abnormal: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Which of the next beats of some wearers have a shape that is abnormal and not usual for them.

    Parameters
    ----------
    states, rows
        As `observe` takes them.
    abnormal
        (n,) what a shape model says of the beats.

    Returns
    -------
    ndarray
        (n,)
    """
    unusual = np.zeros(rows.size, np.bool_)
    _observe_shapes(states, rows, abnormal, unusual)
    return unusual


UPRIGHT, TURNED, TURNED_NEW = 0, 1, 2
"""How a beat lies: not upside down as far as is known; upside down; the same, and that was not known before."""


def observe_p_waves(
    states: npt.NDArray[np.void],
    rows: npt.NDArray[np.int64],
    signals: npt.NDArray[np.float32],
    windows: beat2.Windows,
    context: beat2.Context,
    teaches: npt.NDArray[np.bool_] | None = None,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.uint8]]:
    """Whether there is a P wave before the next beats of some wearers, and whether their signal is upside down.

    Parameters
    ----------
    states, rows, signals, teaches
        As `observe` takes them; of a beat that does not teach nothing is said.
    windows, context
        As it returned them.

    Returns
    -------
    p_waves
        (n, 11) `P_WAVE_NUMBERS`; NaN while too few beats are known.
    lies
        (n,) `UPRIGHT`, `TURNED` or `TURNED_NEW`. Where P wave, QRS complex and T wave of the usual beat all point down,
        the signal is upside down, until they all point up: of healthy hearts they do so in no lead but aVR.
    """
    told, lies = np.full((rows.size, TOLD), np.nan), np.zeros(rows.size, np.uint8)
    if teaches is None:
        teaches = np.ones(rows.size, np.bool_)
    _observe_p_waves(states, rows, signals, windows, context, teaches, told, lies)
    return told, lies


@compiled
def _observe_p_waves(
    states: Any, rows: Any, signals: Any, windows: Any, context: Any, teaches: Any, told: Any, lies: Any
) -> None:
    room = np.empty(P_WAVE[1] - P_WAVE[0]), np.empty(P_WAVE[1] - P_WAVE[0]), np.empty(BEFORE_QRS[1] - BEFORE_QRS[0])
    for i in range(rows.size):
        if not teaches[i]:
            continue
        state = states[rows[i]]
        state.p_heights = min(state.p_heights + 1, HEIGHTS_OVER)
        state.height_change += (abs(np.log(max(LOWEST, context[i, 12]))) - state.height_change) / state.p_heights
        if context[i, 10] > P_QRS and context[i, 3] >= P_EARLY:
            likeness = _follow_p_waves(state, windows[i], room)
            if context[i, 15] == 1 and likeness > P_SURE and _waves_agree(windows[i, 1]):
                lies[i] = _take_polarity(state, _points_down(signals[i], windows[i, 0]))
        if state.p_beats >= P_FEWEST:
            _tell(state, context[i], told[i])
        lies[i] = max(lies[i], UPRIGHT if state.polarity >= 0 else TURNED)


@compiled
def _tell(state: Any, context: Any, told: Any) -> None:
    """Fill in `P_WAVE_NUMBERS`."""
    means, usual = state.p_means, state.p_usual
    told[0], told[1] = means[0], np.sqrt(max(0.0, means[1] - means[0] * means[0]))
    told[2], told[3], told[4] = usual[0], usual[1], usual[2]
    told[5], told[6], told[7] = means[2], means[3], means[4]
    told[8], told[9], told[10] = context[19], context[20], state.height_change


@compiled
def _follow_p_waves(state: Any, windows: Any, room: Any) -> float:
    """Compare a beat with the usual one where a P wave stands; return how alike they are by now."""
    own, usual, rest = room
    _free_of_trend(windows[0], P_WAVE[0], own)
    _free_of_trend(windows[1], P_WAVE[0], usual)
    power, both = (usual * usual).sum(), (own * usual).sum()
    likeness = both / np.sqrt((own * own).sum() * power + P_LEAST**2)
    at, noise = BEFORE_QRS[0], 0.0
    for k in range(rest.size):
        rest[k] = windows[0, at + k] - windows[1, at + k]
    for k in range(at + 1, BEFORE_QRS[1] - 1):
        noise += (windows[0, k + 1] - 2 * windows[0, k] + windows[0, k - 1]) ** 2
    change = 0.0
    for k in range(rest.size - REST_OVER):
        change += (rest[k + REST_OVER] - rest[k]) ** 2
    _free_of_trend(rest, 0, rest)
    state.p_beats = min(state.p_beats + 1, P_OVER)
    means, beats = state.p_means, state.p_beats
    means[0] += (likeness - means[0]) / beats
    means[1] += (likeness * likeness - means[1]) / beats
    means[2] += (_log_size((rest * rest).sum() / rest.size) - means[2]) / beats
    means[3] += (_log_size(change / (rest.size - REST_OVER)) - means[3]) / beats
    means[4] += (_log_size(noise / (rest.size - 2)) - means[4]) / beats
    state.p_usual[0] = _log_size(power / usual.size)
    state.p_usual[1], state.p_usual[2] = _look_for_wave(windows[1])
    return float(means[0])


@compiled
def _log_size(power: float) -> float:
    return float(np.log(np.sqrt(power) + LEAST))


@compiled
def _look_for_wave(usual: Any) -> tuple[float, float]:
    """How high the usual beat lies above the line between the ends of the part before the QRS complex, and below."""
    begin, second, end = LINE[0], LINE[1], BEFORE_QRS[1]
    first, last = usual[begin:second].mean(), usual[LINE[2] : end].mean()
    low = high = 0.0
    for k in range(second, end - 2):
        above = usual[k] - first - (last - first) * (k - begin) / (end - 1 - begin)
        low, high = min(low, above), max(high, above)
    return float(np.log(high + LEAST_WAVE)), float(np.log(LEAST_WAVE - low))


@compiled
def _take_polarity(state: Any, is_down: bool) -> int:
    is_new = is_down and state.polarity >= 0
    state.polarity = -1 if is_down else 1
    return TURNED_NEW if is_new else UPRIGHT


@compiled
def _waves_agree(usual: Any) -> bool:
    """Whether P wave and T wave of the usual beat point where its QRS complex does, which is up in it."""
    begin, end = P_EARLIEST, P_WAVE[1]
    first, last = usual[begin : begin + 3].mean(), usual[end - 3 : end].mean()
    p_low = p_high = low = high = 0.0
    for k in range(begin, end):
        above = usual[k] - first - (last - first) * (k - begin) / (end - begin)
        p_low, p_high = min(p_low, above), max(p_high, above)
    for k in range(T_WAVE[0], T_WAVE[1]):
        low, high = min(low, usual[k]), max(high, usual[k])
    return bool(high > T_HIGH and high > -2 * low and p_high > P_HIGH and p_high > -2 * p_low)


@compiled
def _points_down(signal: Any, window: Any) -> bool:
    """Whether a window, whose QRS complex points up, is a signal that was turned over."""
    mean_a, mean_b, both = signal.mean(), window.mean(), 0.0
    for k in range(PEAK[0], PEAK[1]):
        both += (signal[k] - mean_a) * (window[k] - mean_b)
    return bool(both < 0)


@compiled
def _free_of_trend(window: Any, begin: int, part: Any) -> None:
    """Copy a part of a window without its mean and slope: the T wave before it may not be over."""
    n, total, slope, squares = part.size, 0.0, 0.0, 0.0
    for k in range(n):
        at = k - (n - 1) / 2
        total += window[begin + k]
        slope += at * window[begin + k]
        squares += at * at
    for k in range(n):
        part[k] = window[begin + k] - total / n - slope / squares * (k - (n - 1) / 2)


@compiled
def _observe_shapes(states: Any, rows: Any, abnormal: Any, unusual: Any) -> None:
    for i in range(rows.size):
        state = states[rows[i]]
        unusual[i] = abnormal[i] and state.shape < USUAL_SHAPE
        state.shape += (abnormal[i] - state.shape) / SHAPE_OVER


@compiled
def _observe(states: Any, rows: Any, windows: Any, rr: Any, teaches: Any, inputs: Any, context: Any) -> None:
    room, own = np.empty(RR_KEPT), np.empty(LENGTH, np.float32)
    aside = np.zeros(1, states.dtype)
    for i in range(rows.size):
        if teaches[i]:
            _look(states[rows[i]], windows[i], rr[i], room, own, inputs[i], context[i])
        else:
            aside[0] = states[rows[i]]
            _look(aside[0], windows[i], rr[i], room, own, inputs[i], context[i])


@compiled
def _look(state: Any, signal: Any, rr: int, room: Any, own: Any, inputs: Any, context: Any) -> None:
    """Fill in the inputs for a beat, and remember it; `room` and `own` are room to work in."""
    _free_of_median(signal, own)
    if state.beats == 0:
        state.template[:] = own
    template, window, usual = state.template, inputs[0], inputs[1]
    height = _height(template)
    per_height = 1 / height
    for k in range(LENGTH):
        window[k] = _within(own[k] * per_height, LIMIT)
        usual[k] = _within(template[k] * per_height, LIMIT)
    _count_rr(state, rr)
    _describe_rhythm(state, rr, room, context)
    _compare(window, usual, context)
    context[15] = min(1.0, state.beats / RELIABLE)
    _follow(state, context)
    if rr == 0 or rr >= EARLY * state.slow_rr:
        _learn(state, template, own, abs(height))


@compiled
def _free_of_median(window: Any, own: Any) -> None:
    some = window[::MEDIAN_EVERY].copy()
    sort(some)
    middle = (some[some.size // 2] + some[(some.size - 1) // 2]) / 2
    for k in range(window.size):
        own[k] = window[k] - middle


@compiled
def _height(template: Any) -> float:
    """Main deflection of the QRS complex, with its sign; never zero."""
    highest = 0.0
    for k in range(PEAK[0], PEAK[1]):
        if abs(template[k]) > abs(highest):
            highest = template[k]
    return highest if abs(highest) > 1e-6 else 1.0


@compiled
def _within(value: float, limit: float) -> float:
    return min(limit, max(-limit, value))


@compiled
def _learn(state: Any, template: Any, own: Any, height: float) -> None:
    """Move the template towards a window."""
    weight = np.float32(1 / min(state.beats + 1, SLOW))
    most = np.float32(np.inf if state.beats < FREE else STEP * height)
    for k in range(LENGTH):
        template[k] += weight * min(most, max(-most, own[k] - template[k]))
    state.beats = min(state.beats + 1, RELIABLE + SLOW)


@compiled
def _count_rr(state: Any, rr: int) -> None:
    if rr == 0:
        return
    state.rr[state.intervals % RR_KEPT] = rr
    state.intervals += 1
    if state.intervals == 1:
        state.slow_rr = rr
    change = _within(rr / state.slow_rr - 1, 0.5) * state.slow_rr
    state.slow_rr += change / min(state.intervals, SLOW_RR)


@compiled
def _describe_rhythm(state: Any, rr: int, room: Any, context: Any) -> None:
    """Fill in the first ten columns."""
    ring, known = state.rr, min(state.intervals, RR_KEPT)
    context[:10] = 0
    context[:5] = 1
    context[5], context[9] = 0.8, 0.5
    if known == 0:
        return
    newest = state.intervals - 1
    median = _median(ring, known, newest, 0, room)
    unknown = 1 if rr == 0 else 0  # then the newest interval is not this beat's
    for i in range(3):
        if unknown <= i < known + unknown:
            context[i] = min(RR_MOST, ring[(newest - i + unknown) % RR_KEPT] / median)
    if rr > 0:
        context[3] = min(RR_MOST, rr / state.slow_rr)
    context[4] = median / state.slow_rr
    context[5] = median / beat2.RATE_HZ
    if known > 1:
        context[6] = _median(ring, known - 1, newest, 1, room) / median
    early = shorter = 0
    for i in range(known):
        one = ring[(newest - i) % RR_KEPT]
        room[i] = abs(one - median)
        early += one < 0.85 * median
        shorter += one < rr
    sort(room[:known])
    context[7] = room[known // 2] / median
    context[8] = early / known
    if rr > 0:
        context[9] = shorter / known


@compiled
def _median(rr: Any, count: int, newest: int, change: int, room: Any) -> float:
    """Of the last `count` intervals, or of their changes from one to the next."""
    for i in range(count):
        value = rr[(newest - i) % RR_KEPT]
        room[i] = abs(value - rr[(newest - i - 1) % RR_KEPT]) if change else value
    sort(room[:count])
    return float(room[count // 2] + room[(count - 1) // 2]) / 2


@compiled
def _compare(window: Any, template: Any, context: Any) -> None:
    """Fill in how alike a window and the template are, both in heights."""
    best, at = -2.0, 0
    for shift in range(-SHIFT, SHIFT + 1):
        alike = _correlation(window, template, QRS[0], QRS[1], shift)
        if alike > best:
            best, at = alike, shift
    context[10] = best
    context[11] = _correlation(window, template, SHIFT, LENGTH - SHIFT, at)
    context[12] = min(LIMIT, _span(window) / _span(template))
    context[13], context[14] = _steepness(window), _steepness(template)


@compiled
def _follow(state: Any, context: Any) -> None:
    """Fill in what is known of the beats before, and remember this one."""
    last, usual = state.last, state.usual
    context[16:19] = last
    context[19:21] = usual
    for i in range(3):
        last[i] = context[(10, 12, 13)[i]]
    for i in range(2):
        usual[i] += (context[10 + i] - usual[i]) / min(state.intervals + 1, USUAL)


@compiled
def _correlation(window: Any, template: Any, begin: int, end: int, shift: int) -> float:
    n = end - begin
    sum_x = sum_y = sum_xx = sum_yy = sum_xy = 0.0
    for k in range(begin, end):
        x, y = window[k + shift], template[k]
        sum_x += x
        sum_y += y
        sum_xx += x * x
        sum_yy += y * y
        sum_xy += x * y
    variances = (sum_xx - sum_x * sum_x / n) * (sum_yy - sum_y * sum_y / n)
    return (sum_xy - sum_x * sum_y / n) / np.sqrt(variances) if variances > 1e-12 else 0.0


@compiled
def _span(window: Any) -> float:
    low = high = window[PEAK[0]]
    for k in range(PEAK[0], PEAK[1]):
        low, high = min(low, window[k]), max(high, window[k])
    return max(1e-3, high - low)


@compiled
def _steepness(window: Any) -> float:
    count = 0
    for k in range(AROUND[0] + 1, AROUND[1]):
        count += abs(window[k] - window[k - 1]) > STEEP
    return count / 10
