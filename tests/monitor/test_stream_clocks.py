"""Whatever a device's clock does while its packets are numbered without a hole, its beats get their times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor import wire
from monitor.beat import RATE_HZ
from monitor.classify import Classifier
from monitor.clock import Clock
from monitor.ecg.batch import Batch, Beats, Event
from monitor.engine import Engine
from monitor.stream import Notice, Stream
from tests.monitor.synthetic_ecg import beat_times, make_ecg

BEGIN_S = 1_700_000_000.0
SECONDS = 90.0
RR_S = [0.8, 0.83, 0.79, 0.85]
Floats = npt.NDArray[np.float64]


class Found(NamedTuple):
    """What came of a stream."""

    time_s: Floats
    rr_s: Floats
    """(n,) on the device's clock; 0 where there was none."""
    events: list[str]
    counts: Counter[str]
    notices: list[Notice]


def _signal(rate_hz: float, seconds: float = SECONDS) -> tuple[npt.NDArray[np.int16], Floats]:
    """Return samples at a true rate, and the times of its R peaks."""
    times = beat_times(seconds, RR_S)
    return make_ecg(times, seconds, rate_hz), times


def _packets(
    samples: npt.NDArray[np.int16],
    size: int,
    true_hz: float,
    stamp: Callable[[int, float], float] = lambda _, t: t,
    declared_hz: float | Callable[[int], float] | None = None,
    begin_s: float = BEGIN_S,
) -> list[wire.Packet]:
    """Cut into packets; `stamp` makes a packet's stamp from its number and its true time."""
    packets = []
    for seq, at in enumerate(range(0, samples.size, size)):
        rate_hz = declared_hz(seq) if callable(declared_hz) else declared_hz or true_hz
        packets.append(wire.Packet(seq, stamp(seq, begin_s + at / true_hz), rate_hz, samples[at : at + size]))
    return packets


def _play(packets: list[wire.Packet], save_at: int | None = None) -> Found:
    batch, counts, notices = Batch(2, False, 6.0), Counter[str](), list[Notice]()
    stream = Stream("a", batch, counts, notices)
    times, rrs, events = [], [], []
    for i, packet in enumerate([*packets, None]):
        if packet is None:
            stream.finish()
        else:
            stream.feed(packet)
        for part in batch.collect():
            if isinstance(part, Beats):
                times += part.time_s.tolist()
                rrs += (part.beats["rr"] / RATE_HZ * part.pace).tolist()
            elif isinstance(part, Event) and part.what != "no-vf":
                events.append(part.what)
        if i == save_at:
            saved, batch = stream.save(), Batch(2, False, 6.0)
            stream = Stream("a", batch, counts, notices)
            stream.restore(saved)
    return Found(np.array(times), np.array(rrs), events, counts, notices)


def _errors(found: Found, times: Floats, begin_s: float = BEGIN_S, after_s: float = 0.0) -> Floats:
    """Distance of each beat, from some time on, to the true one nearest to it."""
    truth = times + begin_s
    late = found.time_s[found.time_s > begin_s + after_s]
    assert late.size > 0.9 * (times > after_s).sum() - 2
    return np.array([truth[np.abs(truth - t).argmin()] - t for t in late])


def _never_broke(found: Found) -> bool:
    return not found.events and not {"gaps", "device restarts", "rate changes"} & set(found.counts)


@pytest.mark.parametrize("grain_s", [0.5, 1.0, 10.0])
@pytest.mark.parametrize(("rate_hz", "size"), [(250.0, 50), (250.0, 260), (130.0, 73), (512.0, 100)])
@pytest.mark.parametrize("phase_s", [0.0, 0.37, 0.81])
def test_a_clock_that_shows_coarse_units_gives_the_times_of_its_ticks(
    grain_s: float, rate_hz: float, size: int, phase_s: float
) -> None:
    samples, times = _signal(rate_hz)
    begin_s = BEGIN_S + phase_s
    packets = _packets(samples, size, rate_hz, lambda _, t: float(np.floor(t / grain_s) * grain_s), begin_s=begin_s)
    found = _play(packets)
    assert _never_broke(found)
    # A tick is seen by the first packet after it: that is as good as it gets.
    assert np.abs(_errors(found, times, begin_s, 20.0)).max() < size / rate_hz + 0.05
    assert {notice.reason for notice in found.notices} == {"clock"}


@pytest.mark.parametrize("begin_s", [BEGIN_S, BEGIN_S + 37.3, BEGIN_S + 100.0])
def test_times_that_were_squeezed_through_a_32_bit_float_break_nothing(begin_s: float) -> None:
    samples, times = _signal(250.0, 200.0)
    found = _play(_packets(samples, 50, 250.0, lambda _, t: float(np.float32(t)), begin_s=begin_s))
    assert _never_broke(found)
    assert np.abs(_errors(found, times, begin_s, 140.0)).max() < 0.13  # half a packet, once the time has changed


@pytest.mark.parametrize("burst", [2, 5, 12])
@pytest.mark.parametrize("step_s", [0.08, 0.2, 0.52])
def test_packets_stamped_on_arrival_in_bursts_are_timed_by_the_promptest(burst: int, step_s: float) -> None:
    samples, times = _signal(250.0)
    size = round(step_s * 250)
    begin_s = BEGIN_S + 0.123
    found = _play(
        _packets(
            samples, size, 250.0, lambda i, _: begin_s + (i // burst * burst + burst - 1) * step_s, begin_s=begin_s
        )
    )
    assert _never_broke(found)
    assert np.abs(_errors(found, times, begin_s, burst * step_s)).max() < 0.03


@pytest.mark.parametrize("stall_s", [2.0, 8.0, 30.0])
@pytest.mark.parametrize("jitter_s", [0.0, 0.02])
def test_a_radio_that_stalls_and_delivers_all_at_once_breaks_nothing(stall_s: float, jitter_s: float) -> None:
    samples, times = _signal(250.0)
    rng = np.random.default_rng(0)

    def stamp(i: int, t: float) -> float:
        until_s = BEGIN_S + 30 + stall_s
        late = until_s if BEGIN_S + 30 <= t < until_s else t
        return late + rng.uniform(0, jitter_s)

    found = _play(_packets(samples, 50, 250.0, stamp))
    assert _never_broke(found)
    assert found.counts["clock jumps"] == 0
    assert np.abs(_errors(found, times)).max() < 0.03


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(1, 12), st.floats(0, 0.015)), min_size=1, max_size=30), st.booleans())
def test_any_pattern_of_bursts_gives_the_right_times(bursts: list[tuple[int, float]], starts_late: bool) -> None:
    samples, times = _signal(250.0, 40.0)
    begin_s = BEGIN_S + 0.123
    stamps: list[float] = []
    while len(stamps) < samples.size // 50:
        for packets, late_s in bursts if starts_late else [(1, 0.0), *bursts]:
            stamps += packets * [begin_s + (len(stamps) + packets - 1) * 0.2 + late_s]
    found = _play(_packets(samples, 50, 250.0, lambda i, _: stamps[i], begin_s=begin_s))
    assert _never_broke(found)
    assert np.abs(_errors(found, times, begin_s, 6.0)).max() < 0.03


@pytest.mark.parametrize("off", [-0.08, -0.03, -0.01, 0.01, 0.03, 0.08])
@pytest.mark.parametrize("jitter_s", [0.0, 0.02])
@pytest.mark.parametrize(("declared_hz", "size"), [(250.0, 50), (130.0, 73), (500.0, 1000)])
def test_a_true_rate_off_the_declared_one_gives_true_times_and_heart_rates(
    off: float, jitter_s: float, declared_hz: float, size: int
) -> None:
    true_hz = declared_hz * (1 + off)
    samples, times = _signal(true_hz)
    rng = np.random.default_rng(1)
    found = _play(_packets(samples, size, true_hz, lambda _, t: t + rng.uniform(-jitter_s, jitter_s), declared_hz))
    assert _never_broke(found)
    assert np.abs(_errors(found, times, after_s=5.0)).max() < 0.04
    known = found.rr_s[(found.time_s > BEGIN_S + 30) & (found.rr_s > 0)]
    assert known.mean() == pytest.approx(np.mean(RR_S), rel=0.004)


@pytest.mark.parametrize("off", [-0.05, 0.02, 0.05])
def test_a_coarse_clock_shows_a_true_rate_as_well_in_time(off: float) -> None:
    samples, times = _signal(250.0 * (1 + off), 180.0)
    found = _play(_packets(samples, 50, 250.0 * (1 + off), lambda _, t: float(np.floor(t)), 250.0))
    assert _never_broke(found)
    assert np.abs(_errors(found, times, after_s=90.0)).max() < 0.25
    known = found.rr_s[(found.time_s > BEGIN_S + 90) & (found.rr_s > 0)]
    assert known.mean() == pytest.approx(np.mean(RR_S), rel=0.006)
    assert {notice.reason for notice in found.notices} == {"clock", "rate"}


@pytest.mark.parametrize(("nominal_hz", "spread"), [(130.0, 0.002), (250.0, 0.012), (250.0, 0.04)])
def test_a_rate_that_is_measured_anew_for_each_packet_is_one_rate(nominal_hz: float, spread: float) -> None:
    samples, times = _signal(nominal_hz)
    rng = np.random.default_rng(2)
    found = _play(
        _packets(samples, 125, nominal_hz, declared_hz=lambda _: nominal_hz * (1 + rng.uniform(-0.5, 0.5) * spread))
    )
    assert _never_broke(found)
    assert not found.counts["refused: rate changes"]
    assert np.abs(_errors(found, times, after_s=5.0)).max() < 0.03


@pytest.mark.parametrize("by_s", [1.5, 5.0, 40.0])
def test_a_clock_that_is_set_forward_is_followed_without_a_break(by_s: float) -> None:
    samples, times = _signal(250.0)
    found = _play(_packets(samples, 50, 250.0, lambda _, t: t + by_s * (t >= BEGIN_S + 40)))
    assert not {"gaps", "device restarts"} & set(found.counts)
    assert found.counts["clock jumps"] == 1
    assert not found.events
    late = found.time_s[found.time_s > BEGIN_S + 45 + by_s]
    assert np.abs(late[:, None] - times - BEGIN_S - by_s).min(axis=1).max() < 0.03


@pytest.mark.parametrize("packet_s", [0.2, 1.0])
def test_stamps_that_stay_within_their_band_seldom_move_the_line(packet_s: float) -> None:
    rng = np.random.default_rng(4)
    clock = Clock.begin(BEGIN_S, packet_s, 0.0, 1)
    fits = set()
    for i in range(1, round(600 / packet_s)):
        off_s = float(rng.normal(0, 0.01))
        clock.take(i * packet_s, packet_s, BEGIN_S + i * packet_s + off_s, off_s)
        if i * packet_s > 10:
            fits.add(clock.fitted_s)
    assert 15 < len(fits) < 70  # of 590, once a second


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(1, 2500), min_size=1, max_size=5))
def test_exact_stamps_give_the_same_times_however_the_stream_is_cut(sizes: list[int]) -> None:
    samples, _ = _signal(250.0, 30.0)
    packets: list[wire.Packet] = []
    at = 0
    while at < samples.size:
        size = sizes[len(packets) % len(sizes)]
        packets.append(wire.Packet(len(packets), BEGIN_S + at / 250.0, 250.0, samples[at : at + size]))
        at += size
    found, usual = _play(packets), _play(_packets(samples, 250, 250.0))
    np.testing.assert_allclose(found.time_s, usual.time_s, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(found.rr_s, usual.rr_s)
    assert not found.notices


@settings(deadline=None, max_examples=20)
@given(st.sampled_from(["whole", "bursts", "fast"]), st.integers(0, 400))
def test_a_clock_goes_on_where_it_was_saved(kind: str, save_at: int) -> None:
    samples, _ = _signal(250.0)
    stamps: dict[str, Callable[[int, float], float]] = {
        "whole": lambda _, t: float(np.floor(t)),
        "bursts": lambda i, _: BEGIN_S + 0.1 + i // 7 * 7 * 0.2,
        "fast": lambda _, t: BEGIN_S + (t - BEGIN_S) * 0.96,
    }
    packets = _packets(samples, 50, 250.0, stamps[kind])
    whole, cut = _play(packets), _play(packets, save_at)
    np.testing.assert_array_equal(cut.time_s, whole.time_s)
    np.testing.assert_array_equal(cut.rr_s, whole.rr_s)


def test_packets_that_come_again_are_known_whatever_their_clock() -> None:
    samples, _ = _signal(250.0, 60.0)
    packets = _packets(samples, 50, 250.0, lambda _, t: float(np.floor(t)))
    found = _play([*packets[:200], *packets[120:200], *packets[150:]])
    assert found.counts["duplicates"] == 80 + 50
    np.testing.assert_array_equal(found.time_s, _play(packets).time_s)


def test_a_signal_that_breaks_every_few_seconds_is_reported() -> None:
    samples, _ = _signal(250.0, 60.0)
    packets = [packet for packet in _packets(samples, 250, 250.0) if packet.seq % 3]
    found = _play(packets)
    assert "no-beats" in found.events
    assert [(notice.reason, "no beat can be judged" in notice.text) for notice in found.notices] == [("broken", True)]


def test_a_rate_that_keeps_changing_is_reported() -> None:
    samples, _ = _signal(250.0, 60.0)
    packets = _packets(samples, 100, 250.0, declared_hz=lambda i: 100.0 + 150 * (i % 2))
    found = _play(packets)
    assert found.counts["refused: rate changes"] > 0
    assert {"rate", "broken"} <= {notice.reason for notice in found.notices}
    assert "no-beats" in found.events


def test_a_rate_that_creeps_from_break_to_break_is_refused_like_any_other() -> None:
    engine = Engine(Classifier(provider="cpu"))
    for i in range(60):
        rate_hz = 300.0 + 10 * i
        packet = wire.Packet(10 * i, 1e9 + 10 * i, rate_hz, np.zeros(int(rate_hz), np.int16))
        engine.feed("a", packet, 0.0)
        engine.flush()
    assert engine.counts["refused: rate changes"] > 0


def test_a_rate_measured_again_after_a_gap_keeps_the_filters_of_the_first() -> None:
    engine = Engine(Classifier(provider="cpu"))
    for i, rate_hz in enumerate((250.0, 250.7, 249.4, 251.0)):
        engine.feed("a", wire.Packet(10 * i, 1e9 + 100 * i, rate_hz, np.zeros(250, np.int16)), 0.0)
        engine.flush()
    known = engine.record("a")
    assert known is not None
    assert known.stream._stretch is not None
    assert known.stream._stretch.rate_hz == 250.0
