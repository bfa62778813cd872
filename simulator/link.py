"""A device's connection to the broker, and the loop that drives many of them in one thread.

Rules
-----
* Each device has its own connection, since a last will belongs to a connection; one thread drives them all.
* While the broker is unreachable packets are queued, and those that it may have lost are resent: see
  `simulator.outbox`.

Knows nothing of what the device sends, or when: the replay and the gateways have it in common.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections.abc import Sequence
from typing import Any, Literal

import paho.mqtt.client as paho

from monitor import wire
from monitor.broker import connection
from monitor.broker.backoff import Backoff
from monitor.broker.connection import BrokerUrl
from simulator.devices import Device
from simulator.outbox import Message, Outbox

MAX_UNACKNOWLEDGED = 50
"""Maximum number of messages of one device in flight to the broker."""
STALLED_S = 10.0
"""A broker that owes confirmations and sends nothing for this long is taken for lost: a dead link reports nothing."""
CONNECT_S = 10.0
"""Timeout for the broker to accept all devices."""
TICK_S = 0.5
"""Interval of the housekeeping: keepalives and reconnects."""
RETRY_S = (0.5, 5.0)
"""First and longest wait before a reconnect; see `Backoff`."""


class DeviceConnection:
    """One device's connection: its outbox and a paho client."""

    def __init__(self, device: Device, client: paho.Client, topics: wire.Topics) -> None:
        self.device, self.client = device, client
        self.outbox = Outbox()
        self._topics = topics
        self.connected = self.closing = self.closed = False
        self.refused: str | None = None
        self.connects = 0
        self._announcement: tuple[Message, ...] = ()
        self._offline_sent = False
        self._unconfirmed: dict[int, Message] = {}  # by packet id
        self._alive_s = 0.0  # when the broker last owed no confirmation, or sent one
        client.max_inflight_messages_set(MAX_UNACKNOWLEDGED)
        client.will_set(topics.of(device.id, "status"), _status("offline"), qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish

    def announce(self, first_seen_s: float) -> None:
        """Set the messages that the device publishes on each connection: info and status, both retained."""
        profile = self.device.profile
        info = wire.Info(
            rate_hz=profile.rate_hz, lead=profile.lead, resolution_uv=profile.resolution_uv, first_seen_s=first_seen_s
        )
        self._announcement = (self._retained("info", wire.encode(info)), self._retained("status", _status("online")))
        if self.connected:
            self._publish_announcement()

    def send(self, leaf: str, payload: bytes, seq: int, start_s: float) -> None:
        """Queue a message that belongs to a packet, and send what can be sent.

        Parameters
        ----------
        leaf, payload
            Last word of the topic, and what is published.
        seq, start_s
            Number of the packet, and its position in the stream.
        """
        topic = self._topics.of(self.device.id, leaf)
        if leaf == "samples":
            self.outbox.put(Message(topic, payload, 1, seq=seq, start_s=start_s))
        else:
            self.outbox.put(Message(topic, payload, 0, start_s=start_s))
        self.pump()

    def close(self) -> None:
        """Publish offline and disconnect once everything is acknowledged; call `pump` until `closed`."""
        self.closing = True
        self.outbox.hurry(time.monotonic())
        self.pump()

    def pump(self) -> None:
        """Pass the client as many messages as may be in flight."""
        now = time.monotonic()
        while self.connected and len(self._unconfirmed) < MAX_UNACKNOWLEDGED:
            message = self.outbox.take(now)
            if message is None:
                break
            self._publish(message)
        if self.closing and self.connected and self.outbox.is_empty and not self._unconfirmed:
            self._disconnect()

    def housekeep(self, now: float) -> None:
        """Send keepalives and probes, and close a dead connection."""
        self.client.loop_misc()
        self.pump()
        sock: Any = self.client.socket()
        if self.connected and not self._unconfirmed:
            self._alive_s = now
        elif sock is not None and now - self._alive_s > STALLED_S:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)  # from here on as if the broker had closed it

    def reconnect(self) -> None:
        """Open a new connection; raise OSError if there is no broker."""
        self._alive_s = time.monotonic()
        self.client.reconnect()

    def _disconnect(self) -> None:
        if self._offline_sent:
            self.closed, self.connected = True, False
            self.client.disconnect()
        else:
            self._offline_sent = True
            self._publish(self._retained("status", _status("offline")))

    def _retained(self, leaf: str, payload: bytes) -> Message:
        return Message(self._topics.of(self.device.id, leaf), payload, 1, retain=True)

    def _publish_announcement(self) -> None:
        for message in self._announcement:
            self._publish(message)

    def _publish(self, message: Message) -> None:
        info = self.client.publish(message.topic, message.payload, message.qos, message.retain)
        if message.qos:
            self._unconfirmed[info.mid] = message

    def _on_connect(self, client: paho.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self.refused = str(reason)
            return
        self.connected, self.refused, self._offline_sent = True, None, False
        self._alive_s = time.monotonic()
        # paho would first send the messages in flight, before older packets that the broker may have lost as well.
        client.drop_out_messages()
        self._unconfirmed.clear()
        client.subscribe(self._topics.of(self.device.id, "ack"), 0)
        self._publish_announcement()
        if self.connects:
            self.outbox.reconnect(time.monotonic())
        self.connects += 1

    def _on_disconnect(self, *_: Any) -> None:
        self.connected = False

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        with contextlib.suppress(wire.PacketError):
            self.outbox.acknowledge(wire.decode(bytes(message.payload), wire.Ack).seq, time.monotonic())

    def _on_publish(self, _client: paho.Client, _data: Any, mid: int, _reason: Any, _properties: Any) -> None:
        self._alive_s = time.monotonic()
        if (message := self._unconfirmed.pop(mid, None)) is not None:
            self.outbox.confirm(message)


def _status(state: Literal["online", "offline"]) -> bytes:
    return wire.encode(wire.DeviceStatus(state=state))


class ConnectionLoop:
    """Network loop of many paho clients in one thread."""

    def __init__(self, links: Sequence[DeviceConnection], url: BrokerUrl) -> None:
        self._links, self._url = links, url
        self._selector = selectors.DefaultSelector()
        self._writing: set[DeviceConnection] = set()
        self._tick_at = self._retry_at = 0.0
        self._backoff = Backoff(*RETRY_S)

    def connect(self) -> None:
        """Connect all devices.

        Raises
        ------
        ConnectionError
            The broker cannot be reached, refuses a device, or does not answer.
        """
        for link in self._links:
            connection.connect(link.client, self._url)
            self._register(link)
        deadline = time.monotonic() + CONNECT_S
        while not all(link.connected for link in self._links):
            self.turn(0.05)
            refused = next((link.refused for link in self._links if link.refused), None)
            if refused:
                raise ConnectionError(f"The broker at {self._url} refuses the connection: {refused}.")
            if time.monotonic() > deadline or any(link.client.socket() is None for link in self._links):
                raise ConnectionError(f"The broker at {self._url} does not answer in MQTT 3.1.1.")

    def turn(self, wait_s: float) -> None:
        """Wait up to `wait_s` for the network, and handle what arrives."""
        for key, events in self._selector.select(max(wait_s, 0)):
            link: DeviceConnection = key.data
            if events & selectors.EVENT_READ:
                _read(link.client)
            if events & selectors.EVENT_WRITE and link.client.socket() is not None:
                link.client.loop_write()
            link.pump()
            self.update(link)

    def update(self, link: DeviceConnection) -> None:
        """Select for what the link waits for now: to write as well, or nothing once its socket is gone."""
        sock = link.client.socket()
        if sock is None:
            self._unregister(link)
        elif link.client.want_write() != (link in self._writing):
            self._writing ^= {link}
            self._selector.modify(sock, _events(link in self._writing), link)

    def housekeep(self, now: float) -> None:
        """Send keepalives and reconnect; cheap to call often."""
        if now < self._tick_at:
            return
        self._tick_at = now + TICK_S
        for link in self._links:
            if link.client.socket() is not None:
                link.housekeep(now)
                self.update(link)
            elif not link.closed and now >= self._retry_at:
                self._reconnect(link, now)

    def close(self) -> None:
        """Close all sockets."""
        for link in self._links:
            sock = link.client.socket()
            if sock is not None:
                sock.close()
        self._selector.close()

    def _reconnect(self, link: DeviceConnection, now: float) -> None:
        """Try once; after a failure no device tries for a while, so that a dead broker does not block the loop."""
        try:
            link.reconnect()
        except OSError:
            self._retry_at = now + self._backoff.next_s()
            return
        self._backoff.reset()
        self._register(link)

    def _register(self, link: DeviceConnection) -> None:
        sock = link.client.socket()
        if sock is not None:
            self._unregister(link)
            self._selector.register(sock, selectors.EVENT_READ, link)
            self.update(link)

    def _unregister(self, link: DeviceConnection) -> None:
        """Unregister the link's old socket, which paho may have closed already."""
        self._writing.discard(link)
        for key in [key for key in self._selector.get_map().values() if key.data is link]:
            self._selector.unregister(key.fileobj)


def _events(writing: bool) -> int:
    return selectors.EVENT_READ | (selectors.EVENT_WRITE if writing else 0)


def _read(client: paho.Client) -> None:
    """Read all that has arrived; TLS may hold decrypted bytes that the selector does not see."""
    client.loop_read()
    while (pending := getattr(client.socket(), "pending", None)) is not None and pending():
        client.loop_read()
