"""The signal on its way to a browser: in order, without gaps that are none, thinned, and kept for a while."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor import wire
from monitor.page.signal import HEADER, KEPT_S, MOST_HZ, SAMPLES, Chunk, Signal, encode_frame, thin
from tests.monitor.page.messages import NOW_S, packet


def test_packets_with_consecutive_numbers_join_although_their_stamps_jitter() -> None:
    signal = Signal()
    signal.take(packet(0, NOW_S))
    second = signal.take(packet(1, NOW_S + 1.2))
    assert second is not None
    assert second.start_s == pytest.approx(NOW_S + 1, abs=0.02)


def test_a_lasting_difference_between_stamps_and_numbers_is_followed() -> None:
    signal = Signal()
    for seq in range(200):
        last = signal.take(packet(seq, NOW_S + seq * 1.001))
    assert last is not None
    assert last.start_s == pytest.approx(NOW_S + 199 * 1.001, abs=0.03)


def test_a_lost_packet_leaves_a_gap() -> None:
    signal = Signal()
    signal.take(packet(0, NOW_S))
    third = signal.take(packet(2, NOW_S + 2))
    assert third is not None
    assert third.start_s == NOW_S + 2


def test_a_repeated_packet_is_not_drawn_again() -> None:
    signal = Signal()
    for seq in (0, 1):
        signal.take(packet(seq, NOW_S + seq))
    assert signal.take(packet(1, NOW_S + 1)) is None
    assert signal.take(packet(0, NOW_S)) is None


def test_a_restarted_device_is_drawn_again_although_its_numbers_begin_anew() -> None:
    signal = Signal()
    signal.take(packet(500, NOW_S))
    assert signal.take(packet(0, NOW_S + 30)) is not None


def test_a_clock_that_was_set_back_does_not_stop_the_strip() -> None:
    signal = Signal()
    signal.take(packet(500, NOW_S))
    assert signal.take(packet(501, NOW_S - 3600)) is not None
    assert [chunk.start_s for chunk in signal.since(0.0)] == [NOW_S - 3600]


def test_half_a_minute_is_kept_and_the_rest_of_it_given_to_whoever_comes_back() -> None:
    signal = Signal()
    for seq in range(60):
        signal.take(packet(seq, NOW_S + seq))
    kept = signal.since(0.0)
    assert KEPT_S <= kept[-1].end_s - kept[0].start_s <= KEPT_S + 2
    assert [chunk.start_s for chunk in signal.since(NOW_S + 58)] == [NOW_S + 58, NOW_S + 59]


@given(st.integers(50, 4000), st.integers(1, 4000))
def test_a_thinned_chunk_spans_the_same_time_at_a_rate_that_a_screen_can_show(rate_hz: int, n: int) -> None:
    whole = Chunk(NOW_S, float(rate_hz), np.zeros(n, np.int16))
    thinned = thin(whole)
    assert thinned.end_s == pytest.approx(whole.end_s)
    assert thinned.rate_hz < 2 * MOST_HZ or n < rate_hz // MOST_HZ


def test_thinning_averages_and_what_has_a_missing_sample_is_missing() -> None:
    samples = np.array([1, 2, 3, 6, wire.NO_SAMPLE, 4, 4, 4], np.int16)
    assert thin(Chunk(NOW_S, 1000.0, samples)).samples.tolist() == [3, wire.NO_SAMPLE]


def test_a_frame_holds_what_the_browser_reads() -> None:
    frame = encode_frame(7, Chunk(NOW_S, 125.0, np.array([1, -2], np.int16)), 0.5)
    assert HEADER.unpack(frame[: HEADER.size]) == (SAMPLES, 0, 7, 125.0, NOW_S, 0.5, 2)
    assert frame[HEADER.size :] == b"\x01\x00\xfe\xff"
