"""From the 125 Hz stream to R peaks, and from R peaks to finished heartbeats, live.

Finding the QRS complex follows Pan and Tompkins, "A real-time QRS detection algorithm", IEEE Trans. Biomed. Eng. 32
(1985), with the peak and search-back rules of Hamilton and Tompkins (1986) and Hamilton's open-source detector
(2002); the steps are named where they stand. Departures, each for a reason:

* filters without phase, so that the place of a peak is known exactly;
* a high peak is judged at once, a doubtful one waits for a higher one: that is how P waves are told apart, and why most
  beats are known 0.33 s after their QRS complex;
* medians of the last eight peaks instead of means, so that one artefact does not raise the threshold;
* thresholds are learned from two seconds of signal, and learned again when no QRS complex was found for seven; what
  was seen meanwhile is judged afterwards, so no beat is lost at the start, after lead off or after a change of gain.

The *QRS fiducial* of a beat is its main deflection, up or down: what a cardiologist annotates, and what RR intervals
are measured between. Its *R peak*, where its window begins, is the highest sample within 64 ms of the first strong
lobe of the QRS band (see `_locate_r_peak`): so the PTB and MIT-BIH heartbeat files were cut. The two differ where the
complex points down.

Where it is asked for, a beat also waits for the next one, to tell the interval between them. The wait is bounded: once
`RR_LIMIT` median RR intervals have passed, the next beat cannot matter any more (`monitor.beat`). And it waits for its
surroundings, the window of `monitor.beat2`, 0.6 s after its fiducial. Waiting changes nothing else: the window was cut
when it was complete.

All state is one plain record, `STATE`; the loop over samples is compiled. How the stream was cut into chunks makes no
difference. Times are counted in samples since the stream began. This module knows nothing of devices, models, clocks.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import signal as filters

from monitor import beat2
from monitor.beat import LENGTH, MEDIAN_RR_OVER_S, RATE_HZ, RR_LIMIT, Signal, window_length
from monitor.ecg import pacing, silence
from monitor.ecg.kernels import compiled, copy, median


def _samples(seconds: float) -> int:
    return round(seconds * RATE_HZ)


# Detection. Bands and widths were chosen on MIT-BIH DS1.
BAND_S = 0.016
"""Width of the Mexican hat wavelet that picks the QRS complex out, against P and T waves and baseline wander: its
response is highest at 14 Hz, and it is short, which keeps the delay small."""
BAND_TAPS = 15
SMOOTH = _samples(0.2)
"""Moving average over the rectified band (Pan and Tompkins integrate over 150 ms): a P wave is narrower than a QRS
complex, so a wide average sets it back."""
LAG = BAND_TAPS // 2 + SMOOTH // 2
"""The feature of a sample is known this much later."""
REFRACTORY = _samples(0.2)
"""No two QRS complexes are nearer (Pan and Tompkins)."""
STRONG = 0.5
"""A peak this high, against the QRS level, is judged at once."""
HESITATION = _samples(0.28)
"""Any other waits this long for a higher one: P waves come before their QRS complex."""
OVERRULED = 1.5
"""So much higher is the one that it was waiting for."""
PEAK_SETTLED = _samples(0.096)
"""A maximum of the feature is a peak once this much has passed without a higher one."""
THRESHOLD = 0.35
"""Where between the noise and the QRS level a peak counts (Hamilton: 0.3125)."""
FALL, FALLEN = (_samples(0.6), _samples(0.9)), 0.85
"""Between these times after a QRS complex the threshold falls to this share of it. That it should fall with time is
Christov's idea ("Real time electrocardiogram QRS detection using combined adaptive threshold", BioMed. Eng. OnLine 3,
2004); sooner or lower, more false beats are found in MIT-BIH DS1 and svdb than missed ones."""
T_WAVE = _samples(0.36)
"""A peak this soon after a QRS complex is a T wave if its slope is less than `T_SLOPE` of the complex's, or of what is
usual: after one that is steeper than all others, the next may come early."""
T_SLOPE = 0.5
TALL_T_WAVE = 0.75
"""A T wave so high, against the QRS level, is not counted as noise: the threshold would rise above the QRS complexes.
Chosen on MIT-BIH DS1 and svdb: 0.6 finds one more false beat in svdb, 0.75 and 0.9 none."""
SEARCH_BACK = 1.5
"""After this many RR intervals without a QRS complex, smaller peaks are looked at again."""
SEARCH_BACK_THRESHOLD = 0.6
SEARCH_BACK_SLOPE, SEARCH_BACK_HEIGHT = 0.25, 0.3
"""They need this share of the usual slope, or this one of the QRS level, as broad ventricular ones have: after a QRS
complex that stays out there are P waves and a T wave to be found."""
FAINT_AFTER, FAINT_EVERY = _samples(2.4), 32
"""So long after the last QRS complex, and every so many samples until `RELEARN`, fainter ones of its shape are looked
for: an electrode that comes loose, or a person who turns, takes its height away from one beat to the next."""
FAINT_BEFORE, FAINT_LENGTH, FAINT_SHIFT = _samples(0.072), _samples(0.42), _samples(0.08)
"""Their shape is so much of the signal before the main deflection, and so much in all: T waves belong to it. So far off
the main deflection a peak may be."""
FAINT_LIKENESS, FAINT_UNLIKE = 0.85, 0.5
"""So alike they must be, and what their shape leaves unexplained must be less than this share of what a smooth bump
leaves: P waves go on where ventricles have stopped."""
FAINT_BUMPS_S = (0.02, 0.028, 0.04)
"""Widths of such bumps, standard deviations of a bell."""
FAINT_HEIGHTS, FAINT_SPREAD = (0.05, 0.6), 2.0
"""How high they may be, against the last one, and the highest against the lowest of them."""
FAINT_FEWEST, FAINT_RHYTHM = 2, (0.6, 2.2)
"""There must be so many, at intervals that are such shares of the usual one: the heart went on as it was, and one of
them may be missed."""
LEARN = _samples(2.0)
LEARN_PARTS = 8
CONTRAST = 3.0
"""Thresholds are learned only from signal whose peaks stand out this much over the valleys between them."""
FAST_STEP, FAST_CONTRAST, FAST_EQUAL = 3, 5.0, 0.5
"""Before anything was learned also from signal that bends sharply in each of its parts: the highest bends, over so many
samples, must stand out this much over the median one, and the lowest of the parts reach this share of the highest. So
do QRS complexes of 230/min and more, between which the moving average finds no valleys; neither noise nor flutter."""
FAINTEST = 30.0
"""Learned again, the QRS level falls at most by this factor: what is fainter is the hiss of a silent electrode."""
RELEARN = _samples(7.0)
"""Thresholds are learned again so long after the last QRS complex: once it was reported that there are none
(`monitor.alerts.limits.SHORTEST_SILENCE_S`). After 3 s, 50 to 74 % of hearts that stopped, spliced into MIT-BIH DS1 and
svdb with low noise after them, went on as a fast heart of noise; now 0 to 9 %."""

# Placing the R peak and the window.
R_BAND_HZ = (5.0, 15.0)
"""Pan and Tompkins' pass band, where the lobes of the QRS complex are told apart."""
R_BAND_TAPS = 81
R_SEARCH = _samples(0.096)
R_LOBE = _samples(0.056)
"""A lobe is the largest value within this distance."""
R_LOBE_HEIGHT = 0.55
LOBES = 2 * (R_SEARCH + R_LOBE) + 1
R_REACH = _samples(0.064)
LOCATE_AFTER = R_SEARCH + R_LOBE + R_BAND_TAPS // 2
FIDUCIAL_SEARCH = _samples(0.072)
FIDUCIAL_BASELINE = _samples(0.24)
UPRIGHT = 1.6
"""A QRS complex points down if its negative deflection is this much larger than its positive one."""

RHYTHM = 3
"""RR intervals that must be known before a window can be cut."""
MEDIAN_RR_OVER = _samples(MEDIAN_RR_OVER_S)
LONGEST_RR = _samples(3.0)
"""Longer intervals are pauses or gaps, not part of the rhythm."""
DECIDED_WITHIN = FIDUCIAL_SEARCH + LAG + HESITATION + 1
"""So much signal after its fiducial a QRS complex is known, unless it was searched back for: 99.9 % of those found in
MIT-BIH DS1."""
RECENT = _samples(2.5)
"""Samples that are always at hand."""
KEPT = 1280
"""Samples for which a beat may wait to be finished (10.2 s): four beats of the slowest heart tell its rhythm."""
AROUND = 128
"""More samples than are looked at around a beat."""
BEFORE, AFTER = beat2.BEFORE, beat2.LENGTH - beat2.BEFORE
"""Samples of a beat's surroundings before its fiducial, and from it on."""
BUFFER = 1536
BLOCK = 128
"""Most samples that are filtered at a time."""
CANDIDATES = 32
RR_KEPT = 64
PENDING = 64
"""More than fit into the buffer, a refractory time apart."""
LONGEST = _samples(10.1)
"""Most samples of a stream that are taken in one go."""
MOST_BEATS = LONGEST // REFRACTORY + PENDING + 1
"""More beats than these can finish."""

FEATURES = 256
"""Ring of the latest features, a power of two; holds `LEARN`."""
BANDS = 64
"""Ring of the latest values of the QRS band, a power of two."""
BASELINES, BASELINES_USED = 64, 48
"""Ring of the latest medians of the baseline, and how many of them may be asked for: a block is stored at once."""

STATE = np.dtype(
    [
        ("n", np.int64),  # samples taken
        ("base", np.int64),  # number of the sample at buffer position 0
        ("band", np.float32, BANDS),  # QRS band, ring
        ("band_sum", np.float64),  # of the rectified band under the moving average
        ("feature", np.float32, FEATURES),  # moving average of the rectified band, ring
        ("peak", np.int64),  # highest feature since the last valley, -1 while it falls
        ("peak_height", np.float64),
        ("settled", np.int64),  # a peak that a higher one may still replace, or -1
        ("settled_height", np.float64),
        ("settled_slope", np.float64),
        ("candidates", np.int64),  # peaks since the last QRS complex, none of them taken
        ("candidate", np.int64, CANDIDATES),
        ("candidate_height", np.float64, CANDIDATES),
        ("candidate_slope", np.float64, CANDIDATES),
        ("learned", np.uint8),
        ("learn_at", np.int64),
        ("qrs", np.float64),  # median of the latest heights of QRS complexes
        ("qrs_level", np.float64, 8),
        ("qrs_count", np.int64),
        ("noise", np.float64),  # and of those of other peaks
        ("noise_level", np.float64, 8),
        ("noise_count", np.int64),
        ("last", np.int64),  # the last QRS complex: its centre, slope and fiducial
        ("last_slope", np.float64),
        ("usual_slope", np.float64),  # running mean of those of the latest eight
        ("last_fiducial", np.int64),
        ("last_found", np.int64),  # the same, of a pacemaker's spike without a heartbeat as well, as `last`
        ("last_beat", np.int64),  # centre of the last that was none
        ("pacing", pacing.STATE),
        ("rr_count", np.int64),
        ("rr", np.int32, RR_KEPT),  # ring of RR intervals
        ("rr_end", np.int64, RR_KEPT),  # and of the fiducials that ended them
        ("recent_rr", np.float64),  # median of the last eight RR intervals, NaN while fewer than two are known
        ("median_rr", np.float64),  # over the last 10 s, NaN while fewer than three are known
        ("lobe_level", np.float64),  # running height of the lobes that R peaks were placed by
        ("due", np.int64),  # samples at which the first pending beat may be finished, 0 if that must be found out
        ("pending", np.int64),  # beats whose window is not finished yet
        ("pending_fiducial", np.int64, PENDING),
        ("pending_rr", np.int64, PENDING),
        ("pending_decided", np.int64, PENDING),
        ("relearned", np.uint8),  # whether the next QRS complex is the first since the thresholds were learned
        ("pending_relearned", np.uint8, PENDING),
        ("pending_r_peak", np.int64),  # R peak of the first of them, -1 until it can be placed
        ("pending_median", np.float64),  # median RR interval its window was cut by, NaN until that is complete
        ("last_r_peak", np.int64),
        ("baseline", np.float32, BASELINES),  # ring of medians; see `monitor.ecg.silence`
        ("unseen", np.uint8, BASELINES),  # and of how many of their samples are missing or at the end of the range
        ("pending_moved", np.float32, PENDING),  # how far it moved before a beat that came late
        ("signal", np.float32, BUFFER),  # the last valid sample stands in for a missing one
        ("missing", np.uint8, BUFFER),
    ],
    align=True,
)
"""Everything the segmenter remembers of a stream: 13 kB."""

BEAT = np.dtype(
    [
        ("stream", np.int64),  # position of its stream among those that were pushed
        ("r_peak", np.int64),
        ("fiducial", np.int64),
        ("decided", np.int64),  # samples taken when the QRS complex was found
        ("rr", np.int64),  # samples since the fiducial before, 0 if there was none
        ("next_rr", np.int64),  # samples until the next fiducial, -1 if it is not known, PAUSE if it is long
        ("median_rr", np.float64),  # samples, NaN if the rhythm never became known
        ("length", np.int64),  # samples of signal in the window, cut at 187
        ("known", np.int64),  # samples taken when it was finished
        ("complete", np.uint8),
        ("surrounded", np.uint8),  # whether the stream has all of its surroundings, where they were waited for
        ("relearned", np.uint8),  # the first one by thresholds that were learned again
        ("moved", np.float64),  # if it came late: how far the baseline moved before; see `monitor.ecg.silence`
    ]
)
"""A finished beat, as `_advance` hands it out."""
PAUSE = 0
"""Stands for a next RR interval that is longer than anybody needs to know."""


FOR_NEXT, FOR_SURROUNDINGS = 1, 2
"""What a beat may wait for besides its window, to be added up: the next beat; its surroundings."""


class Room(NamedTuple):
    """Arrays for finished beats."""

    beats: npt.NDArray[np.void]
    """(n,) of `BEAT`"""
    signals: Signal
    """(n, 187) float32, from the R peak on."""
    surroundings: Signal
    """(n, 120) float32, around the fiducial; NaN where samples are missing; no meaning where not waited for."""

    def copy(self, found: int) -> Room:
        """Return a copy of the first of them."""
        return Room(self.beats[:found].copy(), self.signals[:found].copy(), self.surroundings[:found].copy())


def make_room(beats: int) -> Room:
    """Return room for so many finished beats."""
    surroundings = np.zeros((beats, beat2.LENGTH), np.float32)
    return Room(np.zeros(beats, BEAT), np.zeros((beats, LENGTH), np.float32), surroundings)


def segment(
    states: npt.NDArray[np.void],
    rows: npt.NDArray[np.int64],
    samples: Signal,
    ends: npt.NDArray[np.int64],
    begin: int,
    waits: int,
    room: Room,
) -> tuple[int, int]:
    """Cut the next samples of many streams into beats, as long as there is room for these.

    Parameters
    ----------
    states
        (streams,) of `STATE`; changed in place.
    rows
        (k,) which of them, each at most once.
    samples, ends
        Their samples at 125 Hz, one after the other, at most `LONGEST` of each, and where those of each end.
    begin
        Position in `rows` to begin with.
    waits
        For what beats wait: 0, `FOR_NEXT` until the next one is known, or known to be late, `FOR_SURROUNDINGS`, or
        the sum.
    room
        For the beats that are finished now, `MOST_BEATS` or more.

    Returns
    -------
    int, int
        Position in `rows` to go on with, and how many beats are finished.
    """
    return _segment(states, rows, samples, ends, begin, waits, _BAND, _R_BAND, *room)


def finish(states: npt.NDArray[np.void], row: int, waits: int, room: Room) -> int:
    """One of the streams has ended: hand out all that it left unfinished; return how many beats; see `segment`."""
    end = int(states["n"][row])
    silence = np.full(_samples(1.0), np.nan, np.float32)
    rows, ends = np.array([row]), np.array([silence.size])
    _, found = segment(states, rows, silence, ends, 0, waits, room)
    left = room.beats[found:], room.signals[found:], room.surroundings[found:]
    found += _give_up(states, row, _R_BAND, waits, *left)
    beats = room.beats[:found]
    beats["stream"] = 0
    beats["known"] = np.minimum(beats["known"], end)
    beats["surrounded"][beats["fiducial"] + AFTER > end] = False
    beyond = beats["r_peak"] + beats["length"] > end
    beats["complete"][beyond] = False
    beats["length"][beyond] = np.maximum(0, end - beats["r_peak"][beyond])
    return found


def compact(states: npt.NDArray[np.void], row: int) -> int:
    """Forget the samples of a stream that nothing can ask for any more; return how many are left in its buffer."""
    return int(_compact(states, row))


def since_last(states: npt.NDArray[np.void], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Samples since the last QRS complex of some streams, or since their start."""
    return _since_last(states, rows)


def find_stops(
    states: npt.NDArray[np.void],
    rows: npt.NDArray[np.int64],
    ends: npt.NDArray[np.int64],
    others: npt.NDArray[np.int64],
    least: int,
) -> tuple[npt.NDArray[np.int64], bool]:
    """Where to stop in the next samples of many streams to look at what is known then.

    That is where the number of samples is a multiple of `monitor.ecg.silence.LOOK`, more than `least` of which lie
    behind the last QRS complex, or behind the start.

    Parameters
    ----------
    states
        (streams,) of `STATE`.
    rows, ends
        (k,) which of them, and where the samples of each end, one after the other.
    others
        (k,) samples of the stream after which to stop besides; -1: nowhere else.
    least
        Samples.

    Returns
    -------
    sizes
        (k,) how many of its next samples each stream may take.
    is_any
        Whether one of them must stop before its samples end, or for what is in `others`.
    """
    return _find_stops(states, rows, ends, others, least)


def find_silent(
    states: npt.NDArray[np.void], rows: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64], least: int
) -> npt.NDArray[np.int64]:
    """Return the positions in `rows` of the streams whose silence is to be looked at after their last samples."""
    return _find_silent(states, rows, sizes, least)


def decided_silence(state: np.void) -> int:
    """For how many samples there was no QRS complex, as far as it is decided where there are some."""
    return int(state["n"] - max(0, state["last_beat"]) - DECIDED_WITHIN)


def baseline_moved(states: npt.NDArray[np.void], row: int) -> float:
    """How far the baseline of a stream moved since its last QRS complex, or of late; see `monitor.ecg.silence`."""
    return float(_moved_until_now(states, row))


def _mexican_hat(width_s: float, taps: int) -> Signal:
    """Second derivative of a Gaussian, made free of a mean."""
    t = (np.arange(taps) - taps // 2) / RATE_HZ / width_s
    bell = np.exp(-(t**2) / 2)
    hat = (1 - t**2) * bell
    return (hat - bell * hat.sum() / bell.sum()).astype(np.float32)


def _butterworth_both_ways(band_hz: tuple[float, float], taps: int) -> Signal:
    """Impulse response of a second-order Butterworth band-pass run forwards and backwards: zero phase, finite."""
    impulse = np.zeros(2001)
    impulse[1000] = 1
    sections = filters.butter(2, band_hz, "bandpass", fs=RATE_HZ, output="sos")
    response = filters.sosfiltfilt(sections, impulse)
    return response[1000 - taps // 2 : 1001 + taps // 2].astype(np.float32)


_BAND = _mexican_hat(BAND_S, BAND_TAPS)
_R_BAND = _butterworth_both_ways(R_BAND_HZ, R_BAND_TAPS)

_window_length = compiled(window_length)


@compiled
def _segment(
    states: Any,
    rows: Any,
    samples: Signal,
    ends: Any,
    begin: int,
    waits: int,
    band_filter: Signal,
    r_filter: Signal,
    beats: Any,
    signals: Signal,
    surroundings: Signal,
) -> tuple[int, int]:
    band, level = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    found = 0
    for i in range(begin, rows.size):
        if found + MOST_BEATS > beats.size:
            return i, found
        before = found
        start = ends[i - 1] if i > 0 else 0
        found += _push(
            states[rows[i]],
            samples[start : ends[i]],
            waits,
            band_filter,
            r_filter,
            band,
            level,
            beats[found:],
            signals[found:],
            surroundings[found:],
        )
        for k in range(before, found):
            beats[k].stream = i
    return rows.size, found


@compiled
def _push(
    state: Any,
    samples: Signal,
    waits: int,
    band_filter: Signal,
    r_filter: Signal,
    band: Signal,
    level: Signal,
    beats: Any,
    signals: Signal,
    surroundings: Signal,
) -> int:
    """Take the next samples of a stream; return how many beats are done. `band` and `level` are room for a block."""
    if state.n == 0 and samples.size > 0:
        _begin(state, samples[0])
    found, taken = 0, 0
    while taken < samples.size:
        block = _store(state, samples[taken:], band_filter, band)
        taken += block
        _keep_baseline(state, block)
        _rectify(state, band[:block], level)
        room = beats[found:], signals[found:], surroundings[found:]
        found += _follow(state, band[:block], level, waits, r_filter, *room)
    return found


@compiled
def _store(state: Any, samples: Signal, band_filter: Signal, band: Signal) -> int:
    """Store samples in the buffer, as many as it takes at a time, and compute their QRS band."""
    signal, missing = state.signal, state.missing
    if state.n - state.base == BUFFER:
        _make_way(state)
    at = state.n - state.base
    block = min(samples.size, BUFFER - at, BLOCK)
    held = signal[at - 1]
    for i in range(block):
        gone = np.isnan(samples[i])
        if not gone:
            held = samples[i]
        missing[at + i], signal[at + i] = gone, held
    near = signal[at - BAND_TAPS + 1 : at + block]
    for i in range(block):
        value = np.float32(0)
        for k in range(BAND_TAPS):
            value += band_filter[k] * near[i + k]
        band[i] = value
    return block


@compiled
def _keep_baseline(state: Any, block: int) -> None:
    """Keep the medians of a stored block, each of those samples whose numbers begin at a multiple of their count."""
    for k in range(state.n // silence.BLOCK, (state.n + block) // silence.BLOCK):
        at = k * silence.BLOCK - state.base
        state.baseline[k % BASELINES] = median(state.signal[at : at + silence.BLOCK])
        state.unseen[k % BASELINES] = _count_unseen(state, at, at + silence.BLOCK)


@compiled
def _count_unseen(state: Any, begin: int, end: int) -> int:
    """How many samples at positions in the buffer are missing, or at the end of the range."""
    signal, missing, unseen = state.signal, state.missing, 0
    for i in range(begin, end):
        unseen += missing[i] > 0 or abs(signal[i]) >= silence.END_OF_RANGE
    return unseen


@compiled
def _is_unseen(state: Any, until: int) -> bool:
    """Whether more samples than a few are missing between the last QRS complex and a sample not long ago."""
    begin = max(0, state.last_fiducial, until - silence.OVER)
    block = until // silence.BLOCK
    unseen = _count_unseen(state, block * silence.BLOCK - state.base, until - state.base)
    for k in range(max(begin // silence.BLOCK, state.n // silence.BLOCK - BASELINES_USED), block):
        unseen += state.unseen[k % BASELINES]
    return bool(unseen > max(silence.FEW, silence.UNSEEN * (until - begin)))


@compiled
def _moved(state: Any, until: int) -> float:
    """How far the baseline moved before a sample, as far as not too long ago; infinite where it was not seen."""
    if _is_unseen(state, until):
        return np.inf
    first = max(0, -(-(until - silence.OVER) // silence.BLOCK), state.n // silence.BLOCK - BASELINES_USED)
    count = max(0, until // silence.BLOCK - first)
    medians = np.empty(count, np.float32)
    for k in range(count):
        medians[k] = state.baseline[(first + k) % BASELINES]
    return float(silence.measure_movement(medians))


@compiled
def _moved_until_now(states: Any, row: int) -> float:
    return _moved(states[row], states[row].n)


@compiled
def _make_way(state: Any) -> None:
    """Forget the samples at the begin of the buffer that nothing can ask for any more."""
    oldest = min(state.n - RECENT, state.last_fiducial - AROUND)  # fainter ones may be compared with the last
    if state.pending > 0:
        oldest = min(oldest, state.pending_fiducial[0] - AROUND)
    if state.candidates > 0:
        oldest = min(oldest, state.candidate[0] - AROUND)
    gone = max(oldest, state.n - KEPT - AROUND, state.base) - state.base
    for i in range(state.n - state.base - gone):
        state.signal[i], state.missing[i] = state.signal[gone + i], state.missing[gone + i]
    state.base += gone


@compiled
def _rectify(state: Any, block: Signal, level: Signal) -> None:
    """The feature of a block: the moving average over the rectified QRS band."""
    band, total = state.band, state.band_sum
    for i in range(block.size):
        gone = block[i - SMOOTH] if i >= SMOOTH else band[(state.n + i - SMOOTH) & (BANDS - 1)]
        total += abs(block[i]) - abs(gone)
        level[i] = max(0.0, total * (1 / SMOOTH))
    state.band_sum = total


@compiled
def _follow(
    state: Any,
    block: Signal,
    level: Signal,
    waits: int,
    r_filter: Signal,
    beats: Any,
    signals: Signal,
    surroundings: Signal,
) -> int:
    """Find the peaks in a stored block and finish beats, sample by sample."""
    # Each mention of a record's array makes a new view of it: too dear for every sample.
    band, feature = state.band, state.feature
    found = 0
    for i in range(block.size):
        n = state.n
        band[n & (BANDS - 1)], feature[n & (FEATURES - 1)] = block[i], level[i]
        state.n = n + 1
        _find_peaks(state, n - LAG, level[i])
        if n + 1 >= state.learn_at:
            _learn(state)
        if state.candidates > 0 and state.learned:
            _search_back(state)
        while state.pending > 0 and state.n >= state.due:
            state.due = _finished_at(state, r_filter, waits)
            if state.n >= state.due:
                _hand_out(state, waits, beats[found], signals[found], surroundings[found])
                found += 1
    return found


@compiled
def _give_up(
    states: Any, row: int, r_filter: Signal, waits: int, beats: Any, signals: Signal, surroundings: Signal
) -> int:
    """Hand out all pending beats of a stream as they are; return how many."""
    state = states[row]
    found = 0
    while state.pending > 0:
        if state.pending_r_peak < 0:
            state.pending_r_peak = _locate_r_peak(state, r_filter)
        _hand_out(state, waits, beats[found], signals[found], surroundings[found])
        found += 1
    return found


@compiled
def _compact(states: Any, row: int) -> int:
    state = states[row]
    if state.n > 0:
        _make_way(state)
        _clear_unused(state)
    return int(state.n - state.base)


@compiled
def _clear_unused(state: Any) -> None:
    """Set to 0 what is never read again before it is written, so that a saved state is small."""
    state.candidate[state.candidates :] = 0
    state.candidate_height[state.candidates :] = 0
    state.candidate_slope[state.candidates :] = 0
    state.pending_fiducial[state.pending :] = 0
    state.pending_rr[state.pending :] = 0
    state.pending_decided[state.pending :] = 0
    state.pending_relearned[state.pending :] = 0
    state.pending_moved[state.pending :] = 0
    learn_at = max(state.learn_at, state.last + RELEARN + LAG) if state.learned else state.learn_at
    for k in range(max(0, state.n - FEATURES), min(state.n, learn_at - LEARN)):
        state.feature[k & (FEATURES - 1)] = 0


@compiled
def _since_last(states: Any, rows: Any) -> Any:
    since = np.empty(rows.size, np.int64)
    for i in range(rows.size):
        state = states[rows[i]]
        since[i] = state.n - max(0, state.last_beat)
    return since


@compiled
def _find_stops(states: Any, rows: Any, ends: Any, others: Any, least: int) -> tuple[Any, bool]:
    sizes, is_any, start = np.empty(rows.size, np.int64), False, 0
    for i in range(rows.size):
        state = states[rows[i]]
        stop = state.n + ends[i] - start
        start = ends[i]
        if others[i] >= 0:
            stop, is_any = others[i], True
        silent = max(state.n, max(0, state.last_beat) + least) + 1
        look = -(-silent // silence.LOOK) * silence.LOOK
        if look < stop:
            stop, is_any = look, True
        sizes[i] = stop - state.n
    return sizes, is_any


@compiled
def _find_silent(states: Any, rows: Any, sizes: Any, least: int) -> Any:
    silent = np.empty(rows.size, np.int64)
    count = 0
    for i in range(rows.size):
        state = states[rows[i]]
        is_new = sizes[i] > 0 and state.n % silence.LOOK == 0
        if is_new and state.n - max(0, state.last_beat) > least:
            silent[count] = i
            count += 1
    return silent[:count]


@compiled
def _begin(state: Any, first: float) -> None:
    """Before its first sample, the stream is taken to have held that value."""
    past = R_BAND_TAPS
    state.base = -past
    value = np.float32(0) if np.isnan(first) else first
    for i in range(past):
        state.signal[i] = value
        state.missing[i] = True
    state.peak = state.settled = state.pending_r_peak = -1
    state.last = state.last_beat = state.last_fiducial = state.last_found = state.last_r_peak = -BUFFER
    state.recent_rr = state.median_rr = state.pending_median = np.nan
    state.learn_at = LEARN + LAG


@compiled
def _find_peaks(state: Any, now: int, value: float) -> None:
    """Follow the feature; a settled peak is judged at once if it is high, else when no much higher one has followed."""
    peak, height = -1, 0.0
    if state.peak < 0:
        if value > state.peak_height:
            state.peak = now
        state.peak_height = value
    elif value > state.peak_height:
        state.peak, state.peak_height = now, value
    elif value < state.peak_height / 2 or now - state.peak > PEAK_SETTLED:
        peak, height = state.peak, state.peak_height
        state.peak, state.peak_height = -1, value

    if state.settled >= 0:
        higher = state.peak >= 0 and state.peak_height > OVERRULED * state.settled_height
        if higher and not _is_flatter(state, state.peak):
            _learn_noise(state, state.settled_height)
            _remember(state, state.settled, state.settled_height, state.settled_slope)
            state.settled = -1
        elif now - state.settled >= HESITATION:
            _judge_settled(state)
    if peak < 0 or peak - state.last < REFRACTORY:
        return
    if state.settled >= 0:
        near = peak - state.settled < REFRACTORY
        if near and (height <= state.settled_height or _is_flatter(state, peak)):
            return
        if not near:
            _judge_settled(state)
            if peak - state.last < REFRACTORY:
                return
    state.settled, state.settled_height = peak, height
    state.settled_slope = _steepest(state, peak)
    if state.learned and height > STRONG * state.qrs:
        _judge_settled(state)


@compiled
def _is_flatter(state: Any, peak: int) -> bool:
    """Whether a peak, though it is higher than the settled one, is the T wave of that one by its slope."""
    return _steepest(state, peak) < T_SLOPE * state.settled_slope


@compiled
def _judge_settled(state: Any) -> None:
    _judge(state, state.settled, state.settled_height, state.settled_slope)
    state.settled = -1


@compiled
def _steepest(state: Any, centre: int) -> float:
    """The steepest slope of the QRS band within 64 ms of a peak."""
    steepest = 0.0
    for i in range(centre - 8, centre + 9):
        at = i + BAND_TAPS // 2
        steepest = max(steepest, abs(state.band[at & (BANDS - 1)] - state.band[(at - 1) & (BANDS - 1)]))
    return steepest


@compiled
def _threshold(state: Any) -> float:
    return float(state.noise + THRESHOLD * (state.qrs - state.noise))


@compiled
def _falling(since: int) -> float:
    """Share of the threshold that holds so many samples after a QRS complex."""
    over = (since - FALL[0]) / (FALL[1] - FALL[0])
    return 1 - (1 - FALLEN) * min(1.0, max(0.0, over))


@compiled
def _is_t_wave(state: Any, centre: int, slope: float) -> bool:
    return centre - state.last < T_WAVE and slope < T_SLOPE * min(state.last_slope, state.usual_slope)


@compiled
def _judge(state: Any, centre: int, height: float, slope: float) -> None:
    """A QRS complex, or something else to remember."""
    is_t_wave, threshold = _is_t_wave(state, centre, slope), _threshold(state)
    if state.learned and height > _falling(centre - state.last) * threshold and not is_t_wave:
        _accept(state, centre, height, slope)
        state.candidates = 0
        return
    if not (is_t_wave and height > max(threshold, TALL_T_WAVE * state.qrs)):
        _learn_noise(state, height)
    _remember(state, centre, height, slope)


@compiled
def _learn_noise(state: Any, height: float) -> None:
    if state.learned:
        state.noise_level[state.noise_count % 8] = height
        state.noise_count += 1
        state.noise = median(state.noise_level)


@compiled
def _remember(state: Any, centre: int, height: float, slope: float) -> None:
    """No QRS complex: the search back may come back to it."""
    if state.candidates == CANDIDATES:
        for i in range(CANDIDATES - 1):
            _move_candidate(state, i + 1, i)
        state.candidates -= 1
    i = state.candidates
    state.candidate[i], state.candidate_height[i], state.candidate_slope[i] = centre, height, slope
    state.candidates += 1


@compiled
def _move_candidate(state: Any, i: int, j: int) -> None:
    state.candidate[j] = state.candidate[i]
    state.candidate_height[j] = state.candidate_height[i]
    state.candidate_slope[j] = state.candidate_slope[i]


@compiled
def _accept(state: Any, centre: int, height: float, slope: float) -> None:
    """A QRS complex: its height sets the threshold, its fiducial ends an RR interval, and its beat is pending.

    Unless it is one of a row of spikes without heartbeats; see `monitor.ecg.pacing`.
    """
    state.qrs_level[state.qrs_count % 8] = height
    state.qrs_count += 1
    state.qrs = median(state.qrs_level)
    state.last, state.last_slope = centre, slope
    fiducial = max(0, _main_deflection(state, centre))  # before the first sample there is nothing
    if _is_spike(state, fiducial):
        return
    rr = fiducial - state.last_fiducial
    moved = _moved_before(state, fiducial, rr)
    if not 0 < rr <= LONGEST_RR:
        rr = 0
    else:
        state.rr[state.rr_count % RR_KEPT], state.rr_end[state.rr_count % RR_KEPT] = rr, fiducial
        state.rr_count += 1
        _update_rhythm(state)
    state.last_beat, state.last_fiducial = centre, fiducial
    state.usual_slope += (slope - state.usual_slope) / min(8, state.qrs_count)
    i, state.due = state.pending, 0
    state.pending_fiducial[i], state.pending_rr[i] = fiducial, rr
    state.pending_decided[i] = state.n
    state.pending_moved[i] = moved
    state.pending_relearned[i], state.relearned = state.relearned, False
    state.pending += 1


@compiled
def _is_spike(state: Any, fiducial: int) -> bool:
    """Whether it is one of a pacemaker, and no heartbeat, as far as the samples go back that are always at hand."""
    last = state.last_found - state.base if state.last_found >= state.n - RECENT + pacing.BEFORE else -1
    state.last_found = fiducial
    return pacing.observe(state.pacing, state.signal, state.missing, last, fiducial - state.base)


@compiled
def _moved_before(state: Any, fiducial: int, rr: int) -> float:
    """How far the baseline moved before a QRS complex that came late, so that others may be hidden; 0 before others."""
    until = max(0, fiducial - silence.BEFORE)
    if not 0 < rr <= LONGEST_RR:
        return _moved(state, until)
    return np.inf if rr > silence.LATE and _is_unseen(state, until) else 0.0


@compiled
def _main_deflection(state: Any, centre: int) -> int:
    """The highest or lowest sample within 72 ms, seen from the median of the 0.5 s around."""
    at = centre - state.base
    around = state.signal[at - FIDUCIAL_BASELINE : min(at + FIDUCIAL_BASELINE + 1, state.n - state.base)]
    baseline = median(around[::4])
    part = state.signal[at - FIDUCIAL_SEARCH : at + FIDUCIAL_SEARCH + 1]
    high, low = int(np.argmax(part)), int(np.argmin(part))
    upright = UPRIGHT * (part[high] - baseline) >= baseline - part[low]
    return centre - FIDUCIAL_SEARCH + (high if upright else low)


@compiled
def _learn(state: Any) -> None:
    """Set the levels from the last two seconds: QRS = the second highest of eight maxima, noise = the median.

    Whether there are peaks at all is told by the valleys, the second lowest of eight minima: at 200 beats per minute
    the median lies on the flank of a peak.
    Then judge again what was seen since the last QRS complex. Signal without peaks teaches nothing.
    """
    state.learn_at = state.n + LEARN // 2
    if state.learned and state.n - state.last < RELEARN + LAG:
        state.learn_at = state.last + RELEARN + LAG
        return
    latest = np.empty(LEARN, np.float32)
    for i in range(LEARN):
        latest[i] = state.feature[(state.n - LEARN + i) & (FEATURES - 1)]
    part = LEARN // LEARN_PARTS
    maxima, minima = np.empty(LEARN_PARTS, np.float32), np.empty(LEARN_PARTS, np.float32)
    for i in range(LEARN_PARTS):
        maxima[i] = latest[i * part : (i + 1) * part].max()
        minima[i] = latest[i * part : (i + 1) * part].min()
    qrs, valley = np.sort(maxima)[-2], np.sort(minima)[1]
    has_peaks = qrs > CONTRAST * valley or (not state.learned and _is_fast(state))
    if not has_peaks or (state.learned and FAINTEST * qrs < state.qrs):
        return
    noise = min(np.median(latest), qrs / CONTRAST)
    state.qrs_level[:] = state.qrs = qrs
    state.noise_level[:] = state.noise = noise
    state.learned = state.relearned = True
    state.learn_at = state.n + RELEARN + LAG
    seen = state.candidates
    state.candidates = 0
    for i in range(seen):
        centre, height, slope = state.candidate[i], state.candidate_height[i], state.candidate_slope[i]
        if centre - state.last >= REFRACTORY and centre > state.n - KEPT:
            _judge(state, centre, height, slope)


@compiled
def _is_fast(state: Any) -> bool:
    """Whether there are sharp peaks in each part of the last two seconds."""
    at = state.n - LEARN - state.base
    signal = state.signal[at : at + LEARN]
    bends = np.abs(signal[2 * FAST_STEP :] - 2 * signal[FAST_STEP:-FAST_STEP] + signal[: -2 * FAST_STEP])
    part = bends.size // LEARN_PARTS
    maxima = np.empty(LEARN_PARTS, np.float32)
    for i in range(LEARN_PARTS):
        maxima[i] = bends[i * part : (i + 1) * part].max()
    highest, lowest = np.sort(maxima)[-2], np.sort(maxima)[1]
    return bool(lowest > FAST_EQUAL * highest and highest > FAST_CONTRAST * np.median(bends))


@compiled
def _search_back(state: Any) -> None:
    """Long after the last QRS complex, take the highest of the smaller peaks, if it is high enough."""
    if not state.n - 1 - state.last > SEARCH_BACK * state.recent_rr + LAG:
        return
    best, height = -1, SEARCH_BACK_THRESHOLD * _threshold(state)
    for i in range(state.candidates):
        late = state.candidate[i] - state.last >= T_WAVE
        is_steep = state.candidate_slope[i] >= SEARCH_BACK_SLOPE * state.usual_slope
        late = late and (is_steep or state.candidate_height[i] >= SEARCH_BACK_HEIGHT * state.qrs)
        if late and state.candidate[i] > state.n - KEPT and state.candidate_height[i] > height:
            best, height = i, state.candidate_height[i]
    if best < 0:
        since = state.n - state.last - LAG
        if FAINT_AFTER <= since < RELEARN and since % FAINT_EVERY == 0:
            _look_for_faint(state)
        return
    _accept(state, state.candidate[best], height, state.candidate_slope[best])
    kept = 0
    for i in range(best + 1, state.candidates):
        _move_candidate(state, i, kept)
        kept += 1
    state.candidates = kept


@compiled
def _look_for_faint(state: Any) -> None:
    """Take the smaller peaks since the last QRS complex if they are of its shape and come in its rhythm."""
    begin = state.last_fiducial - FAINT_BEFORE - state.base
    if begin < 0:
        return
    template = _free_of_mean(state.signal[begin : begin + FAINT_LENGTH])
    found, heights = np.empty(CANDIDATES, np.int64), np.empty(CANDIDATES)
    count, before, last = 0, state.last_fiducial, state.n - LAG
    for i in range(state.candidates):
        fiducial, height = _find_shape(state, state.candidate[i], template)
        if height == 0 or fiducial - before < REFRACTORY:
            continue
        if not FAINT_RHYTHM[0] * state.recent_rr <= fiducial - before <= FAINT_RHYTHM[1] * state.recent_rr:
            return
        found[count], heights[count], before = i, height, fiducial
        count += 1
    if count < FAINT_FEWEST or last - before > FAINT_RHYTHM[1] * state.recent_rr:
        return
    highest, lowest = heights[:count].max(), heights[:count].min()
    if highest <= FAINT_SPREAD * lowest:
        _take_faint(state, found[:count], (highest + lowest) / 2)


@compiled
def _take_faint(state: Any, found: Any, share: float) -> None:
    """Take candidates as QRS complexes, which have that share of the height of those before."""
    for k in range(8):
        state.qrs_level[k] *= share
    state.usual_slope *= share
    for i in found:
        _accept(state, state.candidate[i], state.candidate_height[i], state.candidate_slope[i])
    kept = 0
    for i in range(found[-1] + 1, state.candidates):
        _move_candidate(state, i, kept)
        kept += 1
    state.candidates = kept


@compiled
def _find_shape(state: Any, centre: int, template: Any) -> tuple[int, float]:
    """Where near a peak the shape of a QRS complex is, and how high against that; 0 if it is not there."""
    best, at, height = 0.0, -1, 0.0
    for fiducial in range(centre - FAINT_SHIFT, centre + FAINT_SHIFT + 1):
        begin = fiducial - FAINT_BEFORE - state.base
        if begin < 0 or begin + template.size > state.n - state.base:
            continue
        likeness, share = _compare_shapes(template, _free_of_mean(state.signal[begin : begin + template.size]))
        if likeness > best:
            best, at, height = likeness, fiducial, share
    if best < FAINT_LIKENESS or not FAINT_HEIGHTS[0] <= height <= FAINT_HEIGHTS[1]:
        return -1, 0.0
    begin = at - FAINT_BEFORE - state.base
    part = _free_of_mean(state.signal[begin : begin + template.size])
    if 1 - best**2 > FAINT_UNLIKE * (1 - _likeness_to_bumps(part) ** 2):
        return -1, 0.0
    return at, height


@compiled
def _likeness_to_bumps(part: Any) -> float:
    """The highest correlation, up or down, with a bell of any of some widths anywhere near the middle."""
    best, bump = 0.0, np.empty(part.size, np.float32)
    for width_s in FAINT_BUMPS_S:
        for shift in range(-FAINT_SHIFT, FAINT_SHIFT + 1):
            for k in range(part.size):
                bump[k] = math.exp(-(((k - FAINT_BEFORE - shift) / RATE_HZ / width_s) ** 2) / 2)
            best = max(best, abs(_compare_shapes(_free_of_mean(bump), part)[0]))
    return best


@compiled
def _free_of_mean(part: Any) -> Any:
    return part - part.mean()


@compiled
def _compare_shapes(template: Any, part: Any) -> tuple[float, float]:
    """Correlation of two shapes without means, and the height of the second against the first."""
    own = squares = both = 0.0
    for k in range(template.size):
        own += template[k] * template[k]
        squares += part[k] * part[k]
        both += template[k] * part[k]
    if own * squares == 0:
        return 0.0, 0.0
    return both / math.sqrt(own * squares), both / own


@compiled
def _update_rhythm(state: Any) -> None:
    """Medians of the latest RR intervals: of the last eight, and of those that ended in the last 10 s."""
    rr = np.empty(RR_KEPT)
    known = min(state.rr_count, RR_KEPT)
    newest = state.rr_end[(state.rr_count - 1) % RR_KEPT]
    recent = 0
    for i in range(known):
        k = (state.rr_count - 1 - i) % RR_KEPT
        rr[i] = state.rr[k]
        if i < RHYTHM or state.rr_end[k] >= newest - MEDIAN_RR_OVER:
            recent = i + 1
    if known >= 2:
        state.recent_rr = median(rr[: min(known, 8)])
    if known >= RHYTHM:
        state.median_rr = median(rr[:recent])


@compiled
def _finished_at(state: Any, r_filter: Signal, waits: int) -> int:
    """How many samples the first pending beat needs until it has all that it waits for, or will never have."""
    placed = state.pending_fiducial[0] + LOCATE_AFTER + 1
    if state.n < placed:
        return placed
    if state.pending_r_peak < 0:
        state.pending_r_peak = _locate_r_peak(state, r_filter)
    latest = state.pending_r_peak + KEPT
    if np.isnan(state.pending_median):
        if np.isnan(state.median_rr):
            return latest
        whole = state.pending_r_peak + min(LENGTH, _window_length(state.median_rr))
        if state.n < whole:
            return whole
        state.pending_median = state.median_rr
    if waits & FOR_SURROUNDINGS and state.n < state.pending_fiducial[0] + AFTER:
        return state.pending_fiducial[0] + AFTER
    if not waits & FOR_NEXT or state.pending > 1:
        return state.n
    return min(latest, int(state.pending_fiducial[0] + _patience(state) + DECIDED_WITHIN) + 1)


@compiled
def _patience(state: Any) -> float:
    """How late after the first pending beat, whose window is complete, the next one still matters."""
    return min(RR_LIMIT * state.pending_median, LONGEST_RR)


@compiled
def _next_rr(state: Any) -> int:
    """From the first pending beat to the next: samples; `PAUSE`; or -1, also where samples of a pause are missing."""
    if state.pending > 1 and state.pending_rr[1] > 0:
        return state.pending_rr[1]
    patience, begin = _patience(state), state.pending_fiducial[0]
    without = (state.pending_fiducial[1] if state.pending > 1 else state.n - DECIDED_WITHIN) - begin
    if not without > patience:
        return -1
    at = begin - state.base
    return -1 if state.missing[at : at + int(patience)].any() else PAUSE


@compiled
def _locate_r_peak(state: Any, r_filter: Signal) -> int:
    """Highest sample within 64 ms of the first lobe of the QRS band that is 0.55 as high as such lobes usually are."""
    centre = state.pending_fiducial[0]
    lobes = np.empty(LOBES, np.float32)
    first = centre - LOBES // 2 - R_BAND_TAPS // 2 - state.base
    for i in range(LOBES):
        near = state.signal[first + i : first + i + R_BAND_TAPS]
        value = np.float32(0)
        for k in range(R_BAND_TAPS):
            value += r_filter[k] * near[k]
        lobes[i] = abs(value)
    inner = lobes[R_LOBE : lobes.size - R_LOBE]
    highest = inner.max()
    level = highest if state.lobe_level == 0 else min(highest, state.lobe_level)
    chosen = int(np.argmax(inner))
    for i in range(inner.size):
        if inner[i] >= R_LOBE_HEIGHT * level and inner[i] == lobes[i : i + 2 * R_LOBE + 1].max():
            chosen = i
            break
    state.lobe_level += (inner[chosen] - state.lobe_level) * (1.0 if state.lobe_level == 0 else 0.125)
    at = centre - R_SEARCH + chosen - state.base
    begin = max(0, at - R_REACH, -state.base)  # never before the stream's first sample
    end = max(begin, at + R_REACH) + 1
    r_peak = begin + int(np.argmax(state.signal[begin:end])) + state.base
    return max(r_peak, state.last_r_peak + 1)


@compiled
def _hand_out(state: Any, waits: int, beat: Any, signal: Signal, surroundings: Signal) -> None:
    """Write the first pending beat to `beat`, `signal` and `surroundings`, and forget it."""
    median_rr = state.median_rr if np.isnan(state.pending_median) else state.pending_median
    whole = LENGTH if np.isnan(median_rr) else min(LENGTH, _window_length(median_rr))
    at = state.pending_r_peak - state.base
    length = min(whole, state.n - state.pending_r_peak)
    beat.complete = length == whole
    beat.r_peak = state.pending_r_peak
    beat.fiducial = state.pending_fiducial[0]
    beat.decided = state.pending_decided[0]
    beat.relearned = state.pending_relearned[0]
    beat.rr = state.pending_rr[0]
    beat.moved = state.pending_moved[0]
    beat.next_rr = _next_rr(state) if waits & FOR_NEXT else -1
    beat.median_rr = median_rr
    beat.length = length
    beat.known = state.n
    copy(state.signal[at : at + length], signal)
    missing = state.missing[at : at + length]
    for i in range(length):
        if missing[i]:
            signal[i] = np.nan
    if waits & FOR_SURROUNDINGS:
        beat.surrounded = _copy_surroundings(state, surroundings)
    state.last_r_peak = state.pending_r_peak
    state.pending -= 1
    state.due = 0
    state.pending_r_peak = -1
    state.pending_median = np.nan
    for i in range(state.pending):
        state.pending_fiducial[i] = state.pending_fiducial[i + 1]
        state.pending_rr[i] = state.pending_rr[i + 1]
        state.pending_decided[i] = state.pending_decided[i + 1]
        state.pending_relearned[i] = state.pending_relearned[i + 1]
        state.pending_moved[i] = state.pending_moved[i + 1]


@compiled
def _copy_surroundings(state: Any, surroundings: Signal) -> bool:
    """Those of the first pending beat, NaN where samples are missing; return whether the stream has all of them."""
    begin = state.pending_fiducial[0] - BEFORE
    for k in range(surroundings.size):
        at = begin + k - state.base
        is_there = begin + k >= 0 and begin + k < state.n and state.missing[at] == 0
        surroundings[k] = state.signal[at] if is_there else np.nan
    return bool(begin >= 0 and begin + surroundings.size <= state.n)
