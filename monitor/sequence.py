"""How a device numbers its packets: what other than 0, 1, 2 ... is recognised, and what is made of it.

The contract wants a count of packets. Devices also send

* the index of a packet's first sample: numbers then grow by the number of samples,
* a counter of 8, 16 or 32 bits that wraps (of packets or of samples),
* the same number always, or numbers without a rule.

One pair of packets whose times join on, so that nothing was lost between them, shows which. Numbers are made to grow
without wrapping, and where there is no rule, times stand in for them, until many in a row count packets after all.

What a device hears in an `ack` is in its own numbering. A count of packets or samples: the first that is still needed,
as it would number it. A counter that wraps: the same, wrapped, so "below" is meant modulo its size. Numbers without a
rule name no packet, so such a device hears no `ack` while they have none.

Pure: knows neither streams nor messages.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

WIDTHS = (8, 16, 32)
"""Bits of counters that wrap."""
JOINS_S = 0.5
"""Most by which the time of a packet may miss the end of the one before, to join on,"""
COARSE_S = 1.1
"""or this much where a whole-second clock cannot do better."""
ODD = 3
"""So many pairs in a row that join on in time, but not in number, and numbers have no rule."""

COUNTED = 10
"""So many in a row that join on in time and in number, and numbers count packets after all."""


class Arrival(NamedTuple):
    """A packet, as far as numbering goes."""

    number: int
    size: int
    """Samples."""
    start_s: float
    end_s: float
    """Where the next one should begin."""


class Numbering(msgspec.Struct, frozen=True, array_like=True):
    """A way to number."""

    samples: bool = False
    """Whether a packet's number is the index of its first sample."""
    bits: int = 0
    """Width of the counter, 0 if it does not wrap."""
    none: bool = False
    """Whether numbers have no rule."""

    def step(self, size: int) -> int:
        """How much the number grows by a packet of so many samples."""
        return size if self.samples else 1

    def own(self, number: int) -> int:
        """As the device would write a number that does not wrap."""
        return number & ((1 << self.bits) - 1) if self.bits else number

    def unwrap(self, number: int, near: float) -> int:
        """Return the number that does not wrap, nearest to where it should be by its time."""
        if not self.bits:
            return number
        size = 1 << self.bits
        return number + size * max(0, round((near - number) / size))


PACKETS = Numbering()
"""As the contract wants it."""


def recognise(before: Arrival, after: Arrival, known: Numbering) -> Numbering | None:
    """Which numbering explains two packets that came one after the other, if it is not the known one.

    `before.number` does not wrap, as far as wraps are known.
    """
    late_s, length_s = after.start_s - before.end_s, before.end_s - before.start_s
    grown = after.number - before.number
    if after.start_s == before.start_s and grown == 0:
        return None  # the same packet again
    others_s = (before.size - 1) * length_s
    if grown == before.size > 1 and not known.samples and abs(late_s) <= min(COARSE_S, others_s / 2):
        return Numbering(samples=True)
    if grown == 1 and known.samples and before.size > 1 and abs(late_s) <= min(COARSE_S, length_s / 2):
        return PACKETS
    if grown == 0 and abs(late_s) <= min(JOINS_S, length_s / 2):
        return Numbering(none=True)
    return _wrapped(before, after, known)


def is_odd(before: Arrival, after: Arrival, known: Numbering) -> bool:
    """Whether one packet follows another in time, but not in number."""
    near_s = min(JOINS_S, (before.end_s - before.start_s) / 2)
    return abs(after.start_s - before.end_s) <= near_s and after.number - before.number not in (
        0,
        known.step(before.size),
    )


def is_counted(before: Arrival, after: Arrival) -> bool:
    """Whether one packet follows another in time, and its number counts packets."""
    near_s = min(JOINS_S, (before.end_s - before.start_s) / 2)
    return abs(after.start_s - before.end_s) <= near_s and after.number - before.number == 1


def by_time(expected: int, before: Arrival, after: Arrival) -> int:
    """Return a number for a packet that has none to go by."""
    length_s = max(1e-3, before.end_s - before.start_s)
    late_s = after.start_s - before.end_s
    if late_s > JOINS_S:
        return expected + max(1, round(late_s / length_s))
    if after.start_s <= before.start_s + length_s / 2:
        return max(0, expected - max(1, round(-late_s / length_s)))
    return expected


def _wrapped(before: Arrival, after: Arrival, known: Numbering) -> Numbering | None:
    """The known numbering with a counter that has just wrapped, if its time says so."""
    step = known.step(before.size)
    length_s, late_s = before.end_s - before.start_s, after.start_s - before.end_s
    if known.bits or after.number >= before.number:
        return None
    for bits in WIDTHS:
        size = 1 << bits
        grown = (after.number - before.number) % size
        if not (before.number < size <= before.number + grown) or grown > size // 4:
            continue
        lost_s = (grown / step - 1) * length_s
        if lost_s >= 0 and abs(late_s - lost_s) <= JOINS_S + lost_s / 4:
            return Numbering(known.samples, bits)
    return None
