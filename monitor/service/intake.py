"""From a message to the engine: whose it is, whether it may come in, what is in it.

A device that is new to this process may have been saved by an earlier one. The store looks up its state in its own
time, for all new devices together; what the device sends meanwhile waits, and is taken in order once the answer is
there.

Where the fleet is dealt out by partitions, every partition gets what any device says of itself, and a device belongs to
the one that its samples come from: what others get is ignored. What a device that is not known yet says of itself is
remembered for a while, until its first samples come; and for some seconds it is not acknowledged, so that whoever gets
the partition meanwhile gets it, too.

Whatever a device sends is at most counted and dropped: no message can stop the loop. What is dropped is logged once for
each device and topic.

Knows nothing of brokers' clients or of what follows from a packet.
"""

from __future__ import annotations

import logging
import re
import statistics
import time
import zlib
from collections import Counter, OrderedDict
from collections.abc import Container, Iterable, Sequence
from typing import NamedTuple

from monitor import counters, wire
from monitor.broker.source import Message
from monitor.devices import Device
from monitor.engine import Engine
from monitor.service.publisher import Publisher
from monitor.service.requests import Requests
from monitor.state.checkpoint import Checkpoint
from monitor.state.store import StateStore
from monitor.stream import Notice

log = logging.getLogger(__name__)

MOST_COMPLAINTS = 10_000
"""So many topics and devices are remembered as logged; what comes on top is only counted."""
TOPIC_SHOWN = 200
"""Characters of a topic in a log line."""
EARLY_S, MOST_EARLY = 60.0, 50_000
"""For how long it is remembered what devices say of themselves before their first samples, and of how many."""
UNSETTLED_S, MOST_UNSETTLED = 5.0, 1000
"""For how long, and for how many, it is not acknowledged."""
LATENESSES = 1000
"""Packets of which the lateness is looked at for one status."""


class Unusable(NamedTuple):
    """Samples that could not be read."""

    time_s: float
    """When they came, in seconds since 1970."""


Content = wire.Packet | wire.Info | wire.DeviceStatus | Unusable
"""What a device sends."""


class Intake:
    """Takes messages to the engine.

    Parameters
    ----------
    engine
        Where packets go.
    checkpoint
        Gets each message, and the device whose state depends on it.
    store
        Where states of earlier processes are; None if nowhere.
    publisher
        Tells a device from where on its packets are needed.
    topics
        Of the wire.
    shard
        Number of this worker, and of how many: it takes the devices whose id falls to it.
    requests
        Takes what is no device's message but a person's request; None takes none.
    """

    def __init__(
        self,
        engine: Engine,
        checkpoint: Checkpoint,
        store: StateStore | None,
        publisher: Publisher,
        topics: wire.Topics,
        shard: tuple[int, int] = (0, 1),
        requests: Requests | None = None,
    ) -> None:
        self._engine = engine
        self._checkpoint = checkpoint
        self._store = store
        self._publisher = publisher
        self._topics = topics
        self._shard = shard
        self._requests = requests
        self._complaints = Complaints()
        self._lateness_s: list[float] = []
        self._new: list[str] = []  # devices to be looked up
        self._waiting: dict[str, _Waiting] = {}  # devices that are looked up
        self._is_kept = False  # whether the message that was just taken is not to be acknowledged yet
        self._unsettled: OrderedDict[tuple[int, str], tuple[list[int], float]] = OrderedDict()  # by partition and topic
        self._useless: list[str] = []
        self._void: Counter[str] = Counter()  # answers to come that are of no use any more, by device
        self._early: OrderedDict[str, dict[int, tuple[Content, float]]] = OrderedDict()  # by device and partition

    def take(self, messages: Sequence[Message], now_s: float, arrived_s: float) -> None:
        """Take messages that came just now.

        Parameters
        ----------
        messages
            In the order in which they came.
        now_s
            On a clock that does not run back.
        arrived_s
            The same, less the time in which no device could be heard; see `Engine.feed`.
        """
        time_s = time.time() if messages else 0.0
        for message in messages:
            self._is_kept = False
            device = self._take(message, now_s, arrived_s, time_s)
            if self._is_kept and message.token is not None and message.partition is not None:
                kept = self._unsettled.setdefault((message.partition, message.topic), ([], now_s))
                kept[0].append(message.token)
                continue
            if device is not None and self._unsettled and message.partition is not None:
                self._settle_early(message.partition, device, now_s)
            self._checkpoint.received(message.token, device, now_s)
        self._expire_early(now_s)
        self._ask()

    def resume(self, arrived_s: float) -> None:
        """Go on with the devices whose states were looked up; `arrived_s` as for `take`."""
        if self._store is None:
            return
        for device, state in self._store.answers():
            if self._void[device]:
                self._void[device] -= 1
                continue
            try:
                self._go_on(device, state, self._waiting.pop(device), arrived_s)
            except Exception:
                self._engine.counts[counters.INTERNAL_ERRORS] += 1
                log.exception("what device %s sent could not be handled", device, extra={"device": device})
            finally:
                self._checkpoint.release(device)

    def report(self, notices: Sequence[Notice], now_s: float) -> None:
        """Log what is wrong with devices' packets, and report it to the devices."""
        for notice in notices:
            self._complain(notice.owner, notice.reason, notice.text, now_s, notice.seq)

    def drop(self, partitions: Container[int | None]) -> list[str]:
        """Forget what waits of partitions that another process goes on with; return the devices."""
        gone = [device for device, waiting in self._waiting.items() if waiting.partition in partitions]
        for device in gone:
            del self._waiting[device]
            self._void[device] += device not in self._new
        self._new = [device for device in self._new if device not in gone]
        for key in [key for key in self._unsettled if key[0] in partitions]:
            del self._unsettled[key]
        return gone

    def erase(self, devices: Iterable[str]) -> None:
        """Forget what devices said before their first samples, and what was logged of them."""
        for device in devices:
            self._early.pop(device, None)
            self._complaints.erase(device)

    def housekeeping(self, now_s: float) -> None:
        """Forget limits that do not matter any more."""
        self._engine.forget_allowances(now_s)
        self._publisher.housekeeping(now_s)

    def recall(self, devices: Iterable[str], arrived_s: float) -> None:
        """Have devices looked up that an earlier process watched and that were not heard since, to go on with them.

        Parameters
        ----------
        devices
            Their ids; those of other workers are left out.
        arrived_s
            When they are taken to have been heard last.
        """
        for device in devices:
            if self._is_ours(device) and not self._engine.has_forgotten(device) and not self._engine.knows(device):
                self._look_up(device, None).recalled_s = arrived_s
        self._ask()

    def take_useless(self) -> list[str]:
        """Return the devices that were to be recalled, and are not to be gone on with."""
        useless, self._useless = self._useless, []
        return useless

    def _is_ours(self, device: str) -> bool:
        number, workers = self._shard
        return workers == 1 or zlib.crc32(device.encode()) % workers == number

    def take_lateness(self) -> float | None:
        """Return the median time in s from the end of a packet to its arrival since this was asked last."""
        lateness_s, self._lateness_s = self._lateness_s, []
        return round(statistics.median(lateness_s), 3) if lateness_s else None

    def _take(self, message: Message, now_s: float, arrived_s: float, time_s: float) -> str | None:
        """Take a message; return the device whose state depends on it, if any."""
        device = None
        try:
            device, leaf = self._topics.parse(message.topic)
            if not self._is_ours(device):
                return None
            if message.retained and leaf == "samples":
                self._ignore_retained(device, now_s)
                return None
            if not message.payload and leaf in ("info", "status"):
                return None  # a retained message is cleared so
            if message.retained and leaf == "status":
                return None  # it may be of any age; what matters comes as it happens, or as silence
            if not self._engine.allowance(device).admits(now_s):
                self._refuse(device, now_s)
                return None
            if message.partition is not None and self._is_foreign(device, leaf, message.partition):
                return None
            self._take_leaf(device, leaf, message, (now_s, arrived_s, time_s))
            return device
        except wire.PacketError as error:
            if device is None and self._requests is not None and self._requests.is_request(message.topic):
                return self._take_request(self._requests, message)
            self._reject(message.topic, device, str(error), now_s)
        except Exception:
            self._engine.counts[counters.INTERNAL_ERRORS] += 1
            topic = message.topic[:TOPIC_SHOWN]
            log.exception("a message on %s could not be handled", topic, extra={"topic": topic})
        return None

    def _take_request(self, requests: Requests, message: Message) -> str | None:
        """Hand a request on, once its device is as it was saved; return the device if that is waited for."""
        device = _device_of(message.payload)
        is_for_others = device is None or requests.is_for_others(device, message.partition)
        if device is None or is_for_others or not self._may_be_saved(device, message.partition):
            requests.take(message)
            return None
        self._look_up(device, message.partition).requests.append(message)
        return device

    def _is_foreign(self, device: str, leaf: str, partition: int) -> bool:
        """Whether what a device says of itself came by a partition that it does not belong to."""
        if leaf == "samples":
            return False
        known: Device | _Waiting | None = self._engine.record(device) or self._waiting.get(device)
        return known is not None and known.partition != partition

    def _take_leaf(self, device: str, leaf: str, message: Message, times_s: tuple[float, float, float]) -> None:
        now_s, arrived_s, time_s = times_s
        signal_s = 0.0
        try:
            try:
                content = _decode(leaf, message.payload)
            except wire.PacketError:
                unusable = Unusable(time_s)
                if leaf == "samples" and not self._waits(device, unusable, arrived_s, message.partition):
                    self._apply(device, unusable, arrived_s)
                raise
            if isinstance(content, wire.Packet):
                signal_s = content.samples.size / content.rate_hz
                if len(self._lateness_s) < LATENESSES:
                    self._lateness_s.append(time_s - content.start_s - signal_s)
            if content is not None and not self._waits(device, content, arrived_s, message.partition):
                self._apply(device, content, arrived_s)
        finally:
            self._engine.allowance(device).charge(len(message.payload), signal_s, now_s)

    def _waits(self, device: str, content: Content, arrived_s: float, partition: int | None) -> bool:
        """Put aside what comes from a device that may have been saved; return whether it may have been."""
        if self._engine.knows(device):
            return False
        if partition is not None and not isinstance(content, wire.Packet | Unusable) and device not in self._waiting:
            self._remember_early(partition, device, content, arrived_s)
            return True
        if not self._may_be_saved(device, partition):
            return False
        self._look_up(device, partition).sent.append((content, arrived_s))
        return True

    def _may_be_saved(self, device: str, partition: int | None) -> bool:
        """Whether nothing is known of a device, and the store may know more."""
        if self._engine.knows(device):
            return False
        return partition is not None or (self._store is not None and not self._engine.has_forgotten(device))

    def _look_up(self, device: str, partition: int | None) -> _Waiting:
        """Have a device looked up, unless it is; return what waits for that."""
        waiting = self._waiting.get(device)
        if waiting is None:
            waiting = self._waiting[device] = _Waiting(partition)
            self._new.append(device)
            self._checkpoint.hold(device)
            if partition is not None:
                waiting.sent += self._take_early(partition, device)
        return waiting

    def _take_early(self, partition: int, device: str) -> list[tuple[Content, float]]:
        """Return what a device said of itself before its first samples.

        A process that had the partition until now may have taken that; but the other partitions have got it, too.
        """
        early = self._early.pop(device, None)
        if early is None:
            return []
        return [early.get(partition) or max(early.values(), key=lambda one: one[1])]

    def _ask(self) -> None:
        """Have all new devices looked up together."""
        if self._new and self._store is not None:
            self._store.ask(self._new)
            self._new = []

    def _remember_early(self, partition: int, device: str, content: Content, arrived_s: float) -> None:
        """Remember what a device says of itself before its first samples; of most devices none will come here."""
        self._is_kept = True
        self._early.setdefault(device, {})[partition] = content, arrived_s
        self._early.move_to_end(device)
        while self._early:
            latest_s = max(came_s for _, came_s in next(iter(self._early.values())).values())
            if len(self._early) <= MOST_EARLY and latest_s > arrived_s - EARLY_S:
                break
            self._early.popitem(last=False)

    def _settle_early(self, partition: int, device: str, now_s: float) -> None:
        """Have what a device said before its first samples acknowledged once the device is saved."""
        for leaf in ("info", "status"):
            tokens, _ = self._unsettled.pop((partition, self._topics.of(device, leaf)), ((), 0.0))
            for token in tokens:
                self._checkpoint.received(token, device, now_s)

    def _expire_early(self, now_s: float) -> None:
        """Have what devices of other partitions said acknowledged after a while."""
        while self._unsettled:
            tokens, came_s = next(iter(self._unsettled.values()))
            if now_s - came_s < UNSETTLED_S and len(self._unsettled) <= MOST_UNSETTLED:
                return
            self._unsettled.popitem(last=False)
            for token in tokens:
                self._checkpoint.received(token, None, now_s)

    def _go_on(self, device: str, state: bytes | None, waiting: _Waiting, arrived_s: float) -> None:
        """Restore a device, and take what it has sent meanwhile; tell it from where on its packets are needed."""
        is_forgotten = self._engine.has_forgotten(device)  # and what is saved of it is out of date
        heard_s = arrived_s if waiting.recalled_s is None else waiting.recalled_s
        is_to_hear = state is not None and not is_forgotten and self._restore(device, state, heard_s)
        if waiting.recalled_s is not None and not is_to_hear and not waiting.sent:
            self._useless.append(device)
        for content, came_s in waiting.sent:
            if is_to_hear and isinstance(content, wire.Packet):
                self._publisher.acknowledge(device)
                is_to_hear = False
            self._apply(device, content, came_s)
            if is_to_hear and isinstance(content, wire.Info):  # not before: it may have restarted
                self._publisher.acknowledge(device)
                is_to_hear = False
        if waiting.partition is not None and (known := self._engine.record(device)) is not None:
            known.partition = waiting.partition
        if self._requests is not None:
            for request in waiting.requests:
                self._requests.take(request)

    def _apply(self, device: str, content: Content, arrived_s: float) -> None:
        if isinstance(content, wire.Packet):
            self._engine.feed(device, content, arrived_s)
        elif isinstance(content, Unusable):
            self._engine.refuse(device, arrived_s, content.time_s)
        elif isinstance(content, wire.Info):
            self._engine.describe(device, content, arrived_s)
            known = self._engine.record(device)
            if known is not None and known.stream.next_seq is None:
                known.acked = None  # it was restarted: what was acknowledged of its packets is over
        else:
            self._engine.status(device, content, arrived_s)

    def _restore(self, device: str, state: bytes, arrived_s: float) -> bool:
        """Go on where an earlier process saved the device; return whether that worked."""
        try:
            self._engine.restore(device, state, arrived_s)
        except ValueError as error:
            self._engine.counts[counters.STATES_NOT_RESTORED] += 1
            log.warning("%s Starting over.", error, extra={"device": device})
        return self._engine.knows(device)

    def _ignore_retained(self, device: str, now_s: float) -> None:
        self._engine.counts[counters.RETAINED_SAMPLES] += 1
        text = "retained samples are ignored, since they may be of any age: publish samples without the retain flag"
        self._complain(device, "retained", text, now_s)

    def _refuse(self, device: str, now_s: float) -> None:
        self._engine.counts[counters.TOO_MANY_PACKETS] += 1
        text = "more messages than its share; what is above the rate limit is dropped"
        self._complain(device, "rate-limit", text, now_s)

    def _reject(self, topic: str, device: str | None, reason: str, now_s: float) -> None:
        self._engine.counts[counters.REJECTED] += 1
        shown = topic[:TOPIC_SHOWN]
        if self._complaints.is_new(shown):
            text = "dropped a message on %s: %s (logged once for this topic)"
            log.warning(text, shown, reason, extra={"topic": shown})
        if device is not None:
            self._publisher.report_error(device, wire.DeviceError(reason="rejected", text=reason), now_s)

    def _complain(self, device: str, reason: wire.ErrorReason, text: str, now_s: float, seq: int | None = None) -> None:
        """Log what is wrong with a device's messages, once, and report it to the device."""
        if self._complaints.is_new(f"{reason} {device}"):
            log.warning("%s: %s (logged once for this device)", device, text, extra={"device": device})
        self._publisher.report_error(device, wire.DeviceError(reason=reason, text=text, seq=seq), now_s)


class _Waiting:
    """What a device sent while it is looked up."""

    __slots__ = ("partition", "recalled_s", "requests", "sent")

    def __init__(self, partition: int | None) -> None:
        self.partition = partition
        self.recalled_s: float | None = None  # when it is taken to have been heard last, if it was not heard since
        self.sent: list[tuple[Content, float]] = []
        self.requests: list[Message] = []  # about it


def _device_of(payload: bytes) -> str | None:
    """Return which device a request is about, if it can be read."""
    try:
        return wire.decode(payload, wire.Request).device
    except wire.PacketError:
        return None


def _decode(leaf: str, payload: bytes) -> Content | None:
    """Decode what a device sent; None if it is nothing of ours."""
    if leaf == "samples":
        return wire.decode_packet(payload)
    if leaf == "info":
        return wire.decode(payload, wire.Info)
    return wire.decode(payload, wire.DeviceStatus) if leaf == "status" else None


class Complaints:
    """What was logged already: a broken device must not flood the log."""

    def __init__(self) -> None:
        self._made: set[str] = set()

    def is_new(self, about: str) -> bool:
        """Whether nothing was logged about that yet."""
        if about in self._made or len(self._made) >= MOST_COMPLAINTS:
            return False
        self._made.add(about)
        return True

    def erase(self, device: str) -> None:
        """Forget what was logged about a device."""
        self._made = {one for one in self._made if device not in re.split("[/ ]", one)}
