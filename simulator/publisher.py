"""MQTT 3.1.1 as far as a publisher of very many packets needs it: its frames, and one plain connection.

paho spends 20 to 30 us on a message, too much where ten thousand a second are sent. Here a caller lays out many frames
one after the other and hands them over as one stretch of bytes.

Rules
-----
* Nothing waits, once the broker has greeted: what the socket does not take at once is kept, and nothing more is taken
  until it is gone.
* Packet ids count from 1 to 65535 and begin again. Brokers acknowledge in order (MQTT-4.6.0-2), and at most
  `MAX_UNACKNOWLEDGED` are under way, so no id is used twice at a time.

Knows nothing of topics, samples or clocks; see `simulator.load`.
"""

from __future__ import annotations

import socket

import numpy as np
import numpy.typing as npt

from monitor.broker.connection import BrokerUrl

CONNECT, CONNACK, PUBLISH_QOS_1, PUBACK, PINGREQ, PINGRESP, DISCONNECT = 0x10, 0x20, 0x32, 0x40, 0xC0, 0xD0, 0xE0
"""First bytes of the packets, flags included."""
RETAIN = 0x01
CLEAN_SESSION, WITH_PASSWORD, WITH_USER = 0x02, 0x40, 0x80
KEEPALIVE_S = 60
PING_AFTER_S = 20.0
"""A connection on which nothing was sent for so long says that it is alive."""
CONNECT_S = 10.0
"""How long the broker may take to greet."""
MAX_UNACKNOWLEDGED = 10_000
"""Messages of one connection under way to the broker at a time."""
LAST_ID = 65_535
REFUSALS = {
    1: "unacceptable protocol version",
    2: "client id rejected",
    3: "server unavailable",
    4: "bad user name or password",
    5: "not authorized",
}
"""What the broker's answer to the greeting means (MQTT 3.1.1, table 3.1)."""


def connect_frame(client_id: str, user: str | None = None, password: str | None = None) -> bytes:
    """Greet the broker, with a clean session and without a last will."""
    flags = CLEAN_SESSION | (WITH_USER if user is not None else 0) | (WITH_PASSWORD if password is not None else 0)
    head = _string("MQTT") + bytes([4, flags]) + KEEPALIVE_S.to_bytes(2, "big")
    return _frame(CONNECT, head + b"".join(_string(text) for text in (client_id, user, password) if text is not None))


def publish_frame(topic: str, payload: bytes, packet_id: int, *, retain: bool = False) -> bytes:
    """Publish a message with QoS 1: the topic, two bytes of packet id, and the payload at the very end."""
    return _frame(PUBLISH_QOS_1 | retain * RETAIN, _string(topic) + packet_id.to_bytes(2, "big") + payload)


def _frame(first: int, body: bytes) -> bytes:
    """Put a packet's first byte and its length, seven bits a byte, before it."""
    length, rest = bytearray(), len(body)
    while rest >= 0x80:
        length.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([first]) + length + bytes([rest]) + body


def _string(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(2, "big") + encoded


class Link:
    """One connection to a broker, open and greeted.

    Parameters
    ----------
    url
        The broker; without TLS.
    client_id
        Client id; none that another connection of the broker has.
    password
        Password of the URL's user.

    Raises
    ------
    ConnectionError
        There is no broker, it refuses the connection, or it does not answer in MQTT 3.1.1. Once it is open: the broker
        has gone.
    ValueError
        The URL asks for TLS.
    """

    def __init__(self, url: BrokerUrl, client_id: str, password: str | None = None) -> None:
        if url.tls:
            raise ValueError(f"No TLS here: got {url}, expected mqtt://.")
        self.sent = self.acknowledged = 0
        self._url = url
        self._rest = memoryview(b"")  # what the socket has not taken yet
        self._read = b""  # what has come of a packet that is not complete
        self._pinged_s = 0.0
        self._silent_since = -1  # messages sent when the last ping was due
        try:
            self._socket = socket.create_connection((url.host, url.port), CONNECT_S)
        except OSError as error:
            raise ConnectionError(f"No broker reached at {url}: {error}.") from None
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._greet(connect_frame(client_id, url.user, password if url.user is not None else None))
        self._socket.setblocking(False)

    @property
    def is_free(self) -> bool:
        """Whether all that was handed over has left for the broker."""
        return not self._rest

    @property
    def unacknowledged(self) -> int:
        """Messages the broker has not acknowledged yet."""
        return self.sent - self.acknowledged

    @property
    def room(self) -> int:
        """How many messages may be handed over now."""
        return MAX_UNACKNOWLEDGED - self.unacknowledged if self.is_free else 0

    def next_ids(self, count: int) -> npt.NDArray[np.int64]:
        """(count,) packet ids of the messages that are handed over next."""
        ids: npt.NDArray[np.int64] = (self.sent + np.arange(count)) % LAST_ID + 1
        return ids

    def send(self, frames: memoryview, count: int) -> None:
        """Hand over `count` messages laid end to end, not more than there is `room` for.

        The bytes must stay as they are until the link `is_free` again.
        """
        self.sent += count
        self._rest = frames
        self._flush()

    def turn(self, now_s: float) -> None:
        """Move what waits in either direction; cheap to call often.

        Parameters
        ----------
        now_s
            Time on a clock that never runs back.
        """
        self._receive()
        self._flush()
        if self.sent != self._silent_since:
            self._silent_since, self._pinged_s = self.sent, now_s
        elif now_s - self._pinged_s > PING_AFTER_S and self.is_free:
            self._pinged_s, self._rest = now_s, memoryview(bytes([PINGREQ, 0]))
            self._flush()

    def close(self) -> None:
        """Say goodbye, if there is room for it, and close the socket."""
        try:
            if self.is_free:
                self._socket.send(bytes([DISCONNECT, 0]))
        except OSError:
            pass  # the broker has gone first
        finally:
            self._socket.close()

    def _greet(self, frame: bytes) -> None:
        answer = b""
        try:
            self._socket.sendall(frame)
            while len(answer) < 4 and (more := self._socket.recv(4 - len(answer))):
                answer += more
        except OSError:
            pass  # no answer, or not all of it
        if len(answer) == 4 and answer[:2] == bytes([CONNACK, 2]) and answer[3] == 0:
            return
        self._socket.close()
        if len(answer) == 4 and answer[:2] == bytes([CONNACK, 2]):
            reason = REFUSALS.get(answer[3], f"code {answer[3]}")
            raise ConnectionError(f"The broker at {self._url} refuses the connection: {reason}.")
        raise ConnectionError(f"The broker at {self._url} does not answer in MQTT 3.1.1.")

    def _flush(self) -> None:
        """Give the socket as much as it takes."""
        try:
            while self._rest:
                self._rest = self._rest[self._socket.send(self._rest) :]
        except BlockingIOError:
            pass
        except OSError as error:
            raise self._gone(str(error)) from None

    def _receive(self) -> None:
        """Read what has come, and count acknowledgements."""
        try:
            came = self._socket.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError as error:
            raise self._gone(str(error)) from None
        if not came:
            raise self._gone("it closed the connection")
        read, place = self._read + came, 0
        while len(read) - place >= 2 and len(read) - place >= 2 + read[place + 1]:
            if read[place] == PUBACK:
                self.acknowledged += 1
            elif read[place] != PINGRESP:
                raise self._gone(f"it sent a packet of type {read[place] >> 4}, expected acknowledgements")
            place += 2 + read[place + 1]
        self._read = read[place:]

    def _gone(self, reason: str) -> ConnectionError:
        return ConnectionError(f"The broker at {self._url} has gone, after {self.acknowledged} messages: {reason}.")
