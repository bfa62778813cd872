"""One device's packets: put in order, and joined to unbroken stretches.

Packets may come twice or out of order; a packet that overtook others waits for them, for a while. What cannot be
joined (packets lost, a clock that jumps, a new rate, a device started again) ends the stretch: the filters start over,
and a gap is reported.

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
from monitor.ecg.batch import PART_S, Batch, Event, SavedStretch, Stretch

EARLY_PACKETS, EARLY_SAMPLES = 3, wire.MAX_SAMPLES
"""So many packets may overtake a missing one before it counts as lost, and no more samples than these."""
LATE_PACKETS = 10
"""After so many packets in a row from the past, the device is taken to have been restarted with its clock set back."""
CLOCK_TOLERANCE_S = 0.5
"""A packet's time may be this far from where the ones before it end; more is a jump of the clock."""
CLOCK_DRIFT = 0.01
"""Most that a device's clock is taken to stretch fast or slow against its sampling rate."""
CLOCK_FOLLOWS_S = 10.0
"""Time constant with which beat times follow a device whose clock drifts against its sampling rate."""
FORMER_STRETCHES = 4
"""So many stretches that ended are remembered: after a lost connection a broker resends packets of any of them."""
AGAIN_S = 86400.0
"""Those before a stretch longer than this are dropped: no broker sends again that much of what was already taken."""
RATE_PACKETS, RATE_CHANGES = 50, 10
"""A device may change its rate once in so many packets, and so many times more now and then. A new rate costs up to
50 ms for its filters, more than anything else a packet can ask for: so it is 1 ms a packet at most."""


class Past(msgspec.Struct, frozen=True, array_like=True):
    """What is remembered of a stretch that ended; the fields are those of `monitor.ecg.batch.Stretch`."""

    rate_hz: float
    started_s: float
    end_s: float
    first_seq: int
    next_seq: int
    shortest_s: float
    longest_s: float


class SavedStream(msgspec.Struct, frozen=True, array_like=True):
    """A stream as it was between two packets."""

    stretch: SavedStretch | None
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
    batch
        Where the samples go.
    counts
        Where duplicates and breaks are counted, by name.
    """

    __slots__ = ("_batch", "_counts", "_early", "_late", "_owed", "_owner", "_past", "_stretch")

    def __init__(self, owner: Any, batch: Batch, counts: Counter[str]) -> None:
        self._owner = owner
        self._batch = batch
        self._counts = counts
        self._stretch: Stretch | None = None
        self._early: dict[int, wire.Packet] | None = None
        self._late = 0
        self._past: deque[Past] = deque(maxlen=FORMER_STRETCHES)
        self._owed = 0  # packets, for changes of the rate

    def feed(self, packet: wire.Packet) -> None:
        """Take a packet as it came, and those that waited for it."""
        stretch = self._stretch
        if self._owed:
            self._owed -= 1
        if self._past and self._is_of_a_former_stretch(packet):
            self._counts[counters.DUPLICATES] += 1  # unacknowledged packets are redelivered, also across a restart
        elif stretch is None:
            # A stream begins with packet 0. Joined much later, whether there were others before is unknown.
            if packet.seq == 0 or (packet.seq > EARLY_PACKETS and not self._early):
                self._join(packet)
            else:
                self._wait(packet)
        elif packet.seq == stretch.next_seq:
            self._join(packet)
        elif packet.seq > stretch.next_seq:
            self._wait(packet)
            if packet.rate_hz != stretch.rate_hz:  # breaks the stretch anyway
                self._give_up_waiting(packet.seq)
        elif _is_repeated(stretch, packet):
            self._counts[counters.DUPLICATES] += 1
        else:
            self._late += 1
            if packet.start_s < stretch.end_s - CLOCK_TOLERANCE_S / 2 and self._late <= LATE_PACKETS:
                self._counts[counters.DUPLICATES] += 1
                return
            # The count began again and time went on, or only the past comes: the device was restarted.
            self._give_up_waiting()
            self._join(packet)

    @property
    def next_seq(self) -> int | None:
        """Sequence number of the packet that is needed next, if any is known: 0 while the first ones wait for it."""
        if self._stretch is None:
            return 0 if self._early else None
        return self._stretch.next_seq

    @property
    def latest(self) -> tuple[int, float] | None:
        """Sequence number, and end on the device's clock, of the packet that was taken last, if any was."""
        if self._stretch is not None:
            return self._stretch.next_seq - 1, self._stretch.completed_s
        return (self._past[-1].next_seq - 1, self._past[-1].end_s) if self._past else None

    def finish(self) -> None:
        """No more will come: take what still waits, and finish the last beats."""
        self._give_up_waiting()
        self._break()

    def restart(self) -> None:
        """The device has announced that it restarted: whatever comes next begins a new stretch."""
        self._counts[counters.DEVICE_RESTARTS] += 1
        self._give_up_waiting()
        self._break()

    def save(self) -> SavedStream:
        """All that is remembered of the stream; nothing may wait in the batch."""
        early = [(p.seq, p.start_s, p.rate_hz, p.samples.tobytes()) for p in (self._early or {}).values()]
        stretch = None if self._stretch is None else self._batch.save(self._stretch)
        return SavedStream(stretch, early, self._late, list(self._past), self._owed)

    def restore(self, saved: SavedStream) -> None:
        """Go on where a stream was saved; to be called before anything is fed."""
        packets = [wire.Packet(seq, start_s, hz, np.frombuffer(x, np.int16)) for seq, start_s, hz, x in saved.early]
        self._early = {packet.seq: packet for packet in packets} or None
        self._late, self._owed = saved.late, saved.owed
        self._past.extend(saved.past)
        self._stretch = None if saved.stretch is None else self._batch.restore(self._owner, saved.stretch)

    def _break(self) -> None:
        """End the stretch, if there is one."""
        if self._stretch is not None:
            self._batch.close(self._stretch)
            if self._stretch.samples > AGAIN_S * self._stretch.rate_hz:
                self._past.clear()
            self._past.append(Past(*(getattr(self._stretch, name) for name in Past.__struct_fields__)))
            self._stretch = None

    def _is_of_a_former_stretch(self, packet: wire.Packet) -> bool:
        """Whether a packet was taken before this stretch began; never the one that this stretch needs next."""
        stretch = self._stretch
        if stretch is not None and packet.seq == stretch.next_seq and _why_not_joined(stretch, packet) is None:
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
        """The packets before the first early one are lost: start over with it."""
        assert self._early
        self._join(self._early.pop(min(self._early)))

    def _join(self, packet: wire.Packet) -> None:
        """Take a packet and those that waited for it."""
        stretch = self._stretch
        before = stretch or (self._past[-1] if self._past else None)
        if before is not None and packet.rate_hz != before.rate_hz:
            if self._owed > RATE_PACKETS * (RATE_CHANGES - 1):
                self._counts[counters.RATE_CHANGES_REFUSED] += 1
                return
            self._owed += RATE_PACKETS
        self._late = 0
        if stretch is not None and (broken := _why_not_joined(stretch, packet)) is not None:
            self._counts[broken] += 1
            self._break()
            end_s = packet.start_s + packet.samples.size / packet.rate_hz
            self._batch.add(Event(self._owner, "gap", packet.start_s, packet.seq, end_s))
            stretch = None
        if stretch is None:
            stretch = self._stretch = Stretch(self._owner, packet.rate_hz, packet.start_s, packet.seq)
            self._batch.open(stretch)
        self._take(stretch, packet)
        while self._early and (following := self._early.pop(stretch.next_seq, None)) is not None:
            self._join(following)

    def _take(self, stretch: Stretch, packet: wire.Packet) -> None:
        """Add a packet that follows to the stretch."""
        start_s, samples = packet.start_s, packet.samples
        duration_s = samples.size / stretch.rate_hz
        if stretch.waits:
            self._batch.advance()
        stretch.drift_s += (start_s - stretch.end_s) * min(1.0, duration_s / CLOCK_FOLLOWS_S)
        stretch.samples += samples.size
        stretch.shortest_s, stretch.longest_s = min(stretch.shortest_s, duration_s), max(stretch.longest_s, duration_s)
        stretch.end_s = stretch.started_s + stretch.samples / stretch.rate_hz + stretch.drift_s
        stretch.next_seq = packet.seq + 1
        stretch.part_s = start_s
        stretch.completed_s = start_s + duration_s
        if duration_s <= PART_S:
            self._batch.put(stretch, samples)
            return
        part = math.ceil(PART_S * stretch.rate_hz)
        for begin in range(0, samples.size, part):
            stretch.part_s = start_s + begin / stretch.rate_hz
            self._batch.put(stretch, samples[begin : begin + part])
            self._batch.advance()


def _is_repeated(stretch: Stretch, packet: wire.Packet) -> bool:
    """Whether a packet has a number from the past and lies where that packet lay, as far as is known.

    How long the packets before the stretch were is not known: 0.5 to 1.5 times as long as those of the stretch.
    """
    if packet.seq >= stretch.first_seq or packet.rate_hz != stretch.rate_hz:
        return _is_of(stretch, packet)
    before_s = (
        (stretch.first_seq - packet.seq) * stretch.samples / stretch.rate_hz / (stretch.next_seq - stretch.first_seq)
    )
    return abs(stretch.started_s - before_s - packet.start_s) <= CLOCK_TOLERANCE_S + before_s / 2


def _is_of(stretch: Stretch | Past, packet: wire.Packet) -> bool:
    """Whether a packet has a number of a stretch, and lies where packets of the stretch's lengths put that number.

    It is counted from the nearer end of the stretch, where the device's clock can have moved least.
    """
    if not stretch.first_seq <= packet.seq < stretch.next_seq or packet.rate_hz != stretch.rate_hz:
        return False
    packets, distance_s = packet.seq - stretch.first_seq, packet.start_s - stretch.started_s
    if packets > stretch.next_seq - packet.seq:
        packets, distance_s = stretch.next_seq - packet.seq, stretch.end_s - packet.start_s
    nearest_s = packets * stretch.shortest_s * (1 - CLOCK_DRIFT) - CLOCK_TOLERANCE_S
    return nearest_s <= distance_s <= packets * stretch.longest_s * (1 + CLOCK_DRIFT) + CLOCK_TOLERANCE_S


def _why_not_joined(stretch: Stretch, packet: wire.Packet) -> str | None:
    """Why a packet cannot be joined to a stretch, or None if it can."""
    if packet.rate_hz != stretch.rate_hz:
        return counters.RATE_CHANGES
    if packet.seq < stretch.next_seq:
        return counters.DEVICE_RESTARTS
    if packet.seq > stretch.next_seq:
        return counters.GAPS
    if abs(packet.start_s - stretch.end_s) > CLOCK_TOLERANCE_S:
        return counters.CLOCK_JUMPS
    return None
