"""When a packet may be acknowledged: once what follows from it cannot be lost any more.

Until then the broker keeps it, and delivers it again to the process that takes over after a crash. A packet is
committed when the state of its device was saved after it, together with the alerts that no broker has confirmed;
packets that come later rebuild the rest. The oldest are committed first, each after `WINDOW_S`, so that saving is
spread evenly; at once when nothing more comes; and early when too many wait.

The store saves in its own time: several transactions may be open, and each takes along what waits for it. What one
that fails took along is put back, and saved later. Packets of a device whose saved state is still being looked up are
not committed, nor those behind them.

Packets are acknowledged in the order in which they came, as MQTT asks for. A packet that the broker does not wait for
(QoS 0) is committed all the same: its device's state is saved, and the device gets its `ack`. Knows nothing of brokers'
clients or of what is in a message.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from monitor.devices import Device, Hourly
from monitor.engine import Engine
from monitor.state.store import HourlyRow, OutboxMessage, Outcome, RequestRow, StateStore, Transaction, without

WINDOW_S = 10.0
"""A packet is committed after this time at the latest, when all goes well."""
MOST_UNCOMMITTED = 60_000
"""More than these do not wait: MQTT can have 65 535 packets of a connection under way."""
TRUSTED = 64
"""So often a limit must have been met without a silence before a higher one is tried."""
MOST_SAVED = 100
"""Devices whose states are saved in one go: some milliseconds."""
COMMIT_S = 0.02
"""No sooner than this after the last time is anything saved: a transaction has a price of its own."""
MOST_OPEN = 16
"""While so many transactions are open, no more are submitted: what is due waits here, where it costs nothing."""
MOST_KEPT, MOST_HOURLY, MOST_REQUESTS = 10_000, 100_000, 10_000
"""While nothing can be saved, no more alerts than these are kept for the history, of beats no more hours, and of
requests no more for the audit trail."""


class _Entry(NamedTuple):
    token: int | None
    device: str | None
    number: int
    came_s: float


class Saved(NamedTuple):
    """A device, and up to where its packets are saved."""

    device: str
    next_seq: int
    """Number of the first packet that it must keep."""


class Committed(NamedTuple):
    """What may be acknowledged now."""

    tokens: list[int]
    """Messages to acknowledge to the broker, in order."""
    saved: list[Saved]
    """Devices that need not keep their packets so far."""


@dataclass(slots=True, eq=False)
class _Open:
    """A transaction that the store has not reported yet, and what waits for it."""

    transaction: Transaction
    devices: list[tuple[Device, int | None]] = field(default_factory=list)
    """Those whose states are in it, and the number of the packet that each needed next."""
    tombstones: dict[str, list[Hourly]] = field(default_factory=dict)
    tokens: list[int] = field(default_factory=list)
    is_void: bool = False
    """Whether one before it failed: it is not saved, and what it took along was put back."""


class Window:
    """How many packets may wait before some are committed early.

    A broker hands out only so many before it waits for acknowledgements. How many is found out: where it falls silent
    is the limit, until that has proved too low.
    """

    def __init__(self) -> None:
        self.limit = MOST_UNCOMMITTED
        self._met = 0

    def learn(self, waiting: int, idle: bool) -> None:
        """Take note of how many packets wait, and of whether the broker is silent."""
        if idle and 0 < waiting < self.limit:
            self.limit, self._met = waiting, 0
        elif waiting >= self.limit:
            self._met += 1
            if self._met >= TRUSTED:
                self.limit, self._met = min(2 * self.limit, MOST_UNCOMMITTED), 0

    def most(self, waiting: int) -> int:
        """Return how many of those that wait may go on waiting."""
        return self.limit // 2 if waiting >= self.limit else MOST_UNCOMMITTED


class Outbox:
    """Alerts between being found and being confirmed by the broker.

    Parameters
    ----------
    store
        Where they are kept meanwhile; None keeps them nowhere.
    """

    def __init__(self, store: StateStore | None) -> None:
        self._store = store
        self.published: deque[OutboxMessage] = deque(maxlen=MOST_KEPT)
        """Alerts that the history does not hold yet."""
        self.confirmed: list[str] = []
        """Ids of alerts that the store need not keep any more."""
        self.is_doubtful = False
        """Whether the store may lack alerts that it once had."""
        self._unconfirmed: dict[str, OutboxMessage] = {}
        self._stored: set[str] = set()  # ids of alerts that the store's outbox has, or will have
        self._leaving: set[str] = set()  # ids of those that the store was asked to drop from it
        self._resent = 0

    def add(self, message: OutboxMessage) -> None:
        """Note an alert that is on its way to the broker."""
        self.published.append(message)
        self._unconfirmed[message.id] = message

    def find(self, message_id: str) -> OutboxMessage | None:
        """Return an alert that is not confirmed, by its id."""
        return self._unconfirmed.get(message_id)

    def confirm(self, message_id: str) -> None:
        """Note that a broker has an alert."""
        self._unconfirmed.pop(message_id, None)
        if message_id in self._stored:
            self._stored.discard(message_id)
            self.confirmed.append(message_id)

    def adopt(self, messages: Iterable[OutboxMessage]) -> list[OutboxMessage]:
        """Take over alerts that another process left; return those that are to be published again."""
        new = [message for message in messages if message.id not in self._unconfirmed]
        self._unconfirmed |= {message.id: message for message in new}
        self._stored |= {message.id for message in new}
        return new

    def drop(self, partitions: Container[int | None]) -> None:
        """Forget the alerts of partitions that another process goes on with: it has them, or finds them again."""
        gone = [one.id for one in self._unconfirmed.values() if one.partition in partitions]
        for message_id in gone:
            del self._unconfirmed[message_id]
        self._stored.difference_update(gone)
        kept = [one for one in self.published if one.partition not in partitions]
        self.published = deque(kept, maxlen=MOST_KEPT)

    @property
    def needs_resend(self) -> bool:
        """Whether the store was opened again since `resend`: it may hold alerts that nobody could read until then."""
        return self._store is not None and self._store.opened != self._resent

    def erase(self, device: str) -> None:
        """Forget the alerts of a device."""
        gone = {one.id for one in self._unconfirmed.values() if one.device == device}
        for message_id in gone:
            del self._unconfirmed[message_id]
        self._stored -= gone
        self.published = deque([one for one in self.published if one.device != device], maxlen=MOST_KEPT)

    def count(self, device: str) -> int:
        """Return how many alerts of a device are kept here."""
        kept = {one.id for one in (*self._unconfirmed.values(), *self.published) if one.device == device}
        return len(kept)

    def resend(self) -> list[OutboxMessage]:
        """Take over alerts that an earlier process left; return them, to be published again."""
        if self._store is None:
            return []
        self._resent = self._store.opened
        known = self._unconfirmed.keys() | self.confirmed | self._leaving
        messages = [message for message in self._store.read_outbox() if message.id not in known]
        self._unconfirmed |= {message.id: message for message in messages}
        self._stored |= {message.id for message in messages}
        return messages

    @property
    def is_due(self) -> bool:
        """Whether anything is to be saved."""
        return bool(self.published or self.confirmed) or self.is_doubtful

    def take(self) -> tuple[Sequence[OutboxMessage], Sequence[OutboxMessage], Sequence[str]]:
        """Take what is to be saved: alerts for the history, alerts for the outbox, ids of confirmed alerts."""
        known = self._stored
        unconfirmed = [one for one in self._unconfirmed.values() if self.is_doubtful or one.id not in known]
        published = (*self.published, *unconfirmed) if self.is_doubtful else tuple(self.published)
        confirmed = tuple(self.confirmed)
        self._stored.update(message.id for message in unconfirmed)
        self._leaving.update(confirmed)
        self.confirmed.clear()
        self.published.clear()
        self.is_doubtful = False
        return published, unconfirmed, confirmed

    def put_back(self, transaction: Transaction) -> None:
        """Have again what could not be saved; the alerts on their way are all saved again once the store is mended."""
        self.published = deque([*transaction.published, *self.published], maxlen=MOST_KEPT)
        self.confirmed = [*transaction.confirmed, *self.confirmed]
        self._leaving.difference_update(transaction.confirmed)

    def is_stored(self, transaction: Transaction) -> None:
        """Note that a transaction was saved."""
        self._leaving.difference_update(transaction.confirmed)


class Decided:
    """What people have decided between being asked for and being saved; a request is answered once it is."""

    def __init__(self) -> None:
        self.decisions: dict[str, bytes] = {}
        """By device, not saved yet."""
        self.requests: deque[RequestRow] = deque(maxlen=MOST_REQUESTS)
        """By which they were made, for the audit trail."""
        self._open: list[RequestRow] = []  # not saved yet, nor answered
        self._saved: list[RequestRow] = []  # saved, and not answered yet

    def erase(self, device: str) -> None:
        """Forget what there is about a device; requests about it count as done."""
        self.decisions.pop(device, None)
        self.requests = deque([row for row in self.requests if row.device != device], maxlen=MOST_REQUESTS)
        self._saved += [row for row in self._open if row.device == device]
        self._open = [row for row in self._open if row.device != device]

    def add(self, device: str, decisions: bytes | None, request: RequestRow | None = None) -> None:
        """Take what there is about a device, and the request that changed it."""
        if decisions is not None:
            self.decisions[device] = decisions
        if request is not None:
            self.note(request)

    def note(self, request: RequestRow) -> None:
        """Take a request that is about no device."""
        self.requests.append(request)
        self._open.append(request)

    @property
    def waits(self) -> bool:
        """Whether anything is to be saved."""
        return bool(self.decisions or self.requests)

    @property
    def is_urgent(self) -> bool:
        """Whether somebody waits for what is to be saved."""
        return self.waits and bool(self._open)

    def take(self) -> tuple[dict[str, bytes], tuple[RequestRow, ...]]:
        """Take what is to be saved: decisions, and requests."""
        taken = dict(self.decisions), tuple(self.requests)
        self.decisions.clear()
        self.requests.clear()
        return taken

    def drop(self, devices: Container[str]) -> None:
        """Forget what was decided about devices, and not saved."""
        self.decisions = _without(self.decisions, devices)
        self.requests = deque([row for row in self.requests if row.device not in devices], maxlen=MOST_REQUESTS)
        self._open = [row for row in self._open if row.device not in devices]

    def put_back(self, transaction: Transaction) -> None:
        """Have again what could not be saved; what was decided since stays."""
        self.decisions = {**transaction.decisions, **self.decisions}
        self.requests = deque([*transaction.requests, *self.requests], maxlen=MOST_REQUESTS)

    def is_stored(self, requests: Sequence[RequestRow]) -> None:
        """Note that the store holds requests, and what was decided by them."""
        ids = {row.id for row in requests}
        self._saved += [row for row in self._open if row.id in ids]
        self._open = [row for row in self._open if row.id not in ids]

    def take_settled(self, fault: str | None) -> list[tuple[RequestRow, str | None]]:
        """Return the requests that are saved, or cannot be for now because of a fault, each once."""
        settled: list[tuple[RequestRow, str | None]] = [(row, None) for row in self._saved]
        self._saved = []
        if fault is not None:
            settled += [(row, fault) for row in self._open]
            self._open = []
        return settled


class Checkpoint:
    """The packets that are not committed, and what is saved so that they can be.

    Parameters
    ----------
    engine
        Whose devices' states are saved.
    store
        Where; without one, everything is committed at once.
    """

    def __init__(self, engine: Engine, store: StateStore | None) -> None:
        self.outbox = Outbox(store)
        self.decided = Decided()
        self._engine = engine
        self._store = store
        self._window = Window()
        self._uncommitted: deque[_Entry] = deque()
        self._open: deque[_Open] = deque()
        self._open_tokens = 0
        self._looked_up: set[str] = set()
        self._is_retry_due = False
        self._settling: int | None = None  # number of the last packet before `settle`
        self._number = 0
        self._committed_s = -math.inf
        self._hourly: dict[tuple[int, str, str], tuple[int, int]] = {}  # beats that the store does not count yet
        self._owed: set[str] = set()  # devices of which the store may not hold the last state
        self._erased: set[str] = set()  # devices of which the store is to delete everything
        self._being_erased: set[str] = set()  # those of which it was asked to
        self._opened = 0 if store is None else store.opened

    @property
    def uncommitted(self) -> int:
        """Packets that are not acknowledged yet."""
        return len(self._uncommitted) + self._open_tokens

    @property
    def is_full(self) -> bool:
        """Whether so many packets wait that some must be committed before more are taken."""
        return self.uncommitted > MOST_UNCOMMITTED

    @property
    def is_open(self) -> bool:
        """Whether the store has not reported all that it was handed."""
        return bool(self._open)

    def waited_s(self, now_s: float) -> float:
        """For how long the oldest packet that was not handed to the store has waited, on the clock of `received`."""
        return now_s - self._uncommitted[0].came_s if self._uncommitted else 0.0

    def received(self, token: int | None, device: str | None, now_s: float) -> None:
        """Note a message that must be acknowledged, and the device whose state depends on it, if any."""
        self._number += 1
        self._uncommitted.append(_Entry(token, device, self._number, now_s))

    def hold(self, device: str) -> None:
        """Note that a device's saved state is looked up: until `release` none of its packets is committed."""
        self._looked_up.add(device)

    def release(self, device: str) -> None:
        """Note that a device's packets so far were taken."""
        self._looked_up.discard(device)

    def looks_up(self, device: str) -> bool:
        """Whether a device's saved state is being looked up: it has just been heard."""
        return device in self._looked_up

    def erase(self, device: str) -> None:
        """Forget what is not saved of a device, and have the store delete what is."""
        self._owed.discard(device)
        entries = [one._replace(device=None) if one.device == device else one for one in self._uncommitted]
        self._uncommitted = deque(entries)  # its messages are acknowledged, and wait for nothing
        for key in [key for key in self._hourly if key[1] == device]:
            del self._hourly[key]
        self.outbox.erase(device)
        self.decided.erase(device)
        self._erased.add(device)

    def count(self, device: str) -> dict[str, int]:
        """Return how much of a device waits here to be saved, by what it is."""
        return {
            "hourly": sum(key[1] == device for key in self._hourly),
            "alert": self.outbox.count(device),
            "decision": int(device in self.decided.decisions),
            "packet": sum(entry.device == device for entry in self._uncommitted),
        }

    def owe(self, devices: Iterable[str]) -> None:
        """Note devices whose state has changed without a packet: it is saved next."""
        if self._store is not None:
            self._owed.update(devices)

    def disconnected(self) -> None:
        """The connection is gone: the broker will deliver again what it waited for, and nothing else."""
        self._uncommitted = deque(entry for entry in self._uncommitted if entry.token is None)
        for one in self._open:
            one.tokens.clear()
        self._open_tokens = 0

    def drop(self, partitions: Container[int | None], devices: Iterable[str]) -> None:
        """Forget what is not saved of partitions, and of their devices, that another process goes on with.

        Their packets are delivered to it again, so their beats are counted there; and so are requests about them.
        """
        gone = set(devices)
        self._uncommitted = deque(entry for entry in self._uncommitted if entry.device not in gone)
        self._owed -= gone
        self._looked_up -= gone
        for key in [key for key in self._hourly if key[1] in gone]:
            del self._hourly[key]
        self.outbox.drop(partitions)
        self.decided.drop(gone)
        for one in self._open:  # what of it is put back if it cannot be saved
            rows = [row for row in one.transaction.requests if row.device not in gone]
            one.transaction = replace(
                one.transaction, decisions=_without(one.transaction.decisions, gone), requests=rows
            )

    def settle(self) -> bool:
        """Commit what waits now, and hand over nothing that comes later before the store has reported all of it.

        Returns
        -------
        bool
            Whether it has. If not, ask again next turn, or `go_on`.
        """
        if self._settling is None:
            self._settling = self._number
        if self._open or self._is_settling_due:
            return False
        self._settling = None
        return True

    def go_on(self) -> None:
        """Hand over what comes later: nothing needs to be settled any more."""
        self._settling = None

    @property
    def _is_settling_due(self) -> bool:
        """Whether what waited when `settle` was called first is not handed over yet."""
        return self._settling is not None and bool(self._uncommitted) and self._uncommitted[0].number <= self._settling

    def retry(self) -> None:
        """Have the store see whether anything is wrong, as soon as nothing is open."""
        self._is_retry_due = True

    def commit(self, now_s: float, idle: bool) -> Committed:
        """Hand over what is due, and return what is committed; what the engine was given must have been flushed.

        Parameters
        ----------
        now_s
            On the clock of `received`.
        idle
            Whether there is nothing else to do.
        """
        if self._store is None:
            return self._commit_nothing()
        before = self._take_outcomes(self._store.done())
        tokens = self._hand_over(self._store, now_s, idle) if self._may_hand_over(self._store, now_s, idle) else []
        after = self._take_outcomes(self._store.done())
        return Committed(before.tokens + tokens + after.tokens, before.saved + after.saved)

    def wait(self, wait_s: float) -> Committed:
        """Return what is committed meanwhile; wait until something is, if anything is open."""
        if self._store is None:
            return Committed([], [])
        return self._take_outcomes(self._store.done(wait_s))

    def _may_hand_over(self, store: StateStore, now_s: float, idle: bool) -> bool:
        is_settling_due = self._is_settling_due
        if store.is_fenced or (self._settling is not None and not is_settling_due):
            return False
        if self._open and (self._is_retry_due or store.opened != self._opened or len(self._open) >= MOST_OPEN):
            return False
        if self._is_retry_due:
            self._is_retry_due = False
            store.retry()
        is_faulty = store.fault is not None
        is_pressing = self.decided.is_urgent or (self._engine.tombstones and not is_faulty)
        urgent = idle or is_settling_due or self.uncommitted >= self._window.limit or is_pressing
        return bool(urgent) or now_s - self._committed_s >= COMMIT_S

    def _hand_over(self, store: StateStore, now_s: float, idle: bool) -> list[int]:
        """Hand over what is due; return the tokens that need not wait for it.

        What cannot be saved is acknowledged to the broker all the same: a full disk must not stop the monitor. The
        devices get no `ack`, and keep it.
        """
        self._committed_s = now_s
        if self._uncommitted:
            self._window.learn(self.uncommitted, idle)
        tokens, devices = self._collect(now_s, idle)
        if store.fault is None:
            self._submit(store, devices)
        if not self._open:
            return tokens
        self._open[-1].tokens += tokens
        self._open_tokens += len(tokens)
        return []

    def _take_outcomes(self, outcomes: Sequence[Outcome]) -> Committed:
        """Note what became of transactions."""
        tokens: list[int] = []
        saved: list[Saved] = []
        if self._store is not None and self._store.is_fenced:  # who has taken over gets what is not acknowledged
            return Committed([], [])
        for outcome in outcomes:
            one = self._open.popleft()
            tokens += one.tokens
            self._open_tokens -= len(one.tokens)
            if outcome.is_saved:
                self.outbox.is_stored(one.transaction)
                self.decided.is_stored(one.transaction.requests)
                self._being_erased.difference_update(one.transaction.erased)
                self._engine.bury(one.tombstones)
                saved += [
                    Saved(known.id, seq) for known, seq in one.devices if seq is not None and self._is_still(known, seq)
                ]
            elif not one.is_void:
                for void in reversed([one, *self._open]):
                    self._put_back(void)
        return Committed(tokens, saved)

    def _is_still(self, known: Device, seq: int) -> bool:
        """Whether a device has not been forgotten or restarted since its next packet was that one."""
        if self._engine.record(known.id) is not known:
            return False
        now = known.stream.next_seq
        return now is not None and now >= seq

    def _put_back(self, one: _Open) -> None:
        """Have again what could not be saved; the devices are owed when the store is opened again."""
        one.is_void = True
        self._erased |= set(one.transaction.erased)
        gone = self._erased | self._being_erased
        transaction = without(one.transaction, gone)
        self.outbox.put_back(transaction)
        self.decided.put_back(transaction)
        self._engine.put_back(one.tombstones)
        for row in transaction.hourly:
            if not self._engine.knows(row.device) and not self._engine.has_forgotten(row.device):
                continue  # another process goes on with it, and counts them
            self._add_hourly((row.hour, row.device, row.what), (row.beats, row.rr_ms))

    def take_settled(self) -> list[tuple[RequestRow, str | None]]:
        """Return the requests that may be answered now, each once, and why what was decided is not saved, if so."""
        store = self._store
        if store is not None and store.is_fenced:  # who has taken over has been asked as well
            return []
        return self.decided.take_settled(None if store is None else store.fault or store.delay)

    def _commit_nothing(self) -> Committed:
        """Without a store: acknowledge all to the broker, and drop what would be saved."""
        tokens = [entry.token for entry in self._uncommitted if entry.token is not None]
        for entry in self._uncommitted:
            if entry.device is not None and (known := self._engine.record(entry.device)) is not None:
                known.hourly.clear()
        self._uncommitted.clear()
        self.outbox.published.clear()
        self._erased.clear()
        self._engine.bury(self._engine.take_tombstones())
        _, requests = self.decided.take()
        self.decided.is_stored(requests)
        return Committed(tokens, [])

    def _submit(self, store: StateStore, devices: list[str]) -> None:
        """Submit the states of devices, of those that are owed, and all else that is to be saved."""
        outbox = self.outbox
        if store.opened != self._opened:  # it may be a new file, or one that was full for a while
            self._owed = {known.id for known in self._engine.records() if known.saved}
            self._opened, outbox.is_doubtful = store.opened, True
        self._collect_owed(devices)
        if not (devices or self._engine.tombstones or outbox.is_due or self.decided.waits):
            return
        states = {device: self._engine.save(device) for device in devices}
        records = [known for device in devices if (known := self._engine.record(device)) is not None]
        tombstones = self._engine.take_tombstones()
        rows = self._take_ripe(states, tombstones)
        erased, self._erased = frozenset(self._erased), set()
        self._being_erased |= erased
        transaction = Transaction(states, *outbox.take(), frozenset(tombstones), rows, *self.decided.take(), erased)
        self._open.append(_Open(transaction, [(known, known.stream.next_seq) for known in records], tombstones))
        store.submit(transaction)

    def _take_ripe(self, states: dict[str, bytes], tombstones: dict[str, list[Hourly]]) -> list[HourlyRow]:
        """Take the beats that may be counted.

        Beats of a device whose state is not saved yet would be counted again after a crash. One that was forgotten,
        and is there again, has a state.
        """
        for device, left in tombstones.items():
            for hourly in left:
                self._take_hourly(device, hourly)
        gone = {device for device in tombstones if not self._engine.knows(device)}
        ripe = [key for key in self._hourly if key[1] in states or key[1] in gone]
        return [HourlyRow(*key, *self._hourly.pop(key)) for key in ripe]

    def _collect(self, now_s: float, idle: bool) -> tuple[list[int], list[str]]:
        """Take the packets that are due, and the devices whose states they wait for."""
        tokens: list[int] = []
        devices: list[str] = []
        most, settling = self._window.most(len(self._uncommitted)), self._settling or 0
        while self._uncommitted and len(devices) < MOST_SAVED:
            token, device, number, came_s = self._uncommitted[0]
            due = idle or number <= settling or now_s - came_s >= WINDOW_S or len(self._uncommitted) > most
            if not due or device in self._looked_up:
                break
            known = None if device is None else self._engine.record(device)
            if known is not None and known.saved < number:
                self._mark(known)
                devices.append(known.id)
            if token is not None:
                tokens.append(token)
            self._uncommitted.popleft()
        return tokens, devices

    def _collect_owed(self, devices: list[str]) -> None:
        """Add devices that could not be saved when they were due, or that a new file lacks."""
        due = set(devices)
        while self._owed and len(devices) < MOST_SAVED:
            known = self._engine.record(self._owed.pop())
            if known is not None and known.id not in due:
                self._mark(known)
                devices.append(known.id)

    def _mark(self, known: Device) -> None:
        """Note that a device is saved now; if that does not work, it is owed when the store is opened again."""
        known.saved = self._number
        self._take_hourly(known.id, known.hourly)

    def _take_hourly(self, device: str, hourly: Hourly) -> None:
        """Take the beats that a device's state must be saved together with, so that a crash counts none twice."""
        for (hour, what), counted in hourly.items():
            self._add_hourly((hour, device, what), counted)
        hourly.clear()

    def _add_hourly(self, key: tuple[int, str, str], counted: tuple[int, int]) -> None:
        before = self._hourly.get(key, (0, 0))
        self._hourly[key] = before[0] + counted[0], before[1] + counted[1]
        while len(self._hourly) > MOST_HOURLY:
            del self._hourly[next(iter(self._hourly))]


def _without(decisions: Mapping[str, bytes], devices: Container[str]) -> dict[str, bytes]:
    return {device: content for device, content in decisions.items() if device not in devices}
