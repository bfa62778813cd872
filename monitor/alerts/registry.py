"""All detectors of the monitor, an entry each (docs/EXTENDING.md)."""

from __future__ import annotations

from monitor.alerts.beats import AbnormalBeats
from monitor.alerts.connection import DeviceSilent
from monitor.alerts.detector import Detector
from monitor.alerts.episode import AlertSettings
from monitor.alerts.finding import Need
from monitor.alerts.signal import PoorSignal, UntilJudgedBeat


def _or_beats(moment: Need) -> frozenset[Need]:
    return frozenset({moment, "beats"})


def make_detectors(s: AlertSettings) -> tuple[Detector, ...]:
    """Return the detectors that run, with their parameters; what can be set comes from the settings."""
    return (
        AbnormalBeats(
            kind="abnormal-beats",
            severity="low",
            rank=0,
            n=s.n,
            m=s.m,
            exit_ratio=s.exit_ratio,
            update_s=s.update_s,
            refractory_s=s.refractory_s,
        ),
        UntilJudgedBeat(kind="no-beats", severity="medium", needs=_or_beats("no-beats"), starts_with="no-beats"),
        UntilJudgedBeat(
            kind="lead-off",
            severity="technical",
            needs=_or_beats("lead-off"),
            starts_with="lead-off",
            ignores_outdated=True,
        ),
        PoorSignal(kind="poor-signal", severity="technical", n=4, m=6),
        UntilJudgedBeat(kind="gap", severity="technical", needs=_or_beats("gap"), starts_with="gap"),
        DeviceSilent(kind="device-silent", severity="technical"),
    )
