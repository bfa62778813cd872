"""Limits of one device: what may be set, and how far."""

from __future__ import annotations

import pytest

from monitor import wire
from monitor.alerts.episode import AlertSettings, Episode
from monitor.alerts.limits import Limits
from monitor.alerts.override import differing, override, parameters, ranges
from monitor.alerts.registry import make_detectors

DETECTORS = {one.kind: one for one in make_detectors(AlertSettings())}


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("asystole", "limit_s", 3.9),  # nothing is known of a shorter silence before a beat ends it
        ("no-beats", "limit_s", 2.0),
        ("ventricular-ectopy", "a_minute", 17),  # more are not counted
        ("supraventricular-ectopy", "a_minute", 100),
        ("tachycardia", "above_bpm", 1400),  # no heart is so fast
        ("ventricular-tachycardia", "above_bpm", 1000),
        ("ventricular-tachycardia", "beats", 50),
        ("ventricular-run", "beats", 1),  # which is none
        ("extreme-bradycardia", "below_bpm", 3),
    ],
)
def test_a_limit_that_would_never_be_met_is_refused(kind: str, name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{kind} {name} must lie between .*: got {value:g}"):
        override(DETECTORS, {kind: {name: value}})


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("asystole", "limit_s", 4.0),
        ("ventricular-ectopy", "a_minute", 16),
        ("tachycardia", "above_bpm", 220),
        ("ventricular-run", "beats", 3),
        ("pause", "limit_s", 2.0),
        ("bradycardia", "below_bpm", 50),
    ],
)
def test_a_limit_within_its_bounds_is_taken(kind: str, name: str, value: float) -> None:
    changed = {str(one): parameters(detector) for one, detector in override(DETECTORS, {kind: {name: value}}).items()}
    assert changed[kind][name] == value


@pytest.mark.parametrize(
    ("limits", "got"),
    [
        ({"bradycardia": {"below_bpm": 150}}, "bradycardia below 150 and tachycardia above 140"),
        (
            {"bradycardia": {"below_bpm": 90}, "extreme-tachycardia": {"above_bpm": 80}},
            "bradycardia below 90 and extreme-tachycardia above 80",
        ),
    ],
)
def test_a_low_heart_rate_cannot_be_above_a_high_one(limits: wire.Limits, got: str) -> None:
    with pytest.raises(ValueError, match=f"must lie below that of a high one: got {got}"):
        override(DETECTORS, limits)


def test_what_can_be_set_is_what_is_taken() -> None:
    for detector in DETECTORS.values():
        for name, (usual, low, high, _) in ranges(detector).items():
            assert low <= usual <= high
            if name not in ("n", "m", "below_bpm", "above_bpm"):  # which depend on one another
                override(DETECTORS, {detector.kind: {name: high}})
                override(DETECTORS, {detector.kind: {name: low}})


def test_what_differs_from_usual_is_told() -> None:
    changed = make_detectors(AlertSettings(n=2, limits=Limits(bradycardia_bpm=50)))
    assert differing({one.kind: one for one in changed}, DETECTORS) == {
        "bradycardia": {"below_bpm": 50},
        "abnormal-beats": {"n": 2},
    }
    assert differing(DETECTORS, DETECTORS) == {}


def test_what_makes_a_kind_what_it_is_cannot_be_set() -> None:
    with pytest.raises(ValueError, match="bigeminy has no limit 'cycle'"):
        override(DETECTORS, {"bigeminy": {"cycle": 3}})


def test_asystole_shorter_than_what_is_looked_at_is_refused_for_the_fleet() -> None:
    with pytest.raises(ValueError, match=r"Asystole is told from 4 s on: got 2\.5 s"):
        Limits(asystole_s=2.5, pause_s=2.0)


def test_a_smaller_m_holds_for_what_was_observed_before_it_was_set() -> None:
    before = Episode(1, 10, 60.0, 0.0)
    for second in range(10):
        before.observe(float(second), False, False)
    after = Episode(2, 2, 60.0, 0.0, *before.memory())
    assert [after.observe(20.0 + k, event, False) for k, event in enumerate((True, False, False, True))] == [None] * 4
