"""The bundled models on healthy people with a wearable, none of whom they have met: a floor not to be fallen below."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from monitor.panel import load_panel
from simulator.alert_score import publish
from tests.alerts.motion import read_motion
from tests.alerts.playing import beats_of

GRADES = {1: "clean", 2: "nearly clean", 3: "poor", 4: "unusable"}


def test_clean_beats_of_healthy_people_at_rest_and_in_motion_are_normal(ecg_data: Path) -> None:
    """K. Kalouskova's recordings: five people, electrodes of three kinds, five activities. Prints all grades."""
    files = sorted((ecg_data / "motion_artefacts").glob("*.npz"))
    if not files:
        pytest.skip(f"no recordings of healthy people in motion in {ecg_data}")
    panel, told = load_panel(), Counter[tuple[int, str]]()
    for file in files:
        record, grades = read_motion(file)
        for beat in beats_of(publish(record, panel)):
            told[int(grades[min(grades.size - 1, round(beat.qrs_s * record.rate_hz))]), beat.label or "withheld"] += 1
    for grade, name in GRADES.items():
        judged = sum(told[grade, label] for label in "NSV")
        withheld = told[grade, "withheld"] / (judged + told[grade, "withheld"])
        s, v = (told[grade, label] / judged for label in "SV")
        print(f"{name}: {judged} beats judged, S {s:.2%}, V {v:.2%}; withheld {withheld:.1%} of all found")
    clean = sum(told[1, label] for label in "NSV")
    assert clean > 3000
    assert told[1, "S"] + told[1, "V"] <= 0.02 * clean
