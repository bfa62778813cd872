"""A subscriber that records all messages."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Self

import paho.mqtt.client as paho

from monitor.broker import connection
from monitor.broker.connection import BrokerUrl


class Recorder:
    """Records messages while its context is open."""

    def __init__(self, url: BrokerUrl, *topics: str, before: Callable[[], object] | None = None) -> None:
        self.messages: list[paho.MQTTMessage] = []
        self.client = connection.make_client(url, f"recorder-{id(self)}")
        self.client.max_inflight_messages_set(1000)
        self._url, self._topics, self._before = url, topics, before
        self._ready = threading.Event()
        self.client.on_connect = self._on_connect
        self.client.on_subscribe = lambda *_: self._ready.set()
        self.client.on_message = self._on_message

    def __enter__(self) -> Self:
        connection.connect(self.client, self._url)
        self.client.loop_start()
        assert self._ready.wait(10), "the broker did not confirm the subscription"
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def payloads(self, topic: str) -> list[bytes]:
        """Payloads of one topic, in order."""
        return [bytes(message.payload) for message in list(self.messages) if message.topic == topic]

    def _on_connect(self, *_: Any) -> None:
        self.client.subscribe([(topic, 1) for topic in self._topics])

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        if self._before is not None:
            self._before()
        self.messages.append(message)


def wait_for(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    """Wait until a condition is true, or fail."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not true after {timeout_s:g} s"
        time.sleep(0.01)
