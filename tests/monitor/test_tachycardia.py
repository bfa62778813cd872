"""The ventricular tachycardias that every bedside monitor is tested with, through the engine with the bundled model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from monitor import wire
from monitor.engine import Engine
from monitor.panel import load_panel
from simulator.records import read_wfdb
from tests.monitor.one_device import BEGIN_S, play
from tests.monitor.synthetic_ecg import beat_times, make_ecg

RECORDS = ("aami4a", "aami4a_d", "aami4a_h", "aami4b", "aami4b_d", "aami4b_h")
GRAVE = ("ventricular-tachycardia", "ventricular-fibrillation")
"""The second is as grave, and hides the first: some of these look like flutter."""
ONSET_S, WITHIN_S = 30.5, 11.0
"""Half a minute of sinus rhythm comes first, its last beat at 30.0 s; the packet that told the alert must end within so
long after it."""


@pytest.mark.parametrize("name", RECORDS)
def test_a_ventricular_tachycardia_of_ansi_aami_ec13_is_alerted_in_time(ecg_data: Path, name: str) -> None:
    """Measured: 2 to 4 s; with half the amplitude (aami4a_h), where every second complex is missed, 5 s as flutter."""
    pytest.importorskip("wfdb")
    record = read_wfdb(ecg_data / "ec13" / name)
    size, engine, told_s = round(record.rate_hz), Engine(load_panel()), []
    samples = np.rint(record.samples_uv).astype(np.int16)
    engine.describe("a", wire.Info(rate_hz=record.rate_hz, lead="unknown", resolution_uv=1.0), 0.0)
    for seq, begin in enumerate(range(0, samples.size, size)):
        engine.feed("a", wire.Packet(seq, begin / record.rate_hz, record.rate_hz, samples[begin : begin + size]), 0.0)
        alerts = engine.flush().alerts
        told_s += [one.completed_s for one in alerts if one.kind in GRAVE and one.state == "new"]
    assert told_s, "no alert"
    assert ONSET_S <= told_s[0] <= ONSET_S + WITHIN_S


NARROW = [(-0.03, -0.1, 0.01), (0.0, 1.0, 0.011), (0.03, -0.25, 0.011), (0.12, 0.15, 0.03)]
DOWN = [(0.0, -1.0, 0.014), (0.11, 0.1, 0.03)]


@pytest.mark.parametrize("rate_bpm", [220, 232, 245, 260, 275])
@pytest.mark.parametrize("waves", [NARROW, DOWN])
@pytest.mark.parametrize("amplitude_uv", [300.0, 1200.0])
def test_a_narrow_tachycardia_that_is_there_from_the_first_second_is_alerted_in_time(
    rate_bpm: float, waves: list[tuple[float, float, float]], amplitude_uv: float
) -> None:
    samples = make_ecg(beat_times(20.0, 60 / rate_bpm), 20.0, 250.0, amplitude_uv, waves)
    _, alerts = play(samples, 250.0)
    told_s = [one.completed_s - BEGIN_S for one in alerts if one.kind == "extreme-tachycardia" and one.state == "new"]
    assert told_s, "no alert"
    assert told_s[0] <= WITHIN_S


@pytest.mark.parametrize("smooth_s", [0.002, 0.008, 0.03])
@pytest.mark.parametrize("seed", range(4))
def test_noise_from_the_first_second_is_no_tachycardia(smooth_s: float, seed: int) -> None:
    t = np.arange(-3 * smooth_s, 3 * smooth_s, 1 / 250)
    noise = np.convolve(np.random.default_rng(seed).normal(0, 1, 250 * 60), np.exp(-((t / smooth_s) ** 2) / 2), "same")
    _, alerts = play(np.rint(300 * noise / noise.std()).astype(np.int16), 250.0)
    assert not any("tachycardia" in one.kind for one in alerts)
