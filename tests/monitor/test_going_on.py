"""A stream with pauses, an electrode that comes off, and fibrillation: however it is cut or saved, the same follows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor import wire
from monitor.classify import Classifier
from monitor.engine import Engine
from tests.monitor.synthetic_ecg import beat_times, make_ecg

START_S, RATE_HZ, SECONDS = 1_700_000_000.0, 250.0, 160.0
CLASSIFIER = Classifier("mitbih", "cpu")


def _signal() -> npt.NDArray[np.int16]:
    parts = (
        beat_times(20.0),
        beat_times(30.0, 0.7, 24.5),
        beat_times(40.0, 0.4, 34.0),
        beat_times(SECONDS - 1, 0.9, 43.1),
    )
    rng = np.random.default_rng(0)
    ecg = make_ecg(np.concatenate(parts), SECONDS, RATE_HZ) + rng.normal(0, 5, round(SECONDS * RATE_HZ))
    ecg[round(31 * RATE_HZ) :] += 2500 * np.exp(-np.arange(ecg.size - round(31 * RATE_HZ)) / RATE_HZ)
    for begin_s, end_s in ((60.0, 66.0), (68.0, 71.0)):
        ecg[round(begin_s * RATE_HZ) : round(end_s * RATE_HZ)] = 0
    ecg[round(80 * RATE_HZ) : round(88 * RATE_HZ)] += rng.normal(0, 300, round(8 * RATE_HZ))
    flutter = np.arange(round(15 * RATE_HZ)) / RATE_HZ
    ecg[round(120 * RATE_HZ) : round(135 * RATE_HZ)] = 500 * np.sin(2 * np.pi * (4 + flutter / 20) * flutter)
    return np.rint(ecg).astype(np.int16)


SIGNAL = _signal()


def _packets(sizes: list[int]) -> list[wire.Packet]:
    packets: list[wire.Packet] = []
    at = 0
    while at < SIGNAL.size:
        part = SIGNAL[at : at + sizes[len(packets) % len(sizes)]]
        packets.append(wire.Packet(len(packets), START_S + at / RATE_HZ, RATE_HZ, part))
        at += part.size
    return packets


def _play(packets: list[wire.Packet], save_every: int = 0) -> tuple[list[wire.Beat], list[wire.Alert]]:
    """Play packets; after every so many, another engine goes on where this one was saved."""
    engine = Engine(CLASSIFIER)
    beats: list[wire.Beat] = []
    alerts: list[wire.Alert] = []
    for number, packet in enumerate(packets):
        if save_every and number and number % save_every == 0:
            before, engine = engine, Engine(CLASSIFIER)
            engine.restore("a", before.save("a"), 0.0)
        engine.feed("a", packet, 0.0)
        output = engine.flush()
        beats += output.beats
        alerts += output.alerts
    return beats, alerts


WHOLE = _play(_packets([250]))


def test_there_is_much_that_could_differ() -> None:
    beats, alerts = WHOLE
    assert {"asystole", "pause", "lead-off", "ventricular-fibrillation"} <= {alert.kind for alert in alerts}
    assert len({beat.heart_rate_bpm for beat in beats}) > 20
    assert {beat.verdict for beat in beats} >= {"normal", "withheld"}


def test_a_device_that_is_saved_after_every_packet_goes_on_to_the_bit() -> None:
    assert _play(_packets([250]), save_every=1) == WHOLE


@settings(deadline=None, max_examples=5)
@given(st.lists(st.integers(200, 2500), min_size=1, max_size=6), st.integers(3, 9))
def test_so_does_one_whose_packets_are_of_any_length(sizes: list[int], save_every: int) -> None:
    packets = _packets(sizes)
    assert _play(packets, save_every) == _play(packets)


@settings(deadline=None, max_examples=8)
@given(st.lists(st.integers(20, 2500), min_size=1, max_size=6))
def test_beats_do_not_depend_on_how_the_stream_was_cut(sizes: list[int]) -> None:
    beats, alerts = _play(_packets(sizes))
    assert [_less(beat) for beat in beats] == [_less(beat) for beat in WHOLE[0]]
    kinds = "pause", "ventricular-fibrillation"
    found, expected = ([one.id for one in some if one.kind in kinds] for some in (alerts, WHOLE[1]))
    assert found == expected


def _less(beat: wire.Beat) -> tuple[object, ...]:
    """All of a beat but for the packet that completed it."""
    return beat.id, beat.qrs_s, beat.verdict, beat.probability, beat.reason, beat.rr_s, beat.heart_rate_bpm
