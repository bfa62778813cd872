"""What a device's heart did in the last hours, in a few kilobytes: heart rate, RR intervals, classes of beats.

All times are by the clock of whoever looks. Beats stand where their device's clock says, less by how much that is
ahead, so that what was sent late is in its place; where that cannot be right, they stand where they arrived. Rates that
a monitor tells are on its clock, and count only while no beats come.

Takes the time from its caller; knows nothing of browsers.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Any, NamedTuple

import numpy as np

from monitor import wire

BIN_S = 10
"""A heart rate is kept for so many seconds ..."""
BINS = 6 * 3600 // BIN_S
"""... and so many of them: six hours."""
BEATS = 1200
"""Most beats that are kept: some ten minutes."""
RECENT = 40
MINUTE_S = 60.0
AHEAD_S = 60.0
"""A stamp that is further in the future is of a clock that is wrong."""


class TrendBeat(NamedTuple):
    """A beat as a chart shows it."""

    time_s: float
    rr_s: float | None
    label: str


class Trend:
    """What is kept of one device."""

    def __init__(self) -> None:
        self._bpm = np.full(BINS, np.nan, np.float32)
        self._newest = -1
        self._beat_s = -np.inf
        """When the last beat arrived."""
        self._beats: deque[TrendBeat] = deque(maxlen=BEATS)
        self.recent: deque[wire.Beat] = deque(maxlen=RECENT)
        """The last beats, for a strip that is opened."""
        self.classes: Counter[str] = Counter()
        """Beats of each class since the page was started; "withheld" among them."""
        self.reasons: Counter[str] = Counter()
        """Why beats were withheld."""

    def note_rate(self, time_s: float, bpm: float | None) -> None:
        """Note a heart rate."""
        bin_ = int(time_s // BIN_S)
        if bpm is None or bin_ <= self._newest - BINS:
            return
        for skipped in range(max(self._newest + 1, bin_ - BINS + 1), bin_):
            self._bpm[skipped % BINS] = np.nan
        self._newest = max(self._newest, bin_)
        self._bpm[bin_ % BINS] = bpm

    def note_told(self, time_s: float, bpm: float, now_s: float) -> None:
        """Note a heart rate that a monitor tells."""
        if now_s - self._beat_s > MINUTE_S:
            self.note_rate(min(time_s, now_s), bpm)

    def note_beat(self, beat: wire.Beat, now_s: float, ahead_s: float = 0.0) -> None:
        """Note a beat, in the order in which beats come, of a device whose clock is so far ahead."""
        self._beat_s = now_s
        time_s = beat.qrs_s - ahead_s
        if not now_s - BINS * BIN_S < time_s < now_s + AHEAD_S:
            time_s = now_s
        label = "withheld" if beat.verdict == "withheld" else beat.label or beat.verdict
        self.recent.append(beat)
        self._beats.append(TrendBeat(time_s, beat.rr_s, label))
        self.classes[label] += 1
        if beat.verdict == "withheld":
            self.reasons[beat.reason or "not told"] += 1
        elif beat.heart_rate_bpm is not None:
            self.note_rate(time_s, beat.heart_rate_bpm)

    def judged(self) -> float | None:
        """Share of the beats of the last minute that could be judged; None without beats."""
        recent = [beat for beat in self._beats if beat.time_s > self._beats[-1].time_s - MINUTE_S]
        return sum(beat.label != "withheld" for beat in recent) / len(recent) if recent else None

    def as_json(self) -> dict[str, Any]:
        """Return all of it, for a chart: `bpm` has a value or None every `bin_s` seconds, the last at `newest_s`."""
        order = [(self._newest - BINS + 1 + i) % BINS for i in range(BINS)] if self._newest >= 0 else []
        values = [None if np.isnan(value) else round(float(value), 1) for value in self._bpm[order]] if order else []
        first = next((i for i, value in enumerate(values) if value is not None), len(values))
        return {
            "bin_s": BIN_S,
            "newest_s": self._newest * BIN_S,
            "bpm": values[first:],
            "beats": [list(beat) for beat in self._beats],
            "classes": dict(self.classes),
            "reasons": dict(self.reasons),
        }
