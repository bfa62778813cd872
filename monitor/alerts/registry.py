"""All detectors of the monitor, an entry each (docs/EXTENDING.md)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from monitor import wire
from monitor.alerts.beats import AbnormalBeats
from monitor.alerts.connection import DeviceSilent
from monitor.alerts.detector import Detector
from monitor.alerts.episode import AlertSettings
from monitor.alerts.fibrillation import AtrialFibrillation
from monitor.alerts.finding import Need
from monitor.alerts.limits import Limits
from monitor.alerts.rates import Asystole, NoBeats, Pause, Rate
from monitor.alerts.signal import PoorSignal, UntilJudgedBeat
from monitor.alerts.ventricular import Couplet, Cycle, FrequentEctopy, VentricularRun
from monitor.alerts.vf import VentricularFibrillation

CHAINS: tuple[tuple[wire.Kind, ...], ...] = (
    ("ventricular-fibrillation", "asystole", "pause", "no-beats"),
    ("ventricular-fibrillation", "asystole", "extreme-bradycardia", "bradycardia"),
    ("asystole", "extreme-bradycardia", "pause"),
    ("ventricular-fibrillation", "ventricular-tachycardia", "extreme-tachycardia", "tachycardia"),
    ("ventricular-fibrillation", "ventricular-tachycardia", "ventricular-run", "couplet", "bigeminy", "trigeminy",
     "ventricular-ectopy", "abnormal-beats"),
    ("ventricular-fibrillation", "ventricular-tachycardia", "atrial-fibrillation", "supraventricular-ectopy",
     "abnormal-beats"),
    ("ventricular-fibrillation", "poor-signal"),
)  # fmt: skip
"""Kinds that contain one another, the gravest first: it hides those behind it."""


def make_detectors(s: AlertSettings) -> tuple[Detector, ...]:
    """Return the detectors that run, with their parameters; what can be set comes from the settings."""
    detectors = (*_rates(s.limits), *_ectopy(s.limits), *_shapes(s), *_technical(s.limits))
    return tuple(replace(one, hidden_by=_graver(one.kind), rank=rank) for rank, one in enumerate(detectors))


def _graver(kind: wire.Kind) -> frozenset[wire.Kind]:
    return frozenset(one for chain in CHAINS if kind in chain for one in chain[: chain.index(kind)])


_FAST: dict[str, Any] = {"n": 3, "m": 20, "within": 2.5}
"""Chosen on MIT-BIH DS1 and svdb, false alerts against true ones, at rates of eight intervals that were annotated."""


def _rates(limits: Limits) -> tuple[Detector, ...]:
    return (
        VentricularFibrillation(kind="ventricular-fibrillation", severity="high", update_s=10, refractory_s=0),
        Asystole(kind="asystole", severity="high", limit_s=limits.asystole_s, m=3),
        Rate(kind="extreme-bradycardia", severity="high", below_bpm=limits.extreme_bradycardia_bpm, m=5),
        Rate(kind="extreme-tachycardia", severity="high", above_bpm=limits.extreme_tachycardia_bpm, **_FAST),
        Pause(kind="pause", severity="medium", limit_s=limits.pause_s),
        Rate(kind="bradycardia", severity="medium", below_bpm=limits.bradycardia_bpm, m=10),
        Rate(kind="tachycardia", severity="medium", above_bpm=limits.tachycardia_bpm, **_FAST),
    )


def _ectopy(limits: Limits) -> tuple[Detector, ...]:
    bpm, vt, run = limits.ventricular_bpm, limits.ventricular_tachycardia_beats, limits.ventricular_run_beats
    odds, v, s = limits.fibrillation_odds, limits.ventricular_a_minute, limits.supraventricular_a_minute
    return (
        VentricularRun(kind="ventricular-tachycardia", severity="high", beats=vt, above_bpm=bpm, m=5),
        VentricularRun(kind="ventricular-run", severity="medium", beats=run, above_bpm=bpm, m=5),
        AtrialFibrillation(kind="atrial-fibrillation", severity="medium", odds=odds, fall=1.5, n=3, m=10, update_s=600),
        Couplet(kind="couplet", severity="low", m=3, update_s=600, refractory_s=120),
        Cycle(kind="bigeminy", severity="low", cycle=2, m=4, update_s=600, refractory_s=120),
        Cycle(kind="trigeminy", severity="low", cycle=3, m=4, update_s=600, refractory_s=120),
        FrequentEctopy(
            kind="ventricular-ectopy",
            severity="low",
            of="ventricular",
            a_minute=v,
            m=5,
            update_s=600,
            refractory_s=600,
        ),
        FrequentEctopy(
            kind="supraventricular-ectopy",
            severity="low",
            of="supraventricular",
            a_minute=s,
            m=5,
            update_s=600,
            refractory_s=600,
        ),
    )


def _shapes(s: AlertSettings) -> tuple[Detector, ...]:
    return (
        AbnormalBeats(
            kind="abnormal-beats",
            severity="low",
            n=s.n,
            m=s.m,
            exit_ratio=s.exit_ratio,
            update_s=s.update_s,
            refractory_s=s.refractory_s,
        ),
    )


def _technical(limits: Limits) -> tuple[Detector, ...]:
    return (
        NoBeats(kind="no-beats", severity="technical", limit_s=limits.no_beats_s),
        UntilJudgedBeat(
            kind="lead-off",
            severity="technical",
            needs=_or_beats("lead-off"),
            starts_with="lead-off",
            ignores_outdated=True,
            text="The electrode is off: put it on again.",
            over="The electrode is on again.",
        ),
        PoorSignal(
            kind="poor-signal",
            severity="technical",
            n=15,
            m=20,
            text="Hardly any beat can be judged: look at the electrodes, or wait for less motion.",
            over="The signal is good again.",
        ),
        UntilJudgedBeat(
            kind="gap",
            severity="technical",
            needs=_or_beats("gap"),
            starts_with="gap",
            text="Packets are missing, or the device's clock or rate has changed.",
            over="The signal goes on.",
        ),
        DeviceSilent(
            kind="device-silent",
            severity="technical",
            text="No samples come from the device.",
            unusable="The device sends nothing that can be used: its error topic says why.",
            over="The device sends again.",
        ),
    )


def _or_beats(moment: Need) -> frozenset[Need]:
    return frozenset({moment, "beats"})
