"""Watching alerts from a terminal: one line each, as they come."""

from __future__ import annotations

import time
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.reasoncodes import ReasonCode

from monitor import wire
from monitor.broker import connection


def tell(payload: bytes, as_json: bool, dated: bool = False) -> str:
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


class Watcher:
    """Subscribes to the alerts of all devices and prints each.

    Parameters
    ----------
    as_json
        Print the alert as it was published, one a line.
    """

    def __init__(self, client: paho.Client, topics: wire.Topics, as_json: bool) -> None:
        self._topics = topics
        self._as_json = as_json
        self._refused: str | None = None
        self._client = client
        client.on_connect = self._on_connect
        client.on_message = self._on_message

    def run(self, broker: connection.BrokerUrl) -> None:
        """Print until interrupted; a broker that goes away is waited for.

        Raises
        ------
        ConnectionError
            The broker cannot be reached at the start, or refuses the connection.
        """
        connection.connect(self._client, broker)
        self._client.loop_forever()
        raise ConnectionError(f"The broker {broker} refused the connection: {self._refused}.")

    def _on_connect(self, client: paho.Client, _data: Any, _flags: Any, reason: ReasonCode, _props: Any) -> None:
        if reason.is_failure:
            self._refused = str(reason)
            client.disconnect()
        else:
            client.subscribe(self._topics.of("+", "alerts"), 1)

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        payload = bytes(message.payload)
        try:
            line = tell(payload, self._as_json)
        except ValueError as error:
            line = plain(f"not an alert, on {message.topic}: {error}")
        print(line, flush=True)
