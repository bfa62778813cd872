"""The page's connection to the broker: paho's thread on one side, the page's event loop on the other.

It reconnects by itself and subscribes again to all that is wanted. Where more comes than is taken, the oldest goes.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import paho.mqtt.client as paho

from monitor.broker import connection
from monitor.page.hub import Heard
from monitor.page.settings import PageSettings

log = logging.getLogger(__name__)

MOST_WAITING = 50_000
"""Messages."""
RETRY_S = 5
"""Longest time between two attempts to connect."""


class Feed:
    """A connection to the broker, for the event loop in which it is started.

    Parameters
    ----------
    settings
        Where the broker is.

    Raises
    ------
    ValueError
        A file of TLS or the password's cannot be used.
    """

    def __init__(self, settings: PageSettings) -> None:
        client_id = f"ecgwatch-page-{secrets.token_hex(6)}"
        self.answer_name = settings.broker.user or client_id
        """Under which name answers come: the user's, to which a broker may hold whoever reads them."""
        self._url = settings.broker
        self._client = connection.make_client(
            settings.broker,
            client_id,
            password=connection.read_password(settings.broker, settings.password_file),
            **asdict(settings.tls),
        )
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        self._client.reconnect_delay_set(1, RETRY_S)
        self._wanted: dict[str, int] = {}
        self._lock = threading.Lock()
        self._waiting: deque[Heard] = deque(maxlen=MOST_WAITING)
        self._is_called = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, on_messages: Callable[[list[Heard]], None], on_connected: Callable[[bool], None]) -> None:
        """Connect, now or when the broker is there; call back in the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._on_messages, self._on_connected = on_messages, on_connected
        self._client.connect_async(self._url.host, self._url.port, keepalive=30)
        self._client.loop_start()

    def stop(self) -> None:
        """Disconnect."""
        self._loop = None
        self._client.disconnect()
        self._client.loop_stop()

    def subscribe(self, topic: str, qos: int) -> None:
        """Hear a topic from now on, also after a new connection."""
        with self._lock:
            self._wanted[topic] = qos
        if self._client.is_connected():
            self._client.subscribe(topic, qos)

    def unsubscribe(self, topic: str) -> None:
        """Hear it no more."""
        with self._lock:
            self._wanted.pop(topic, None)
        if self._client.is_connected():
            self._client.unsubscribe(topic)

    def publish(self, topic: str, payload: bytes, retain: bool = False) -> None:
        """Publish with QoS 1.

        Raises
        ------
        ConnectionError
            There is no broker.
        """
        if not self._client.is_connected():
            raise ConnectionError(f"There is no connection to the broker at {self._url}.")
        self._client.publish(topic, payload, qos=1, retain=retain)

    def _on_connect(self, client: paho.Client, _data: Any, _flags: Any, reason: Any, _more: Any) -> None:
        if reason.is_failure:
            log.warning("the broker at %s refuses the page: %s", self._url, reason)
            return
        with self._lock:
            wanted = list(self._wanted.items())
        if wanted:
            client.subscribe(wanted)
        self._call(self._on_connected, True)

    def _on_disconnect(self, *_: Any) -> None:
        self._call(self._on_connected, False)

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        try:
            heard = Heard(message.topic, bytes(message.payload), message.retain)
        except UnicodeDecodeError:
            return
        with self._lock:
            self._waiting.append(heard)
            if self._is_called:
                return
            self._is_called = True
        self._call(self._drain)

    def _drain(self) -> None:
        with self._lock:
            waiting = list(self._waiting)
            self._waiting.clear()
            self._is_called = False
        self._on_messages(waiting)

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        """Call in the event loop; not at all once that has ended."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(function, *arguments)
