"""Alerts about what the models say of single beats: ectopic ones, and shapes that are new."""

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
    """`n` of the last `m` judged beats are abnormal; `m` calm ones in a row end it.

    Abnormal is a beat by its class, or by a shape that is not usual for its wearer: the alert tells of a change. A
    shape that stays becomes usual within a minute, and ends the alert with the reason "usual".
    """

    needs: frozenset[Need] = frozenset({"beats"})
    exit_ratio: float
    """A beat is calm when its probabilities are below this share of the models' thresholds, or its shape is usual."""

    def select(self, beats: Beats) -> npt.NDArray[np.bool_]:
        """See `Detector.select`."""
        is_abnormal: npt.NDArray[np.bool_] = (beats.verdicts == ABNORMAL) | beats.unusual
        return is_abnormal

    def read(self, finding: Finding) -> Sign:
        """See `EpisodeDetector.read`."""
        if not isinstance(finding, SeenBeat) or finding.verdict == WITHHELD:
            return Sign.NOTHING
        beats, i = finding.beats, finding.i
        if finding.verdict == ABNORMAL or beats.unusual[i]:
            return Sign.EVENT
        is_calm = beats.probability[i] < beats.threshold * self.exit_ratio
        is_doubtful = beats.shape_threshold * self.exit_ratio <= beats.shape[i] < beats.shape_threshold  # NaN is not
        return Sign.CALM if is_calm and not is_doubtful else Sign.NEITHER

    def describe(self, episode: Episode, finding: Finding) -> dict[str, Any]:
        """See `EpisodeDetector.describe`."""
        is_over = self.read(finding) is Sign.CALM
        text = "The beats look normal again." if is_over else f"Beats look abnormal: {episode.count} so far."
        about: dict[str, Any] = {"beats": episode.count, "text": text}
        if not isinstance(finding, SeenBeat) or finding.verdict == WITHHELD:
            return about
        beats, i = finding.beats, finding.i
        if beats.unusual[i]:
            about["text"] = f"{episode.count} beats whose shape is abnormal, and new for this wearer."
        elif finding.verdict != ABNORMAL and beats.shape[i] >= beats.shape_threshold:
            about |= {"text": "The shape of the beats stays abnormal; it is usual for this wearer.", "reason": "usual"}
        return about | beats.describe(i)
