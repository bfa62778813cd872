"""What an alert shows of the signal: the last ten seconds before it, the same however packets are cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor import wire
from monitor.alerts.episode import AlertSettings
from monitor.classify import Classifier
from monitor.engine import Engine
from tests.monitor.synthetic_ecg import beat_times, make_ecg
from tests.monitor.test_engine import RateClassifier

RATE_HZ = 250.0
START_S = 1_700_000_000.0
CHANGE_S = 25.0
RR_S = [0.9] * 27 + [0.45] * 30
"""Calm, then fast: what `RateClassifier` calls abnormal, from `CHANGE_S` on."""
TIMES = beat_times(40.0, RR_S)
ECG = make_ecg(TIMES, 40.0, RATE_HZ)
RESOLUTION_UV = 2.5


def _engine() -> Engine:
    return Engine(cast(Classifier, RateClassifier()), AlertSettings())


def _packets(samples: npt.NDArray[np.int16], sizes: Sequence[int] = (250,), first: int = 0) -> list[wire.Packet]:
    packets: list[wire.Packet] = []
    at = 0
    while at < samples.size:
        size = sizes[len(packets) % len(sizes)]
        packets.append(wire.Packet(first + len(packets), START_S + at / RATE_HZ, RATE_HZ, samples[at : at + size]))
        at += size
    return packets


def _play(packets: Sequence[wire.Packet], resolution_uv: float | None = RESOLUTION_UV, flush_every: int = 1,
          saved_at: Sequence[int] = ()) -> list[wire.Alert]:  # fmt: skip
    """Alerts of a device: its packets taken so many at a time, in another process from some of them on."""
    engine, alerts = _engine(), list[wire.Alert]()
    if resolution_uv is not None:
        engine.describe("a", wire.Info(rate_hz=RATE_HZ, lead="II", resolution_uv=resolution_uv), 0.0)
    for i, packet in enumerate(packets):
        if i in saved_at:
            alerts += engine.flush().alerts
            saved, engine = engine.save("a"), _engine()
            engine.restore("a", saved, 0.0)
        engine.feed("a", packet, packet.start_s)
        if i % flush_every == 0:
            alerts += engine.flush().alerts
    alerts += engine.flush().alerts
    engine.forget(np.inf)
    return alerts + engine.flush().alerts


def _new(alerts: Sequence[wire.Alert], kind: str) -> wire.Alert:
    return next(alert for alert in alerts if alert.kind == kind and alert.state == "new")


def _strip(alert: wire.Alert) -> wire.Strip:
    assert alert.strip is not None
    return alert.strip


def _values(strip: wire.Strip) -> npt.NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in strip.samples], np.float64)


def _end_s(strip: wire.Strip) -> float:
    return strip.start_s + len(strip.samples) / strip.rate_hz


WHOLE = _play(_packets(ECG))
ALERT = _new(WHOLE, "abnormal-beats")


def test_a_strip_is_the_last_ten_seconds_in_microvolts() -> None:
    strip = _strip(ALERT)
    assert (strip.rate_hz, strip.unit, len(strip.samples)) == (125.0, "uV", 1250)
    assert ALERT.time_s < _end_s(strip) < ALERT.time_s + 2.0
    times_s = strip.start_s - START_S + np.arange(1250) / strip.rate_hz
    sent_uv = np.interp(times_s, np.arange(ECG.size) / RATE_HZ, ECG) * RESOLUTION_UV
    assert np.abs(_values(strip) - sent_uv).max() < 0.1 * np.ptp(sent_uv)


def test_its_beats_lie_on_the_peaks_and_have_their_classes() -> None:
    strip = _strip(ALERT)
    values, beats = _values(strip), strip.beats
    within = [t for t in TIMES + START_S if strip.start_s < t <= ALERT.time_s + 0.05]
    assert [beat.time_s for beat in beats] == pytest.approx(within, abs=0.02)
    assert all(values[round((beat.time_s - strip.start_s) * 125)] > 0.7 * values.max() for beat in beats)
    assert {beat.verdict for beat in beats} == {"normal", "abnormal"}
    assert {(beat.verdict, beat.label) for beat in beats} == {("normal", "N"), ("abnormal", "abnormal")}
    assert beats[-1].verdict == "abnormal"


def test_of_a_device_that_did_not_say_its_resolution_a_strip_is_in_steps() -> None:
    strip = _strip(_new(_play(_packets(ECG), resolution_uv=None), "abnormal-beats"))
    assert strip.unit == "step"
    assert np.nanmax(_values(strip)) == pytest.approx(np.nanmax(_values(_strip(ALERT))) / RESOLUTION_UV, abs=1)


@settings(deadline=None, max_examples=25)
@given(sizes=st.lists(st.integers(1, 2600), min_size=1, max_size=6), flush_every=st.integers(1, 9))
def test_any_cut_gives_the_same_strip(sizes: list[int], flush_every: int) -> None:
    packets = _packets(ECG[: round((ALERT.completed_s - START_S + 0.2) * RATE_HZ)], sizes)
    assert _strip(_new(_play(packets, flush_every=flush_every), "abnormal-beats")) == _strip(ALERT)


@settings(deadline=None, max_examples=25)
@given(saved_at=st.sets(st.integers(1, 39), min_size=1, max_size=8))
def test_saved_and_restored_gives_the_same_strips(saved_at: set[int]) -> None:
    assert _play(_packets(ECG), saved_at=sorted(saved_at)) == WHOLE


def test_missing_samples_are_null() -> None:
    ecg = ECG.copy()
    gone = slice(round(24.0 * RATE_HZ), round(24.3 * RATE_HZ))
    ecg[gone] = wire.NO_SAMPLE
    strip = _strip(_new(_play(_packets(ecg)), "abnormal-beats"))
    missing_s = strip.start_s - START_S + np.flatnonzero(np.isnan(_values(strip))) / 125
    assert missing_s.min() == pytest.approx(24.0, abs=0.1)
    assert missing_s.max() == pytest.approx(24.3, abs=0.1)
    assert all(isinstance(value, int) for value in strip.samples if value is not None)


def test_a_gap_and_what_follows_it_show_the_signal_on_their_side_of_it() -> None:
    packets = _packets(ECG)
    broken = [*packets[:12], *packets[15:]]
    alerts = _play(broken)
    gap = _strip(_new(alerts, "gap"))
    assert _end_s(gap) == pytest.approx(START_S + 12.0, abs=0.15)
    assert len(gap.samples) == 1250
    after = _strip(_new(alerts, "abnormal-beats"))
    assert after.start_s >= START_S + 15.0


def test_an_electrode_that_comes_off_ends_the_strip_whatever_the_packets() -> None:
    ecg = ECG.copy()
    ecg[round(20.0 * RATE_HZ) :] = 0
    strips = {size: _strip(_new(_play(_packets(ecg, [size])), "lead-off")) for size in (25, 250, 2500)}
    assert strips[25] == strips[250] == strips[2500]
    assert strips[25].start_s < START_S + 20.0 < _end_s(strips[25])


@pytest.mark.parametrize("state", ["new", "end"])
def test_fibrillation_is_shown_up_to_where_it_was_known_whatever_the_packets(state: str) -> None:
    at = np.arange(round(20.0 * RATE_HZ)) / RATE_HZ
    waves = 600 * np.sin(2 * np.pi * 5.0 * at + 2 * np.sin(at))
    ecg = np.concatenate([ECG[: round(20.0 * RATE_HZ)], waves.astype(np.int16), ECG[: round(25.0 * RATE_HZ)]])
    strips = []
    for sizes, saved_at in (([25], ()), ([90, 237, 411], (60, 70, 90)), ([2500], ())):
        alerts = _play(_packets(ecg, sizes), saved_at=saved_at)
        [one] = [a for a in alerts if (a.kind, a.state) == ("ventricular-fibrillation", state)]
        strips.append(_strip(one))
        assert _end_s(strips[-1]) == pytest.approx(one.time_s, abs=0.005)
    assert strips[0] == strips[1] == strips[2]


def test_a_device_that_falls_silent_shows_its_last_signal() -> None:
    engine = _engine()
    for packet in _packets(ECG)[:20]:
        engine.feed("a", packet, packet.start_s)
    engine.tick(START_S + 1000)
    strip = _strip(_new(engine.flush().alerts, "device-silent"))
    assert _end_s(strip) == pytest.approx(START_S + 20.0, abs=0.15)
    assert strip.beats


def test_how_the_heart_got_over_it_is_shown_and_how_the_recording_did_is_not() -> None:
    packets = _packets(ECG)
    ended = _play([*packets[:12], *packets[15:]])
    assert [alert.strip is None for alert in ended if alert.kind == "gap"] == [False, True]
    calm = make_ecg(beat_times(60.0, [*RR_S[:57], *[0.9] * 40]), 60.0, RATE_HZ)
    heart = [alert for alert in _play(_packets(calm)) if alert.kind == "abnormal-beats" and alert.state != "update"]
    assert [(alert.state, alert.strip is None) for alert in heart] == [("new", False), ("end", False)]


def test_a_device_whose_row_another_had_shows_nothing_of_it() -> None:
    engine = _engine()
    for packet in _packets(ECG)[:20]:
        engine.feed("a", packet, 0.0)
    engine.flush()
    engine.forget(np.inf)
    engine.flush()
    for packet in _packets(ECG[round(20.0 * RATE_HZ) :]):
        engine.feed("b", packet, packet.start_s)
    strip = _strip(_new(engine.flush().alerts, "abnormal-beats"))
    assert len(strip.samples) < 1250
    assert strip.start_s >= START_S
