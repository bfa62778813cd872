"""Where the broker is and how to reach it: URL, password, TLS, and a paho client set up for all three.

Rules
-----
* A broker is ``mqtt://[user@]host[:port]`` (1883) or ``mqtts://[user@]host[:port]`` (TLS, 8883).
* A password comes from the environment or a file, never from a flag or the URL, where other users of the machine
  and shell histories would show it.
* With TLS the broker must show a certificate for its name; a client certificate is shown to it if there is one.
* The protocol is MQTT 3.1.1, which every broker speaks; the monitor's own source greets in MQTT 5 first
  (`monitor.broker.mqtt`).

Knows nothing of topics, messages, threads or reconnecting.
"""

from __future__ import annotations

import os
import selectors
import socket
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode


class Scheme(NamedTuple):
    """What stands behind the first word of a broker's URL."""

    module: str
    """Has `make_source`, which returns a `monitor.broker.source.Source`; see `monitor.broker.mqtt.MqttSource`."""
    port: int
    """Unless the URL names one."""
    tls: bool


PORT, TLS_PORT = 1883, 8883
SCHEMES = {
    "mqtt": Scheme("monitor.broker.mqtt", PORT, tls=False),
    "mqtts": Scheme("monitor.broker.mqtt", TLS_PORT, tls=True),
}
"""All kinds of brokers."""
DEFAULT_URL = f"mqtt://127.0.0.1:{PORT}"
"""A broker on this machine, such as the embedded one."""
PASSWORD_VARIABLE = "ECGWATCH_PASSWORD"
"""Environment variable that may hold the password."""
ANSWER_S = 10.0
"""How long a broker behind TLS may take to answer the greeting before `connect` returns without the answer."""


@dataclass(frozen=True, slots=True)
class BrokerUrl:
    """Where a broker listens, without its password."""

    host: str
    port: int = PORT
    user: str | None = None
    tls: bool = False
    scheme: str = ""
    """As in `SCHEMES`; mqtt or mqtts if empty."""

    @classmethod
    def parse(cls, url: str) -> BrokerUrl:
        """Parse ``mqtt://[user@]host[:port]`` or ``mqtts://...``; in the user's name %3A is a colon, %40 an @.

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
                f"A broker URL must not hold a password: set {PASSWORD_VARIABLE} or use --password-file instead. "
                "A colon in the user's name, as in vhost:user, is written %3A: mqtt://vhost%3Auser@host."
            )
        if scheme not in SCHEMES or not host or parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ValueError(f"Not a broker URL: got {url!r}, {expected}.")
        if port == 0:
            raise ValueError(f"A broker's port must be 1 to 65535: got 0 in {url!r}.")
        _, usual_port, tls = SCHEMES[scheme]
        return cls(host, port or usual_port, unquote(user) if user else None, tls, scheme)

    def __post_init__(self) -> None:
        if not self.scheme:
            object.__setattr__(self, "scheme", "mqtts" if self.tls else "mqtt")

    def __str__(self) -> str:
        """Return the URL, as it may be shown to anyone."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = f"{self.user}@" if self.user else ""
        return f"{self.scheme}://{user}{host}:{self.port}"


def read_password(url: BrokerUrl, file: Path | None = None) -> str | None:
    """Return the password for the URL's user: from `file` if given, else from the environment, else None.

    White space at the end of the file is no part of it.

    Raises
    ------
    ValueError
        The file cannot be read, is empty or has several lines, or the URL names no user whose password it could be.
    """
    if file is None:
        return os.environ[PASSWORD_VARIABLE].rstrip("\r\n") if url.user and PASSWORD_VARIABLE in os.environ else None
    if url.user is None:
        raise ValueError(f"A password needs a user: got {url}, expected {'mqtts' if url.tls else 'mqtt'}://user@host.")
    try:
        password = _read_text(file).rstrip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"The password file {file} cannot be read: {error}.") from None
    if not password:
        raise ValueError(f"The password file {file} is empty.")
    if (lines := len(password.splitlines())) > 1:
        raise ValueError(f"The password file {file} must hold one line, the password: got {lines} lines.")
    return password


def _read_text(file: Path) -> str:
    """Text of a file in UTF-8, or in UTF-16 as some shells write it, without its byte order mark."""
    content = file.read_bytes()
    return content.decode("utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")


def make_client(
    url: BrokerUrl,
    client_id: str,
    *,
    password: str | None = None,
    cafile: Path | None = None,
    certfile: Path | None = None,
    keyfile: Path | None = None,
    clean_session: bool = True,
    kind: type[paho.Client] = paho.Client,
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
    certfile
        PEM file of the client certificate to show with TLS, and of those that vouch for it.
    keyfile
        PEM file of its private key, unencrypted; `certfile` holds it as well if None.
    clean_session
        False keeps the session (subscriptions, unacknowledged messages) in the broker between connections.
    kind
        Which kind of client.

    Raises
    ------
    ValueError
        A file of TLS cannot be read or is given without TLS, or the key is not that of the certificate.
    """
    tls = TlsFiles(cafile, certfile, keyfile)
    client = kind(CallbackAPIVersion.VERSION2, client_id, clean_session, protocol=paho.MQTTv311)
    if url.user is not None:
        client.username_pw_set(url.user, password)
    if url.tls:
        client.tls_set_context(tls.context())
    elif given := tls.first_given():
        raise ValueError(f"A {given} is only used with TLS: got {url}, expected mqtts://.")
    client.on_socket_open = _send_at_once
    return client


class GreetingEnded(ConnectionError):
    """A broker ended a connection over TLS instead of answering the greeting."""


def connect(client: paho.Client, url: BrokerUrl, keepalive_s: int = 30) -> None:
    """Open the connection and send the MQTT greeting; the broker's answer comes to ``client.on_connect``.

    With TLS the answer is waited for, and ``client.on_connect`` called, before this returns.

    Raises
    ------
    ConnectionError
        There is no broker at that address, or TLS fails.
    GreetingEnded
        The broker ends the connection after TLS has begun.
    """
    logged: list[str] = []
    client.on_log = lambda _client, _data, _level, text: logged.append(text)
    try:
        client.connect(url.host, url.port, keepalive_s)
    except OSError as error:  # ssl.SSLError and socket.gaierror included
        raise ConnectionError(f"No broker reached at {url}: {error}.") from None
    answered = not url.tls or _await_answer(client)
    client.on_log = None
    if not answered:
        reasons = [text.partition("on socket: ")[2] for text in logged if "on socket: " in text]
        raise GreetingEnded(
            f"The broker at {url} ended the TLS connection: {reasons[-1] if reasons else 'it gave no reason'}. "
            "Does it want a client certificate, or one of another authority?"
        )


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The PEM files of a TLS connection; see `make_client`."""

    cafile: Path | None = None
    certfile: Path | None = None
    keyfile: Path | None = None

    def first_given(self) -> str | None:
        """Name a file that is given."""
        names = {"CA file": self.cafile, "client certificate": self.certfile, "client key": self.keyfile}
        return next((name for name, file in names.items() if file is not None), None)

    def context(self) -> ssl.SSLContext:
        """Return what the ssl module needs.

        Raises
        ------
        ValueError
            A file cannot be read, or the key is not that of the certificate.
        """
        try:
            context = ssl.create_default_context(cafile=self.cafile)
        except OSError as error:
            raise ValueError(f"The CA file {self.cafile} cannot be used: {error}.") from None
        if self.certfile is not None:
            self._load_certificate(context, self.certfile)
        elif self.keyfile is not None:
            raise ValueError(f"A client key needs its certificate: got {self.keyfile}, expected a certificate as well.")
        return context

    def _load_certificate(self, context: ssl.SSLContext, certfile: Path) -> None:
        key = self.keyfile or certfile
        for name, file in (("client certificate", certfile), ("client key", key)):
            try:
                file.read_bytes()  # the ssl module does not say which of the two it could not read
            except OSError as error:
                raise ValueError(f"The {name} {file} cannot be read: {error.strerror}.") from None
        try:
            context.load_cert_chain(certfile, key, password=_no_passphrase)
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise ValueError(f"The client key {key} is not that of the certificate {certfile}.") from None
            raise ValueError(f"The client certificate {certfile} with the key {key} cannot be used: {error}.") from None


def _no_passphrase() -> str:
    """Refuse an encrypted key, for which OpenSSL would ask at the terminal."""
    raise ValueError("The client key must not be encrypted: a service has nobody to ask for the passphrase.")


def _await_answer(client: paho.Client) -> bool:
    """Wait for the broker's answer; False if it ended the connection instead.

    Only there does TLS 1.3 show that a broker refuses our certificate, or wants one.
    """
    until_s = time.monotonic() + ANSWER_S
    while not client.is_connected() and time.monotonic() < until_s:
        sock = client.socket()
        if sock is None:
            return False
        if _readable(sock, ANSWER_S):
            result = client.loop_read()
            if result != MQTTErrorCode.MQTT_ERR_SUCCESS:  # a refusal in MQTT has come to `on_connect`
                return result in (MQTTErrorCode.MQTT_ERR_CONN_REFUSED, MQTTErrorCode.MQTT_ERR_PROTOCOL)  # in MQTT 5
    return True


def _readable(sock: Any, wait_s: float) -> bool:
    with selectors.DefaultSelector() as selector:  # select.select knows no socket beyond the 1024th
        selector.register(sock, selectors.EVENT_READ)
        return bool(selector.select(wait_s))


def _send_at_once(_client: paho.Client, _userdata: Any, sock: Any) -> None:
    """Turn Nagle's algorithm off: it holds small packets back for up to 40 ms."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
