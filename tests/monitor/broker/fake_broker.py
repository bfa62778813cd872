"""A broker on a socket that does what real ones do to monitors: it answers late, wrongly, or not at all."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from monitor.broker.connection import BrokerUrl

CONNACK, SUBACK, PUBACK, PINGRESP = b"\x20\x02\x00\x00", 0x90, 0x40, b"\xd0\x00"


@dataclass
class Manners:
    """What the broker does."""

    answers: bool = True
    """It answers the greeting,"""
    answer: bytes = CONNACK
    """with this,"""
    after_s: float = 0.0
    """so late."""
    refuses_will: int = 0
    """Bits of the connect flags with which it ends the connection instead: 0x20 retained will, 0x04 any will."""
    grants: int | None = 1
    """What it answers to each subscription: QoS, 0x80 for a refusal; None: nothing."""
    confirms: bool = True
    """It confirms what is published with QoS 1."""
    speaks_5: bool = True
    """It takes greetings in MQTT 5 for what it takes itself,"""
    refusal: bytes | None = None
    """or else answers this to them; None: it ends the connection."""
    versions: list[int] = field(default_factory=list)
    """Of MQTT, of all greetings so far: 4 is 3.1.1."""
    greetings: list[int] = field(default_factory=list)
    """Connect flags of all greetings so far."""


@contextmanager
def fake_broker(manners: Manners, tls: ssl.SSLContext | None = None) -> Iterator[BrokerUrl]:
    """Run one on a free port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accept, args=(listener, manners, tls), daemon=True).start()
        yield BrokerUrl("127.0.0.1", listener.getsockname()[1], tls=tls is not None)


def _accept(listener: socket.socket, manners: Manners, tls: ssl.SSLContext | None) -> None:
    while True:
        try:
            sock, _ = listener.accept()
            sock = sock if tls is None else tls.wrap_socket(sock, server_side=True)
        except OSError:
            return
        threading.Thread(target=_serve, args=(sock, manners), daemon=True).start()


def _serve(sock: socket.socket, manners: Manners) -> None:
    with sock:
        try:
            while (packet := _read_packet(sock)) is not None:
                reply = _reply(packet, manners)
                if reply is None:
                    return
                sock.sendall(reply)
        except OSError:
            return


def _reply(packet: tuple[int, bytes], manners: Manners) -> bytes | None:
    kind, body = packet
    if kind == 0x10:
        version, flags = body[6:8]
        manners.versions.append(version)
        manners.greetings.append(flags)
        if version == 5 and not manners.speaks_5:
            return manners.refusal
        if flags & manners.refuses_will:
            return None
        time.sleep(manners.after_s)
        return manners.answer if manners.answers else b""
    if kind == 0x82 and manners.grants is not None:
        topics = body.count(b"\x01", 2) if manners.grants == 1 else 1
        return bytes([SUBACK, 2 + topics]) + body[:2] + bytes([manners.grants]) * topics
    if kind & 0xF6 == 0x32 and manners.confirms:
        end = 2 + int.from_bytes(body[:2], "big")
        return bytes([PUBACK, 2]) + body[end : end + 2]
    return PINGRESP if kind == 0xC0 else b""


def _read_packet(sock: socket.socket) -> tuple[int, bytes] | None:
    head = sock.recv(1)
    if not head:
        return None
    length = shift = 0
    while True:
        byte = sock.recv(1)[0]
        length, shift = length | (byte & 0x7F) << shift, shift + 7
        if byte < 0x80:
            break
    body = b""
    while len(body) < length:
        body += sock.recv(length - len(body))
    return head[0], body
