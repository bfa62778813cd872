"""The store in PostgreSQL: one database for the monitors of all machines.

* A transaction is one transaction of the database, of a few statements for any number of devices.
* **Fencing**: a store claims its slot (the whole monitor, the number of a worker, or the partitions that it has been
  given) under a new epoch, and each transaction checks in the database that nobody has claimed it since. A process that
  was frozen, and wakes after another has taken over, writes nothing any more: `is_fenced`.
* **A connection that breaks during a commit** leaves open whether it was saved. Transactions are numbered, and the
  number is written with them: after reconnecting the store looks whether it is there, so that beats are counted once.
* A database that is away is waited for, for `PATIENCE_S`: what was submitted stays open, and `delay` says why.
  After that, and where waiting does not help (a full disk, missing rights, a newer schema), it is a `fault`.

Ages of states and the hours of the history are by the clocks of the machines that save: they must agree.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, LiteralString, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

from monitor.state.migrations import MIGRATIONS, SCHEMA
from monitor.state.seal import seal, unseal
from monitor.state.store import (
    KEEP_STATE_S,
    Claim,
    Condition,
    HistoryAlert,
    HourlyRow,
    OutboxMessage,
    RequestRow,
    SharedStore,
    StateLocation,
    Taken,
    Transaction,
)
from monitor.state.worker import ThreadedStore

try:
    import psycopg
    from psycopg import errors
except ImportError as error:  # the extra is not installed
    raise ValueError(f"A store in PostgreSQL needs psycopg ({error}): pip install 'ecgwatch[cluster]'.") from None

log = logging.getLogger(__name__)

Result = TypeVar("Result")
Connection = psycopg.Connection[tuple[Any, ...]]

PATIENCE_S = 90.0
"""So long a database that is away is waited for."""
AGAIN_S = 0.25
"""How often to try to reach it."""
HOLD_S = 0.1
"""How often to try to hold a name."""
KEEP_S = 1.0
"""How often to see whether a name is still held."""
DAY_S = 86400
LEAST_VERSION = 14
MEASURED_COMMITS, SLOW_MS, MOST_OFF_S = 9, 100.0, 2.0
"""For `PostgresLocation.examine`."""
PRUNE_S = 60.0
"""No more often is anything pruned."""
CONNECT: dict[str, Any] = {
    "connect_timeout": 5, "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3,
    "tcp_user_timeout": 10_000, "application_name": "ecgwatch",
}  # fmt: skip
"""A server that has vanished is noticed within 11 s."""
STATEMENT_MS = 30_000
"""A statement that takes longer is given up, and tried again."""
STUCK_S = 3.0
"""So long a transaction may hold claims that another wants: one that is frozen between two statements is not idle."""
IDLE_MS = 3_000
"""A process that stops in the middle of a transaction, as one that is frozen, holds its locks no longer: who takes over
waits for them. RabbitMQ takes longer to notice."""
_LOCK = "SELECT pg_try_advisory_lock(hashtextextended('ecgwatch:' || %s, 0))"
_GONE = (errors.AdminShutdown, errors.CrashShutdown, errors.CannotConnectNow)
_AGAIN = (errors.SerializationFailure, errors.DeadlockDetected, errors.QueryCanceled, errors.LockNotAvailable)
_SAVE = """
INSERT INTO device (monitor, id, saved_s, state)
SELECT %b, one.id, %b, one.state FROM unnest(%b::text[], %b::bytea[]) AS one (id, state)
ON CONFLICT (monitor, id) DO UPDATE SET saved_s = excluded.saved_s, state = excluded.state
"""
_TELL = """
INSERT INTO alert (monitor, id, device, published_s, payload, episode)
SELECT %b, one.id, one.device, one.published_s, one.payload, one.episode
FROM unnest(%b::text[], %b::text[], %b::float8[], %b::bytea[], %b::text[]) WITH ORDINALITY
    AS one (id, device, published_s, payload, episode, place)
WHERE NOT EXISTS (SELECT FROM alert WHERE alert.monitor = %b AND alert.id = one.id) ORDER BY one.place
"""
_SEND = """
INSERT INTO outbox (monitor, id, slot, device, published_s, topic, payload, episode)
SELECT %b, one.id, one.slot, one.device, one.published_s, one.topic, one.payload, one.episode
FROM unnest(%b::text[], %b::text[], %b::text[], %b::float8[], %b::text[], %b::bytea[], %b::text[]) WITH ORDINALITY
    AS one (id, slot, device, published_s, topic, payload, episode, place)
ORDER BY one.place ON CONFLICT DO NOTHING
"""
_COUNT = """
INSERT INTO hourly (monitor, told_hour, hour, device, what, beats, rr_ms)
SELECT %b, %b, one.hour, one.device, one.what, one.beats, one.rr_ms
FROM unnest(%b::int8[], %b::text[], %b::text[], %b::int8[], %b::int8[]) AS one (hour, device, what, beats, rr_ms)
ON CONFLICT (monitor, told_hour, hour, device, what)
DO UPDATE SET beats = hourly.beats + excluded.beats, rr_ms = hourly.rr_ms + excluded.rr_ms
"""
_DECIDE = """
INSERT INTO decision (monitor, device, saved_s, content)
SELECT %b, one.device, %b, one.content FROM unnest(%b::text[], %b::bytea[]) AS one (device, content)
ON CONFLICT (monitor, device) DO UPDATE SET saved_s = excluded.saved_s, content = excluded.content
"""
_REQUEST_COLUMNS: LiteralString = "id, made_s, device, verb, asked_by, payload, answer, episode"
_AUDIT = f"""
INSERT INTO request (monitor, {_REQUEST_COLUMNS})
SELECT %b, one.* FROM unnest(
    %b::text[], %b::float8[], %b::text[], %b::text[], %b::text[], %b::bytea[], %b::text[], %b::text[]
) AS one ({_REQUEST_COLUMNS})
ON CONFLICT DO NOTHING
"""
_CLAIM = """
INSERT INTO claim (monitor, slot, epoch, session)
SELECT %s, slot, nextval('epoch'), %s FROM unnest(%s::text[]) AS slot ORDER BY slot
ON CONFLICT (monitor, slot) DO UPDATE SET epoch = excluded.epoch, session = excluded.session, claimed_at = now()
RETURNING slot, epoch
"""
_CUT_OFF = """
SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE relation = 'claim'::regclass AND pid <> pg_backend_pid() AND usename = current_user
AND xact_start < clock_timestamp() - make_interval(secs => %s)
"""
_CHECK = """
SELECT claim.slot FROM claim JOIN unnest(%b::text[], %b::int8[]) AS mine (slot, epoch) USING (slot, epoch)
WHERE claim.monitor = %b ORDER BY claim.slot FOR SHARE OF claim
"""

_NAMING = {
    "device": "id", "alert": "device", "outbox": "device", "hourly": "device", "decision": "device",
    "request": "device",
}  # fmt: skip
"""Tables with rows of devices, and their column."""


class Fenced(Exception):
    """Somebody else has claimed what this store writes."""


@dataclass(frozen=True)
class PostgresLocation(StateLocation):
    """A database.

    Parameters
    ----------
    url
        ``postgresql://[user@]host[:port][,host...]/database[?option=value...]``, as libpq takes it. A password comes
        from PGPASSWORD or from a password file (PGPASSFILE, ~/.pgpass).

    Raises
    ------
    ValueError
        The URL holds a password.
    """

    url: str

    def __post_init__(self) -> None:
        if urlsplit(self.url).password is not None:
            raise ValueError("A store's URL must not hold a password: use PGPASSWORD or a password file (~/.pgpass).")

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        return unquote(urlunsplit((parts.scheme, parts.netloc, parts.path, "", "")))

    def examine(self) -> Condition:
        """Connect, bring the schema up to date, and measure; see `StateLocation.examine`."""
        with self.connect() as connection:
            server = connection.info.server_version // 10_000
            commits_ms = sorted(_measure_commit(connection) * 1e3 for _ in range(MEASURED_COMMITS))
            [(now_s,)] = connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchall()
        off_s, commit_ms = now_s - time.time(), commits_ms[len(commits_ms) // 2]
        found = f"{self}: PostgreSQL {server}, schema {len(MIGRATIONS)}, a commit takes {commit_ms:.1f} ms"
        if server < LEAST_VERSION:
            return Condition(found, f"Use PostgreSQL {LEAST_VERSION} or later: older ones do not compress states well.")
        if abs(off_s) > MOST_OFF_S:
            return Condition(f"{found}, its clock is {off_s:+.1f} s off", "Have a time service keep all clocks.")
        if commit_ms > SLOW_MS:
            return Condition(found, "Alerts do not wait for it, but devices keep their packets for longer.")
        return Condition(found)

    def open(self, name: str, worker: int | None = None) -> PostgresStore:
        """Open what a monitor of that name keeps; see `StateLocation.open`."""
        return PostgresStore(self, name, "" if worker is None else str(worker))

    def open_shared(self, name: str) -> PostgresStore:
        """Open it for one of many processes; see `StateLocation.open_shared`."""
        return PostgresStore(self, name, None)

    def read_claims(self, name: str) -> list[Claim]:
        """Return who saves what; see `StateLocation.read_claims`."""
        query: LiteralString = (
            "SELECT slot, about, extract(epoch FROM claimed_at)::float8, extract(epoch FROM seen_at)::float8 "
            "FROM claim JOIN session ON session.id = claim.session WHERE claim.monitor = %s ORDER BY slot"
        )
        return [Claim(*row) for row in self._read(query, name)]

    def has_kept(self, name: str) -> bool:
        """Whether a monitor of that name has ever had a session; see `StateLocation.has_kept`."""
        return bool(self._read("SELECT 1 FROM session WHERE monitor = %s LIMIT 1", name))

    def read_history(self, name: str, since_s: float, device: str | None = None) -> list[HistoryAlert]:
        """Return the alerts of a monitor; see `StateLocation.read_history`."""
        query: LiteralString = (
            "SELECT published_s, payload FROM alert WHERE monitor = %s AND published_s >= %s "
            "AND device = coalesce(%s::text, device) ORDER BY published_s, number"
        )
        rows = self._read(query, name, since_s, device)
        return [HistoryAlert(published_s, bytes(payload)) for published_s, payload in rows]

    def read_requests(self, name: str, since_s: float, device: str | None = None) -> list[RequestRow]:
        """Return the requests of a monitor; see `StateLocation.read_requests`."""
        query: LiteralString = (
            f"SELECT {_REQUEST_COLUMNS} FROM request WHERE monitor = %s AND made_s >= %s "
            "AND device = coalesce(%s::text, device) ORDER BY made_s, number"
        )
        return [_to_request(row) for row in self._read(query, name, since_s, device)]

    def erase(self, name: str, device: str) -> dict[str, int]:
        """Delete a device from all tables; see `StateLocation.erase`.

        The server overwrites the rows when it vacuums the tables; backups and the log keep what they hold.
        """
        deleted: dict[str, int] = {}
        try:
            with connect(self.url) as connection, connection.transaction():
                for table, column in _NAMING.items():
                    query = f"DELETE FROM {table} WHERE monitor = %s AND {column} = %s".encode()
                    deleted[table] = connection.execute(query, (name, device)).rowcount
        except psycopg.Error as error:
            raise OSError(f"{self} cannot be written: {describe(error)}.") from None
        return deleted

    def read_hourly(self, name: str, since_s: float, device: str | None = None) -> list[HourlyRow]:
        """Return the beats of a monitor; see `StateLocation.read_hourly`."""
        query: LiteralString = (
            "SELECT hour, device, what, sum(beats)::int8, sum(rr_ms)::int8 FROM hourly WHERE monitor = %s "
            "AND told_hour >= %s AND device = coalesce(%s::text, device) GROUP BY 1, 2, 3"
        )
        return sorted(HourlyRow(*row) for row in self._read(query, name, int(since_s // 3600), device))

    def hold(self, name: str, is_stopping: Callable[[], bool]) -> AbstractContextManager[None]:
        """Hold a name by a lock of a session of its own; see `StateLocation.hold`.

        Raises
        ------
        ConnectionError
            The database cannot be reached at the start.
        """
        return _hold(self, name, is_stopping)

    @contextmanager
    def try_hold(self, name: str) -> Iterator[bool]:
        """Hold a name if nobody does; see `StateLocation.try_hold`."""
        with self.connect() as connection:
            known = connection.execute("SELECT 1 FROM name_held WHERE name = %s", (name,)).fetchone()
            is_held = bool(known) and _takes(connection, name)
            yield is_held

    def names_held(self, name: str) -> list[str]:
        """Return the names that were held; see `StateLocation.names_held`."""
        query: LiteralString = "SELECT name FROM name_held WHERE name = %s OR name ~ ('^' || %s || '\\.[0-9]+$')"
        escaped = "".join(f"\\{sign}" if not sign.isalnum() else sign for sign in name)
        return sorted(held for (held,) in self._read(query, name, escaped))

    def drop_name(self, name: str) -> None:
        """Let a name not be among those held any more; see `StateLocation.drop_name`."""
        self._read("DELETE FROM name_held WHERE name = %s RETURNING name", name)

    def connect(self) -> Connection:
        """Connect, with the schema up to date.

        Raises
        ------
        ConnectionError
            It cannot be reached, or refuses.
        """
        try:
            return connect(self.url)
        except psycopg.Error as error:
            raise ConnectionError(f"No database reached at {self}: {describe(error)}.") from None

    def _read(self, query: LiteralString, *values: object) -> list[tuple[Any, ...]]:
        try:
            with connect(self.url) as connection:
                return connection.execute(query, values).fetchall()
        except psycopg.Error as error:
            raise OSError(f"{self} cannot be read: {describe(error)}.") from None


class PostgresStore(ThreadedStore, SharedStore):
    """What a monitor, or one of its workers, has open in a database.

    Parameters
    ----------
    location
        The database.
    name
        Of the monitor.
    slot
        What it claims at once: "" for the whole monitor, the number of a worker; None: nothing before `own`.
    """

    def __init__(self, location: PostgresLocation, name: str, slot: str | None) -> None:
        super().__init__()
        self._location = location
        self._name = name
        self._slot = slot
        self._epochs: dict[str, int] = {}
        self._connection: Connection | None = None
        self._session = 0
        self._number = 0
        self._wanted: set[str] = set()  # partitions, as the loop has asked last
        self._taken: queue.SimpleQueue[Taken] = queue.SimpleQueue()
        self._held: list[tuple[str, bytes | None]] = []  # answers to come after what was taken over
        self._days: set[tuple[str, int]] = set()
        self._pruned_s = -PRUNE_S
        self._closing = threading.Event()
        self.start(self._open_database)

    def write(self, transaction: Transaction) -> bool:
        """Write it; see `ThreadedStore.write`."""
        self._number += 1
        is_tried = False

        def write(connection: Connection) -> bool:
            nonlocal is_tried
            if not (is_tried and self._is_committed(connection)):
                is_tried = True
                self._write(connection, transaction)
            return True

        return bool(self._try(write))

    def look_up(self, devices: Collection[str]) -> dict[str, bytes]:
        """Return the states of some devices; see `StateStore.answers`."""
        query: LiteralString = "SELECT id, state FROM device WHERE monitor = %b AND id = ANY(%b) AND saved_s >= %b"
        values = self._name, list(devices), time.time() - KEEP_STATE_S
        rows = self._try(lambda connection: connection.execute(query, values, binary=True).fetchall())
        states: dict[str, bytes] = {}
        for device, sealed in rows or ():
            if (state := unseal(bytes(sealed))) is None:
                log.error("the saved state of device %s is damaged; its stream starts over", device)
            else:
                states[device] = state
        return states

    def look_up_outbox(self) -> list[OutboxMessage]:
        """Return the alerts that no broker has confirmed; see `StateStore.read_outbox`."""
        return self._try(lambda connection: self._read_outbox(connection, list(self._epochs))) or []

    def look_up_devices(self) -> list[str]:
        """Return the devices that have a state; see `StateStore.read_devices`."""
        return sorted(device for (device,) in self._select("SELECT id FROM device WHERE monitor = %s"))

    def look_up_decisions(self) -> dict[str, bytes]:
        """Return what people have decided; see `StateStore.read_decisions`."""
        return self._try(self._read_decisions) or {}

    def look_up_request(self, request_id: str) -> RequestRow | None:
        """Return a granted request; see `StateStore.find_request`."""
        rows = self._select(f"SELECT {_REQUEST_COLUMNS} FROM request WHERE monitor = %s AND id = %s", request_id)
        return next(map(_to_request, rows), None)

    def look_up_alert(self, device: str, episode: str) -> bytes | None:
        """Return the first message of an episode; see `StateStore.find_alert`."""
        query: LiteralString = (
            "SELECT payload FROM alert WHERE monitor = %s AND episode = %s AND device = %s ORDER BY number LIMIT 1"
        )
        return next((bytes(payload) for (payload,) in self._select(query, episode, device)), None)

    def look_up_count(self, device: str) -> dict[str, int] | None:
        """Return how much is kept of a device; see `StateStore.count`."""

        def count(connection: Connection, table: str) -> int:
            query = f"SELECT count(*) FROM {table} WHERE monitor = %s AND {_NAMING[table]} = %s".encode()
            [(rows,)] = connection.execute(query, (self._name, device)).fetchall()
            return int(rows)

        return self._try(lambda connection: {table: count(connection, table) for table in _NAMING})

    def own(self, partitions: Collection[int]) -> None:
        """Ask to take over partitions; see `SharedStore.own`."""
        slots = [_slot(partition) for partition in sorted(partitions)]
        self._wanted.update(slots)
        self.later(lambda: self._try(lambda connection: self._take_over(connection, slots)))

    def disown(self, partitions: Collection[int]) -> None:
        """Ask to leave partitions; see `SharedStore.disown`."""
        slots = [_slot(partition) for partition in partitions]
        self._wanted.difference_update(slots)
        self.later(lambda: [self._epochs.pop(slot, None) for slot in slots])

    def taken(self) -> list[Taken]:
        """Return what came with partitions; see `SharedStore.taken`."""
        taken: list[Taken] = []
        while not self._taken.empty():
            taken.append(self._taken.get())
        return taken

    def answers(self) -> list[tuple[str, bytes | None]]:
        """Return the states that were found, after what was taken over before; see `SharedStore.own`."""
        self._held += super().answers()
        if not self._taken.empty():
            return []
        found, self._held = self._held, []
        return found

    def drop_old(self, before_s: float) -> None:
        """Drop what is old, once a minute and by one worker at a time; see `StateStore.prune`."""
        now_s = time.monotonic()
        if self.fault is None and now_s - self._pruned_s >= PRUNE_S:
            self._pruned_s = now_s
            self._try(lambda connection: self._prune(connection, before_s))

    def reopen(self) -> None:
        """Connect again if there is a fault that may have been mended; see `StateStore.retry`."""
        if self.fault is not None and not self.is_fenced:
            self._disconnect()
            self._open_database()

    def release(self) -> None:
        """Leave the database; see `StateStore.close`."""
        self._disconnect()

    def hurry(self) -> None:
        """Wait no longer for a database that is away; see `ThreadedStore.hurry`."""
        self._closing.set()

    def _open_database(self) -> None:
        """Connect, and claim the slot, or the partitions that came while nothing could be claimed."""
        try:
            self._connection = connect(self._location.url)
            if self._session:
                self._check_claims(self._connection)
            else:
                self._start_session(self._connection)
            self._take_over(self._connection, list(self._wanted))
        except Fenced:
            self._note_fenced()
            return
        except psycopg.Error as error:
            self._disconnect()
            self.set_fault(f"{self._location}: {describe(error)}")
            return
        self.opened += 1
        self.set_fault(None)

    def _start_session(self, connection: Connection) -> None:
        about = f"{socket.gethostname()} {os.getpid()}"
        query: LiteralString = "INSERT INTO session (id, monitor, about) SELECT nextval('epoch'), %s, %s RETURNING id"
        [(self._session,)] = connection.execute(query, (self._name, about)).fetchall()
        self._number = 0
        if self._slot is not None:
            self._epochs = self._claim(connection, [self._slot])

    def _take_over(self, connection: Connection, slots: list[str]) -> None:
        """Claim partitions that were not left or claimed meanwhile; pass on their outbox, and what was decided."""
        slots = [slot for slot in slots if slot in self._wanted and slot not in self._epochs]
        if not slots:
            return
        with connection.transaction():
            epochs = self._claim(connection, slots)
            taken = Taken(self._read_outbox(connection, slots), self._read_decisions(connection))
        self._epochs |= epochs
        self._taken.put(taken)

    def _read_decisions(self, connection: Connection) -> dict[str, bytes]:
        query: LiteralString = "SELECT device, content FROM decision WHERE monitor = %s"
        return {device: bytes(content) for device, content in connection.execute(query, (self._name,))}

    def _read_outbox(self, connection: Connection, slots: list[str]) -> list[OutboxMessage]:
        query: LiteralString = (
            "SELECT id, device, published_s, topic, payload, episode, slot FROM outbox "
            "WHERE monitor = %s AND slot = ANY(%s) ORDER BY number"
        )
        return [
            OutboxMessage(id_, device, published_s, topic, bytes(payload), episode, _partition(slot))
            for id_, device, published_s, topic, payload, episode, slot in connection.execute(
                query, (self._name, slots)
            )
        ]

    def _claim(self, connection: Connection, slots: Sequence[str]) -> dict[str, int]:
        """Claim slots: who had them until now writes nothing any more. Return their epochs.

        Whoever has been holding claims locked for too long is cut off, and what it was writing is void.
        """
        try:
            with connection.transaction():
                connection.execute("SET LOCAL lock_timeout = '1s'")
                return dict(connection.execute(_CLAIM, (self._name, self._session, list(slots))).fetchall())
        except errors.LockNotAvailable:
            connection.execute(_CUT_OFF, (STUCK_S,))
            raise

    def _check_claims(self, connection: Connection) -> None:
        """Fenced if somebody has claimed a slot since; what is not there at all is claimed again."""
        query: LiteralString = "SELECT slot, epoch FROM claim WHERE monitor = %s AND slot = ANY(%s)"
        claimed: dict[str, int] = dict(connection.execute(query, (self._name, list(self._epochs))).fetchall())
        if claimed and claimed != self._epochs:
            raise Fenced
        if not claimed and self._epochs:  # another database, or an empty one
            slots = list(self._epochs)
            self._start_session(connection)
            self._epochs = self._claim(connection, slots)

    def _is_committed(self, connection: Connection) -> bool:
        """Whether the present transaction was saved by a connection that broke before it said so."""
        query: LiteralString = "SELECT committed FROM session WHERE id = %s"
        row = connection.execute(query, (self._session,)).fetchone()
        return row is not None and row[0] >= self._number

    def _write(self, connection: Connection, transaction: Transaction) -> None:
        now_s = time.time()
        days = {("alert", int(one.published_s // DAY_S)) for one in transaction.published}
        if transaction.hourly:
            days.add(("hourly", int(now_s // DAY_S)))
        self._make_days(connection, days)
        try:
            with connection.transaction(), connection.pipeline():
                claims = sorted(self._epochs.items())
                held = connection.execute(_CHECK, (*_columns(claims, 2), self._name)) if claims else None
                self._write_rows(connection, transaction, now_s)
                query: LiteralString = "UPDATE session SET committed = %s, seen_at = now() WHERE id = %s"
                connection.execute(query, (self._number, self._session))
                if held is not None and len(held.fetchall()) < len(claims):
                    raise Fenced
        except errors.CheckViolation as error:
            if error.diag.constraint_name is None:  # a partition that another worker has dropped
                self._days.clear()
            raise

    def _write_rows(self, connection: Connection, transaction: Transaction, now_s: float) -> None:
        name, states = self._name, sorted(transaction.states.items())  # two that write the same rows must not deadlock
        execute = connection.execute
        if transaction.erased:
            for table, column in _NAMING.items():
                delete = f"DELETE FROM {table} WHERE monitor = %b AND {column} = ANY(%b)".encode()
                execute(delete, (name, sorted(transaction.erased)))
        if transaction.forgotten:
            query: LiteralString = "DELETE FROM device WHERE monitor = %b AND id = ANY(%b)"
            execute(query, (name, sorted(transaction.forgotten)))
        if states:
            execute(_SAVE, (name, now_s, [device for device, _ in states], [seal(state) for _, state in states]))
        published = {one.id: one for one in reversed(transaction.published)}  # the first of each id
        if published:
            rows = [
                (one.id, one.device, one.published_s, one.payload, one.episode) for one in reversed(published.values())
            ]
            execute(_TELL, (name, *_columns(rows, 5), name))
        if transaction.unconfirmed:
            sent = [
                (one.id, self._slot_of(one), one.device, one.published_s, one.topic, one.payload, one.episode)
                for one in transaction.unconfirmed
            ]
            execute(_SEND, (name, *_columns(sent, 7)))
        if transaction.confirmed:
            query = "DELETE FROM outbox WHERE monitor = %b AND id = ANY(%b)"
            execute(query, (name, list(transaction.confirmed)))
        if transaction.hourly:
            execute(_COUNT, (name, int(now_s // 3600), *_columns(sorted(transaction.hourly), 5)))
        if transaction.decisions:
            execute(_DECIDE, (name, now_s, *_columns(sorted(transaction.decisions.items()), 2)))
        if transaction.requests:
            execute(_AUDIT, (name, *_columns(transaction.requests, 8)))

    def _select(self, query: LiteralString, *values: object) -> list[tuple[Any, ...]]:
        """Rows of this monitor."""
        return self._try(lambda connection: connection.execute(query, (self._name, *values)).fetchall()) or []

    def _slot_of(self, message: OutboxMessage) -> str:
        """In whose outbox a message belongs."""
        if message.partition is not None:
            return _slot(message.partition)
        return min(self._epochs, default="") if self._slot is None else self._slot

    def _make_days(self, connection: Connection, days: set[tuple[str, int]]) -> None:
        """Make the partitions of days that may lack them."""
        if missing := days - self._days:
            make_days(connection, missing)
            self._days |= missing

    def _prune(self, connection: Connection, before_s: float) -> None:
        now_s = time.time()
        with connection.transaction():
            [(is_ours,)] = connection.execute(
                "SELECT pg_try_advisory_xact_lock(hashtextextended('ecgwatch prune ' || %s, 0))", (self._name,)
            ).fetchall()
            if not is_ours:
                return
            prune(connection, self._name, before_s, now_s)
        self._days -= drop_days(connection, before_s)

    def _try(self, action: Callable[[Connection], Result]) -> Result | None:
        """Do something with the database; wait while it is away. On a fault log and keep it, and return None."""
        until_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                connection = self._connected()
                result = None if connection is None else action(connection)
                self.delay = None
                return result
            except Fenced:
                self._note_fenced()
                return None
            except psycopg.Error as error:
                if self._gives_up(error, until_s):
                    return None
            if self._closing.wait(AGAIN_S):
                until_s = min(until_s, time.monotonic() + 4 * AGAIN_S)
                time.sleep(AGAIN_S)

    def _gives_up(self, error: psycopg.Error, until_s: float) -> bool:
        """Note what went wrong; return whether it is of no use to try again."""
        text = f"{self._location}: {describe(error)}"
        if self._may_try_again(error) and time.monotonic() < until_s:
            if self.delay is None:
                log.warning("waiting for the store: %s", text)
            self.delay = text
            return False
        self.delay = None
        if self.fault is None:
            self.set_fault(text)
        return True

    def _note_fenced(self) -> None:
        self.is_fenced = True
        self.set_fault(f"{self._location}: another process has taken over what this one was watching")

    def _may_try_again(self, error: psycopg.Error) -> bool:
        """Whether the database may do it later by itself."""
        is_gone = self._connection is None or self._connection.closed or isinstance(error, _GONE)
        if is_gone:
            self._disconnect()
            return self.fault is None and (isinstance(error, psycopg.OperationalError | errors.InterfaceError))
        is_day_gone = isinstance(error, errors.CheckViolation) and error.diag.constraint_name is None
        return isinstance(error, _AGAIN) or is_day_gone

    def _connected(self) -> Connection | None:
        """Return the connection, made again if it was lost; None while there is a fault and nothing to read from."""
        if self._connection is None and self.fault is None:
            self._connection = connect(self._location.url)
            log.info("connected to %s again", self._location)
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _to_request(row: tuple[Any, ...]) -> RequestRow:
    id_, made_s, device, verb, by, payload, answer, episode = row
    return RequestRow(id_, made_s, device, verb, by, bytes(payload), answer, episode)


def _slot(partition: int) -> str:
    return f"p{partition}"


def _partition(slot: str) -> int | None:
    return int(slot[1:]) if slot.startswith("p") else None


def connect(url: str) -> Connection:
    """Connect, and bring the schema up to date.

    Raises
    ------
    psycopg.Error
        It cannot be reached, or refuses; `psycopg.NotSupportedError` if the schema is newer than this program.
    """
    connection = psycopg.connect(url, autocommit=True, **CONNECT)
    try:
        limits = f"SET statement_timeout = {STATEMENT_MS}; SET idle_in_transaction_session_timeout = {IDLE_MS}"
        connection.execute(f"SET search_path = {SCHEMA}; {limits}".encode())
        if _read_version(connection) != len(MIGRATIONS):
            _migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _measure_commit(connection: Connection) -> float:
    """Return how long it takes to commit next to nothing, in s."""
    began_s = time.perf_counter()
    connection.execute("SELECT pg_current_xact_id()")
    return time.perf_counter() - began_s


def describe(error: psycopg.Error) -> str:
    """Say in one line what is wrong."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def make_days(connection: Connection, days: Collection[tuple[str, int]]) -> None:
    """Make the partitions of a table for days since 1970, if they are not there."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('ecgwatch days', 0))")
        for table, day in sorted(days):
            unit = DAY_S if table == "alert" else 24
            bounds = f"FROM ({day * unit}) TO ({(day + 1) * unit})"
            name = f"{table}_{day}" if day >= 0 else f"{table}_m{-day}"
            connection.execute(f"CREATE TABLE IF NOT EXISTS {name} PARTITION OF {table} FOR VALUES {bounds}".encode())


def prune(connection: Connection, name: str, before_s: float, now_s: float) -> None:
    """Drop the states, alerts and beats of a monitor that are too old, and partitions that hold nothing then."""
    connection.execute("DELETE FROM device WHERE monitor = %s AND saved_s < %s", (name, now_s - KEEP_STATE_S))
    connection.execute("UPDATE device SET saved_s = %s WHERE monitor = %s AND saved_s > %s", (now_s, name, now_s))
    connection.execute(
        "DELETE FROM session WHERE monitor = %s AND seen_at < now() - interval '30 days' "
        "AND NOT EXISTS (SELECT FROM claim WHERE claim.session = session.id)",
        (name,),
    )
    connection.execute(
        "DELETE FROM alert WHERE monitor = %s AND published_s < %s AND NOT EXISTS "
        "(SELECT FROM outbox WHERE outbox.monitor = alert.monitor AND outbox.id = alert.id) AND NOT EXISTS (SELECT "
        "FROM request WHERE request.monitor = alert.monitor AND verb = 'judge' AND request.episode = alert.episode)",
        (name, before_s),
    )
    connection.execute("DELETE FROM hourly WHERE monitor = %s AND told_hour < %s", (name, int(before_s // 3600)))


def drop_days(connection: Connection, before_s: float) -> set[tuple[str, int]]:
    """Drop the partitions of days that are over, where no row is left; return them."""
    query: LiteralString = (
        "SELECT parent.relname, child.relname FROM pg_inherits JOIN pg_class parent ON parent.oid = inhparent "
        "JOIN pg_class child ON child.oid = inhrelid WHERE parent.relnamespace = %s::regnamespace "
        "AND parent.relname IN ('alert', 'hourly') AND parent.relkind = 'p'"
    )
    dropped: set[tuple[str, int]] = set()
    for table, name in connection.execute(query, (SCHEMA,)).fetchall():
        day = int(name.rpartition("_")[2].replace("m", "-"))
        if (day + 1) * DAY_S > before_s:
            continue
        with contextlib.suppress(errors.LockNotAvailable), connection.transaction():
            connection.execute("SET LOCAL lock_timeout = '500ms'")  # those who write go first
            connection.execute(f"LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE".encode())
            if connection.execute(f"SELECT 1 FROM {name} LIMIT 1".encode()).fetchone() is None:
                connection.execute(f"DROP TABLE {name}".encode())
                dropped.add((table, day))
    return dropped


def _read_version(connection: Connection) -> int | None:
    query: LiteralString = "SELECT to_regclass('migration') IS NOT NULL"
    [(is_there,)] = connection.execute(query).fetchall()
    if not is_there:
        return None
    [(version,)] = connection.execute("SELECT coalesce(max(version), 0) FROM migration").fetchall()
    return int(version)


def _migrate(connection: Connection) -> None:
    """Make the steps that are missing, one process at a time."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('ecgwatch migration', 0))")
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}".encode())
        connection.execute(
            "CREATE TABLE IF NOT EXISTS migration (version int PRIMARY KEY, made_at timestamptz DEFAULT now())"
        )
        version = _read_version(connection) or 0
        if version > len(MIGRATIONS):
            raise psycopg.NotSupportedError(
                f"its schema has version {version}, and this program knows {len(MIGRATIONS)}: upgrade this program"
            )
        for number in range(version + 1, len(MIGRATIONS) + 1):
            connection.execute(MIGRATIONS[number - 1].encode())
            connection.execute("INSERT INTO migration (version) VALUES (%s)", (number,))


def _columns(rows: Sequence[Sequence[Any]], number: int) -> list[list[Any]]:
    """Turn rows into columns."""
    return [[row[i] for row in rows] for i in range(number)]


def _takes(connection: Connection, name: str) -> bool:
    """Take the lock of a name, unless another session holds it; return whether that worked."""
    [(is_held,)] = connection.execute(_LOCK, (name,)).fetchall()
    return bool(is_held)


@contextmanager
def _hold(location: PostgresLocation, name: str, is_stopping: Callable[[], bool]) -> Iterator[None]:
    """Wait for a name and hold it; if the session is lost, take it again."""
    is_told = False
    connection: Connection | _Lock = location.connect()
    try:
        assert isinstance(connection, psycopg.Connection)
        connection.execute("INSERT INTO name_held VALUES (%s) ON CONFLICT DO NOTHING", (name,))
        while not is_stopping() and not _takes(connection, name):
            if not is_told:
                log.warning(
                    "another monitor of this name is running; waiting until it stops (%s in %s)", name, location
                )
            is_told = True
            time.sleep(HOLD_S)
        connection = _Lock(location, name, connection)
        yield
    finally:
        connection.close()


class _Lock:
    """A name that is held: if the session that has its lock is lost, another takes it again.

    Meanwhile another process may have taken the name: then it has claimed what this one writes, too.
    """

    def __init__(self, location: PostgresLocation, name: str, connection: Connection) -> None:
        self._location, self._name, self._connection = location, name, connection
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="name", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let go of the name."""
        self._leaving.set()
        self._thread.join(CONNECT["connect_timeout"])
        self._connection.close()

    def _keep(self) -> None:
        while not self._leaving.wait(KEEP_S):
            try:
                self._see_to_it()
            except psycopg.Error:
                self._connection.close()

    def _see_to_it(self) -> None:
        if self._connection.closed:
            self._connection = connect(self._location.url)
            if not _takes(self._connection, self._name):
                log.error("another monitor has taken the name %s in %s", self._name, self._location)
        self._connection.execute("SELECT 1")
