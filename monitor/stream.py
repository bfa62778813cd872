"""One device's packets: put in order, and joined to unbroken stretches.

Packets may come twice or out of order; a packet that overtook others waits for them, for a while. What cannot be
joined (packets lost, a clock set back, another rate, a device that restarted) ends the stretch: the filters start over,
and a gap is reported.

Contiguous numbers are believed before time stamps: stamps that are coarse, late or drifting make a smooth clock
(`monitor.clock`), not a gap. Numbers that do not count packets are made to (`monitor.sequence`). What keeps a device's
signal from being judged is noted once, in words for the people who build it.

Knows nothing of what is in the samples, of other devices, of models or of alerts, and never reads a clock: times come
from the packets.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter, deque
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np

from monitor import counters, sequence, wire
from monitor.clock import Clock
from monitor.ecg.batch import PART_S, Batch, Event, SavedStretch, Stretch

EARLY_PACKETS, EARLY_SAMPLES = 3, wire.MAX_SAMPLES
"""So many packets may overtake a missing one before it counts as lost, and no more samples than these."""
LATE_PACKETS = 10
"""After so many packets in a row from the past, the device is taken to have been restarted with its clock set back."""
CLOCK_TOLERANCE_S = 0.5
"""A packet's time may be this far from where the ones before it end; more is a jump of a good clock."""
EXACT_S = 0.005
"""A clock is good as long as no stamp is further than this from the count of samples."""
ROUNDING_S = 1e-6
"""A stamp no further off agrees with it: seconds since 1970, as a float, are exact to a quarter of a microsecond."""
STALL_S = 60.0
"""A stamp may be this late: radios stall, and then deliver all at once."""
PROVEN_PACKETS = 3
"""Packets that show whether a clock is good; before, the first may have been a late one."""
CLOCK_DRIFT = 0.01
"""Most that a device's clock is taken to run fast or slow against its sampling rate, when that is not known better."""
CLOCK_FOLLOWS_S = 10.0
"""Time constant with which beat times follow a good clock that drifts against its sampling rate."""
SAME_RATE = 0.05
"""Rates that differ by less are one rate, measured again."""
FORMER_STRETCHES = 4
"""So many stretches that ended are remembered: after a lost connection a broker resends packets of any of them."""
AGAIN_S = 86400.0
"""Those before a stretch longer than this are dropped: no broker sends again that much of what was already taken."""
RATE_PACKETS, RATE_CHANGES = 50, 10
"""A device may change its rate once in so many packets, and so many times more now and then. A new rate costs up to
50 ms for its filters, more than anything else a packet can ask for: so it is 1 ms a packet at most."""
BRIEF_S = 4.0
"""In a stretch that ends sooner no beat can be judged: its rhythm is not known yet."""
REPEATS = 20
"""So many packets in a row with one number are no repetitions by a broker."""
SUMS, OTHERS = 4, 5
"""Of so many packets the checksums are kept; so many that come again with other content are of another device: a device
that was started anew counts past what is kept."""
NOTED_S, NOTED_RATE = 0.1, 0.01
"""Stamps that stray further than this, or a rate that is further off, are noted."""

Reason = Literal["clock", "rate", "seq", "broken", "polarity", "identity"]


class Notice(NamedTuple):
    """Something that is wrong with what a device sends; once for each device and reason."""

    owner: Any
    reason: Reason
    text: str
    """In words for the people who build the device."""
    seq: int
    """Number of the packet that showed it."""


class Past(msgspec.Struct, frozen=True, array_like=True):
    """What is remembered of a stretch that ended; the fields are those of `monitor.ecg.batch.Stretch`."""

    rate_hz: float
    started_s: float
    end_s: float
    first_seq: int
    next_seq: int
    shortest_s: float
    longest_s: float
    pace: float
    most_off_s: float
    seq: int


class SavedStream(msgspec.Struct, frozen=True, array_like=True):
    """A stream as it was between two packets."""

    stretch: SavedStretch | None
    early: list[tuple[int, float, float, bytes]]
    """Packets that wait for others: sequence number, time, rate, samples."""
    late: int
    past: list[Past]
    owed: int
    numbering: sequence.Numbering
    before: tuple[int, int, float, float] | None
    odd: int
    unjudged_s: float
    has_announced: bool


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
    notices
        Where what is wrong with the packets is noted.
    """

    __slots__ = (
        "_batch", "_before", "_counts", "_early", "_has_announced", "_is_plain", "_late", "_noted", "_notices",
        "_numbering", "_odd", "_others", "_owed", "_owner", "_past", "_repeated", "_stretch", "_sums", "_unjudged_s",
    )  # fmt: skip

    def __init__(self, owner: Any, batch: Batch, counts: Counter[str], notices: list[Notice] | None = None) -> None:
        self._owner = owner
        self._batch = batch
        self._counts = counts
        self._notices = notices
        self._noted: set[Reason] | None = None
        self._stretch: Stretch | None = None
        self._early: dict[int, wire.Packet] | None = None
        self._late = 0
        self._past: deque[Past] = deque(maxlen=FORMER_STRETCHES)
        self._owed = 0  # packets, for changes of the rate
        self._numbering = sequence.PACKETS
        self._before: sequence.Arrival | None = None  # the packet before, if it was not joined
        self._odd = 0  # packets in a row that follow in time, but not in number; where numbers have no rule, in both
        self._repeated = (-1, 0)  # number of the latest packet that was dropped, and how often in a row
        self._sums: list[tuple[int, int]] | None = None  # numbers and checksums of the latest packets
        self._others = 0  # packets that came again with other content, in this stretch
        self._unjudged_s = 0.0  # signal in stretches that were too brief, since the last that was not
        self._has_announced = False
        self._is_plain = True  # whether numbers count packets, and no restart was announced

    def feed(self, packet: wire.Packet) -> None:
        """Take a packet as it came, and those that waited for it."""
        stretch = self._stretch
        if self._owed:
            self._owed -= 1
        is_next = self._is_plain and stretch is not None and packet.seq == stretch.next_seq
        if not is_next:
            packet = self._number(packet)
            stretch = self._stretch
        if self._past and self._is_of_a_former_stretch(packet):
            self._drop_duplicate(packet)  # unacknowledged packets are redelivered, also across a restart
        elif not is_next or stretch is None:
            self._sort_in(packet, stretch)
        elif (
            self._early or packet.rate_hz != stretch.rate_hz or abs(packet.start_s - stretch.end_s) > CLOCK_TOLERANCE_S
        ):
            self._join(packet)
        else:
            self._late = 0
            self._take(stretch, packet)

    def _sort_in(self, packet: wire.Packet, stretch: Stretch | None) -> None:
        """Take a packet that may not be the one expected."""
        if self._has_announced and self._has_restarted(packet):
            self._start_over()
            stretch = None
        if stretch is None:
            # A stream begins with packet 0. Joined much later, whether there were others before is unknown.
            if packet.seq == 0 or (packet.seq > EARLY_PACKETS and not self._early):
                self._join(packet)
            else:
                self._wait(packet)
        elif packet.seq == stretch.next_seq:
            self._join(packet)
        elif packet.seq > stretch.next_seq:
            self._wait(packet)
            if _is_another_rate(packet, stretch):  # breaks the stretch anyway
                self._give_up_waiting(packet.seq)
        elif _is_repeated(stretch, packet):
            self._drop_duplicate(packet)
        else:
            self._late += 1
            if packet.start_s < stretch.end_s - CLOCK_TOLERANCE_S / 2 and self._late <= LATE_PACKETS:
                self._drop_duplicate(packet)
                return
            # The count began again and time went on, or only the past comes: the device was restarted.
            self._give_up_waiting()
            self._join(packet)

    @property
    def next_seq(self) -> int | None:
        """Number of the packet that is needed next, as the device would write it; see `monitor.sequence`.

        None if there is nothing to go by; 0 while the first packets wait for it.
        """
        if self._numbering.none or self._has_announced:
            return None
        if self._stretch is None:
            return 0 if self._early else None
        return self._numbering.own(self._stretch.next_seq)

    @property
    def latest(self) -> tuple[int, float] | None:
        """Sequence number, and end on the device's clock, of the packet that was taken last, if any was."""
        if self._stretch is not None:
            return self._stretch.seq, self._stretch.completed_s
        return (self._past[-1].seq, self._past[-1].end_s) if self._past else None

    @property
    def lane(self) -> int:
        """Where the batch has its present stretch; -1 if there is none."""
        return -1 if self._stretch is None else self._stretch.lane

    def finish(self) -> None:
        """No more will come: take what still waits, and finish the last beats."""
        self._give_up_waiting()
        self._break()

    def discard(self) -> None:
        """Another process goes on with the stream: drop what is remembered of it, and find nothing more."""
        if self._stretch is not None:
            self._batch.discard(self._stretch)
            self._stretch = None

    def restart(self) -> None:
        """The device announces that it has restarted. The next packet shows it: some announce it every few seconds."""
        if self._stretch is not None or self._early:
            self._has_announced, self._is_plain = True, False

    def save(self) -> SavedStream:
        """All that is remembered of the stream; nothing may wait in the batch."""
        early = [(p.seq, p.start_s, p.rate_hz, p.samples.tobytes()) for p in (self._early or {}).values()]
        stretch = None if self._stretch is None else self._batch.save(self._stretch)
        return SavedStream(
            stretch, early, self._late, list(self._past), self._owed, self._numbering, self._before, self._odd,
            self._unjudged_s, self._has_announced,
        )  # fmt: skip

    def restore(self, saved: SavedStream) -> None:
        """Go on where a stream was saved; to be called before anything is fed."""
        packets = [wire.Packet(seq, start_s, hz, np.frombuffer(x, np.int16)) for seq, start_s, hz, x in saved.early]
        self._early = {packet.seq: packet for packet in packets} or None
        self._late, self._owed = saved.late, saved.owed
        self._past.extend(saved.past)
        self._stretch = None if saved.stretch is None else self._batch.restore(self._owner, saved.stretch)
        if saved.numbering != sequence.PACKETS:
            self._numbering = saved.numbering
        self._before = None if saved.before is None else sequence.Arrival(*saved.before)
        self._odd, self._unjudged_s, self._has_announced = saved.odd, saved.unjudged_s, saved.has_announced
        self._is_plain = self._numbering is sequence.PACKETS and not self._has_announced

    def _note(self, reason: Reason, text: str, seq: int) -> None:
        self._noted = set() if self._noted is None else self._noted
        if self._notices is not None and reason not in self._noted:
            self._notices.append(Notice(self._owner, reason, text, seq))
        self._noted.add(reason)

    def _drop_duplicate(self, packet: wire.Packet) -> None:
        self._counts[counters.DUPLICATES] += 1
        seq, times = self._repeated
        if seq != packet.seq:  # one that never changes is no other device's
            self._compare(packet)
        self._repeated = packet.seq, times + 1 if seq == packet.seq else 1
        if self._repeated[1] == REPEATS:
            text = f"seq is {packet.seq} in {REPEATS} packets in a row, and start_s does not tell them apart"
            self._note("seq", f"{text}: they are taken for repetitions. Count packets in seq, from 0.", packet.seq)

    def _compare(self, packet: wire.Packet) -> None:
        """Note that packets come again with other content: two devices use one id, or one gives a number twice."""
        if not self._is_plain or self._sums is None:
            return
        seq, checksum = self._sums[packet.seq % SUMS]
        self._others += seq == packet.seq and checksum != _sum(packet)
        if self._others == OTHERS:
            text = f"seq {packet.seq} and others came twice, with other samples, so another device may use this id"
            self._note("identity", f"{text}: what is judged is a mixture. Give each device its own id.", packet.seq)

    def _number(self, packet: wire.Packet) -> wire.Packet:
        """Return a packet whose number is not the one expected, with one that counts if it does not."""
        if self._numbering.bits and packet.seq >> self._numbering.bits:
            self._forget_wrap()
        stretch, before = self._stretch, self._before
        numbering = self._numbering
        if stretch is None:
            last = self._past[-1].next_seq if self._past else 0
            number = last if numbering.none else numbering.unwrap(packet.seq, last)
            return packet if number == packet.seq else replace(packet, seq=number)
        joined = sequence.Arrival(
            stretch.next_seq - numbering.step(stretch.size), stretch.size, stretch.begin_s, stretch.end_s
        )
        # How many packets on, by its time: half of them may be missing.
        length_s = max(stretch.samples / stretch.rate_hz / stretch.packets, 1e-3)
        near = stretch.next_seq + (packet.start_s - stretch.end_s) / length_s * numbering.step(stretch.size)
        if numbering.bits and packet.seq == numbering.own(stretch.next_seq):
            near = stretch.next_seq
        number = numbering.unwrap(packet.seq, near)
        end_s = packet.start_s + packet.samples.size / stretch.rate_hz
        arrival = sequence.Arrival(number, packet.samples.size, packet.start_s, end_s)
        if numbering.none:
            number = self._number_by_time(stretch, arrival)
            return packet if number == packet.seq else replace(packet, seq=number)
        if number == stretch.next_seq:
            self._before, self._odd = None, 0
        else:
            before = before or joined
            self._before = arrival
            found = sequence.recognise(before, arrival, numbering)
            self._odd = self._odd + 1 if found is None and sequence.is_odd(before, arrival, numbering) else 0
            if self._odd >= sequence.ODD:
                found = sequence.Numbering(none=True)
            if found is not None:
                self._renumber(found, before, arrival)
                numbering = self._numbering
                number = numbering.unwrap(packet.seq, stretch.next_seq if numbering.bits else packet.seq)
        if numbering.none and self._stretch is not None:
            number = self._number_by_time(self._stretch, arrival)
        return packet if number == packet.seq else replace(packet, seq=number)

    def _number_by_time(self, stretch: Stretch, arrival: sequence.Arrival) -> int:
        """Return a number for a packet whose own has no rule; believe its own again once many in a row have one."""
        before, self._before = self._before, arrival
        self._odd = self._odd + 1 if before is not None and sequence.is_counted(before, arrival) else 0
        joined = sequence.Arrival(0, stretch.size, stretch.begin_s, stretch.end_s)
        number = sequence.by_time(stretch.next_seq, joined, arrival)
        if self._odd < sequence.COUNTED or number != stretch.next_seq or self._early:
            return number
        stretch.first_seq += arrival.number - number
        stretch.next_seq, stretch.own_seq = arrival.number, -1
        self._numbering = sequence.PACKETS
        self._is_plain = not self._has_announced
        self._before, self._odd = None, 0
        return arrival.number

    def _forget_wrap(self) -> None:
        """The counter is wider than it seemed: what was taken for its wrap was a restart."""
        self._numbering = sequence.Numbering(samples=True) if self._numbering.samples else sequence.PACKETS
        self._is_plain = self._numbering is sequence.PACKETS and not self._has_announced
        self._before, self._odd = None, 0
        self._give_up_waiting()
        self._break()

    def _renumber(self, found: sequence.Numbering, before: sequence.Arrival, after: sequence.Arrival) -> None:
        """Go on with another way to number; say so if it is not that of the contract."""
        known, self._numbering = self._numbering, sequence.PACKETS if found == sequence.PACKETS else found
        self._is_plain = self._numbering is sequence.PACKETS and not self._has_announced
        self._before, self._odd = None, 0
        stretch = self._stretch
        assert stretch is not None
        went = f"seq went from {before.number} to {after.number} where no packet is missing"
        if found.none:
            early, self._early = self._early or {}, None
            for packet in early.values():
                self._join(replace(packet, seq=self._stretch.next_seq if self._stretch else packet.seq))
            text = f"{went}, so it has no rule. Packets are ordered by start_s, and are not acknowledged"
            self._note("seq", f"{text}. Count packets in seq, from 0.", after.number)
        elif found.samples and not known.samples:
            self._note("seq", f"{went}: taken for the index of the first sample. Better count packets.", after.number)
        if found.samples == known.samples:
            return
        if stretch.packets > 1 or self._early:
            self._give_up_waiting()
            self._break()
            return
        was, step = known.step(stretch.size), found.step(stretch.size)
        stretch.next_seq += step - was
        stretch.counted = 1
        stretch.shortest_s = stretch.longest_s = stretch.longest_s * was / step

    def _has_restarted(self, packet: wire.Packet) -> bool:
        """Whether a packet after the announcement of a restart shows one; it does not where it simply goes on."""
        stretch = self._stretch
        if stretch is not None and not _is_another_rate(packet, stretch):
            if _is_repeated(stretch, packet):
                return False
            ahead, late_s = packet.seq - stretch.next_seq, packet.start_s - stretch.end_s
            most_s = (ahead + 1) * stretch.longest_s + CLOCK_TOLERANCE_S
            is_near = ahead <= EARLY_PACKETS * self._numbering.step(stretch.size)
            if ahead > 0 and is_near and -CLOCK_TOLERANCE_S < late_s < most_s:
                return False
        self._has_announced = False
        self._is_plain = self._numbering is sequence.PACKETS
        return stretch is None or _why_not_joined(stretch, packet) is not None

    def _start_over(self) -> None:
        self._counts[counters.DEVICE_RESTARTS] += 1
        self._give_up_waiting()
        self._break()

    def _break(self) -> None:
        """End the stretch, if there is one."""
        stretch = self._stretch
        self._others = 0
        if stretch is not None:
            self._batch.close(stretch)
            if stretch.samples > AGAIN_S * stretch.rate_hz:
                self._past.clear()
            self._past.append(Past(*(getattr(stretch, name) for name in Past.__struct_fields__)))
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
        if before is not None and packet.rate_hz != before.rate_hz and not self._takes_rate(packet, before.rate_hz):
            return
        self._late = 0
        if stretch is not None and (broken := _why_not_joined(stretch, packet)) is not None:
            self._counts[broken] += 1
            self._break()
            end_s = packet.start_s + packet.samples.size / packet.rate_hz
            seq = self._numbering.own(packet.seq)
            self._batch.add(Event(self._owner, "gap", packet.start_s, seq, end_s))
            if stretch.samples < BRIEF_S * stretch.rate_hz:
                self._leave_unjudged(stretch.samples / stretch.rate_hz, packet, broken)
            else:
                self._unjudged_s = 0.0
            stretch = None
        if stretch is None:
            # A rate that was only measured again needs no filters of its own.
            is_known = before is not None and not _is_another_rate(packet, before)
            rate_hz = before.rate_hz if before is not None and is_known else packet.rate_hz
            stretch = self._stretch = Stretch(self._owner, rate_hz, packet.start_s, packet.seq)
            self._batch.open(stretch)
        self._take(stretch, packet)
        while self._early and (following := self._early.pop(stretch.next_seq, None)) is not None:
            self._join(following)

    def _takes_rate(self, packet: wire.Packet, rate_hz: float) -> bool:
        """Whether a packet of a new rate may be taken; one that is only measured again always may."""
        if abs(packet.rate_hz - rate_hz) <= SAME_RATE * rate_hz:
            return True
        if self._owed > RATE_PACKETS * (RATE_CHANGES - 1):
            self._counts[counters.RATE_CHANGES_REFUSED] += 1
            text = f"rate_hz keeps changing, now from {rate_hz:g} to {packet.rate_hz:g}: such packets are refused"
            self._note("rate", f"{text}. Send the nominal rate of the device.", packet.seq)
            self._leave_unjudged(packet.samples.size / packet.rate_hz, packet, counters.RATE_CHANGES)
            return False
        self._owed += RATE_PACKETS
        return True

    def _leave_unjudged(self, seconds: float, packet: wire.Packet, why: str) -> None:
        """Note signal that came and is not judged; after a while, report that there are no beats."""
        self._unjudged_s += seconds
        if self._unjudged_s <= self._batch.silence_s:
            return
        seq, end_s = self._numbering.own(packet.seq), packet.start_s + packet.samples.size / packet.rate_hz
        self._batch.add(Event(self._owner, "no-beats", end_s, seq, end_s, self._unjudged_s, is_doubtful=True))
        text = f"the signal breaks every few seconds, so no beat can be judged; the latest reason is: {why}"
        self._note("broken", f"{text} (seq {seq}, start_s {packet.start_s:.3f}).", seq)

    def _take(self, stretch: Stretch, packet: wire.Packet) -> None:
        """Add a packet that follows to the stretch."""
        start_s, samples = packet.start_s, packet.samples
        size = samples.size
        duration_s = size / stretch.rate_hz
        if stretch.waits:
            self._batch.advance()
        stretch.next_seq = packet.seq + 1
        if self._sums is None:
            self._sums = [(-1, 0)] * SUMS
        self._sums[packet.seq % SUMS] = packet.seq, _sum(packet)
        off_s = start_s - stretch.end_s
        if stretch.clock is None and -EXACT_S <= off_s <= EXACT_S:
            if off_s > ROUNDING_S or off_s < -ROUNDING_S:
                stretch.drift_s += off_s * (duration_s / CLOCK_FOLLOWS_S if duration_s < CLOCK_FOLLOWS_S else 1.0)
            stretch.samples += size
            stretch.end_s = stretch.started_s + stretch.samples / stretch.rate_hz + stretch.drift_s
            stretch.completed_s = start_s + duration_s
        else:
            start_s = self._follow_clock(stretch, packet, duration_s)
        step_s = duration_s if self._numbering is sequence.PACKETS else self._count(stretch, packet, duration_s)
        if step_s < stretch.shortest_s:
            stretch.shortest_s = step_s
        if step_s > stretch.longest_s:
            stretch.longest_s = step_s
        stretch.part_s = start_s
        if duration_s <= PART_S:
            self._batch.put(stretch, samples)
            return
        part = math.ceil(PART_S * stretch.rate_hz)
        for begin in range(0, size, part):
            self._batch.put(stretch, samples[begin : begin + part])
            self._batch.advance()

    def _count(self, stretch: Stretch, packet: wire.Packet, duration_s: float) -> float:
        """Let a stretch go on by a packet that is not numbered as packets are counted; return its length per number."""
        step = self._numbering.step(packet.samples.size)
        stretch.next_seq, stretch.own_seq = packet.seq + step, self._numbering.own(packet.seq)
        if self._numbering.samples:
            stretch.counted += 1
        return duration_s / step

    def _follow_clock(self, stretch: Stretch, packet: wire.Packet, duration_s: float) -> float:
        """Let a stretch's clock take a stamp that does not agree with the count; return when the packet begins."""
        at_s = stretch.samples / stretch.rate_hz
        clock = stretch.clock
        if clock is None:
            packets = stretch.counted or packet.seq - stretch.first_seq
            clock = stretch.clock = Clock.begin(stretch.started_s, at_s, stretch.drift_s, packets)
        stretch.stamp_s = packet.start_s
        off_s = packet.start_s - stretch.end_s
        stretch.most_off_s = max(stretch.most_off_s, abs(off_s))
        if clock.take(at_s, duration_s, packet.start_s, packet.start_s - stretch.started_s - at_s):
            self._counts[counters.CLOCK_JUMPS] += 1
        begin_s = stretch.started_s + at_s + clock.offset_s - clock.slope * duration_s
        stretch.samples += packet.samples.size
        stretch.drift_s, stretch.pace = clock.offset_s, 1.0 + clock.slope
        stretch.end_s = stretch.completed_s = stretch.started_s + stretch.samples / stretch.rate_hz + stretch.drift_s
        if self._notices is not None:
            self._note_clock(stretch, clock, packet.seq)
        return begin_s

    def _note_clock(self, stretch: Stretch, clock: Clock, seq: int) -> None:
        noted = self._noted or set()
        if clock.spread_s > NOTED_S and "clock" not in noted:
            text = f"start_s strays from the clock of the samples by {clock.spread_s:.3g} s; packets are not missing"
            self._note("clock", f"{text}, so times come from their count. Stamp the first sample, to the ms.", seq)
        if abs(clock.slope) > NOTED_RATE and clock.fitted_s > max(30.0, 60 * clock.spread_s) and "rate" not in noted:
            true_hz = stretch.rate_hz / stretch.pace
            text = f"rate_hz is {stretch.rate_hz:g}, but by start_s there are {true_hz:.4g} samples a second"
            self._note("rate", f"{text}: heart rates follow start_s.", seq)


def _is_another_rate(packet: wire.Packet, other: Stretch | Past) -> bool:
    rate_hz = other.rate_hz
    return packet.rate_hz != rate_hz and abs(packet.rate_hz - rate_hz) > SAME_RATE * rate_hz


def _is_repeated(stretch: Stretch, packet: wire.Packet) -> bool:
    """Whether a packet has a number from the past and lies where that packet lay, as far as is known.

    How long the packets before the stretch were is not known: 0.5 to 1.5 times as long as those of the stretch.
    """
    if packet.seq >= stretch.first_seq or _is_another_rate(packet, stretch):
        return _is_of(stretch, packet)
    before_s = (stretch.first_seq - packet.seq) * stretch.samples / stretch.rate_hz
    before_s /= stretch.next_seq - stretch.first_seq
    tolerance_s = CLOCK_TOLERANCE_S + 2 * stretch.most_off_s
    return abs(stretch.started_s - before_s - packet.start_s) <= tolerance_s + before_s / 2


def _is_of(stretch: Stretch | Past, packet: wire.Packet) -> bool:
    """Whether a packet has a number of a stretch, and lies where packets of its lengths put that number.

    It is counted from the nearer end of the stretch, where the device's clock can have moved least.
    """
    if not stretch.first_seq <= packet.seq < stretch.next_seq or _is_another_rate(packet, stretch):
        return False
    packets, distance_s = packet.seq - stretch.first_seq, packet.start_s - stretch.started_s
    if packets > stretch.next_seq - packet.seq:
        packets, distance_s = stretch.next_seq - packet.seq, stretch.end_s - packet.start_s
    drift, tolerance_s = CLOCK_DRIFT + abs(stretch.pace - 1.0), CLOCK_TOLERANCE_S + 2 * stretch.most_off_s
    nearest_s = packets * stretch.shortest_s * (1 - drift) - tolerance_s
    return nearest_s <= distance_s <= packets * stretch.longest_s * (1 + drift) + tolerance_s


def _sum(packet: wire.Packet) -> int:
    return zlib.crc32(packet.samples.tobytes())


def _why_not_joined(stretch: Stretch, packet: wire.Packet) -> str | None:
    """Why a packet cannot be joined to a stretch, or None if it can."""
    if packet.rate_hz != stretch.rate_hz and _is_another_rate(packet, stretch):
        return counters.RATE_CHANGES
    if packet.seq < stretch.next_seq:
        return counters.DEVICE_RESTARTS
    if packet.seq > stretch.next_seq:
        return counters.GAPS
    if abs(packet.start_s - stretch.end_s) > CLOCK_TOLERANCE_S and _is_clock_jump(stretch, packet):
        return counters.CLOCK_JUMPS
    return None


def _is_clock_jump(stretch: Stretch, packet: wire.Packet) -> bool:
    """Whether a stamp is further off than a clock of that kind can be: late ones may be, but none is early."""
    off_s, clock = packet.start_s - stretch.end_s, stretch.clock
    wide_s = 0.0 if clock is None else 2 * clock.spread_s + max(clock.grain_s, clock.float_grain_s)
    early_s = CLOCK_TOLERANCE_S if stretch.packets >= PROVEN_PACKETS else STALL_S
    return not -early_s - wide_s <= off_s <= STALL_S + wide_s
