"""What people ask of the monitor: acknowledge, silence, unsilence, comment, judge, rename, limits, forget; reload.

Rules
-----
* A request is granted as a whole or refused with a reason that a person understands. It is answered once what was
  decided is saved, so that an answer holds after a crash; what cannot be saved is done all the same, and says so.
* The broker may deliver a request twice. With an id that was answered before it is answered again, and not done again.
* Every granted request stays in the audit trail: who, when, what. Each step of an alert's life is also published.
* Of several workers each grants the requests for its own devices, and all of them read the configuration file again:
  the first one answers for all. Where the fleet is dealt out by partitions, the source brings each request to the one
  process that has the device, and every process reads its own file and answers. That a device is to be forgotten is
  heard by all as well.
* Who asks to forget a device is answered once nothing of it is left, in memory or saved. The audit trail then says who
  asked and when, and not of which device. Every worker drops what it knows of it, and one deletes what is saved.
* Who asks for a refresh gets no answer: what was published is published again.
* An answer goes below `wire.Topics.answer` only: who may ask must not thereby be able to publish anywhere. Who wants
  one elsewhere is refused, or on a topic for which a broker ends the connection. In MQTT 5 a request says where by its
  properties; its correlation data comes back.

Knows the wire, the engine and the store; nothing of how requests come in.
"""

from __future__ import annotations

import logging
import math
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import uuid4

import msgspec

from monitor import counters, wire
from monitor.alerts.override import find, override
from monitor.broker.source import Message, Source
from monitor.engine import SILENT_S, Engine
from monitor.nearest import nearest
from monitor.rate_limit import Allowance
from monitor.service.decisions import Acknowledgement, Decisions
from monitor.service.publisher import Publisher
from monitor.service.states import States
from monitor.state.checkpoint import Checkpoint
from monitor.state.store import RequestRow, StateStore

log = logging.getLogger(__name__)

REFRESH_S = 2.0
"""No more often is all published again because somebody asks for it."""


class Refusal(ValueError):
    """A request cannot be granted, for a reason that its sender understands."""


class Reply(NamedTuple):
    """Where a request is to be answered."""

    topic: str | None
    """None: not at all."""
    correlation: bytes | None
    """To be sent back with the answer."""


class Task(NamedTuple):
    """A request under way."""

    verb: wire.Verb
    request: wire.Request
    id: str
    """Of the request, or made up for one that has none."""
    now_s: float
    """On the clock of this machine."""


MOST_TOPIC = 200
"""Bytes of a topic of answers."""
RELOADS = 16
"""Requests to read the configuration file again whose ids are remembered."""


class Tools(NamedTuple):
    """What granting a request needs."""

    engine: Engine
    checkpoint: Checkpoint
    store: StateStore | None
    source: Source
    publisher: Publisher
    states: States
    decisions: Decisions
    reload: Callable[[], str]
    """Reads the configuration file again, and returns what came of it; ValueError if it cannot be used."""


class Requests:
    """Grants and answers requests.

    Parameters
    ----------
    tools
        What that needs.
    topics
        Of the wire.
    name
        Of the monitor.
    shard
        Number of this worker, and of how many.
    is_shared
        Whether the fleet is dealt out by partitions: others decide about a device until its partition is ours.
    """

    def __init__(
        self,
        tools: Tools,
        topics: wire.Topics,
        name: str,
        shard: tuple[int, int] = (0, 1),
        *,
        is_shared: bool = False,
    ) -> None:
        self._tools = tools
        self._topics = topics
        self._name = name
        self._shard = shard
        self._is_shared = is_shared
        self._decided: dict[str, int] = {}  # partitions of the devices about which was decided since they are ours
        self._allowance = Allowance()
        self._came: list[tuple[str, Message]] = []
        self._waiting: dict[str, tuple[RequestRow, Reply]] = {}  # granted ones, and where their answers go
        self._forgotten: dict[str, str] = {}  # devices, by the request that is not answered yet
        self._reloads: deque[str | None] = deque(maxlen=RELOADS)  # ids of the latest
        self._dropped: list[str] = []  # those that were forgotten in this turn
        self._arrived_s = 0.0
        self._opened = 0
        self._is_refresh_due = False
        self._refreshed_s = -math.inf
        self._grant: Mapping[wire.Verb, Callable[[Task], str]] = {
            "acknowledge": self._acknowledge,
            "silence": self._silence,
            "unsilence": self._unsilence,
            "comment": self._comment,
            "judge": self._judge,
            "rename": self._rename,
            "limits": self._limit,
            "forget": self._forget,
        }

    def load(self) -> None:
        """Take what was decided before from the store, if it was opened since; what it may lack is saved again.

        What other workers have decided is theirs: it would be old when it is saved again.
        """
        tools = self._tools
        if tools.store is None or tools.store.opened == self._opened:
            return
        self._opened = tools.store.opened
        saved, decisions = tools.store.read_decisions(), tools.decisions
        known = [
            device
            for device in decisions.devices()
            if self._decides(device) or (tools.engine.knows(device) and device not in saved)
        ]
        self.adopt(saved)
        for device in known:
            tools.checkpoint.decided.add(device, tools.decisions.save(device))

    def adopt(self, saved: Mapping[str, bytes]) -> None:
        """Take what was decided about devices by earlier processes, and by others while they were theirs.

        What the engine was given must have been flushed.
        """
        tools = self._tools
        theirs = {one: content for one, content in saved.items() if self._is_ours(one) and not self._decides(one)}
        changed = tools.decisions.adopt(theirs)
        self._set_limits(changed)
        tools.states.touch(changed)

    def leave(self, partitions: Container[int | None], gone: Iterable[str]) -> set[str]:
        """Forget requests about devices that another process goes on with, and what was decided here about them.

        It gets again what is not acknowledged, and reads what was saved.

        Parameters
        ----------
        partitions
            Theirs.
        gone
            Those that were known.

        Returns
        -------
        devices
            All of them.
        """
        decided = [device for device, partition in self._decided.items() if partition in partitions]
        for device in decided:
            del self._decided[device]
            self._tools.decisions.forget(device)
        self._set_limits(decided)
        devices = {*gone, *decided}
        self._waiting = {id_: one for id_, one in self._waiting.items() if one[0].device not in devices}
        return devices

    def _decides(self, device: str) -> bool:
        """Whether nobody can have decided anything about a device since what is known here."""
        return device in self._decided if self._is_shared else self._tools.decisions.knows(device)

    def _set_limits(self, devices: Iterable[str]) -> None:
        for device in devices:
            self._drop_unusable(device)
            try:
                self._tools.engine.set_limits(device, self._tools.decisions.limits_of(device))
            except ValueError as error:
                log.warning("the limits of device %s are not used: %s", device, error)

    def _drop_unusable(self, device: str) -> None:
        """Forget limits of a device that were saved, and can be set no more: they would be shown as if they held."""
        tools = self._tools
        for kind, values in list(tools.decisions.of(device).limits.items()):
            try:
                override(tools.engine.detectors, {kind: values})
            except ValueError as error:
                log.warning("device %s has the %s limits of all devices: %s", device, kind, error)
                del tools.decisions.change(device).limits[kind]

    def is_request(self, topic: str) -> bool:
        """Whether what comes on a topic is a request."""
        return self._topics.parse_request(topic, self._name) is not None

    def take(self, message: Message) -> None:
        """Keep a request for `turn`."""
        verb = self._topics.parse_request(message.topic, self._name)
        if verb == wire.REFRESH:
            self._is_refresh_due |= not message.retained
        elif verb is not None:
            self._came.append((verb, message))

    def turn(self, now_s: float, arrived_s: float) -> list[str]:
        """Grant or refuse what has come; what the engine was given must have been flushed.

        Parameters
        ----------
        now_s
            On a clock that does not run back.
        arrived_s
            On the clock of `Engine.feed`.

        Returns
        -------
        list of str
            Devices of which nobody may remember anything any more.
        """
        self._arrived_s = arrived_s
        came, self._came = self._came, []
        for verb, message in came:
            if message.retained or not self._allowance.admits(now_s):
                self._count_refused(verb, "retained requests are ignored" if message.retained else "too many requests")
                continue
            correlation = b"" if message.reply_to is None else message.reply_to.correlation or b""
            self._allowance.charge(len(message.payload) + len(correlation), 0.0, now_s)
            self._take(verb, message)
        dropped, self._dropped = self._dropped, []
        return dropped

    def takes_refresh(self, now_s: float) -> bool:
        """Whether what was published is to be published again; not more often than every `REFRESH_S`."""
        if not self._is_refresh_due or now_s - self._refreshed_s < REFRESH_S:
            return False
        self._is_refresh_due, self._refreshed_s = False, now_s
        return True

    def answer(self, rows: Sequence[tuple[RequestRow, str | None]]) -> None:
        """Answer requests of which what was decided is saved now, or cannot be for a reason."""
        for row, fault in rows:
            _, reply = self._waiting.pop(row.id, (row, NOWHERE))
            if (device := self._forgotten.pop(row.id, None)) is not None:
                self._answer(reply, self._prove(row, device, fault))
                continue
            text = row.answer if fault is None else f"{row.answer} But it is not saved: {fault}."
            self._answer(reply, wire.Answer(id=_id_of(row), ok=True, text=text))

    def _take(self, verb: str, message: Message) -> None:
        id_, reply = _read_sender(message)
        try:
            if verb == wire.RELOAD:
                self._reload(wire.decode(message.payload, wire.Reload), message.payload, reply)
                return
            request = wire.decode(message.payload, wire.Request)
            if self.is_for_others(request.device, message.partition):
                if verb == "forget" and not (self._is_shared and self._tools.engine.knows(request.device)):
                    self._drop(request.device)
                return
            self._handle(verb, request, message.payload, reply)
            if message.partition is not None:
                self._decided[request.device] = message.partition
        except (Refusal, wire.PacketError) as error:
            if isinstance(error, wire.PacketError) and not self._speaks_for_all(message.partition):
                return
            self._count_refused(verb, str(error))
            self._answer(reply, wire.Answer(id=id_, ok=False, text=str(error)))

    def _speaks_for_all(self, partition: int | None) -> bool:
        """Whether it is for this process to say what is wrong with a request that names no device."""
        return partition is not None if self._is_shared else not self._shard[0]

    def is_for_others(self, device: str, partition: int | None) -> bool:
        """Whether another process answers a request; where the fleet is dealt out, that to which it comes by partition.

        It may be this one, which hears it twice.

        Parameters
        ----------
        device
            Which the request is about.
        partition
            By which it came.
        """
        return partition is None if self._is_shared else not self._is_ours(device)

    def _is_ours(self, device: str) -> bool:
        number, workers = self._shard
        return workers == 1 or zlib.crc32(device.encode()) % workers == number

    def _handle(self, verb: str, request: wire.Request, payload: bytes, reply: Reply) -> None:
        tools = self._tools
        named = next((one for one in wire.VERBS if one == verb), None)
        if named is None:
            raise Refusal(f"There is no request {verb[:64]!r}{nearest(verb[:64], [*wire.VERBS, wire.RELOAD]) or '.'}")
        for name in ("by", "reason", "name", "text", "episode"):
            _check_word(name, getattr(request, name))
        self._check_reply(reply)
        task = Task(named, request, request.id or uuid4().hex, time.time())
        if self._answer_again(verb, request, payload, reply):
            return
        text = self._grant[task.verb](task)
        if named == "forget":
            row = RequestRow(task.id, task.now_s, "", verb, request.by, _only_id(request), text)
            tools.checkpoint.decided.add(request.device, None, row)
        else:
            row = RequestRow(
                task.id, task.now_s, request.device, verb, request.by, payload, text, request.episode or ""
            )
            tools.checkpoint.decided.add(request.device, tools.decisions.save(request.device), row)
            tools.states.touch([request.device])
        self._granted(row, reply)
        log.info("%s by %s: %s", verb, request.by, text, extra={"device": row.device})

    def _reload(self, request: wire.Reload, payload: bytes, reply: Reply) -> None:
        """Let the configuration file be read again, by this worker; the first one answers for all."""
        _check_word("by", request.by)
        self._check_reply(reply)
        is_first = self._shard[0] == 0
        if self._is_shared:
            if request.id is not None and request.id in self._reloads:  # the broker delivers it twice
                return
            self._reloads.append(request.id)
        elif is_first and self._answer_again(wire.RELOAD, request, payload, reply):
            return
        try:
            text = self._tools.reload()
        except ValueError as error:
            if not is_first:
                return
            raise Refusal(str(error)) from None
        if is_first:
            row = RequestRow(request.id or uuid4().hex, time.time(), "", wire.RELOAD, request.by, payload, text)
            self._granted(row, reply)
            self._tools.checkpoint.decided.note(row)
            log.info("%s by %s", wire.RELOAD, request.by)

    def _granted(self, row: RequestRow, reply: Reply) -> None:
        """Count a request that was granted, and let it be answered once it is saved."""
        self._tools.engine.counts[counters.REQUESTS] += 1
        self._waiting[row.id] = row, reply

    def _answer_again(self, verb: str, request: wire.Request | wire.Reload, payload: bytes, reply: Reply) -> bool:
        """Answer a request that was granted before, if that is saved, else later; return whether it was granted."""
        before = None if request.id is None else self._find(request.id)
        if before is None:
            return False
        row, _ = before
        is_same = self._is_forgotten(row, request) if verb == "forget" else row.payload == payload
        if row.verb != verb or not is_same:
            raise Refusal(f"The id {row.id} was that of another request: give each its own, such as a UUID.")
        if row.id not in self._waiting:
            self._answer(reply, wire.Answer(id=request.id, ok=True, text=row.answer))
        return True

    def _is_forgotten(self, row: RequestRow, request: wire.Request | wire.Reload) -> bool:
        """Whether a request to forget that was granted may be of the device that is named now: it is not kept which."""
        device = request.device if isinstance(request, wire.Request) else ""
        if row.id in self._waiting:
            return self._forgotten.get(row.id) == device
        left = self._count_left(device)
        return left is not None and not left.total() - left["packet"]  # the request itself is one

    def _find(self, id_: str) -> tuple[RequestRow, Reply] | None:
        """Return a request that was granted before, saved or not."""
        if id_ in self._waiting:
            return self._waiting[id_]
        store = self._tools.store
        row = None if store is None or store.delay is not None else store.find_request(id_)  # the loop would wait
        return None if row is None else (row, NOWHERE)

    def _acknowledge(self, task: Task) -> str:
        request, device = task.request, task.request.device
        alerts = [self._find_alert(request)] if request.episode is not None else self._active(request)
        if not alerts:
            raise Refusal(f"{device} has no active alert{'' if request.kind is None else f' {request.kind}'}.")
        decided = self._tools.decisions.change(device)
        told = []
        for alert in alerts:
            if (seen := decided.acknowledged.get(alert.episode)) is not None:
                told.append(f"{alert.kind} was acknowledged by {seen.by} before")
                continue
            decided.acknowledged[alert.episode] = Acknowledgement(request.by, task.now_s)
            self._tell(task, alert, "acknowledged")
            told.append(f"acknowledged {alert.kind}")
        if self._tools.engine.knows(device):  # else its alerts may be active all the same
            active = {alert.episode for alert in self._all_active(device)} | {alert.episode for alert in alerts}
            decided.acknowledged = {one: seen for one, seen in decided.acknowledged.items() if one in active}
        return f"{device}: {', '.join(told)}."

    def _silence(self, task: Task) -> str:
        request = task.request
        if request.for_s is None or not request.reason:
            raise Refusal("A silence needs for_s, in seconds, and a reason.")
        if request.kind is not None:
            self._check_kind(request.kind)
        decided = self._tools.decisions.change(request.device)
        until_s = round(task.now_s + request.for_s, 3)
        silence = wire.Silence(kind=request.kind, until_s=until_s, by=request.by, reason=request.reason)
        others = [one for one in decided.silences if one.kind != request.kind and one.until_s > task.now_s]
        decided.silences = [*others, silence]
        for alert in self._active(request):
            self._tell(task, alert, "silenced")
        until = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(until_s))
        told = f"{request.device}: {request.kind or 'all alerts'} silenced until {until}."
        return f"{told}{self._unheard(request.device)}"

    def _unsilence(self, task: Task) -> str:
        request, decisions = task.request, self._tools.decisions
        lasting = [one for one in decisions.of(request.device).silences if one.until_s > task.now_s]
        left = [one for one in lasting if request.kind not in (None, one.kind)]
        if len(left) == len(lasting):
            raise Refusal(f"Nothing{'' if request.kind is None else f' of {request.kind}'} is silenced.")
        decisions.change(request.device).silences = left
        return f"{request.device}: {request.kind or 'all alerts'} no longer silenced."

    def _comment(self, task: Task) -> str:
        if task.request.episode is None or not task.request.text:
            raise Refusal("A comment needs an episode and a text.")
        alert = self._find_alert(task.request)
        self._tell(task, alert, "commented", comment=task.request.text)
        return f"{task.request.device}: comment on {alert.kind} noted."

    def _judge(self, task: Task) -> str:
        right = task.request.right
        if task.request.episode is None or right is None:
            raise Refusal("To judge an alert, say which (episode) and whether it was right (true or false).")
        alert = self._find_alert(task.request)
        self._tell(task, alert, "commented", comment=task.request.text, right=right)
        return f"{task.request.device}: {alert.kind} judged {'right' if right else 'wrong'}."

    def _rename(self, task: Task) -> str:
        request = task.request
        name = None if request.name is None else request.name.strip()
        if name == "":
            raise Refusal("A name must not be empty: null takes it away.")
        self._tools.decisions.change(request.device).name = name
        told = f"{request.device} is called {name}." if name else f"{request.device} has no other name any more."
        return f"{told}{self._unheard(request.device)}"

    def _limit(self, task: Task) -> str:
        request = task.request
        if request.limits is None:
            raise Refusal('Limits must be given, such as {"bradycardia": {"below_bpm": 45}}.')
        decided = self._tools.decisions.of(request.device).limits
        limits = decided | {kind: decided.get(kind, {}) | values for kind, values in request.limits.items()}
        limits = {kind: values for kind, values in limits.items() if request.limits.get(kind) != {}}
        try:
            for kind in request.limits:
                find(self._tools.engine.detectors, kind)
            self._tools.engine.set_limits(request.device, self._tools.decisions.limits_of(request.device, limits))
        except ValueError as error:
            raise Refusal(str(error)) from None
        self._tools.decisions.change(request.device).limits = limits
        told = [f"{kind} {name} {value:g}" for kind, values in limits.items() for name, value in values.items()]
        wanted = ", ".join(told) or "the limits of all devices"
        return f"{request.device}: {wanted}.{self._unheard(request.device)}"

    def _unheard(self, device: str) -> str:
        """A sentence that nothing was heard of a device yet, if so: what was decided may be about a misspelt one."""
        engine = self._tools.engine
        if engine.knows(device):
            return ""
        near = nearest(device, [known.id for known in engine.records()])
        return f" No device of this id is heard now{near or '.'}"

    def _forget(self, task: Task) -> str:
        """Drop all that is remembered of a device, and have deleted what is saved."""
        device, tools = task.request.device, self._tools
        known = tools.engine.record(device)
        is_heard = known is not None and not known.is_away and known.arrived_s > self._arrived_s - SILENT_S
        if is_heard or tools.checkpoint.looks_up(device):
            raise Refusal(
                f"{device} is sending, and would be known again with its next packet: switch it off, and ask again "
                f"{SILENT_S:.0f} s later."
            )
        if tools.store is not None and tools.store.fault is not None:
            raise Refusal(f"{device} cannot be forgotten while nothing can be saved: {tools.store.fault}.")
        tools.engine.erase(device)
        self._drop(device)
        tools.checkpoint.erase(device)
        tools.states.clear([device])
        self._forgotten[task.id] = device
        return "A device was forgotten."

    def _drop(self, device: str) -> None:
        """Drop what is remembered of a device beside its record; of its limits, what the configuration file says stays.

        A process that does not answer may do so, too, even if the request is refused: its owner has all that is saved.
        """
        tools = self._tools
        tools.publisher.erase(device)
        tools.decisions.erase(device)
        self._set_limits([device])
        self._dropped.append(device)

    def _prove(self, row: RequestRow, device: str, fault: str | None) -> wire.Answer:
        """Say what is left of a device that was forgotten."""
        left = None if fault is not None else self._count_left(device)
        if left is None:
            why = fault or "it cannot be read"
            text = f"{device} is not deleted from what is saved, or that cannot be seen: {why}."
            return wire.Answer(id=_id_of(row), ok=False, text=text)
        told = ", ".join(f"{what}: {number}" for what, number in sorted(left.items()) if number)
        text = f"{device} is forgotten: {told or 'nothing of it'} is left in memory, states, history, outbox and audit."
        if not told:
            said = wire.Forgotten(device=device, time_s=round(time.time(), 3))
            self._tools.source.publish(self._topics.forgotten(self._name), wire.encode(said), qos=1)
        return wire.Answer(id=_id_of(row), ok=not told, text=text)

    def _count_left(self, device: str) -> Counter[str] | None:
        """Return how much there is of a device, by what it is; None if that cannot be seen."""
        tools = self._tools
        saved = {} if tools.store is None else tools.store.count(device)
        if saved is None:
            return None
        found = Counter({"memory": int(tools.engine.knows(device)), "decision": int(tools.decisions.knows(device))})
        found.update(tools.checkpoint.count(device))
        found.update(saved)
        return found

    def _check_kind(self, kind: wire.Kind) -> None:
        try:
            find(self._tools.engine.detectors, kind)
        except ValueError as error:
            raise Refusal(str(error)) from None

    def _all_active(self, device: str) -> list[wire.ActiveAlert]:
        known = self._tools.engine.record(device)
        return [] if known is None else list(known.active.values())

    def _active(self, request: wire.Request) -> list[wire.ActiveAlert]:
        """Return the active alerts that a request is about."""
        return [one for one in self._all_active(request.device) if request.kind in (None, one.kind)]

    def _find_alert(self, request: wire.Request) -> wire.ActiveAlert:
        """Return the alert that a request names, active or over."""
        episode, store = request.episode or "", self._tools.store
        for alert in self._all_active(request.device):
            if alert.episode == episode:
                return alert
        if store is not None and store.delay is not None:
            raise Refusal(f"Alerts that are over cannot be looked up now: {store.delay}. Try again later.")
        payload = None if store is None else store.find_alert(request.device, episode)
        if payload is None:
            raise Refusal(
                f"{request.device} has had no alert {episode!r}: expected an 'episode' of its messages, not an 'id'."
            )
        past = wire.decode(payload, wire.Alert)
        return wire.ActiveAlert(
            episode=episode, kind=past.kind, severity=past.severity, since_s=past.since_s, text=past.text
        )

    def _tell(self, task: Task, alert: wire.ActiveAlert, state: wire.AlertState, **details: Any) -> None:
        """Publish a step in the life of an alert."""
        request = task.request
        details = {"comment": request.reason or request.text} | details
        self._tools.publisher.publish_alert(
            wire.Alert(
                id=f"{alert.episode}-{state}-{task.id}",
                episode=alert.episode,
                device=request.device,
                kind=alert.kind,
                severity=alert.severity,
                state=state,
                time_s=round(task.now_s, 3),
                since_s=alert.since_s,
                text=alert.text,
                by=request.by,
                seq=0,
                completed_s=round(task.now_s, 3),
                **details,
            )
        )

    def _count_refused(self, verb: str, why: str) -> None:
        self._tools.engine.counts[counters.REQUESTS_REFUSED] += 1
        log.info("refused a request to %s: %s", verb[:64], why)

    def _check_reply(self, reply: Reply) -> None:
        """Refuse what is to be answered where no answers go."""
        if not self._may_answer(reply):
            expected = self._topics.answer(self._name, "")
            raise Refusal(
                f"Answers go below {expected} only, on topics of at most {MOST_TOPIC} bytes of printable text: got the "
                f"response topic {str(reply.topic)[:MOST_TOPIC]!r}."
            )

    def _may_answer(self, reply: Reply) -> bool:
        below, topic = self._topics.answer(self._name, ""), reply.topic
        if topic is None:
            return True
        is_sound = topic.isprintable() and len(topic.encode()) <= MOST_TOPIC and not set(topic) & set("+#")
        return is_sound and topic.startswith(below) and topic != below

    def _answer(self, reply: Reply, answer: wire.Answer) -> None:
        if reply.topic is None:
            return
        if not self._may_answer(reply):
            self._tools.engine.counts[counters.ANSWERS_NOWHERE] += 1
            return
        self._tools.source.publish(reply.topic, wire.encode(answer), qos=1, correlation=reply.correlation)


def _check_word(name: str, word: str | None) -> None:
    """Refuse what a person does not write: it would be printed on somebody's terminal."""
    if word is not None and not word.replace("\n", "").isprintable():
        raise Refusal(f"{name} must be printable text: got {word[:40]!r}.")


NOWHERE = Reply(None, None)


def _read_sender(message: Message) -> tuple[str | None, Reply]:
    """Return the id of a request and where to answer it, be the rest as it may; what MQTT 5 says comes first."""
    topic, correlation = message.reply_to or (None, None)
    try:
        read = wire.decode(message.payload, _Sender)
    except wire.PacketError:
        return None, Reply(topic, correlation)
    return read.id, Reply(read.response_topic if topic is None else topic, correlation)


class _Sender(msgspec.Struct):
    id: str | None = None
    response_topic: str | None = None


def _only_id(request: wire.Request) -> bytes:
    """Return what is kept of a request that must not be kept."""
    return msgspec.json.encode(_Sender(request.id))


def _id_of(row: RequestRow) -> str | None:
    return wire.decode(row.payload, _Sender).id
