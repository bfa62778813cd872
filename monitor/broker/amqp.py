"""A RabbitMQ cluster as a source of packets: partitions of the fleet, dealt out to any number of processes.

Devices speak MQTT to the cluster; it sorts their packets into partitions (`monitor.broker.topology`), and this source
consumes those that it is given. What the monitor publishes goes out over MQTT as ever (`monitor.broker.mqtt`): alerts
are confirmed, the status is retained, and a last will says when a process dies.

Who gets a partition
--------------------
* Each partition has a channel. All processes ask for all partitions; RabbitMQ gives each to the first in line.
* A channel that ends, with its process or alone, gives back what was not acknowledged: RabbitMQ puts it in its place
  again, and the next in line gets it first. So a partition moves without a gap, and in order.
* The process that has more than its share closes the channels of the surplus, and stands in line again at the end. How
  many share is how many consume from a queue that is there to be counted. A partition that comes back soon after it was
  left is kept: nobody wants it. (A node that is down leaves the consumers of its clients in the count.)
* A process that is frozen is noticed by its heartbeats, and loses its connection, and so its partitions.

What people ask comes by a queue of its own to any process, which passes it on to the partition of the device that it is
about: whoever has that answers, and nobody else. What names no device is answered by whoever has a certain partition.

Nothing is ever negatively acknowledged, no priorities are used, and no process knows of another.
"""

from __future__ import annotations

import logging
import math
import select
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

from pika import spec

from monitor import wire
from monitor.broker.amqp_connection import Connection, Connector, Login, Refused
from monitor.broker.amqp_frames import Delivery, Reply, encode, encode_acks, encode_publish
from monitor.broker.backoff import Backoff
from monitor.broker.gather import Gathering
from monitor.broker.mqtt import MqttSource
from monitor.broker.source import Message, Source
from monitor.broker.topology import SWAP, TOPIC_EXCHANGE, Topology

log = logging.getLogger(__name__)

PREFETCH = 5000
"""So many unacknowledged messages of a partition, at most, have come: ten seconds' worth of 500 devices that send each
second. What comes while none may be returned waits here."""
SURVEY_S = 2.0
"""How often to ask how many processes share the partitions."""
BACK_S, KEEP_S = 15.0, 300.0
"""A partition that comes back within the first time after it was left is kept for the second."""
CONTROL, REQUESTS = 1, 2
"""Channels for questions to the server, and for what people ask."""
FEW = 100
"""So many requests are on their way to their partitions."""
NOBODY = "monitor"
"""A request that names no device goes where one of this name would be."""
TOPIC = TOPIC_EXCHANGE.encode()
MOST_HEARD = 1000
"""Requests that all processes hear are taken in such pieces."""
TAG_BITS, CHANNEL_BITS = 48, 16
"""A token is the numbers of the connection, of the channel, and of the delivery; those of MQTT are shorter."""
MOST_CHANNELS = 2000
"""Numbers of channels are used again after so many."""


class Unacked:
    """Deliveries of a channel that are not acknowledged, in order."""

    def __init__(self) -> None:
        self.tags: deque[int] = deque()
        self._early: set[int] = set()  # acknowledged, while one before is not

    def ack(self, channel: int, tags: Iterable[int]) -> bytes:
        """Return what acknowledges deliveries: those at the front together, others one by one."""
        singly: list[int] = []
        last = 0
        for tag in tags:
            if self.tags and self.tags[0] == tag:
                last = self.tags.popleft()
            else:
                singly.append(tag)
                self._early.add(tag)
            while self._early and self.tags and self.tags[0] in self._early:
                self._early.discard(self.tags.popleft())
        together = encode_acks([(channel, last)]) if last else b""
        rest = [(channel, tag) for tag in singly if tag > last]  # a tag twice would cost the connection
        return together + encode_acks(rest, multiple=False)


class AmqpSource(Source):
    """A consumer of the partitions of a fleet.

    Parameters
    ----------
    login
        How to enter the cluster.
    topology
        Names of what lies there.
    out
        Where to publish.
    """

    resumed = True

    def __init__(self, login: Login, topology: Topology, out: MqttSource) -> None:
        self._topology = topology
        self._out = out
        self._connector = Connector(login, self._prepare)
        self._connection: Connection | None = None
        self._partitions = 0
        self._has_requests = False  # whether there is a queue of requests
        self._channels: dict[int, int] = {}  # partition by channel
        self._unacked: dict[int, Unacked] = {}  # by channel
        self._next_channel = CONTROL
        self._owned: dict[int, int] = {}  # channel by partition of which something was delivered
        self._closing: dict[int, int] = {}  # partition by channel that is being closed
        self._share = math.inf
        self._left_s: dict[int, float] = {}  # when partitions were left to others
        self._kept_s: dict[int, float] = {}  # until when partitions are kept that nobody wanted
        self._lost: list[int] = []
        self._inbox: list[Message] = []
        self._gathering = Gathering()
        self._backoff = Backoff()
        self._retry_s = self._survey_s = 0.0
        self._fault: str | None = None

    @property
    def connected(self) -> bool:  # type: ignore[override] # read-only here
        """Whether there is a connection over which packets come; what is published waits for its own."""
        return self._connection is not None

    @property
    def listening(self) -> bool:  # type: ignore[override] # read-only here
        """Whether there is a connection to the cluster, with partitions to ask for."""
        return self._connection is not None and self._partitions > 0

    @property
    def fault(self) -> str | None:  # type: ignore[override] # read-only here
        """What a person must mend."""
        return "; ".join(text for text in (self._fault, self._out.fault) if text) or None

    @property
    def has_more(self) -> bool:
        """Whether messages wait to be returned."""
        return bool(self._inbox)

    @property
    def wants_acks(self) -> bool:
        """Whether so much of a partition is unacknowledged that RabbitMQ will soon hand out no more of it."""
        return any(len(unacked.tags) >= PREFETCH // 2 for unacked in self._unacked.values())

    @property
    def unconfirmed(self) -> int:
        """Messages with QoS 1 that the broker has not confirmed yet."""
        return self._out.unconfirmed

    @property
    def partitions(self) -> int:
        """How many partitions there are."""
        return self._partitions

    @property
    def owned(self) -> list[int]:
        """Partitions of which something was delivered over the present connection."""
        return sorted(self._owned)

    @property
    def surplus(self) -> list[int]:
        """Partitions above this process's share; see `Source.surplus`."""
        surplus = len(self._owned) - self._share
        if surplus <= 0:
            return []
        now_s = time.monotonic()
        wanted = [one for one in self.owned if self._kept_s.get(one, 0.0) < now_s]
        return wanted[-int(surplus) :]

    def open(self) -> None:
        """Connect for the first time; see `Source.open`."""
        self._out.open()
        self._begin(self._connector.connect())

    def poll(self, wait_s: float, most: int) -> list[Message]:
        """Return what has come; see `Source.poll`."""
        connection = self._connection or self._reconnect()
        if self._inbox or not most:
            wait_s = 0.0
        if connection is None:
            self._inbox += self._out.poll(min(wait_s, 0.02), max(1, most))
            self.is_quiet = not self._inbox
        else:  # even if nothing may be returned: there are heartbeats, too
            self._wait(connection, wait_s)
        messages, self._inbox = self._inbox[:most], self._inbox[most:]
        return messages

    def publish(
        self,
        topic: str,
        payload: bytes,
        qos: int = 0,
        *,
        retain: bool = False,
        key: str | None = None,
        correlation: bytes | None = None,
    ) -> None:
        """Take a message to be sent; see `Source.publish`."""
        self._out.publish(topic, payload, qos, retain=retain, key=key, correlation=correlation)

    def take_confirmed(self) -> list[str]:
        """Return the keys of messages that the broker has confirmed; see `Source.take_confirmed`."""
        return self._out.take_confirmed()

    def take_refused(self) -> list[str | None]:
        """Return the keys of messages that the broker will never take; see `Source.take_refused`."""
        return self._out.take_refused()

    def flush(self) -> bool:
        """Send what was published and acknowledged; see `Source.flush`."""
        has_left = self._out.flush()
        if self._connection is None:
            return False
        try:
            return self._connection.flush() and has_left
        except ConnectionError as error:
            self._lose(error)
            return False

    def ack(self, tokens: Iterable[int]) -> None:
        """Acknowledge messages; see `Source.ack`."""
        acked: dict[int, list[int]] = {}
        others: list[int] = []
        for token in tokens:
            number = token >> (TAG_BITS + CHANNEL_BITS)
            if not number:
                others.append(token)
            elif number == self.connections:
                channel = (token >> TAG_BITS) & (2**CHANNEL_BITS - 1)
                acked.setdefault(channel, []).append(token & (2**TAG_BITS - 1))
        if others:
            self._out.ack(others)
        if self._connection is not None:
            for channel, tags in acked.items():
                if (unacked := self._unacked.get(channel)) is not None:
                    self._connection.write(unacked.ack(channel, tags))

    def release(self, partitions: Iterable[int]) -> None:
        """Leave partitions to others; see `Source.release`."""
        for partition in partitions:
            channel = self._owned.get(partition)
            if channel is not None and self._connection is not None:
                self._left_s[partition] = time.monotonic()
                self._connection.write(encode(channel, spec.Channel.Close(200, "", 0, 0)))
                self._closing[channel] = partition
                self._leave(channel)

    def take_lost(self) -> list[int]:
        """Return the partitions that others may have been given; see `Source.take_lost`."""
        lost, self._lost = self._lost, []
        return lost

    def resubscribe(self) -> None:
        """Do nothing: a queue cannot be forgotten without being missed."""

    def close(self) -> None:
        """Leave; see `Source.close`."""
        if self._connection is not None:
            self._connection.close()
            self._lose(None)
        self._out.close()

    def _prepare(self, connection: Connection) -> None:
        """Count the partitions; in the thread that connects."""
        channel, partitions = CONTROL, 0
        connection.call(channel, spec.Channel.Open(), spec.Channel.OpenOk)
        while True:
            asked = spec.Queue.Declare(0, self._topology.queue(partitions), passive=True, arguments={})
            answer = connection.call(channel, asked, spec.Queue.DeclareOk)
            if isinstance(answer, spec.Channel.Close):
                break
            partitions += 1
        if answer.reply_code != 404:
            raise Refused(f"The broker at {connection} refuses: {answer.reply_text}.")
        connection.acknowledge_close(channel)
        connection.call(channel, spec.Channel.Open(), spec.Channel.OpenOk)
        self._partitions = partitions
        asked = spec.Queue.Declare(0, self._topology.requests, passive=True, arguments={})
        answer = connection.call(channel, asked, spec.Queue.DeclareOk)
        self._has_requests = not isinstance(answer, spec.Channel.Close)
        if not self._has_requests:
            connection.acknowledge_close(channel)
            connection.call(channel, spec.Channel.Open(), spec.Channel.OpenOk)

    def _begin(self, connection: Connection) -> None:
        """Ask for all partitions."""
        self.connections += 1
        self._connection = connection
        self._next_channel = CONTROL
        self._survey_s = time.monotonic() + SURVEY_S
        self._backoff.reset()
        name = self._topology.name
        lacks = "" if self._has_requests else "queue of requests"
        lacks = lacks if self._partitions else "partitions"
        missing = f"the cluster at {connection} has no {lacks} for the monitor {name}: run ecgwatch cluster init"
        self._fault = missing if lacks else None
        if self._fault is not None:
            log.warning("%s", self._fault)
        log.info("connected to %s, which has %d partitions", connection, self._partitions)
        if self._partitions:
            connection.write(encode(CONTROL, spec.Basic.Consume(0, self._topology.members, "", arguments={})))
        if self._has_requests:
            qos, consume = (
                spec.Basic.Qos(0, FEW, global_qos=False),
                spec.Basic.Consume(0, self._topology.requests, "", arguments={}),
            )
            connection.write(encode(REQUESTS, spec.Channel.Open(), qos, consume))
        for partition in range(self._partitions):
            self._ask_for(partition)

    def _ask_for(self, partition: int) -> None:
        """Stand in line for a partition, over a channel of its own."""
        assert self._connection is not None
        used = self._channels.keys() | self._closing.keys() | {CONTROL, REQUESTS}
        while self._next_channel in used:
            self._next_channel = self._next_channel % MOST_CHANNELS + 1
        channel = self._next_channel
        self._channels[channel] = partition
        self._unacked[channel] = Unacked()
        consume = spec.Basic.Consume(0, self._topology.queue(partition), str(partition), arguments={})
        self._connection.write(
            encode(channel, spec.Channel.Open(), spec.Basic.Qos(0, PREFETCH, global_qos=False), consume)
        )

    def _reconnect(self) -> Connection | None:
        """Fetch a connection, or begin to make one if it is time to."""
        try:
            connection = self._connector.fetch()
        except Refused:
            raise
        except ConnectionError as error:
            log.info("%s", error)
            self._retry_s = time.monotonic() + self._backoff.next_s()
            return None
        if connection is not None:
            self._begin(connection)
        elif time.monotonic() >= self._retry_s:
            self._connector.start()
        return self._connection

    def _wait(self, connection: Connection, wait_s: float) -> None:
        """Wait for messages, and for others if they can be expected soon; what else comes is no reason to return."""
        until_s = time.monotonic() + wait_s
        self.is_quiet = not self._inbox
        while True:
            left_s = max(0.0, until_s - time.monotonic())
            readable = self._select(connection, left_s)
            self.is_quiet = self.is_quiet and not readable
            if connection in readable and left_s:
                time.sleep(self._gathering.wait_s(time.monotonic()))
            self._read(connection)
            self._inbox += self._out.poll(0.0, MOST_HEARD)
            if self._inbox or not readable or self._connection is None or not self._out.connected:
                return

    def _select(self, connection: Connection, wait_s: float) -> list[Any]:
        """Wait until there is something to read, or what waits can be sent; return where."""
        sockets: list[Any] = [connection] if self._out.socket is None else [connection, self._out.socket]
        writing = [connection] if connection.has_output else []
        readable, _, _ = select.select(sockets, writing, [], 0.0 if connection.has_pending else wait_s)
        return readable

    def _read(self, connection: Connection) -> None:
        """Take what has come of the partitions."""
        before = len(self._inbox)
        try:
            for found in connection.read():
                self._take(found)
            self._gathering.note(len(self._inbox) - before, time.monotonic())
            self._survey(connection)
            connection.flush()
        except ConnectionError as error:
            self._lose(error)

    def _take(self, found: Delivery | Reply) -> None:
        if isinstance(found, Reply):
            self._take_reply(found.channel, found.method)
        elif (partition := self._channels.get(found.channel)) is not None:
            if partition not in self._owned:
                self._note_owned(partition, found.channel)
            self._unacked[found.channel].tags.append(found.tag)
            token = ((self.connections << CHANNEL_BITS) + found.channel << TAG_BITS) + found.tag
            key, payload = found.key, found.payload
            if found.exchange != TOPIC:
                first, _, payload = payload.partition(b"\n")
                key = first.decode()
            self._inbox.append(Message(key.translate(SWAP), payload, token, False, partition))
        elif found.channel == REQUESTS:
            self._pass_on(found)

    def _pass_on(self, request: Delivery) -> None:
        """Put a request into the partition of its device; what is acknowledged here is there."""
        connection, device = self._connection, _addressee(request)
        assert connection is not None
        if device is not None:
            payload = request.key.encode() + b"\n" + request.payload[: wire.MAX_PAYLOAD + 1]
            exchange, key = self._topology.hash, self._topology.key(device)
            connection.write(encode_publish(REQUESTS, exchange, key, payload, connection.frame_bytes))
        connection.write(encode_acks([(REQUESTS, request.tag)], multiple=False))

    def _note_owned(self, partition: int, channel: int) -> None:
        """Note that a partition is ours, perhaps again."""
        self._owned[partition] = channel
        now_s = time.monotonic()
        if now_s - self._left_s.pop(partition, -math.inf) < BACK_S:
            self._kept_s[partition] = now_s + KEEP_S

    def _take_reply(self, channel: int, method: Any) -> None:
        assert self._connection is not None
        if isinstance(method, spec.Connection.Close):
            raise ConnectionError(f"the server closes the connection: {method.reply_text}")
        if isinstance(method, spec.Queue.DeclareOk) and channel == CONTROL:
            self._share = math.ceil(self._partitions / max(1, method.consumer_count or 0))
        elif isinstance(method, spec.Channel.CloseOk) and (left := self._closing.pop(channel, None)) is not None:
            self._ask_for(left)
        elif isinstance(method, spec.Channel.Close):
            self._connection.write(encode(channel, spec.Channel.CloseOk()))
            raise ConnectionError(f"the server closes a channel: {method.reply_text}")
        elif isinstance(method, spec.Basic.Cancel) and channel in self._channels:
            raise ConnectionError(f"the server takes away the queue {self._topology.queue(self._channels[channel])}")

    def _survey(self, connection: Connection) -> None:
        """Ask how many processes there are."""
        now_s = time.monotonic()
        if now_s < self._survey_s or not self._partitions:
            return
        self._survey_s = now_s + SURVEY_S
        asked = spec.Queue.Declare(0, self._topology.members, passive=True, arguments={})
        connection.write(encode(CONTROL, asked))

    def _leave(self, channel: int) -> None:
        """Note that a channel's partition is not ours any more."""
        partition = self._channels.pop(channel)
        self._unacked.pop(channel)
        if self._owned.pop(partition, None) is not None:
            self._lost.append(partition)
        self._inbox = [message for message in self._inbox if message.partition != partition]

    def _lose(self, error: ConnectionError | None) -> None:
        """Note that the connection is over, and with it all partitions."""
        if error is not None:
            log.warning("lost the cluster at %s (%s); reconnecting", self._connection, error)
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._share, self._inbox = math.inf, []
        for channel in list(self._channels):
            self._leave(channel)
        self._closing.clear()
        self._retry_s = 0.0


def _addressee(request: Delivery) -> str | None:
    """Return which device a request is about; None for one that all processes hear over MQTT."""
    verb = request.key.rpartition(".")[2]
    try:
        if verb == wire.RELOAD:
            wire.decode(request.payload, wire.Reload)
        return None if verb in (wire.RELOAD, wire.REFRESH) else wire.decode(request.payload, wire.Request).device
    except wire.PacketError:
        return NOBODY
