"""A device's send queue: messages in order, and packets that are kept because they may have to be resent.

Rules
-----
* A broker's confirmation of a packet proves little: a broker that is killed loses what it has confirmed. A packet is
  kept until the monitor acknowledges it (`wire.Ack`), but for no more than `KEEP_S` of signal; where no monitor has
  ever acknowledged anything, `KEEP_UNACKNOWLEDGED_S`.
* Packets are sent in order, resent ones included: the monitor takes a packet for lost once a few later ones have
  overtaken it.
* When a connection is lost, all kept packets are resent over the next one. If a monitor has acknowledged before, the
  device probes first: it sends only the oldest packet, repeatedly, until an acknowledgement arrives. A broker that has
  lost its subscriptions confirms packets that nobody receives; the answer to the probe shows that the monitor is back,
  and from which packet on it needs them. After `PROBE_S` of a connection without an answer the device stops probing
  and sends.
* If an acknowledgement breaks a long silence and does not cover packets sent long before it, these are resent. Packets
  are resent only to a monitor that answers, so never where nothing acknowledges.

Knows nothing about MQTT clients, and never reads a clock.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

KEEP_S = 600.0
"""Maximum length of signal that is kept."""
KEEP_UNACKNOWLEDGED_S = 20.0
"""Maximum length of signal kept after the broker confirmed it, as long as no monitor has ever acknowledged."""
PROBE_S = 60.0
"""How long to probe for the monitor after a lost connection: it retries a broker that was away every 30 s."""
PROBE_INTERVAL_S = 1.0
"""Interval of the probes."""
FINISH_S = 5.0
"""How long to probe for the monitor once the stream is over."""
SILENCE_S = 20.0
"""A healthy monitor acknowledges within 10 s (`monitor.state.checkpoint.WINDOW_S`)."""


@dataclass(slots=True, eq=False)
class Message:
    """A message to publish."""

    topic: str
    payload: bytes
    qos: int
    retain: bool = False
    seq: int | None = None
    """Sequence number of the packet, if it is one."""
    start_s: float = 0.0
    """Its position in the stream."""
    sent_s: float | None = None
    """When it was last sent."""
    safe: bool = False
    """Whether the broker has confirmed it, or the monitor has acknowledged it."""


class Outbox:
    """One device's send queue."""

    def __init__(self) -> None:
        self._waiting: deque[Message] = deque()
        self._kept: deque[Message] = deque()  # packets that were sent
        self._end = 0  # above all sequence numbers so far
        self._heard_s = -math.inf
        self._answers = self._probing = False  # whether a monitor answers, and whether we are probing
        self._next_probe_s = self._probe_until_s = 0.0
        self.packets = self.confirmed = self.dropped = self.expired = self.resent = 0
        """Number of packets: all, safe ones, those dropped before they were safe, safe ones that no monitor
        acknowledged in time; and number of resends."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing is waiting to be sent."""
        return not self._waiting

    def put(self, message: Message) -> None:
        """Add a message at the end."""
        if message.seq is not None:
            self.packets += 1
            self._end = max(self._end, message.seq + 1)
        self._expire(message.start_s)
        self._waiting.append(message)

    def take(self, now_s: float) -> Message | None:
        """Return the message to send now, if any."""
        if self._probing and now_s < self._probe_until_s:
            return self._probe(now_s)
        if self._probing:
            self._answers = self._probing = False
        if not self._waiting:
            return None
        message = self._waiting.popleft()
        if message.seq is not None:
            self._kept.append(message)
            self._stamp(message, now_s)
        return message

    def confirm(self, message: Message) -> None:
        """Record that the broker has confirmed a message."""
        if message.seq is not None and not message.safe:
            message.safe = True
            self.confirmed += 1

    def acknowledge(self, seq: int, now_s: float) -> None:
        """Record that the monitor no longer needs packets below that sequence number."""
        if seq > self._end:
            return  # of another stream of this device
        for messages in (self._kept, self._waiting):
            while messages and (number := messages[0].seq) is not None and number < seq:
                self.confirm(messages.popleft())
        before_s = now_s - SILENCE_S
        if self._heard_s < before_s and self._kept and (self._kept[0].sent_s or 0.0) < before_s:
            self._rewind()
        self._heard_s = now_s
        self._answers, self._probing = True, False

    def reconnect(self, now_s: float) -> None:
        """Prepare for a new connection: what was sent over the old one may be lost."""
        self._rewind()
        self._next_probe_s = now_s
        if self._answers:
            self._probing, self._probe_until_s = True, now_s + PROBE_S

    def hurry(self, now_s: float) -> None:
        """Record that the stream is over: wait less for the monitor."""
        self._probe_until_s = min(self._probe_until_s, now_s + FINISH_S)

    def _probe(self, now_s: float) -> Message | None:
        oldest = next((message for message in self._waiting if message.seq is not None), None)
        if oldest is None or now_s < self._next_probe_s:
            return None
        self._next_probe_s = now_s + PROBE_INTERVAL_S
        self._stamp(oldest, now_s)
        return oldest

    def _stamp(self, message: Message, now_s: float) -> None:
        self.resent += message.sent_s is not None
        message.sent_s = now_s

    def _rewind(self) -> None:
        self._waiting.extendleft(reversed(self._kept))
        self._kept.clear()

    def _expire(self, now_s: float) -> None:
        """Drop what is too old at that time of the stream."""
        keep_s = KEEP_UNACKNOWLEDGED_S if self._heard_s == -math.inf else KEEP_S
        while self._kept and self._kept[0].safe and self._kept[0].start_s < now_s - keep_s:
            self.expired += keep_s == KEEP_S
            self._kept.popleft()
        for messages in (self._kept, self._waiting):
            while messages and messages[0].start_s < now_s - KEEP_S:
                self._drop(messages.popleft())

    def _drop(self, message: Message) -> None:
        if message.seq is not None:
            self.expired += message.safe
            self.dropped += not message.safe
