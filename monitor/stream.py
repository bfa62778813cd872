"""One device's packets: put in order, and joined to unbroken runs.

Packets may come twice or out of order; a packet that overtook others waits for them, for a while. What cannot be
joined (packets lost, a clock that jumps, a new rate, a device started again) breaks the run: the filters begin anew,
and the break is told.

Knows nothing of what is in the samples, of other devices, of models or of alerts, and never reads a clock: times come
from the packets.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from typing import Any

import msgspec
import numpy as np

from monitor import counters, wire
from monitor.ecg.batch import PART_S, Event, Lanes, Run, SavedRun

EARLY_PACKETS, EARLY_SAMPLES = 3, wire.MAX_SAMPLES
"""So many packets may overtake a missing one before it counts as lost, and no more samples than these."""
LATE_PACKETS = 10
"""After so many packets in a row from the past, the device is taken to have been restarted with its clock set back."""
CLOCK_TOLERANCE_S = 0.5
"""A packet's time may be this far from where the ones before it end; more is a jump of the clock."""
CLOCK_DRIFT = 0.01
"""Most that a device's clock is taken to run fast or slow against its sampling rate."""
CLOCK_FOLLOWS_S = 10.0
"""Time constant with which beat times follow a device whose clock drifts against its sampling rate."""
FORMER_RUNS = 4
"""So many runs that ended are remembered: a broker that lost its connection sends again what came across their ends."""
AGAIN_S = 86400.0
"""Those before a run longer than this are forgotten: no broker sends again that much of what was already taken."""
RATE_PACKETS, RATE_CHANGES = 50, 10
"""A device may change its rate once in so many packets, and so many times more now and then. A new rate costs up to
50 ms for its filters, more than anything else a packet can ask for: so it is 1 ms a packet at most."""


class Past(msgspec.Struct, frozen=True, array_like=True):
    """What is remembered of a run that ended; the fields are those of `monitor.ecg.batch.Run`."""

    rate_hz: float
    started_s: float
    end_s: float
    first_seq: int
    next_seq: int
    shortest_s: float
    longest_s: float


class SavedStream(msgspec.Struct, frozen=True, array_like=True):
    """A stream as it was between two packets."""

    run: SavedRun | None
    early: list[tuple[int, float, float, bytes]]
    """Packets that wait for others: sequence number, time, rate, samples."""
    late: int
    past: list[Past]
    owed: int


class Stream:
    """The packets of one device.

    Parameters
    ----------
    owner
        Comes back with everything that is found in the stream.
    lanes
        Where the samples go.
    counts
        Where duplicates and breaks are counted, by name.
    """

    __slots__ = ("_counts", "_early", "_lanes", "_late", "_owed", "_owner", "_past", "_run")

    def __init__(self, owner: Any, lanes: Lanes, counts: Counter[str]) -> None:
        self._owner = owner
        self._lanes = lanes
        self._counts = counts
        self._run: Run | None = None
        self._early: dict[int, wire.Packet] | None = None
        self._late = 0
        self._past: deque[Past] = deque(maxlen=FORMER_RUNS)
        self._owed = 0  # packets, for changes of the rate

    def feed(self, packet: wire.Packet) -> None:
        """Take a packet as it came, and those that waited for it."""
        run = self._run
        if self._owed:
            self._owed -= 1
        if self._past and self._is_of_a_former_run(packet):
            self._counts[counters.DUPLICATES] += 1  # unacknowledged packets are redelivered, also across a restart
        elif run is None:
            # A stream begins with packet 0. Joined much later, nobody can tell whether there were others before.
            if packet.seq == 0 or (packet.seq > EARLY_PACKETS and not self._early):
                self._join(packet)
            else:
                self._wait(packet)
        elif packet.seq == run.next_seq:
            self._join(packet)
        elif packet.seq > run.next_seq:
            self._wait(packet)
            if packet.rate_hz != run.rate_hz:  # breaks the run anyway
                self._give_up_waiting(packet.seq)
        elif _is_repeated(run, packet):
            self._counts[counters.DUPLICATES] += 1
        else:
            self._late += 1
            if packet.start_s < run.end_s - CLOCK_TOLERANCE_S / 2 and self._late <= LATE_PACKETS:
                self._counts[counters.DUPLICATES] += 1
                return
            # The count began again and time went on, or only the past comes: the device was restarted.
            self._give_up_waiting()
            self._join(packet)

    @property
    def next_seq(self) -> int | None:
        """Sequence number of the packet that is needed next, if any is known: 0 while the first ones wait for it."""
        if self._run is None:
            return 0 if self._early else None
        return self._run.next_seq

    def finish(self) -> None:
        """No more will come: take what still waits, and tell the last beats."""
        self._give_up_waiting()
        self._break()

    def restart(self) -> None:
        """The device says that it was started again: whatever comes next begins a new run."""
        self._counts[counters.DEVICE_RESTARTS] += 1
        self._give_up_waiting()
        self._break()

    def save(self) -> SavedStream:
        """All that is remembered of the stream; nothing may wait in the lanes."""
        early = [(p.seq, p.start_s, p.rate_hz, p.samples.tobytes()) for p in (self._early or {}).values()]
        run = None if self._run is None else self._lanes.save(self._run)
        return SavedStream(run, early, self._late, list(self._past), self._owed)

    def restore(self, saved: SavedStream) -> None:
        """Go on where a stream was saved; to be called before anything is fed."""
        packets = [wire.Packet(seq, start_s, hz, np.frombuffer(x, np.int16)) for seq, start_s, hz, x in saved.early]
        self._early = {packet.seq: packet for packet in packets} or None
        self._late, self._owed = saved.late, saved.owed
        self._past.extend(saved.past)
        self._run = None if saved.run is None else self._lanes.restore(self._owner, saved.run)

    def _break(self) -> None:
        """End the run, if there is one."""
        if self._run is not None:
            self._lanes.close(self._run)
            if self._run.samples > AGAIN_S * self._run.rate_hz:
                self._past.clear()
            self._past.append(Past(*(getattr(self._run, name) for name in Past.__struct_fields__)))
            self._run = None

    def _is_of_a_former_run(self, packet: wire.Packet) -> bool:
        """Whether a packet was taken before this run began; never the one that this run needs next."""
        run = self._run
        if run is not None and packet.seq == run.next_seq and _why_not_joined(run, packet) is None:
            return False
        return any(_is_of(past, packet) for past in self._past)

    def _wait(self, packet: wire.Packet) -> None:
        """Keep a packet that has overtaken others, unless too many have."""
        self._early = {} if self._early is None else self._early
        if packet.seq in self._early:
            self._counts[counters.DUPLICATES] += 1
        self._early[packet.seq] = packet
        while len(self._early) > EARLY_PACKETS or sum(p.samples.size for p in self._early.values()) > EARLY_SAMPLES:
            self._join_first()

    def _give_up_waiting(self, last_seq: float = math.inf) -> None:
        """Take the early packets up to number `last_seq`: what they waited for is lost."""
        while self._early and min(self._early) <= last_seq:
            self._join_first()

    def _join_first(self) -> None:
        """The packets before the first early one are lost: begin anew with it."""
        assert self._early
        self._join(self._early.pop(min(self._early)))

    def _join(self, packet: wire.Packet) -> None:
        """Take a packet and those that waited for it."""
        run = self._run
        before = run or (self._past[-1] if self._past else None)
        if before is not None and packet.rate_hz != before.rate_hz:
            if self._owed > RATE_PACKETS * (RATE_CHANGES - 1):
                self._counts[counters.RATE_CHANGES_REFUSED] += 1
                return
            self._owed += RATE_PACKETS
        self._late = 0
        if run is not None and (broken := _why_not_joined(run, packet)) is not None:
            self._counts[broken] += 1
            self._break()
            end_s = packet.start_s + packet.samples.size / packet.rate_hz
            self._lanes.tell(Event(self._owner, "gap", packet.start_s, packet.seq, end_s))
            run = None
        if run is None:
            run = self._run = Run(self._owner, packet.rate_hz, packet.start_s, packet.seq)
            self._lanes.open(run)
        self._take(run, packet)
        while self._early and (following := self._early.pop(run.next_seq, None)) is not None:
            self._join(following)

    def _take(self, run: Run, packet: wire.Packet) -> None:
        """Add a packet that follows to the run."""
        start_s, samples = packet.start_s, packet.samples
        duration_s = samples.size / run.rate_hz
        if run.waits:
            self._lanes.advance()
        run.drift_s += (start_s - run.end_s) * min(1.0, duration_s / CLOCK_FOLLOWS_S)
        run.samples += samples.size
        run.shortest_s, run.longest_s = min(run.shortest_s, duration_s), max(run.longest_s, duration_s)
        run.end_s = run.started_s + run.samples / run.rate_hz + run.drift_s
        run.next_seq = packet.seq + 1
        run.part_s = start_s
        run.completed_s = start_s + duration_s
        if duration_s <= PART_S:
            self._lanes.put(run, samples)
            return
        part = math.ceil(PART_S * run.rate_hz)
        for begin in range(0, samples.size, part):
            run.part_s = start_s + begin / run.rate_hz
            self._lanes.put(run, samples[begin : begin + part])
            self._lanes.advance()


def _is_repeated(run: Run, packet: wire.Packet) -> bool:
    """Whether a packet has a number from the past and lies where that packet lay, as far as can be told.

    How long the packets before the run were is not known: half or one and a half times as long as those of the run.
    """
    if packet.seq >= run.first_seq or packet.rate_hz != run.rate_hz:
        return _is_of(run, packet)
    before_s = (run.first_seq - packet.seq) * run.samples / run.rate_hz / (run.next_seq - run.first_seq)
    return abs(run.started_s - before_s - packet.start_s) <= CLOCK_TOLERANCE_S + before_s / 2


def _is_of(run: Run | Past, packet: wire.Packet) -> bool:
    """Whether a packet has a number of a run, and lies where packets of the run's lengths put that number.

    It is counted from the nearer end of the run, where the device's clock can have moved least.
    """
    if not run.first_seq <= packet.seq < run.next_seq or packet.rate_hz != run.rate_hz:
        return False
    packets, distance_s = packet.seq - run.first_seq, packet.start_s - run.started_s
    if packets > run.next_seq - packet.seq:
        packets, distance_s = run.next_seq - packet.seq, run.end_s - packet.start_s
    nearest_s = packets * run.shortest_s * (1 - CLOCK_DRIFT) - CLOCK_TOLERANCE_S
    return nearest_s <= distance_s <= packets * run.longest_s * (1 + CLOCK_DRIFT) + CLOCK_TOLERANCE_S


def _why_not_joined(run: Run, packet: wire.Packet) -> str | None:
    """Why a packet cannot be joined to a run, or None if it can."""
    if packet.rate_hz != run.rate_hz:
        return counters.RATE_CHANGES
    if packet.seq < run.next_seq:
        return counters.DEVICE_RESTARTS
    if packet.seq > run.next_seq:
        return counters.GAPS
    if abs(packet.start_s - run.end_s) > CLOCK_TOLERANCE_S:
        return counters.CLOCK_JUMPS
    return None
