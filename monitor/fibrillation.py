"""How much a rhythm looks like atrial fibrillation: numbers about RR intervals, P waves and signal, and their network.

How irregular a rhythm is follows from up to 30 RR intervals whose ends are no ventricular beats, by

* coefficient of sample entropy: Lake, Moorman, "Accurate estimation of entropy in very short physiological time
  series", Am. J. Physiol. Heart Circ. Physiol. 300 (2011);
* turning point ratio: Dash, Chon, Lu, Raeder, "Automatic real time detection of atrial fibrillation", Ann. Biomed. Eng.
  37 (2009), who use it with RMSSD and Shannon entropy;
* quantiles of the differences between neighbouring intervals beside their RMSSD: a few ectopic or false beats move a
  quantile little;
* pNN50, the best of the measures that Akande et al. compared, "Characterising RR intervals in atrial fibrillation
  detected through screening", Comput. Cardiol. 50 (2023).

Where the usual beat of the wearer is known, numbers about the P wave and about how noisy the signal is stand beside
that (`monitor.ecg.wearer.P_WAVE_NUMBERS`), and how many beats were withheld or ectopic: noise and motion make a healthy
rhythm look irregular. A network of one hidden layer joins them: `ecgwatch train af` fits it, and prints figures of
networks that had not met the people. Where no usual beat is known, a logistic regression of the RR intervals is left.

Early narrow beats are not left out: in atrial fibrillation beats look early. Knows nothing of devices or records.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from monitor import fibrillation_network as fitted
from monitor.ecg.kernels import compiled, sort
from monitor.ecg.wearer import P_WAVE_NUMBERS

Floats = npt.NDArray[np.float64]

WINDOW, FEWEST_RR, FEWEST_RR_WITH_P, LONGEST_S = 30, 16, 9, 2.5
"""RR intervals that irregularity is looked for in; at least so many, and where P waves are known; longer ones are
pauses."""
FEWEST_STEPS, FEWEST_SECOND = 8, 4
"""Differences of neighbouring intervals, and of neighbouring differences, that are needed."""
TOLERANCE_S, MATCHES = 0.03, 5
"""Sample entropy starts with this tolerance, and doubles it until so many pairs match."""
EPSILON = 0.004
REGULAR = -9.0
"""Irregularity of a rhythm that need not be looked at closer."""
REGULAR_BELOW = 0.012
"""Median difference of neighbouring RR intervals, over their mean, of such a rhythm."""
FASTEST_S, MULTIPLES, OFF, MOST = 0.26, 3, 0.12, 0.85
"""Where such a share of the intervals are up to three times one that is this short, each within this share of it, a
fast regular rhythm is found with beats left out: from some 230/min on the next QRS complex may come before the last one
is over. In atrial fibrillation the AV node conducts no such multiples; nor so often."""
SHORTEST = 0.1
"""That interval is the one of this rank: a few shorter ones may be noise."""
QUANTILES = (0.25, 0.5, 0.75)
LARGE_S, ALIKE = 0.05, 0.04
"""A difference of neighbouring RR intervals that is large (pNN50), and one, over their mean, that is none."""
NARROW, WIDE = 0.08, 0.16
"""Ranges, over the mean interval: the usual rhythm between ectopic beats lies within them, fibrillation does not."""
EARLY, LATE = 0.85, 1.15
"""Intervals shorter and longer than so many median ones are those before and after an early beat."""
LEAST_POWER = 1e-6

UNKNOWN, PLAINLY_REGULAR, KNOWN = range(3)
"""What `find_features` returns."""
OF_RR = (
    "step_25",  # logs of quantiles of the differences of neighbouring intervals, over their mean
    "step_50",
    "step_75",
    "second_step",  # log median of differences of these
    "turning",  # turning point ratio
    "entropy",  # coefficient of sample entropy
    "large_steps",  # share of differences above `LARGE_S`
    "no_steps",  # share of those below `ALIKE`
    "mean_rr",  # log, of seconds
    "step_of_two",  # log median difference from the interval but one before
    "rmssd",  # log
    "interquartile",  # log of the range
    "narrow",  # largest share of intervals within a range of `NARROW`
    "wide",
    "correlation",  # of neighbouring intervals
    "step_correlation",  # of neighbouring differences
    "deviation",  # log of the median distance from the median interval
    "early",  # share of intervals
    "late",
    "known",  # intervals, over `WINDOW`
)
"""Numbers about RR intervals."""
FEATURES, IN_REGRESSION = len(OF_RR), 12
"""How many there are, and how many of the first of them the logistic regression joins."""


SHARES = ("withheld", "ventricular", "supraventricular")
"""Of the latest beats."""
INPUTS = (*OF_RR, *P_WAVE_NUMBERS, *SHARES)
"""What the network sees, in order."""
CLIPPED = 4.0
"""No number counts for more than so many standard deviations."""


class Network(NamedTuple):
    """A network of one hidden layer."""

    mean: Floats
    """(inputs,) what is taken off each input,"""
    spread: Floats
    """(inputs,) and by what it is divided then."""
    weights: Floats
    """(inputs, hidden)"""
    hidden: Floats
    """(hidden,) biases"""
    out: Floats
    """(hidden,) weights of the answer"""
    bias: Floats
    """(1,)"""


@compiled
def answer(numbers: Any, network: Any) -> float:
    """Return the log odds of atrial fibrillation by `INPUTS`."""
    sums = network.hidden.copy()
    for i in range(numbers.size):
        number = (numbers[i] - network.mean[i]) / network.spread[i]
        number = min(CLIPPED, max(-CLIPPED, number))
        for k in range(sums.size):
            sums[k] += number * network.weights[i, k]
    odds = network.bias[0]
    for k in range(sums.size):
        odds += network.out[k] * np.tanh(sums[k])
    return float(odds)


@compiled
def regress(numbers: Any) -> float:
    """Return the log odds of atrial fibrillation by RR intervals alone."""
    odds = BIAS
    for k in range(IN_REGRESSION):
        odds += WEIGHTS[k] * numbers[k]
    return float(odds)


@compiled
def find_features(rr_s: Any, linked: Any, out: Any) -> int:
    """Compute the numbers about RR intervals, and return `KNOWN`, or whether they are too few, or plainly regular.

    Parameters
    ----------
    rr_s, linked
        (n,) RR intervals, and whether each follows the one before directly.
    out
        (`FEATURES`,) or more; room for `OF_RR`.
    """
    n, mean = rr_s.size, rr_s.mean()
    first, second, other = np.empty(n), np.empty(n), np.empty(n)
    ones, twos, turns, large, alike, regular, squares = 0, 0, 0, 0, 0, 0, 0.0
    for i in range(1, n):
        if not linked[i]:
            continue
        step = rr_s[i] - rr_s[i - 1]
        first[ones] = abs(step) / mean
        large += abs(step) > LARGE_S
        alike += first[ones] < ALIKE
        regular += first[ones] < REGULAR_BELOW
        squares += first[ones] ** 2
        ones += 1
        if linked[i - 1]:
            before = rr_s[i - 1] - rr_s[i - 2]
            second[twos], other[twos] = abs(step - before) / mean, abs(step + before) / mean
            twos += 1
            turns += step * before < 0
    if ones < FEWEST_STEPS or twos < FEWEST_SECOND:
        return UNKNOWN
    if regular > ones // 2 or _are_multiples(rr_s):
        return PLAINLY_REGULAR
    for k in range(len(QUANTILES)):
        out[k] = np.log(_find(first[:ones], int(QUANTILES[k] * (ones - 1))) + EPSILON)
    out[3], out[4] = np.log(_find(second[:twos], (twos - 1) // 2) + EPSILON), turns / twos
    out[5] = _entropy(rr_s, linked, mean)
    out[6], out[7], out[8] = large / ones, alike / ones, np.log(mean)
    out[9] = np.log(_find(other[:twos], (twos - 1) // 2) + EPSILON)
    out[10] = np.log(np.sqrt(squares / ones) + EPSILON)
    _look_at_spread(rr_s, mean, out)
    out[14], out[15] = _correlate(rr_s, linked, mean)
    out[19] = n / WINDOW
    return KNOWN


@compiled
def _are_multiples(rr_s: Any) -> bool:
    """Whether the intervals are those of a fast regular rhythm of which beats are left out."""
    shortest = _find(rr_s, int(SHORTEST * (rr_s.size - 1)))
    if shortest > FASTEST_S:
        return False
    base, near = 0.0, 0
    for one in rr_s:
        if abs(one - shortest) <= OFF * shortest:
            base, near = base + one, near + 1
    base /= near
    fit = 0
    for one in rr_s:
        times = min(MULTIPLES, max(1, int(one / base + 0.5)))
        fit += abs(one - times * base) <= OFF * base
    return bool(fit >= MOST * rr_s.size)


@compiled
def _look_at_spread(rr_s: Any, mean: float, out: Any) -> None:
    """Fill in what does not depend on the order of the intervals."""
    n, ordered = rr_s.size, rr_s.copy()
    sort(ordered)
    middle = ordered[n // 2]
    out[11] = np.log((ordered[int(0.75 * (n - 1))] - ordered[int(0.25 * (n - 1))]) / mean + EPSILON)
    out[12], out[13] = _densest(ordered, NARROW * mean), _densest(ordered, WIDE * mean)
    out[16] = np.log(_find(np.abs(ordered - middle), n // 2) / middle + EPSILON)
    early, late = 0, 0
    for i in range(n):
        early += ordered[i] < EARLY * middle
        late += ordered[i] > LATE * middle
    out[17], out[18] = early / n, late / n


@compiled
def _densest(ordered: Any, width: float) -> float:
    """Largest share of some ordered values within a range."""
    begin, most = 0, 0
    for i in range(ordered.size):
        while ordered[i] - ordered[begin] > width:
            begin += 1
        most = max(most, i - begin + 1)
    return float(most / ordered.size)


@compiled
def _correlate(rr_s: Any, linked: Any, mean: float) -> tuple[float, float]:
    """Correlation of neighbouring intervals, and of neighbouring differences."""
    both = steps = 0.0
    power = steps_power = LEAST_POWER
    for i in range(1, rr_s.size):
        if not linked[i]:
            continue
        before, after = (rr_s[i - 1] - mean) / mean, (rr_s[i] - mean) / mean
        both += before * after
        power += (before * before + after * after) / 2
        if linked[i - 1]:
            step, earlier = after - before, before - (rr_s[i - 2] - mean) / mean
            steps += step * earlier
            steps_power += (step * step + earlier * earlier) / 2
    return float(both / power), float(steps / steps_power)


@compiled
def _find(values: Any, k: int) -> float:
    """Return the value of rank `k`, from 0; counting those below needs no branches, so it is faster than to sort."""
    low, high = -np.inf, np.inf
    for i in range(values.size):
        value = values[i]
        if not low < value < high:
            continue
        below, equal = 0, 0
        for j in range(values.size):
            below += values[j] < value
            equal += values[j] == value
        if below <= k < below + equal:
            return float(value)
        if below > k:
            high = value
        else:
            low = value
    return np.nan


@compiled
def _entropy(rr_s: Any, linked: Any, mean: float) -> float:
    """Coefficient of sample entropy, m = 1: that of pairs of intervals whose successors match as well."""
    tolerance, n = TOLERANCE_S, 0
    first, second = np.empty(rr_s.size), np.empty(rr_s.size)
    for i in range(rr_s.size - 1):
        first[n], second[n] = rr_s[i], rr_s[i + 1]
        n += linked[i + 1]
    pairs, matches = _count_matches(first[:n], second[:n], tolerance)
    while matches < MATCHES and tolerance <= 8 * TOLERANCE_S:
        tolerance *= 2
        pairs, matches = _count_matches(first[:n], second[:n], tolerance)
    return float(-np.log(max(matches, 0.5) / max(pairs, 1)) + np.log(2 * tolerance) - np.log(mean))


@compiled
def _count_matches(first: Any, second: Any, tolerance: float) -> tuple[int, int]:
    """Pairs of intervals that match, and those of them whose successors do as well; without branches, so in vectors."""
    pairs, matches = 0.0, 0.0
    for apart in range(1, first.size):
        for i in range(first.size - apart):
            is_pair = 1.0 if abs(first[i + apart] - first[i]) <= tolerance else 0.0
            pairs += is_pair
            matches += is_pair if abs(second[i + apart] - second[i]) <= tolerance else 0.0
    return int(pairs), int(matches)


WEIGHTS = (-0.381, 0.13, 0.306, 0.435, 0.094, 1.452, 2.943, -3.049, -3.559, -0.184, -0.194, -0.767)
BIAS = -2.491
"""Logistic regression of the RR intervals alone, on CinC 2017 (A against N and O), CPSC 2021 and MIT-BIH DS1, by
recording alike, those of many minutes eight times; half a unit of the bias is for alerts that begin after 3 beats."""


def _load() -> Network:
    table = np.array([fitted.INPUTS[name] for name in INPUTS])
    of_units = np.array(fitted.HIDDEN), np.array(fitted.OUT)
    return Network(table[:, 0].copy(), table[:, 1].copy(), table[:, 2:].copy(), *of_units, np.array([fitted.BIAS]))


NETWORK = _load()
"""Fitted to all recordings; see `training.af`."""
