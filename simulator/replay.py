"""Play feeds to an MQTT broker, in real time or faster.

Rules
-----
* Each packet has a target time relative to the start: a late packet delays no other, so the clock never drifts.
* A packet is published when its last sample is due. `start_s` is the true UTC time of its first sample at
  speed 1; at speed N the device's clock runs N times faster.
* A device's clock starts on a whole multiple of 8 ms, the grid of 125 Hz, and the devices start staggered within
  the length of a packet, as real ones would.
* Each device has its own connection, since a last will belongs to a connection; one thread drives them all.
* The truth of a beat is published right after the packet that completes its window.
* While the broker is unreachable packets are queued, and those that it may have lost are resent: see
  `simulator.outbox`.
"""

from __future__ import annotations

import contextlib
import heapq
import math
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import paho.mqtt.client as paho

from monitor import beat, wire
from monitor.broker import connection
from monitor.broker.backoff import Backoff
from monitor.broker.connection import BrokerUrl
from simulator.devices import Device, Feed
from simulator.outbox import Message, Outbox
from simulator.packets import Outgoing, at
from simulator.stream import Played

OnBeat = Callable[[Device, wire.Truth, beat.Windows | None], None]
"""Called for each beat once its truth is sent: the device, the truth, and the original window if there is one."""

MAX_UNACKNOWLEDGED = 50
"""Maximum number of messages of one device in flight to the broker."""
LATENESS_KEPT = 100_000
"""Number of latest packets whose lateness is kept."""
STALLED_S = 10.0
"""A broker that owes confirmations and sends nothing for this long is taken for lost: a dead link reports nothing."""
CONNECT_S = 10.0
"""Timeout for the broker to accept all devices."""
DRAIN_S = 10.0
"""How long to wait at the end for missing acknowledgements."""
TICK_S = 0.5
"""Interval of the housekeeping: keepalives and reconnects."""
RETRY_S = (0.5, 5.0)
"""First and longest wait before a reconnect; see `Backoff`."""


@dataclass(frozen=True, slots=True)
class Summary:
    """The counts of a replay."""

    devices: int
    packets: int
    """Messages on the samples topics, including garbage and duplicates."""
    acknowledged: int
    """Packets that the broker or the monitor has acknowledged."""
    dropped: int
    """Packets that became too old before they were acknowledged at all."""
    expired: int
    """Packets that the broker has acknowledged, but that no monitor did in time, although there was one."""
    resent: int
    """Number of resends."""
    beats: int
    """Beats whose truth was sent."""
    reconnects: int
    seconds: float
    lateness_p50_s: float
    """Median time between a packet's target time and its publication."""
    lateness_p99_s: float

    @property
    def lost(self) -> int:
        """Packets that were never acknowledged."""
        return self.packets - self.acknowledged

    def __str__(self) -> str:
        """Format for people, in one line."""
        return (
            f"{self.devices} devices, {self.seconds:.1f} s: {self.packets} packets sent, "
            f"{self.acknowledged} acknowledged, {self.lost} lost, {self.resent} resent, {self.beats} beats played, "
            f"{self.reconnects} reconnects, lateness p50 {1e3 * self.lateness_p50_s:.1f} ms, "
            f"p99 {1e3 * self.lateness_p99_s:.1f} ms"
        )


class _Connection:
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

    def send(self, leaf: str, payload: bytes, outgoing: Outgoing) -> None:
        """Queue a message that belongs to a packet, and send what can be sent."""
        topic, start_s = self._topics.of(self.device.id, leaf), outgoing.span_s[0]
        if leaf == "samples":
            self.outbox.put(Message(topic, payload, 1, seq=outgoing.packet.seq, start_s=start_s))
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


class _Loop:
    """Network loop of many paho clients in one thread."""

    def __init__(self, links: Sequence[_Connection], url: BrokerUrl) -> None:
        self._links, self._url = links, url
        self._selector = selectors.DefaultSelector()
        self._writing: set[_Connection] = set()
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
            link: _Connection = key.data
            if events & selectors.EVENT_READ:
                _read(link.client)
            if events & selectors.EVENT_WRITE and link.client.socket() is not None:
                link.client.loop_write()
            link.pump()
            self.update(link)

    def update(self, link: _Connection) -> None:
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

    def _reconnect(self, link: _Connection, now: float) -> None:
        """Try once; after a failure no device tries for a while, so that a dead broker does not block the loop."""
        try:
            link.reconnect()
        except OSError:
            self._retry_at = now + self._backoff.next_s()
            return
        self._backoff.reset()
        self._register(link)

    def _register(self, link: _Connection) -> None:
        sock = link.client.socket()
        if sock is not None:
            self._unregister(link)
            self._selector.register(sock, selectors.EVENT_READ, link)
            self.update(link)

    def _unregister(self, link: _Connection) -> None:
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


class Replay:
    """A player of feeds to a broker.

    Parameters
    ----------
    feeds
        The feeds; see `simulator.devices`.
    url
        The broker.
    speed
        Factor relative to real time.
    topics
        Names of the topics.
    password, cafile, certfile, keyfile
        See `monitor.broker.connection.make_client`.
    on_beat
        Called for each beat, from the thread of `run`.

    Raises
    ------
    ValueError
        There are no feeds, two devices have the same id, or the speed is not positive.
    """

    def __init__(
        self,
        feeds: Sequence[Feed],
        url: BrokerUrl,
        *,
        speed: float = 1.0,
        topics: wire.Topics | None = None,
        password: str | None = None,
        cafile: Path | None = None,
        certfile: Path | None = None,
        keyfile: Path | None = None,
        on_beat: OnBeat | None = None,
    ) -> None:
        ids = [feed.device.id for feed in feeds]
        if not ids or len(set(ids)) != len(ids):
            raise ValueError(f"A replay needs devices with different ids: got {ids}.")
        if not 0 < speed < math.inf:
            raise ValueError(f"Speed must be a positive number: got {speed}.")
        self._speed, self._on_beat = speed, on_beat
        self._packets: list[Iterator[tuple[Outgoing, tuple[Played, ...]]]] = [feed.packets() for feed in feeds]
        self._next: list[tuple[Outgoing, tuple[Played, ...]] | None] = [None] * len(feeds)
        self._lateness: deque[float] = deque(maxlen=LATENESS_KEPT)
        self._beats = 0
        # A client id names the run as well: a second simulator must not take over the sessions of the first.
        run = f"{time.time_ns() & 0xFFFFFFFF:08x}"
        self._links = [
            _Connection(
                feed.device,
                connection.make_client(
                    url,
                    f"{feed.device.id}-{run}",
                    password=password,
                    cafile=cafile,
                    certfile=certfile,
                    keyfile=keyfile,
                ),
                topics or wire.Topics(),
            )
            for feed in feeds
        ]
        self._loop = _Loop(self._links, url)
        self._epochs = [0.0] * len(feeds)  # UTC at the start of each device's stream
        self._starts = [0.0] * len(feeds)  # the same on the monotonic clock

    def run(self, stop: threading.Event | None = None, duration_s: float | None = None) -> Summary:
        """Play until all feeds have ended, `stop` is set, or `duration_s` of real time have passed.

        Raises
        ------
        ConnectionError
            The broker cannot be reached, or refuses the devices. Once all are connected, the replay waits for a
            broker that goes away.
        """
        stop = stop or threading.Event()
        try:
            self._loop.connect()
            started = time.monotonic()
            self._play(started, math.inf if duration_s is None else started + duration_s, stop)
            seconds = time.monotonic() - started
            self._drain()
        finally:
            self._loop.close()
        return self._summarise(seconds)

    def _play(self, started: float, end: float, stop: threading.Event) -> None:
        """Send each packet when it is due, and run the network loop in between."""
        schedule = self._schedule(started)
        heapq.heapify(schedule)
        while schedule and not stop.is_set():
            now = time.monotonic()
            if now >= end:
                break
            due, number = schedule[0]
            if due > now:
                self._loop.turn(min(due, end, now + 0.1) - now)
                self._loop.housekeep(now)
                continue
            self._lateness.append(now - due)
            self._send(number)
            if self._prepare(number):
                heapq.heapreplace(schedule, (self._due(number), number))
            else:
                heapq.heappop(schedule)
                self._links[number].close()
            self._loop.update(self._links[number])
            self._loop.turn(0)

    def _schedule(self, started: float) -> list[tuple[float, int]]:
        """Start the devices' clocks and return when the first packet of each is due."""
        utc = time.time()
        schedule = []
        for number, link in enumerate(self._links):
            profile = link.device.profile
            stagger = profile.packet_samples / profile.rate_hz / self._speed * number / len(self._links)
            epoch = math.ceil((utc + stagger) * beat.RATE_HZ) / beat.RATE_HZ
            self._epochs[number], self._starts[number] = epoch, started + epoch - utc
            link.announce(epoch)
            link.pump()
            if self._prepare(number):
                schedule.append((self._due(number), number))
            else:
                link.close()
        return schedule

    def _prepare(self, number: int) -> bool:
        """Prepare a device's next packet, before it is due; False at the end of its feed."""
        self._next[number] = next(self._packets[number], None)
        return self._next[number] is not None

    def _due(self, number: int) -> float:
        """Return when a device's next packet is due, on the monotonic clock."""
        prepared = self._next[number]
        assert prepared is not None
        return self._starts[number] + prepared[0].due_s / self._speed

    def _send(self, number: int) -> None:
        """Send a device's next packet, and the truth of the beats that are complete with it."""
        prepared = self._next[number]
        assert prepared is not None
        outgoing, beats = prepared
        link, epoch = self._links[number], self._epochs[number]
        if outgoing.garbage is not None:
            link.send("samples", outgoing.garbage, outgoing)
        elif not outgoing.lost:
            link.send("samples", wire.encode_packet(at(outgoing.packet, epoch)), outgoing)
        for played in beats:
            truth = wire.Truth(
                r_peak_s=epoch + played.r_peak_s,
                label=played.label,
                source=played.source,
                duration_s=played.duration_s,
            )
            link.send("truth", wire.encode(truth), outgoing)
            self._beats += 1
            if self._on_beat is not None:
                self._on_beat(link.device, truth, played.window)

    def _drain(self) -> None:
        """Wait until the broker has acknowledged everything, and disconnect."""
        for link in self._links:
            if not link.closing:
                link.close()
        deadline = time.monotonic() + DRAIN_S
        while not all(link.closed for link in self._links) and (now := time.monotonic()) < deadline:
            self._loop.turn(0.02)
            self._loop.housekeep(now)

    def _summarise(self, seconds: float) -> Summary:
        late = np.percentile(self._lateness or [0.0], [50, 99])
        return Summary(
            devices=len(self._links),
            packets=sum(link.outbox.packets for link in self._links),
            acknowledged=sum(link.outbox.confirmed for link in self._links),
            dropped=sum(link.outbox.dropped for link in self._links),
            expired=sum(link.outbox.expired for link in self._links),
            resent=sum(link.outbox.resent for link in self._links),
            beats=self._beats,
            reconnects=sum(max(link.connects - 1, 0) for link in self._links),
            seconds=seconds,
            lateness_p50_s=float(late[0]),
            lateness_p99_s=float(late[1]),
        )
