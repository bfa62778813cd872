"""Injected faults, and their effect on the truth."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np
import pytest

from monitor import wire
from simulator.devices import Device, Feed, Library, make_fleet, open_feed
from simulator.faults import SHARES, Fault, inject_packet_faults
from simulator.packets import Outgoing, make_packets, with_truth
from simulator.stream import Played, Stretch

Sent = list[tuple[Outgoing, tuple[Played, ...]]]


def play(*faults: str, seconds: int = 120, seed: int = 1, packet_s: float = 1.0) -> Sent:
    [device] = make_fleet(1, abnormal=0, packet_s=packet_s, faults=tuple(map(Fault.parse, faults)), seed=seed)
    return list(islice(open_feed(device, Library(None)).packets(), round(seconds / packet_s)))


def truths(sent: Sent) -> list[float]:
    return [played.r_peak_s for _, beats in sent for played in beats]


def key(sent: Sent) -> list[tuple[object, ...]]:
    return [(o.due_s, o.lost, o.garbage, wire.encode_packet(o.packet)) for o, _ in sent]


@pytest.mark.parametrize("name", SHARES)
def test_same_seed_gives_the_same_fault_and_another_seed_another(name: str) -> None:
    fault = f"{name}:0.5"
    assert key(play(fault)) == key(play(fault))
    assert key(play(fault)) != key(play(fault, seed=2))
    assert key(play(fault)) != key(play())


@pytest.mark.parametrize("name", SHARES)
def test_every_fault_leaves_packets_that_decode_and_stay_bounded(name: str) -> None:
    for outgoing, _ in play(f"{name}:1", seconds=30):
        packet = wire.decode_packet(wire.encode_packet(outgoing.packet))
        valid = packet.samples[packet.samples != wire.NO_SAMPLE]
        assert np.abs(valid.astype(int)).max(initial=0) < 10_000
        assert outgoing.garbage is None or len(outgoing.garbage) < 200


@pytest.mark.parametrize("name", SHARES)
def test_share_zero_changes_nothing(name: str) -> None:
    assert key(play(f"{name}:0", seconds=20)) == key(play(seconds=20))


def test_share_is_the_fraction_that_is_affected() -> None:
    lost = [outgoing.lost for outgoing, _ in play("gap:0.3", seconds=500)]
    assert 0.2 < np.mean(lost) < 0.4


def test_all_faults_together_are_due_in_order_and_list_each_beat_once() -> None:
    sent = play(*SHARES, packet_s=0.2)
    due = [outgoing.due_s for outgoing, _ in sent]
    assert due == sorted(due)
    assert sorted(truths(sent)) == sorted(set(truths(sent)))


def hole_starts_and_ends(sent: Sent) -> list[tuple[float, float]]:
    return [o.span_s for o, _ in sent if o.lost or o.false or (o.packet.samples == wire.NO_SAMPLE).any()]


@pytest.mark.parametrize("fault", ["gap:0.1", "wrong-rate:0.1", "lead-off:0.3"])
@pytest.mark.parametrize("packet_s", [0.2, 1.0])
def test_truth_omits_exactly_the_beats_whose_samples_did_not_arrive(fault: str, packet_s: float) -> None:
    whole = [played for _, beats in play(packet_s=packet_s) for played in beats]
    sent = play(fault, packet_s=packet_s)
    holes = hole_starts_and_ends(sent)
    wanted = [
        one.r_peak_s
        for one in whole
        if not any(start < one.r_peak_s + one.duration_s and end > one.r_peak_s for start, end in holes)
    ]
    assert 0 < len(wanted) < len(whole)
    assert truths(sent) == wanted


@pytest.mark.parametrize(
    "fault", ["jitter", "duplicate:0.5", "reorder:0.5", "garbage:0.5", "noise", "wander", "clipping"]
)
def test_truth_is_complete_if_all_samples_arrive(fault: str) -> None:
    whole, sent = truths(play()), truths(play(fault, seconds=300))
    assert sorted(sent)[: len(whole) - 3] == whole[:-3]


def test_truth_is_not_sent_before_the_packet_that_completes_the_beat() -> None:
    for outgoing, beats in play(packet_s=0.2):
        for played in beats:
            assert outgoing.due_s - 0.2 < played.r_peak_s + played.duration_s <= outgoing.due_s


def test_duplicates_are_the_same_packet_twice() -> None:
    seqs = [outgoing.packet.seq for outgoing, _ in play("duplicate:1", seconds=10)]
    assert seqs[:4] == [0, 0, 1, 1]


def test_reordered_packets_are_swapped() -> None:
    seqs = [outgoing.packet.seq for outgoing, _ in play("reorder:1", seconds=10)]
    assert seqs[:4] == [1, 0, 3, 2]


def test_wrong_rate_is_still_a_valid_rate() -> None:
    packets = make_packets(iter([Stretch(np.zeros(9000))]), 3000.0, 3000, 1.0)
    rates = {outgoing.packet.rate_hz for outgoing in inject_packet_faults(packets, [Fault("wrong-rate", 1.0)], 0)}
    assert rates == {wire.MAX_RATE_HZ}


def test_signal_beyond_sixteen_bits_is_clipped_and_never_mistaken_for_a_missing_sample() -> None:
    [outgoing] = make_packets(iter([Stretch(np.array([1e9, -1e9, np.nan]))]), 100.0, 3, 1.0)
    assert outgoing.packet.samples.tolist() == [32767, -32767, wire.NO_SAMPLE]


def test_beats_at_the_end_of_a_record_are_omitted_if_their_window_is_incomplete() -> None:
    beats = tuple(Played(start, "N", "x:0", 1.0) for start in (0.5, 1.5, 2.5))
    device = Device("d", make_fleet(1)[0].profile)
    sent = list(Feed(device, iter([Stretch(np.zeros(750), beats)])).packets())
    assert truths(sent) == [0.5, 1.5]


def test_hole_before_the_next_beat_is_remembered() -> None:
    def outgoing(seq: int, beats: Sequence[Played] = (), lost: bool = False) -> Outgoing:
        packet = wire.Packet(seq, float(seq), 100.0, np.zeros(100, np.int16))
        return Outgoing(seq + 1.0, packet, (float(seq), seq + 1.0), tuple(beats), lost=lost)

    late = Played(0.9, "normal", "x:1", 1.2)
    packets = [outgoing(0, [late]), outgoing(1, lost=True), outgoing(2), outgoing(3)]
    assert truths(list(with_truth(iter(packets)))) == []


@pytest.mark.parametrize("text", ["", "gaps", "gap:", "gap:x", "gap:-0.1", "gap:1.1", "gap:nan", "gap:0.1:0.2"])
def test_unknown_fault_or_share_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="fault"):
        Fault.parse(text)
