"""One connection to a broker, driven by hand and without a thread: the doctor's client.

Knows how to connect, wait, subscribe and publish, and how to find out a right without using it; judges nothing.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.reasoncodes import ReasonCode

from monitor.broker import connection

TIMEOUT_S = 5.0
"""How long a broker may take to answer."""
LONGEST_S = 20.0
"""How long it may take to move many messages."""
KEEPALIVE_S = 30


class Refused(ConnectionError):
    """The broker answered with a refusal."""


@dataclass(frozen=True, slots=True)
class Target:
    """A broker, and the credentials of its client."""

    url: connection.BrokerUrl
    password: str | None = field(default=None, repr=False)
    tls: connection.TlsFiles = field(default_factory=connection.TlsFiles)

    def open_socket(self) -> socket.socket:
        """Open a connection, over TLS if the broker's URL says so.

        Raises
        ------
        OSError
            Nothing listens there, or TLS fails; ssl.SSLError then.
        """
        plain = socket.create_connection((self.url.host, self.url.port), TIMEOUT_S)
        if not self.url.tls:
            return plain
        try:
            return self.tls.context().wrap_socket(plain, server_hostname=self.url.host)
        except BaseException:
            plain.close()
            raise


class Visit:
    """A client of a broker, while entered.

    Parameters
    ----------
    target
        The broker.
    client_id
        Client id; with `clean_session` False the broker keeps the session under it.
    clean_session
        See `monitor.broker.connection.make_client`.
    hold
        Acknowledge nothing that comes until `acknowledge` is called.
    will
        Topic of a retained last will with QoS 1; it is not published, since the visit ends in good order.

    Raises
    ------
    ConnectionError
        On entering: the broker is not there or does not answer; `Refused` if it refuses.
    """

    def __init__(
        self,
        target: Target,
        client_id: str,
        *,
        clean_session: bool = True,
        hold: bool = False,
        will: str | None = None,
    ) -> None:
        self.received: list[paho.MQTTMessage] = []
        self.session_present = False
        """Whether the broker still had a session of that client id."""
        self._target = target
        self._answer: ReasonCode | None = None
        self._granted: list[ReasonCode] | None = None
        self._unacknowledged: list[int] = []
        self._heard_s = 0.0
        self._client = client = connection.make_client(
            target.url, client_id, password=target.password, clean_session=clean_session, **asdict(target.tls)
        )
        if will is not None:
            client.will_set(will, b"", qos=1, retain=True)
        client.manual_ack_set(True)
        client.max_inflight_messages_set(1000)
        client.max_queued_messages_set(0)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        self._hold = hold

    def __enter__(self) -> Visit:
        connection.connect(self._client, self._target.url, KEEPALIVE_S)
        answered = self.until(lambda: self._answer is not None)
        if self._answer is not None and self._answer.is_failure:
            raise Refused(str(self._answer))
        if not answered:
            self._close_socket()
            raise ConnectionError(f"no answer to the MQTT greeting within {TIMEOUT_S:g} s")
        return self

    def __exit__(self, *_: object) -> None:
        if self._client.is_connected():
            self._client.disconnect()
            self.until(lambda: self._client.socket() is None, 1.0)
        self._close_socket()

    def until(self, condition: Callable[[], bool], seconds: float = TIMEOUT_S) -> bool:
        """Let the connection work until something is true; False if it is not true in time, or the broker is gone."""
        until_s = time.monotonic() + seconds
        while not condition():
            left_s = until_s - time.monotonic()
            if left_s <= 0 or self._client.socket() is None:
                return condition()
            self._client.loop(min(left_s, 0.1))
        return True

    def until_quiet(self, seconds: float, at_most: int) -> None:
        """Take messages until none has come for so long, or there are so many."""
        self._heard_s = time.monotonic()
        self.until(lambda: len(self.received) >= at_most or time.monotonic() - self._heard_s > seconds, LONGEST_S)

    def subscribe(self, *topics: str) -> bool:
        """Subscribe with QoS 1; whether the broker granted all."""
        self._granted = None
        self._client.subscribe([(topic, 1) for topic in topics])
        self.until(lambda: self._granted is not None)
        granted: list[ReasonCode] = self._granted or []
        return bool(granted) and not any(code.is_failure for code in granted)

    @property
    def granted_qos(self) -> int:
        """Lowest QoS that the last subscription was granted."""
        return min((code.value for code in self._granted or ()), default=0)

    def publish(self, topic: str, payloads: list[bytes]) -> bool:
        """Publish with QoS 1; whether the broker confirmed all."""
        sent = [self._client.publish(topic, payload, qos=1) for payload in payloads]
        try:
            return self.until(lambda: sent[-1].is_published() and all(info.is_published() for info in sent), LONGEST_S)
        except RuntimeError:  # so paho says that the connection was lost
            return False

    def acknowledge(self) -> None:
        """Acknowledge what was held back, and from now on each message as it comes."""
        self._hold = False
        for mid in self._unacknowledged:  # in the order of arrival: some brokers insist
            self._client.ack(mid, 1)
        self._unacknowledged.clear()

    def _close_socket(self) -> None:
        sock = self._client.socket()
        if sock is not None:
            sock.close()

    def _on_connect(self, _client: paho.Client, _data: Any, flags: Any, reason: ReasonCode, _props: Any) -> None:
        self._answer, self.session_present = reason, flags.session_present

    def _on_subscribe(
        self, _client: paho.Client, _data: Any, _mid: int, granted: list[ReasonCode], _props: Any
    ) -> None:
        self._granted = granted

    def _on_message(self, client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        self.received.append(message)
        self._heard_s = time.monotonic()
        if not message.qos:
            return
        if self._hold:
            self._unacknowledged.append(message.mid)
        else:
            client.ack(message.mid, message.qos)


def may_publish(target: Target, client_id: str, topics: list[str]) -> dict[str, bool] | None:
    """Ask which topics may be published on, without anybody getting anything.

    A message of QoS 2 is delivered only once its sender has released it (PUBREL). This one never does: the broker's
    first answer (PUBREC) says in MQTT 5 whether the topic is allowed, and the message is forgotten with the session.

    Returns
    -------
    dict or None
        Whether each topic is allowed; None if the broker speaks no MQTT 5 or answers otherwise.
    """
    flags = 0x02 | (0x80 if target.url.user is not None else 0) | (0x40 if target.password is not None else 0)
    words = [client_id, *(word for word in (target.url.user, target.password) if word is not None)]
    greeting = _text("MQTT") + bytes([5, flags]) + KEEPALIVE_S.to_bytes(2, "big") + b"\0"
    allowed: dict[str, bool] = {}
    try:
        with target.open_socket() as sock:
            sock.sendall(_packet(0x10, greeting + b"".join(map(_text, words))))
            kind, body = _read_packet(sock)
            if kind != 0x20 or body[1] != 0:
                return None
            for number, topic in enumerate(topics, start=1):
                allowed[topic] = _is_allowed(sock, topic, number)
            sock.sendall(_packet(0xE0, b""))
    except (OSError, IndexError):
        return None
    return allowed


def _is_allowed(sock: socket.socket, topic: str, number: int) -> bool:
    sock.sendall(_packet(0x34, _text(topic) + number.to_bytes(2, "big") + b"\0"))
    kind, body = _read_packet(sock)
    if kind != 0x50 or int.from_bytes(body[:2], "big") != number:
        raise ConnectionError(f"the broker answered a message of QoS 2 with a packet of type 0x{kind:02x}")
    return len(body) < 3 or body[2] < 0x80


def _text(word: str) -> bytes:
    data = word.encode()
    return len(data).to_bytes(2, "big") + data


def _packet(kind: int, body: bytes) -> bytes:
    length, left = b"", len(body)
    while left >= 0x80:
        length, left = length + bytes([left & 0x7F | 0x80]), left >> 7
    return bytes([kind]) + length + bytes([left]) + body


def _read_packet(sock: socket.socket) -> tuple[int, bytes]:
    """Read one packet: its first byte, and all that comes after its length."""
    kind, length, shift = _read(sock, 1)[0], 0, 0
    while True:
        byte = _read(sock, 1)[0]
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80 or shift > 21:
            return kind, _read(sock, length)


def _read(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise ConnectionError("the broker ended the connection")
        data += more
    return data


def spoken_at(target: Target) -> str | None:
    """Find out what a port speaks that does not answer in MQTT: "TLS", "HTTP", or None if that cannot be told."""
    try:
        with socket.create_connection((target.url.host, target.url.port), TIMEOUT_S) as sock:
            sock.settimeout(TIMEOUT_S)
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            answer = sock.recv(16)
    except OSError:
        answer = b""
    if answer.startswith(b"HTTP/"):
        return "HTTP"
    return "TLS" if _speaks_tls(target) else None


def _speaks_tls(target: Target) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent: who it is does not matter
    try:
        with socket.create_connection((target.url.host, target.url.port), TIMEOUT_S) as sock:
            context.wrap_socket(sock, server_hostname=target.url.host).close()
    except ssl.SSLError as error:
        return "HANDSHAKE" in str(error.reason) or "ALERT" in str(error.reason)
    except OSError:
        return False
    return True
