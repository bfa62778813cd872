"""Where packets come from and messages go to: what the service's loop asks of a broker.

Rules
-----
* The loop pulls: nothing calls back into it. `Source.poll` returns what has come, `Source.publish` takes what is to be
  sent, `Source.flush` sends it, `Source.ack` lets the broker drop what was taken.
* A message that is not acknowledged is delivered again over the next connection. Tokens are of one connection: a token
  of an earlier one is ignored.
* A source reconnects and resubscribes by itself, each time it is polled. Losing the broker is a state
  (`Source.connected`, `Source.fault`), not an error; only a refusal of the login ends the monitor.
* A broker may deal the devices out to several processes: each message then belongs to a partition. One process at a
  time gets a partition's messages, from the first one on until `Source.take_lost` returns it.
* What a person must know of the broker is logged once, and stands in `Source.fault` while it lasts.

Knows nothing of devices, of what is in a message, or of how it is encoded.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import NamedTuple


class ReplyTo(NamedTuple):
    """Where the sender of a message wants to be answered, by the properties of MQTT 5."""

    topic: str | None
    """Response Topic."""
    correlation: bytes | None
    """Correlation Data, to be sent back with the answer."""


class Message(NamedTuple):
    """A message as it came."""

    topic: str
    payload: bytes
    token: int | None
    """To acknowledge it by; None: the broker does not wait for that (QoS 0)."""
    retained: bool
    """Whether the broker had kept it from before the subscription: it may be of any age."""
    partition: int | None = None
    """Which part of the fleet it belongs to, where the broker deals the devices out to processes."""
    reply_to: ReplyTo | None = None
    """Where its sender wants to be answered, if the protocol tells."""


class Subscription(NamedTuple):
    """What a source asks the broker for, each time it connects."""

    topic: str
    """May hold wildcards."""
    qos: int
    required: bool = True
    """Whether nothing can be done without it."""


class Source(ABC):
    """A connection to a broker that comes back by itself."""

    connected: bool = False
    """Whether there is a connection."""
    listening: bool = False
    """Whether messages can come in: there is a connection, and the broker has granted what is required."""
    connections: int = 0
    """How many connections there were so far."""
    resumed: bool = False
    """Whether the broker still had this client's session when the present connection was made."""
    is_quiet: bool = False
    """Whether the last `poll` waited in vain: nothing at all came from the broker, not even part of a message."""
    fault: str | None = None
    """What keeps messages from coming in or from being kept, if anything is known to; a person must mend it."""

    @abstractmethod
    def open(self) -> None:
        """Connect for the first time.

        Raises
        ------
        ConnectionError
            No broker answers there, or it refuses the login.
        """

    @abstractmethod
    def poll(self, wait_s: float, most: int) -> list[Message]:
        """Return what has come, at most `most` messages; wait up to `wait_s` if nothing has.

        Raises
        ------
        ConnectionError
            The broker refuses the login.
        """

    @property
    @abstractmethod
    def has_more(self) -> bool:
        """Whether `poll` would return something at once."""

    @abstractmethod
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
        """Take a message to be sent; what the broker confirms is kept until then, also over a lost connection.

        Parameters
        ----------
        topic, payload
            What is published.
        qos
            0: sent at most once and not confirmed; 1: until it is confirmed.
        retain
            Whether the broker gives it to later subscribers as well.
        key
            Returned by `take_confirmed` once the broker has the message; only with QoS 1.
        correlation
            `ReplyTo.correlation` of the message that this one answers; left out where the protocol has no place for it.
        """

    @abstractmethod
    def take_confirmed(self) -> list[str]:
        """Return the keys of messages that the broker has confirmed since this was asked last."""

    @abstractmethod
    def take_refused(self) -> list[str | None]:
        """Return the keys of messages that the broker will never take, since this was asked last; None: no key."""

    @property
    @abstractmethod
    def unconfirmed(self) -> int:
        """Messages with QoS 1 that the broker has not confirmed yet."""

    @abstractmethod
    def flush(self) -> bool:
        """Send what was published; return whether all of it has left this process."""

    @abstractmethod
    def ack(self, tokens: Iterable[int]) -> None:
        """Acknowledge messages, in the order in which they came."""

    @property
    def wants_acks(self) -> bool:
        """Whether the broker may be waiting for acknowledgements before it hands out more.

        Where nobody knows how many it hands out, silence may mean that.
        """
        return self.is_quiet

    @property
    def surplus(self) -> list[int]:
        """Partitions of which others could take over some, so that all have equally many."""
        return []

    def release(self, partitions: Iterable[int]) -> None:  # noqa: B027 - most sources have nothing to release
        """Leave partitions to others: what was not acknowledged of them is delivered to these, in order."""

    def take_lost(self) -> list[int]:
        """Return the partitions that others may have been given since this was asked last."""
        return []

    @abstractmethod
    def resubscribe(self) -> None:
        """Ask for the same messages once more: a broker may have forgotten the subscription."""

    @abstractmethod
    def close(self) -> None:
        """Send what still waits, and leave; the last will is not published."""
