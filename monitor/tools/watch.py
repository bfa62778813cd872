"""Watching alerts from a terminal: one line each, as they come."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass, field
from typing import NoReturn

import msgspec

from monitor import wire
from monitor.broker import connection
from monitor.broker.connection import TlsFiles
from monitor.broker.mqtt import MqttSource
from monitor.broker.source import Message, Source, Subscription
from monitor.device_clock import SLOW_S, tells_time
from monitor.summary import Monitors

log = logging.getLogger(__name__)

POLL_S = 0.25
MOST = 1000
"""Alerts that are read before they are printed."""


def format_alert(payload: bytes, as_json: bool, dated: bool = False, heard_s: float | None = None) -> str:
    """One line of an alert as it was published: the same again, or for a person; see `describe`.

    Raises
    ------
    ValueError
        It is none.
    """
    return plain(payload.decode() if as_json else describe(wire.decode(payload, wire.Alert), dated, heard_s))


def plain(text: str) -> str:
    """One line that a terminal takes for text and for nothing else: what is not printable is written as an escape."""
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)


def describe(alert: wire.Alert, dated: bool = False, heard_s: float | None = None) -> str:
    """One line of an alert, for a person.

    Parameters
    ----------
    alert
        The alert.
    dated
        Whether it need not be of today.
    heard_s
        When it was published, on a clock that is right, if that is known: where its device's clock is another, or it
        came late, both times are told.
    """
    at_s = alert.time_s
    is_far = heard_s is not None and tells_time(alert) and abs(alert.completed_s - heard_s) > SLOW_S
    if heard_s is not None and is_far:
        at_s = heard_s
    words = [
        time.strftime("%Y-%m-%d %H:%M:%S" if dated else "%H:%M:%S", time.localtime(at_s)),
        f"{alert.device:<12}",
        f"{alert.state.upper():<6}",
        f"{alert.severity:<9}",
        f"{alert.kind:<23}",
    ]
    if alert.by is not None:
        words.append(f"by {alert.by}" if alert.comment is None else f"by {alert.by}: {alert.comment}")
    if alert.right is not None:
        words.append("it was right" if alert.right else "it was wrong")
    if alert.text and alert.by is None:
        words.append(alert.text)
    if alert.probability is not None:
        words.append(f"p {alert.probability:.2f}")
    if alert.label not in (None, "normal", "abnormal"):  # these say no more than the kind of the alert and p
        words.append(f"class {alert.label}")
    if alert.beats and not alert.text:
        words.append(f"{alert.beats} abnormal beat{'s' * (alert.beats != 1)}")
    if alert.heart_rate_bpm is not None:
        words.append(f"{alert.heart_rate_bpm:.0f}/min")
    if alert.silenced:
        words.append("[silenced]")
    if alert.state != "new" and alert.by is None and alert.time_s >= alert.since_s:  # else its clock was set back
        words.append(f"after {alert.time_s - alert.since_s:.0f} s")
    if alert.reason is not msgspec.UNSET:
        words.append(f"({'the device is gone' if alert.reason == 'gone' else alert.reason})")
    if is_far:
        words.append(time.strftime("(its clock: %Y-%m-%d %H:%M:%S)", time.localtime(alert.time_s)))
    return "  ".join(words).rstrip()


def watch(source: Source, as_json: bool, device: str | None = None) -> NoReturn:
    """Print the alerts that a source brings until interrupted, one a line; a broker that goes away is waited for.

    Parameters
    ----------
    source
        Subscribed to alerts.
    as_json
        Print each alert as it was published.
    device
        Only its alerts; None: those of all.

    Raises
    ------
    ConnectionError
        The broker cannot be reached at the start, or refuses the connection.
    """
    source.open()
    monitors, states = Monitors(), dict[str, str]()
    while True:
        messages = source.poll(POLL_S, MOST)
        for message in messages:
            if message.topic.endswith("/status"):
                _log_state(message, monitors, states)
            elif device is None or message.topic.endswith(f"/{device}/alerts"):
                print(_format(message, as_json), flush=True)
        source.ack(message.token for message in messages if message.token is not None)
        source.flush()


def _format(message: Message, as_json: bool) -> str:
    try:
        return format_alert(message.payload, as_json, heard_s=time.time())
    except ValueError as error:
        return plain(f"not an alert, on {message.topic}: {error}")


def _log_state(message: Message, monitors: Monitors, states: dict[str, str]) -> None:
    """Log it when a monitor or a fleet goes or comes back: while none is online, no alert means nothing."""
    try:
        name = monitors.take(message.topic.split("/")[-2], message.payload)
    except ValueError:
        return
    status = monitors.shown().get(name)
    state = "offline" if status is None else status.state
    if state == states.get(name, "online" if state != "offline" else ""):
        return
    states[name] = state
    if state == "offline":
        log.warning("the monitor %s is offline: nobody is watched by it", plain(name))
    else:
        log.info("the monitor %s is %s", plain(name), state)


@dataclass(frozen=True, slots=True)
class Watcher:
    """Who watches, and where."""

    broker: connection.BrokerUrl
    topics: wire.Topics
    password: str | None = None
    tls: TlsFiles = field(default_factory=TlsFiles)

    def subscribe(self, *leaves: str, device: str = "+") -> Source:
        """Return a source of these messages of a device, or of all, and of the monitors' statuses."""
        wanted = [
            Subscription(self.topics.of(device, leaf), int(leaf != "samples"), required=leaf == "alerts")
            for leaf in leaves
        ]
        if device == "+":
            wanted.append(Subscription(self.topics.monitor_status("+"), 1, required=False))
        name = f"ecgwatch-watch-{os.getpid()}-{'-'.join(leaves)}"
        return MqttSource(self.broker, name, wanted, password=self.password, tls=self.tls, clean=True)
