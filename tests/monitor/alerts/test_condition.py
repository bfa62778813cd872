"""Conditions that are looked up in one go hold where numpy says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.alerts import condition
from monitor.alerts.condition import Column, Conditions
from monitor.alerts.detection import Detection
from monitor.alerts.episode import AlertSettings
from monitor.alerts.finding import ABNORMAL, NORMAL, WITHHELD, Beats
from monitor.alerts.registry import make_detectors
from monitor.rhythm import Rhythms
from tests.monitor.alerts.player import START_S, Beat, Device, FakeBeats, Player

SELECTS: list[Callable[[Any], Any]] = [
    lambda beats: beats.rhythm.rate_bpm < 70,
    lambda beats: (beats.rhythm.interval_s > 1.0) & (beats.probability <= 0.5),
    lambda beats: (beats.rhythm.run >= 2) | beats.is_poor | (beats.shape != 0.5),
    lambda beats: ~((beats.rhythm.rate_bpm < 70) | beats.unusual) & (beats.verdicts == NORMAL),
    lambda beats: ~(beats.rhythm.interval_s > 0.5),
]
A_BEAT = st.tuples(
    st.sampled_from([0.4, 0.8, 1.2, 1.8]),
    st.sampled_from([NORMAL, ABNORMAL, WITHHELD]),
    st.sampled_from([0.1, 0.5, 0.9]),
    st.booleans(),
    st.sampled_from([0.1, 0.5, np.nan]),
).map(lambda one: Beat(*one[:4], shape=one[4], unusual=one[3]))


def _beats(beats: list[Beat]) -> Beats:
    fake = FakeBeats(Device(), beats, (START_S + np.cumsum([beat.after_s for beat in beats])).tolist())
    fake.follow(Rhythms())
    return cast(Beats, fake)


@settings(deadline=None, max_examples=50)
@given(st.lists(A_BEAT, min_size=1, max_size=12))
def test_conditions_hold_where_arrays_say_so_missing_numbers_included(made: list[Beat]) -> None:
    beats = _beats(made)
    together = Conditions([condition.find(select) for select in SELECTS]).look_up(beats)
    np.testing.assert_array_equal(together, [select(beats) for select in SELECTS])


def test_what_compares_anything_else_is_none() -> None:
    for select in (lambda beats: np.isnan(beats.rhythm.run), lambda beats: beats.nothing > 1, lambda beats: None):
        assert condition.find(select) is None
    with pytest.raises(TypeError, match="joined by & and"):
        bool(Column("probability") > 1)


def test_every_detector_of_the_registry_is_looked_up_with_the_others() -> None:
    detection = Detection(make_detectors(AlertSettings()))
    assert detection._others == []


def test_a_detector_that_needs_arrays_still_begins() -> None:
    class ByArrays(type(make_detectors(AlertSettings())[1])):  # type: ignore[misc]
        def select(self, beats: Beats) -> Any:
            return np.isfinite(beats.rhythm.interval_s) & (beats.rhythm.interval_s > 4.0)

    detector = ByArrays(kind="asystole", severity="high", limit_s=4.0, m=3)
    player = Player([detector])
    assert player.detection._others == [detector]
    assert [alert.kind for alert in player.play([Beat(0.8, NORMAL)] * 10 + [Beat(5.0, NORMAL)])] == ["asystole"]
