"""What a device has to say, in order, and what it keeps because it may have to say it again.

Rules
-----
* That a broker has confirmed a packet proves little: a broker that is killed forgets what it has confirmed. A packet is
  kept until the monitor acknowledges it (`wire.Ack`), but for no more than `KEEP_S` of signal; where nobody ever
  acknowledged anything, `UNHEARD_S`.
* Packets are sent in order, those that are sent again as well: the monitor takes a packet for lost once a few later
  ones have overtaken it.
* When a connection is lost, all that is kept is sent again over the next one. If a monitor acknowledged before, the
  device knocks first: it sends nothing but the oldest packet, now and then, until an acknowledgement comes. A broker
  that has forgotten who subscribed confirms packets that nobody gets; what came out of the knock shows that the monitor
  is back, and from where on it needs packets. After `KNOCK_S` of a connection without an answer the device goes on
  without it.
* If an acknowledgement breaks a long silence, and leaves out what was sent long before it, that is sent again. Only to
  one who answers anything is sent again, so nothing is where nobody acknowledges.

Knows nothing of MQTT clients, and never reads a clock.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

KEEP_S = 600.0
"""Most signal that is kept."""
UNHEARD_S = 20.0
"""Most signal that is kept of what the broker has confirmed, as long as no monitor ever acknowledged."""
KNOCK_S = 60.0
"""How long to wait for the monitor after a lost connection: it tries every 30 s to reach a broker that was away."""
KNOCK_AGAIN_S = 1.0
"""How often to knock meanwhile."""
LEAVING_S = 5.0
"""How long to wait for the monitor if the stream is over."""
SILENCE_S = 20.0
"""A monitor that is well acknowledges within 10 s (`monitor.state.checkpoint.WINDOW_S`)."""


@dataclass(slots=True, eq=False)
class Message:
    """Something to publish."""

    topic: str
    payload: bytes
    qos: int
    retain: bool = False
    seq: int | None = None
    """Sequence number of the packet, if it is one."""
    start_s: float = 0.0
    """Where in the stream it belongs."""
    sent_s: float | None = None
    """When it was sent last."""
    safe: bool = False
    """Whether the broker has confirmed it, or the monitor acknowledged."""


class Outbox:
    """One device's messages."""

    def __init__(self) -> None:
        self._waiting: deque[Message] = deque()
        self._kept: deque[Message] = deque()  # packets that were sent
        self._end = 0  # above all sequence numbers so far
        self._heard_s = -math.inf
        self._answers = self._knocking = False  # does a monitor answer? do we ask?
        self._knock_at_s = self._knock_until_s = 0.0
        self.packets = self.confirmed = self.dropped = self.let_go = self.again = 0
        """Packets so far: all, those that are safe, those that never were, those that were but that no monitor
        acknowledged in time, and how often one was sent again."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits to be sent."""
        return not self._waiting

    def put(self, message: Message) -> None:
        """Add a message at the end."""
        if message.seq is not None:
            self.packets += 1
            self._end = max(self._end, message.seq + 1)
        self._let_go(message.start_s)
        self._waiting.append(message)

    def take(self, now_s: float) -> Message | None:
        """Return what is to be sent now, if anything."""
        if self._knocking and now_s < self._knock_until_s:
            return self._knock(now_s)
        if self._knocking:
            self._answers = self._knocking = False
        if not self._waiting:
            return None
        message = self._waiting.popleft()
        if message.seq is not None:
            self._kept.append(message)
            self._stamp(message, now_s)
        return message

    def confirm(self, message: Message) -> None:
        """The broker has it."""
        if message.seq is not None and not message.safe:
            message.safe = True
            self.confirmed += 1

    def acknowledge(self, seq: int, now_s: float) -> None:
        """The monitor needs no packet below that sequence number any more."""
        if seq > self._end:
            return  # that was another stream of this device
        for messages in (self._kept, self._waiting):
            while messages and (number := messages[0].seq) is not None and number < seq:
                self.confirm(messages.popleft())
        before_s = now_s - SILENCE_S
        if self._heard_s < before_s and self._kept and (self._kept[0].sent_s or 0.0) < before_s:
            self._rewind()
        self._heard_s = now_s
        self._answers, self._knocking = True, False

    def reconnect(self, now_s: float) -> None:
        """A new connection: what was sent over the old one may be lost."""
        self._rewind()
        self._knock_at_s = now_s
        if self._answers:
            self._knocking, self._knock_until_s = True, now_s + KNOCK_S

    def hurry(self, now_s: float) -> None:
        """Nothing more will come."""
        self._knock_until_s = min(self._knock_until_s, now_s + LEAVING_S)

    def _knock(self, now_s: float) -> Message | None:
        oldest = next((message for message in self._waiting if message.seq is not None), None)
        if oldest is None or now_s < self._knock_at_s:
            return None
        self._knock_at_s = now_s + KNOCK_AGAIN_S
        self._stamp(oldest, now_s)
        return oldest

    def _stamp(self, message: Message, now_s: float) -> None:
        self.again += message.sent_s is not None
        message.sent_s = now_s

    def _rewind(self) -> None:
        self._waiting.extendleft(reversed(self._kept))
        self._kept.clear()

    def _let_go(self, now_s: float) -> None:
        """Drop what is too old, seen from there in the stream."""
        most_s = UNHEARD_S if self._heard_s == -math.inf else KEEP_S
        while self._kept and self._kept[0].safe and self._kept[0].start_s < now_s - most_s:
            self.let_go += most_s == KEEP_S
            self._kept.popleft()
        for messages in (self._kept, self._waiting):
            while messages and messages[0].start_s < now_s - KEEP_S:
                self._forget(messages.popleft())

    def _forget(self, message: Message) -> None:
        if message.seq is not None:
            self.let_go += message.safe
            self.dropped += not message.safe
