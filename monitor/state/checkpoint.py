"""When a packet may be acknowledged: once what follows from it cannot be lost any more.

Until then the broker keeps it, and delivers it again to the process that takes over after a crash. A packet is
committed when the state of its device was saved after it, together with the alerts that no broker has confirmed;
packets that come later rebuild the rest. The oldest are committed first, each after `WINDOW_S`, so that saving is
spread evenly; at once when nothing more comes; and early when too many wait.

Packets are acknowledged in the order in which they came, as MQTT asks for. A packet that the broker does not wait for
(QoS 0) is committed all the same: its device's state is saved, and the device gets its `ack`. Knows nothing of brokers'
clients or of what is in a message.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from monitor.devices import Device, Hourly
from monitor.engine import Engine
from monitor.state.store import HourlyRow, OutboxMessage, RequestRow, StateStore, Transaction

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
MOST_KEPT, MOST_HOURLY, MOST_REQUESTS = 10_000, 100_000, 10_000
"""While nothing can be saved, no more alerts than these are kept for the history, of beats no more hours, and of
requests no more for the audit trail."""


class _Entry(NamedTuple):
    token: int | None
    device: str | None
    number: int
    came_s: float


class Committed(NamedTuple):
    """What may be acknowledged now."""

    tokens: list[int]
    """Messages to acknowledge to the broker, in order."""
    devices: list[str]
    """Devices that need not keep their packets so far."""


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
        self._stored: set[str] = set()  # ids of alerts that are in the store's outbox
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

    @property
    def needs_resend(self) -> bool:
        """Whether the store was opened again since `resend`: it may hold alerts that nobody could read until then."""
        return self._store is not None and self._store.opened != self._resent

    def resend(self) -> list[OutboxMessage]:
        """Take over alerts that an earlier process left; return them, to be published again."""
        if self._store is None:
            return []
        self._resent = self._store.opened
        known = self._unconfirmed.keys() | self.confirmed
        messages = [message for message in self._store.read_outbox() if message.id not in known]
        self._unconfirmed |= {message.id: message for message in messages}
        self._stored |= {message.id for message in messages}
        return messages

    @property
    def to_store(self) -> list[OutboxMessage]:
        """Alerts that the store's outbox must hold, and does not."""
        known = self._stored
        return [message for message in self._unconfirmed.values() if self.is_doubtful or message.id not in known]

    def is_stored(self, stored: list[OutboxMessage]) -> None:
        """Note that the store holds these, and all that was published or confirmed."""
        self._stored.update(message.id for message in stored)
        self.confirmed.clear()
        self.published.clear()
        self.is_doubtful = False


class Decided:
    """What people have decided between being asked for and being saved; a request is answered once it is."""

    def __init__(self) -> None:
        self.decisions: dict[str, bytes] = {}
        """By device, not saved yet."""
        self.requests: deque[RequestRow] = deque(maxlen=MOST_REQUESTS)
        """By which they were made, for the audit trail."""
        self._open: list[RequestRow] = []  # not answered yet

    def add(self, device: str, decisions: bytes, request: RequestRow | None = None) -> None:
        """Take what there is about a device, and the request that changed it."""
        self.decisions[device] = decisions
        if request is not None:
            self.requests.append(request)
            self._open.append(request)

    @property
    def waits(self) -> bool:
        """Whether anything is to be saved."""
        return bool(self.decisions)

    @property
    def is_urgent(self) -> bool:
        """Whether somebody waits for an answer."""
        return bool(self._open)

    def is_stored(self) -> None:
        """Note that the store holds all of it."""
        self.decisions.clear()
        self.requests.clear()

    def take_settled(self, fault: str | None) -> list[tuple[RequestRow, str | None]]:
        """Return the requests that are saved, or cannot be for now because of a fault, each once."""
        if self.waits and fault is None:
            return []
        settled, self._open = self._open, []
        return [(row, fault) for row in settled]


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
        self._number = 0
        self._committed_s = -math.inf
        self._hourly: dict[tuple[int, str, str], tuple[int, int]] = {}  # beats that the store does not count yet
        self._owed: set[str] = set()  # devices of which the store may not hold the last state
        self._opened = 0 if store is None else store.opened

    @property
    def uncommitted(self) -> int:
        """Packets that are not acknowledged yet."""
        return len(self._uncommitted)

    @property
    def is_full(self) -> bool:
        """Whether so many packets wait that some must be committed before more are taken."""
        return len(self._uncommitted) > MOST_UNCOMMITTED

    def received(self, token: int | None, device: str | None, now_s: float) -> None:
        """Note a message that must be acknowledged, and the device whose state depends on it, if any."""
        self._number += 1
        self._uncommitted.append(_Entry(token, device, self._number, now_s))

    def owe(self, devices: Iterable[str]) -> None:
        """Note devices whose state has changed without a packet: it is saved next."""
        if self._store is not None:
            self._owed.update(devices)

    def disconnected(self) -> None:
        """The connection is gone: the broker will deliver again what it waited for, and nothing else."""
        self._uncommitted = deque(entry for entry in self._uncommitted if entry.token is None)

    def commit(self, now_s: float, idle: bool) -> Committed:
        """Save what is due; what the engine was given must have been flushed.

        Parameters
        ----------
        now_s
            On the clock of `received`.
        idle
            Whether there is nothing else to do.
        """
        if self._store is None:
            return self._commit_nothing()
        is_faulty = self._store.fault is not None
        urgent = (
            idle
            or self.decided.is_urgent
            or len(self._uncommitted) >= self._window.limit
            or (self._engine.tombstones and not is_faulty)
        )
        if not urgent and now_s - self._committed_s < COMMIT_S:
            return Committed([], [])
        self._committed_s = now_s
        self._window.learn(len(self._uncommitted), idle)
        tokens, devices = self._collect(now_s, idle)
        # What cannot be saved is acknowledged to the broker all the same: a full disk must not stop the monitor. The
        # devices get no `ack`, and keep it.
        is_saved = not is_faulty and self._save(self._store, devices)
        return Committed(tokens, devices if is_saved else [])

    def take_settled(self) -> list[tuple[RequestRow, str | None]]:
        """Return the requests that may be answered now, each once, and why what was decided is not saved, if so."""
        return self.decided.take_settled(None if self._store is None else self._store.fault)

    def _commit_nothing(self) -> Committed:
        """Without a store: acknowledge all to the broker, and drop what would be saved."""
        tokens = [entry.token for entry in self._uncommitted if entry.token is not None]
        for entry in self._uncommitted:
            if entry.device is not None and (known := self._engine.record(entry.device)) is not None:
                known.hourly.clear()
        self._uncommitted.clear()
        self.outbox.published.clear()
        self._engine.bury(list(self._engine.tombstones))
        self.decided.is_stored()
        return Committed(tokens, [])

    def _save(self, store: StateStore, devices: list[str]) -> bool:
        """Save devices, those that are owed, and the rest that waits; return whether that worked."""
        outbox = self.outbox
        if store.opened != self._opened:  # it may be a new file, or one that was full for a while
            self._owed = {known.id for known in self._engine.records() if known.saved}
            self._opened, outbox.is_doubtful = store.opened, True
        self._collect_owed(devices)
        if not (
            devices
            or outbox.published
            or outbox.confirmed
            or self._engine.tombstones
            or outbox.is_doubtful
            or self.decided.waits
        ):
            return True
        return self._write(store, {device: self._engine.save(device) for device in devices})

    def _write(self, store: StateStore, states: dict[str, bytes]) -> bool:
        """Write all that is to be saved, and return whether that worked; what cannot be waits for the store."""
        outbox, tombstones = self.outbox, self._engine.tombstones
        unconfirmed = outbox.to_store
        published = [*outbox.published, *unconfirmed] if outbox.is_doubtful else outbox.published
        # Beats of a device whose state is not saved yet would be counted again after a crash. One that was forgotten,
        # and is there again, has a state.
        for device, left in tombstones.items():
            for hourly in left:
                self._take_hourly(device, hourly)
        gone = {device for device in tombstones if not self._engine.knows(device)}
        ripe = [key for key in self._hourly if key[1] in states or key[1] in gone]
        rows = [HourlyRow(*key, *self._hourly[key]) for key in ripe]
        transaction = Transaction(
            states=states,
            published=tuple(published),
            unconfirmed=unconfirmed,
            confirmed=tuple(outbox.confirmed),
            forgotten=frozenset(tombstones),
            hourly=rows,
            decisions=dict(self.decided.decisions),
            requests=tuple(self.decided.requests),
        )
        store.submit(transaction)
        [(_, is_saved)] = store.done()  # SQLite answers at once
        if is_saved:
            outbox.is_stored(unconfirmed)
            self.decided.is_stored()
            self._engine.bury(list(tombstones))
            for key in ripe:
                del self._hourly[key]
        return is_saved

    def _collect(self, now_s: float, idle: bool) -> tuple[list[int], list[str]]:
        """Take the packets that are due, and the devices whose states they wait for."""
        tokens: list[int] = []
        devices: list[str] = []
        most = self._window.most(len(self._uncommitted))
        while self._uncommitted and len(devices) < MOST_SAVED:
            token, device, number, came_s = self._uncommitted[0]
            due = idle or now_s - came_s >= WINDOW_S or len(self._uncommitted) > most
            if not due:
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
        for (hour, what), (beats, rr_ms) in hourly.items():
            before = self._hourly.get((hour, device, what), (0, 0))
            self._hourly[hour, device, what] = before[0] + beats, before[1] + rr_ms
        hourly.clear()
        while len(self._hourly) > MOST_HOURLY:
            del self._hourly[next(iter(self._hourly))]
