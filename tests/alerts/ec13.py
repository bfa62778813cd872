"""What every bedside monitor is tested with: waveforms 3a to 4b of ANSI/AAMI EC13, and tall T waves.

The heart rate is that of the latest beat that is known `AFTER_S` into the waveform. In 4a and 4b, each at three
amplitudes, half a minute of sinus rhythm comes first; the time to the alarm goes from `ONSET_S` to the message about a
ventricular tachycardia or fibrillation. Tall T waves are made here: a triangle of 1 mV and 100 ms at 80/min, and a half
sine of 180 ms that ends 350 ms after the triangle begins.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from recordings.recording import Signal
from simulator.alert_score import Published, publish
from simulator.records import read_wfdb
from tests.alerts.figures import Figure
from tests.alerts.panels import Panels
from tests.alerts.playing import beats_of, begun, make_record

BIGEMINIES, AFTER_S = ("3a", "3b", "3c", "3d"), 20.0
TACHYCARDIAS, ONSET_S = ("4a", "4a_d", "4a_h", "4b", "4b_d", "4b_h"), 30.5
GRAVE = ("ventricular-tachycardia", "ventricular-fibrillation")
T_RATE_HZ, T_BPM, T_SECONDS, T_HEIGHTS_MV = 500.0, 80.0, 30.0, (0.6, 1.2)
QRS_S, QT_S, T_WAVE_S = 0.1, 0.35, 0.18


def measure(data: Path, panels: Panels) -> Iterator[Figure]:
    """Play all waveforms."""
    panel = panels.of("ec13", "waveforms")
    played = {name: publish(read_wfdb(data / "ec13" / f"aami{name}"), panel) for name in (*BIGEMINIES, *TACHYCARDIAS)}
    for name in BIGEMINIES:
        yield Figure(f"heart rate after {AFTER_S:g} s of {name}", rate_shown(played[name]), "/min")
    for name in TACHYCARDIAS:
        kind, delay_s = time_to_alarm(played[name])
        yield Figure(f"time to alarm on {name}", delay_s, "s", kind)
    for height_mv in T_HEIGHTS_MV:
        made = make_record("made", make_tall_t_waves(height_mv), T_RATE_HZ, "unknown")
        yield Figure(f"heart rate with T waves of {height_mv:g} mV", rate_shown(publish(made, panel)), "/min")


def rate_shown(published: Published) -> float | None:
    """Heart rate that a monitor shows `AFTER_S` into a waveform."""
    known = [beat for beat in beats_of(published) if beat.completed_s <= AFTER_S]
    return max(known, key=lambda beat: beat.qrs_s).heart_rate_bpm if known else None


def time_to_alarm(published: Published) -> tuple[str, float | None]:
    """Kind of the first grave alert, and how long after the onset it was told."""
    grave = [one for one in begun(published, "high") if one.kind in GRAVE]
    return (grave[0].kind, grave[0].completed_s - ONSET_S) if grave else ("never told", None)


def make_tall_t_waves(height_mv: float) -> Signal:
    """Microvolts of `T_SECONDS` at `T_RATE_HZ`."""
    since_s = np.arange(round(T_SECONDS * T_RATE_HZ)) / T_RATE_HZ % (60 / T_BPM)  # of the begin of the QRS complex
    qrs = np.maximum(0, 1 - np.abs(2 * since_s / QRS_S - 1))
    phase = np.clip((since_s - QT_S + T_WAVE_S) / T_WAVE_S, 0, 1)
    signal: Signal = 1000 * (qrs + height_mv * np.sin(np.pi * phase))
    return signal
