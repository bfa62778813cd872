"""A paho client that reads and writes its socket in large pieces, and is polled.

paho asks the kernel for each packet byte by byte, and sends each acknowledgement by itself: system calls were more than
half of what a message cost. Here one call fetches all that has come, and one call sends all that follows from it.

It overrides internals of paho 2 (`_create_socket`, `_handle_publish`, `_mid_generate`, `_send_connect`):
`pyproject.toml` holds paho below 3.
"""

from __future__ import annotations

import select
import ssl
import struct
from collections.abc import Iterator
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.exception import MQTTException
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties, VariableByteIntegers

from monitor.broker.source import Message, ReplyTo

CHUNK = 256 * 1024
"""Bytes that are read at a time."""
UNSENT = 1024 * 1024
"""Bytes that may wait for the socket; what comes on top waits in paho's queue."""
MOST_IDS = 65_000
"""With more messages under way, no free id is looked for."""
TOKEN_BITS = 16
"""A token is the number of the connection and, in its last bits, the packet id."""
CLOSING_S = 1.0
"""How long a socket that is closed tries to send what waits."""
NEVER = 0xFFFFFFFF
"""A session of MQTT 5 that ends so many seconds after its connection does not end: as those of MQTT 3.1.1."""
RESPONSE_TOPIC, CORRELATION_DATA = 8, 9
"""Identifiers of properties: MQTT 5, section 2.2.2.2."""
_NOT_NOW = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class BufferedSocket:
    """As much of a socket as paho asks for, non-blocking, with a buffer on either side."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._input = b""
        self._at = 0
        self._output = bytearray()
        self._ended = False
        self._error: OSError | None = None
        self.corked = False
        """Whether what is sent waits for `flush`."""

    def fill(self) -> None:
        """Fetch what has come, without waiting."""
        pieces = [self._input[self._at :]]
        size = len(pieces[0])
        while size < CHUNK and not self._ended and self._error is None:
            try:
                piece = self._sock.recv(CHUNK)
            except _NOT_NOW:
                break
            except OSError as error:
                self._error = error
                break
            self._ended = not piece
            pieces.append(piece)
            size += len(piece)
            if len(piece) < CHUNK and not (isinstance(self._sock, ssl.SSLSocket) and self._sock.pending()):
                break
        self._input, self._at = b"".join(pieces), 0

    @property
    def has_input(self) -> bool:
        """Whether `recv` has something to say: bytes, or that the connection is over."""
        return self._at < len(self._input) or self._ended or self._error is not None

    @property
    def has_output(self) -> bool:
        """Whether bytes wait for the socket."""
        return bool(self._output)

    def recv(self, size: int) -> bytes:
        """Return bytes that have come, at most `size`; as a socket's."""
        if not self.has_input:
            self.fill()
        if self._at < len(self._input):
            piece = self._input[self._at : self._at + size]
            self._at += len(piece)
            return piece
        if self._error is not None:
            raise self._error
        if self._ended:
            return b""
        raise BlockingIOError

    def send(self, data: bytes) -> int:
        """Take bytes to be sent, all of them or none; as a socket's."""
        if len(self._output) >= UNSENT:
            self.flush()
            if len(self._output) >= UNSENT:
                raise BlockingIOError
        self._output += data
        if not self.corked:
            self.flush()
        return len(data)

    def flush(self) -> None:
        """Send what waits, as far as the socket takes it."""
        try:
            while self._output:
                del self._output[: self._sock.send(self._output)]
        except _NOT_NOW:
            pass
        except OSError as error:
            self._error = self._error or error
            self._output.clear()

    def close(self) -> None:
        """Send what waits, and close."""
        if self._output and self._error is None and not self._ended:
            select.select([], [self._sock], [], CLOSING_S)
            self.flush()
        self._sock.close()

    def fileno(self) -> int:
        """As of the socket."""
        return int(self._sock.fileno())

    def setblocking(self, flag: bool) -> None:
        """As of the socket; only non-blocking ones work."""
        self._sock.setblocking(flag)

    def setsockopt(self, *option: Any) -> None:
        """As of the socket."""
        self._sock.setsockopt(*option)


class Client(paho.Client):
    """A paho client that is polled: messages that came are in `inbox`, not handed to a callback."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.inbox: list[Message] = []
        """Messages that came and were not taken out."""
        self.connection = 0
        """Number of the connection, part of every message's token."""
        self.is_newest = False
        """Whether it greets the broker in MQTT 5."""

    def greet_in(self, version: MQTTProtocolVersion) -> None:
        """Speak that version of MQTT from the next connection on."""
        self._protocol = version
        self.is_newest = version == paho.MQTTv5

    def _send_connect(self, keepalive: int) -> MQTTErrorCode:
        if self.is_newest:
            self._clean_start = self._clean_session
            self._connect_properties = Properties(PacketTypes.CONNECT)
            if not self._clean_session:
                self._connect_properties.SessionExpiryInterval = NEVER
        return super()._send_connect(keepalive)

    def _create_socket(self) -> BufferedSocket:  # type: ignore[override]
        return BufferedSocket(super()._create_socket())

    def _handle_publish(self) -> MQTTErrorCode:
        # Section 3.3 of the standards: two bytes of length and the topic, the packet id if QoS > 0, the properties in
        # MQTT 5 (a byte where there are none), the payload. paho's own way builds an object, formats a line for a log
        # that nobody reads and takes three locks for each message.
        header, packet = self._in_packet["command"], self._in_packet["packet"]
        end = 2 + int.from_bytes(packet[:2], "big")
        topic, token = packet[2:end].decode("utf-8", "backslashreplace"), None
        if header & 0b110:
            token = self.connection << TOKEN_BITS | int.from_bytes(packet[end : end + 2], "big")
            end += 2
        if end > len(packet) - self.is_newest:
            return paho.MQTT_ERR_PROTOCOL
        if self.is_newest:
            if packet[end]:
                return self._take_with_properties(topic, packet[end:], token, bool(header & 1))
            end += 1
        self.inbox.append(Message(topic, bytes(packet[end:]), token, bool(header & 1)))
        return paho.MQTT_ERR_SUCCESS

    def _take_with_properties(self, topic: str, rest: bytearray, token: int | None, retained: bool) -> MQTTErrorCode:
        """Take a message whose properties and payload those are; paho heeds a `MalformedPacket`."""
        length, begin = VariableByteIntegers.decode(rest)
        end = begin + length
        if end > len(rest):
            return paho.MQTT_ERR_PROTOCOL
        reply_to = _read_reply_to(bytes(rest[:end]))
        self.inbox.append(Message(topic, bytes(rest[end:]), token, retained, reply_to=reply_to))
        return paho.MQTT_ERR_SUCCESS

    @property
    def unconfirmed(self) -> int:
        """Messages that the broker has not confirmed yet."""
        return len(self._out_messages)

    def waiting(self) -> Iterator[tuple[int, paho.MQTTMessage]]:
        """Yield the packet ids and messages that the broker has not confirmed yet, oldest first."""
        yield from self._out_messages.items()

    def withdraw(self, mid: int) -> None:
        """Publish a message no more, over no later connection either."""
        del self._out_messages[mid]

    def _mid_generate(self) -> int:
        # Ids count to 65535 and begin again. paho would drop a message whose id is still on its way, and a message with
        # QoS 0 that has such an id would pass for the confirmation of the other.
        mid = super()._mid_generate()
        while mid in self._out_messages and self.unconfirmed < MOST_IDS:
            mid = super()._mid_generate()
        return mid

    def is_open(self, sock: BufferedSocket) -> bool:
        """Whether that is still the socket."""
        current: Any = self.socket()
        return current is sock


def _read_reply_to(properties: bytes) -> ReplyTo | None:
    """Return where the sender of a message wants to be answered; None if it does not say so, or not as it should."""
    if RESPONSE_TOPIC not in properties and CORRELATION_DATA not in properties:
        return None  # whatever else they say, it is not looked at
    try:
        read, _ = Properties(PacketTypes.PUBLISH).unpack(properties)
    except (MQTTException, LookupError, UnicodeError, struct.error):
        return None  # ending the connection would bring it again
    topic, correlation = getattr(read, "ResponseTopic", None), getattr(read, "CorrelationData", None)
    return None if topic is None and correlation is None else ReplyTo(topic, correlation)
