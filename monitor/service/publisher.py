"""From the engine to the broker: beats, alerts and acknowledgements as messages.

Alerts go out with QoS 1 and are kept until the broker has confirmed them, also across a crash. Knows nothing of how a
source sends them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable

import msgspec

from monitor import counters, wire
from monitor.broker.source import Source
from monitor.engine import Engine, Output
from monitor.service.decisions import Decisions
from monitor.state.checkpoint import Committed, Outbox
from monitor.state.store import OutboxMessage

ERROR_S, MOST_ERRORS = 60.0, 10_000
"""A device hears of each kind of error once in so long; and no more than so many errors are reported in that time."""
MOST_UNCONFIRMED = 10_000
"""While more messages wait for the broker's confirmation, beats are sent without asking for one, and are counted: their
packet ids must not run out for the alerts."""


class Publisher:
    """Publishes what the engine has found.

    Parameters
    ----------
    source
        Where to.
    engine
        Whose devices are acknowledged.
    outbox
        Keeps alerts until they are confirmed.
    topics
        Of the wire.
    publish_beats
        Publish every beat's verdict, not only alerts.
    decisions
        Which alerts people have silenced.
    """

    def __init__(
        self,
        source: Source,
        engine: Engine,
        outbox: Outbox,
        topics: wire.Topics,
        publish_beats: bool,
        decisions: Decisions | None = None,
    ) -> None:
        self._source = source
        self._engine = engine
        self._outbox = outbox
        self._topics = topics
        self._publish_beats = publish_beats
        self._decisions = decisions or Decisions()
        self._errors: dict[tuple[str, str], float] = {}  # when each kind of error was last reported to each device
        self._shortened: set[str] = set()  # ids of alerts that were too large for the broker, and were shortened

    def publish(self, output: Output) -> None:
        """Publish alerts and, if asked, beats."""
        for alert in output.alerts:
            self.publish_alert(alert)
        if self._publish_beats:
            for beat in output.beats:
                qos = int(self._source.unconfirmed < MOST_UNCONFIRMED)
                self._source.publish(self._topics.of(beat.device, "beats"), wire.encode(beat), qos)
                if not qos:
                    self._engine.counts[counters.UNCONFIRMED_BEATS] += 1

    def publish_alert(self, alert: wire.Alert) -> None:
        """Publish an alert, marked if somebody has silenced its kind."""
        now_s = time.time()
        if self._decisions.of(alert.device).is_silenced(alert.kind, now_s):
            alert = msgspec.structs.replace(alert, silenced=True)
        topic = self._topics.of(alert.device, "alerts")
        known = self._engine.record(alert.device)
        partition = None if known is None else known.partition
        message = OutboxMessage(alert.id, alert.device, now_s, topic, wire.encode(alert), alert.episode, partition)
        self._outbox.add(message)
        self._send(message)

    def resend(self) -> None:
        """Publish the alerts that an earlier process, or an earlier file, has left."""
        for message in self._outbox.resend():
            self._send(message)

    def send_again(self, messages: Iterable[OutboxMessage]) -> None:
        """Publish alerts that another process has left."""
        for message in self._outbox.adopt(messages):
            self._send(message)

    def report_error(self, device: str, error: wire.DeviceError, now_s: float) -> None:
        """Report to a device what is wrong with its messages, at most once a minute for each reason."""
        key = device, error.reason
        if now_s < self._errors.get(key, -math.inf) + ERROR_S or len(self._errors) >= MOST_ERRORS:
            return
        self._errors[key] = now_s
        self._source.publish(self._topics.of(device, "error"), wire.encode(error), qos=0)

    def erase(self, device: str) -> None:
        """Forget which errors were reported to a device."""
        self._errors = {key: sent_s for key, sent_s in self._errors.items() if key[0] != device}

    def housekeeping(self, now_s: float) -> None:
        """Forget errors that may be reported again."""
        self._errors = {key: sent_s for key, sent_s in self._errors.items() if now_s < sent_s + ERROR_S}

    def take_confirmed(self) -> None:
        """Let the outbox drop what the broker has confirmed, and shorten or drop what it refuses."""
        for key in self._source.take_confirmed():
            self._outbox.confirm(key)
            self._shortened.discard(key)
        for refused in self._source.take_refused():
            self._shorten(refused)

    def _shorten(self, key: str | None) -> None:
        """Publish an alert that is too large for the broker without its signal and beats; the history keeps them."""
        message = None if key is None else self._outbox.find(key)
        if message is not None:
            alert = wire.decode(message.payload, wire.Alert)
            short = wire.encode(msgspec.structs.replace(alert, waveform=None, strip=None, recent=[]))
            has_more = alert.waveform is not None or alert.strip is not None or bool(alert.recent)
            if has_more and key not in self._shortened:
                self._shortened.add(message.id)
                self._source.publish(message.topic, short, qos=1, key=message.id)
                return
            self._outbox.confirm(message.id)
            self._shortened.discard(message.id)
        self._engine.counts[counters.TOO_LARGE] += 1

    def acknowledge_all(self, committed: Committed) -> None:
        """Acknowledge what was committed, to the broker and to the devices."""
        self._source.ack(committed.tokens)
        for device, next_seq in committed.saved:
            self._acknowledge(device, next_seq)

    def acknowledge(self, device: str) -> None:
        """Tell a device from where on its packets are needed."""
        known = self._engine.record(device)
        if known is not None and (seq := known.stream.next_seq) is not None:
            self._acknowledge(device, seq)

    def repeat_acks(self) -> None:
        """Repeat all acknowledgements: the broker has lost what came meanwhile, unless the devices have kept it."""
        for known in self._engine.records():
            if known.acked is not None:
                self._send_ack(known.id, known.acked)

    def _acknowledge(self, device: str, seq: int) -> None:
        known = self._engine.record(device)
        if known is not None:
            known.acked = seq
            self._send_ack(device, seq)

    def _send(self, message: OutboxMessage) -> None:
        self._source.publish(message.topic, message.payload, qos=1, key=message.id)

    def _send_ack(self, device: str, seq: int) -> None:
        self._source.publish(self._topics.of(device, "ack"), wire.encode(wire.Ack(seq=seq)), qos=0)
