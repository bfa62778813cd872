"""What must outlive the process: the devices' states, alerts that no broker has confirmed, alerts and beats so far.

One SQLite file, written in transactions of many rows; killing the process at any moment loses none that was committed,
and leaves the others as they were. A power failure may undo the last seconds. Each of several workers has a file of its
own.

A disk that is full or a file that is damaged must not stop the monitor: `Store` then says what is wrong, and writes
nothing more until `retry` has found that it can. A damaged file is put aside, not deleted. Each state has a checksum:
SQLite has none, and a state that is not as it was would lead the compiled loops astray.

Knows nothing of what is in a state or a message, of brokers or clocks.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

log = logging.getLogger(__name__)

Result = TypeVar("Result")

TIDY_S = 15.0
"""How often what was written is moved to its place in the file: that waits for the disk, so a thread does it."""
BUSY_S = 10.0
"""How long to wait for another process that writes."""
STALL_MS = 100
"""How long all may be kept from writing until those who read have seen the last of the log."""
MOST_ALERTS = 500_000
"""The history holds no more alerts than these, whatever their age: about 600 MB, which are checked in half a second."""
MOST_HOURLY_ROWS = 3_000_000
"""Nor more beats than in so many rows, one for each hour, device and kind: about 140 MB, counted in 0.2 s."""
KEEP_STATE_S = 86400.0
"""A state that was saved longer ago, by this machine's clock, is not handed out.

With the state of months ago, an alert episode of that time would swallow the next new one. And what the broker keeps
for a monitor that is away has its end: a dozen devices that send each second fill deploy/'s queue in a day.
"""
LOG_BYTES = 64 * 2**20
"""What was written and not moved yet may take more than this, but not for long."""
FORGOTTEN = b""
"""In place of a state: the device was forgotten, and what another worker's file holds of it is out of date."""
_VERSION = 1
_MAGIC = b"SQLite format 3\0"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS device (id TEXT PRIMARY KEY, saved_s REAL NOT NULL, state BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS outbox (id TEXT PRIMARY KEY, topic TEXT NOT NULL, payload BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS alert (
    id TEXT PRIMARY KEY, device TEXT NOT NULL, told_s REAL NOT NULL, payload BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS alert_told ON alert (told_s);
CREATE TABLE IF NOT EXISTS hourly (
    told_hour INTEGER, hour INTEGER, device TEXT, what TEXT, beats INTEGER NOT NULL, rr_ms INTEGER NOT NULL,
    PRIMARY KEY (told_hour, hour, device, what)
) WITHOUT ROWID;
"""
_ADD_HOURLY = (
    "INSERT INTO hourly VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT DO UPDATE SET beats = beats + excluded.beats, rr_ms = rr_ms + excluded.rr_ms"
)
_HOURLY = (
    "SELECT hour, device, what, sum(beats), sum(rr_ms) FROM hourly "
    "WHERE told_hour >= ? AND device = coalesce(?, device) GROUP BY hour, device, what"
)
_ALERTS = "SELECT told_s, payload FROM alert WHERE told_s >= ? AND device = coalesce(?, device) ORDER BY told_s, rowid"


@dataclass(frozen=True, slots=True)
class Letter:
    """An alert on its way."""

    id: str
    device: str
    told_s: float
    """When it was first told, on this machine's clock."""
    topic: str
    payload: bytes


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


def default_directory() -> Path:
    """Where state is kept: in systemd's directory if it gave one, else in the user's."""
    if given := os.environ.get("STATE_DIRECTORY"):
        return Path(given.partition(":")[0])
    named = os.environ.get("XDG_STATE_HOME", "")
    home = Path(named) if os.path.isabs(named) else Path.home() / ".local" / "state"
    return home / "ecgwatch"


def find_files(directory: Path, name: str) -> list[Path]:
    """Find the files of the monitor of that name: its own, and those of its workers."""
    pattern = re.compile(rf"{re.escape(name)}(\.\d+)?\.db")
    return sorted(path for path in directory.glob("*.db") if pattern.fullmatch(path.name))


def read_history(path: Path, since_s: float, device: str | None = None) -> list[tuple[float, bytes]]:
    """Return the alerts told from a time on, of one device or of all, oldest first: when, and as they were published.

    Changes nothing, whether a monitor has the file open or not.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    return [(told_s, bytes(payload)) for told_s, payload in _read(path, _ALERTS, since_s, device)]


def read_hourly(path: Path, since_s: float, device: str | None = None) -> list[HourlyRow]:
    """Return the beats told from that hour on, of one device or of all, oldest first; see `read_history`."""
    return [HourlyRow(*row) for row in _read(path, _HOURLY, since_s // 3600, device)]


def _read(path: Path, query: str, *values: object) -> list[tuple[Any, ...]]:
    try:
        with closing(_open_to_read(path)) as connection:
            return connection.execute(query, values).fetchall()
    except sqlite3.Error as error:
        raise OSError(f"{path} cannot be read: {error}.") from None


def _open_to_read(path: Path) -> sqlite3.Connection:
    # Where nobody has it open, SQLite would leave two files behind if it were not told that nobody will; and where the
    # disk is full, it could not make them. In an empty one is nothing that is not in the file.
    log_path = Path(f"{path}-wal")
    mode = "mode=ro" if log_path.exists() and log_path.stat().st_size else "immutable=1"
    return sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", timeout=BUSY_S, uri=True, isolation_level=None)


class Store:
    """The file.

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
        self._path = directory / (f"{name}.db" if worker is None else f"{name}.{worker}.db")
        self._name = name
        self._opened: list[sqlite3.Connection] | None = None
        self._connection: sqlite3.Connection | None = None
        self._closing = threading.Event()
        self.fault: str | None = None
        """What is wrong, if anything: since then nothing is remembered."""
        self.opened = 0
        """How often the file was opened: each time it may be another one."""
        self.faults = 0
        """How often something was wrong, or a damaged file put aside."""
        self._inode = 0
        self._pruned_hour = -1.0
        self._open()
        threading.Thread(target=_tidy, args=(self._path, self._closing), daemon=True).start()

    def read_state(self, device: str) -> bytes | None:
        """Return a device's latest state, if there is one of the last `KEEP_STATE_S`, whichever worker saved it.

        What seems to be of the future was saved before the clock was set back: it is older than all that does not.
        """
        query = "SELECT saved_s <= ?, saved_s, state FROM device WHERE id = ? AND saved_s >= ?"
        now_s = time.time()
        values = now_s, device, now_s - KEEP_STATE_S
        rows = self._select(query, *values)
        for file in self._others():
            with contextlib.suppress(sqlite3.Error):
                rows += file.execute(query, values).fetchall()
        sealed = bytes(max(rows)[2]) if rows else FORGOTTEN
        if sealed == FORGOTTEN:
            return None
        state = _unseal(sealed)
        if state is None:
            log.error("the saved state of device %s is damaged; beginning anew", device)
        return state

    def read_outbox(self) -> list[Letter]:
        """Return the alerts that no broker has confirmed, oldest first."""
        query = (
            "SELECT outbox.id, device, told_s, topic, outbox.payload FROM outbox JOIN alert ON alert.id = outbox.id "
            "ORDER BY outbox.rowid"
        )
        rows = self._select(query)
        return [Letter(*row) for row in rows]

    def commit(
        self,
        states: Iterable[tuple[str, bytes]] = (),
        told: Iterable[Letter] = (),
        unconfirmed: Iterable[Letter] = (),
        confirmed: Iterable[str] = (),
        forgotten: Iterable[str] = (),
        hourly: Iterable[HourlyRow] = (),
    ) -> bool:
        """Write all of it, or nothing; return whether it is written.

        Parameters
        ----------
        states
            Devices' ids, and their states.
        told
            Alerts, for the history.
        unconfirmed, confirmed
            Alerts that no broker has confirmed yet; and ids of those that one has meanwhile.
        forgotten
            Ids of devices whose former states are not needed any more.
        hourly
            Beats to add to those of their hours.
        """
        if self.fault is not None:
            return False
        now_s = time.time()
        rows_saved = [(device, now_s, _seal(state)) for device, state in states]
        forgotten = list(forgotten)
        rows_forgotten = [(device, now_s, FORGOTTEN) for device in self._saved_elsewhere(forgotten)]

        def write(connection: sqlite3.Connection) -> bool:
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany("DELETE FROM device WHERE id = ?", [(one,) for one in forgotten])
                connection.executemany("INSERT OR REPLACE INTO device VALUES (?, ?, ?)", rows_forgotten + rows_saved)
                rows = [(one.id, one.device, one.told_s, one.payload) for one in told]
                connection.executemany("INSERT OR IGNORE INTO alert VALUES (?, ?, ?, ?)", rows)
                rows_out = [(one.id, one.topic, one.payload) for one in unconfirmed]
                connection.executemany("INSERT OR IGNORE INTO outbox VALUES (?, ?, ?)", rows_out)
                connection.executemany("DELETE FROM outbox WHERE id = ?", [(one,) for one in confirmed])
                connection.executemany(_ADD_HOURLY, [(now_s // 3600, *row) for row in hourly])
            return True

        return bool(self._try(write))

    def prune(self, before_s: float) -> None:
        """Forget beats and alerts told before a time, and what is too much or too old to be of use.

        Alerts on their way are kept. States that are not handed out any more, and beats of too many hours and devices,
        are looked for once an hour.
        """
        if self.fault is not None:
            return
        old = "told_s < ? OR rowid <= (SELECT max(rowid) FROM alert) - ?"
        alerts = f"DELETE FROM alert WHERE ({old}) AND id NOT IN (SELECT id FROM outbox)"
        self._try(lambda connection: connection.execute(alerts, (before_s, MOST_ALERTS)))
        hours = "DELETE FROM hourly WHERE told_hour < ?"
        self._try(lambda connection: connection.execute(hours, (before_s // 3600,)))
        hour = time.time() // 3600
        if hour != self._pruned_hour:
            self._pruned_hour = hour
            self._try(_prune_states)
            self._try(_prune_hourly)

    def retry(self) -> None:
        """If something was wrong, or is wrong with the file, try again."""
        if self.fault is None and not self._is_there():
            self._set_fault(f"{self._path}: it was taken away or overwritten")
        if self.fault is not None:
            self._open()

    def close(self) -> None:
        """Close the file."""
        self._closing.set()
        self._disconnect()
        for file in self._opened or ():
            file.close()
        self._opened = []

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _others(self) -> list[sqlite3.Connection]:
        """The files of the other workers that there are or were, to be read."""
        if self._opened is None:
            self._opened = []
            for path in find_files(self._path.parent, self._name):
                if path != self._path:
                    try:
                        uri = f"{path.absolute().as_uri()}?mode=ro"
                        self._opened.append(sqlite3.connect(uri, uri=True, timeout=BUSY_S))
                    except sqlite3.Error as error:
                        log.error("%s cannot be read; the states in it are not found: %s", path, error)
        return self._opened

    def _saved_elsewhere(self, devices: list[str]) -> set[str]:
        """Those of some devices of which another worker's file holds a state."""
        query = "SELECT id FROM device WHERE id IN (SELECT value FROM json_each(?)) AND state != ?"
        found: set[str] = set()
        for file in self._others() if devices else ():
            with contextlib.suppress(sqlite3.Error):
                found.update(device for (device,) in file.execute(query, (json.dumps(devices), FORGOTTEN)))
        return found

    def _is_there(self) -> bool:
        """Whether the file still is the one that was opened, as far as its first bytes tell."""
        try:
            with open(self._path, "rb") as file:
                return os.fstat(file.fileno()).st_ino == self._inode and file.read(len(_MAGIC)) == _MAGIC
        except OSError:
            return False

    def _open(self) -> None:
        self._disconnect()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._connection = self._connect()
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise  # it cannot be opened or written; that does not make it damaged
                self._put_aside(error)
                self._connection = self._connect()
            self._inode = self._path.stat().st_ino
            self.opened += 1
            self._set_fault(None)
        except (OSError, sqlite3.Error) as error:
            self._set_fault(f"{self._path}: {error}")
            with contextlib.suppress(OSError, sqlite3.Error):  # what it holds is still of use
                self._connection = _open_to_read(self._path)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA wal_autocheckpoint = 0")  # see `_tidy`
            connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
            connection.executescript(_SCHEMA)
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

    def _put_aside(self, error: sqlite3.DatabaseError) -> None:
        """Make room for a new file."""
        aside = self._path.with_suffix(".damaged")
        log.error("%s is damaged (%s); it is kept as %s, and begun anew", self._path, error, aside)
        self._path.replace(aside)
        self.faults += 1
        for suffix in ("-wal", "-shm"):
            Path(f"{self._path}{suffix}").unlink(missing_ok=True)

    def _select(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return self._try(lambda connection: connection.execute(query, values).fetchall()) or []

    def _try(self, action: Callable[[sqlite3.Connection], Result]) -> Result | None:
        """Do something with the file; on a fault say so, and return None."""
        if self._connection is None:
            return None
        try:
            return action(self._connection)
        except sqlite3.Error as error:
            if self.fault is None:  # else it is known why, and that nothing can be read follows from it
                self._set_fault(f"{self._path}: {error}")
            return None

    def _set_fault(self, fault: str | None) -> None:
        if fault is not None and self.fault is None:
            self.faults += 1
            log.error("nothing is remembered any more: %s", fault)
        if fault is None and self.fault is not None:
            log.warning("%s can be written again", self._path)
        self.fault = fault


def _prune_states(connection: sqlite3.Connection) -> None:
    """Delete states that are too old; those that seem to be of the future begin to age."""
    now_s = time.time()
    connection.execute("DELETE FROM device WHERE saved_s < ?", (now_s - KEEP_STATE_S,))
    connection.execute("UPDATE device SET saved_s = ? WHERE saved_s > ?", (now_s, now_s))


def _prune_hourly(connection: sqlite3.Connection) -> None:
    """Delete the beats that were told first, hour by hour, until there is room for the others."""
    rows = 0
    for hour, n in connection.execute("SELECT told_hour, count(*) FROM hourly GROUP BY 1 ORDER BY 1 DESC").fetchall():
        rows += n
        if rows > MOST_HOURLY_ROWS:
            connection.execute("DELETE FROM hourly WHERE told_hour <= ?", (hour,))
            return


def _tidy(path: Path, closing: threading.Event) -> None:
    """Move what was written to its place, now and then: most of it beside the writers, the rest while they wait."""
    while not closing.wait(TIDY_S):
        if path.exists():
            with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path, timeout=BUSY_S)) as file:
                file.execute("PRAGMA wal_checkpoint(PASSIVE)")
                file.execute(f"PRAGMA busy_timeout = {STALL_MS}")  # nobody can write while this one waits
                file.execute("PRAGMA wal_checkpoint(RESTART)")


def _seal(state: bytes) -> bytes:
    """Put a checksum before a state."""
    return zlib.crc32(state).to_bytes(4, "big") + state


def _unseal(sealed: bytes) -> bytes | None:
    """Return the state, or None if it is not as it was."""
    state = sealed[4:]
    return state if _seal(state) == sealed else None
