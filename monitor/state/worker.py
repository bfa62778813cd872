"""A store whose work is done by a thread of its own, so that who asks never waits for a disk or a network.

The thread does what it is asked in order. Transactions that wait for it are written together, as one: the slower the
disk, the more of them share its delay.

Knows nothing of what a store consists of.
"""

from __future__ import annotations

import logging
import queue
import threading
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import Future
from typing import TypeVar

from monitor.state.store import OutboxMessage, Outcome, RequestRow, StateStore, Transaction, merge

log = logging.getLogger(__name__)

Result = TypeVar("Result")

FIND_S = 2.0
"""How long a person's request waits for what it is about: the loop waits with it."""
CLOSE_S = 20.0
"""How long closing waits for a disk or a network."""
Job = Callable[[], object]


class ThreadedStore(StateStore):
    """Does in its thread what is asked; a subclass says how. Call `start` when it is ready to be opened."""

    def __init__(self) -> None:
        super().__init__()
        self._jobs: queue.SimpleQueue[Transaction | Job | None] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[list[tuple[str, bytes | None]]] = queue.SimpleQueue()
        self._open = 0
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name="store", daemon=True)

    def start(self, open_: Job) -> None:
        """Start the thread, and wait until it has opened the store."""
        self._thread.start()
        self._wait_for(open_, None)

    def ask(self, devices: Collection[str]) -> None:
        """Ask for states; see `StateStore.ask`."""
        asked = list(devices)
        self._jobs.put(lambda: self._answer(asked))

    def answers(self) -> list[tuple[str, bytes | None]]:
        """Return the states that were found; see `StateStore.answers`."""
        found: list[tuple[str, bytes | None]] = []
        while not self._answers.empty():
            found += self._answers.get()
        return found

    def read_states(self, devices: Collection[str]) -> dict[str, bytes]:
        """Return states; see `StateStore.read_states`."""
        asked = list(devices)
        return self._wait_for(lambda: self.look_up(asked), {})

    def read_outbox(self) -> list[OutboxMessage]:
        """Return the alerts that no broker has confirmed; see `StateStore.read_outbox`."""
        return self._wait_for(self.look_up_outbox, [])

    def read_devices(self) -> list[str]:
        """Return the devices that have a state; see `StateStore.read_devices`."""
        return self._wait_for(self.look_up_devices, [])

    def read_decisions(self) -> dict[str, bytes]:
        """Return what people have decided; see `StateStore.read_decisions`."""
        return self._wait_for(self.look_up_decisions, {})

    def find_request(self, request_id: str) -> RequestRow | None:
        """Return a granted request; see `StateStore.find_request`."""
        return self._wait_for(lambda: self.look_up_request(request_id), None, FIND_S)

    def find_alert(self, device: str, episode: str) -> bytes | None:
        """Return the first message of an episode; see `StateStore.find_alert`."""
        return self._wait_for(lambda: self.look_up_alert(device, episode), None, FIND_S)

    def count(self, device: str) -> dict[str, int] | None:
        """Return how much is kept of a device; see `StateStore.count`."""
        return self._wait_for(lambda: self.look_up_count(device), None, FIND_S)

    def submit(self, transaction: Transaction) -> None:
        """Hand over what is to be saved; see `StateStore.submit`."""
        self._open += 1
        self._jobs.put(transaction)

    def done(self, wait_s: float = 0.0) -> list[Outcome]:
        """Return what became of transactions; see `StateStore.done`."""
        outcomes: list[Outcome] = []
        if self._open and wait_s > 0:
            try:
                outcomes.append(self._outcomes.get(timeout=wait_s))
            except queue.Empty:
                return outcomes
        while not self._outcomes.empty():
            outcomes.append(self._outcomes.get())
        self._open -= len(outcomes)
        return outcomes

    def prune(self, before_s: float) -> None:
        """Ask to drop what is old; see `StateStore.prune`."""
        self._jobs.put(lambda: self.drop_old(before_s))

    def retry(self) -> None:
        """Ask to open it again if something is wrong; see `StateStore.retry`."""
        self._jobs.put(self.reopen)

    def close(self) -> None:
        """Close it, once what was asked is done; see `StateStore.close`."""
        if self._is_closed:
            return
        self._is_closed = True
        self.hurry()
        self._jobs.put(self.release)
        self._jobs.put(None)
        self._thread.join(CLOSE_S)
        if self._thread.is_alive():
            log.error("the store did not close within %.0f s; what it has not saved is found again", CLOSE_S)

    @abstractmethod
    def write(self, transaction: Transaction) -> bool:
        """Write all of it or nothing, and return which; what goes wrong is a `fault`. Called where there is none."""

    @abstractmethod
    def look_up(self, devices: Collection[str]) -> dict[str, bytes]:
        """Return states; see `StateStore.answers`."""

    @abstractmethod
    def look_up_outbox(self) -> list[OutboxMessage]:
        """Return the outbox; see `StateStore.read_outbox`."""

    @abstractmethod
    def look_up_devices(self) -> list[str]:
        """Return the devices that have a state; see `StateStore.read_devices`."""

    @abstractmethod
    def look_up_decisions(self) -> dict[str, bytes]:
        """Return what people have decided; see `StateStore.read_decisions`."""

    @abstractmethod
    def look_up_request(self, request_id: str) -> RequestRow | None:
        """Return a granted request; see `StateStore.find_request`."""

    @abstractmethod
    def look_up_alert(self, device: str, episode: str) -> bytes | None:
        """Return the first message of an episode; see `StateStore.find_alert`."""

    @abstractmethod
    def look_up_count(self, device: str) -> dict[str, int] | None:
        """Return how much is kept of a device; see `StateStore.count`."""

    @abstractmethod
    def drop_old(self, before_s: float) -> None:
        """Prune; see `StateStore.prune`."""

    @abstractmethod
    def reopen(self) -> None:
        """Open again if something is wrong; see `StateStore.retry`."""

    @abstractmethod
    def release(self) -> None:
        """Close what is open: the last that is called."""

    def hurry(self) -> None:
        """Stop waiting for what may never come: the store is to be closed. Called by another thread."""

    def set_fault(self, fault: str | None) -> None:
        """Note what is wrong, or that nothing is; it is counted and logged when it appears."""
        if fault is not None and self.fault is None:
            self.faults += 1
            log.error("nothing is saved any more: %s", fault)
        if fault is None and self.fault is not None:
            log.warning("the store can be written again")
        self.fault = fault

    def later(self, job: Job) -> None:
        """Have the thread do something when its turn comes."""
        self._jobs.put(job)

    def _wait_for(self, job: Callable[[], Result], otherwise: Result, wait_s: float | None = None) -> Result:
        """Have the thread do something, and wait for what it returns, or only so long."""
        if self._is_closed:
            return otherwise
        future: Future[Result] = Future()

        def run() -> None:
            try:
                future.set_result(job())
            except Exception:
                log.exception("the store failed unexpectedly")
                future.set_result(otherwise)

        self._jobs.put(run)
        try:
            return future.result(wait_s)
        except TimeoutError:
            return otherwise

    def _answer(self, devices: list[str]) -> None:
        found: dict[str, bytes] = {}
        try:
            found = self.look_up(devices)
        finally:
            self._answers.put([(device, found.get(device)) for device in devices])

    def _work(self) -> None:
        waiting: deque[Transaction | Job | None] = deque()
        while True:
            waiting.append(self._jobs.get())
            while not self._jobs.empty():
                waiting.append(self._jobs.get())
            while waiting:
                if transactions := _take_transactions(waiting):
                    self._save(transactions)
                    continue
                job = waiting.popleft()
                if job is None:
                    return
                assert not isinstance(job, Transaction)
                _do(job)

    def _save(self, transactions: list[Transaction]) -> None:
        is_saved = False
        try:
            is_saved = self.fault is None and self.write(merge(transactions))
        except Exception as error:
            log.exception("the store failed unexpectedly")
            self.set_fault(f"{type(error).__name__}: {error}")
        for one in transactions:
            self._outcomes.put(Outcome(one, is_saved))


def _take_transactions(waiting: deque[Transaction | Job | None]) -> list[Transaction]:
    """Take the transactions at the front."""
    taken = []
    while waiting and isinstance(one := waiting[0], Transaction):
        taken.append(one)
        waiting.popleft()
    return taken


def _do(job: Job) -> None:
    try:
        job()
    except Exception:
        log.exception("the store failed unexpectedly")


class Repeating:
    """Does something every so often in a thread of its own, until it is stopped."""

    def __init__(self, job: Job, every_s: Callable[[], float]) -> None:
        self._stopping = threading.Event()
        self._job, self._every_s = job, every_s
        threading.Thread(target=self._run, daemon=True).start()

    def stop(self) -> None:
        """Do it no more."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.wait(self._every_s()):
            _do(self._job)
