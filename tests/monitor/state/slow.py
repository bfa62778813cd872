"""Stores that take their time: one that is slow, and one whose outcomes the test decides."""

from __future__ import annotations

import time
from collections.abc import Collection

from monitor.state.memory import MemoryLocation, MemoryStore, _Kept
from monitor.state.sqlite import SqliteLocation, SqliteStore
from monitor.state.store import OutboxMessage, Outcome, RequestRow, StateStore, Transaction
from monitor.state.worker import ThreadedStore

SLOW_S = 0.02


class SlowSqliteStore(SqliteStore):
    """A file on a disk that takes a while for each transaction."""

    def write(self, transaction: Transaction) -> bool:
        time.sleep(SLOW_S)
        return super().write(transaction)


class SlowSqliteLocation(SqliteLocation):
    """A directory on such a disk."""

    def open(self, name: str, worker: int | None = None) -> SqliteStore:
        return SlowSqliteStore(self.directory, name, worker)


class SlowMemoryStore(ThreadedStore):
    """A store in memory that is asked by a thread."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__()
        self._store = store
        self.start(self._note)

    def write(self, transaction: Transaction) -> bool:
        time.sleep(SLOW_S)
        self._store.submit(transaction)
        [outcome] = self._store.done()
        self._note()
        return outcome.is_saved

    def look_up(self, devices: Collection[str]) -> dict[str, bytes]:
        return self._store.read_states(devices)

    def look_up_outbox(self) -> list[OutboxMessage]:
        return self._store.read_outbox()

    def look_up_devices(self) -> list[str]:
        return self._store.read_devices()

    def look_up_decisions(self) -> dict[str, bytes]:
        return self._store.read_decisions()

    def look_up_count(self, device: str) -> dict[str, int] | None:
        return self._store.count(device)

    def look_up_request(self, request_id: str) -> RequestRow | None:
        return self._store.find_request(request_id)

    def look_up_alert(self, device: str, episode: str) -> bytes | None:
        return self._store.find_alert(device, episode)

    def drop_old(self, before_s: float) -> None:
        self._store.prune(before_s)

    def reopen(self) -> None:
        self._store.retry()
        self._note()

    def release(self) -> None:
        self._store.close()

    def _note(self) -> None:
        self.opened, self.faults, self.fault = self._store.opened, self._store.faults, self._store.fault


class SlowMemoryLocation(MemoryLocation):
    """A part of memory that is slow."""

    def open(self, name: str, worker: int | None = None) -> StateStore:
        store = super().open(name, worker)
        assert isinstance(store, MemoryStore)
        return SlowMemoryStore(store)


class HeldStore(MemoryStore):
    """Writes when the test says so, and reports that when the next one asks."""

    def __init__(self) -> None:
        location = MemoryLocation()
        super().__init__(location, location._kept.setdefault("m", _Kept()))
        self.location = location
        self.submitted: list[Transaction] = []
        self.asked: list[list[str]] = []

    def submit(self, transaction: Transaction) -> None:
        self.submitted.append(transaction)

    def ask(self, devices: Collection[str]) -> None:
        self.asked.append(list(devices))

    def answer(self) -> None:
        """Look up what was asked for."""
        for devices in self.asked:
            super().ask(devices)
        self.asked.clear()

    def let(self, number: int = 1) -> None:
        """Write the next transactions."""
        for _ in range(number):
            super().submit(self.submitted.pop(0))

    def fail(self) -> None:
        """Fail with all that was submitted, and be mended."""
        self.location.broken = "out of memory"
        self.let(len(self.submitted))
        self.location.broken = None


def outcomes_of(store: StateStore, number: int, wait_s: float) -> list[Outcome]:
    """Wait for the outcomes of so many transactions."""
    until_s, outcomes = time.monotonic() + wait_s, store.done()
    while len(outcomes) < number and time.monotonic() < until_s:
        outcomes += store.done(1.0)
    return outcomes
