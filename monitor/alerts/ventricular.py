"""Alerts about ectopic beats: runs, patterns and how often they come. They need a model that knows the classes S and V.

Where the model does not, nothing here ever begins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from monitor.alerts.detector import EpisodeDetector, Sign
from monitor.alerts.episode import Episode
from monitor.alerts.finding import WITHHELD, Beats, Finding, Floats, Need, Rhythm, SeenBeat
from monitor.alerts.limits import MOST_A_MINUTE

NOISE_S, UNLIKE_V = 10.0, 0.5
"""After noise for so long, a run is over by beats whose probability of being ventricular is below this share of the
threshold, though it is that of noise."""
_NEEDS: frozenset[Need] = frozenset({"beats", "lead-off"})


def _read(finding: Finding, is_event: bool, is_ectopic: bool) -> Sign:
    """What a beat means: an ectopic one that is no event lets an alert go on."""
    if not isinstance(finding, SeenBeat):
        return Sign.OVER if finding.what == "lead-off" else Sign.NOTHING
    if is_event:
        return Sign.EVENT
    if is_ectopic:
        return Sign.NEITHER
    return Sign.UNKNOWN if finding.verdict == WITHHELD and not _is_long_over(finding) else Sign.CALM


def _is_long_over(finding: SeenBeat) -> bool:
    """Whether nothing could be judged for long, and a beat withheld as noise does not even look ventricular."""
    beats, i = finding.beats, finding.i
    return bool(beats.rhythm.unjudged_s[i] > NOISE_S and 0 < beats.ventricular[i] < UNLIKE_V * beats.threshold)


def _is_ventricular(finding: Finding) -> bool:
    return isinstance(finding, SeenBeat) and bool(finding.beats.rhythm.run[finding.i] > 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class VentricularRun(EpisodeDetector):
    """So many ventricular beats in a row, fast enough; it goes on while a long run's rate does."""

    BOUNDS: ClassVar[Mapping[str, tuple[float, float]]] = {"beats": (3, 30), "above_bpm": (15, 300)}
    needs: frozenset[Need] = _NEEDS
    beats: int
    above_bpm: float

    def select(self, beats: Beats) -> npt.NDArray[np.bool_]:
        """See `Detector.select`."""
        is_run: npt.NDArray[np.bool_] = (beats.rhythm.run >= self.beats) & (beats.rhythm.run_bpm >= self.above_bpm)
        return is_run

    def read(self, finding: Finding) -> Sign:
        """See `EpisodeDetector.read`."""
        is_event = is_part = False
        if isinstance(finding, SeenBeat):
            rhythm = finding.beats.rhythm
            is_event = bool(rhythm.run[finding.i] >= self.beats and rhythm.run_bpm[finding.i] >= self.above_bpm)
            is_part = bool(rhythm.run[finding.i] > 0 or rhythm.goes_on[finding.i])
        return _read(finding, is_event, is_part)

    def describe(self, episode: Episode, finding: Finding) -> dict[str, Any]:
        """See `EpisodeDetector.describe`."""
        if not isinstance(finding, SeenBeat) or not _is_ventricular(finding):
            return {"text": "The run of ventricular beats is over."}
        rhythm, i = finding.beats.rhythm, finding.i
        text = f"{rhythm.run[i]:.0f} ventricular beats in a row at {rhythm.run_bpm[i]:.0f}/min."
        return {"text": text, "beats": int(rhythm.run[i])}


@dataclass(frozen=True, slots=True, kw_only=True)
class Couplet(EpisodeDetector):
    """Two ventricular beats in a row, and no third."""

    needs: frozenset[Need] = _NEEDS

    def select(self, beats: Beats) -> npt.NDArray[np.bool_]:
        """See `Detector.select`."""
        is_couplet: npt.NDArray[np.bool_] = beats.rhythm.ended == 2
        return is_couplet

    def read(self, finding: Finding) -> Sign:
        """See `EpisodeDetector.read`."""
        is_event = isinstance(finding, SeenBeat) and bool(finding.beats.rhythm.ended[finding.i] == 2)
        return _read(finding, is_event, _is_ventricular(finding))

    def describe(self, episode: Episode, finding: Finding) -> dict[str, Any]:
        """See `EpisodeDetector.describe`."""
        is_over = self.read(finding) is Sign.CALM
        text = "No more ventricular beats in pairs." if is_over else "Two ventricular beats in a row."
        return {"text": text, "beats": 2 * episode.count}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycle(EpisodeDetector):
    """Every second or every third beat is a ventricular one."""

    needs: frozenset[Need] = _NEEDS
    cycle: Literal[2, 3]

    def select(self, beats: Beats) -> npt.NDArray[np.bool_]:
        """See `Detector.select`."""
        is_cycle: npt.NDArray[np.bool_] = beats.rhythm.cycle == self.cycle
        return is_cycle

    def read(self, finding: Finding) -> Sign:
        """See `EpisodeDetector.read`."""
        is_event = isinstance(finding, SeenBeat) and bool(finding.beats.rhythm.cycle[finding.i] == self.cycle)
        return _read(finding, is_event, _is_ventricular(finding))

    def describe(self, episode: Episode, finding: Finding) -> dict[str, Any]:
        """See `EpisodeDetector.describe`."""
        text = f"very {'second' if self.cycle == 2 else 'third'} beat is a ventricular one"
        return {"text": f"No longer e{text}." if self.read(finding) is Sign.CALM else f"E{text}."}


@dataclass(frozen=True, slots=True, kw_only=True)
class FrequentEctopy(EpisodeDetector):
    """So many ectopic beats of a kind within a minute; `m` others in a row end it.

    That they come often is worth a word now and then (`refractory_s`), not an alert that stays.
    """

    BOUNDS: ClassVar[Mapping[str, tuple[float, float]]] = {"a_minute": (1, MOST_A_MINUTE)}
    needs: frozenset[Need] = _NEEDS
    of: Literal["ventricular", "supraventricular"]
    a_minute: int

    def select(self, beats: Beats) -> npt.NDArray[np.bool_]:
        """See `Detector.select`."""
        is_often: npt.NDArray[np.bool_] = self._count(beats.rhythm) >= self.a_minute
        return is_often

    def read(self, finding: Finding) -> Sign:
        """See `EpisodeDetector.read`."""
        if not isinstance(finding, SeenBeat):
            return _read(finding, False, False)
        count = self._count(finding.beats.rhythm)[finding.i]
        return _read(finding, bool(count >= self.a_minute), bool(count > 0))

    def describe(self, episode: Episode, finding: Finding) -> dict[str, Any]:
        """See `EpisodeDetector.describe`."""
        if self.read(finding) is Sign.CALM:
            return {"text": f"Fewer {self.of} beats again."}
        return {"text": f"{self.a_minute} or more {self.of} beats within a minute."}

    def _count(self, rhythm: Rhythm) -> Floats:
        return rhythm.ventricular if self.of == "ventricular" else rhythm.supraventricular
