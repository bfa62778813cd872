"""What is remembered on disk, by whom it is found again, and what a bad disk does."""

from __future__ import annotations

from pathlib import Path

from monitor.store import Letter, Store


def _letter(number: int, told_s: float = 100.0) -> Letter:
    return Letter(f"a-{number}", "a", told_s, "ecg/v1/a/alerts", b"{%d}" % number)


def test_what_was_committed_is_there_after_a_crash(tmp_path: Path) -> None:
    store = Store(tmp_path, "monitor")
    assert store.commit([("a", b"1"), ("b", b"2")], [_letter(1), _letter(2)], [_letter(1), _letter(2)])
    assert store.commit([("a", b"3")], confirmed=["a-1"], forgotten=["b"])
    again = Store(tmp_path, "monitor")  # the first one was never closed
    assert again.read_state("a") == b"3"
    assert again.read_state("b") is None
    assert again.read_outbox() == [_letter(2)]
    assert again.read_alerts(0.0) == [b"{1}", b"{2}"]


def test_alerts_are_told_by_device_and_time_and_forgotten_unless_on_their_way(tmp_path: Path) -> None:
    store = Store(tmp_path, "monitor")
    letters = [_letter(1, 10.0), _letter(2, 20.0), _letter(3, 30.0)]
    store.commit(told=letters, unconfirmed=[letters[0]])
    assert store.read_alerts(20.0, "a") == [b"{2}", b"{3}"]
    assert store.read_alerts(0.0, "b") == []
    store.prune(25.0)
    assert store.read_alerts(0.0) == [b"{1}", b"{3}"]


def test_a_worker_finds_the_latest_state_of_a_device_that_another_had(tmp_path: Path) -> None:
    first, second = Store(tmp_path, "monitor", 0), Store(tmp_path, "monitor", 1)
    first.commit([("a", b"old")])
    second.commit([("a", b"new")])
    Store(tmp_path, "other").commit([("a", b"of another monitor")])
    assert Store(tmp_path, "monitor").read_state("a") == b"new"
    assert Store(tmp_path, "monitor", 0).read_state("a") == b"new"


def test_a_damaged_file_is_put_aside_and_begun_anew(tmp_path: Path) -> None:
    first = Store(tmp_path, "monitor")
    first.commit([("a", b"1")])
    first.close()
    (tmp_path / "monitor.db").write_bytes(b"this is no database" * 1000)
    store = Store(tmp_path, "monitor")
    assert store.fault is None
    assert store.read_state("a") is None
    assert (tmp_path / "monitor.damaged").exists()
    assert store.commit([("a", b"2")])


def test_a_directory_that_cannot_be_written_is_a_fault_that_passes(tmp_path: Path) -> None:
    blocked = tmp_path / "state"
    blocked.write_text("a file where a directory should be")
    store = Store(blocked, "monitor")
    assert store.fault is not None
    assert not store.commit([("a", b"1")])
    assert store.read_state("a") is None
    blocked.unlink()
    store.retry()
    assert store.fault is None
    assert store.commit([("a", b"1")])


def test_a_write_that_fails_is_a_fault_and_leaves_what_was_there(tmp_path: Path) -> None:
    store = Store(tmp_path, "monitor")
    store.commit([("a", b"1")])
    assert store._connection is not None
    store._connection.execute("PRAGMA max_page_count = 1")  # a full disk, as SQLite sees it
    assert not store.commit([("b", bytes(10**6))])
    assert "full" in (store.fault or "")
    store.retry()
    assert store.fault is None
    assert store.read_state("a") == b"1"
