"""Chunks in, packets out: however they are cut; gaps stay gaps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.lsl import cut
from gateway.stream import Chunk, Packetizer
from monitor import wire

SIGNAL = np.arange(1000.0) - 500


def _packets(chunks: list[Chunk], follow: float = 0.0, size: int = 65, resolution_uv: float = 1.0) -> list[wire.Packet]:
    made = Packetizer(130.0, size, resolution_uv, follow)
    return [packet for chunk in chunks for packet in made.add(chunk)] + list(made.flush())


def _chunks(sizes: list[int], start_s: float = 100.0) -> list[Chunk]:
    chunks, place = [], 0
    for size in [*sizes, SIGNAL.size]:
        part = SIGNAL[place : place + size]
        if part.size:
            chunks.append(Chunk(start_s + place / 130.0, part))
        place += part.size
    return chunks


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 200), max_size=20))
def test_any_chunks_give_the_same_packets(sizes: list[int]) -> None:
    expected, got = _packets(_chunks([])), _packets(_chunks(sizes))
    assert [packet.seq for packet in got] == list(range(16))
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(one.samples, other.samples)
        assert one.start_s == pytest.approx(other.start_s, abs=1e-9)


def test_gap_ends_the_packet_and_the_next_begins_at_its_own_time() -> None:
    first, second = Chunk(100.0, SIGNAL[:100]), Chunk(110.0, SIGNAL[100:230])
    got = _packets([first, second])
    assert [(packet.start_s, packet.samples.size) for packet in got] == [
        (100.0, 65), (100.5, 35), (110.0, 65), (110.5, 65),
    ]  # fmt: skip
    np.testing.assert_array_equal(np.concatenate([packet.samples for packet in got]), SIGNAL[:230])


def test_late_and_early_chunks_are_no_gaps_and_are_followed_slowly() -> None:
    rng = np.random.default_rng(0)
    chunks = [
        Chunk(100.0 + i * 65 / 130.13 + rng.uniform(0, 0.05), np.zeros(65)) for i in range(600)
    ]  # a clock that is 0.1 % fast, and arrivals that jitter
    got = _packets(chunks, follow=0.05)
    assert len(got) == 600
    true_s = np.array([100.0 + i * 65 / 130.13 for i in range(600)])
    late_s = np.array([packet.start_s for packet in got]) - true_s
    assert np.abs(late_s).max() < 0.06
    assert np.abs(np.diff(late_s)).max() < 0.005


def test_missing_and_too_high_samples_go_out_as_the_wire_has_them() -> None:
    samples_uv = np.array([np.nan, 1e6, -1e6, 3.0])
    (packet,) = _packets([Chunk(0.0, samples_uv)], resolution_uv=2.0)
    assert packet.samples.tolist() == [wire.NO_SAMPLE, 32767, -32767, 2]


def test_stream_is_cut_where_its_times_leave_samples_out() -> None:
    stamps = np.array([0.0, 0.01, 0.02, 0.08, 0.09])
    got = cut(stamps, np.arange(5.0), 100.0)
    assert [(chunk.start_s, chunk.samples_uv.tolist()) for chunk in got] == [(0.0, [0, 1, 2]), (0.08, [3, 4])]
