"""The signal of all devices at once: samples in, finished beats out, a lane for each unbroken stretch of packets.

The samples given to a stretch wait until `Batch.advance`; then all stretches pass contact, resampler, segmenter and
gate together, in one call each. That is what makes a packet cheap: the loops are compiled, and the Python around them
is shared by all devices. At most one part of each stretch waits, so that how packets are batched makes no difference.

The whole state of a stretch is a row of five arrays of plain records, 22 kB; rows that were never used take no
memory. Knows nothing of packets' order, of models or of alerts.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from monitor import wire
from monitor.beat import LENGTH, RATE_HZ, Signal, Windows
from monitor.clock import Clock
from monitor.ecg import quality, resample, segment, vf
from monitor.ecg.kernels import compiled_exactly
from monitor.ecg.resample import Steps
from monitor.ecg.tape import Piece

PART_S = 1.0
"""A longer packet is taken in parts of this length."""
ROOM = 1024
"""Beats that are finished before they are put aside."""

VERSION = 30
"""Of what is saved of a device besides the records; grows when any of it changes."""
_RECORDS = quality.CONTACT, quality.STATE, resample.STATE, segment.STATE, vf.STATE
LAYOUT = hashlib.sha256(repr([VERSION, *(dtype.descr for dtype in _RECORDS)]).encode()).hexdigest()[:16]
"""Of the records and the rest: what was saved with another one cannot be restored."""

_WAVES: dict[int, wire.Kind] = {vf.PRESENT: "vf", vf.ABSENT: "no-vf"}

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Stretch:
    """An unbroken stretch of packets: its clock, and where its signal is.

    Parameters
    ----------
    owner
        The device it belongs to; returned with everything that is found in it.
    rate_hz
        Rate of its samples.
    started_s
        Time of the first of them, on the device's clock.
    seq
        Number of the first packet; numbers grow from packet to packet, and do not wrap.
    """

    __slots__ = (
        "clock", "completed_s", "counted", "drift_s", "end_s", "first_seq", "lane", "longest_s",
        "most_off_s", "next_seq", "off_s", "own_seq", "owner", "pace", "part_s", "rate_hz", "samples", "shortest_s",
        "stamp_s", "started_s", "waits",
    )  # fmt: skip

    def __init__(self, owner: Any, rate_hz: float, started_s: float, seq: int) -> None:
        self.owner = owner
        self.rate_hz = rate_hz
        self.started_s = started_s
        self.first_seq = self.next_seq = seq
        self.own_seq = -1
        """Number of the latest packet as the device wrote it, if not the one before `next_seq`."""
        self.counted = 0
        """Packets so far, if numbers do not count them."""
        self.samples = 0
        self.shortest_s, self.longest_s = np.inf, 0.0
        """Length of its shortest packet and of its longest, over how much the number grows by a packet."""
        self.drift_s = 0.0
        """How far the device's clock has moved against its count of samples."""
        self.clock: Clock | None = None
        """Of a device whose stamps do not agree with its count of samples."""
        self.pace = 1.0
        """Seconds of the device's clock per second of its nominal rate."""
        self.most_off_s = 0.0
        """Most by which a stamp missed where it should have been."""
        self.stamp_s = started_s
        """Time stamp of the latest packet, if that is not where it begins by the clock."""
        self.end_s = started_s
        """Where the next packet should begin, by the count of samples and the drift."""
        self.completed_s = self.part_s = started_s
        """End of the latest packet by its own time, and its start."""
        self.off_s = -np.inf
        """When the electrode last came to count as off."""
        self.waits = False
        """Whether it was given samples that have not been processed yet."""
        self.lane = -1

    @property
    def seq(self) -> int:
        """Number of the latest packet, as the device wrote it."""
        return self.next_seq - 1 if self.own_seq < 0 else self.own_seq

    @property
    def packets(self) -> int:
        """Packets so far."""
        return self.counted or self.next_seq - self.first_seq

    @property
    def begin_s(self) -> float:
        """Time stamp of the latest packet."""
        return self.part_s if self.clock is None else self.stamp_s

    @property
    def size(self) -> int:
        """Samples of the latest packet."""
        return round((self.completed_s - self.part_s) * self.rate_hz)


class SavedStretch(msgspec.Struct, frozen=True, array_like=True):
    """A stretch between two packets."""

    rate_hz: float
    started_s: float
    first_seq: int
    next_seq: int
    samples: int
    shortest_s: float
    longest_s: float
    drift_s: float
    end_s: float
    completed_s: float
    part_s: float
    off_s: float
    own_seq: int
    counted: int
    clock: Clock | None
    pace: float
    most_off_s: float
    stamp_s: float
    rows: list[bytes]
    """What its lane holds: contact, gate, resampler, segmenter and its missing samples, and what fibrillation is told
    by."""


class Beats(NamedTuple):
    """Finished beats, in order per stretch."""

    stretches: list[Stretch]
    beats: npt.NDArray[np.void]
    """(n,) of `segment.BEAT`; `stream` is a position in `stretches`."""
    signals: Signal
    """(n, 187) from the R peak on, in steps; what lies behind a beat's `length` has no meaning."""
    surroundings: Signal
    """(n, 120) around the fiducial, in steps, NaN where samples are missing; no meaning if not waited for."""
    reasons: npt.NDArray[np.uint8]
    """(n,) positions in `quality.REASONS`."""
    time_s: Floats
    """(n,) R peaks, on the devices' clocks."""
    qrs_s: Floats
    """(n,) main deflections of the QRS complexes, likewise."""
    rr_s: Floats
    """(n,) since the QRS complex before, likewise; 0 where that is not known, or long."""
    begun_s: Floats
    """(n,) when the stretch began, likewise."""
    outdated: npt.NDArray[np.bool_]
    """(n,) whether the electrode coming off after this beat was reported already."""
    seq: Ints
    """(n,) sequence number of the packet that completed the beat."""
    completed_s: Floats
    """(n,) end of that packet, on the device's clock."""
    pace: Floats
    """(n,) seconds of the device's clock per second of signal at its nominal rate."""
    doubtful: npt.NDArray[np.uint8]
    """(n,) whether beats may be hidden before one that came late; see `monitor.ecg.silence`."""
    known: Ints
    """(n,) number on the 8 ms grid of the sample up to which the signal was known when the beat was found."""


class Event(NamedTuple):
    """Something else that was found in the signal."""

    owner: Any
    what: wire.Kind
    time_s: float
    """When it was, on the device's clock."""
    seq: int
    """Sequence number of the packet that showed it."""
    completed_s: float
    """End of that packet, on the device's clock."""
    silence_s: float = 0.0
    """Since the last beat or the start of the stretch, where that is what was found."""
    is_doubtful: bool = False
    """Whether beats may be hidden in it; see `monitor.ecg.silence`."""


class Batch:
    """Takes the samples of many stretches.

    Parameters
    ----------
    capacity
        Most stretches at a time.
    waits
        For what beats wait; see `monitor.ecg.segment.segment`.
    silence_s
        Signal without a beat for this long is reported.
    """

    def __init__(self, capacity: int, waits: int, silence_s: float) -> None:
        self._waits = waits
        self.silence_s = silence_s
        self._silence = round(silence_s * RATE_HZ) + segment.DECIDED_WITHIN
        self._contacts = np.zeros(capacity, quality.CONTACT)
        self._resamplers = np.zeros(capacity, resample.STATE)
        self._segmenters = np.zeros(capacity, segment.STATE)
        self._gates = np.zeros(capacity, quality.STATE)
        self._waves = np.zeros(capacity, vf.STATE)
        self._started_s = np.zeros(capacity)
        self._first = np.zeros(
            capacity, np.int64
        )  # number of a stretch's first sample at 125 Hz, on the resampler's grid
        self._capacity, self._used = capacity, 0
        self._free: list[int] = []
        self._stretches: dict[int, Stretch] = {}  # those that are open, by lane
        self._given: dict[float, tuple[list[Stretch], list[Steps]]] = {}  # by rate
        self._room = segment.make_room(ROOM)
        self._log: list[Beats | Event | Piece] = []
        self.waiting = 0
        """Parts that were given and not processed yet."""

    def open(self, stretch: Stretch) -> None:
        """Give a stretch a lane of its own; there must be one left."""
        if self._free:
            stretch.lane = self._free.pop()
            for states in self.states:
                states[stretch.lane] = np.zeros((), states.dtype)
        elif self._used < self._capacity:
            stretch.lane = self._used
            self._used += 1
        else:
            raise ValueError(f"All {self._capacity} lanes are taken.")
        self._stretches[stretch.lane] = stretch
        quality.begin_contact(self._contacts[stretch.lane], stretch.rate_hz)
        self._first[stretch.lane] = resample.begin(self._resamplers[stretch.lane], stretch.rate_hz, stretch.started_s)
        self._started_s[stretch.lane] = stretch.started_s

    def put(self, stretch: Stretch, samples: Steps) -> None:
        """Give a stretch its next samples, at most `PART_S`; those of the last call must have been processed."""
        stretch.waits = True
        self.waiting += 1
        given = self._given.get(stretch.rate_hz)
        if given is None:
            given = self._given[stretch.rate_hz] = [], []
        given[0].append(stretch)
        given[1].append(samples)

    def add(self, event: Event) -> None:
        """Put an event in its place among the beats."""
        self._log.append(event)

    def advance(self) -> None:
        """Process all that was given."""
        given, self._given, self.waiting = self._given, {}, 0
        for rate_hz, (stretches, parts) in given.items():
            self._take(rate_hz, stretches, parts)

    def close(self, stretch: Stretch) -> None:
        """End a stretch: finish the beats that still wait, for their windows or for the next beat."""
        if stretch.waits:
            self.advance()
        found = segment.finish(self._segmenters, stretch.lane, self._waits, self._room)
        self._put_aside([stretch], np.array([stretch.lane]), found, _read_clocks([stretch]))
        self._free.append(stretch.lane)
        del self._stretches[stretch.lane]

    def discard(self, stretch: Stretch) -> None:
        """Drop a stretch and all that is remembered of it; nothing of it may wait to be processed."""
        self._free.append(stretch.lane)
        del self._stretches[stretch.lane]

    def collect(self) -> list[Beats | Event | Piece]:
        """Process what was given, and return all that was found, and the signal in its place, in order per stretch."""
        if self.waiting:
            self.advance()
        log, self._log = self._log, []
        return log

    def find_off(self) -> list[Any]:
        """Return the owners of the stretches whose electrode is off now."""
        off = np.flatnonzero(quality.is_off(self._contacts, slice(self._used))).tolist()
        return [self._stretches[lane].owner for lane in off if lane in self._stretches]

    def look(self, lanes: Ints) -> tuple[npt.NDArray[np.bool_], Floats]:
        """Return of some lanes whether the electrode is off, and for how many seconds of signal no beat was found."""
        return quality.is_off(self._contacts, lanes), segment.since_last(self._segmenters, lanes) / RATE_HZ

    def save(self, stretch: Stretch) -> SavedStretch:
        """The whole state of a stretch; nothing may wait to be processed."""
        lane, r = stretch.lane, stretch
        history = _HISTORY + 4 * int(self._resamplers["kept"][lane])
        left, segmenter = segment.compact(self._segmenters, lane), self._segmenters[lane].tobytes()
        rows = [
            self._contacts[lane].tobytes(),
            self._gates[lane].tobytes(),
            self._resamplers[lane].tobytes()[:history],
            segmenter[: _SIGNAL + 4 * left],
            segmenter[_MISSING : _MISSING + left],
            self._waves[lane].tobytes(),
        ]
        return SavedStretch(
            r.rate_hz, r.started_s, r.first_seq, r.next_seq, r.samples, r.shortest_s, r.longest_s,
            r.drift_s, r.end_s, r.completed_s, r.part_s, r.off_s, r.own_seq, r.counted, r.clock, r.pace,
            r.most_off_s, r.stamp_s, rows,
        )  # fmt: skip

    def restore(self, owner: Any, saved: SavedStretch) -> Stretch:
        """Return a stretch that goes on where it was saved, in a lane of its own."""
        stretch = Stretch(owner, saved.rate_hz, saved.started_s, saved.first_seq)
        for name in SavedStretch.__struct_fields__[3:-1]:
            setattr(stretch, name, getattr(saved, name))
        self.open(stretch)
        contact, gate, resampler, segmenter, missing, waves = saved.rows
        rows = contact, resampler, segmenter.ljust(_MISSING, b"\0") + missing, gate, waves
        for states, row in zip(self.states, rows, strict=True):
            states[stretch.lane] = np.frombuffer(row.ljust(states.dtype.itemsize, b"\0"), states.dtype)[0]
        return stretch

    @property
    def states(self) -> tuple[npt.NDArray[np.void], ...]:
        """The whole state, a row for each lane."""
        return self._contacts, self._resamplers, self._segmenters, self._gates, self._waves

    def _take(self, rate_hz: float, stretches: list[Stretch], parts: list[Steps]) -> None:
        """Take a part of each of some stretches of one rate."""
        lanes = np.array([stretch.lane for stretch in stretches])
        ends = np.array([part.size for part in parts]).cumsum()
        samples, kernel = np.concatenate(parts), resample.design_kernel(rate_hz)
        off = self._watch_contact(lanes, samples, ends)
        signal, ends = resample.resample(self._resamplers, lanes, samples, ends, kernel)
        self._log.append(self._make_piece(stretches, lanes, signal, ends, _read_clocks(stretches)))
        off_at = resample.count_ready(self._resamplers, lanes, off, kernel)
        part: _Part | None = _Part(stretches, lanes, signal, ends, off, off_at)
        while part is not None:
            part = self._go_on(part, kernel)
        for stretch in stretches:
            stretch.waits = False

    def _go_on(self, part: _Part, kernel: resample.Kernel) -> _Part | None:
        """Take signal up to where it matters what was known then; return what is left behind that."""
        look_at = self._segmenters, part.lanes
        sizes, is_cut = segment.find_stops(*look_at, part.ends, part.off_at, self._silence)
        now, left = part.cut(sizes) if is_cut else (part, None)
        self._find(now)
        for i in segment.find_silent(*look_at, sizes, self._silence):
            self._look_at_silence(now.stretches[i], kernel)
        if left is None:
            return None
        for i in np.flatnonzero(left.off_at == self._segmenters["n"][left.lanes]):
            self._report_off(left.stretches[i], int(left.off[i]))
            left.off_at[i] = -1
        return left.narrow()

    def _find(self, part: _Part) -> None:
        """Find beats and fibrillation."""
        stretches, lanes, before = part.stretches, part.lanes, len(self._log)
        clocks = _read_clocks(stretches)
        waves = vf.find(self._waves, lanes, part.signal, part.ends, contacts=self._contacts)
        taken, to_take = 0, (self._segmenters, lanes, part.signal, part.ends)
        while taken < lanes.size:
            taken, found = segment.segment(*to_take, taken, self._waits, self._room)
            if found:
                self._put_aside(stretches, lanes, found, clocks)
        if waves.streams.size:
            self._insert(before, stretches, lanes, waves)
        self._log[before:] = [_narrow(entry) if isinstance(entry, Beats) else entry for entry in self._log[before:]]

    def _make_piece(self, stretches: list[Stretch], lanes: Ints, signal: Signal, ends: Ints, clocks: Floats) -> Piece:
        produced, numbers, end_s, pace = _place_piece(self._resamplers, self._first, lanes, clocks)
        owners = [stretch.owner for stretch in stretches]
        return Piece(owners, signal, ends, produced, numbers, end_s, pace)

    def _watch_contact(self, lanes: Ints, samples: Steps, ends: Ints) -> Ints:
        """(k,) After how many samples of the device its electrode came to count as off; -1 where it did not."""
        off = np.full(lanes.size, -1)
        streams, places = quality.watch(self._contacts, lanes, samples, ends)
        if streams.size:
            off[streams] = (self._contacts["n"][lanes] - np.diff(ends, prepend=0))[streams] + places + 1
        return off

    def _report_off(self, stretch: Stretch, off: int) -> None:
        stretch.off_s = _time(stretch, stretch.started_s + (off - 1) / stretch.rate_hz)
        self._add(stretch, "lead-off", stretch.off_s)
        vf.reset(self._waves[stretch.lane])  # else it would be told anew until it is known to be over

    def _put_aside(self, stretches: list[Stretch], lanes: Ints, found: int, clocks: Floats) -> None:
        """Move the finished beats from where they were made, judge their signal, and compute their times."""
        beats, signals, surroundings = self._room.copy(found)
        seqs = np.array([stretch.seq for stretch in stretches], np.int64)
        origins = self._first, self._started_s
        placed, outdated, numbers = _place(beats, lanes, origins, clocks, seqs)
        begin_s, time_s, qrs_s, rr_s, begun_s, completed_s, pace = placed
        reasons, doubtful = quality.judge(self._gates, self._contacts, lanes, beats, signals, begin_s)
        times_s, (seq, known) = (time_s, qrs_s, rr_s, begun_s), numbers
        room = beats, signals, surroundings
        self._log.append(Beats(stretches, *room, reasons, *times_s, outdated, seq, completed_s, pace, doubtful, known))

    def _insert(self, before: int, stretches: list[Stretch], lanes: Ints, waves: vf.Found) -> None:
        """Put what was found of fibrillation among the beats of this part, those that finished before it first."""
        parts = [entry for entry in self._log[before:] if isinstance(entry, Beats)]
        del self._log[before:]
        turns = np.arange(waves.streams.size) - np.searchsorted(waves.streams, waves.streams)  # within its stream
        for turn in range(int(turns.max()) + 2):
            for part in parts:
                streams, known = part.beats["stream"], part.beats["known"]
                passed = (waves.streams == streams[:, None]) & (waves.samples < known[:, None])
                self._add_some(part, passed.sum(axis=1) == turn)
            for i in np.flatnonzero(turns == turn):
                stretch, what = stretches[waves.streams[i]], _WAVES[waves.what[i]]
                at_s = (self._first[lanes[waves.streams[i]]] + waves.samples[i]) / RATE_HZ
                self._add(stretch, what, _time(stretch, at_s))

    def _add_some(self, part: Beats, which: npt.NDArray[np.bool_]) -> None:
        if which.all():
            self._log.append(part)
        elif which.any():
            columns: dict[str, Any] = {name: getattr(part, name)[which] for name in Beats._fields[1:]}
            self._log.append(part._replace(**columns))

    def _add(self, stretch: Stretch, what: wire.Kind, time_s: float) -> None:
        self._log.append(Event(stretch.owner, what, time_s, stretch.seq, stretch.completed_s))

    def _look_at_silence(self, stretch: Stretch, kernel: resample.Kernel) -> None:
        """Report that no beat was found for long, and whether that can be believed, unless the electrode is off."""
        lane = stretch.lane
        segmenter, contact = self._segmenters[lane], self._contacts[lane]
        n = int(segmenter["n"])
        if contact["stills"] and quality.was_off(contact, resample.count_needed(self._resamplers[lane], n, kernel)):
            return
        at_s = (self._first[lane] + n) / RATE_HZ
        doubtful = quality.doubts(self._gates[lane], segment.baseline_moved(self._segmenters, lane))
        doubtful = doubtful or quality.stood_still(contact, at_s - stretch.started_s)
        doubtful = doubtful or vf.is_suspected(self._waves[lane])
        silence_s = segment.decided_silence(segmenter) / RATE_HZ
        what = "no-beats", _time(stretch, at_s), stretch.seq, stretch.completed_s, silence_s, doubtful
        self._log.append(Event(stretch.owner, *what))


class _Part(NamedTuple):
    """Signal of some stretches that is yet to be taken."""

    stretches: list[Stretch]
    lanes: Ints
    signal: Signal
    """At 125 Hz, one stretch after the other."""
    ends: Ints
    """(k,) where those of each end."""
    off: Ints
    """(k,) samples of the device after which its electrode came to count as off in it, -1: it did not."""
    off_at: Ints
    """(k,) samples of the stretch at 125 Hz that were known then; -1 as well once that was reported."""

    def cut(self, sizes: Ints) -> tuple[_Part, _Part]:
        """Return the first samples of each, so many, and the others."""
        now, now_ends, left, left_ends = _cut(self.signal, self.ends, sizes)
        return self._replace(signal=now, ends=now_ends), self._replace(signal=left, ends=left_ends)

    def narrow(self) -> _Part | None:
        """Return it without the stretches that have no samples in it; None if there are none."""
        which = np.flatnonzero(np.diff(self.ends, prepend=0))
        if not which.size:
            return None
        stretches = [self.stretches[i] for i in which.tolist()]
        return _Part(stretches, self.lanes[which], self.signal, self.ends[which], self.off[which], self.off_at[which])


def _time(stretch: Stretch, at_s: float) -> float:
    """On the device's clock, of a time by the count of samples; the drift is that at the end of the latest packet."""
    late_s = stretch.started_s + stretch.samples / stretch.rate_hz - at_s
    return float(at_s + stretch.drift_s - (stretch.pace - 1.0) * late_s)


def _narrow(part: Beats) -> Beats:
    """Leave out the streams that have no beats: whoever looks at beats need not look at all devices."""
    if len(part.stretches) == 1:
        return part
    which = _renumber(part.beats, len(part.stretches))
    return part._replace(stretches=[part.stretches[stream] for stream in which.tolist()])


def _read_clocks(stretches: list[Stretch]) -> Floats:
    """(k, 6) What is needed of stretches to compute times: see `_place`."""
    clocks = [
        (one.drift_s, one.pace, one.started_s + one.samples / one.rate_hz, one.started_s, one.off_s, one.completed_s)
        for one in stretches
    ]
    return np.array(clocks)


def _offset(dtype: np.dtype[np.void], name: str) -> int:
    """Where a field begins in a record, in bytes."""
    assert dtype.fields is not None
    return int(dtype.fields[name][1])


_HISTORY = _offset(resample.STATE, "history")
_SIGNAL, _MISSING = _offset(segment.STATE, "signal"), _offset(segment.STATE, "missing")


@compiled_exactly
def fit_windows(signals: Signal, lengths: Ints, rows: Ints) -> Windows:
    """`monitor.beat.fit_window` of many beats.

    Parameters
    ----------
    signals, lengths
        (n, 187) float32, and (n,) how much of each row is signal.
    rows
        (k,) which of them, finite throughout.

    Returns
    -------
    ndarray
        (k, 187) float32.
    """
    windows = np.zeros((rows.size, LENGTH), np.float32)
    for i in range(rows.size):
        signal, window = signals[rows[i], : lengths[rows[i]]], windows[i]
        low = high = signal[0]
        for value in signal:
            low, high = min(low, value), max(high, value)
        span = np.float64(high) - np.float64(low)
        if span > 0:
            for k in range(signal.size):
                window[k] = (np.float64(signal[k]) - low) / span
    return windows


def warm_up() -> None:
    """Load the loops that a single stream does not need, or compile them if that was never done here."""
    _renumber(np.zeros(0, segment.BEAT), 0)
    none = np.zeros(0, np.int64)
    _cut(np.zeros(0, np.float32), none, none)
    segment.since_last(np.zeros(1, segment.STATE), none)
    resample.count_needed(np.zeros(1, resample.STATE)[0], 1, resample.design_kernel(RATE_HZ))


@compiled_exactly
def _renumber(beats: Any, streams: int) -> Ints:
    """Number the streams of beats anew, without gaps; return what their numbers were, in order."""
    places = np.full(streams, -1)
    for i in range(beats.size):
        places[beats[i].stream] = 0
    which = np.flatnonzero(places == 0)
    for k in range(which.size):
        places[which[k]] = k
    for i in range(beats.size):
        beats[i].stream = places[beats[i].stream]
    return which


@compiled_exactly
def _cut(signal: Signal, ends: Ints, sizes: Ints) -> tuple[Signal, Ints, Signal, Ints]:
    """The first samples of each stream, so many, and where those of each end; and the same of the others."""
    now, left = np.empty(sizes.sum(), np.float32), np.empty(signal.size - sizes.sum(), np.float32)
    now_ends, left_ends = sizes.cumsum(), ends - sizes.cumsum()
    for i in range(ends.size):
        end, begin = ends[i], ends[i - 1] if i > 0 else 0
        stop = begin + sizes[i]
        now[now_ends[i] - sizes[i] : now_ends[i]] = signal[begin:stop]
        left[left_ends[i] - (end - stop) : left_ends[i]] = signal[stop:end]
    return now, now_ends, left, left_ends


@compiled_exactly
def _place_piece(resamplers: Any, first: Ints, lanes: Ints, clocks: Floats) -> tuple[Ints, Ints, Floats, Floats]:
    """Where the signal of streams ends: samples so far, number on the grid, time on the device's clock; and its pace.

    The drift is that at the end of the latest packet.
    """
    produced, numbers = np.empty(lanes.size, np.int64), np.empty(lanes.size, np.int64)
    end_s, paces = np.empty(lanes.size), np.empty(lanes.size)
    for i in range(lanes.size):
        drift_s, pace, counted_s = clocks[i, 0], clocks[i, 1], clocks[i, 2]
        produced[i], paces[i] = resamplers[lanes[i]].produced, pace
        numbers[i] = first[lanes[i]] + produced[i]
        grid_s = numbers[i] / RATE_HZ
        end_s[i] = grid_s - (pace - 1.0) * (counted_s - grid_s) + drift_s
    return produced, numbers, end_s, paces


@compiled_exactly
def _place(
    beats: Any, lanes: Ints, origins: tuple[Ints, Floats], clocks: Floats, seqs: Ints
) -> tuple[Floats, npt.NDArray[np.bool_], Ints]:
    """Times of beats: (7, n), see `Batch._put_aside`; whether they are outdated; and (2, n) `seq` and `known`.

    Parameters
    ----------
    beats, lanes
        See `_put_aside`.
    origins
        Of each lane: number on the grid of its first sample, and when the stretch began.
    clocks
        (k, 6) of each stream: drift, pace, time by the count of samples, begin, when the electrode came off, end of the
        latest packet.
    seqs
        (k,) number of that packet.
    """
    first, started_s = origins
    placed, numbers = np.empty((7, beats.size)), np.empty((2, beats.size), np.int64)
    outdated = np.empty(beats.size, np.bool_)
    for i in range(beats.size):
        one, stream = beats[i], beats[i].stream
        lane, clock = lanes[stream], clocks[stream]
        drift_s, pace, counted_s = clock[0], clock[1], clock[2]
        grid_s = (first[lane] + one.r_peak) / RATE_HZ
        time_s = grid_s + drift_s
        if pace != 1.0:  # the drift is that at the end of the latest packet
            time_s -= (pace - 1.0) * (counted_s - grid_s)
        outdated[i] = time_s < clock[4]
        placed[0, i], placed[1, i] = grid_s - started_s[lane], time_s
        placed[2, i] = time_s + (one.fiducial - one.r_peak) / RATE_HZ * pace
        placed[3, i] = one.rr / RATE_HZ * pace
        placed[4, i], placed[5, i], placed[6, i] = clock[3], clock[5], pace
        numbers[0, i], numbers[1, i] = seqs[stream], first[lane] + one.known
    return placed, outdated, numbers
