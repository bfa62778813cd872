"""What a device keeps, and when it resends it."""

from __future__ import annotations

from simulator.outbox import (
    FINISH_S,
    KEEP_S,
    KEEP_UNACKNOWLEDGED_S,
    PROBE_INTERVAL_S,
    PROBE_S,
    SILENCE_S,
    Message,
    Outbox,
)

TOPIC = "ecg/v1/a/samples"


def _filled(packets: int, first: int = 0) -> Outbox:
    """An outbox with packets of one second."""
    outbox = Outbox()
    _put(outbox, *range(first, first + packets))
    return outbox


def _put(outbox: Outbox, *seqs: int) -> None:
    for seq in seqs:
        outbox.put(Message(TOPIC, b"", 1, seq=seq, start_s=float(seq)))


def _send(outbox: Outbox, now_s: float = 0.0, confirmed: bool = True) -> list[int | None]:
    """Send all that may be sent; return the sequence numbers."""
    sent = []
    while (message := outbox.take(now_s)) is not None:
        sent.append(message.seq)
        if confirmed:
            outbox.confirm(message)
    return sent


def test_packets_are_sent_once_and_in_order_as_long_as_the_connection_lasts() -> None:
    outbox = _filled(5)
    assert _send(outbox) == [0, 1, 2, 3, 4]
    assert _send(outbox, 1000.0) == []
    assert (outbox.packets, outbox.confirmed, outbox.resent) == (5, 5, 0)


def test_packets_confirmed_only_by_the_broker_are_resent_on_a_new_connection() -> None:
    outbox = _filled(5)
    _send(outbox)
    outbox.acknowledge(3, 1.0)
    _put(outbox, 5)
    outbox.reconnect(2.0)
    assert _send(outbox, 2.0) == [3]
    outbox.acknowledge(3, 2.1)
    assert _send(outbox, 2.1) == [3, 4, 5]
    assert outbox.resent == 3  # the probe, and both after it
    assert outbox.confirmed == 6


def test_after_a_lost_connection_only_the_oldest_packet_is_sent_until_a_monitor_answers() -> None:
    outbox = _filled(3)
    _send(outbox)
    outbox.acknowledge(1, 1.0)
    outbox.reconnect(2.0)
    assert _send(outbox, 2.0) == [1]
    assert _send(outbox, 2.0 + PROBE_INTERVAL_S / 2) == []
    assert _send(outbox, 2.0 + PROBE_INTERVAL_S) == [1]
    outbox.acknowledge(2, 4.0)
    assert _send(outbox, 4.0) == [2]


def test_if_everything_was_acknowledged_the_first_new_packet_is_the_probe() -> None:
    outbox = _filled(2)
    _send(outbox)
    outbox.acknowledge(2, 1.0)
    outbox.reconnect(2.0)
    assert _send(outbox, 2.0) == []
    _put(outbox, 2, 3)
    assert _send(outbox, 3.0) == [2]


def test_a_monitor_that_does_not_answer_is_probed_only_once() -> None:
    outbox = _filled(3)
    _send(outbox)
    outbox.acknowledge(1, 1.0)
    outbox.reconnect(2.0)
    assert _send(outbox, 2.0) == [1]
    assert _send(outbox, 2.0 + PROBE_S) == [1, 2]
    outbox.reconnect(100.0)
    assert _send(outbox, 100.0) == [1, 2]


def test_a_second_outage_while_probing_restarts_the_wait_for_the_monitor() -> None:
    outbox = _filled(3)
    _send(outbox)
    outbox.acknowledge(1, 1.0)
    outbox.reconnect(2.0)
    assert _send(outbox, 2.0) == [1]
    back_s = 2.0 + 2 * PROBE_S
    outbox.reconnect(back_s)
    assert _send(outbox, back_s) == [1]
    assert _send(outbox, back_s + PROBE_S / 2) == [1]
    outbox.acknowledge(2, back_s + PROBE_S / 2)
    assert _send(outbox, back_s + PROBE_S / 2) == [2]


def test_at_the_end_of_the_stream_the_wait_for_the_monitor_is_short() -> None:
    outbox = _filled(3)
    _send(outbox)
    outbox.acknowledge(1, 1.0)
    outbox.reconnect(2.0)
    outbox.hurry(2.0)
    assert _send(outbox, 2.0 + FINISH_S) == [1, 2]


def test_an_acknowledgement_after_a_silence_resends_what_it_does_not_cover() -> None:
    outbox = _filled(3)
    _send(outbox)
    outbox.acknowledge(1, 1.0)
    _put(outbox, 3)
    _send(outbox, 2.0)
    outbox.acknowledge(1, 2.0 + SILENCE_S)
    assert _send(outbox, 2.0 + SILENCE_S) == [1, 2, 3]
    outbox.acknowledge(1, 2.5 + SILENCE_S)
    assert _send(outbox, 2.5 + SILENCE_S) == []


def test_a_monitor_that_is_behind_is_not_sent_the_same_packets_repeatedly() -> None:
    outbox = _filled(100)
    _send(outbox)
    for now_s in range(1, 100):
        outbox.acknowledge(now_s // 10, float(now_s))
        assert _send(outbox, float(now_s)) == []


def test_without_any_acknowledgements_little_is_kept_and_nothing_is_probed() -> None:
    outbox = Outbox()
    for seq in range(100):
        _put(outbox, seq)
        _send(outbox)
    outbox.reconnect(100.0)
    assert _send(outbox, 100.0) == list(range(99 - round(KEEP_UNACKNOWLEDGED_S), 100))
    assert (outbox.dropped, outbox.expired) == (0, 0)


def test_kept_packets_are_bounded_and_expired_ones_are_counted() -> None:
    outbox = _filled(1)
    _send(outbox)
    outbox.acknowledge(0, 0.0)
    for seq in range(1, 1001):
        _put(outbox, seq)
        if seq < 200:
            _send(outbox)
    assert outbox.expired == 200
    assert outbox.dropped == 1000 - 200 - KEEP_S
    assert len(_send(outbox, confirmed=False)) == KEEP_S + 1


def test_messages_other_than_packets_keep_their_place_and_are_never_resent() -> None:
    outbox = _filled(2)
    outbox.put(Message("ecg/v1/a/truth", b"", 0, start_s=1.0))
    _put(outbox, 2)
    assert _send(outbox) == [0, 1, None, 2]
    outbox.reconnect(1.0)
    assert _send(outbox, 1.0) == [0, 1, 2]


def test_an_acknowledgement_of_another_stream_is_ignored() -> None:
    outbox = _filled(3)
    _send(outbox)
    outbox.acknowledge(500, 1.0)
    outbox.reconnect(2.0)
    assert _send(outbox, 2.0) == [0, 1, 2]
