"""Alerts about how fast the heart beats, and whether it does.

All end at once where the electrode comes off: nobody can tell then whether they go on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from monitor.alerts.detector import EpisodeDetector, Sign
from monitor.alerts.episode import Episode
from monitor.alerts.finding import WITHHELD, Beats, Finding, Need, SeenBeat
from monitor.alerts.limits import SHORTEST_SILENCE_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Asystole(EpisodeDetector):
    """No QRS complex for a while, though there were good ones before and the electrode is on.

    It is known within half a second after a QRS complex at the end of that time would have been found (0.5 s), or by
    the beat that ends it.
    """

    BOUNDS: ClassVar[Mapping[str, tuple[float, float]]] = {"limit_s": (SHORTEST_SILENCE_S, math.inf)}
    needs: frozenset[Need] = frozenset({"no-beats", "beats", "lead-off"})
    limit_s: float

    def select(self, beats: Beats) -> npt.NDArray[np.bool_]:
        """See `Detector.select`."""
        return beats.rhythm.interval_s > self.limit_s

    def read(self, finding: Finding) -> Sign:
        """See `EpisodeDetector.read`."""
        if isinstance(finding, SeenBeat):
            if finding.beats.rhythm.interval_s[finding.i] > self.limit_s:
                return Sign.EVENT
            return Sign.NOTHING if finding.verdict == WITHHELD else Sign.CALM
        if finding.what == "lead-off":
            return Sign.OVER
        is_one = finding.what == "no-beats" and finding.silence_s > self.limit_s
        is_one = is_one and finding.is_fit and not finding.is_doubtful
        return Sign.EVENT if is_one else Sign.NOTHING

    def describe(self, episode: Episode, finding: Finding) -> dict[str, Any]:
        """See `EpisodeDetector.describe`."""
        if self.read(finding) is not Sign.EVENT:
            return {"text": "The heart beats again."}
        return {"text": f"No heartbeat for {_silence_s(finding):.0f} s."}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause(EpisodeDetector):
    """A long interval between two beats; the next shorter one ends it."""

    needs: frozenset[Need] = frozenset({"beats", "lead-off"})
    limit_s: float

    def select(self, beats: Beats) -> npt.NDArray[np.bool_]:
        """See `Detector.select`."""
        return beats.rhythm.interval_s > self.limit_s

    def read(self, finding: Finding) -> Sign:
        """See `EpisodeDetector.read`."""
        if not isinstance(finding, SeenBeat):
            return Sign.OVER if finding.what == "lead-off" else Sign.NOTHING
        is_long = finding.beats.rhythm.interval_s[finding.i] > self.limit_s
        return Sign.EVENT if is_long else Sign.CALM

    def describe(self, episode: Episode, finding: Finding) -> dict[str, Any]:
        """See `EpisodeDetector.describe`."""
        if self.read(finding) is not Sign.EVENT:
            return {"text": "The heart beats again."}
        return {"text": f"{_silence_s(finding):.1f} s between two heartbeats."}


def _silence_s(finding: Finding) -> float:
    """How long no beat was found before."""
    if not isinstance(finding, SeenBeat):
        return finding.silence_s
    return float(finding.beats.rhythm.interval_s[finding.i])


@dataclass(frozen=True, slots=True, kw_only=True)
class NoBeats(EpisodeDetector):
    """No beat is found in the signal, for whatever reason; the next beat that can be judged ends it.

    Nor is one where all that is found is so far apart that its rhythm is not known, twice as long: artefacts, perhaps.
    """

    BOUNDS: ClassVar[Mapping[str, tuple[float, float]]] = {"limit_s": (SHORTEST_SILENCE_S, math.inf)}
    needs: frozenset[Need] = frozenset({"no-beats", "beats", "lead-off"})
    limit_s: float

    def select(self, beats: Beats) -> npt.NDArray[np.bool_]:
        """See `Detector.select`."""
        return (beats.rhythm.unjudged_s > 2 * self.limit_s) & ~beats.is_poor

    def read(self, finding: Finding) -> Sign:
        """See `EpisodeDetector.read`."""
        if isinstance(finding, SeenBeat):
            if finding.verdict != WITHHELD:
                return Sign.CALM
            beats, i = finding.beats, finding.i
            is_long = beats.rhythm.unjudged_s[i] > 2 * self.limit_s and not beats.is_poor[i]
            return Sign.EVENT if is_long else Sign.NOTHING
        if finding.what == "lead-off":
            return Sign.OVER
        is_one = finding.what == "no-beats" and finding.silence_s > self.limit_s
        return Sign.EVENT if is_one else Sign.NOTHING

    def describe(self, episode: Episode, finding: Finding) -> dict[str, Any]:
        """See `EpisodeDetector.describe`."""
        if isinstance(finding, SeenBeat) and finding.verdict == WITHHELD:
            seconds = finding.beats.rhythm.unjudged_s[finding.i]
            what = f"Nothing that was found for {seconds:.0f} s could be judged"
            return {"text": f"{what}: look at the electrodes and the person."}
        if isinstance(finding, SeenBeat) or not finding.silence_s:
            return {"text": "Heartbeats are found again."}
        return {
            "text": f"No heartbeat can be found for {finding.silence_s:.0f} s: look at the electrodes and the person."
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate(EpisodeDetector):
    """The mean rate of the last beats is below or above a limit; it ends once it is clear of that for `m` beats.

    A fast mean of intervals that differ too much (`within`) is none: of beats that were found where there are none, or
    of single early ones.
    """

    BOUNDS: ClassVar[Mapping[str, tuple[float, float]]] = {"below_bpm": (15, 300), "above_bpm": (15, 300)}
    needs: frozenset[Need] = frozenset({"beats", "lead-off"})
    below_bpm: float = 0.0
    above_bpm: float = math.inf
    within: float = math.inf
    """How many times as long as the shortest of the intervals the longest may be."""
    clear: float = 0.1
    """How far from the limit it must be to end, as a share of it."""

    def select(self, beats: Beats) -> npt.NDArray[np.bool_]:
        """See `Detector.select`."""
        rhythm = beats.rhythm
        rate_bpm = rhythm.steady_bpm
        return ((rate_bpm < self.below_bpm) | (rate_bpm > self.above_bpm)) & (rhythm.spread <= self.within)

    def read(self, finding: Finding) -> Sign:
        """See `EpisodeDetector.read`."""
        if not isinstance(finding, SeenBeat):
            return Sign.OVER if finding.what == "lead-off" else Sign.NOTHING
        rhythm = finding.beats.rhythm
        rate_bpm = float(rhythm.steady_bpm[finding.i])
        if math.isnan(rate_bpm):
            return self._read_doubtful(float(rhythm.rate_bpm[finding.i]))
        if rate_bpm < self.below_bpm or rate_bpm > self.above_bpm:
            return Sign.EVENT if rhythm.spread[finding.i] <= self.within else Sign.NEITHER
        is_clear = self.below_bpm * (1 + self.clear) < rate_bpm < self.above_bpm * (1 - self.clear)
        return Sign.CALM if is_clear else Sign.NEITHER

    def _read_doubtful(self, rate_bpm: float) -> Sign:
        """What a rate means of which some beats are of bad signal: those make a heart look faster, if anything."""
        return Sign.CALM if not self.below_bpm and rate_bpm < self.above_bpm * (1 - self.clear) else Sign.UNKNOWN

    def describe(self, episode: Episode, finding: Finding) -> dict[str, Any]:
        """See `EpisodeDetector.describe`."""
        if not isinstance(finding, SeenBeat) or math.isnan(rate_bpm := finding.beats.rhythm.steady_bpm[finding.i]):
            return {"text": "The heart rate is not known any more."}
        limit = f"below {self.below_bpm:g}" if self.below_bpm else f"above {self.above_bpm:g}"
        is_on = rate_bpm < self.below_bpm or rate_bpm > self.above_bpm
        return {"text": f"Heart rate {rate_bpm:.0f}/min, {limit if is_on else f'no longer {limit}'}."}
