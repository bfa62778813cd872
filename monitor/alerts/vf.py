"""Ventricular fibrillation and flutter, as told by the signal itself; see `monitor.ecg.vf`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from monitor.alerts.detector import EpisodeDetector, Sign
from monitor.alerts.episode import Episode
from monitor.alerts.finding import Finding, Need, SeenBeat

SIGNS = {"vf": Sign.EVENT, "no-vf": Sign.CALM, "lead-off": Sign.OVER}


@dataclass(frozen=True, slots=True, kw_only=True)
class VentricularFibrillation(EpisodeDetector):
    """The signal is that of fibrillation or flutter; it ends once it is not, or the electrode comes off.

    Beats say nothing here: what is found and counted as such in fibrillation is not there.
    """

    needs: frozenset[Need] = frozenset({"vf", "no-vf", "lead-off"})

    def read(self, finding: Finding) -> Sign:
        """See `EpisodeDetector.read`."""
        return Sign.NOTHING if isinstance(finding, SeenBeat) else SIGNS.get(finding.what, Sign.NOTHING)

    def describe(self, episode: Episode, finding: Finding) -> dict[str, Any]:
        """See `EpisodeDetector.describe`."""
        if self.read(finding) is Sign.CALM:
            return {"text": "Ventricular fibrillation is not seen any more."}
        said = {"text": "Ventricular fibrillation or flutter: look at the person at once."}
        return said | {"heart_rate_bpm": None, "recent": []}
