"""What the beats before a beat say of it: heart rate, how irregular the rhythm is, runs and patterns of ectopic beats.

Of each device the latest beats are remembered: RR interval and class, a row of a table; the loop over beats is
compiled. Detectors get the answers as columns beside the beats (`monitor.alerts.finding.Rhythm`), so that a device
whose rhythm interests nobody costs no Python.

Rules
-----
* Time is that of the main deflection of the QRS complex, as cardiologists measure RR intervals. One that spans a break
  in the stream or an electrode that came off is not known.
* The heart rate is the mean of the last twelve RR intervals, or of four where the last three are longer than 1.2 s: the
  rule that makers of bedside monitors disclose (Philips IntelliVue, Mindray), as IEC 60601-2-27 has them do. A silence
  that may be told as asystole is no interval of a rate: while it lasts there is none, and after it one counts anew.
* An early beat is ectopic in relation to a steady rhythm: from the third of three equal RR intervals on,
  supraventricular beats are a rate, and not counted as ectopic.
* A beat whose signal is bad is no beat to count on: what depends on many of them is not known.

Whether it is atrial fibrillation follows from the latest RR intervals whose ends are no ventricular beats, and where
the usual beat of the wearer is known (`monitor.ecg.wearer`), from numbers about P waves and noise beside them: see
`monitor.fibrillation`. Then fewer intervals are enough, and those beside a beat that was withheld do not count: in
motion they look irregular.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from monitor import wire
from monitor.alerts.finding import WITHHELD, Beats, Floats, Found, Rhythm
from monitor.alerts.limits import SHORTEST_SILENCE_S
from monitor.ecg.kernels import compiled, median
from monitor.ecg.silence import NO_SIGNAL
from monitor.ecg.wearer import TOLD
from monitor.fibrillation import (
    FEATURES,
    FEWEST_RR,
    FEWEST_RR_WITH_P,
    INPUTS,
    KNOWN,
    LONGEST_S,
    NETWORK,
    PLAINLY_REGULAR,
    REGULAR,
    WINDOW,
    answer,
    find_features,
    regress,
)
from monitor.table import Table

UNKNOWN, N, S, V, OTHER, POOR, UNJUDGED, UNSURE, POOR_V = range(9)
"""Classes of beats: nothing remembered; those of ANSI/AAMI EC57 that rhythms are made of; any other; of bad signal; of
good signal, but without a verdict; normal, but perhaps ventricular; of bad signal, but plainly ventricular."""
CODES = {"N": N, "S": S, "V": V}
LABELS = (None, "N", "S", "V", "abnormal", "withheld", "withheld", "N", "withheld")
UNSURE_FROM = 0.5
"""Share of the threshold from which on the probability of being ventricular makes a normal beat unsure."""
PLAINLY_V = 0.75
"""Probability of being ventricular, the threshold at least, from which on a beat of bad signal is plainly so."""

KEPT = 96
"""Beats that are remembered: those of an alert's `RECENT_S` and all that one part of a stream may bring after them."""
RECENT_S = 10.0
MOST_RECENT = 40
OFFS = 8
"""Times at which the electrode came off that are remembered: beats from before may be finished later."""
TIMES = 16
"""Ectopic beats of each class whose times are remembered: enough to count them up to so many a minute."""
MINUTE_S = 60.0

RATE_OVER, SLOW_RATE_OVER, SLOW_S = 12, 4, 1.2
"""RR intervals of the mean heart rate; of a slow heart, whose last three are longer than this."""
FEWEST = 3
"""RR intervals before there is a heart rate, none of which is longer than `SHORTEST_SILENCE_S`."""
STEADY_OVER, STEADY_POOR, SLOW_POOR, PAUSE_S = 8, 1, 2, 3.0
"""RR intervals of the rate that limits are put to, unless the heart is slow, how many of their beats may be of bad
signal, and of four of a slow heart, which noise makes faster; and how long an interval may be: a pause is no slow
heart."""
SLOW_WITHIN = 1.5
"""Unless the latest four are all so long: the longest of them at most so many times as long as the shortest. So with
three that are no pauses, each longer than `SLOW_S`: they are a slow heart, too."""
FIT_OVER, FIT = 8, 5
"""A silence is believed if so many of so many beats before it were judged: where electrodes are being put on, or the
signal is bad, nothing that was found need have been a beat."""
BRIDGED_BPM, BRIDGED_AMONG, COUNTED_AMONG = 100.0, 3, 4
"""A single beat of bad signal does not end a run of ventricular beats, nor does a single unsure one, if the two
intervals around it are so short and there are so many ventricular ones. For every so many of these, one unsure beat
counts with the run."""
LONG_RUN = 5
"""A run of ventricular beats is unlike what was there before, so the gate may withhold some of it as noise. What is
plainly ventricular of that counts with a run that is so long with it, if any of it was judged, and most beats before
it. With those of three and four it finds nearly as many false runs as true ones (MIT-BIH DS1, svdb)."""
STEADY_RUN, SAME_RATE, RATE_FOLLOWS = 10, 0.1, 16
"""A run of so many goes on while the rate stays as it was, whatever the beats are called: what stays becomes usual for
the wearer, and is called normal after a minute or two. The rate is followed as a mean of so many intervals, and is the
same within this share of it."""
BEFORE_RUN, SUDDEN = 8, 0.15
"""A run that goes on with the median of so many RR intervals before it, none of its own differing by more than this
share of it, is none that counts: a ventricular tachycardia begins with an early beat, or at another rate. Beats that
look ventricular at an unchanged rate are conducted aberrantly, or distorted by motion."""
RUN_RATE_OVER = 4
"""RR intervals that the rate of a run is a mean of: of its latest five beats, for it may begin slowly."""
EQUAL_RUN, EQUAL = 3, 0.1
"""RR intervals in a row that make a rate, none of which differs from the latest by more than this share of it."""
CYCLES = 3
"""Ventricular beats that make a bigeminy or trigeminy, with those between them."""

LOOK_BACK = 45
"""Beats among which the RR intervals must lie that tell atrial fibrillation."""
LOOK_EVERY = 2
"""At every second beat: in between, what was found holds. It costs as much as all else that is told of a rhythm."""
SHARES_OVER = 32
"""Beats of which it is told how many were withheld, ventricular, supraventricular."""
MOST_WITHHELD = 1 / 3
"""Where more of them were, RR intervals alone tell no fibrillation. Chosen on CinC 2017 and on motion artefacts."""

STATE = np.dtype(
    [
        ("begun_s", np.float64),  # when the stretch of the latest beat began
        ("qrs_s", np.float64),  # the latest beat
        ("off_s", np.float64, OFFS),  # ring: when the electrode came off
        ("offs", np.int64),
        ("count", np.int64),  # beats so far
        ("rr_ms", np.uint16, KEPT),  # ring; 0 where not known
        ("code", np.uint8, KEPT),
        ("poor", np.int64),  # of the latest beats in a row
        ("ventricular_s", np.float64, TIMES),  # rings of times
        ("ventricular", np.int64),
        ("supraventricular_s", np.float64, TIMES),
        ("supraventricular", np.int64),
        ("p_wave", np.float32, TOLD),  # see `monitor.ecg.wearer.observe_p_waves`
        ("has_p_wave", np.int32),  # whether that is known
        ("fibrillation", np.float64),  # log odds, when they were last looked at
        ("run_rr_s", np.float64),  # RR interval of the latest run of ventricular beats that was steady, as it went on
    ],
    align=True,
)
"""What is remembered of a device: 0.7 kB, all of it zero at the start."""

LONGEST_MS = 65_535
SET_BACK_S = 15.0
"""As in `monitor.alerts.episode`: a beat so long before the latest one says that the clock was set back."""


class Seen(NamedTuple):
    """A moment, and what is remembered of the beats before it; see `monitor.alerts.finding.Moment`."""

    what: str
    time_s: float
    seq: int
    completed_s: float
    silence_s: float
    is_doubtful: bool
    rate_bpm: float
    is_fit: bool
    recent: Callable[[], list[wire.RecentBeat]]
    """The beats before: looked up where an alert says them."""

    def context(self) -> dict[str, Any]:
        """See `monitor.alerts.finding.Moment`."""
        return describe(self.rate_bpm, self.recent())


class Rhythms:
    """What is remembered of all devices' beats.

    Parameters
    ----------
    waits_for_p_waves
        Whether nothing is said of atrial fibrillation before P waves are known of, as where a class model judges.
        Else RR intervals alone tell it until then: in motion, these are often wrong.
    """

    def __init__(self, waits_for_p_waves: bool = False) -> None:
        self._table = Table(STATE)
        self._waits_for_p_waves = waits_for_p_waves

    def __contains__(self, device: Hashable) -> bool:
        return device in self._table

    def follow(self, beats: Beats) -> Rhythm:
        """Take beats, in order per device; return what those before each say of it."""
        rows = self._table.find_all(beats.devices)[beats.streams]
        columns = Rhythm(*np.zeros((len(Rhythm._fields), rows.size)))
        _follow(self._table.states, rows, _given(beats), NETWORK, self._waits_for_p_waves, columns)
        return columns

    def measure(self, beats: Beats) -> Floats:
        """Take beats, in order per device; return what atrial fibrillation is told by at each.

        Returns
        -------
        ndarray
            (n, inputs) `monitor.fibrillation.INPUTS`; NaN where too little is known, and `REGULAR` alone where the
            rhythm is plainly regular.
        """
        rows = self._table.find_all(beats.devices)[beats.streams]
        numbers = np.full((rows.size, len(INPUTS)), np.nan)
        _measure(self._table.states, rows, _given(beats), numbers)
        return numbers

    def observe(self, device: Hashable, moment: Found) -> Seen:
        """Return a moment with what is known of the device then; where the electrode came off, the rhythm breaks."""
        row = self._table.find(device)
        states = self._table.states
        number, qrs_s = int(states["count"][row]), float(states["qrs_s"][row])
        recent = partial(self.recent, device, number, qrs_s, moment.time_s)
        seen = Seen(
            moment.what, moment.time_s, moment.seq, moment.completed_s, moment.silence_s, moment.is_doubtful,
            np.nan if moment.silence_s else _rate(states, row), _is_fit(states, row), recent,
        )  # fmt: skip
        if moment.what == "lead-off":
            state = states[row]
            state["off_s"][state["offs"] % OFFS] = moment.time_s
            state["offs"] += 1
        return seen

    def recent(self, device: Hashable, number: int, qrs_s: float, until_s: float) -> list[wire.RecentBeat]:
        """Return the latest beats up to one, `RECENT_S` before a time at most, as far as they are of one stretch.

        Parameters
        ----------
        device
            Whose beats.
        number, qrs_s
            The last of them: how many beats there were with it, and its time.
        until_s
            The time.
        """
        row, at_s = self._table.states[self._table.find(device)], qrs_s
        codes, rr_ms = row["code"].tolist(), row["rr_ms"].tolist()
        beats: list[wire.RecentBeat] = []
        for k in range(number - 1, max(0, int(row["count"]) - KEPT) - 1, -1):
            if at_s < until_s - RECENT_S or len(beats) == MOST_RECENT:
                break
            beats.append(wire.RecentBeat(qrs_s=round(at_s, 3), label=LABELS[codes[k % KEPT]]))
            if not rr_ms[k % KEPT]:
                break
            at_s -= rr_ms[k % KEPT] / 1000
        return beats[::-1]

    def summarise(self, devices: Sequence[Hashable]) -> tuple[npt.NDArray[np.int64], Floats, Floats]:
        """Return the heart rate of devices, and the share of the beats of the last minute that were judged.

        Returns
        -------
        rows, rate_bpm, judged
            (n,) each: rows in this table, which each device must have; and NaN where not known. Of more than `KEPT`
            beats a minute, the latest are looked at.
        """
        rows = self._table.find_all(devices)
        rate_bpm, judged = np.full(rows.size, np.nan), np.full(rows.size, np.nan)
        _summarise(self._table.states, rows, rate_bpm, judged)
        return rows, rate_bpm, judged

    def irregularity(self, device: Hashable) -> float:
        """Return the log odds of atrial fibrillation by the latest RR intervals alone; NaN if too few are known."""
        return float(_irregularity(self._table.states[self._table.find(device)], *_make_room()))

    def drop(self, device: Hashable) -> None:
        """Forget a device."""
        self._table.drop(device)

    def save(self, device: Hashable) -> bytes:
        """All that is remembered of a device; see `monitor.table`."""
        return self._table.save(device)

    def restore(self, device: Hashable, saved: bytes) -> None:
        """Go on where a device was saved; see `monitor.table`."""
        self._table.restore(device, saved)


def warm_up() -> None:
    """Load the compiled loops, or compile them if that was never done here."""
    table, none = np.zeros(1, STATE), np.zeros(0)
    columns = Rhythm(*(np.zeros(0) for _ in Rhythm._fields))
    rows, codes, p_wave = np.zeros(0, np.int64), np.zeros(0, np.uint8), np.zeros((0, TOLD))
    _find_codes(_codes_of(("N",)), rows, (none, 0.0), np.zeros(0, np.bool_), codes, codes)
    _follow(table, rows, (none, none, none, codes, codes, p_wave), NETWORK, False, columns)
    _rate(table, 0)
    _is_fit(table, 0)
    _summarise(table, np.zeros(1, np.int64), np.zeros(1), np.zeros(1))
    _irregularity(table[0], *_make_room())


def describe(rate_bpm: float, recent: list[wire.RecentBeat]) -> dict[str, Any]:
    """What an alert says of the heart: fields of `wire.Alert`."""
    return {"heart_rate_bpm": None if np.isnan(rate_bpm) else round(rate_bpm, 1), "recent": recent}


def _given(beats: Beats) -> tuple[Any, ...]:
    """What the loops see of beats."""
    return beats.begun_s, beats.qrs_s, beats.rr_s, beats.doubtful, _codes(beats), beats.p_wave


def _codes(beats: Beats) -> npt.NDArray[np.uint8]:
    """(n,) class of each beat: the model's first is the normal one, whatever its name."""
    codes = np.empty(beats.verdicts.size, np.uint8)
    ventricular = beats.ventricular, beats.threshold
    of_classes = _codes_of(tuple(beats.classes))
    _find_codes(of_classes, beats.columns, ventricular, beats.is_poor, beats.verdicts, codes)
    return codes


@lru_cache(maxsize=64)
def _codes_of(classes: tuple[str, ...]) -> npt.NDArray[np.uint8]:
    """Classes of beats by those of a model."""
    return np.array([N, *(CODES.get(name, OTHER) for name in classes[1:])], np.uint8)


@compiled
def _find_codes(of_classes: Any, columns: Any, ventricular: Any, is_poor: Any, verdicts: Any, codes: Any) -> None:
    probability, threshold = ventricular
    for i in range(codes.size):
        if verdicts[i] != WITHHELD:
            codes[i] = of_classes[columns[i]]
            if codes[i] == N and probability[i] >= UNSURE_FROM * threshold:
                codes[i] = UNSURE
        elif is_poor[i]:
            codes[i] = POOR_V if probability[i] >= max(threshold, PLAINLY_V) else POOR
        else:
            codes[i] = UNJUDGED


@compiled
def _make_room() -> tuple[Any, Any, Any]:
    """Room for RR intervals, whether each follows the one before, and all that is told by them."""
    return np.empty(WINDOW), np.empty(WINDOW, np.bool_), np.empty(len(INPUTS))


@compiled
def _measure(table: Any, rows: Any, given: Any, out: Any) -> None:
    begun_s, qrs_s, rr_s, doubtful, codes, p_wave = given
    window, linked, numbers = _make_room()
    for i in range(rows.size):
        state = table[rows[i]]
        _take(state, begun_s[i], qrs_s[i], rr_s[i], codes[i], doubtful[i])
        _note_p_waves(state, p_wave[i])
        known = _describe_rhythm(state, window, linked, numbers) if state.has_p_wave else 0
        if known == KNOWN:
            out[i] = numbers
        elif known == PLAINLY_REGULAR:
            out[i] = REGULAR


@compiled
def _note_p_waves(state: Any, p_wave: Any) -> None:
    if not np.isnan(p_wave[0]):
        state.p_wave[:], state.has_p_wave = p_wave, 1


@compiled
def _follow(table: Any, rows: Any, given: Any, network: Any, waits_for_p_waves: bool, out: Any) -> None:
    begun_s, qrs_s, rr_s, doubtful, codes, p_wave = given
    window, linked, numbers = _make_room()
    for i in range(rows.size):
        state = table[rows[i]]
        interval_s = _take(state, begun_s[i], qrs_s[i], rr_s[i], codes[i], doubtful[i])
        before = _code(state, 1)
        is_sure = interval_s > 0 and not _is_poor(codes[i]) and not _is_poor(before)
        if interval_s > LONGEST_S and (doubtful[i] or not _were_judged(state, 1)):
            is_sure = False
        out.number[i] = state.count
        out.interval_s[i] = interval_s if is_sure else np.nan
        out.rate_bpm[i] = _mean_rate(state)
        out.steady_bpm[i], out.spread[i] = _steady_rate(state)
        _note_p_waves(state, p_wave[i])
        if state.count % LOOK_EVERY == 1:
            if state.has_p_wave:
                state.fibrillation = _fibrillation(state, window, linked, numbers, network)
            else:
                state.fibrillation = np.nan if waits_for_p_waves else _irregularity(state, window, linked, numbers)
        out.fibrillation[i] = state.fibrillation
        out.run[i], out.run_bpm[i], first = _run(state, 0)
        if out.run[i] > 2 and _is_as_before(state, first):
            out.run_bpm[i] = np.nan
        out.goes_on[i] = _goes_on(state, out.run[i], out.run_bpm[i])
        out.ended[i] = _ended(state)
        out.cycle[i] = _cycle(state)
        if codes[i] == V:
            out.ventricular[i] = _in_a_minute(state.ventricular_s, state.ventricular, qrs_s[i])
        out.is_rate[i] = _is_rate(state)
        out.unjudged_s[i] = _unjudged_s(state)
        if codes[i] == S and not _is_rate(state):
            out.supraventricular[i] = _in_a_minute(state.supraventricular_s, state.supraventricular, qrs_s[i])


@compiled
def _take(state: Any, begun_s: float, qrs_s: float, rr_s: float, code: int, doubtful: int) -> float:
    """Remember a beat; return the RR interval before it, 0 if that is not known, or others may be hidden in it."""
    if qrs_s < state.qrs_s - SET_BACK_S:
        state.ventricular = state.supraventricular = 0
    interval_s = 0.0
    is_new = state.count == 0 or begun_s != state.begun_s
    if not is_new and not (doubtful and rr_s > 0) and not _came_off(state, state.qrs_s, qrs_s):
        interval_s = rr_s if rr_s > 0 else max(0.0, qrs_s - state.qrs_s)
    at = state.count % KEPT
    known_s = 0.0 if doubtful == NO_SIGNAL and interval_s > PAUSE_S else interval_s
    state.rr_ms[at], state.code[at] = int(min(LONGEST_MS, 1000 * known_s + 0.5)), code
    state.count += 1
    state.begun_s, state.qrs_s = begun_s, qrs_s
    if code == V:
        state.ventricular_s[state.ventricular % TIMES] = qrs_s
        state.ventricular += 1
    if code == S and not _is_rate(state):
        state.supraventricular_s[state.supraventricular % TIMES] = qrs_s
        state.supraventricular += 1
    return interval_s


@compiled
def _is_rate(state: Any) -> bool:
    """Whether the latest RR intervals are equal."""
    latest_s, unequal = _rr_s(state, 0), 0
    for back in range(EQUAL_RUN):
        unequal += abs(_rr_s(state, back) - latest_s) > EQUAL * latest_s
    return latest_s > 0 and unequal == 0


@compiled
def _unjudged_s(state: Any) -> float:
    """Seconds since the first of the latest beats in a row that were not judged."""
    total = 0.0
    for back in range(min(state.count, KEPT)):
        if not _is_withheld(_code(state, back)):
            break
        total += _rr_s(state, back)
        if _rr_s(state, back) == 0:
            break
    return total


@compiled
def _came_off(state: Any, from_s: float, until_s: float) -> bool:
    """Whether the electrode came off between two times."""
    found = 0
    for k in range(min(state.offs, OFFS)):
        found += from_s <= state.off_s[k] < until_s
    return found > 0


@compiled
def _summarise(table: Any, rows: Any, rate_bpm: Any, judged: Any) -> None:
    for i in range(rows.size):
        state = table[rows[i]]
        rate_bpm[i] = _mean_rate(state)
        beats, good, seconds = 0, 0, 0.0
        for back in range(min(state.count, KEPT)):
            beats += 1
            good += not _is_withheld(_code(state, back))
            rr_s = _rr_s(state, back)
            seconds += rr_s
            if rr_s == 0 or seconds > MINUTE_S:
                break
        if beats > 0:
            judged[i] = good / beats


@compiled
def _code(state: Any, back: int) -> int:
    """Class of a beat so many before the latest."""
    return int(state.code[(state.count - 1 - back) % KEPT]) if back < min(state.count, KEPT) else UNKNOWN


@compiled
def _is_poor(code: int) -> bool:
    return code in (POOR, POOR_V)


@compiled
def _is_withheld(code: int) -> bool:
    return code in (POOR, UNJUDGED, POOR_V)


@compiled
def _rr_s(state: Any, back: int) -> float:
    """RR interval before it, 0 if that is not known."""
    return state.rr_ms[(state.count - 1 - back) % KEPT] / 1000 if back < min(state.count, KEPT) else 0.0


@compiled
def _mean_rate(state: Any) -> float:
    """Heart rate as bedside monitors show it, NaN while that is not known."""
    total, known, slow = 0.0, 0, True
    for back in range(RATE_OVER):
        rr_s = _rr_s(state, back)
        if rr_s == 0 or rr_s > SHORTEST_SILENCE_S or (slow and known == SLOW_RATE_OVER):
            break
        total += rr_s
        known += 1
        slow = slow and (known > 3 or rr_s > SLOW_S)
    return 60 * known / total if known >= FEWEST else np.nan


@compiled
def _steady_rate(state: Any) -> tuple[float, float]:
    """Mean rate of the latest beats, NaN where too many of them are no beats to count on, or one comes after a pause.

    Where all intervals are as long as the longest, those are no pauses: the heart is that slow. Beside it, how many
    times as long as the shortest of the intervals the longest is.
    """
    total, poor, shortest, longest = 0.0, 0, np.inf, 0.0
    for back in range(STEADY_OVER):
        rr_s = _rr_s(state, back)
        poor += _is_poor(_code(state, back))
        shortest, longest = min(shortest, rr_s), max(longest, rr_s)
        total += rr_s
        is_slow = total > (back + 1) * SLOW_S and back < SLOW_RATE_OVER
        if rr_s == 0 or poor > (SLOW_POOR if is_slow else STEADY_POOR):
            return np.nan, np.inf
        are_three = back + 1 == EQUAL_RUN and poor == 0 and longest <= PAUSE_S
        if are_three and is_slow and _is_slow(state, shortest, longest):
            return 60 * EQUAL_RUN / total, longest / shortest
        if back + 1 == SLOW_RATE_OVER:
            if longest > PAUSE_S and longest > SLOW_WITHIN * shortest:
                return np.nan, np.inf
            if is_slow:
                return 60 * SLOW_RATE_OVER / total, longest / shortest
    return (60 * STEADY_OVER / total if longest <= PAUSE_S else np.nan), longest / shortest


@compiled
def _is_slow(state: Any, shortest: float, longest: float) -> bool:
    """Whether three long RR intervals are a slow heart, rather than a pause beside others."""
    return _is_rate(state) or (shortest > SLOW_S and longest <= SLOW_WITHIN * shortest)


@compiled
def _rate(table: Any, row: int) -> float:
    return _mean_rate(table[row])


@compiled
def _is_fit(table: Any, row: int) -> bool:
    return _were_judged(table[row], 0)


@compiled
def _were_judged(state: Any, skipped: int) -> bool:
    """Whether most of the latest beats were, but for those skipped."""
    judged = 0
    for back in range(skipped, FIT_OVER + skipped):
        judged += _code(state, back) in (N, S, V, OTHER, UNSURE)
    return judged >= FIT


@compiled
def _run(state: Any, back: int) -> tuple[int, float, int]:
    """Ventricular beats in a row up to a beat, with those that count, their latest mean rate, and which was first."""
    beats, rate_bpm, judged, first = _count_run(state, back, True)
    is_long = beats >= LONG_RUN and judged > 0 and _were_judged(state, first + 1)
    if judged < beats and not is_long:
        beats, rate_bpm, judged, first = _count_run(state, back, False)
    return beats, rate_bpm, first


@compiled
def _is_as_before(state: Any, first: int) -> bool:
    """Whether the intervals of a run up to the latest beat are those that were there before."""
    before_s, ventricular = np.empty(BEFORE_RUN), 0
    for k in range(BEFORE_RUN):
        before_s[k] = _rr_s(state, first + 1 + k)
        ventricular += _code(state, first + 1 + k) == V
    if ventricular > 1 or before_s.min() == 0:
        return False
    usual_s, most_off_s = median(before_s), 0.0
    for back in range(first + 1):
        most_off_s = max(most_off_s, abs(_rr_s(state, back) - usual_s))
    return bool(most_off_s <= SUDDEN * usual_s)


@compiled
def _count_run(state: Any, back: int, with_poor: bool) -> tuple[int, float, int, int]:
    """The same, with or without beats of bad signal that are plainly so; how many were judged; which was first."""
    beats, strict, unsure, poor, intervals, seconds, first = 0, 0, 0, 0, 0, 0.0, back
    bridge, open_intervals, open_s = UNKNOWN, 0, 0.0  # what lies before the earliest ventricular beat so far
    for k in range(back, KEPT):
        code, rr_s = _code(state, k), _rr_s(state, k)
        if code == V or (with_poor and code == POOR_V):
            beats, unsure, poor, first = beats + 1, unsure + (bridge == UNSURE), poor + (code == POOR_V), k
            if intervals < RUN_RATE_OVER:
                intervals, seconds = intervals + open_intervals, seconds + open_s
            bridge, open_intervals, open_s = UNKNOWN, 0, 0.0
        elif beats > 0 and bridge == UNKNOWN and _is_bridge(code, open_s + rr_s):
            bridge = code
            strict = beats if code == UNSURE and strict == 0 else strict
        else:
            break
        open_intervals, open_s = open_intervals + 1, open_s + rr_s
        if rr_s == 0:
            break
    rate_bpm = 60 * intervals / seconds if seconds > 0 else np.nan
    if beats < BRIDGED_AMONG and strict > 0:
        return strict, rate_bpm, strict, first
    return beats + min(unsure, beats // COUNTED_AMONG), rate_bpm, beats - poor, first


@compiled
def _goes_on(state: Any, run: float, run_bpm: float) -> bool:
    """Whether the rate is still that of the latest run of ventricular beats that was long."""
    if run >= STEADY_RUN and not np.isnan(run_bpm):
        state.run_rr_s = 60 / run_bpm
        return True
    away_s = _rr_s(state, 0) - state.run_rr_s
    if not _is_rate(state) or abs(away_s) > SAME_RATE * state.run_rr_s:
        return False
    state.run_rr_s += away_s / RATE_FOLLOWS
    return True


@compiled
def _is_bridge(code: int, around_s: float) -> bool:
    """Whether a run may go on over a beat, by its class and the two intervals around it."""
    return _is_poor(code) or (code == UNSURE and around_s <= 120 / BRIDGED_BPM)


@compiled
def _ended(state: Any) -> int:
    """How long a run was that the latest beat ended, or the one before it, which might have been bridged."""
    code, before = _code(state, 0), _code(state, 1)
    if code == V or _is_poor(code) or (code == UNSURE and before == V):
        return 0
    return _run(state, 2 if before in (POOR, UNSURE, POOR_V) else 1)[0]


@compiled
def _cycle(state: Any) -> int:
    """2 if the latest beat is the last of a bigeminy, 3 of a trigeminy, else 0."""
    if _code(state, 0) != V:
        return 0
    for cycle in (2, 3):
        fits = True
        for back in range((CYCLES - 1) * cycle + cycle):
            code = _code(state, back)
            fits = fits and (code == V if back % cycle == 0 else code in (N, S, OTHER, UNSURE))
        if fits:
            return cycle
    return 0


@compiled
def _in_a_minute(times_s: Any, count: int, now_s: float) -> int:
    """How many of the remembered times lie in the last minute."""
    found = 0
    for k in range(min(count, TIMES)):
        found += now_s - MINUTE_S < times_s[k] <= now_s
    return found


@compiled
def _fibrillation(state: Any, window: Any, linked: Any, numbers: Any, network: Any) -> float:
    """Log odds of atrial fibrillation, NaN while too little is known."""
    known = _describe_rhythm(state, window, linked, numbers)
    if known == KNOWN:
        return answer(numbers, network)
    return REGULAR if known == PLAINLY_REGULAR else np.nan


@compiled
def _describe_rhythm(state: Any, window: Any, linked: Any, numbers: Any) -> int:
    """Fill in `monitor.fibrillation.INPUTS` where that is of use; return what `find_features` does."""
    n = _collect(state, window, linked, True)
    known = find_features(window[:n], linked[:n], numbers) if n >= FEWEST_RR_WITH_P else 0
    if known != KNOWN:
        return known
    numbers[FEATURES : FEATURES + TOLD] = state.p_wave
    codes, beats = state.code, min(state.count, SHARES_OVER)
    withheld, ventricular, supraventricular = 0, 0, 0
    for back in range(beats):
        code = codes[(state.count - 1 - back) % KEPT]
        withheld += _is_withheld(code)
        ventricular += code == V
        supraventricular += code == S
    at = FEATURES + TOLD
    numbers[at], numbers[at + 1], numbers[at + 2] = withheld / beats, ventricular / beats, supraventricular / beats
    return known


@compiled
def _irregularity(state: Any, window: Any, linked: Any, numbers: Any) -> float:
    """The same log odds by the RR intervals alone; NaN where many beats are withheld: noise is irregular, too."""
    beats, withheld = min(state.count, SHARES_OVER), 0
    for back in range(beats):
        withheld += _is_withheld(_code(state, back))
    if withheld > MOST_WITHHELD * beats:
        return np.nan
    n = _collect(state, window, linked, False)
    known = find_features(window[:n], linked[:n], numbers) if n >= FEWEST_RR else 0
    if known == KNOWN:
        return regress(numbers)
    return REGULAR if known == PLAINLY_REGULAR else np.nan


@compiled
def _collect(state: Any, window: Any, linked: Any, judged: bool) -> int:
    """Latest RR intervals between beats that are not ventricular, oldest first; return how many.

    `linked` says of each whether it follows the one before without a beat between; `judged`, whether beats that were
    withheld do not count either.
    """
    # Each mention of a record's array makes a new view of it: too dear for every interval.
    codes, intervals_ms, count = state.code, state.rr_ms, state.count
    n, follows, code = 0, False, _code(state, 0)
    for back in range(min(LOOK_BACK, count)):
        if n == WINDOW:
            break
        at = (count - 1 - back) % KEPT
        before = codes[(at - 1) % KEPT] if back + 1 < min(count, KEPT) else UNKNOWN
        rr_s = intervals_ms[at] / 1000
        fits = 0 < rr_s <= LONGEST_S and code != V and before != V
        fits = fits and not (judged and (_is_withheld(code) or _is_withheld(before)))
        if fits:
            window[n], linked[n] = rr_s, False
            if n > 0:
                linked[n - 1] = follows
            n += 1
        follows, code = fits, before
    for k in range(n // 2):
        window[k], window[n - 1 - k] = window[n - 1 - k], window[k]
        linked[k], linked[n - 1 - k] = linked[n - 1 - k], linked[k]
    return n
