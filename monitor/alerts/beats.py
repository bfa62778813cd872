"""Alerts about what the model says of beats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from monitor.alerts.detector import EpisodeDetector, Sign
from monitor.alerts.episode import Episode
from monitor.alerts.finding import ABNORMAL, WITHHELD, Beats, Finding, Need, SeenBeat


@dataclass(frozen=True, slots=True, kw_only=True)
class AbnormalBeats(EpisodeDetector):
    """`n` of the last `m` judged beats are abnormal; `m` calm ones in a row end it."""

    needs: frozenset[Need] = frozenset({"beats"})
    exit_ratio: float
    """A beat is calm when its probability is below this share of the model's threshold."""

    def select(self, beats: Beats) -> npt.NDArray[np.bool_]:
        """See `Detector.select`."""
        is_abnormal: npt.NDArray[np.bool_] = beats.verdicts == ABNORMAL
        return is_abnormal

    def read(self, finding: Finding) -> Sign:
        """See `EpisodeDetector.read`."""
        if not isinstance(finding, SeenBeat) or finding.verdict == WITHHELD:
            return Sign.NOTHING
        if finding.verdict == ABNORMAL:
            return Sign.EVENT
        is_calm = finding.beats.probability[finding.i] < finding.beats.threshold * self.exit_ratio
        return Sign.CALM if is_calm else Sign.NEITHER

    def describe(self, episode: Episode, finding: Finding) -> dict[str, Any]:
        """See `EpisodeDetector.describe`."""
        text = {"beats": episode.count, "text": f"{episode.count} abnormal beats."}
        if not isinstance(finding, SeenBeat) or finding.verdict == WITHHELD:
            return text
        return text | finding.beats.describe(finding.i)
