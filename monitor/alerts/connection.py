"""Alerts about the way from the device to the monitor."""

from __future__ import annotations

from dataclasses import dataclass

from monitor.alerts.detector import EpisodeDetector, Sign
from monitor.alerts.finding import Finding, Need, SeenBeat


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSilent(EpisodeDetector):
    """Nothing comes from a device, or its broker says that it is offline. It ends when a packet comes again.

    A device that leaves politely and one that dies say the same, so both are alerted at once. The alert is of the end
    of the last packet: whether its last will or the silence was found first, before a crash or after, it is the same.
    """

    needs: frozenset[Need] = frozenset({"silent", "offline", "back"})
    refractory_s: float = 0.0
    """None: what is not alerted at once would never be, since nothing more comes."""

    def read(self, finding: Finding) -> Sign:
        """See `EpisodeDetector.read`."""
        if isinstance(finding, SeenBeat):
            return Sign.NOTHING
        if finding.what in ("silent", "offline"):
            return Sign.EVENT
        return Sign.CALM if finding.what == "back" else Sign.NOTHING
