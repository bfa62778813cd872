"""Alerts about the way from the device to the monitor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from monitor.alerts.detector import EpisodeDetector, Sign
from monitor.alerts.episode import Episode
from monitor.alerts.finding import Finding, Need, SeenBeat


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSilent(EpisodeDetector):
    """Nothing comes from a device, or nothing that can be used, or its broker says that it is offline.

    It ends when a packet that can be used comes again.

    A device that leaves politely and one that dies say the same, so both are alerted at once. The alert is of the end
    of the last packet: whether its last will or the silence was found first, before a crash or after, it is the same.
    """

    needs: frozenset[Need] = frozenset({"silent", "unusable", "offline", "back"})
    refractory_s: float = 0.0
    """None: what is not alerted at once would never be, since nothing more comes."""

    unusable: str = ""
    """What to say where something comes."""

    def read(self, finding: Finding) -> Sign:
        """See `EpisodeDetector.read`."""
        if isinstance(finding, SeenBeat):
            return Sign.NOTHING
        if finding.what in ("silent", "unusable", "offline"):
            return Sign.EVENT
        return Sign.CALM if finding.what == "back" else Sign.NOTHING

    def describe(self, episode: Episode, finding: Finding) -> dict[str, Any]:
        """See `EpisodeDetector.describe`."""
        if not isinstance(finding, SeenBeat) and finding.what == "unusable":
            return {"text": self.unusable}
        return super(DeviceSilent, self).describe(episode, finding)
