"""From single beats to a continuous signal without steps, at any rate.

A beat window starts at an R peak and already holds the next one, so two consecutive windows share the part from the
second R peak to the end of the first window. Rules of the chain:

* The next beat is one whose head resembles the tail of the previous beat and whose window is about as long. In PTB
  files that is mostly the true neighbour from the same record, which fits exactly; nothing relies on it.
* A window is scaled to 0..1 by its own range, so its gain and offset are free: they are fitted to the previous
  tail, and slowly return to an R peak of 1 mV over a baseline of 0. So the amplitude stays bounded.
* In the shared part one beat fades into the other. R peaks stay where they are, on whole samples of 125 Hz.

Streams are infinite generators of `Stretch`es, seeded, with bounded memory. Knows nothing about devices or packets.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monitor import beat
from simulator.beats import Beats, Label, next_r_peak

Signal = npt.NDArray[np.float64]
"""(n,) microvolts."""

R_PEAK_UV = 1000.0
"""Normal height of an R peak over the baseline."""
MAX_GAIN_UV = 3000.0
"""Maximum range of one window: beats with hardly any R peak are not amplified further."""
CANDIDATES = 32
"""Number of best-fitting beats from which the next one is chosen."""
REST = 6
"""A beat is not repeated before this many others were played."""
MEDIAN_OVER = 10
"""Number of beats whose periods are kept: about those of the 10 s of the median RR interval."""
STEER = 12.0
"""Cost of a window that the monitor will cut at a different length, per relative difference."""
SAME_LENGTH = 4.0
"""Cost of a beat whose length differs from the previous one, per relative difference."""
RETURN = 0.1
"""Fraction by which each beat returns to the normal scale."""
HALF_TAPS = 16
"""Half width of the resampling filter, in samples of the slower rate."""


@dataclass(frozen=True, slots=True, eq=False)
class Played:
    """A beat in a stream."""

    r_peak_s: float
    """Time of its R peak, seconds since the start of the stream."""
    label: str
    source: str
    duration_s: float
    """Duration of its window."""
    window: beat.Windows | None = None
    """(187,) the original window from the file or the model; None for a beat of a record."""


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """A piece of a stream; each continues the previous one."""

    samples_uv: Signal
    """(n,) microvolts; NaN where there is no signal."""
    beats: tuple[Played, ...] = ()
    """Beats whose R peak lies in it, in order."""


class Chain:
    """Successors of each beat of a pool; shared by all streams that play from the pool.

    Parameters
    ----------
    pool
        Beats of one class.
    """

    HEAD = 32
    """Maximum number of samples of a head to compare (256 ms)."""

    def __init__(self, pool: Beats) -> None:
        if len(pool) == 0:
            raise ValueError("A chain of beats needs at least one beat: got none.")
        self.pool = pool
        self._heads = pool.windows[:, : self.HEAD].astype(np.float64)
        self._followers: dict[int, tuple[npt.NDArray[np.int64], Signal]] = {}
        self._periods: dict[int, int] = {}

    def period(self, row: int) -> int:
        """Return the samples from the beat's R peak to the next."""
        if row not in self._periods:
            self._periods[row] = next_r_peak(self.pool.windows[row], int(self.pool.lengths[row]))
        return self._periods[row]

    def tail(self, row: int) -> Signal:
        """Return the signal of a window from the next R peak on, (n,) in 0..1."""
        return self.pool.windows[row, self.period(row) : self.pool.lengths[row]].astype(np.float64)

    def start(self, rng: np.random.Generator) -> int:
        """Choose the first beat: of eight at random, the one whose period agrees best with its length."""
        rows = rng.integers(len(self.pool), size=8)
        mismatch = [abs(np.log(self.period(row) * beat.SPAN / self.pool.lengths[row])) for row in rows]
        return int(rows[np.argmin(mismatch)])

    def follow(self, row: int, rest: Sequence[int], periods: Sequence[int], rng: np.random.Generator) -> int:
        """Choose the beat to play after `row` of the same pool.

        Parameters
        ----------
        rest
            Beats to avoid if any other fits.
        periods
            Periods of the last beats, samples: preferred are beats whose window is as long as the monitor will cut it.
        """
        if row not in self._followers:
            self._followers[row] = self._rank(self.tail(row), float(self.pool.lengths[row]))
        return self._choose(*self._followers[row], rest, periods, rng)

    def enter(self, tail: Signal, periods: Sequence[int], rng: np.random.Generator) -> int:
        """Choose the beat to play after one of another pool, given its tail."""
        ranked = self._rank(tail, beat.SPAN * float(np.median(periods)))
        return self._choose(*ranked, (), periods, rng)

    def _choose(
        self,
        rows: npt.NDArray[np.int64],
        costs: Signal,
        rest: Sequence[int],
        periods: Sequence[int],
        rng: np.random.Generator,
    ) -> int:
        then = [(*periods, self.period(int(row))) for row in rows]
        cut = np.floor(beat.SPAN * np.median(then, axis=1))  # length of the window that the monitor would cut
        costs = costs * rng.uniform(0.8, 1.2, costs.size) + STEER * np.abs(np.log(cut / self.pool.lengths[rows]))
        fresh = ~np.isin(rows, rest)
        if not fresh.any():
            fresh[:] = True
        return int(rows[fresh][costs[fresh].argmin()])

    def _rank(self, tail: Signal, length: float) -> tuple[npt.NDArray[np.int64], Signal]:
        """Return the rows that fit best after a tail, and the cost of each.

        The cost is the residual of the tail after the best affine fit of the head (RMS, relative to the larger of both
        windows), plus a term for the relative difference of the lengths.
        """
        size = min(tail.size, self.HEAD)
        tail = tail[:size] - tail[:size].mean()
        heads = self._heads[:, :size] - self._heads[:, :size].mean(axis=1, keepdims=True)
        gains = np.clip(heads @ tail / ((heads**2).sum(axis=1) + 1e-9), 0.3, 3.0)  # (rows,)
        residual = np.sqrt(((gains[:, None] * heads - tail) ** 2).mean(axis=1)) / np.minimum(gains, 1)
        costs = (
            residual + SAME_LENGTH * np.abs(np.log(self.pool.lengths / length)) + 0.02 * np.abs(np.log(gains)) + 1e-4
        )
        best = np.argsort(costs, kind="stable")[: max(CANDIDATES, REST + 2)]
        return best, costs[best]


def join_beats(chains: Mapping[Label, Chain], programme: Iterator[Label], seed: int) -> Iterator[Stretch]:
    """Join beats into an infinite stream at 125 Hz.

    Parameters
    ----------
    chains
        The beats to play from, by class.
    programme
        Class of each beat, in order; see `episodes`.
    seed
        The same seed gives the same stream.

    Yields
    ------
    Stretch
        One per beat: from its R peak to the sample before the next one.
    """
    rng = np.random.default_rng(seed)
    rest: deque[int] = deque(maxlen=REST)
    periods: deque[int] = deque(maxlen=MEDIAN_OVER)
    label = next(programme)
    row = chains[label].start(rng)
    tail: Signal | None = None  # what the previous beat predicts for the next samples, microvolts
    position = 0
    while True:
        chain = chains[label]
        window, length, period = chain.pool.windows[row], int(chain.pool.lengths[row]), chain.period(row)
        signal = _scale(window[:length].astype(np.float64), tail)
        if tail is not None:
            fade(tail, signal)
        played = Played(position / beat.RATE_HZ, label, chain.pool.sources[row], length / beat.RATE_HZ, window)
        yield Stretch(signal[:period], (played,))
        tail, position = signal[period:], position + period
        rest.append(row)
        periods.append(period)
        label, previous = next(programme), label
        if label == previous:
            row = chain.follow(row, rest, periods, rng)
        else:
            row = chains[label].enter(chain.tail(row), periods, rng)
            rest.clear()


def episodes(labels: Sequence[Label], seed: int, shortest: int = 30, longest: int = 60) -> Iterator[Label]:
    """Yield the class of each beat of a stream: episodes of alternating classes, endlessly.

    Parameters
    ----------
    labels
        Classes to alternate; a single one makes a stream of that class.
    seed
        The same seed gives the same episodes.
    shortest, longest
        Number of beats in an episode.
    """
    rng = np.random.default_rng(seed)
    while True:
        for label in labels:
            for _ in range(rng.integers(shortest, longest + 1)):
                yield label


def _scale(window: Signal, tail: Signal | None) -> Signal:
    """Scale a window to microvolts: to continue the previous tail, and slowly back to the normal scale."""
    baseline = float(np.median(window))
    usual = min(R_PEAK_UV / max(abs(float(window[0]) - baseline), 0.1), MAX_GAIN_UV)
    if tail is None:
        first: Signal = usual * (window - baseline)
        return first
    size = min(tail.size, window.size)
    head, before = window[:size] - window[:size].mean(), tail[:size] - tail[:size].mean()
    fitted = float(np.clip(head @ before / (head @ head + 1e-9), usual / 2, usual * 2))
    gain = fitted ** (1 - RETURN) * usual**RETURN
    level = float(tail[:size].mean()) - gain * float(window[:size].mean()) + gain * baseline  # of the baseline, fitted
    level = float(np.clip((1 - RETURN) * level, -R_PEAK_UV, R_PEAK_UV))
    scaled: Signal = gain * (window - baseline) + level
    return scaled


def fade(tail: Signal, signal: Signal) -> None:
    """Cross-fade from the previous tail into the head of `signal`, in place."""
    size = min(tail.size, signal.size)
    weight = 0.5 + 0.5 * np.cos(np.pi * (np.arange(size) + 0.5) / size)
    signal[:size] += weight * (tail[:size] - signal[:size])


def resample(stretches: Iterator[Stretch], rate_hz: float, new_rate_hz: float) -> Iterator[Stretch]:
    """Resample a stream: sample n of the result lies at n / new_rate_hz seconds, exactly.

    A windowed-sinc filter (Kaiser, 55 dB). Upsampling preserves the given samples; downsampling cuts off at half the
    new rate. Every sample depends only on its own neighbours, so there are no edges between stretches, and the signal
    before the start and after the end is taken as constant. Beats keep their times.

    Parameters
    ----------
    stretches
        The stream at `rate_hz`.
    rate_hz, new_rate_hz
        The two rates.
    """
    if rate_hz == new_rate_hz:
        yield from stretches
        return
    step, cutoff = rate_hz / new_rate_hz, min(1.0, new_rate_hz / rate_hz)
    half = int(np.ceil(HALF_TAPS / cutoff))
    history = np.empty(0)
    first = -half  # index of history[0] in the input
    produced = 0
    waiting: deque[Played] = deque()

    def produce(stop: int, history: Signal, first: int) -> Stretch:
        """Return the output samples up to `stop`, and the beats in them."""
        positions: Signal = np.arange(produced, stop, dtype=np.float64) * step
        samples = _interpolate(history, first, positions, half, cutoff)
        ready = []
        while waiting and waiting[0].r_peak_s * new_rate_hz < stop:
            ready.append(waiting.popleft())
        return Stretch(samples, tuple(ready))

    for stretch in stretches:
        if not stretch.samples_uv.size:
            continue
        if not history.size:
            history = np.full(half, stretch.samples_uv[0])
        history = np.concatenate([history, stretch.samples_uv])
        waiting.extend(stretch.beats)
        end = first + history.size  # one past the newest input sample
        stop = max(produced, int(np.ceil((end - half) / step)))
        if stop > produced:
            yield produce(stop, history, first)
            produced = stop
            keep = max(0, int(produced * step) - half - first)
            history, first = history[keep:], first + keep
    if history.size:
        end = first + history.size
        history = np.concatenate([history, np.full(half + 1, history[-1])])
        yield produce(max(produced, int(np.ceil(end / step))), history, first)


def _interpolate(history: Signal, first: int, positions: Signal, half: int, cutoff: float) -> Signal:
    """Interpolate a signal between its samples, of which `history` holds those from number `first` on."""
    whole = np.floor(positions).astype(np.int64)
    taps = np.arange(1 - half, half + 1)
    distance = (positions - whole)[:, None] - taps  # (n, taps)
    window = np.interp(np.abs(distance) / half, *KAISER)
    weights = cutoff * np.sinc(cutoff * distance) * window
    weights /= weights.sum(axis=1, keepdims=True)
    near = history[(whole - first)[:, None] + taps]
    if np.isnan(near).any():  # a missing sample affects only its own position
        weights = np.where(np.isnan(near), 0.0, weights)
        lost = np.isnan(history[np.rint(positions).astype(np.int64) - first])
        return np.where(lost, np.nan, (weights * np.nan_to_num(near)).sum(axis=1))
    return np.asarray((weights * near).sum(axis=1))


KAISER = (np.linspace(0, 1, 1025), np.kaiser(2049, 5.0)[1024:])
"""Half of a Kaiser window of shape 5, from its middle to its edge: side lobes below -50 dB."""


def cut(stretches: Iterator[Stretch], size: int, rate_hz: float) -> Iterator[Stretch]:
    """Cut a stream into stretches of `size` samples each; the last one may be shorter.

    Parameters
    ----------
    stretches
        The stream at `rate_hz`.
    """
    parts: list[Signal] = []
    held, produced = 0, 0
    waiting: deque[Played] = deque()
    for stretch in stretches:
        parts.append(stretch.samples_uv)
        held += stretch.samples_uv.size
        waiting.extend(stretch.beats)
        if held < size:
            continue
        signal = np.concatenate(parts)
        for start in range(0, held - size + 1, size):
            produced += size
            yield Stretch(signal[start : start + size], _take(waiting, produced / rate_hz))
        parts = [signal[held - held % size :]]
        held = parts[0].size
    if held:
        yield Stretch(np.concatenate(parts), tuple(waiting))


def _take(waiting: deque[Played], before_s: float) -> tuple[Played, ...]:
    ready = []
    while waiting and waiting[0].r_peak_s < before_s:
        ready.append(waiting.popleft())
    return tuple(ready)
