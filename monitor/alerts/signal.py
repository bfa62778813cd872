"""Alerts about the signal: none, a bad one, or one without beats.

The next beat that can be judged ends them; a bad signal ends with as many in a row as the detector looks at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from monitor.alerts.detector import EpisodeDetector, Sign
from monitor.alerts.episode import Episode
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


CAUSES = {
    "clipped": "The signal is cut off at the ends of its range, or its steps are too coarse",
    "missing samples": "Too many samples are missing",
    "mains": "Hum of the mains hides the heartbeats",
}
"""What to say first where that is why the beat with which it begins, or goes on, is withheld."""
CHECKS = {"clipped": "the electrodes and the device's gain", "missing samples": "the device"}
"""What to look at then, if not at the electrodes."""


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

    def describe(self, episode: Episode, finding: Finding) -> dict[str, Any]:
        """See `EpisodeDetector.describe`."""
        reason = finding.beats.reason(finding.i) if isinstance(finding, SeenBeat) else None
        if reason not in CAUSES or self.read(finding) is not Sign.EVENT:
            return EpisodeDetector.describe(self, episode, finding)
        look = CHECKS.get(reason, "the electrodes and cables")
        return {"text": f"{CAUSES[reason]}, and hardly any beat can be judged: look at {look}."}
