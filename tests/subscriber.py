"""The subscriber of the tests: it keeps all it receives, and can publish."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Self

import paho.mqtt.client as paho

from monitor.broker import connection
from monitor.broker.connection import BrokerUrl


class Subscriber:
    """Connects and subscribes when it is made, and keeps what arrives until it is closed.

    Parameters
    ----------
    url
        The broker.
    topics
        What to subscribe to.
    before
        Called before each message is kept: one that blocks makes a slow subscriber.
    settings
        More of `connection.make_client`.
    """

    def __init__(
        self, url: BrokerUrl, *topics: str, before: Callable[[], object] | None = None, **settings: Any
    ) -> None:
        self.messages: list[paho.MQTTMessage] = []
        self._topics, self._before = topics, before
        self._subscribed = threading.Event()
        self.client = connection.make_client(url, settings.pop("client_id", f"test-{id(self)}"), **settings)
        self.client.max_inflight_messages_set(1000)
        self.client.on_connect = self._on_connect
        self.client.on_subscribe = lambda *_: self._subscribed.set()
        self.client.on_message = self._on_message
        connection.connect(self.client, url)
        self.client.loop_start()
        if topics and not self._subscribed.wait(10):
            self.close()
            raise AssertionError("the broker did not confirm the subscription")

    @property
    def received(self) -> list[tuple[str, bytes]]:
        """Topics and payloads, in order."""
        return [(message.topic, bytes(message.payload)) for message in list(self.messages)]

    def payloads(self, topic: str) -> list[bytes]:
        """Payloads of one topic, in order."""
        return [payload for name, payload in self.received if name == topic]

    def publish(self, topic: str, payload: bytes, retain: bool = False) -> None:
        """Publish, and wait until the broker has confirmed it."""
        self.client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(10)

    def close(self) -> None:
        """Disconnect."""
        self.client.disconnect()
        self.client.loop_stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _on_connect(self, client: paho.Client, *_: Any) -> None:
        if self._topics:
            client.subscribe([(topic, 1) for topic in self._topics])

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        if self._before is not None:
            self._before()
        self.messages.append(message)
