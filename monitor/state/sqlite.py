"""The store in SQLite: a file for each monitor, or for each of its workers, in one directory.

A file is written in transactions of many rows; killing the process at any moment loses none that was committed, and
leaves the others as they were. A power failure may undo the last seconds.

The thread of the store (`monitor.state.worker`) reads and writes it. Another moves what was written from the log to its
place, beside the writers, which is what takes long; the first then moves what little was written meanwhile, so that the
log starts over.

A disk that is full or a file that is damaged must not stop the monitor: `SqliteStore` then reports what is wrong, and
writes nothing more until `retry` has found that it can. A damaged file is set aside, not deleted. Each state has a
checksum: SQLite has none, and a state that is not as it was would lead the compiled loops astray.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import zstandard

from monitor.state.lock import held_at_once, only_one
from monitor.state.seal import seal, unseal
from monitor.state.store import (
    KEEP_STATE_S,
    HistoryAlert,
    HourlyRow,
    OutboxMessage,
    RequestRow,
    StateLocation,
    Transaction,
    add_up,
)
from monitor.state.worker import Repeating, ThreadedStore

log = logging.getLogger(__name__)

Result = TypeVar("Result")

TIDY_S = 15.0
"""How often what was written is moved to its place in the file: that waits for the disk, so a thread does it."""
BUSY_S = 10.0
"""How long to wait for another process that writes."""
MOST_ALERTS = 250_000
"""The history holds no more alerts than these, whatever their age: about 600 MB, which are checked in half a second."""
MOST_REQUESTS = 1_000_000
"""Nor the audit trail more requests: about 400 MB."""
MOST_HOURLY_ROWS = 3_000_000
"""Nor more beats than in so many rows, one for each hour, device and kind: about 140 MB, counted in 0.2 s."""
LOG_BYTES = 64 * 2**20
"""The log is cut to this size when it starts over."""
ROWS = 200
"""So many rows are written by one statement: each statement lets the loop's thread go first."""
FORGOTTEN = b""
"""In place of a state: the device was forgotten, and what another worker's file holds of it is out of date."""
_VERSION = 2
_MAGIC = b"SQLite format 3\0"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS device (id TEXT PRIMARY KEY, saved_s REAL NOT NULL, state BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS outbox (id TEXT PRIMARY KEY, topic TEXT NOT NULL, payload BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS alert (
    id TEXT PRIMARY KEY, device TEXT NOT NULL, told_s REAL NOT NULL, payload BLOB NOT NULL, episode TEXT
);
CREATE INDEX IF NOT EXISTS alert_told ON alert (told_s);
CREATE TABLE IF NOT EXISTS decision (device TEXT PRIMARY KEY, saved_s REAL NOT NULL, content BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS request (
    id TEXT PRIMARY KEY, made_s REAL NOT NULL, device TEXT NOT NULL, verb TEXT NOT NULL, asked_by TEXT NOT NULL,
    payload BLOB NOT NULL, answer TEXT NOT NULL, episode TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS hourly (
    told_hour INTEGER, hour INTEGER, device TEXT, what TEXT, beats INTEGER NOT NULL, rr_ms INTEGER NOT NULL,
    PRIMARY KEY (told_hour, hour, device, what)
) WITHOUT ROWID;
"""
_MIGRATE = """
ALTER TABLE alert ADD COLUMN episode TEXT;
UPDATE alert SET episode = json_extract(CAST(payload AS TEXT), '$.episode') WHERE json_valid(CAST(payload AS TEXT));
"""
"""From version 1, which had neither episodes nor decisions nor requests."""
_INDEX = "CREATE INDEX IF NOT EXISTS alert_episode ON alert (episode)"
_PACKED = b"\x28\xb5\x2f\xfd"
"""First bytes of what zstandard has packed; those of JSON are others."""
_PACK_FROM = 1000
"""Bytes of an alert from which it is packed: those with a strip, to a third."""
_MOVE_LOG = "PRAGMA wal_checkpoint(PASSIVE)"
_ADD_HOURLY = "ON CONFLICT DO UPDATE SET beats = beats + excluded.beats, rr_ms = rr_ms + excluded.rr_ms"
_HOURLY = (
    "SELECT hour, device, what, sum(beats), sum(rr_ms) FROM hourly "
    "WHERE told_hour >= ? AND device = coalesce(?, device) GROUP BY hour, device, what"
)
_STATES = (
    "SELECT id, saved_s <= ?, saved_s, state FROM device WHERE id IN (SELECT value FROM json_each(?)) AND saved_s >= ?"
)
_DECISIONS = "SELECT device, saved_s, content FROM decision"
_REQUEST = "SELECT id, made_s, device, verb, asked_by, payload, answer, episode FROM request WHERE id = ?"
_REQUESTS = (
    "SELECT id, made_s, device, verb, asked_by, payload, answer, episode FROM request "
    "WHERE made_s >= ? AND device = coalesce(?, device) ORDER BY made_s, rowid"
)
_EPISODE = "SELECT told_s, payload FROM alert WHERE episode = ? AND device = ? ORDER BY rowid LIMIT 1"
_ALERTS = "SELECT told_s, payload FROM alert WHERE told_s >= ? AND device = coalesce(?, device) ORDER BY told_s, rowid"


@dataclass(frozen=True)
class SqliteLocation(StateLocation):
    """A directory: `NAME.db` is a monitor's file, `NAME.0.db` its first worker's; `NAME.lock` is there to be held."""

    directory: Path

    def __str__(self) -> str:
        return str(self.directory)

    def open(self, name: str, worker: int | None = None) -> SqliteStore:
        """Open a file, made with its directory if it is not there; see `StateLocation.open`."""
        return SqliteStore(self.directory, name, worker)

    def has_kept(self, name: str) -> bool:
        """Whether the monitor has a file; see `StateLocation.has_kept`."""
        return bool(_find(self.directory, name, ".db"))

    def read_history(self, name: str, since_s: float, device: str | None = None) -> list[HistoryAlert]:
        """Return the alerts in all files of the monitor; see `StateLocation.read_history`."""
        alerts = [
            HistoryAlert(published_s, _unpack(payload))
            for published_s, payload in self._read(name, _ALERTS, since_s, device)
        ]
        return sorted(alerts, key=lambda alert: alert.published_s)

    def read_requests(self, name: str, since_s: float, device: str | None = None) -> list[RequestRow]:
        """Return the requests in all files of the monitor; see `StateLocation.read_requests`."""
        rows = [_to_request(row) for row in self._read(name, _REQUESTS, since_s, device)]
        return sorted(rows, key=lambda row: row.made_s)

    def read_hourly(self, name: str, since_s: float, device: str | None = None) -> list[HourlyRow]:
        """Return the beats in all files of the monitor; see `StateLocation.read_hourly`."""
        return add_up([HourlyRow(*row) for row in self._read(name, _HOURLY, since_s // 3600, device)])

    def erase(self, name: str, device: str) -> dict[str, int]:
        """Delete a device from all files of the monitor; see `StateLocation.erase`."""
        deleted: Counter[str] = Counter()
        for path in _find(self.directory, name, ".db"):
            try:
                deleted.update(_erase(path, [device]))
            except sqlite3.Error as error:
                raise OSError(f"{path} cannot be written: {error}.") from None
        return dict(deleted)

    def hold(self, name: str, is_stopping: Callable[[], bool]) -> AbstractContextManager[None]:
        """Hold the lock of a name; see `StateLocation.hold`."""
        return only_one(self._lock(name), is_stopping)

    def try_hold(self, name: str) -> AbstractContextManager[bool]:
        """Hold the lock of a name if nobody does; see `StateLocation.try_hold`."""
        return held_at_once(self._lock(name))

    def names_held(self, name: str) -> list[str]:
        """Return the names that have a lock; see `StateLocation.names_held`."""
        return sorted(path.stem for path in _find(self.directory, name, ".lock"))

    def drop_name(self, name: str) -> None:
        """Delete the lock of a name; see `StateLocation.drop_name`."""
        self._lock(name).unlink(missing_ok=True)

    def _lock(self, name: str) -> Path:
        return self.directory / f"{name}.lock"

    def _read(self, name: str, query: str, *values: object) -> list[tuple[Any, ...]]:
        return [row for path in _find(self.directory, name, ".db") for row in _read(path, query, values)]


def _find(directory: Path, name: str, suffix: str) -> list[Path]:
    """Find the files of the monitor of that name: its own, and those of its workers."""
    pattern = re.compile(rf"{re.escape(name)}(\.\d+)?{re.escape(suffix)}")
    return sorted(path for path in directory.glob(f"*{suffix}") if pattern.fullmatch(path.name))


def _read(path: Path, query: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
    try:
        with closing(_open_to_read(path)) as connection:
            return connection.execute(query, values).fetchall()
    except sqlite3.Error as error:
        if "no such table" in str(error):
            return []  # nothing of that kind was ever kept there
        raise OSError(f"{path} cannot be read: {error}.") from None


def _open_to_read(path: Path) -> sqlite3.Connection:
    # Where nobody has it open, SQLite would leave two files behind unless it knows that nobody will; and where the
    # disk is full, it could not make them. In an empty one is nothing that is not in the file.
    log_path = Path(f"{path}-wal")
    mode = "mode=ro" if log_path.exists() and log_path.stat().st_size else "immutable=1"
    return sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", timeout=BUSY_S, uri=True, isolation_level=None)


class SqliteStore(ThreadedStore):
    """A file.

    Parameters
    ----------
    directory
        Where it lies; made if it is not there.
    name
        Of the monitor, and of the file.
    worker
        Which of several that share the devices this is; each has a file of its own, and reads those of the others.
    """

    def __init__(self, directory: Path, name: str, worker: int | None = None) -> None:
        super().__init__()
        self._path = directory / (f"{name}.db" if worker is None else f"{name}.{worker}.db")
        self._name = name
        self._others_open: list[sqlite3.Connection] | None = None
        self._connection: sqlite3.Connection | None = None
        self._file: int | None = None  # to see whether it is still there; see `_is_there`
        self._pruned_hour = -1.0
        self.start(self._open_file)
        self._tidying = Repeating(self._tidy, lambda: TIDY_S)

    def look_up(self, devices: Collection[str]) -> dict[str, bytes]:
        """Return the latest states of some devices, from all files of the monitor; see `StateStore.answers`."""
        now_s = time.time()
        values = now_s, json.dumps(list(devices)), now_s - KEEP_STATE_S
        rows = self._select(_STATES, *values)
        for file in self._others() if devices else ():
            with contextlib.suppress(sqlite3.Error):
                rows += file.execute(_STATES, values).fetchall()
        latest: dict[str, tuple[Any, ...]] = {}
        for device, *row in rows:
            latest[device] = max(latest.get(device, ()), tuple(row))
        states: dict[str, bytes] = {}
        for device, (_, _, sealed) in latest.items():
            if sealed == FORGOTTEN:
                continue
            if (state := unseal(bytes(sealed))) is None:
                log.error("the saved state of device %s is damaged; its stream starts over", device)
            else:
                states[device] = state
        return states

    def look_up_outbox(self) -> list[OutboxMessage]:
        """Return the alerts that no broker has confirmed; see `StateStore.read_outbox`."""
        query = (
            "SELECT outbox.id, device, told_s, topic, outbox.payload, coalesce(episode, '') FROM outbox "
            "JOIN alert ON alert.id = outbox.id ORDER BY outbox.rowid"
        )
        return [
            OutboxMessage(id_, device, told_s, topic, _unpack(payload), episode)
            for id_, device, told_s, topic, payload, episode in self._select(query)
        ]

    def look_up_devices(self) -> list[str]:
        """Return the devices that have a state in any file; see `StateStore.read_devices`."""
        latest: dict[str, tuple[float, bool]] = {}
        for device, saved_s, is_there in self._select_all("SELECT id, saved_s, state != ? FROM device", FORGOTTEN):
            latest[device] = max(latest.get(device, (-1.0, False)), (saved_s, bool(is_there)))
        return sorted(device for device, (_, is_there) in latest.items() if is_there)

    def look_up_decisions(self) -> dict[str, bytes]:
        """Return the latest decisions in all files; see `StateStore.read_decisions`."""
        latest: dict[str, tuple[float, bytes]] = {}
        for device, saved_s, content in self._select_all(_DECISIONS):
            latest[device] = max(latest.get(device, (-1.0, b"")), (saved_s, bytes(content)))
        return {device: content for device, (_, content) in latest.items()}

    def look_up_request(self, request_id: str) -> RequestRow | None:
        """Return a granted request from any file; see `StateStore.find_request`."""
        return next((_to_request(row) for row in self._select_all(_REQUEST, request_id)), None)

    def look_up_alert(self, device: str, episode: str) -> bytes | None:
        """Return the first message of an episode in any file; see `StateStore.find_alert`."""
        found = min(self._select_all(_EPISODE, episode, device), default=None)
        return None if found is None else _unpack(found[1])

    def look_up_count(self, device: str) -> dict[str, int] | None:
        """Return how much is kept of a device in all files; see `StateStore.count`."""

        def count(connection: sqlite3.Connection) -> dict[str, int]:
            counted: Counter[str] = Counter()
            for file in (connection, *self._others()):
                counted.update(_count(file, device))
            return dict(counted)

        return self._try(count)

    def write(self, transaction: Transaction) -> bool:
        """Write it; see `ThreadedStore.write`."""
        if transaction.erased:
            return bool(self._try(lambda connection: self._erase_and_write(connection, transaction)))
        return bool(self._try(lambda connection: self._write(connection, transaction)))

    def drop_old(self, before_s: float) -> None:
        """Drop what is old; see `StateStore.prune`. There are limits: `MOST_ALERTS`, `MOST_HOURLY_ROWS`.

        Old states, and beats of too many hours and devices, are looked for once an hour.
        """
        if self.fault is not None:
            return
        old = "told_s < ? OR rowid <= (SELECT max(rowid) FROM alert) - ?"
        kept = "SELECT episode FROM request WHERE verb = 'judge'"
        alerts = (
            f"DELETE FROM alert WHERE ({old}) AND id NOT IN (SELECT id FROM outbox) "
            f"AND coalesce(episode, '') NOT IN ({kept})"
        )
        self._try(lambda connection: connection.execute(alerts, (before_s, MOST_ALERTS)))
        hours = "DELETE FROM hourly WHERE told_hour < ?"
        self._try(lambda connection: connection.execute(hours, (before_s // 3600,)))
        hour = time.time() // 3600
        if hour != self._pruned_hour:
            self._pruned_hour = hour
            self._try(_prune_states)
            requests = "DELETE FROM request WHERE rowid <= (SELECT max(rowid) FROM request) - ?"
            self._try(lambda connection: connection.execute(requests, (MOST_REQUESTS,)))
            self._try(_prune_hourly)

    def reopen(self) -> None:
        """Open the file again if it has a fault or is not the one that was opened; see `StateStore.retry`."""
        if self.fault is None and not self._is_there():
            self.set_fault(f"{self._path}: it was removed or overwritten")
        if self.fault is not None:
            self._open_file()

    def release(self) -> None:
        """Close the file; see `StateStore.close`."""
        self._tidying.stop()
        self._disconnect()
        for file in self._others_open or ():
            file.close()
        self._others_open = []

    def _erase_and_write(self, connection: sqlite3.Connection, transaction: Transaction) -> bool:
        """Delete devices from the files of all workers, then write the rest: what fails may be tried again as a whole.

        In that order, since what was written would be written twice.
        """
        for path in _find(self._path.parent, self._name, ".db"):
            _erase(path, transaction.erased)
        return self._write(connection, transaction)

    def _write(self, connection: sqlite3.Connection, transaction: Transaction) -> bool:
        now_s = time.time()
        rows_saved = [(device, now_s, seal(state)) for device, state in transaction.states.items()]
        rows_forgotten = [(device, now_s, FORGOTTEN) for device in self._saved_elsewhere(transaction.forgotten)]
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            _delete(connection, "device", transaction.forgotten)
            _insert(connection, "INSERT OR REPLACE INTO device VALUES", rows_forgotten + rows_saved)
            rows = [
                (one.id, one.device, one.published_s, _pack(one.payload), one.episode) for one in transaction.published
            ]
            _insert(connection, "INSERT OR IGNORE INTO alert VALUES", rows)
            rows_out = [(one.id, one.topic, _pack(one.payload)) for one in transaction.unconfirmed]
            _insert(connection, "INSERT OR IGNORE INTO outbox VALUES", rows_out)
            _delete(connection, "outbox", transaction.confirmed)
            rows_hourly = [(now_s // 3600, *row) for row in transaction.hourly]
            _insert(connection, "INSERT INTO hourly VALUES", rows_hourly, _ADD_HOURLY)
            decided = [(device, now_s, content) for device, content in transaction.decisions.items()]
            _insert(connection, "INSERT OR REPLACE INTO decision VALUES", decided)
            _insert(connection, "INSERT OR IGNORE INTO request VALUES", transaction.requests)
        return True

    def _tidy(self) -> None:
        """Move what was written to its place, most of it beside the writers."""
        if self._path.exists():
            with contextlib.suppress(sqlite3.Error), closing(sqlite3.connect(self._path, timeout=BUSY_S)) as file:
                file.execute(_MOVE_LOG)
            self.later(self._finish_tidying)

    def _finish_tidying(self) -> None:
        """Move what was written meanwhile: while nobody writes, all of it can be, and the log starts over."""
        if self._connection is not None and self.fault is None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute(_MOVE_LOG)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _others(self) -> list[sqlite3.Connection]:
        """The files of the other workers that there are or were, to be read."""
        if self._others_open is None:
            self._others_open = []
            for path in [path for path in _find(self._path.parent, self._name, ".db") if path != self._path]:
                try:
                    uri = f"{path.absolute().as_uri()}?mode=ro"
                    self._others_open.append(sqlite3.connect(uri, uri=True, timeout=BUSY_S))
                except sqlite3.Error as error:
                    log.error("%s cannot be read; the states in it are not found: %s", path, error)
        return self._others_open

    def _saved_elsewhere(self, devices: Collection[str]) -> set[str]:
        """Those of some devices of which another worker's file holds a state."""
        query = "SELECT id FROM device WHERE id IN (SELECT value FROM json_each(?)) AND state != ?"
        found: set[str] = set()
        for file in self._others() if devices else ():
            with contextlib.suppress(sqlite3.Error):
                found.update(device for (device,) in file.execute(query, (json.dumps(list(devices)), FORGOTTEN)))
        return found

    def _is_there(self) -> bool:
        """Whether the file still is the one that was opened, as far as its first bytes show.

        It stays open for that: closing it would let go of all locks that this process has on it, SQLite's too, and the
        next process that writes it and leaves would take its log away.
        """
        if self._file is None:
            return False
        try:
            is_same = os.path.samestat(os.fstat(self._file), self._path.stat())
            return is_same and os.pread(self._file, len(_MAGIC), 0) == _MAGIC
        except OSError:
            return False

    def _open_file(self) -> None:
        self._disconnect()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._connection = self._connect()
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise  # it cannot be opened or written; that does not make it damaged
                self._set_aside(error)
                self._connection = self._connect()
            self._file = os.open(self._path, os.O_RDONLY)
            self.opened += 1
            self.set_fault(None)
        except (OSError, sqlite3.Error) as error:
            self.set_fault(f"{self._path}: {error}")
            with contextlib.suppress(OSError, sqlite3.Error):  # what it holds is still of use
                self._connection = _open_to_read(self._path)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA wal_autocheckpoint = 0")  # see `_tidy`
            connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
            _migrate(connection)
            [[verdict]] = connection.execute("PRAGMA quick_check(1)").fetchall()
            if verdict != "ok":
                raise sqlite3.DatabaseError(verdict)
            connection.execute(
                f"PRAGMA user_version = {_VERSION}"
            )  # also where that is nothing new: can it be written?
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_aside(self, error: sqlite3.DatabaseError) -> None:
        """Make room for a new file."""
        aside = self._path.with_suffix(".damaged")
        log.error("%s is damaged (%s); it is kept as %s, and a new file started", self._path, error, aside)
        self._path.replace(aside)
        self.faults += 1
        for suffix in ("-wal", "-shm"):
            Path(f"{self._path}{suffix}").unlink(missing_ok=True)

    def _select_all(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of the file, and of those of the other workers."""
        rows = self._select(query, *values)
        for file in self._others():
            with contextlib.suppress(sqlite3.Error):  # of an older version, it may have no such table
                rows += file.execute(query, values).fetchall()
        return rows

    def _select(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return self._try(lambda connection: connection.execute(query, values).fetchall()) or []

    def _try(self, action: Callable[[sqlite3.Connection], Result]) -> Result | None:
        """Do something with the file; on a fault log and keep it, and return None."""
        if self._connection is None:
            return None
        try:
            return action(self._connection)
        except sqlite3.Error as error:
            if self.fault is None:  # else it is known why, and that nothing can be read follows from it
                self.set_fault(f"{self._path}: {error}")
            return None


def _prune_states(connection: sqlite3.Connection) -> None:
    """Delete states that are too old; those that seem to be of the future begin to age."""
    now_s = time.time()
    connection.execute("DELETE FROM device WHERE saved_s < ?", (now_s - KEEP_STATE_S,))
    connection.execute("UPDATE device SET saved_s = ? WHERE saved_s > ?", (now_s, now_s))


def _prune_hourly(connection: sqlite3.Connection) -> None:
    """Delete the beats that were reported first, hour by hour, until there is room for the others."""
    rows = 0
    for hour, n in connection.execute("SELECT told_hour, count(*) FROM hourly GROUP BY 1 ORDER BY 1 DESC").fetchall():
        rows += n
        if rows > MOST_HOURLY_ROWS:
            connection.execute("DELETE FROM hourly WHERE told_hour <= ?", (hour,))
            return


def _insert(
    connection: sqlite3.Connection, statement: str, rows: Sequence[tuple[object, ...]], suffix: str = ""
) -> None:
    """Write rows, many by each statement."""
    for first in range(0, len(rows), ROWS):
        some = rows[first : first + ROWS]
        places = f"({', '.join('?' * len(some[0]))})"
        connection.execute(f"{statement} {', '.join([places] * len(some))} {suffix}", [*chain.from_iterable(some)])


def _delete(connection: sqlite3.Connection, table: str, ids: Collection[str]) -> None:
    """Delete rows by their ids."""
    if ids:
        statement = f"DELETE FROM {table} WHERE id IN (SELECT value FROM json_each(?))"
        connection.execute(statement, (json.dumps(list(ids)),))


def _migrate(connection: sqlite3.Connection) -> None:
    """Make the tables of this version, whatever is there."""
    [[version]] = connection.execute("PRAGMA user_version").fetchall()
    if version > _VERSION:
        raise sqlite3.OperationalError(f"it is of a newer ecgwatch: version {version}, expected at most {_VERSION}")
    columns = {name for _, name, *_ in connection.execute("PRAGMA table_info(alert)")}
    if columns and "episode" not in columns:
        log.info("bringing the history to version %d; that takes some seconds if it is long", _VERSION)
        connection.executescript(f"BEGIN IMMEDIATE; {_MIGRATE} COMMIT;")
    connection.executescript(_SCHEMA)
    connection.execute(_INDEX)


def _to_request(row: tuple[Any, ...]) -> RequestRow:
    id_, made_s, device, verb, by, payload, answer, episode = row
    return RequestRow(id_, made_s, device, verb, by, bytes(payload), answer, episode)


def _pack(payload: bytes) -> bytes:
    """Return an alert as it is stored."""
    return zstandard.compress(payload) if len(payload) >= _PACK_FROM else payload


def _unpack(stored: bytes) -> bytes:
    return zstandard.decompress(stored) if stored.startswith(_PACKED) else bytes(stored)


def _erase(path: Path, devices: Collection[str]) -> dict[str, int]:
    """Delete the rows of devices from every table of a file, and overwrite where they stood."""
    with closing(sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)) as connection:
        connection.execute("PRAGMA secure_delete = ON")
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            deleted = _delete_devices(connection, devices)
        _overwrite(connection)
    return deleted


def _delete_devices(connection: sqlite3.Connection, devices: Collection[str]) -> dict[str, int]:
    """Delete the rows of devices from every table; return how many."""
    deleted: Counter[str] = Counter()
    for table, where in _naming(connection).items() if devices else ():
        for device in devices:
            deleted[table] += connection.execute(f"DELETE FROM {table} WHERE {where}", (device,)).rowcount
    return dict(deleted)


def _count(connection: sqlite3.Connection, device: str) -> dict[str, int]:
    """How many rows there are of a device, by table."""
    return {
        table: connection.execute(f"SELECT count(*) FROM {table} WHERE {where}", (device,)).fetchone()[0]
        for table, where in _naming(connection).items()
    }


def _overwrite(connection: sqlite3.Connection) -> None:
    """Write the file anew, without what was deleted, and cut its log to nothing."""
    connection.execute("VACUUM")
    [[is_busy, *_]] = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    if is_busy:
        raise sqlite3.OperationalError("somebody reads it for long, so that what was deleted is not overwritten yet")


def _naming(connection: sqlite3.Connection) -> dict[str, str]:
    """Return how the rows of a device are found, by table."""
    found = {"device": "id = ?", "outbox": r"topic LIKE '%/' || replace(?, '_', '\_') || '/%' ESCAPE '\'"}
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    for table in tables:
        if any(row[1] == "device" for row in connection.execute(f"PRAGMA table_info({table})")):
            found[table] = "device = ?"
    return {table: found[table] for table in tables if table in found}
