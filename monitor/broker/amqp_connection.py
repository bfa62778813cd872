"""A connection to one of the nodes of a RabbitMQ cluster: the greeting, then bytes.

Rules
-----
* A cluster is ``amqp://[user@]host[:port][,host[:port]...][/vhost][?heartbeat=S]`` (5672), or ``amqps://`` (TLS, 5671).
  As for every broker the password comes from the environment or a file.
* Connecting waits for the network, so it is done by a thread, and what comes of it is fetched. Each try takes the next
  node.
* Heartbeats: RabbitMQ counts what has come of a client once every heartbeat, and gives it up at the second count
  without a change: two to three heartbeats after it was heard last (rabbit_heartbeat.erl). What the client has not
  acknowledged goes to others. Here a connection over which nothing has come for three is over.
* A thread sends the heartbeats, so that a loop which is busy for some seconds is not given up. For one that has not
  looked at its connection for `HUNG_S` none are sent.

Knows nothing of queues or messages.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from urllib.parse import unquote, urlsplit

from pika import amqp_object, spec

from monitor.broker.amqp_frames import HEARTBEAT_FRAME, Decoder, Reply, encode
from monitor.broker.connection import PASSWORD_VARIABLE, BrokerUrl, TlsFiles
from monitor.broker.connection import PORT as MQTT_PORT
from monitor.broker.connection import TLS_PORT as MQTT_TLS_PORT

PORT, TLS_PORT = 5672, 5671
HEARTBEAT_S, LONGEST_HEARTBEAT_S = 2, 60
"""The default, and the most that can be asked for."""
HUNG_S = 10.0
"""A loop that has not looked at its connection for so long hangs: others shall have its partitions."""
CONNECT_S = 4.0
"""How long a node may take to answer."""
FRAME_BYTES = 131_072
CHUNK = 256 * 1024
"""Bytes that are read at a time."""
_NOT_NOW = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


@dataclass(frozen=True, slots=True)
class ClusterUrl:
    """Where the nodes of a cluster listen, without the password."""

    nodes: tuple[tuple[str, int], ...]
    user: str | None = None
    vhost: str = "/"
    tls: bool = False
    heartbeat_s: int = HEARTBEAT_S

    @classmethod
    def parse(cls, url: str) -> ClusterUrl:
        """Parse ``amqp://[user@]host[:port][,host[:port]...][/vhost][?heartbeat=S]``.

        Raises
        ------
        ValueError
            It is no such URL, or it holds a password.
        """
        expected = "expected amqp://[user@]host[:port][,host[:port]...][/vhost][?heartbeat=S]"
        parts = urlsplit(url)
        if parts.password is not None:
            raise ValueError(f"A broker URL must not hold a password: set {PASSWORD_VARIABLE} or use --password-file.")
        if parts.scheme not in ("amqp", "amqps") or parts.fragment:
            raise ValueError(f"Not the URL of a cluster: got {url!r}, {expected}.")
        tls = parts.scheme == "amqps"
        places = parts.netloc.rpartition("@")[2].split(",")
        try:
            nodes = tuple(_parse_node(place, TLS_PORT if tls else PORT) for place in places)
            heartbeat_s = _parse_heartbeat(parts.query)
        except ValueError:
            raise ValueError(f"Not the URL of a cluster: got {url!r}, {expected}.") from None
        user = unquote(parts.username) if parts.username else None
        return cls(nodes, user, unquote(parts.path[1:]) or "/", tls, heartbeat_s)

    def __str__(self) -> str:
        """Return the URL, as it may be shown to anyone."""
        nodes = ",".join(f"{host}:{port}" for host, port in self.nodes)
        vhost = "" if self.vhost == "/" else f"/{self.vhost}"
        user = f"{self.user}@" if self.user else ""
        query = "" if self.heartbeat_s == HEARTBEAT_S else f"?heartbeat={self.heartbeat_s}"
        return f"{'amqps' if self.tls else 'amqp'}://{user}{nodes}{vhost}{query}"

    @property
    def mqtt(self) -> BrokerUrl:
        """Where the first node speaks MQTT, if that is the usual port."""
        return BrokerUrl(self.nodes[0][0], MQTT_TLS_PORT if self.tls else MQTT_PORT, self.user, self.tls)


def _parse_node(place: str, usual: int) -> tuple[str, int]:
    parts = urlsplit(f"//{place}")
    if not parts.hostname:
        raise ValueError(place)
    return parts.hostname, parts.port or usual


def _parse_heartbeat(query: str) -> int:
    if not query:
        return HEARTBEAT_S
    name, _, value = query.partition("=")
    if name != "heartbeat" or not 1 <= int(value) <= LONGEST_HEARTBEAT_S:
        raise ValueError(query)
    return int(value)


@dataclass(frozen=True, slots=True)
class Login:
    """How to enter a cluster."""

    url: ClusterUrl
    password: str | None = None
    """If None, that of the user guest, who may enter from the same machine only."""
    tls: TlsFiles = field(default_factory=TlsFiles)
    name: str = "ecgwatch"
    """By which the server's lists show the connection."""


class Refused(ConnectionError):
    """The server does not let this user in."""


class Connection:
    """An open connection.

    Parameters
    ----------
    login
        How to enter.
    node
        Which of the nodes.

    Raises
    ------
    ConnectionError
        The node cannot be reached, or refuses; `Refused` if trying again is of no use.
    """

    def __init__(self, login: Login, node: int) -> None:
        self._login = login
        self._host, self._port = login.url.nodes[node % len(login.url.nodes)]
        self._heartbeat_s = login.url.heartbeat_s
        self._decoder = Decoder()
        self._lock = threading.Lock()  # of the socket and the output
        self._is_closed = threading.Event()
        self._output = bytearray()
        self._replies: list[Reply] = []
        self.frame_bytes = FRAME_BYTES
        """Most bytes of a frame, as agreed with the server."""
        self._sock = self._open_socket()
        try:
            self.server = self._greet()
        except BaseException:
            self._sock.close()
            raise
        self._heard_s = self._sent_s = self._looked_s = time.monotonic()

    def __str__(self) -> str:
        return f"{self._host}:{self._port}"

    def fileno(self) -> int:
        """For `select`."""
        return self._sock.fileno()

    @property
    def version(self) -> tuple[int, ...]:
        """Version of the server."""
        text = self.server.get("version", b"0")
        text = text.decode() if isinstance(text, bytes) else str(text)
        return tuple(int(word) for word in text.split("-")[0].split(".") if word.isdigit())

    def call(self, channel: int, method: amqp_object.Method, *expected: type[amqp_object.Method]) -> Any:
        """Send a method and wait for its reply, before `start`.

        Raises
        ------
        ConnectionError
            The connection is over, or the server closes it or the channel.
        """
        self._sock.sendall(encode(channel, method))
        return self._await(channel, *expected)

    def acknowledge_close(self, channel: int) -> None:
        """Agree that a channel is closed, before `start`; it can be opened again."""
        self._sock.sendall(encode(channel, spec.Channel.CloseOk()))

    def start(self) -> None:
        """Wait no more: from now on `read` and `write` return at once, and a thread sends the heartbeats."""
        self._sock.setblocking(False)
        threading.Thread(target=self._beat, name="heartbeats", daemon=True).start()

    @property
    def has_output(self) -> bool:
        """Whether bytes wait for the socket."""
        return bool(self._output)

    @property
    def has_pending(self) -> bool:
        """Whether decrypted bytes wait that `select` does not know of."""
        if not isinstance(self._sock, ssl.SSLSocket):
            return False
        with self._lock:
            return bool(self._sock.pending())

    def read(self) -> list[Any]:
        """Return the deliveries and replies that have come.

        Raises
        ------
        ConnectionError
            The connection is over.
        """
        found: list[Any] = []
        size = 0
        while size < CHUNK:
            data = self._receive()
            if data is None:
                break
            if not data:
                raise ConnectionError("the server ended the connection")
            size += len(data)
            found += self._decoder.feed(data)
            if len(data) < CHUNK and not self.has_pending:
                break
        self._looked_s = time.monotonic()
        if size:
            self._heard_s = self._looked_s
        elif self._looked_s - self._heard_s > 3 * self._heartbeat_s:
            raise ConnectionError(f"nothing came for {3 * self._heartbeat_s} s")
        return found

    def write(self, data: bytes) -> None:
        """Take bytes to be sent."""
        with self._lock:
            self._output += data

    def flush(self) -> bool:
        """Send what waits; return whether all has left.

        Raises
        ------
        ConnectionError
            The connection is over.
        """
        try:
            with self._lock:
                return self._send()
        except OSError as error:
            raise ConnectionError(str(error)) from None

    def close(self) -> None:
        """Say goodbye, if that is possible at once, and leave."""
        self._is_closed.set()
        with self._lock:
            try:
                self._sock.setblocking(False)
                self._sock.send(bytes(self._output) + encode(0, spec.Connection.Close(200, "", 0, 0)))
            except OSError:
                pass
            self._sock.close()

    def _receive(self) -> bytes | None:
        """Return bytes that have come, b"" at their end; None if there are none now."""
        try:
            with self._lock:
                return self._sock.recv(CHUNK)
        except _NOT_NOW:
            return None
        except OSError as error:
            raise ConnectionError(str(error)) from None

    def _send(self) -> bool:
        """Send as much of the output as the socket takes; return whether that is all."""
        try:
            while self._output:
                del self._output[: self._sock.send(self._output)]
                self._sent_s = time.monotonic()
        except _NOT_NOW:
            return False
        return True

    def _beat(self) -> None:
        """Send heartbeats while nothing else is sent, until the connection is over or its loop hangs."""
        while not self._is_closed.wait(self._heartbeat_s / 4):
            now_s = time.monotonic()
            if now_s - self._looked_s > HUNG_S or now_s - self._sent_s < self._heartbeat_s / 2:
                continue
            with self._lock, contextlib.suppress(OSError, ValueError):  # closed meanwhile, or the loop will find out
                self._output += b"" if self._output else HEARTBEAT_FRAME
                self._send()

    def _open_socket(self) -> socket.socket:
        try:
            sock = socket.create_connection((self._host, self._port), CONNECT_S)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._login.url.tls:
                return self._login.tls.context().wrap_socket(sock, server_hostname=self._host)
        except OSError as error:
            raise ConnectionError(f"No broker reached at {self._host}:{self._port}: {error}.") from None
        return sock

    def _greet(self) -> dict[str, Any]:
        """Exchange the greetings; return what the server says of itself."""
        login = self._login
        self._sock.sendall(b"AMQP\0\0\x09\x01")
        start = self._await(0, spec.Connection.Start)
        user = login.url.user or "guest"
        password = login.password if login.password is not None else ("guest" if user == "guest" else "")
        capabilities = {"authentication_failure_close": True, "consumer_cancel_notify": True, "basic.nack": True}
        about = {"product": "ecgwatch", "connection_name": login.name, "capabilities": capabilities}
        response = f"\0{user}\0{password}"
        tune = self.call(0, spec.Connection.StartOk(about, "PLAIN", response, "en_US"), spec.Connection.Tune)
        self.frame_bytes = min(tune.frame_max or FRAME_BYTES, FRAME_BYTES)
        self._sock.sendall(encode(0, spec.Connection.TuneOk(tune.channel_max, self.frame_bytes, self._heartbeat_s)))
        self.call(0, spec.Connection.Open(login.url.vhost), spec.Connection.OpenOk)
        properties: dict[str, Any] = start.server_properties
        return properties

    def _await(self, channel: int, *expected: type[amqp_object.Method]) -> Any:
        """Wait for a reply on a channel."""
        while True:
            for reply in self._replies:
                if isinstance(reply.method, spec.Connection.Close):
                    self._raise_closed(reply.method)
                if reply.channel == channel and isinstance(reply.method, (*expected, spec.Channel.Close)):
                    self._replies.remove(reply)
                    return reply.method
            try:
                data = self._sock.recv(CHUNK)
            except OSError as error:
                raise ConnectionError(f"No answer from the broker at {self}: {error}.") from None
            if not data:
                raise ConnectionError(f"The broker at {self} ended the connection: does this port speak AMQP 0-9-1?")
            self._replies += [reply for reply in self._decoder.feed(data) if isinstance(reply, Reply)]

    def _raise_closed(self, close: spec.Connection.Close) -> None:
        text = f"The broker at {self} refuses: {close.reply_text}."
        kind = Refused if close.reply_code in (403, 530) else ConnectionError
        raise kind(text)


def connect_to_any(login: Login) -> Connection:
    """Connect to the first node that answers, for one who may wait.

    Raises
    ------
    ConnectionError
        None does.
    """
    nodes = count()
    return _try_each(len(login.url.nodes), lambda: Connection(login, next(nodes)))


def _try_each(nodes: int, connect: Callable[[], Connection]) -> Connection:
    for left in reversed(range(nodes)):
        try:
            return connect()
        except Refused:
            raise
        except ConnectionError:
            if not left:
                raise
    raise ConnectionError("No node is named.")


class Connector:
    """Connects in a thread of its own, to one node after the other.

    Parameters
    ----------
    login
        How to enter.
    prepare
        What to ask of the server before the connection counts.
    """

    def __init__(self, login: Login, prepare: Callable[[Connection], None]) -> None:
        self._login = login
        self._prepare = prepare
        self._node = count(os.getpid())  # so that not all processes begin with the same node
        self._thread: threading.Thread | None = None
        self._result: Connection | ConnectionError | None = None

    def connect(self) -> Connection:
        """Connect now, to the first node that answers.

        Raises
        ------
        ConnectionError
            None does.
        """
        return _try_each(len(self._login.url.nodes), self._make)

    def start(self) -> None:
        """Begin to connect to the next node, unless that is going on."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()

    def fetch(self) -> Connection | None:
        """Return the connection if there is one.

        Raises
        ------
        ConnectionError
            The node cannot be reached, or refuses.
        """
        if self._thread is None or self._thread.is_alive():
            return None
        self._thread = None
        result, self._result = self._result, None
        if isinstance(result, ConnectionError):
            raise result
        return result

    def _run(self) -> None:
        try:
            self._result = self._make()
        except ConnectionError as error:
            self._result = error
        except (OSError, ValueError) as error:
            self._result = ConnectionError(str(error))

    def _make(self) -> Connection:
        made = Connection(self._login, next(self._node))
        try:
            self._prepare(made)
        except BaseException:
            made.close()
            raise
        made.start()
        return made
