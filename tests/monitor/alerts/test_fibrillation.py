"""Atrial fibrillation by RR intervals."""

from __future__ import annotations

import numpy as np

from monitor.alerts.episode import AlertSettings
from monitor.alerts.finding import ABNORMAL, NORMAL
from monitor.alerts.registry import make_detectors
from tests.monitor.alerts.player import Beat, Player, Step

CHANCE = np.random.default_rng(0)
IRREGULAR: list[Step] = [Beat(rr_s, NORMAL, 0.1) for rr_s in CHANCE.uniform(0.45, 1.1, 120).tolist()]
REGULAR: list[Step] = [Beat(rr_s, NORMAL, 0.1) for rr_s in CHANCE.normal(0.8, 0.01, 120).tolist()]
BREATHING: list[Step] = [Beat(0.9 + 0.12 * np.sin(k / 2), NORMAL, 0.1) for k in range(200)]
ECTOPIC: list[Step] = [
    Beat(0.5, ABNORMAL, 0.9, label="V") if k % 5 == 3 else Beat(1.1 if k % 5 == 4 else 0.8, NORMAL, 0.1)
    for k in range(200)
]


def _states(*parts: list[Step]) -> list[str]:
    player = Player(make_detectors(AlertSettings()))
    player.play([step for part in parts for step in part])
    return [alert.state for alert in player.alerts if alert.kind == "atrial-fibrillation"]


def test_irregular_intervals_begin_it_and_regular_ones_end_it() -> None:
    assert _states(REGULAR, IRREGULAR) == ["new"]
    assert _states(REGULAR, IRREGULAR, REGULAR) == ["new", "end"]


def test_it_is_known_within_thirty_seconds() -> None:
    player = Player(make_detectors(AlertSettings()))
    player.play(IRREGULAR)
    new = next(alert for alert in player.alerts if alert.kind == "atrial-fibrillation")
    begun_s = player.now_s - sum(step.after_s for step in IRREGULAR)
    assert new.time_s - begun_s < 30


def test_breathing_and_ectopic_beats_are_not_it() -> None:
    assert _states(BREATHING) == []
    assert _states(ECTOPIC) == []
