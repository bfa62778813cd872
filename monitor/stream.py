"""One device's packets: put in order, joined to unbroken runs, resampled, and cut into beats.

Packets may come twice or out of order; a packet that overtook others waits for them, for a while. What cannot be
joined (packets lost, a clock that jumps, a new rate, a device started again) breaks the run: the filters begin anew,
and the break is told. Whatever else is wrong with the signal is told too: no contact, no beats.

Knows nothing of other devices, of models or of alerts, and never reads a clock: times come from the packets.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from monitor import beat, wire
from monitor.quality import BeatQuality, Contact, to_signal
from monitor.resample import Resampler
from monitor.segment import Heartbeat, Segmenter

EARLY_PACKETS = 3
"""So many packets may overtake a missing one before it counts as lost."""
LATE_PACKETS = 10
"""After so many packets in a row from the past, the device is taken to have been restarted with its clock set back."""
CLOCK_TOLERANCE_S = 0.5
"""A packet's time may be this far from where the ones before it end; more is a jump of the clock."""
CLOCK_FOLLOWS_S = 10.0
"""Time constant with which beat times follow a device whose clock drifts against its sampling rate."""
NO_BEATS_S = 6.0
"""Signal without a beat for this long is told."""
CLIPPED_BEFORE_S = 0.04
LONGEST_PART_S = 10.0
"""A longer packet is taken in parts, so that what is remembered of it can be bounded."""

What = Literal["beat", "gap", "lead-off", "no-beats"]


class Found(NamedTuple):
    """Something a packet brought to light."""

    what: What
    time_s: float
    """When it was, on the device's clock; of a beat, its R peak."""
    seq: int
    """Sequence number of the packet."""
    completed_s: float
    """End of the packet, on the device's clock."""
    beat: Heartbeat | None = None
    unfit: str | None = None
    """Why the beat must not be judged, if so."""
    outdated: bool = False
    """Whether it was already told that the electrode came off after this beat."""


@dataclass(slots=True)
class _Run:
    """An unbroken run of packets, and what must begin anew with the next one."""

    rate_hz: float
    next_seq: int
    started_s: float
    next_rr: bool
    samples: int = 0
    completed_s: float = 0.0
    """End of the latest packet."""
    drift_s: float = 0.0
    """How far the device's clock has moved against its count of samples."""
    off_s: float = -math.inf
    """When the electrode last came to count as off."""
    resampler: Resampler = field(init=False)
    segmenter: Segmenter = field(init=False)
    contact: Contact = field(init=False)
    quality: BeatQuality = field(init=False)

    def __post_init__(self) -> None:
        self.resampler = Resampler(self.rate_hz, self.started_s)
        self.segmenter = Segmenter(self.next_rr)
        self.contact = Contact(self.rate_hz)
        self.quality = BeatQuality()

    @property
    def end_s(self) -> float:
        """Where the next packet should begin, on the device's clock."""
        return self.started_s + self.samples / self.rate_hz + self.drift_s

    def time_of(self, sample: int) -> float:
        """Time of a sample of the 125 Hz stream, on the device's clock."""
        return (self.resampler.first + sample) / beat.RATE_HZ + self.drift_s

    def why_not_joined(self, packet: wire.Packet) -> str | None:
        """Why a packet cannot be joined to the run, or None if it can."""
        if packet.rate_hz != self.rate_hz:
            return "rate changes"
        if packet.seq < self.next_seq:
            return "device restarts"
        if packet.seq > self.next_seq:
            return "gaps"
        if abs(packet.start_s - self.end_s) > CLOCK_TOLERANCE_S:
            return "clock jumps"
        return None

    def take(self, packet: wire.Packet) -> list[Found]:
        """Take the next packet; return what it brought to light."""
        duration_s = packet.samples.size / self.rate_hz
        if self.samples:
            self.drift_s += (packet.start_s - self.end_s) * min(1.0, duration_s / CLOCK_FOLLOWS_S)
        self.next_seq = packet.seq + 1
        self.completed_s = packet.start_s + duration_s
        found: list[Found] = []
        part = math.ceil(LONGEST_PART_S * self.rate_hz)
        for begin in range(0, packet.samples.size, part):
            samples = packet.samples[begin : begin + part]
            off = [packet.start_s + (begin + place) / self.rate_hz for place in self.contact.push(samples)]
            found += [self._found("lead-off", time_s) for time_s in off]
            self.off_s = max([self.off_s, *off])
            self.samples += samples.size
            beats = self.segmenter.push(self.resampler.push(to_signal(samples)))
            found += [self._tell(heartbeat) for heartbeat in beats]
        if self.segmenter.since_last > NO_BEATS_S * beat.RATE_HZ and not self.contact.is_off:
            found.append(self._found("no-beats", self.completed_s))
        return found

    def finish(self) -> list[Found]:
        """No packet can be joined any more: tell the beats that still wait, for their windows or for the next beat."""
        return [self._tell(heartbeat) for heartbeat in self.segmenter.finish()]

    def _found(self, what: What, time_s: float) -> Found:
        return Found(what, time_s, self.next_seq - 1, self.completed_s)

    def _tell(self, heartbeat: Heartbeat) -> Found:
        time_s = self.time_of(heartbeat.r_peak)
        found, unfit = self._found("beat", time_s), self._why_unfit(heartbeat)
        return found._replace(beat=heartbeat, unfit=unfit, outdated=time_s < self.off_s)

    def _why_unfit(self, heartbeat: Heartbeat) -> str | None:
        if not heartbeat.complete:
            return "window incomplete"
        if heartbeat.median_rr is None:
            return "rhythm unknown"
        unfit = self.quality.why_unfit(heartbeat.signal)
        # From a little before the R peak: where a peak is cut off flat, any of its samples may be the highest.
        begin_s = (self.resampler.first + heartbeat.r_peak) / beat.RATE_HZ - self.started_s
        end_s = begin_s + heartbeat.signal.size / beat.RATE_HZ
        if self.contact.is_clipped(round((begin_s - CLIPPED_BEFORE_S) * self.rate_hz), round(end_s * self.rate_hz)):
            return unfit or "clipped"
        return unfit


class Stream:
    """The packets of one device.

    Parameters
    ----------
    counts
        Where duplicates and breaks are counted, by name.
    next_rr
        Tell a beat only when the next one is known; see `monitor.segment.Segmenter`.
    """

    def __init__(self, counts: Counter[str], next_rr: bool = False) -> None:
        self._counts = counts
        self._next_rr = next_rr
        self._run: _Run | None = None
        self._early: dict[int, wire.Packet] = {}
        self._late = 0

    def feed(self, packet: wire.Packet) -> list[Found]:
        """Take a packet as it came; return what it, and those that waited for it, brought to light."""
        run = self._run
        if run is not None and packet.seq != run.next_seq and packet.rate_hz == run.rate_hz:
            if packet.seq > run.next_seq:
                self._early[packet.seq] = packet
                return self._give_up_waiting() if len(self._early) > EARLY_PACKETS else []
            self._late += 1
            if packet.start_s < run.end_s - CLOCK_TOLERANCE_S / 2 and self._late <= LATE_PACKETS:
                self._counts["duplicates"] += 1
                return []
            # The count began again and time went on, or only the past comes: the device was restarted.
            self._early.clear()
        return self._join(packet)

    def finish(self) -> list[Found]:
        """No more will come: take what still waits, and tell the last beats."""
        found = []
        while self._early:
            found += self._give_up_waiting()
        return found + self._break()

    def restart(self) -> list[Found]:
        """The device says that it was started again: whatever comes next begins a new run."""
        self._counts["device restarts"] += 1
        self._early.clear()
        return self._break()

    def _break(self) -> list[Found]:
        """End the run, if there is one."""
        run, self._run = self._run, None
        return [] if run is None else run.finish()

    def _give_up_waiting(self) -> list[Found]:
        """The packets before the first early one are lost: begin anew with it."""
        return self._join(self._early.pop(min(self._early)))

    def _join(self, packet: wire.Packet) -> list[Found]:
        """Take a packet and those that waited for it."""
        self._late = 0
        found: list[Found] = []
        broken = None if self._run is None else self._run.why_not_joined(packet)
        if broken is not None:
            self._counts[broken] += 1
            found += self._break()
            end_s = packet.start_s + packet.samples.size / packet.rate_hz
            found.append(Found("gap", packet.start_s, packet.seq, end_s))
        if self._run is None:
            self._run = _Run(packet.rate_hz, packet.seq, packet.start_s, self._next_rr)
        found += self._run.take(packet)
        while self._run.next_seq in self._early:
            found += self._join(self._early.pop(self._run.next_seq))
        return found
