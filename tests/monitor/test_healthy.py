"""The bundled models on healthy people with a wearable, none of whom they have met: a floor not to be fallen below."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from monitor import wire
from monitor.engine import Engine
from monitor.panel import Panel, load_panel

RATE_HZ, STEP_UV = 500.0, 5.0
GRADES = {1: "clean", 2: "nearly clean", 3: "poor", 4: "unusable"}


def _play(samples: npt.NDArray[np.int16], panel: Panel) -> list[wire.Beat]:
    engine, size, beats = Engine(panel), round(RATE_HZ), []
    engine.describe("a", wire.Info(rate_hz=RATE_HZ, lead="chest", resolution_uv=STEP_UV), 0.0)
    for seq, begin in enumerate(range(0, samples.size, size)):
        engine.feed("a", wire.Packet(seq, begin / RATE_HZ, RATE_HZ, samples[begin : begin + size]), 0.0)
        beats += engine.flush().beats
    return beats


def _read(path: Path) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int64]]:
    """Samples with what the radio lost, and the grade of each."""
    with np.load(path) as stored:
        time_s, counts, grades = stored["time"], stored["adc"].astype(np.int64), stored["grade"]
    missing = np.maximum(0, np.rint(np.diff(time_s) * RATE_HZ) - 1).astype(np.int64)
    missing[missing < 5] = 0  # jitter
    at = np.r_[0, np.cumsum(1 + missing)]
    samples, of_sample = np.full(at[-1] + 1, wire.NO_SAMPLE, np.int16), np.zeros(at[-1] + 1, np.int64)
    samples[at] = counts - 2048
    for begin, end, grade in grades:
        of_sample[at[begin] : at[min(end, at.size - 1)]] = grade
    return samples, of_sample


def test_clean_beats_of_healthy_people_at_rest_and_in_motion_are_normal(ecg_data: Path) -> None:
    """K. Kalouskova's recordings: five people, electrodes of three kinds, five activities. Prints all grades."""
    files = sorted((ecg_data / "motion_artefacts").glob("*.npz"))
    if not files:
        pytest.skip(f"no recordings of healthy people in motion in {ecg_data}")
    panel, told = load_panel(), Counter[tuple[int, str]]()
    for file in files:
        samples, grades = _read(file)
        for beat in _play(samples, panel):
            told[int(grades[min(grades.size - 1, round(beat.qrs_s * RATE_HZ))]), beat.label or "withheld"] += 1
    for grade, name in GRADES.items():
        judged = sum(told[grade, label] for label in "NSV")
        withheld = told[grade, "withheld"] / (judged + told[grade, "withheld"])
        s, v = (told[grade, label] / judged for label in "SV")
        print(f"{name}: {judged} beats judged, S {s:.2%}, V {v:.2%}; withheld {withheld:.1%} of all found")
    clean = sum(told[1, label] for label in "NSV")
    assert clean > 3000
    assert told[1, "S"] + told[1, "V"] <= 0.02 * clean
