"""A device whose electrodes are swapped: said once, seen turned over by the models, kept as it is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from monitor import wire
from monitor.engine import Engine
from monitor.panel import load_panel
from monitor.stream import Notice
from tests.monitor.synthetic_ecg import beat_times, make_ecg

RATE_HZ, SECONDS = 250.0, 60.0
PANEL = load_panel()


def _play(
    samples: npt.NDArray[np.int16], lead: str = "I", restart_s: float | None = None
) -> tuple[list[wire.Beat], list[wire.Alert], list[Notice]]:
    """Play a second a packet; perhaps with another engine from a time on."""
    engine, size = Engine(PANEL), int(RATE_HZ)
    beats, alerts, notices = list[wire.Beat](), list[wire.Alert](), list[Notice]()
    engine.describe("a", wire.Info(rate_hz=RATE_HZ, lead=lead, resolution_uv=1.0), 0.0)
    for seq, begin in enumerate(range(0, samples.size, size)):
        if seq == restart_s:
            saved, engine = engine.save("a"), Engine(PANEL)
            engine.restore("a", saved, 0.0)
        engine.feed("a", wire.Packet(seq, float(seq), RATE_HZ, samples[begin : begin + size]), 0.0)
        output = engine.flush()
        beats, alerts, notices = beats + output.beats, alerts + output.alerts, notices + engine.take_notices()
    return beats, alerts, notices


def _ecg(seed: int = 0) -> npt.NDArray[np.int16]:
    noise = np.random.default_rng(seed).normal(0, 8, round(SECONDS * RATE_HZ))
    return np.rint(make_ecg(beat_times(SECONDS), SECONDS, RATE_HZ) + noise).astype(np.int16)


@pytest.mark.parametrize("restart_s", [None, 10.0, 40.0])
def test_it_is_said_once_also_across_a_restart_of_the_monitor(restart_s: float | None) -> None:
    _, _, [notice] = _play(-_ecg(), restart_s=restart_s)
    assert (notice.owner, notice.reason) == ("a", "polarity")
    assert "upside down" in notice.text
    assert _play(_ecg(), restart_s=restart_s)[2] == []


@pytest.mark.parametrize("seed", range(2))
def test_classes_are_those_of_the_signal_the_right_way_up(seed: int) -> None:
    upright, turned = (_play(sign * _ecg(seed))[0] for sign in (1, -1))
    assert {beat.label for beat in upright[5:]} == {"N"}
    assert [beat.label for beat in turned[5:]] == [beat.label for beat in upright[5:]]


def test_the_shape_model_sees_it_turned_over() -> None:
    upright, turned = (_play(sign * _ecg(), lead="II")[0] for sign in (1, -1))
    of_upright, of_turned = (
        float(np.median([beat.shape_probability for beat in beats[30:] if beat.shape_probability is not None]))
        for beats in (upright, turned)
    )
    assert of_turned == pytest.approx(of_upright, abs=0.1)


def test_strips_show_it_as_it_is() -> None:
    samples = -_ecg()
    samples[round(40 * RATE_HZ) :] = np.rint(np.random.default_rng(1).normal(0, 8, round(20 * RATE_HZ)))
    _, alerts, _ = _play(samples)
    [strip] = [alert.strip for alert in alerts if alert.kind == "asystole" and alert.state == "new"]
    assert strip is not None
    values = [value for value in strip.samples if value is not None]
    assert min(values) < -700
    assert max(values) < 500
