"""What outlives the process, also where the disk is full or the file is damaged."""

from __future__ import annotations

import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import pytest

from monitor.state import sqlite
from monitor.state.sqlite import SqliteLocation, SqliteStore
from monitor.state.store import KEEP_STATE_S, HourlyRow, OutboxMessage, Transaction
from tests.monitor.state.saving import WAIT_S, find, prune, retry, save
from tests.monitor.state.slow import outcomes_of

ALERT = OutboxMessage("a-1", "a", 5.0, "ecg/v1/a/alerts", b"{}")


def _alert(number: int, published_s: float = 100.0) -> OutboxMessage:
    return OutboxMessage(f"a-{number}", "a", published_s, "ecg/v1/a/alerts", b"{%d}" % number)


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    return SqliteStore(tmp_path, "m")


def _fill_disk(store: SqliteStore) -> None:
    """Let the file not grow any more; a new connection knows nothing of it."""
    assert store._connection is not None
    store._connection.execute("PRAGMA max_page_count = 1")


def _alerts(folder: Path) -> list[bytes]:
    return [payload for _, payload in SqliteLocation(folder).read_history("monitor", 0.0)]


def test_a_state_that_is_not_as_it_was_is_not_returned(store: SqliteStore, tmp_path: Path) -> None:
    save(store, {"a": b"state", "b": b"state"})
    store.close()
    with sqlite3.connect(tmp_path / "m.db") as connection:
        connection.execute("UPDATE device SET state = CAST(replace(state, 'a', 'b') AS BLOB) WHERE id = 'a'")
    connection.close()
    again = SqliteStore(tmp_path, "m")
    assert find(again, "a") is None
    assert find(again, "b") == b"state"


def test_a_full_disk_is_a_fault_until_there_is_room_and_what_was_saved_can_be_read(store: SqliteStore) -> None:
    save(store, {"a": b"state"})
    _fill_disk(store)
    assert not save(store, {"b": bytes(100_000)})
    assert store.fault is not None
    assert "full" in store.fault
    assert not save(store, {"b": b""})  # nothing is tried until then, or every packet would wait for the disk
    assert find(store, "a") == b"state"
    retry(store)
    assert store.fault is None
    assert save(store, {"b": b"state"})


def test_what_is_saved_with_an_erasure_that_must_wait_is_saved_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_S", 0.1)
    store, hour = SqliteStore(tmp_path, "m"), int(time.time() // 3600)
    save(store, {"a": b"state", "b": b"state"})
    counted = Transaction({"b": b"later"}, hourly=[HourlyRow(hour, "b", "N", 100, 80_000)], erased={"a"})
    with closing(sqlite3.connect(tmp_path / "m.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM device").fetchone() == (2,)
        store.submit(counted)
        assert [one.is_saved for one in outcomes_of(store, 1, WAIT_S)] == [False]
        assert "somebody reads it for long" in (store.fault or "")
    retry(store)
    store.submit(counted)
    assert [one.is_saved for one in outcomes_of(store, 1, WAIT_S)] == [True]
    assert SqliteLocation(tmp_path).read_hourly("m", 0.0) == counted.hourly
    assert (find(store, "a"), find(store, "b")) == (None, b"later")
    store.close()


@pytest.mark.parametrize("was_closed", [True, False])
def test_a_disk_that_is_full_from_the_start_hides_nothing_that_was_saved(tmp_path: Path, was_closed: bool) -> None:
    before = SqliteStore(tmp_path, "m")
    save(before, {"a": b"state"}, [ALERT], [ALERT])
    if was_closed:
        before.close()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        store = SqliteStore(tmp_path, "m")
        assert store.fault is not None
        assert (store.opened, find(store, "a"), store.read_outbox()) == (0, b"state", [ALERT])
        assert not save(store, {"a": b"new"})
        prune(store, 1e12)
        retry(store)
        assert (store.opened, store.faults, find(store, "a")) == (0, 1, b"state")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    retry(store)
    assert store.opened == 1
    assert save(store, {"a": b"new"})
    assert find(store, "a") == b"new"


def _refuse(_store: SqliteStore) -> NoReturn:
    raise sqlite3.OperationalError("attempt to write a readonly database")


def test_a_file_that_may_only_be_read_is_a_fault_and_is_read(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(store, {"a": b"state"})
    store.close()
    with monkeypatch.context() as patch:
        patch.setattr(SqliteStore, "_connect", _refuse)
        again = SqliteStore(tmp_path, "m")
    assert again.fault is not None
    assert find(again, "a") == b"state"
    retry(again)
    assert save(again, {"a": b"new"})


def test_a_fault_is_not_hidden_by_what_follows_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.db").touch()
    monkeypatch.setattr(SqliteStore, "_connect", _refuse)
    store = SqliteStore(tmp_path, "m")
    assert find(store, "a") is None
    assert store.fault == f"{tmp_path / 'm.db'}: attempt to write a readonly database"


@pytest.mark.parametrize("garbage", [b"no database", bytes(100_000), b"SQLite format 3\0" + bytes(range(256)) * 40])
def test_a_damaged_file_is_set_aside_and_replaced(tmp_path: Path, garbage: bytes) -> None:
    (tmp_path / "m.db").write_bytes(garbage)
    store = SqliteStore(tmp_path, "m")
    assert store.fault is None
    assert save(store, {"a": b"state"})
    assert store.faults == 1
    assert (tmp_path / "m.damaged").read_bytes() == garbage


@pytest.mark.parametrize("garbage", [None, bytes(5000)])
def test_a_file_that_is_taken_away_or_overwritten_is_noticed(
    store: SqliteStore, tmp_path: Path, garbage: bytes | None
) -> None:
    save(store, {"a": b"state"})
    retry(store)
    assert (store.opened, store.faults) == (1, 0)
    if garbage is None:
        (tmp_path / "m.db").unlink()
    else:
        (tmp_path / "m.db").write_bytes(garbage)
    retry(store)
    assert store.fault is None
    assert (store.opened, store.faults) == (2, 1)
    assert save(store, {"b": b"state"})
    assert find(SqliteStore(tmp_path, "m"), "b") == b"state"


def test_a_directory_that_cannot_be_made_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = SqliteStore(tmp_path / "file" / "state", "m")
    assert store.fault is not None
    assert store.read_outbox() == []
    assert not save(store, {"a": b"state"})


def test_a_device_that_was_forgotten_does_not_come_back_from_the_file_of_another_worker(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(SqliteStore(tmp_path, "monitor"), {"a": b"old", "b": b"old"})
    worker = SqliteStore(tmp_path, "monitor", 0)
    save(worker, {"a": b"new", "b": b"new", "c": b"new"})
    save(worker, forgotten=["a", "b", "c", "d"])
    for store in (worker, SqliteStore(tmp_path, "monitor"), SqliteStore(tmp_path, "monitor", 1)):
        assert [find(store, device) for device in "abcd"] == [None] * 4
    assert worker._select("SELECT id FROM device ORDER BY id") == [("a",), ("b",)]  # the others need no trace
    save(worker, {"a": b"newer"}, forgotten=["a"])
    assert find(SqliteStore(tmp_path, "monitor"), "a") == b"newer"
    assert not caplog.records


def _set_clock(monkeypatch: pytest.MonkeyPatch, now_s: float) -> None:
    monkeypatch.setattr("time.time", lambda: now_s)


def test_a_state_is_of_no_use_after_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other, store = SqliteStore(tmp_path, "monitor", 0), SqliteStore(tmp_path, "monitor")
    _set_clock(monkeypatch, 1e9)
    save(other, {"a": b"old", "b": b"old"})
    _set_clock(monkeypatch, 1e9 + 1)
    save(store, {"c": b"old"}, forgotten=["a"])
    _set_clock(monkeypatch, 1e9 + KEEP_STATE_S)
    save(store, {"d": b"new"})
    prune(store, 0.0)
    assert [find(store, device) for device in "abcd"] == [None, b"old", b"old", b"new"]
    _set_clock(monkeypatch, 1e9 + KEEP_STATE_S + 2)
    assert [find(store, device) for device in "abcd"] == [None, None, None, b"new"]
    _set_clock(monkeypatch, 1e9 + KEEP_STATE_S + 3601)
    prune(store, 0.0)
    assert store._select("SELECT id FROM device") == [("d",)]


def test_states_from_before_the_clock_was_set_back_are_found_until_there_are_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, store = SqliteStore(tmp_path, "monitor", 0), SqliteStore(tmp_path, "monitor")
    _set_clock(monkeypatch, 1e9)
    save(other, {"a": b"old"})
    save(store, {"b": b"old"})
    _set_clock(monkeypatch, 1e8)
    assert [find(store, device) for device in "ab"] == [b"old", b"old"]
    save(store, {"a": b"new"})
    assert find(store, "a") == b"new"
    prune(store, 0.0)
    assert find(store, "b") == b"old"
    _set_clock(monkeypatch, 1e8 + KEEP_STATE_S + 1)
    assert find(store, "b") is None


def test_a_file_of_another_worker_that_cannot_be_read_is_logged_once_and_hides_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(SqliteStore(tmp_path, "monitor", 2), {"a": b"state"})
    (tmp_path / "monitor.0.db").mkdir()
    (tmp_path / "monitor.1.db").symlink_to(tmp_path / "nowhere")
    store = SqliteStore(tmp_path, "monitor")
    assert [find(store, device) for device in "aba"] == [b"state", None, b"state"]
    assert [record.message.split()[0] for record in caplog.records] == [
        str(tmp_path / "monitor.0.db"), str(tmp_path / "monitor.1.db"),
    ]  # fmt: skip
    assert store.fault is None


def test_a_long_reader_does_not_keep_the_monitor_from_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.state.sqlite.TIDY_S", 0.2)
    store = SqliteStore(tmp_path, "m")
    save(store, {"a": b"state"})
    with closing(sqlite3.connect(tmp_path / "m.db")) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM device").fetchall()
        began_s, longest_s = time.monotonic(), 0.0
        while (now_s := time.monotonic()) < began_s + 2.0:
            assert save(store, {"a": b"state"})
            longest_s = max(longest_s, time.monotonic() - now_s)
            time.sleep(0.01)
    store.close()
    assert longest_s < 1.5


def test_the_log_stays_short_while_one_writes_and_another_reads_all_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor.state.sqlite.TIDY_S", 0.05)
    monkeypatch.setattr("monitor.state.sqlite.LOG_BYTES", 2**20)
    store, state, ended = SqliteStore(tmp_path, "m"), bytes(100_000), threading.Event()
    longest = written = 0

    def read() -> None:
        while not ended.wait(0.005):
            SqliteLocation(tmp_path).read_history("m", 0.0)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(400):
        assert save(store, {f"d{number % 10}": state})
        written += len(state)
        longest = max(longest, (tmp_path / "m.db-wal").stat().st_size)
        time.sleep(0.005)
    ended.set()
    reader.join()
    store.close()
    assert longest < written / 4


SCHEMA_1 = """
CREATE TABLE device (id TEXT PRIMARY KEY, saved_s REAL NOT NULL, state BLOB NOT NULL);
CREATE TABLE outbox (id TEXT PRIMARY KEY, topic TEXT NOT NULL, payload BLOB NOT NULL);
CREATE TABLE alert (id TEXT PRIMARY KEY, device TEXT NOT NULL, told_s REAL NOT NULL, payload BLOB NOT NULL);
CREATE INDEX alert_told ON alert (told_s);
CREATE TABLE hourly (
    told_hour INTEGER, hour INTEGER, device TEXT, what TEXT, beats INTEGER NOT NULL, rr_ms INTEGER NOT NULL,
    PRIMARY KEY (told_hour, hour, device, what)
) WITHOUT ROWID;
PRAGMA user_version = 1;
"""


def test_a_file_of_version_0_1_0_is_read_and_written(tmp_path: Path) -> None:
    sealed = bytes.fromhex("a393d2fb") + b"state"  # its CRC-32 comes first
    with closing(sqlite3.connect(tmp_path / "m.db")) as file, file:
        file.executescript(SCHEMA_1)
        file.execute("INSERT INTO device VALUES ('a', ?, ?)", (time.time() - 60.0, sealed))
        file.execute("INSERT INTO outbox VALUES ('a-1', 'ecg/v1/a/alerts', ?)", (b"{}",))
        file.execute("INSERT INTO alert VALUES ('a-1', 'a', 5.0, ?)", (b"{}",))
        file.execute("INSERT INTO alert VALUES ('a-2', 'a', 4.0, ?)", (b'{"episode": "a-2-x"}',))
        file.execute("INSERT INTO hourly VALUES (7, 5, 'a', 'normal', 3, 2400)")
    location = SqliteLocation(tmp_path)
    assert location.read_requests("m", 0.0) == []
    store = location.open("m")
    assert store.find_alert("a", "a-2-x") == b'{"episode": "a-2-x"}'
    assert (store.read_decisions(), store.find_request("a")) == ({}, None)
    assert find(store, "a") == b"state"
    assert store.read_outbox() == [ALERT]
    assert location.read_history("m", 4.5) == [(5.0, b"{}")]
    assert location.read_hourly("m", 0.0) == [HourlyRow(5, "a", "normal", 3, 2400)]
    assert save(store, {"a": b"new"}, confirmed=["a-1"])
    assert (find(store, "a"), store.read_outbox(), store.faults) == (b"new", [], 0)


def test_a_file_of_a_newer_version_is_left_as_it_is(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path, "m")
    save(store, {"a": b"state"})
    store.close()
    with closing(sqlite3.connect(tmp_path / "m.db")) as file, file:
        file.execute("PRAGMA user_version = 3")
    store = SqliteStore(tmp_path, "m")
    assert store.fault is not None
    assert "it is of a newer ecgwatch: version 3, expected at most 2" in store.fault
    assert not save(store, {"a": b"new"})
    assert not (tmp_path / "m.damaged").exists()


def test_the_history_holds_only_so_many_alerts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.state.sqlite.MOST_ALERTS", 3)
    store = SqliteStore(tmp_path, "monitor")
    alerts = [_alert(number, float(number)) for number in range(8)]
    save(store, published=alerts, unconfirmed=alerts[:1])
    prune(store, 2.0)
    assert _alerts(tmp_path) == [b"{0}", b"{5}", b"{6}", b"{7}"]  # the first is still on its way


def test_the_history_holds_beats_of_only_so_many_hours_and_devices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor.state.sqlite.MOST_HOURLY_ROWS", 4)
    location = SqliteLocation(tmp_path)
    store = location.open("monitor")
    for hour, devices in enumerate(["ab", "abc", "a", "ab"]):
        _set_clock(monkeypatch, 3600.0 * hour)
        save(store, hourly=[HourlyRow(hour, device, "normal", 1, 800) for device in devices])
    prune(store, 0.0)
    assert [(row.hour, row.device) for row in location.read_hourly("monitor", 0.0)] == [(2, "a"), (3, "a"), (3, "b")]
    save(store, hourly=[HourlyRow(hour, "c", "normal", 1, 800) for hour in range(4)])
    prune(store, 0.0)
    assert len(location.read_hourly("monitor", 0.0)) == 7  # they are counted once an hour
    _set_clock(monkeypatch, 3600.0 * 4)
    prune(store, 0.0)
    assert location.read_hourly("monitor", 0.0) == []  # an hour that has too many of its own goes as well


def test_another_process_that_writes_takes_no_log_away(tmp_path: Path) -> None:
    """Reading a file by other ways than SQLite's would let go of the locks that this process has on it."""
    store = SqliteStore(tmp_path, "m")
    assert save(store, {"a": b"first"})
    retry(store)
    code = "import sqlite3, sys; file = sqlite3.connect(sys.argv[1]); file.execute('VACUUM'); file.close()"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "m.db")], check=True)
    assert (tmp_path / "m.db-wal").exists()
    assert save(store, {"a": b"second"})
    other = SqliteStore(tmp_path, "m")
    assert find(other, "a") == b"second"
    other.close()
    store.close()
