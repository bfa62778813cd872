"""What outlives the process, also where the disk is full or the file is damaged."""

from __future__ import annotations

import resource
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import pytest

from monitor.state.sqlite import KEEP_STATE_S, HourlyRow, Letter, Store, read_history, read_hourly

LETTER = Letter("a-1", "a", 5.0, "ecg/v1/a/alerts", b"{}")


def _letter(number: int, told_s: float = 100.0) -> Letter:
    return Letter(f"a-{number}", "a", told_s, "ecg/v1/a/alerts", b"{%d}" % number)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path, "m")


def _fill_disk(store: Store) -> None:
    """Let the file not grow any more; a new connection knows nothing of it."""
    assert store._connection is not None
    store._connection.execute("PRAGMA max_page_count = 1")


def _alerts(path: Path, since_s: float) -> list[bytes]:
    return [payload for _, payload in read_history(path, since_s)]


def test_what_was_committed_is_there_for_the_next_one(store: Store, tmp_path: Path) -> None:
    assert store.commit([("a", b"state")], [LETTER], [LETTER])
    store.close()
    again = Store(tmp_path, "m")
    assert again.read_state("a") == b"state"
    assert again.read_outbox() == [LETTER]
    assert _alerts(tmp_path / "m.db", 0.0) == [b"{}"]


def test_a_state_that_is_not_as_it_was_is_not_handed_out(store: Store, tmp_path: Path) -> None:
    store.commit([("a", b"state"), ("b", b"state")])
    store.close()
    with sqlite3.connect(tmp_path / "m.db") as connection:
        connection.execute("UPDATE device SET state = CAST(replace(state, 'a', 'b') AS BLOB) WHERE id = 'a'")
    connection.close()
    again = Store(tmp_path, "m")
    assert again.read_state("a") is None
    assert again.read_state("b") == b"state"


def test_a_device_that_was_forgotten_and_came_back_keeps_its_new_state(store: Store) -> None:
    store.commit([("a", b"old"), ("b", b"old")])
    store.commit([("a", b"new")], forgotten=["a", "b"])
    assert store.read_state("a") == b"new"
    assert store.read_state("b") is None


def test_a_full_disk_is_a_fault_until_there_is_room_and_what_was_saved_can_be_read(store: Store) -> None:
    store.commit([("a", b"state")])
    _fill_disk(store)
    assert not store.commit([("b", bytes(100_000))])
    assert store.fault is not None
    assert "full" in store.fault
    assert not store.commit([("b", b"")])  # nothing is tried until then, or every packet would wait for the disk
    assert store.read_state("a") == b"state"
    store.retry()
    assert store.fault is None
    assert store.commit([("b", b"state")])


@pytest.mark.parametrize("was_closed", [True, False])
def test_a_disk_that_is_full_from_the_start_hides_nothing_that_was_saved(tmp_path: Path, was_closed: bool) -> None:
    before = Store(tmp_path, "m")
    before.commit([("a", b"state")], [LETTER], [LETTER])
    if was_closed:
        before.close()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        store = Store(tmp_path, "m")
        assert store.fault is not None
        assert (store.opened, store.read_state("a"), store.read_outbox()) == (0, b"state", [LETTER])
        assert not store.commit([("a", b"new")])
        store.prune(1e12)
        store.retry()
        assert (store.opened, store.faults, store.read_state("a")) == (0, 1, b"state")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    store.retry()
    assert store.opened == 1
    assert store.commit([("a", b"new")])
    assert store.read_state("a") == b"new"


def _refuse(_store: Store) -> NoReturn:
    raise sqlite3.OperationalError("attempt to write a readonly database")


def test_a_file_that_may_only_be_read_is_a_fault_and_is_read(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.commit([("a", b"state")])
    store.close()
    with monkeypatch.context() as patch:
        patch.setattr(Store, "_connect", _refuse)
        again = Store(tmp_path, "m")
    assert again.fault is not None
    assert again.read_state("a") == b"state"
    again.retry()
    assert again.commit([("a", b"new")])


def test_a_fault_is_not_hidden_by_what_follows_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.db").touch()
    monkeypatch.setattr(Store, "_connect", _refuse)
    store = Store(tmp_path, "m")
    assert store.read_state("a") is None
    assert store.fault == f"{tmp_path / 'm.db'}: attempt to write a readonly database"


@pytest.mark.parametrize("garbage", [b"no database", bytes(100_000), b"SQLite format 3\0" + bytes(range(256)) * 40])
def test_a_damaged_file_is_put_aside_and_begun_anew(tmp_path: Path, garbage: bytes) -> None:
    (tmp_path / "m.db").write_bytes(garbage)
    store = Store(tmp_path, "m")
    assert store.fault is None
    assert store.commit([("a", b"state")])
    assert store.faults == 1
    assert (tmp_path / "m.damaged").read_bytes() == garbage


@pytest.mark.parametrize("garbage", [None, bytes(5000)])
def test_a_file_that_is_taken_away_or_overwritten_is_noticed(
    store: Store, tmp_path: Path, garbage: bytes | None
) -> None:
    store.commit([("a", b"state")])
    store.retry()
    assert (store.opened, store.faults) == (1, 0)
    if garbage is None:
        (tmp_path / "m.db").unlink()
    else:
        (tmp_path / "m.db").write_bytes(garbage)
    store.retry()
    assert store.fault is None
    assert (store.opened, store.faults) == (2, 1)
    assert store.commit([("b", b"state")])
    assert Store(tmp_path, "m").read_state("b") == b"state"


def test_a_directory_that_cannot_be_made_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = Store(tmp_path / "file" / "state", "m")
    assert store.fault is not None
    assert store.read_outbox() == []
    assert not store.commit([("a", b"state")])


def test_beats_of_an_hour_are_added_up_and_forgotten_after_their_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, path = Store(tmp_path, "monitor"), tmp_path / "monitor.db"
    rows = [HourlyRow(5, "a", "normal", 3, 2400), HourlyRow(5, "a", "withheld", 1, 0), HourlyRow(6, "b", "V", 2, 1800)]
    for now_s, told in ((36_000.0, rows), (36_001.0, rows[:1]), (43_300.0, rows[:1])):
        _set_clock(monkeypatch, now_s)
        store.commit(hourly=told)
    assert read_hourly(path, 0.0) == [HourlyRow(5, "a", "normal", 9, 7200), *rows[1:]]
    assert read_hourly(path, 0.0, "b") == rows[2:]
    store.prune(43_200.0)
    assert read_hourly(path, 0.0) == read_hourly(path, 43_299.0) == rows[:1]


def test_alerts_are_told_by_device_and_time_and_forgotten_unless_on_their_way(tmp_path: Path) -> None:
    store = Store(tmp_path, "monitor")
    letters = [_letter(1, 10.0), _letter(2, 20.0), _letter(3, 30.0)]
    store.commit(told=letters, unconfirmed=[letters[0]])
    path = tmp_path / "monitor.db"
    assert read_history(path, 20.0, "a") == [(20.0, b"{2}"), (30.0, b"{3}")]
    assert read_history(path, 0.0, "b") == []
    store.prune(25.0)
    assert _alerts(path, 0.0) == [b"{1}", b"{3}"]


def test_a_worker_finds_the_latest_state_of_a_device_that_another_had(tmp_path: Path) -> None:
    first, second = Store(tmp_path, "monitor", 0), Store(tmp_path, "monitor", 1)
    first.commit([("a", b"old")])
    second.commit([("a", b"new")])
    Store(tmp_path, "other").commit([("a", b"of another monitor")])
    assert Store(tmp_path, "monitor").read_state("a") == b"new"
    assert Store(tmp_path, "monitor", 0).read_state("a") == b"new"


def test_a_device_that_was_forgotten_does_not_come_back_from_the_file_of_another_worker(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Store(tmp_path, "monitor").commit([("a", b"old"), ("b", b"old")])
    worker = Store(tmp_path, "monitor", 0)
    worker.commit([("a", b"new"), ("b", b"new"), ("c", b"new")])
    worker.commit(forgotten=["a", "b", "c", "d"])
    for store in (worker, Store(tmp_path, "monitor"), Store(tmp_path, "monitor", 1)):
        assert [store.read_state(device) for device in "abcd"] == [None] * 4
    assert worker._select("SELECT id FROM device ORDER BY id") == [("a",), ("b",)]  # the others need no trace
    worker.commit([("a", b"newer")], forgotten=["a"])
    assert Store(tmp_path, "monitor").read_state("a") == b"newer"
    assert not caplog.records


def _set_clock(monkeypatch: pytest.MonkeyPatch, now_s: float) -> None:
    monkeypatch.setattr("monitor.state.sqlite.time.time", lambda: now_s)


def test_a_state_is_of_no_use_after_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other, store = Store(tmp_path, "monitor", 0), Store(tmp_path, "monitor")
    _set_clock(monkeypatch, 1e9)
    other.commit([("a", b"old"), ("b", b"old")])
    _set_clock(monkeypatch, 1e9 + 1)
    store.commit([("c", b"old")], forgotten=["a"])
    _set_clock(monkeypatch, 1e9 + KEEP_STATE_S)
    store.commit([("d", b"new")])
    store.prune(0.0)
    assert [store.read_state(device) for device in "abcd"] == [None, b"old", b"old", b"new"]
    _set_clock(monkeypatch, 1e9 + KEEP_STATE_S + 2)
    assert [store.read_state(device) for device in "abcd"] == [None, None, None, b"new"]
    _set_clock(monkeypatch, 1e9 + KEEP_STATE_S + 3601)
    store.prune(0.0)
    assert store._select("SELECT id FROM device") == [("d",)]


def test_states_from_before_the_clock_was_set_back_are_found_until_there_are_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, store = Store(tmp_path, "monitor", 0), Store(tmp_path, "monitor")
    _set_clock(monkeypatch, 1e9)
    other.commit([("a", b"old")])
    store.commit([("b", b"old")])
    _set_clock(monkeypatch, 1e8)
    assert [store.read_state(device) for device in "ab"] == [b"old", b"old"]
    store.commit([("a", b"new")])
    assert store.read_state("a") == b"new"
    store.prune(0.0)
    assert store.read_state("b") == b"old"
    _set_clock(monkeypatch, 1e8 + KEEP_STATE_S + 1)
    assert store.read_state("b") is None


def test_a_file_of_another_worker_that_cannot_be_read_is_said_once_and_hides_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Store(tmp_path, "monitor", 2).commit([("a", b"state")])
    (tmp_path / "monitor.0.db").mkdir()
    (tmp_path / "monitor.1.db").symlink_to(tmp_path / "nowhere")
    store = Store(tmp_path, "monitor")
    assert [store.read_state(device) for device in "aba"] == [b"state", None, b"state"]
    assert [record.message.split()[0] for record in caplog.records] == [
        str(tmp_path / "monitor.0.db"), str(tmp_path / "monitor.1.db"),
    ]  # fmt: skip
    assert store.fault is None


def test_who_reads_for_long_does_not_keep_the_monitor_from_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor.state.sqlite.TIDY_S", 0.2)
    store = Store(tmp_path, "m")
    store.commit([("a", b"state")])
    with closing(sqlite3.connect(tmp_path / "m.db")) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM device").fetchall()
        began_s, longest_s = time.monotonic(), 0.0
        while (now_s := time.monotonic()) < began_s + 2.0:
            assert store.commit([("a", b"state")])
            longest_s = max(longest_s, time.monotonic() - now_s)
            time.sleep(0.01)
    store.close()
    assert longest_s < 1.5


def test_the_history_holds_only_so_many_alerts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.state.sqlite.MOST_ALERTS", 3)
    store = Store(tmp_path, "monitor")
    letters = [_letter(number, float(number)) for number in range(8)]
    store.commit(told=letters, unconfirmed=letters[:1])
    store.prune(2.0)
    assert _alerts(tmp_path / "monitor.db", 0.0) == [b"{0}", b"{5}", b"{6}", b"{7}"]  # the first is still on its way


def test_the_history_holds_beats_of_only_so_many_hours_and_devices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor.state.sqlite.MOST_HOURLY_ROWS", 4)
    store, path = Store(tmp_path, "monitor"), tmp_path / "monitor.db"
    for hour, devices in enumerate(["ab", "abc", "a", "ab"]):
        _set_clock(monkeypatch, 3600.0 * hour)
        store.commit(hourly=[HourlyRow(hour, device, "normal", 1, 800) for device in devices])
    store.prune(0.0)
    assert [(row.hour, row.device) for row in read_hourly(path, 0.0)] == [(2, "a"), (3, "a"), (3, "b")]
    store.commit(hourly=[HourlyRow(hour, "c", "normal", 1, 800) for hour in range(4)])
    store.prune(0.0)
    assert len(read_hourly(path, 0.0)) == 7  # they are counted once an hour
    _set_clock(monkeypatch, 3600.0 * 4)
    store.prune(0.0)
    assert read_hourly(path, 0.0) == []  # an hour that has too many of its own goes as well
