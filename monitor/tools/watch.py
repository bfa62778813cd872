"""Watching alerts from a terminal: one line each, as they come."""

from __future__ import annotations

import os
import time
from typing import NoReturn

from monitor import wire
from monitor.broker import connection
from monitor.broker.connection import TlsFiles
from monitor.broker.mqtt import MqttSource
from monitor.broker.source import Source, Subscription

POLL_S = 0.25
MOST = 1000
"""Alerts that are read before they are printed."""


def format_alert(payload: bytes, as_json: bool, dated: bool = False) -> str:
    """One line of an alert as it was published: the same again, or for a person; see `describe`.

    Raises
    ------
    ValueError
        It is none.
    """
    return plain(payload.decode() if as_json else describe(wire.decode(payload, wire.Alert), dated))


def plain(text: str) -> str:
    """One line that a terminal takes for text and for nothing else: what is not printable is written as an escape."""
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)


def describe(alert: wire.Alert, dated: bool = False) -> str:
    """One line of an alert, for a person; `dated` if it need not be of today."""
    words = [
        time.strftime("%Y-%m-%d %H:%M:%S" if dated else "%H:%M:%S", time.localtime(alert.time_s)),
        f"{alert.device:<12}",
        f"{alert.state.upper():<6}",
        f"{alert.kind:<14}",
    ]
    if alert.probability is not None:
        words.append(f"p {alert.probability:.2f}")
    if alert.label not in (None, "normal", "abnormal"):  # these say no more than the kind of the alert and p
        words.append(f"class {alert.label}")
    if alert.beats:
        words.append(f"{alert.beats} abnormal beat{'s' * (alert.beats != 1)}")
    if alert.heart_rate_bpm is not None:
        words.append(f"{alert.heart_rate_bpm:.0f}/min")
    if alert.state != "new" and alert.time_s >= alert.since_s:  # else its clock was set back
        words.append(f"after {alert.time_s - alert.since_s:.0f} s")
    return "  ".join(words).rstrip()


def watch(source: Source, as_json: bool) -> NoReturn:
    """Print the alerts that a source brings until interrupted, one a line; a broker that goes away is waited for.

    Parameters
    ----------
    source
        Subscribed to alerts.
    as_json
        Print each alert as it was published.

    Raises
    ------
    ConnectionError
        The broker cannot be reached at the start, or refuses the connection.
    """
    source.open()
    while True:
        for message in source.poll(POLL_S, MOST):
            try:
                line = format_alert(message.payload, as_json)
            except ValueError as error:
                line = plain(f"not an alert, on {message.topic}: {error}")
            print(line, flush=True)
        source.flush()


def subscribe(broker: connection.BrokerUrl, topics: wire.Topics, password: str | None, tls: TlsFiles) -> Source:
    """Return a source of the alerts of all devices."""
    wanted = [Subscription(topics.of("+", "alerts"), 1)]
    return MqttSource(broker, f"ecgwatch-watch-{os.getpid()}", wanted, password=password, tls=tls, clean=True)
