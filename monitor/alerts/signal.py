"""Alerts about the signal: none, a bad one, or one without beats. The next beat that can be judged ends them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monitor.alerts.detector import EpisodeDetector, Sign
from monitor.alerts.finding import WITHHELD, Beats, Finding, Need, SeenBeat


@dataclass(frozen=True, slots=True, kw_only=True)
class UntilJudgedBeat(EpisodeDetector):
    """Something was found at a moment."""

    starts_with: Need
    ignores_outdated: bool = False
    """Whether a beat from before the electrode came off does not end it."""

    def read(self, finding: Finding) -> Sign:
        """See `EpisodeDetector.read`."""
        if not isinstance(finding, SeenBeat):
            return Sign.EVENT if finding.what == self.starts_with else Sign.NOTHING
        if finding.verdict == WITHHELD or (self.ignores_outdated and finding.beats.outdated[finding.i]):
            return Sign.NOTHING
        return Sign.CALM


@dataclass(frozen=True, slots=True, kw_only=True)
class PoorSignal(EpisodeDetector):
    """`n` of the last `m` beats are withheld because their signal is bad, and none could be judged."""

    needs: frozenset[Need] = frozenset({"beats"})

    def select(self, beats: Beats) -> npt.NDArray[np.bool_]:
        """See `Detector.select`."""
        return beats.is_poor

    def read(self, finding: Finding) -> Sign:
        """See `EpisodeDetector.read`."""
        if not isinstance(finding, SeenBeat):
            return Sign.NOTHING
        if finding.verdict != WITHHELD:
            return Sign.CALM
        return Sign.EVENT if finding.beats.is_poor[finding.i] else Sign.NOTHING
