"""Numbers that do not count packets: recognised from packets whose times join on, and made to count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from monitor import wire
from monitor.classify import Classifier
from monitor.ecg.batch import Batch, Beats, Event
from monitor.engine import Engine
from monitor.sequence import PACKETS, Arrival, Numbering, by_time, recognise
from monitor.stream import Notice, Stream
from tests.monitor.synthetic_ecg import beat_times, make_ecg

BEGIN_S, RATE_HZ, SECONDS = 1_700_000_000.0, 250.0, 60.0
ECG = make_ecg(beat_times(SECONDS, 0.8), SECONDS, RATE_HZ)


def _packets(number: Callable[[int, int], int], size: int = 50, begin_s: float = BEGIN_S) -> list[wire.Packet]:
    """Packets whose number is made from their place and that of their first sample."""
    starts = range(0, ECG.size, size)
    return [
        wire.Packet(number(i, at), begin_s + at / RATE_HZ, RATE_HZ, ECG[at : at + size]) for i, at in enumerate(starts)
    ]


class _Player:
    def __init__(self) -> None:
        self.batch, self.counts, self.notices = Batch(2, False, 6.0), Counter[str](), list[Notice]()
        self.stream = Stream("a", self.batch, self.counts, self.notices)
        self.time_s: list[float] = []
        self.seq: list[int] = []
        self.events: list[str] = []

    def play(self, packets: list[wire.Packet]) -> _Player:
        for packet in packets:
            self.stream.feed(packet)
            for part in self.batch.collect():
                if isinstance(part, Beats):
                    self.time_s += part.time_s.tolist()
                    self.seq += part.seq.tolist()
                elif isinstance(part, Event) and part.what != "no-vf":
                    self.events.append(part.what)
        return self

    def resume(self) -> None:
        saved, self.batch = self.stream.save(), Batch(2, False, 6.0)
        self.stream = Stream("a", self.batch, self.counts, self.notices)
        self.stream.restore(saved)


USUAL = _Player().play(_packets(lambda i, _: i))
NUMBERINGS: dict[str, Callable[[int, int], int]] = {
    "samples": lambda _, at: at,
    "samples from 12000": lambda _, at: 12_000 + at,
    "samples, 16 bits": lambda _, at: (65_000 + at) % 2**16,
    "samples, 32 bits": lambda _, at: (2**32 - 5000 + at) % 2**32,
    "8 bits": lambda i, _: (i + 200) % 2**8,
    "16 bits": lambda i, _: (i + 65_500) % 2**16,
    "32 bits": lambda i, _: (i + 2**32 - 100) % 2**32,
    "always 0": lambda *_: 0,
    "always 7": lambda *_: 7,
    "every second": lambda i, _: 2 * i,
    "downwards": lambda i, _: 10_000 - i,
    "random": lambda i, _: int(np.random.default_rng(i).integers(0, 2**31)),
}
LAWLESS = {"every second", "downwards", "random"}


@pytest.mark.parametrize("size", [25, 50, 130, 250])
@pytest.mark.parametrize("name", sorted(NUMBERINGS.keys() - LAWLESS))
def test_no_beat_is_lost_and_no_gap_reported_whatever_the_numbering(name: str, size: int) -> None:
    player = _Player().play(_packets(NUMBERINGS[name], size))
    assert not player.events
    assert not player.counts
    np.testing.assert_allclose(player.time_s, USUAL.time_s[: len(player.time_s)], rtol=0, atol=1e-5)
    assert len(player.time_s) >= len(USUAL.time_s) - 1


@pytest.mark.parametrize("name", sorted(LAWLESS))
def test_numbers_without_a_rule_are_noted_once_and_the_times_used_instead(name: str) -> None:
    player = _Player().play(_packets(NUMBERINGS[name]))
    assert len(player.time_s) >= len(USUAL.time_s) - 3
    assert player.counts["gaps"] + player.counts["device restarts"] <= 4
    [notice] = player.notices
    assert notice.reason == "seq"
    assert "Count packets in seq, from 0." in notice.text


@pytest.mark.parametrize(
    ("name", "reasons"), [("samples", ["seq"]), ("always 0", ["seq"]), ("8 bits", []), ("32 bits", [])]
)
def test_what_is_not_of_the_contract_is_noted_once(name: str, reasons: list[str]) -> None:
    assert [notice.reason for notice in _Player().play(_packets(NUMBERINGS[name])).notices] == reasons


@pytest.mark.parametrize("name", ["samples", "samples, 16 bits", "8 bits", "16 bits", "32 bits"])
@pytest.mark.parametrize("packets", [40, 299, 300])
def test_a_device_is_acknowledged_in_its_own_numbering(name: str, packets: int) -> None:
    sent = _packets(NUMBERINGS[name])
    player = _Player().play(sent[:packets])
    expected = NUMBERINGS[name](packets, packets * 50)
    assert player.stream.next_seq == expected
    assert set(player.seq) <= {packet.seq for packet in sent}


def test_numbers_that_name_no_packet_are_not_acknowledged() -> None:
    assert _Player().play(_packets(NUMBERINGS["always 0"])[:20]).stream.next_seq is None


@pytest.mark.parametrize("name", sorted(NUMBERINGS.keys() - LAWLESS))
@pytest.mark.parametrize("save_at", [1, 60, 150])
def test_packets_that_come_again_after_a_restart_of_the_monitor_change_nothing(name: str, save_at: int) -> None:
    packets = _packets(NUMBERINGS[name])
    player = _Player().play(packets[:save_at])
    player.resume()
    player.play(packets[max(0, save_at - 12) :])
    assert not player.events
    np.testing.assert_array_equal(player.time_s, _Player().play(packets).time_s)
    assert player.counts["duplicates"] == min(12, save_at)


@pytest.mark.parametrize("name", sorted(NUMBERINGS.keys() - LAWLESS))
def test_a_lost_packet_is_one_gap_whatever_the_numbering(name: str) -> None:
    packets = _packets(NUMBERINGS[name], 250)
    player = _Player().play([*packets[:20], *packets[23:]])
    assert player.events == ["gap"]
    assert player.counts["gaps"] == 1


@pytest.mark.parametrize("lost", [1, 5])
@pytest.mark.parametrize("bits", [8, 16, 32])
def test_a_counter_that_wraps_in_a_gap_is_no_restart(bits: int, lost: int) -> None:
    packets = _packets(lambda i, _: (i + 2**bits - 100) % 2**bits)
    player = _Player().play([*packets[:98], *packets[98 + lost + 2 :]])
    assert player.counts == {"gaps": 1}


@pytest.mark.parametrize("pause_s", [2.0, 60.0])
@pytest.mark.parametrize("count", [120, 200])
def test_a_device_that_restarts_is_not_taken_for_a_counter_that_wraps(count: int, pause_s: float) -> None:
    packets = _packets(lambda i, _: i)
    again = _packets(lambda i, _: i, begin_s=BEGIN_S + count * 0.2 + pause_s)
    player = _Player().play([*packets[:count], *again])
    assert player.counts == {"device restarts": 1}
    assert player.stream.next_seq == len(again)


def test_a_pair_of_packets_with_a_hole_in_time_shows_no_numbering() -> None:
    before = Arrival(100, 50, 10.0, 10.2)
    assert recognise(before, Arrival(150, 50, 20.0, 20.2), PACKETS) is None
    assert recognise(before, Arrival(150, 50, 10.2, 10.4), PACKETS) == Numbering(samples=True)
    assert recognise(before, Arrival(100, 50, 10.0, 10.2), PACKETS) is None
    assert recognise(before, Arrival(100, 50, 10.2, 10.4), PACKETS) == Numbering(none=True)
    assert recognise(Arrival(255, 50, 10.0, 10.2), Arrival(0, 50, 10.2, 10.4), PACKETS) == Numbering(bits=8)


def test_times_stand_in_for_numbers() -> None:
    before = Arrival(0, 50, 10.0, 10.2)
    assert [by_time(7, before, Arrival(0, 50, s, s + 0.2)) for s in (10.21, 10.0, 9.8, 12.2)] == [7, 6, 5, 17]


def test_one_number_that_nothing_tells_apart_is_noted() -> None:
    packets = [wire.Packet(0, BEGIN_S, RATE_HZ, ECG[at : at + 50]) for at in range(0, 5000, 50)]
    player = _Player().play(packets)
    assert ["start_s does not tell them apart" in notice.text for notice in player.notices] == [True]


def test_a_restart_that_looked_like_a_wrap_is_known_once_the_counter_goes_on() -> None:
    engine = Engine(Classifier(provider="cpu"))
    times_s = [1e9 + i for i in range(250)] + [1e9 + 255 + i for i in range(400)]
    for seq, start_s in zip([*range(250), *range(400)], times_s, strict=True):
        engine.feed("a", wire.Packet(seq, start_s, 250.0, np.zeros(250, np.int16)), 0.0)
    engine.flush()
    assert engine.next_seq("a") == 400


def test_a_device_that_sent_its_first_number_twice_is_acknowledged_once_it_counts() -> None:
    packets = _packets(lambda i, _: max(0, i - 1))  # it rebooted after its first packet
    player = _Player().play(packets[:8])
    assert player.stream.next_seq is None
    player.play(packets[8:])
    assert player.stream.next_seq == len(packets) - 1
    np.testing.assert_allclose(player.time_s, USUAL.time_s, rtol=0, atol=1e-5)
    assert not player.events
    assert player.stream.latest is not None
    assert player.stream.latest[0] == packets[-1].seq
    assert player.play(packets[-9:]).counts == {"duplicates": 9}
