"""Atrial fibrillation, by how irregular the RR intervals are, and whether there are P waves; see `monitor.rhythm`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from monitor.alerts.detector import EpisodeDetector, Sign
from monitor.alerts.episode import Episode
from monitor.alerts.finding import WITHHELD, Beats, Finding, Need, SeenBeat


@dataclass(frozen=True, slots=True, kw_only=True)
class AtrialFibrillation(EpisodeDetector):
    """`n` of the last `m` beats and those before each look like atrial fibrillation; `m` that do not end it.

    A beat that was not judged does not count: found in noise, it looks just like that.
    """

    needs: frozenset[Need] = frozenset({"beats", "lead-off"})
    odds: float
    """Log odds from which a beat speaks for it;"""
    fall: float
    """so much lower it speaks against it."""

    def select(self, beats: Beats) -> npt.NDArray[np.bool_]:
        """See `Detector.select`."""
        is_one: npt.NDArray[np.bool_] = (beats.rhythm.fibrillation > self.odds) & (beats.verdicts != WITHHELD)
        return is_one

    def read(self, finding: Finding) -> Sign:
        """See `EpisodeDetector.read`."""
        if not isinstance(finding, SeenBeat):
            return Sign.OVER if finding.what == "lead-off" else Sign.NOTHING
        odds = float(finding.beats.rhythm.fibrillation[finding.i])
        if math.isnan(odds) or finding.verdict == WITHHELD:
            return Sign.UNKNOWN
        if odds > self.odds:
            return Sign.EVENT
        return Sign.CALM if odds < self.odds - self.fall else Sign.NEITHER

    def describe(self, episode: Episode, finding: Finding) -> dict[str, Any]:
        """See `EpisodeDetector.describe`."""
        is_over = self.read(finding) is Sign.CALM
        text = "The rhythm is regular again." if is_over else "The rhythm is irregular as in atrial fibrillation."
        return {"text": text}
