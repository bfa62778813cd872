"""What is to be delivered, what devices are called, which monitors are gone, in a file: it survives kill -9.

Rules
-----
* What `add` has returned from is on the disk. The same alert for the same target is kept once, also after it was
  delivered: a broker may bring it again.
* What `done` was not called for is handed out again, with the same id: at least once.
* The graver come first; of these, what was tried less often, then what came first.

Knows SQL; nothing of alerts or of how anything is delivered.
"""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

KEEP_DONE_S = 30 * 86400.0
"""For how long it is known what was delivered."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL,
    target TEXT NOT NULL,
    rank INTEGER NOT NULL,
    payload BLOB NOT NULL,
    begun_s REAL NOT NULL,
    due_s REAL NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    done_s REAL,
    UNIQUE (id, target)
);
CREATE TABLE IF NOT EXISTS names (device TEXT PRIMARY KEY, name TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS monitors (name TEXT PRIMARY KEY, gone_s REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS waiting ON jobs (target, rank, tries, number) WHERE done_s IS NULL;
"""


_STATE = "new|update|end|(?:acknowledged|silenced|commented)-[!-~]+"
_REST = rf"-(?:-\d{{1,8}}|\d+)-[a-z]+(?:-[a-z]+)*-(?:{_STATE})"
"""Of an alert's id after that of its device: milliseconds, at most a day before 1970, kind, state, and the request that
it answers."""


class Job(NamedTuple):
    """Something to be delivered to a target."""

    number: int
    id: str
    """Of the alert."""
    payload: bytes
    begun_s: float
    """When it was to be delivered first."""
    tries: int
    """Times that it was tried in vain."""


class NewJob(NamedTuple):
    """What `Queue.add` takes."""

    id: str
    target: str
    rank: int
    """The smaller, the sooner."""
    payload: bytes
    due_s: float


class Queue:
    """Jobs in an SQLite file. All methods may be called from any thread, and raise OSError if the file cannot be used.

    Parameters
    ----------
    file
        Where; it is made if it is not there.
    """

    def __init__(self, file: Path) -> None:
        self._lock = threading.Lock()
        self._file = file
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._connection = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.executescript(SCHEMA)
        except sqlite3.Error as error:
            raise OSError(f"The queue {file} cannot be used: {error}.") from None

    def add(self, jobs: Iterable[NewJob], now_s: float) -> int:
        """Keep jobs, all or none; return how many were not known."""
        rows = [(job.id, job.target, job.rank, job.payload, max(now_s, job.due_s), job.due_s) for job in jobs]
        insert = "INSERT OR IGNORE INTO jobs (id, target, rank, payload, begun_s, due_s) VALUES (?, ?, ?, ?, ?, ?)"
        with self._lock:
            try:
                self._connection.execute("BEGIN")
                before = self._connection.total_changes
                self._connection.executemany(insert, rows)
                self._connection.execute("COMMIT")
                return self._connection.total_changes - before
            except sqlite3.Error as error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise OSError(f"The queue {self._file} cannot be written: {error}.") from None

    def next(self, target: str, now_s: float) -> Job | None:
        """Return what is to be delivered to a target now; it stays here until it is done."""
        sql = (
            "SELECT number, id, payload, begun_s, tries FROM jobs "
            "WHERE done_s IS NULL AND target = ? AND due_s <= ? ORDER BY rank, tries, number LIMIT 1"
        )
        rows = self._run(sql, target, now_s)
        return Job(*rows[0]) if rows else None

    def retry(self, job: Job, due_s: float) -> None:
        """Note that it was tried in vain, and when to try again."""
        self._run("UPDATE jobs SET tries = tries + 1, due_s = ? WHERE number = ?", due_s, job.number)

    def done(self, job: Job, now_s: float) -> None:
        """Note that nothing more is to be done; only that it was known is kept."""
        self._run("UPDATE jobs SET done_s = ?, payload = x'' WHERE number = ?", now_s, job.number)

    def names(self) -> dict[str, str]:
        """Return what people call devices, as it was saved."""
        return dict(self._run("SELECT device, name FROM names"))

    def save_name(self, device: str, name: str | None) -> None:
        """Save what people call a device; None: nothing any more."""
        if name is None:
            self._run("DELETE FROM names WHERE device = ?", device)
        else:
            self._run("INSERT OR REPLACE INTO names VALUES (?, ?)", device, name)

    def forget(self, device: str) -> None:
        """Delete all there is of a device; see `erase`."""
        with self._lock:
            erase(self._file, device)

    def monitors(self) -> dict[str, float]:
        """Return which monitors were told to be gone, and since when."""
        return dict(self._run("SELECT name, gone_s FROM monitors"))

    def save_monitors(self, told_s: Mapping[str, float]) -> None:
        """Save it; see `monitor.notify.monitors.Monitors.told_s`."""
        self._run("DELETE FROM monitors WHERE name NOT IN (SELECT value FROM json_each(?))", json.dumps([*told_s]))
        for name, gone_s in told_s.items():
            self._run("INSERT OR REPLACE INTO monitors VALUES (?, ?)", name, gone_s)

    def waiting(self) -> dict[str, int]:
        """Return how many jobs there are for each target."""
        return dict(self._run("SELECT target, count(*) FROM jobs WHERE done_s IS NULL GROUP BY target"))

    def prune(self, now_s: float) -> None:
        """Forget what was delivered long ago."""
        self._run("DELETE FROM jobs WHERE done_s < ?", now_s - KEEP_DONE_S)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _run(self, sql: str, *values: object) -> list[tuple]:  # type: ignore[type-arg] # rows of any columns
        with self._lock:
            try:
                return self._connection.execute(sql, values).fetchall()
            except sqlite3.Error as error:
                raise OSError(f"The queue {self._file} cannot be used: {error}.") from None


def of_device(alert: str, device: str) -> bool:
    """Whether an alert's id is of a device, whose clock may begin at 0, and not of one with a longer name."""
    return re.fullmatch(re.escape(device) + _REST, alert) is not None


def erase(file: Path, device: str) -> int:
    """Delete what a queue holds of a device, for good, whether a notifier runs or not; return how many rows.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    try:
        with closing(sqlite3.connect(file, timeout=10.0, isolation_level=None)) as connection:
            connection.execute("PRAGMA secure_delete = ON")
            jobs = [(one,) for (one,) in connection.execute("SELECT DISTINCT id FROM jobs") if of_device(one, device)]
            before = connection.total_changes
            connection.executemany("DELETE FROM jobs WHERE id = ?", jobs)
            connection.execute("DELETE FROM names WHERE device = ?", (device,))
            deleted = connection.total_changes - before
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        raise OSError(f"The queue {file} cannot be written: {error}.") from None
    return deleted
