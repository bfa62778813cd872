"""A broker in this process, and a source on it: the whole service without a network, for tests and embedding.

It keeps sessions, retained messages, unacknowledged messages and last wills as an MQTT broker does, and nothing of it
outlives the process. Used by one thread at a time.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from monitor.broker.source import Message, ReplyTo, Source, Subscription


class Published(NamedTuple):
    """A message as a broker has it."""

    topic: str
    payload: bytes
    qos: int
    retained: bool = False
    reply_to: ReplyTo | None = None


@dataclass(slots=True, eq=False)
class Session:
    """What a broker keeps for a client."""

    subscriptions: list[Subscription] = field(default_factory=list)
    queue: deque[Published] = field(default_factory=deque)
    """Messages that were not delivered yet."""
    delivered: dict[int, Published] = field(default_factory=dict)
    """Messages that were delivered and not acknowledged, by token, in order."""
    will: Published | None = None
    connected: bool = False


class MemoryBroker:
    """The broker: topics, sessions, retained messages."""

    def __init__(self) -> None:
        self.sessions: dict[str, Session] = {}
        self.retained: dict[str, Published] = {}
        self.published: list[Published] = []
        """All that was ever published, in order."""
        self.is_up = True
        self._tokens = 0

    def publish(
        self, topic: str, payload: bytes, qos: int = 1, retain: bool = False, reply_to: ReplyTo | None = None
    ) -> None:
        """Deliver a message to whoever has subscribed to it."""
        message = Published(topic, payload, qos, reply_to=reply_to)
        self.published.append(message)
        if retain and payload:
            self.retained[topic] = message._replace(retained=True)
        elif retain:
            self.retained.pop(topic, None)
        for session in self.sessions.values():
            granted = [one.qos for one in session.subscriptions if matches(one.topic, topic)]
            if granted and (session.connected or qos):
                session.queue.append(message._replace(qos=min(qos, *granted)))

    def attach(self, client_id: str, subscriptions: Sequence[Subscription], *, clean: bool) -> bool:
        """Connect a client; return whether its session was still there."""
        resumed = not clean and client_id in self.sessions
        session = self.sessions[client_id] = self.sessions[client_id] if resumed else Session()
        session.connected = True
        session.queue.extendleft(reversed(session.delivered.values()))
        session.delivered.clear()
        self.subscribe(client_id, subscriptions)
        return resumed

    def subscribe(self, client_id: str, subscriptions: Sequence[Subscription]) -> None:
        """Subscribe a client, and give it the retained messages."""
        session = self.sessions[client_id]
        session.subscriptions = list(subscriptions)
        for one in subscriptions:
            kept = [message for topic, message in self.retained.items() if matches(one.topic, topic)]
            session.queue.extend(message._replace(qos=min(message.qos, one.qos)) for message in kept)

    def deliver(self, client_id: str) -> Message | None:
        """Hand over a client's next message."""
        session = self.sessions[client_id]
        if not session.queue:
            return None
        message = session.queue.popleft()
        if not message.qos:
            return Message(message.topic, message.payload, None, message.retained, reply_to=message.reply_to)
        self._tokens += 1
        session.delivered[self._tokens] = message
        return Message(message.topic, message.payload, self._tokens, message.retained, reply_to=message.reply_to)

    def cut(self, client_id: str) -> None:
        """Lose the connection to a client, and publish its last will."""
        session = self.sessions.get(client_id)
        if session is not None and session.connected:
            session.connected = False
            if session.will is not None:
                self.publish(session.will.topic, session.will.payload, session.will.qos, retain=True)


class MemorySource(Source):
    """A client of a `MemoryBroker`.

    Parameters
    ----------
    broker
        The broker.
    client_id
        By which the broker knows the session.
    subscriptions
        What to ask for.
    clean
        Begin with no session, and leave none.
    will
        Topic and payload of the last will, retained.
    """

    def __init__(
        self,
        broker: MemoryBroker,
        client_id: str,
        subscriptions: Sequence[Subscription],
        *,
        clean: bool = False,
        will: tuple[str, bytes] | None = None,
    ) -> None:
        self._broker = broker
        self._id = client_id
        self._subscriptions = subscriptions
        self._clean = clean
        self._will = will
        self._outgoing: deque[tuple[Published, bool, str | None]] = deque()
        self._confirmed: list[str] = []

    def open(self) -> None:
        """Connect; ConnectionError if the broker is down."""
        if not self._attach():
            raise ConnectionError("No broker reached: the one in memory is down.")

    def poll(self, wait_s: float, most: int) -> list[Message]:
        """Return what has come."""
        if not self._is_attached() and not self._attach():
            time.sleep(min(wait_s, 0.01))
            return []
        messages: list[Message] = []
        while len(messages) < most and (message := self._broker.deliver(self._id)) is not None:
            messages.append(message)
        self.is_quiet = not messages
        if not messages:
            time.sleep(min(wait_s, 0.01))
        return messages

    @property
    def has_more(self) -> bool:
        """Whether messages wait in the session."""
        return self._is_attached() and bool(self._session.queue)

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
        """Take a message to be sent."""
        if qos or self._is_attached():
            reply_to = None if correlation is None else ReplyTo(None, correlation)
            self._outgoing.append((Published(topic, payload, qos, reply_to=reply_to), retain, key))

    def take_confirmed(self) -> list[str]:
        """Return the keys of messages that were published."""
        confirmed, self._confirmed = self._confirmed, []
        return confirmed

    def take_refused(self) -> list[str | None]:
        """Return nothing: this broker takes everything."""
        return []

    @property
    def unconfirmed(self) -> int:
        """Messages with QoS 1 that wait."""
        return sum(bool(message.qos) for message, _, _ in self._outgoing)

    def flush(self) -> bool:
        """Publish what waits, if the broker is there."""
        while self._outgoing and self._is_attached():
            message, retain, key = self._outgoing.popleft()
            self._broker.publish(message.topic, message.payload, message.qos, retain, message.reply_to)
            if key is not None:
                self._confirmed.append(key)
        return not self._outgoing

    def ack(self, tokens: Iterable[int]) -> None:
        """Acknowledge messages."""
        for token in tokens:
            self._session.delivered.pop(token, None)

    def resubscribe(self) -> None:
        """Subscribe once more."""
        if self._is_attached():
            self._broker.subscribe(self._id, self._subscriptions)

    def close(self) -> None:
        """Publish what waits, and leave."""
        self.flush()
        self._session.will = None
        self._session.connected = self.connected = self.listening = False
        if self._clean:
            del self._broker.sessions[self._id]

    @property
    def _session(self) -> Session:
        return self._broker.sessions[self._id]

    def _is_attached(self) -> bool:
        is_there = self._broker.is_up and self._id in self._broker.sessions and self._session.connected
        self.connected = self.listening = is_there
        return is_there

    def _attach(self) -> bool:
        if not self._broker.is_up:
            return False
        self.resumed = self._broker.attach(self._id, self._subscriptions, clean=self._clean)
        if self._will is not None:
            topic, payload = self._will
            self._session.will = Published(topic, payload, 1)
        self.connections += 1
        return self._is_attached()


def matches(pattern: str, topic: str) -> bool:
    """Whether a topic falls under a subscription: MQTT 3.1.1, section 4.7."""
    wanted, words = pattern.split("/"), topic.split("/")
    for i, word in enumerate(wanted):
        if word == "#":
            return True
        if i >= len(words) or word not in ("+", words[i]):
            return False
    return len(wanted) == len(words)
