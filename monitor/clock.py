"""One smooth clock per stretch, from the count of samples and from time stamps that may be coarse, late or drifting.

The samples of an unbroken stretch are as far apart as the device's oscillator makes them; their count is the better
clock, but its rate is known to a few percent only, and its zero not at all. A time stamp gives both, with an error that
depends on who makes it:

* a device with a good clock: a few milliseconds to either side. The line runs in the middle.
* a clock that shows whole seconds, or tens: never early, up to one unit late. The line runs along the top, or
  as far above it as the ticks leave open.
* a gateway that stamps on arrival, perhaps after a stall: never early. The line runs along the bottom.
* a time squeezed through a 32-bit float: rounded to multiples of up to 128 s. The line runs half a grain below the top.

A line on one side of all points is fitted as clock skew is from one-way delays: of all supporting lines, the one that
lies nearest to the points (Moon, Skelly, Towsley, "Estimation and removal of clock skew from network delay
measurements", INFOCOM 1999). A slope counts only if it exceeds what the errors could feign, so that the clock of a
device at its nominal rate keeps that rate.

Knows nothing of packets, sequence numbers or devices.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

STEEPEST = 0.1
"""Most by which a true rate differs from the declared one."""
JITTER_S = 0.06
"""Errors that stay within so narrow a band are taken to lie on both sides of the truth."""
GRAINS_S = (60.0, 10.0, 1.0, 0.5)
"""Units that clocks show; a finer one is jitter."""
COARSE_FLOAT_S = 2.0
"""From this spacing of 32-bit floats on, a time that is one cannot be so by chance."""
BLOCKS = 40
"""Points that are remembered, a lowest and a highest of each block."""
SHORTEST_BLOCK_S, LONGEST_BLOCK_S = 1.0, 32.0
SLOPE_AFTER_S, SLOPE_AFTER_SPREADS = 8.0, 4.0
"""One-sided errors say nothing of the slope before so much signal, and not before so many times their spread."""
SEEN_GRAIN = 0.7
"""Stamps that spread over so much of a grain have shown a tick."""
REFIT_S = 1.0
REFIT_PART = 1 / 8
"""While the stamps stay within the band, the line is fitted again only after so much of the stretch."""
FIT_BEFORE_S = 0.25
FOLLOWS_S = 10.0
"""Time constant with which the clock moves to the fitted line,"""
BEGIN_S, FAR_S = 10.0, 1.0
"""but at once within this time of its start, or where it is this far off."""
STEP_S, STEP_PACKETS, STEADY_S = 3.0, 5, 0.06
"""A deviation that stays the same for so long, and for so many packets, is a clock that was set."""

Side = Literal["middle", "top", "bottom"]


class Clock(msgspec.Struct, array_like=True):
    """The line of one stretch. Times count from its start, in samples over the nominal rate."""

    offset_s: float = 0.0
    """Device's clock minus the count of samples, at the end of the latest packet."""
    slope: float = 0.0
    """How much that grows per second."""
    spread_s: float = 0.0
    """Width of the band in which all stamps lie along the best line."""
    grain_s: float = 0.0
    """Unit in which the stamps count, 0 if there is none."""
    float_grain_s: float = 0.0
    """Spacing of 32-bit floats, if all stamps are such."""
    blocks: list[list[float]] = []
    """Of each block: time and value of its lowest point, time and value of its highest."""
    block_s: float = SHORTEST_BLOCK_S
    block_began_s: float = -np.inf
    line: tuple[float, float] = (0.0, 0.0)
    """Value of the fitted line at 0, and its slope."""
    fitted_s: float = -np.inf
    packet_s: float = 0.0
    """Length of the longest packet."""
    off_since_s: float = 0.0
    off_packets: int = 0
    off_range_s: tuple[float, float] = (0.0, 0.0)
    band: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """The narrowest that held all stamps at the latest fit: bottom and top at 0, and slope."""

    @classmethod
    def begin(cls, stamp_s: float, at_s: float, offset_s: float, packets: int) -> Clock:
        """Return the clock of a stretch whose stamps were exact so far.

        Parameters
        ----------
        stamp_s
            The first of them.
        at_s, offset_s
            Where the latest packet ended, and the offset there.
        packets
            How many they were.
        """
        clock = cls(offset_s=offset_s, grain_s=GRAINS_S[0], float_grain_s=_float_grain(stamp_s), blocks=[])
        clock._narrow_grain(stamp_s)
        if packets > 1:
            clock.float_grain_s = 0.0
            length_s = at_s / packets
            clock.grain_s = clock.grain_s if abs(length_s - round(length_s)) < 0.006 else 0.0
        clock.blocks.append([0.0, 0.0, 0.0, 0.0])
        if packets > 1:
            clock.blocks.append([at_s, offset_s, at_s, offset_s])
        clock.line = (offset_s, 0.0)
        return clock

    def take(self, at_s: float, duration_s: float, stamp_s: float, value_s: float) -> bool:
        """Take the stamp of the next packet; return whether the clock was set anew.

        Parameters
        ----------
        at_s, duration_s
            When the packet begins, and its length.
        stamp_s
            Its stamp.
        value_s
            Stamp minus start of the stretch and `at_s`.
        """
        self._narrow_grain(stamp_s)
        if self.float_grain_s and _float_grain(stamp_s) != self.float_grain_s:
            self.float_grain_s = 0.0
        self.packet_s = max(self.packet_s, duration_s)
        was_set = self._was_set(at_s, duration_s, value_s)
        if was_set:
            self._start_over(at_s, value_s)
        self._add(at_s, value_s)
        end_s = at_s + duration_s
        if was_set or self._needs_fit(at_s, end_s, value_s):
            self._fit(at_s)
            self.fitted_s = at_s
        at_zero, slope = self.line
        self.slope = slope
        before_s = self.offset_s + slope * duration_s
        away_s = at_zero + slope * end_s - before_s
        is_late = end_s > BEGIN_S and abs(away_s) <= FAR_S and not was_set
        self.offset_s = before_s + away_s * (min(1.0, duration_s / FOLLOWS_S) if is_late else 1.0)
        return was_set

    def _needs_fit(self, at_s: float, end_s: float, value_s: float) -> bool:
        """Whether a stamp that was just taken may move the line by more than a little."""
        since_s = at_s - self.fitted_s
        if end_s < BEGIN_S:
            return since_s >= FIT_BEFORE_S or end_s < 2.0
        if since_s < REFIT_S:
            return False
        bottom_s, top_s, slope = self.band
        is_within = bottom_s <= value_s - slope * at_s <= top_s
        return not is_within or since_s >= min(REFIT_PART * at_s, LONGEST_BLOCK_S)

    def _narrow_grain(self, stamp_s: float) -> None:
        for grain_s in GRAINS_S:
            if grain_s <= self.grain_s and stamp_s % grain_s == 0.0:
                self.grain_s = grain_s
                return
        self.grain_s = 0.0

    def _was_set(self, at_s: float, duration_s: float, value_s: float) -> bool:
        """Whether the stamps lie away from the line, and have done so by the same amount for a while."""
        off_s = value_s - self.line[0] - self.line[1] * at_s
        low_s, high_s = min(off_s, self.off_range_s[0]), max(off_s, self.off_range_s[1])
        if at_s < BEGIN_S or abs(off_s) < 0.5 or not self.off_packets or high_s - low_s > STEADY_S:
            self.off_since_s, self.off_packets, self.off_range_s = at_s, int(abs(off_s) >= 0.5), (off_s, off_s)
            return False
        self.off_packets += 1
        self.off_range_s = low_s, high_s
        return self.off_packets >= STEP_PACKETS and at_s + duration_s - self.off_since_s >= STEP_S

    def _start_over(self, at_s: float, value_s: float) -> None:
        self.blocks = []
        self.block_s, self.block_began_s = SHORTEST_BLOCK_S, -np.inf
        self._add(self.off_since_s, value_s)
        self.off_packets = 0

    def _add(self, at_s: float, value_s: float) -> None:
        if at_s - self.block_began_s >= self.block_s:
            if len(self.blocks) >= BLOCKS:
                self._make_room()
            self.blocks.append([at_s, value_s, at_s, value_s])
            self.block_began_s = at_s
            return
        block = self.blocks[-1]
        if value_s < block[1]:
            block[:2] = at_s, value_s
        if value_s > block[3]:
            block[2:] = at_s, value_s

    def _make_room(self) -> None:
        """Join blocks in pairs while they are short; then drop the oldest."""
        if self.block_s >= LONGEST_BLOCK_S:
            del self.blocks[0]
            return
        pairs = zip(self.blocks[::2], self.blocks[1::2], strict=True)
        joined = [[*min(a[:2], b[:2], key=lambda p: p[1]), *max(a[2:], b[2:], key=lambda p: p[1])] for a, b in pairs]
        self.blocks, self.block_s = joined, 2 * self.block_s

    def _fit(self, at_s: float) -> None:
        points = np.array(self.blocks)
        low, high = points[:, :2], points[:, 2:]
        span_s = float(max(points[-1, 0], points[-1, 2]) - points[0, 0])
        steepest, self.spread_s = _narrowest(low, high)
        bottom_s = float((low[:, 1] - steepest * low[:, 0]).min())
        self.band = bottom_s, bottom_s + self.spread_s, steepest
        side = self._side()
        if side == "middle":
            slope = _beyond(steepest, self.spread_s / span_s) if span_s >= 2.0 else 0.0
            top, bottom = high[:, 1] - slope * high[:, 0], low[:, 1] - slope * low[:, 0]
            self.line = float(top.max() + bottom.min()) / 2, slope
            return
        sign, edge = (1.0, high) if side == "top" else (-1.0, low)
        slope = 0.0
        if span_s >= max(SLOPE_AFTER_S, SLOPE_AFTER_SPREADS * self.spread_s):
            slope = _beyond(_supporting(edge, sign), (self.packet_s if side == "top" else 0.03) / span_s)
        at_zero = sign * float((sign * (edge[:, 1] - slope * edge[:, 0])).max())
        grain_s = self.float_grain_s or self.grain_s
        if self.float_grain_s:
            if self.spread_s < SEEN_GRAIN * grain_s:  # the time did not change yet: it may be anything
                return
            at_zero -= grain_s / 2
        if side == "top" and self.spread_s > SEEN_GRAIN * grain_s:
            # The stamps bound the truth from both sides: a tick is seen by the first packet after it only.
            at_zero += max(0.0, grain_s - self.spread_s) / 2
        self.line = at_zero, slope

    def _side(self) -> Side:
        if self.spread_s <= JITTER_S and not self.float_grain_s and not self.grain_s:
            return "middle"
        if self.float_grain_s or self.spread_s <= self.grain_s + JITTER_S:
            return "top"
        return "bottom"


def _float_grain(stamp_s: float) -> float:
    """Spacing of 32-bit floats around a time that is one, if that is coarse; else 0."""
    short = np.float32(stamp_s)
    spacing_s = float(np.spacing(short))
    return spacing_s if float(short) == stamp_s and spacing_s >= COARSE_FLOAT_S else 0.0


def _beyond(slope: float, uncertainty: float) -> float:
    """A slope that cannot be 0; else 0."""
    return slope if abs(slope) > uncertainty else 0.0


def _narrowest(low: npt.NDArray[np.float64], high: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Slope of the narrowest band that holds all points, and its width."""

    def width(slopes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        top, bottom = high[:, 1] - np.outer(slopes, high[:, 0]), low[:, 1] - np.outer(slopes, low[:, 0])
        difference: npt.NDArray[np.float64] = top.max(axis=1) - bottom.min(axis=1)
        return difference

    return _minimise(width)


def _supporting(points: npt.NDArray[np.float64], sign: float) -> float:
    """Slope of the line above (1) or below (-1) all points that lies nearest to them."""
    middle_s = float(points[0, 0] + points[-1, 0]) / 2

    def distance(slopes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        at_zero = (sign * (points[:, 1] - np.outer(slopes, points[:, 0]))).max(axis=1)
        total: npt.NDArray[np.float64] = at_zero + sign * slopes * middle_s
        return total

    return _minimise(distance)[0]


def _minimise(convex: object) -> tuple[float, float]:
    """Where a convex function of the slope is least, to 2e-6, and how much it is there."""
    assert callable(convex)
    centre, reach = 0.0, STEEPEST
    for _ in range(4):
        slopes = np.clip(centre + np.linspace(-reach, reach, 41), -STEEPEST, STEEPEST)
        values = convex(slopes)
        best = int(values.argmin())
        centre, reach = float(slopes[best]), reach / 15
    return centre, float(values[best])
