"""Where the broker is and how to reach it: URL, password, TLS, and a paho client set up for all three.

Rules
-----
* A broker is ``mqtt://[user@]host[:port]`` (1883) or ``mqtts://[user@]host[:port]`` (TLS, 8883).
* A password comes from the environment or a file, never from a flag or the URL, where other users of the machine
  and shell histories would show it.
* The protocol is MQTT 3.1.1: every broker speaks it, nothing of the wire needs more, and paho reads it in two thirds
  of the time that MQTT 5 takes.

Knows nothing of topics, messages, threads or reconnecting.
"""

from __future__ import annotations

import os
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

PORT, TLS_PORT = 1883, 8883
DEFAULT_URL = f"mqtt://127.0.0.1:{PORT}"
"""A broker on this machine, such as the embedded one."""
PASSWORD_VARIABLE = "ECGWATCH_PASSWORD"
"""Environment variable that may hold the password."""


@dataclass(frozen=True, slots=True)
class BrokerUrl:
    """Where a broker listens, without its password."""

    host: str
    port: int = PORT
    user: str | None = None
    tls: bool = False

    @classmethod
    def parse(cls, url: str) -> BrokerUrl:
        """Parse ``mqtt://[user@]host[:port]`` or ``mqtts://...``.

        Raises
        ------
        ValueError
            It is no such URL, or it holds a password.
        """
        expected = "expected mqtt://[user@]host[:port] or mqtts://[user@]host[:port]"
        try:
            parts = urlsplit(url)
            scheme, host, port, user, password = (
                parts.scheme,
                parts.hostname,
                parts.port,
                parts.username,
                parts.password,
            )
        except ValueError as error:
            raise ValueError(f"Not a broker URL ({error}): {expected}.") from None
        if password is not None:  # not repeated in the message: it would end up in logs
            raise ValueError(
                f"A broker URL must not hold a password: set {PASSWORD_VARIABLE} or use --password-file instead."
            )
        if scheme not in ("mqtt", "mqtts") or not host or parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ValueError(f"Not a broker URL: got {url!r}, {expected}.")
        if port == 0:
            raise ValueError(f"A broker's port must be 1 to 65535: got 0 in {url!r}.")
        tls = scheme == "mqtts"
        return cls(host, port or (TLS_PORT if tls else PORT), unquote(user) if user else None, tls)

    def __str__(self) -> str:
        """Return the URL, as it may be shown to anyone."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = f"{self.user}@" if self.user else ""
        return f"mqtt{'s' if self.tls else ''}://{user}{host}:{self.port}"


def read_password(url: BrokerUrl, file: Path | None = None) -> str | None:
    """Return the password for the URL's user: from `file` if given, else from the environment, else None.

    Raises
    ------
    ValueError
        The file cannot be read or is empty, or the URL names no user whose password it could be.
    """
    if file is None:
        return os.environ.get(PASSWORD_VARIABLE) if url.user else None
    if url.user is None:
        raise ValueError(f"A password needs a user: got {url}, expected {'mqtts' if url.tls else 'mqtt'}://user@host.")
    try:
        password = file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"The password file {file} cannot be read: {error}.") from None
    if not password:
        raise ValueError(f"The password file {file} is empty.")
    return password


def make_client(
    url: BrokerUrl,
    client_id: str,
    *,
    password: str | None = None,
    cafile: Path | None = None,
    clean_session: bool = True,
) -> paho.Client:
    """Return a paho client set up for that broker, not yet connected; see `connect`.

    Parameters
    ----------
    url
        The broker; its user name is used if it has one.
    client_id
        Client id; the session is known to the broker by it.
    password
        Password of the URL's user.
    cafile
        PEM file of the certificate authorities to trust with TLS; those of the system if None.
    clean_session
        False keeps the session (subscriptions, unacknowledged messages) in the broker between connections.

    Raises
    ------
    ValueError
        The CA file cannot be read or is given without TLS.
    """
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id, clean_session, protocol=paho.MQTTv311)
    if url.user is not None:
        client.username_pw_set(url.user, password)
    if url.tls:
        client.tls_set_context(_tls_context(cafile))
    elif cafile is not None:
        raise ValueError(f"A CA file is only used with TLS: got {url}, expected mqtts://.")
    client.on_socket_open = _send_at_once
    return client


def connect(client: paho.Client, url: BrokerUrl, keepalive_s: int = 30) -> None:
    """Open the connection and send the MQTT greeting; the broker's answer comes to ``client.on_connect``.

    Raises
    ------
    ConnectionError
        There is no broker at that address, or TLS fails.
    """
    try:
        client.connect(url.host, url.port, keepalive_s)
    except OSError as error:  # ssl.SSLError and socket.gaierror included
        raise ConnectionError(f"No broker reached at {url}: {error}.") from None


def _tls_context(cafile: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=cafile)
    except OSError as error:
        raise ValueError(f"The CA file {cafile} cannot be used: {error}.") from None


def _send_at_once(_client: paho.Client, _userdata: Any, sock: Any) -> None:
    """Turn Nagle's algorithm off: it holds small packets back for up to 40 ms."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
