"""The store in this process's memory: nothing outlives the process. For tests of what uses a store, and for trying out.

`MemoryLocation.broken` makes every store of that location fail, as a full disk would.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from monitor.state.store import (
    KEEP_STATE_S,
    HistoryAlert,
    HourlyRow,
    OutboxMessage,
    Outcome,
    RequestRow,
    StateLocation,
    StateStore,
    Transaction,
    add_up,
)

log = logging.getLogger(__name__)

AGAIN_S = 0.025
"""How often to try to hold a name."""
_locations: dict[str, MemoryLocation] = {}


@dataclass
class _Kept:
    """What a monitor keeps, all workers together."""

    states: dict[str, tuple[float, bytes]] = field(default_factory=dict)
    """By device: when it was saved, and the state."""
    alerts: dict[str, OutboxMessage] = field(default_factory=dict)
    outbox: dict[int | None, dict[str, OutboxMessage]] = field(default_factory=dict)
    """By worker, and by id."""
    hourly: list[tuple[int, HourlyRow]] = field(default_factory=list)
    """With the hour in which each was saved."""
    decisions: dict[str, bytes] = field(default_factory=dict)
    """By device."""
    requests: dict[str, RequestRow] = field(default_factory=dict)
    """By id."""


class MemoryLocation(StateLocation):
    """A part of memory; two of them share nothing."""

    def __init__(self, name: str = "") -> None:
        self._name = name
        self._kept: dict[str, _Kept] = {}
        self._locks: dict[str, threading.Lock] = {}
        self.broken: str | None = None
        """What is wrong with it, if anything: nothing can be saved meanwhile."""

    @classmethod
    def named(cls, name: str) -> MemoryLocation:
        """Return the location of that name: the same one each time."""
        return _locations.setdefault(name, cls(name))

    def __str__(self) -> str:
        return f"memory:{self._name}"

    def open(self, name: str, worker: int | None = None) -> StateStore:
        """Open what a monitor of that name keeps; see `StateLocation.open`."""
        return MemoryStore(self, self._kept.setdefault(name, _Kept()), worker)

    def has_kept(self, name: str) -> bool:
        """Whether a store of that name was ever opened; see `StateLocation.has_kept`."""
        return name in self._kept

    def read_history(self, name: str, since_s: float, device: str | None = None) -> list[HistoryAlert]:
        """Return the alerts of a monitor; see `StateLocation.read_history`."""
        alerts = sorted(self._kept.get(name, _Kept()).alerts.values(), key=lambda alert: alert.published_s)
        return [
            HistoryAlert(alert.published_s, alert.payload)
            for alert in alerts
            if alert.published_s >= since_s and device in (None, alert.device)
        ]

    def read_hourly(self, name: str, since_s: float, device: str | None = None) -> list[HourlyRow]:
        """Return the beats of a monitor; see `StateLocation.read_hourly`."""
        rows = self._kept.get(name, _Kept()).hourly
        return add_up([row for hour, row in rows if hour >= since_s // 3600 and device in (None, row.device)])

    def read_requests(self, name: str, since_s: float, device: str | None = None) -> list[RequestRow]:
        """Return the requests of a monitor; see `StateLocation.read_requests`."""
        rows = self._kept.get(name, _Kept()).requests.values()
        found = [row for row in rows if row.made_s >= since_s and device in (None, row.device)]
        return sorted(found, key=lambda row: row.made_s)

    def erase(self, name: str, device: str) -> dict[str, int]:
        """Delete a device; see `StateLocation.erase`."""
        return _erase(self._kept.get(name, _Kept()), device)

    @contextmanager
    def hold(self, name: str, is_stopping: Callable[[], bool]) -> Iterator[None]:
        """Wait for a name and hold it; see `StateLocation.hold`."""
        lock = self._locks.setdefault(name, threading.Lock())
        is_held = False
        while not is_stopping() and not is_held:
            is_held = lock.acquire(timeout=AGAIN_S)
        try:
            yield
        finally:
            if is_held:
                lock.release()

    @contextmanager
    def try_hold(self, name: str) -> Iterator[bool]:
        """Hold a name if nobody does; see `StateLocation.try_hold`."""
        lock = self._locks.get(name)
        if lock is None or not lock.acquire(blocking=False):
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def names_held(self, name: str) -> list[str]:
        """Return the names that were held; see `StateLocation.names_held`."""
        pattern = re.compile(rf"{re.escape(name)}(\.\d+)?")
        return sorted(held for held in self._locks if pattern.fullmatch(held))

    def drop_name(self, name: str) -> None:
        """Let a name not be among those held any more; see `StateLocation.drop_name`."""
        self._locks.pop(name, None)


class MemoryStore(StateStore):
    """What a monitor keeps in memory; writes at once what is submitted."""

    def __init__(self, location: MemoryLocation, kept: _Kept, worker: int | None = None) -> None:
        super().__init__()
        self._location = location
        self._kept = kept
        self._outbox = kept.outbox.setdefault(worker, {})
        self._outcomes: list[Outcome] = []
        self._answers: list[tuple[str, bytes | None]] = []
        self._open()

    def ask(self, devices: Collection[str]) -> None:
        """Look them up now; see `StateStore.ask`."""
        found = self.read_states(devices)
        self._answers += [(device, found.get(device)) for device in devices]

    def answers(self) -> list[tuple[str, bytes | None]]:
        """Return what was asked for; see `StateStore.answers`."""
        answers, self._answers = self._answers, []
        return answers

    def read_states(self, devices: Collection[str]) -> dict[str, bytes]:
        """Return the latest states of some devices; see `StateStore.read_states`."""
        oldest_s = time.time() - KEEP_STATE_S
        found = {device: self._kept.states[device] for device in devices if device in self._kept.states}
        return {device: state for device, (saved_s, state) in found.items() if saved_s >= oldest_s}

    def read_outbox(self) -> list[OutboxMessage]:
        """Return the alerts that no broker has confirmed; see `StateStore.read_outbox`."""
        return list(self._outbox.values())

    def read_devices(self) -> list[str]:
        """Return the devices that have a state; see `StateStore.read_devices`."""
        return sorted(self._kept.states)

    def read_decisions(self) -> dict[str, bytes]:
        """Return what people have decided; see `StateStore.read_decisions`."""
        return dict(self._kept.decisions)

    def find_request(self, request_id: str) -> RequestRow | None:
        """Return a granted request; see `StateStore.find_request`."""
        return self._kept.requests.get(request_id)

    def find_alert(self, device: str, episode: str) -> bytes | None:
        """Return the first message of an episode; see `StateStore.find_alert`."""
        alerts = self._kept.alerts.values()
        return next((one.payload for one in alerts if (one.device, one.episode) == (device, episode)), None)

    def count(self, device: str) -> dict[str, int] | None:
        """Return how much is kept of a device; see `StateStore.count`."""
        return _count(self._kept, device)

    def submit(self, transaction: Transaction) -> None:
        """Write it now; see `StateStore.submit`."""
        if self.fault is None and self._location.broken is not None:
            self._set_fault()
        if self.fault is None:
            self._write(transaction)
        self._outcomes.append(Outcome(transaction, self.fault is None))

    def done(self, wait_s: float = 0.0) -> list[Outcome]:
        """Return what became of transactions; see `StateStore.done`. None is ever open, so nothing is waited for."""
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def prune(self, before_s: float) -> None:
        """Drop what is old; see `StateStore.prune`."""
        if self.fault is not None:
            return
        kept, now_s = self._kept, time.time()
        underway = {id_ for outbox in kept.outbox.values() for id_ in outbox}
        judged = {row.episode for row in kept.requests.values() if row.verb == "judge"}
        for alert in [alert for alert in kept.alerts.values() if alert.published_s < before_s]:
            if alert.id not in underway and alert.episode not in judged:
                del kept.alerts[alert.id]
        kept.hourly[:] = [(hour, row) for hour, row in kept.hourly if hour >= before_s // 3600]
        for device, (saved_s, state) in list(kept.states.items()):
            if saved_s < now_s - KEEP_STATE_S:
                del kept.states[device]
            else:  # what was saved before the clock was set back begins to age
                kept.states[device] = min(saved_s, now_s), state

    def retry(self) -> None:
        """Open it again if it was broken; see `StateStore.retry`."""
        if self.fault is None and self._location.broken is not None:
            self._set_fault()
        if self.fault is not None:
            self._open()

    def close(self) -> None:
        """Close it: what was saved is there for the next one."""

    def _open(self) -> None:
        if self._location.broken is not None:
            if self.fault is None:
                self._set_fault()
            return
        self.fault = None
        self.opened += 1

    def _set_fault(self) -> None:
        self.fault = f"{self._location}: {self._location.broken}"
        self.faults += 1
        log.error("nothing is saved any more: %s", self.fault)

    def _write(self, transaction: Transaction) -> None:
        kept, now_s = self._kept, time.time()
        for device in transaction.erased:
            _erase(kept, device)
        for device in transaction.forgotten:
            kept.states.pop(device, None)
        kept.states.update({device: (now_s, state) for device, state in transaction.states.items()})
        for alert in transaction.published:
            kept.alerts.setdefault(alert.id, alert)
        for alert in transaction.unconfirmed:
            self._outbox.setdefault(alert.id, alert)
        for id_ in transaction.confirmed:
            self._outbox.pop(id_, None)
        kept.decisions |= transaction.decisions
        for row in transaction.requests:
            kept.requests.setdefault(row.id, row)
        kept.hourly += [(int(now_s // 3600), row) for row in transaction.hourly]


def _count(kept: _Kept, device: str) -> dict[str, int]:
    """How much is kept of a device."""
    return {
        "device": int(device in kept.states),
        "alert": sum(alert.device == device for alert in kept.alerts.values()),
        "outbox": sum(one.device == device for box in kept.outbox.values() for one in box.values()),
        "hourly": sum(row.device == device for _, row in kept.hourly),
        "decision": int(device in kept.decisions),
        "request": sum(row.device == device for row in kept.requests.values()),
    }


def _erase(kept: _Kept, device: str) -> dict[str, int]:
    """Delete all that is kept of a device; return how much it was."""
    counted = _count(kept, device)
    kept.states.pop(device, None)
    kept.decisions.pop(device, None)
    kept.alerts = {one: alert for one, alert in kept.alerts.items() if alert.device != device}
    kept.requests = {one: row for one, row in kept.requests.items() if row.device != device}
    kept.hourly = [row for row in kept.hourly if row[1].device != device]
    for box in kept.outbox.values():
        for one in [one for one, message in box.items() if message.device == device]:
            del box[one]
    return counted
