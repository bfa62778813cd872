"""The store: device states, what people decided, the outbox and the history, behind one interface.

A `StateLocation` is where monitors keep what must outlive the process; `StateStore` is what one process has open
there. Which location it is follows from one text, in one place: `monitor.state.location.locate`. Every implementation
passes one contract test, `tests/monitor/state/test_store_contract.py`.

The caller asks and goes on; the store reports later what became of it. Whatever is asked of a store is done in the
order in which it was asked, and a transaction as a whole or not at all. A store that cannot write must not stop the
monitor: it sets `fault`, reports every transaction as not saved, and tries nothing more until `retry`.

Only what reads or finds, and `close`, waits: at the start, and for what people ask. A store that is slow is a subclass
of `monitor.state.worker.ThreadedStore`.

Knows nothing of what is in a state or a message, of brokers, files or SQL.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import NamedTuple

KEEP_STATE_S = 86400.0
"""A state that was saved longer ago, by this machine's clock, is not returned.

With the state of months ago, an alert episode of that time would swallow the next new one. And what the broker keeps
for a monitor that is away has its end: a dozen devices that send each second fill deploy/'s queue in a day.
"""


@dataclass(frozen=True, slots=True)
class OutboxMessage:
    """An alert on its way to the broker."""

    id: str
    device: str
    published_s: float
    """When it was first published, on this machine's clock."""
    topic: str
    payload: bytes
    episode: str = ""
    """To which it belongs; see `StateStore.find_alert`."""
    partition: int | None = None
    """Whose outbox it is in, where the fleet is dealt out to several processes."""


class Claim(NamedTuple):
    """Who saves what."""

    slot: str
    """Of a monitor: "" for all of it, the number of a worker, "p" and the number of a partition."""
    about: str
    """Host and process."""
    since_s: float
    saved_s: float
    """When it saved something last."""


class RequestRow(NamedTuple):
    """A request that was granted: a line of the audit trail."""

    id: str
    """No other request has it."""
    made_s: float
    """When it was granted, on the clock of the monitor's machine."""
    device: str
    verb: str
    by: str
    payload: bytes
    """As it came, in JSON."""
    answer: str
    """What was done."""
    episode: str = ""
    """The alert that it is about, if it is about one. Alerts that were judged are kept in the history, however old."""


class HourlyRow(NamedTuple):
    """Beats of one kind that a device had in an hour."""

    hour: int
    """Since 1970, on the device's clock."""
    device: str
    what: str
    """Class, or "withheld"."""
    beats: int
    rr_ms: int
    """Sum of their median RR intervals."""


class HistoryAlert(NamedTuple):
    """An alert of the history."""

    published_s: float
    """When it was first published, on the clock of the monitor's machine."""
    payload: bytes
    """As it was published."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """What is written as a whole or not at all; the caller changes none of it once it is handed over."""

    states: Mapping[str, bytes] = field(default_factory=dict)
    """Devices' states, by device."""
    published: Sequence[OutboxMessage] = ()
    """Alerts, for the history; one that is there already is left as it is."""
    unconfirmed: Sequence[OutboxMessage] = ()
    """Alerts that no broker has confirmed yet, for the outbox; each must be in the history, or in `published`."""
    confirmed: Sequence[str] = ()
    """Ids of alerts that a broker has confirmed meanwhile."""
    forgotten: Collection[str] = ()
    """Devices whose former states must not be found any more; a state in `states` is a new one, and stays."""
    hourly: Sequence[HourlyRow] = ()
    """Beats to add to those of their hours."""
    decisions: Mapping[str, bytes] = field(default_factory=dict)
    """What people have decided about devices, by device, in place of what they had before."""
    requests: Sequence[RequestRow] = ()
    """Granted requests, for the audit trail; one that is there already is left as it is."""
    erased: Collection[str] = ()
    """Devices of which all that was kept before is deleted, whichever worker saved it, and cannot be read from the disk
    any more; what else the transaction holds of them is new, and stays."""


class Outcome(NamedTuple):
    """What became of a transaction."""

    transaction: Transaction
    is_saved: bool
    """Whether all of it is safe; if not, nothing of it was written."""


class Superseded(ConnectionError):
    """Another process has taken over what this one watches: what it still holds may not be saved."""


class StateStore(ABC):
    """What one process has open: the states of a monitor's devices, its outbox, its history.

    One thread asks; what is asked later is done later, and sees what was done before.
    """

    def __init__(self) -> None:
        self.fault: str | None = None
        """What is wrong, if anything: nothing has been saved since."""
        self.delay: str | None = None
        """What saving waits for, if it is more than the disk: it goes on by itself."""
        self.is_fenced = False
        """Whether another process has taken over what this one saves: nothing is saved any more, for good."""
        self.opened = 0
        """How often it was opened: each time it may be another file or database, and lack what was saved before."""
        self.faults = 0
        """How often something was wrong, or damaged contents were set aside."""

    @abstractmethod
    def ask(self, devices: Collection[str]) -> None:
        """Ask for the latest states of some devices, in one look-up; `answers` returns them."""

    @abstractmethod
    def answers(self) -> list[tuple[str, bytes | None]]:
        """Return the devices that were looked up since the last call, each with its state, or None if it has none.

        In the order in which they were asked for, and as often.

        A device has none if none was saved within `KEEP_STATE_S`, if it was forgotten, if its state is damaged, or if
        nothing can be read; whichever worker saved it. A state seemingly saved in the future was saved before the
        clock was set back: it is older than any that was not.
        """

    @abstractmethod
    def read_states(self, devices: Collection[str]) -> dict[str, bytes]:
        """Return the latest states of those devices that have one, as `answers` does; wait for them."""

    @abstractmethod
    def read_outbox(self) -> list[OutboxMessage]:
        """Return the alerts that no broker has confirmed, oldest first; none if nothing can be read. Waits for them."""

    @abstractmethod
    def read_devices(self) -> list[str]:
        """Return the devices that have a state, of whatever age, whichever worker saved it, in order."""

    @abstractmethod
    def read_decisions(self) -> dict[str, bytes]:
        """Return what people have decided, by device, whichever worker saved it latest; nothing if nothing can be read.

        Unlike states, decisions do not age, and are not forgotten with their device.
        """

    @abstractmethod
    def find_request(self, request_id: str) -> RequestRow | None:
        """Return a granted request by its id, whichever worker granted it."""

    @abstractmethod
    def find_alert(self, device: str, episode: str) -> bytes | None:
        """Return the first message of an episode in the history, as it was published, whichever worker did."""

    @abstractmethod
    def count(self, device: str) -> dict[str, int] | None:
        """Return how much is kept of a device, by what it is, whichever worker saved it; None if it cannot be read.

        Nothing is, once a transaction was saved in which it is `erased`. Waits for it.
        """

    @abstractmethod
    def submit(self, transaction: Transaction) -> None:
        """Hand over what is to be saved; `done` reports what became of it.

        After a transaction that could not be saved none is, until `retry` has cleared the fault: a later one may rest
        on an earlier one.
        """

    @abstractmethod
    def done(self, wait_s: float = 0.0) -> list[Outcome]:
        """Return what became of transactions since the last call, in the order in which they were submitted.

        Each transaction is reported once. While some are open and none can be reported yet, wait up to `wait_s`.
        """

    @abstractmethod
    def prune(self, before_s: float) -> None:
        """Ask to drop the beats and alerts published before a time, and states that are not returned any more.

        Alerts in the outbox, and those that were judged, are kept; so may be what another worker saved, which prunes
        for itself. A store may have limits of its own, and drop the oldest of what exceeds them.
        """

    @abstractmethod
    def retry(self) -> None:
        """Ask to open the store again if something was wrong, or turns out to be; that is counted in `opened`.

        Ask it while no transaction is open: what follows from one that fails must be known before.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the store, once what was submitted is saved or cannot be."""


class Taken(NamedTuple):
    """What comes with partitions that were taken over."""

    outbox: list[OutboxMessage]
    """Alerts of theirs that no broker has confirmed."""
    decisions: dict[str, bytes]
    """What people have decided, by device; see `StateStore.read_decisions`."""


class SharedStore(StateStore):
    """A store that any number of processes share, each of which saves its own partitions of the devices."""

    @abstractmethod
    def own(self, partitions: Collection[int]) -> None:
        """Ask to take over partitions: whoever had them saves nothing of them any more. `taken` says what comes along.

        `answers` returns no state that was asked for later before that was taken.
        """

    @abstractmethod
    def disown(self, partitions: Collection[int]) -> None:
        """Ask to leave partitions to others; no transaction may be open that concerns them."""

    @abstractmethod
    def taken(self) -> list[Taken]:
        """Return what came with the partitions that were taken over since the last call."""


class Condition(NamedTuple):
    """How a location is, in words for people."""

    found: str
    advice: str = ""
    """What to mend; empty if there is nothing to mend."""


class StateLocation(ABC):
    """Where monitors keep their states, outboxes and histories: each monitor under its name.

    Workers that share a monitor's devices each have a store of their own; together they are one monitor. A process
    holds a name while it runs: that of the monitor, or, say, `NAME.0` for its first worker and `NAME.workers` for
    their supervisor. `str` of a location is what a user knows it by.
    """

    @abstractmethod
    def open(self, name: str, worker: int | None = None) -> StateStore:
        """Open what a monitor of that name keeps, or the part of one of its workers; what fails is the store's `fault`.

        Call it holding the name, or be sure that nobody else does.
        """

    def open_shared(self, name: str) -> SharedStore:
        """Open what a monitor of that name keeps, for one of any number of processes that share it by partitions.

        Raises
        ------
        ValueError
            Only processes of this machine can share it.
        """
        raise ValueError(f"A fleet on several machines needs a store that they share: got {self}, not postgresql://...")

    def read_claims(self, name: str) -> list[Claim]:
        """Return who saves what of a monitor, as far as it is known; see `read_history`."""
        return []

    @abstractmethod
    def has_kept(self, name: str) -> bool:
        """Whether a monitor of that name has ever kept anything here."""

    def examine(self) -> Condition:
        """Try whether it can be used, and return how it is.

        Raises
        ------
        OSError
            It cannot be used.
        """
        return Condition(str(self))

    @abstractmethod
    def read_history(self, name: str, since_s: float, device: str | None = None) -> list[HistoryAlert]:
        """Return the alerts of a monitor published from a time on, of one device or of all, oldest first.

        Changes nothing, whether a monitor has the store open or not.

        Raises
        ------
        OSError
            It cannot be read.
        """

    @abstractmethod
    def read_requests(self, name: str, since_s: float, device: str | None = None) -> list[RequestRow]:
        """Return the requests that a monitor has granted from a time on, oldest first; see `read_history`.

        They are kept, however old.
        """

    @abstractmethod
    def read_hourly(self, name: str, since_s: float, device: str | None = None) -> list[HourlyRow]:
        """Return the beats reported from that hour on, by hour and device; see `read_history`.

        Beats of an hour, device and kind that several workers had are one row.
        """

    @abstractmethod
    def erase(self, name: str, device: str) -> dict[str, int]:
        """Delete all that a monitor and its workers keep of a device, for good; call it while none of them runs.

        Returns
        -------
        dict
            How much was deleted, by what it was.

        Raises
        ------
        OSError
            It cannot be written.
        """

    @abstractmethod
    def hold(self, name: str, is_stopping: Callable[[], bool]) -> AbstractContextManager[None]:
        """Wait until no other process holds a name, and hold it; once `is_stopping`, go on without it."""

    @abstractmethod
    def try_hold(self, name: str) -> AbstractContextManager[bool]:
        """Hold a name that was held before, unless another process does; enter with whether that worked."""

    @abstractmethod
    def names_held(self, name: str) -> list[str]:
        """Return the names that a monitor and its workers hold or have held, in order: NAME, NAME.0, NAME.1 ..."""

    @abstractmethod
    def drop_name(self, name: str) -> None:
        """Let a name not be among those held any more; call it holding the name."""


def add_up(rows: Sequence[HourlyRow]) -> list[HourlyRow]:
    """Make one row of those of the same hour, device and kind, in order."""
    sums: dict[tuple[int, str, str], tuple[int, int]] = {}
    for row in rows:
        beats, rr_ms = sums.get(row[:3], (0, 0))
        sums[row[:3]] = beats + row.beats, rr_ms + row.rr_ms
    return [HourlyRow(*key, *sums[key]) for key in sorted(sums)]


def merge(transactions: Sequence[Transaction]) -> Transaction:
    """Make one transaction of several, with what all of them lead to in their order."""
    if len(transactions) == 1:
        return transactions[0]
    states: dict[str, bytes] = {}
    unconfirmed: dict[str, OutboxMessage] = {}
    confirmed: dict[str, None] = {}
    transactions = [
        without(one, frozenset().union(*[later.erased for later in transactions[number + 1 :]]))
        for number, one in enumerate(transactions)
    ]
    for one in transactions:
        for device in one.forgotten:
            states.pop(device, None)
        states.update(one.states)
        unconfirmed.update({message.id: message for message in one.unconfirmed if message.id not in unconfirmed})
        for message in one.unconfirmed:
            confirmed.pop(message.id, None)
        confirmed.update(dict.fromkeys(one.confirmed))
    return Transaction(
        states,
        [message for one in transactions for message in one.published],
        list(unconfirmed.values()),
        list(confirmed),
        frozenset().union(*[one.forgotten for one in transactions]),
        add_up([row for one in transactions for row in one.hourly]),
        {device: content for one in transactions for device, content in one.decisions.items()},
        [row for one in transactions for row in one.requests],
        frozenset().union(*[one.erased for one in transactions]),
    )


def without(one: Transaction, devices: Collection[str]) -> Transaction:
    """Return what a transaction saves of other devices."""
    if not devices:
        return one
    return replace(
        one,
        states={device: state for device, state in one.states.items() if device not in devices},
        published=[message for message in one.published if message.device not in devices],
        unconfirmed=[message for message in one.unconfirmed if message.device not in devices],
        hourly=[row for row in one.hourly if row.device not in devices],
        decisions={device: content for device, content in one.decisions.items() if device not in devices},
        requests=[row for row in one.requests if row.device not in devices],
    )
