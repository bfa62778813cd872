"""The part of AMQP 0-9-1 that runs for every message: deliveries out of bytes, acknowledgements into bytes.

Everything else (the greeting, channels, consumers) is rare, and left to pika's own encoder and decoder. pika takes
about 14 us for a delivery, in objects for each of its three frames; this takes a fourth of that. `decode_with_pika`
decodes the same, and is there to compare with.

Method: AMQP 0-9-1, sections 2.3.5 (frames) and 1.8.3 (class basic). A frame is type, channel, size, payload, 0xCE. A
delivery is a method frame, a header frame, and as many body frames as the size in the header asks for; frames of other
channels may lie between them.

Knows nothing of sockets, queues or topics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from struct import Struct
from typing import NamedTuple

from pika import amqp_object, frame, spec

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
KINDS = (METHOD, HEADER, BODY, HEARTBEAT)
END = 0xCE
DELIVER = (60, 60)
_HEAD = Struct(">BHI")
_METHOD = Struct(">HH")
_TAG = Struct(">QB")
_SIZE = Struct(">Q")
_ACK = Struct(">BHIHHQBB")
HEARTBEAT_FRAME = b"\x08\0\0\0\0\0\0\xce"
FRAME_AROUND = len(HEARTBEAT_FRAME)
"""Bytes of a frame that are not its payload."""


class FrameError(ConnectionError):
    """The server sent bytes that are no frames."""


class Delivery(NamedTuple):
    """A message as it came."""

    channel: int
    tag: int
    key: str
    """Its routing key."""
    payload: bytes
    exchange: bytes
    """Into which it was published."""


class Reply(NamedTuple):
    """Something else that the server sent."""

    channel: int
    method: amqp_object.Method


class _Partial:
    """A delivery whose body has not come completely."""

    __slots__ = ("body", "exchange", "key", "left", "tag")

    def __init__(self, tag: int, exchange: bytes, key: str) -> None:
        self.tag, self.exchange, self.key = tag, exchange, key
        self.left = -1  # bytes of the body; unknown before the header
        self.body: list[bytes] = []


class Decoder:
    """Turns bytes as they come into deliveries and replies."""

    def __init__(self) -> None:
        self._rest = b""
        self._partial: dict[int, _Partial] = {}

    def feed(self, data: bytes) -> list[Delivery | Reply]:
        """Return what is complete now.

        Raises
        ------
        FrameError
            The bytes are no frames.
        """
        data = self._rest + data if self._rest else data
        found: list[Delivery | Reply] = []
        at, end = 0, len(data)
        while end - at >= 8:
            kind, channel, size = _HEAD.unpack_from(data, at)
            stop = at + 7 + size
            if kind not in KINDS or (stop < end and data[stop] != END):
                raise FrameError("The server sent bytes that are no frames of AMQP.")
            if stop >= end:
                break
            if kind == METHOD and _METHOD.unpack_from(data, at + 7) == DELIVER:
                self._partial[channel] = _read_deliver(data, at + 11)
            elif kind == METHOD:
                found.append(Reply(channel, _decode_method(data[at : stop + 1])))
            elif kind in (HEADER, BODY):
                self._take(found, channel, kind, data[at + 7 : stop])
            at = stop + 1
        self._rest = data[at:]
        return found

    def _take(self, found: list[Delivery | Reply], channel: int, kind: int, payload: bytes) -> None:
        """Take a header or a part of the body."""
        partial = self._partial.get(channel)
        if partial is None:
            raise FrameError("The server sent content that belongs to no delivery.")
        if kind == HEADER:
            (partial.left,) = _SIZE.unpack_from(payload, 4)
        else:
            partial.body.append(payload)
            partial.left -= len(payload)
        if partial.left == 0:
            del self._partial[channel]
            found.append(Delivery(channel, partial.tag, partial.key, b"".join(partial.body), partial.exchange))


def _read_deliver(data: bytes, at: int) -> _Partial:
    """Read the arguments of basic.deliver: consumer tag, delivery tag, redelivered, exchange, routing key."""
    at += 1 + data[at]
    tag, _ = _TAG.unpack_from(data, at)
    at += 9
    exchange = data[at + 1 : at + 1 + data[at]]
    at += 1 + data[at]
    return _Partial(tag, exchange, data[at + 1 : at + 1 + data[at]].decode())


def _decode_method(data: bytes) -> amqp_object.Method:
    _, decoded = frame.decode_frame(data)
    if not isinstance(decoded, frame.Method):
        raise FrameError("The server sent a method that pika does not know.")
    method: amqp_object.Method = decoded.method
    return method


def decode_with_pika() -> Callable[[bytes], list[Delivery | Reply]]:
    """Return what does the same as `Decoder.feed`, by pika's own decoder."""
    rest = b""
    partial: dict[int, _Partial] = {}

    def feed(data: bytes) -> list[Delivery | Reply]:
        nonlocal rest
        rest += data
        found: list[Delivery | Reply] = []
        while True:
            size, decoded = frame.decode_frame(rest)
            if decoded is None:
                return found
            rest = rest[size:]
            channel = decoded.channel_number
            if isinstance(decoded, frame.Method) and isinstance(decoded.method, spec.Basic.Deliver):
                deliver = decoded.method
                exchange = (deliver.exchange or "").encode()
                partial[channel] = _Partial(deliver.delivery_tag or 0, exchange, deliver.routing_key or "")
            elif isinstance(decoded, frame.Method):
                found.append(Reply(channel, decoded.method))
            elif isinstance(decoded, frame.Header):
                partial[channel].left = decoded.body_size
            elif isinstance(decoded, frame.Body):
                partial[channel].body.append(decoded.fragment)
                partial[channel].left -= len(decoded.fragment)
            if (one := partial.get(channel)) is not None and one.left == 0:
                del partial[channel]
                found.append(Delivery(channel, one.tag, one.key, b"".join(one.body), one.exchange))

    return feed


def encode(channel: int, *methods: amqp_object.Method) -> bytes:
    """Encode methods of a channel."""
    return b"".join(frame.Method(channel, method).marshal() for method in methods)


def encode_publish(channel: int, exchange: str, key: str, payload: bytes, frame_bytes: int) -> bytes:
    """Encode a message that is kept on the disk, in frames of so many bytes at most: larger ones end a connection."""
    properties, most = spec.BasicProperties(delivery_mode=2), frame_bytes - FRAME_AROUND
    method = encode(channel, spec.Basic.Publish(0, exchange, key))
    bodies = [frame.Body(channel, payload[at : at + most]).marshal() for at in range(0, len(payload), most)]
    return b"".join([method, frame.Header(channel, len(payload), properties).marshal(), *bodies])


def encode_acks(tags: Iterable[tuple[int, int]], *, multiple: bool = True) -> bytes:
    """Encode an acknowledgement for each pair of a channel and a delivery tag, also of all before it if `multiple`."""
    return b"".join(_ACK.pack(METHOD, channel, 13, 60, 80, tag, multiple, END) for channel, tag in tags)
