"""All devices' signal at once: the same beats however packets are batched, and lanes that are clean when reused."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor import wire
from monitor.beat import LENGTH, fit_window
from monitor.ecg.batch import Batch, Beats, Stretch, fit_windows
from monitor.stream import Stream
from tests.monitor.synthetic_ecg import beat_times, make_ecg

ECG = {
    "slow": (250.0, make_ecg(beat_times(30.0, 1.1), 30.0, 250.0)),
    "fast": (250.0, make_ecg(beat_times(30.0, 0.5), 30.0, 250.0)),
    "other rate": (130.061, make_ecg(beat_times(30.0, 0.8), 30.0, 130.061)),
}


def _packets(rate_hz: float, samples: npt.NDArray[np.int16], size: int) -> list[wire.Packet]:
    starts = range(0, samples.size, size)
    return [wire.Packet(k, at / rate_hz, rate_hz, samples[at : at + size]) for k, at in enumerate(starts)]


def _found(batch: Batch) -> list[tuple[str, int, bytes]]:
    return [
        (part.stretches[one["stream"]].owner, int(one["r_peak"]), part.signals[i, : one["length"]].tobytes())
        for part in batch.collect()
        if isinstance(part, Beats)
        for i, one in enumerate(part.beats)
    ]


def _play(advance_after: list[int]) -> dict[str, list[tuple[str, int, bytes]]]:
    """Play all at once; how many packets go by between two passes is taken from the list, over and over."""
    batch = Batch(3, False, 6.0)
    streams = {name: Stream(name, batch, Counter()) for name in ECG}
    found, due, turn = [], advance_after[0], 0
    for packets in zip(*(_packets(*ecg, 100) for ecg in ECG.values()), strict=False):
        for name, packet in zip(ECG, packets, strict=True):
            streams[name].feed(packet)
            due -= 1
            if due <= 0:
                found += _found(batch)
                turn += 1
                due = advance_after[turn % len(advance_after)]
    found += _found(batch)
    return {name: [entry for entry in found if entry[0] == name] for name in ECG}


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_the_same_beats_however_packets_are_batched(advance_after: list[int]) -> None:
    one_by_one = _play([1])
    assert all(len(found) > 10 for found in one_by_one.values())
    assert _play(advance_after) == one_by_one


def test_a_lane_that_is_used_again_remembers_nothing() -> None:
    batch = Batch(1, False, 6.0)
    rate_hz, samples = ECG["fast"]
    found = []
    for _ in range(2):
        stream = Stream("a", batch, Counter())
        for packet in _packets(rate_hz, samples, 250):
            stream.feed(packet)
        stream.finish()
        found.append(_found(batch))
    assert found[0] == found[1]
    assert len(found[0]) > 50


def test_more_stretches_than_lanes_are_refused() -> None:
    batch = Batch(1, False, 6.0)
    batch.open(Stretch("a", 250.0, 0.0, 0))
    with pytest.raises(ValueError, match="All 1 lanes are taken"):
        batch.open(Stretch("b", 250.0, 0.0, 0))


def test_what_is_remembered_of_a_stretch_is_small() -> None:
    assert sum(states.dtype.itemsize for states in Batch(1, False, 6.0).states) < 22_500


@given(st.lists(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=LENGTH), min_size=1, max_size=5))
def test_windows_of_many_beats_are_those_of_each(signals: list[list[float]]) -> None:
    rows = np.zeros((len(signals), LENGTH), np.float32)
    for row, signal in zip(rows, signals, strict=True):
        row[: len(signal)] = signal
    lengths = np.array([len(signal) for signal in signals])
    which = np.arange(len(signals))[::-1].copy()
    expected = [fit_window(np.array(signals[i], np.float32)) for i in which]
    np.testing.assert_array_equal(fit_windows(rows, lengths, which), expected)


def test_a_stretch_ends_with_its_own_beats_whichever_was_cut_before() -> None:
    batch = Batch(3, False, 6.0)
    quiet, ends, beats = (Stream(name, batch, Counter()) for name in ("quiet", "ends", "beats"))
    rate_hz, samples = ECG["fast"]
    for packet in _packets(*ECG["slow"], 100)[:13]:  # until shortly after a beat, whose window is not complete
        ends.feed(packet)
    batch.collect()
    for packet in _packets(rate_hz, samples, 2500):  # a batch in which all beats are of the second of two stretches
        quiet.feed(wire.Packet(packet.seq, packet.start_s, rate_hz, np.zeros_like(packet.samples)))
        beats.feed(packet)
        batch.collect()
    ends.finish()
    found = _found(batch)
    assert found
    assert {owner for owner, _, _ in found} == {"ends"}
