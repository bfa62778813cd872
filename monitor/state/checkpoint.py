"""When a packet may be acknowledged: once what follows from it cannot be lost any more.

Until then the broker keeps it, and sends it again to whoever comes after a crash. A packet is settled when the state of
its device was saved after it, together with the alerts that no broker has confirmed; the packets that are not settled
rebuild the rest. The oldest come first, each after `WINDOW_S`, so that saving is spread evenly; at once when
nothing more comes; and early when too many wait. How many a broker hands out before it waits for acknowledgements is
found out: where it falls silent is the limit, until that has proved too low.

Packets are acknowledged in the order in which they came, as MQTT asks for. Knows nothing of clients or messages.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from monitor.engine import Engine
from monitor.state.sqlite import HourlyRow, Letter, Store

WINDOW_S = 10.0
"""A packet is settled after this time at the latest, when all goes well."""
MOST_UNSETTLED = 60_000
"""More than these do not wait: MQTT can have 65 535 packets of a connection under way."""
TRUSTED = 64
"""So often a limit must have been met without a silence before a higher one is tried."""
MOST_SAVED = 100
"""Devices whose states are saved in one go: some milliseconds."""
SETTLE_S = 0.02
"""No sooner than this after the last time is anything saved: a transaction has a price of its own."""
MOST_KEPT, MOST_HOURLY = 10_000, 100_000
"""While nothing can be saved, no more alerts than these are kept for the history, and of beats no more hours."""
MOST_FORGOTTEN = 100_000
"""While nothing can be saved, no more devices than these are remembered of which an old state must go."""


class _Entry(NamedTuple):
    mid: int
    device: str | None
    number: int
    came_s: float


class Settled(NamedTuple):
    """What may be told now."""

    mids: list[int]
    """Packets to acknowledge, in order."""
    devices: list[str]
    """Devices whose packets so far are not needed any more."""


class Journal:
    """The packets that are not settled, and the alerts that are not confirmed.

    Parameters
    ----------
    engine
        Whose states are saved.
    store
        Where; without one, everything is settled at once.
    """

    def __init__(self, engine: Engine, store: Store | None) -> None:
        self._engine = engine
        self._store = store
        self._unsettled: deque[_Entry] = deque()
        self._saved: dict[str, int] = {}  # number of the last packet that was there when the device was saved
        self._number = 0
        self._settled_s = -math.inf
        self._limit = MOST_UNSETTLED
        self._met = 0
        self._told: deque[Letter] = deque(maxlen=MOST_KEPT)
        self._unconfirmed: dict[str, Letter] = {}
        self._stored: set[str] = set()  # ids of letters that are in the store's outbox
        self._confirmed: list[str] = []
        self._forgotten: set[str] = set()  # devices whose states are to be deleted
        self._hourly: dict[tuple[int, str, str], tuple[int, int]] = {}  # beats that the file does not count yet
        self._owed: set[str] = set()  # devices of whom the file may not hold the last state
        self._is_doubtful = False  # whether it may lack letters that it once had
        self._opened = 0 if store is None else store.opened
        self._resent = 0

    @property
    def unsettled(self) -> int:
        """Packets that are not acknowledged yet."""
        return len(self._unsettled)

    @property
    def is_full(self) -> bool:
        """Whether so many packets wait that some must be settled before more are taken."""
        return len(self._unsettled) > MOST_UNSETTLED

    def received(self, mid: int, device: str | None, now_s: float) -> None:
        """Note a packet that must be acknowledged, and the device whose state depends on it, if any."""
        self._number += 1
        self._unsettled.append(_Entry(mid, device, self._number, now_s))

    def told(self, letter: Letter) -> None:
        """Note an alert that is on its way to the broker."""
        self._told.append(letter)
        self._unconfirmed[letter.id] = letter

    def confirmed(self, letter_id: str) -> None:
        """Note that a broker has an alert."""
        self._unconfirmed.pop(letter_id, None)
        if letter_id in self._stored:
            self._stored.discard(letter_id)
            self._confirmed.append(letter_id)

    @property
    def needs_resend(self) -> bool:
        """Whether the file was opened anew since `resend`: it may hold alerts that nobody could read until then."""
        return self._store is not None and self._store.opened != self._resent

    def resend(self) -> list[Letter]:
        """Take over alerts that were on their way when an earlier process ended; return them, to be sent again."""
        if self._store is None:
            return []
        self._resent = self._store.opened
        known = self._unconfirmed.keys() | self._confirmed
        letters = [letter for letter in self._store.read_outbox() if letter.id not in known]
        self._unconfirmed |= {letter.id: letter for letter in letters}
        self._stored |= {letter.id for letter in letters}
        return letters

    def forget(self, devices: Iterable[str]) -> None:
        """Note devices that the engine has forgotten; what it was given must have been flushed."""
        if self._store is None:
            return
        for device in devices:
            self._saved.pop(device, None)
            self._take_hourly(device)
            if len(self._forgotten) < MOST_FORGOTTEN:
                self._forgotten.add(device)

    def has_forgotten(self, device: str) -> bool:
        """Whether the file may still hold a state of a device that must not be restored."""
        return device in self._forgotten

    def disconnected(self) -> None:
        """The connection is gone: the broker will send again what was not acknowledged, under new numbers."""
        self._unsettled.clear()

    def settle(self, now_s: float, idle: bool) -> Settled:
        """Save what is due; what the engine was given must have been flushed.

        Parameters
        ----------
        now_s
            On the clock of `received`.
        idle
            Whether there is nothing else to do.
        """
        if self._store is None:
            mids = [entry.mid for entry in self._unsettled]
            self._unsettled.clear()
            self._told.clear()
            self._engine.hourly.clear()
            return Settled(mids, [])
        is_faulty = self._store.fault is not None
        urgent = idle or len(self._unsettled) >= self._limit or (self._forgotten and not is_faulty)
        if not urgent and now_s - self._settled_s < SETTLE_S:
            return Settled([], [])
        self._settled_s = now_s
        self._learn_limit(idle)
        mids, devices = self._collect(now_s, idle)
        # What cannot be saved is acknowledged to the broker all the same: a full disk must not stop the monitor. The
        # devices are not told, and keep it.
        is_saved = not is_faulty and self._save(self._store, devices)
        return Settled(mids, devices if is_saved else [])

    def _save(self, store: Store, devices: list[str]) -> bool:
        """Save devices, those that are owed, and the rest that waits; tell whether that worked."""
        if store.opened != self._opened:  # it may be a new file, or one that was full for a while
            self._opened, self._owed, self._is_doubtful = store.opened, set(self._saved), True
        self._collect_owed(devices)
        if not (devices or self._told or self._confirmed or self._forgotten or self._is_doubtful):
            return True
        return self._commit(store, {device: self._engine.save(device) for device in devices})

    def _commit(self, store: Store, states: dict[str, bytes]) -> bool:
        """Save all that is to be saved, and tell whether that worked; what cannot be waits until the file is opened."""
        all_, known = self._unconfirmed.values(), self._stored
        unconfirmed = [letter for letter in all_ if self._is_doubtful or letter.id not in known]
        told = [*self._told, *unconfirmed] if self._is_doubtful else self._told
        # Beats of a device whose state is not saved yet would be counted again after a crash. One that was forgotten,
        # and is there again, has a state.
        gone = {device for device in self._forgotten if not self._engine.knows(device)}
        ripe = [key for key in self._hourly if key[1] in states or key[1] in gone]
        hourly = [HourlyRow(*key, *self._hourly[key]) for key in ripe]
        is_saved = store.commit(states.items(), told, unconfirmed, self._confirmed, self._forgotten, hourly)
        if is_saved:
            self._stored.update(letter.id for letter in unconfirmed)
            self._confirmed.clear()
            self._forgotten.clear()
            self._told.clear()
            for key in ripe:
                del self._hourly[key]
            self._is_doubtful = False
        return is_saved

    def _collect(self, now_s: float, idle: bool) -> tuple[list[int], list[str]]:
        """Take the packets that are due, and the devices whose states they wait for."""
        mids: list[int] = []
        devices: list[str] = []
        most = self._limit // 2 if len(self._unsettled) >= self._limit else MOST_UNSETTLED
        while self._unsettled and len(devices) < MOST_SAVED:
            mid, device, number, came_s = self._unsettled[0]
            due = idle or now_s - came_s >= WINDOW_S or len(self._unsettled) > most
            if not due:
                break
            if device is not None and self._saved.get(device, 0) < number and self._engine.knows(device):
                self._mark(device)
                devices.append(device)
            mids.append(mid)
            self._unsettled.popleft()
        return mids, devices

    def _collect_owed(self, devices: list[str]) -> None:
        """Add devices that could not be saved when they were due, or that a new file lacks."""
        due = set(devices)
        while self._owed and len(devices) < MOST_SAVED:
            device = self._owed.pop()
            if device not in due and self._engine.knows(device):
                self._mark(device)
                devices.append(device)

    def _mark(self, device: str) -> None:
        """Note that a device is saved now; if that does not work, it is owed when the file is opened again."""
        self._saved[device] = self._number
        self._take_hourly(device)

    def _take_hourly(self, device: str) -> None:
        """Take the beats that a device's state must be saved together with, so that a crash counts none twice."""
        for (hour, what), (beats, rr_ms) in self._engine.hourly.pop(device, {}).items():
            before = self._hourly.get((hour, device, what), (0, 0))
            self._hourly[hour, device, what] = before[0] + beats, before[1] + rr_ms
        while len(self._hourly) > MOST_HOURLY:
            del self._hourly[next(iter(self._hourly))]

    def _learn_limit(self, idle: bool) -> None:
        waiting = len(self._unsettled)
        if idle and 0 < waiting < self._limit:
            self._limit, self._met = waiting, 0
        elif waiting >= self._limit:
            self._met += 1
            if self._met >= TRUSTED:
                self._limit, self._met = min(2 * self._limit, MOST_UNSETTLED), 0
