"""Deliveries out of bytes: the same as pika's own decoder finds, however the bytes are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import frame, spec

from monitor.broker.amqp import Unacked
from monitor.broker.amqp_frames import (
    HEARTBEAT_FRAME,
    Decoder,
    Delivery,
    FrameError,
    Reply,
    decode_with_pika,
    encode,
    encode_acks,
    encode_publish,
)

FRAME_BYTES = 100


def _deliver(channel: int, tag: int, key: str, payload: bytes, exchange: bytes = b"amq.topic") -> list[bytes]:
    """Frames of a delivery, as a server sends them."""
    method = spec.Basic.Deliver("consumer", tag, redelivered=True, exchange=exchange.decode(), routing_key=key)
    bodies = [payload[i : i + FRAME_BYTES] for i in range(0, len(payload), FRAME_BYTES)]
    return [
        frame.Method(channel, method).marshal(),
        frame.Header(channel, len(payload), spec.BasicProperties(headers={"x-mqtt-publish-qos": 1})).marshal(),
        *(frame.Body(channel, body).marshal() for body in bodies),
    ]


deliveries = st.builds(
    Delivery,
    st.integers(1, 3),
    st.integers(1, 2**40),
    st.text("abc.é", min_size=1, max_size=40),
    st.binary(max_size=350),
    st.sampled_from([b"amq.topic", b"ecgwatch.m.samples", b""]),
)


@given(st.lists(deliveries, max_size=6), st.lists(st.integers(1, 60), min_size=1))
def test_any_cut_gives_the_same_deliveries_as_pika(sent: list[Delivery], cuts: list[int]) -> None:
    data = b"".join(b"".join(_deliver(*one)) + HEARTBEAT_FRAME for one in sent)
    decoder, pika, found, expected = Decoder(), decode_with_pika(), [], []
    at = 0
    while at < len(data):
        size = cuts[at % len(cuts)]
        found += decoder.feed(data[at : at + size])
        expected += pika(data[at : at + size])
        at += size
    assert found == expected == sent


def test_frames_of_other_channels_may_lie_between_those_of_a_delivery() -> None:
    first, second = _deliver(1, 7, "a", b"x" * 150), _deliver(2, 8, "b", b"y" * 150)
    mixed = [one for pair in zip(first, second, strict=True) for one in pair]
    assert Decoder().feed(b"".join(mixed)) == [
        Delivery(1, 7, "a", b"x" * 150, b"amq.topic"),
        Delivery(2, 8, "b", b"y" * 150, b"amq.topic"),
    ]


def test_replies_come_in_their_place_among_deliveries() -> None:
    reply = encode(1, spec.Queue.DeclareOk("q", 5, 2))
    found = Decoder().feed(b"".join([*_deliver(1, 1, "a", b"1"), reply, *_deliver(1, 2, "a", b"2")]))
    assert [type(one) for one in found] == [Delivery, Reply, Delivery]
    assert isinstance(found[1], Reply)
    assert isinstance(found[1].method, spec.Queue.DeclareOk)
    assert (found[1].channel, found[1].method.message_count) == (1, 5)


def test_acknowledgements_are_those_of_pika() -> None:
    expected = encode(3, spec.Basic.Ack(2**40, multiple=True)) + encode(4, spec.Basic.Ack(1, multiple=True))
    assert encode_acks([(3, 2**40), (4, 1)]) == expected


def test_what_is_acknowledged_at_the_front_is_acknowledged_together_and_the_rest_one_by_one() -> None:
    unacked = Unacked()
    unacked.tags.extend(range(1, 8))
    assert unacked.ack(3, [1, 2, 4]) == encode_acks([(3, 2)]) + encode_acks([(3, 4)], multiple=False)
    assert unacked.ack(3, [5]) == encode_acks([(3, 5)], multiple=False)
    assert unacked.ack(3, [3]) == encode_acks([(3, 3)])
    assert list(unacked.tags) == [6, 7]
    assert unacked.ack(3, [6, 7]) == encode_acks([(3, 7)])


def test_what_is_published_reads_like_what_is_delivered() -> None:
    sent = encode_publish(3, "exchange", "key", b"payload", 4096)
    size, method = frame.decode_frame(sent)
    assert isinstance(method, frame.Method)
    assert (method.method.exchange, method.method.routing_key) == ("exchange", "key")
    assert sent[size:] == b"".join(
        [
            frame.Header(3, 7, spec.BasicProperties(delivery_mode=2)).marshal(),
            frame.Body(3, b"payload").marshal(),
        ]
    )


def test_what_is_published_is_cut_into_frames_that_the_server_takes() -> None:
    payload, sizes, body = bytes(range(256)) * 3, list[int](), b""
    left = encode_publish(3, "exchange", "key", payload, FRAME_BYTES)
    while left:
        size, found = frame.decode_frame(left)
        sizes.append(size)
        body += found.fragment if isinstance(found, frame.Body) else b""
        left = left[size:]
    assert max(sizes) == FRAME_BYTES
    assert body == payload


@given(st.permutations(range(1, 9)), st.lists(st.integers(1, 8), max_size=3))
def test_whatever_the_order_each_is_acknowledged_once(order: list[int], cuts: list[int]) -> None:
    unacked, left = Unacked(), set(range(1, 9))
    unacked.tags.extend(range(1, 9))
    edges = [0, *sorted(cuts), 8]
    for first, last in pairwise(edges):
        data = unacked.ack(3, order[first:last])
        while data:
            size, found = frame.decode_frame(data)
            data = data[size:]
            assert isinstance(found, frame.Method)
            tag, multiple = found.method.delivery_tag, found.method.multiple
            assert tag in left
            left -= {one for one in left if one <= tag} if multiple else {tag}
    assert left == set()


@pytest.mark.parametrize(
    "garbage", [b"HTTP/1.1 400 Bad Request\r\n", b"\x01\0\1\0\0\0\x04" + b"\0" * 5, b"\x03\0\1\0\0\0\1x\xce"]
)
def test_bytes_that_are_no_frames_are_one_clear_error(garbage: bytes) -> None:
    with pytest.raises(FrameError, match="The server sent"):
        Decoder().feed(garbage)
