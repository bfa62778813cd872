"""When packets are committed, and what is owed while nothing can be saved."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import cast

import pytest

from monitor.devices import MAX_DEVICES, Device, Hourly
from monitor.engine import Engine
from monitor.rate_limit import Allowance
from monitor.state import checkpoint
from monitor.state.checkpoint import Checkpoint
from monitor.state.sqlite import SqliteLocation, SqliteStore
from monitor.state.store import HourlyRow, OutboxMessage, RequestRow
from monitor.stream import Stream
from tests.monitor.state.saving import WAIT_S, find, retry, save
from tests.monitor.state.slow import HeldStore


class _Stream:
    """Has taken some packets."""

    next_seq: int | None = 5


class _Engine:
    """Knows all devices but some, and saves of each how often one was saved."""

    def __init__(self) -> None:
        self.saves = 0
        self.unknown: set[str] = set()
        self.tombstones: dict[str, list[Hourly]] = {}
        self.being_buried: list[str] = []
        self._records: dict[str, Device] = {}

    def knows(self, device: str) -> bool:
        return device not in self.unknown

    def has_forgotten(self, device: str) -> bool:
        return device in self.tombstones or device in self.being_buried

    def record(self, device: str) -> Device | None:
        if device in self.unknown:
            return None
        known = self._records.setdefault(device, Device(device, 0.0, Allowance()))
        if not hasattr(known, "stream"):
            known.stream = cast(Stream, _Stream())
        return known

    def records(self) -> Iterator[Device]:
        return iter(self._records.values())

    def hear(self, device: str, hourly: Hourly) -> None:
        known = self.record(device)
        assert known is not None
        known.hourly |= hourly

    def forget(self, *devices: str, comes_back: bool = False) -> None:
        for device in devices:
            left = self._records.pop(device, None)
            self.tombstones.setdefault(device, []).append({} if left is None else left.hourly)
            if not comes_back:
                self.unknown.add(device)

    def take_tombstones(self) -> dict[str, list[Hourly]]:
        taken, self.tombstones = self.tombstones, {}
        self.being_buried += taken
        return taken

    def bury(self, devices: Iterable[str]) -> None:
        for device in devices:
            self.being_buried.remove(device)

    def put_back(self, tombstones: dict[str, list[Hourly]]) -> None:
        self.bury(tombstones)
        self.tombstones = tombstones | self.tombstones

    def uncounted(self) -> int:
        left = [known.hourly for known in self._records.values()]
        return sum(map(len, left)) + sum(len(one) for hourly in self.tombstones.values() for one in hourly)

    def save(self, device: str) -> bytes:
        self.saves += 1
        return f"{device} {self.saves}".encode()


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    return SqliteStore(tmp_path, "m")


@pytest.fixture
def engine() -> _Engine:
    return _Engine()


@pytest.fixture
def kept(store: SqliteStore, engine: _Engine) -> Checkpoint:
    return Checkpoint(cast(Engine, engine), store)


def _alert(number: int) -> OutboxMessage:
    return OutboxMessage(f"a-{number}", "a", float(number), "ecg/v1/a/alerts", b"%d" % number)


def _commit(kept: Checkpoint, now_s: float, *, idle: bool) -> tuple[list[int], list[str]]:
    """Commit, and wait for what the store says of it."""
    tokens, saved = kept.commit(now_s, idle)
    until_s = time.monotonic() + WAIT_S
    while kept.is_open:
        assert time.monotonic() < until_s, "waited in vain"
        more = kept.wait(WAIT_S)
        tokens, saved = tokens + more.tokens, saved + more.saved
    return tokens, [device for device, _ in saved]


def _break(store: SqliteStore) -> None:
    assert store._connection is not None
    store._connection.execute("PRAGMA max_page_count = 1")
    assert not save(store, {"x": bytes(100_000)})


def test_a_packet_is_committed_when_its_device_is_saved(kept: Checkpoint, store: SqliteStore) -> None:
    kept.received(7, "a", 0.0)
    kept.received(8, "a", 0.1)
    assert _commit(kept, 1.0, idle=False) == ([], [])
    assert _commit(kept, 1.0, idle=True) == ([7, 8], ["a"])
    assert find(store, "a") == b"a 1"


def test_a_packet_that_the_broker_does_not_wait_for_is_committed_without_its_acknowledgement(
    kept: Checkpoint, store: SqliteStore
) -> None:
    kept.received(None, "a", 0.0)
    kept.received(8, "b", 0.1)
    assert _commit(kept, 1.0, idle=True) == ([8], ["a", "b"])
    assert find(store, "a") == b"a 1"


def test_a_lost_connection_drops_only_what_the_broker_delivers_again(kept: Checkpoint) -> None:
    kept.received(None, "a", 0.0)
    kept.received(8, "b", 0.1)
    kept.disconnected()
    assert _commit(kept, 1.0, idle=True) == ([], ["a"])


def test_while_nothing_can_be_saved_packets_are_committed_and_alerts_do_not_pile_up(
    kept: Checkpoint, store: SqliteStore, tmp_path: Path
) -> None:
    _break(store)
    for number in range(checkpoint.MOST_KEPT + 100):
        kept.received(number, "a", 0.0)
        kept.outbox.add(_alert(number))
        kept.outbox.confirm(f"a-{number}")
        assert _commit(kept, 0.0, idle=True)[0] == [number]
    assert len(kept.outbox.published) == checkpoint.MOST_KEPT
    assert not kept.outbox._unconfirmed
    retry(store)
    _commit(kept, 0.0, idle=True)
    assert len(SqliteLocation(tmp_path).read_history("m", 0.0)) == checkpoint.MOST_KEPT


def test_what_could_not_be_saved_is_saved_later_also_of_a_device_that_is_silent(
    kept: Checkpoint, store: SqliteStore
) -> None:
    kept.received(1, "silent", 0.0)
    _commit(kept, 0.0, idle=True)
    _break(store)
    kept.received(2, "silent", 1.0)
    _commit(kept, 1.0, idle=True)
    assert find(store, "silent") == b"silent 1"
    retry(store)
    _commit(kept, 2.0, idle=True)
    assert find(store, "silent") == b"silent 2"
    assert _commit(kept, 3.0, idle=True) == ([], [])


def test_while_nothing_can_be_saved_nothing_is_made_ready_for_it(
    kept: Checkpoint, engine: _Engine, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    _break(store)
    engine.forget("gone")
    kept.received(1, "new", 0.0)
    kept.received(2, "new", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(SqliteStore, "submit", None)
        assert _commit(kept, 0.0, idle=True) == ([1, 2], [])
        kept.received(3, "new", -checkpoint.WINDOW_S)
        assert _commit(kept, 0.0, idle=False) == ([], [])  # one that is to be forgotten does not hurry it
        assert _commit(kept, 1.0, idle=False) == ([3], [])
    assert engine.saves == 0
    retry(store)
    assert _commit(kept, 2.0, idle=False) == ([], ["new"])
    assert find(store, "new") == b"new 1"
    assert not engine.tombstones


def test_a_new_file_gets_the_states_and_the_alerts_that_the_damaged_one_had(
    kept: Checkpoint, store: SqliteStore, tmp_path: Path
) -> None:
    kept.received(1, "a", 0.0)
    kept.outbox.add(_alert(1))
    _commit(kept, 0.0, idle=True)
    _break(store)
    kept.received(2, "b", 1.0)
    _commit(kept, 1.0, idle=True)
    (tmp_path / "m.db").write_bytes(b"garbage")
    retry(store)
    _commit(kept, 2.0, idle=True)
    assert find(store, "a")
    assert find(store, "b")
    assert store.read_outbox() == [_alert(1)]
    kept.outbox.confirm("a-1")
    _commit(kept, 3.0, idle=True)
    assert store.read_outbox() == []


def test_alerts_that_could_not_be_read_at_the_start_are_sent_again_when_they_can_be(tmp_path: Path) -> None:
    before = SqliteStore(tmp_path / "real", "m")
    alerts = [_alert(number) for number in (1, 2, 3)]
    save(before, published=alerts, unconfirmed=alerts)
    before.close()
    (tmp_path / "away").write_bytes(b"")
    store = SqliteStore(tmp_path / "away", "m")
    kept = Checkpoint(cast(Engine, _Engine()), store)
    assert kept.outbox.resend() == []
    kept.outbox.add(_alert(2))
    assert not kept.outbox.needs_resend
    (tmp_path / "away").unlink()
    (tmp_path / "real").rename(tmp_path / "away")
    retry(store)
    assert kept.outbox.needs_resend
    assert kept.outbox.resend() == [alerts[0], alerts[2]]
    assert not kept.outbox.needs_resend
    kept.outbox.confirm("a-1")
    assert kept.outbox.resend() == []
    _commit(kept, 0.0, idle=True)
    assert store.read_outbox() == alerts[1:]


def test_beats_are_counted_once_with_the_state_that_has_seen_them(
    kept: Checkpoint, engine: _Engine, store: SqliteStore, tmp_path: Path
) -> None:
    engine.hear("a", {(5, "normal"): (3, 2400)})
    engine.hear("b", {(5, "V"): (1, 800)})
    kept.received(1, "a", 0.0)
    _commit(kept, 0.0, idle=True)
    assert SqliteLocation(tmp_path).read_hourly("m", 0.0) == [HourlyRow(5, "a", "normal", 3, 2400)]
    engine.forget("b")
    _break(store)
    engine.hear("a", {(5, "normal"): (1, 700), (6, "normal"): (1, 700)})
    for mid in (2, 3):
        kept.received(mid, "a", 1.0)
        _commit(kept, 1.0, idle=True)
    retry(store)
    _commit(kept, 2.0, idle=True)
    assert engine.uncounted() == 0
    assert SqliteLocation(tmp_path).read_hourly("m", 0.0) == [
        HourlyRow(5, "a", "normal", 4, 3100), HourlyRow(5, "b", "V", 1, 800), HourlyRow(6, "a", "normal", 1, 700),
    ]  # fmt: skip


def test_no_beats_are_in_the_file_before_the_state_that_has_seen_them(
    kept: Checkpoint, engine: _Engine, store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "MOST_SAVED", 2)
    _break(store)
    for number, device in enumerate(["gone", "d0", "d1", "d2", "d3", "back"]):
        engine.hear(device, {(5, "normal"): (1, 800)})
        kept.received(number, device, 0.0)
    engine.forget("gone")
    engine.forget("back", comes_back=True)
    for now_s in (0.0, 1.0, 2.0):
        _commit(kept, now_s, idle=True)
    retry(store)
    counts = []
    for now_s in (3.0, 4.0, 5.0):
        _commit(kept, now_s, idle=False)
        counted = {row.device for row in SqliteLocation(tmp_path).read_hourly("m", 0.0)}
        assert counted == {"gone"} | {device for device in ("d0", "d1", "d2", "d3", "back") if find(store, device)}
        counts.append(len(counted))
    assert counts == [3, 5, 6]
    assert engine.uncounted() == 0


def test_of_all_that_are_forgotten_at_once_no_state_is_left(
    kept: Checkpoint, engine: _Engine, store: SqliteStore
) -> None:
    devices = [f"d{number}" for number in range(MAX_DEVICES)]
    save(store, dict.fromkeys(devices, b"old"))
    _break(store)
    engine.forget(*devices)
    _commit(kept, 0.0, idle=True)
    assert len(engine.tombstones) == MAX_DEVICES
    retry(store)
    _commit(kept, 1.0, idle=True)
    assert not engine.tombstones
    assert not any(find(store, device) for device in devices)


def test_without_a_store_no_beats_and_no_tombstones_are_kept() -> None:
    engine = _Engine()
    engine.hear("a", {(5, "normal"): (3, 2400)})
    kept = Checkpoint(cast(Engine, engine), None)
    kept.received(1, "a", 0.0)
    _commit(kept, 0.0, idle=True)
    assert engine.uncounted() == 0
    engine.forget("a")
    _commit(kept, 0.0, idle=True)
    assert not engine.tombstones


@pytest.fixture
def held() -> HeldStore:
    return HeldStore()


@pytest.fixture
def slow(held: HeldStore, engine: _Engine) -> Checkpoint:
    return Checkpoint(cast(Engine, engine), held)


def test_packets_are_acknowledged_when_the_store_says_so_in_their_order(slow: Checkpoint, held: HeldStore) -> None:
    for number, device in enumerate("abc"):
        slow.received(number, device, 0.0)
        assert slow.commit(float(number), idle=True) == ([], [])
    assert (len(held.submitted), slow.uncommitted, slow.is_open) == (3, 3, True)
    held.let()
    assert slow.commit(3.0, idle=True) == ([0], [("a", 5)])
    held.let(2)
    assert slow.wait(0.0) == ([1, 2], [("b", 5), ("c", 5)])
    assert (slow.uncommitted, slow.is_open) == (0, False)


def test_a_packet_whose_device_is_in_an_open_transaction_waits_for_that(
    slow: Checkpoint, held: HeldStore, engine: _Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "MOST_SAVED", 1)
    for number, device in enumerate(["a", "b", "a", "b"]):
        slow.received(number, device, 0.0)
    slow.commit(1.0, idle=True)
    slow.commit(2.0, idle=True)
    slow.commit(3.0, idle=True)
    assert (len(held.submitted), engine.saves) == (2, 2)
    held.let()
    assert slow.commit(4.0, idle=True) == ([0], [("a", 5)])
    held.let()
    assert slow.commit(5.0, idle=True) == ([1, 2, 3], [("b", 5)])


def test_a_device_hears_up_to_where_it_was_saved_not_what_came_since(
    slow: Checkpoint, held: HeldStore, engine: _Engine
) -> None:
    slow.received(1, "a", 0.0)
    slow.commit(0.0, idle=True)
    known = engine.record("a")
    assert known is not None
    cast(_Stream, known.stream).next_seq = 9
    held.let()
    assert slow.wait(0.0) == ([1], [("a", 5)])


@pytest.mark.parametrize("next_seq", [None, 0])
def test_a_device_that_has_restarted_meanwhile_hears_nothing_of_the_time_before(
    slow: Checkpoint, held: HeldStore, engine: _Engine, next_seq: int | None
) -> None:
    slow.received(1, "a", 0.0)
    slow.commit(0.0, idle=True)
    known = engine.record("a")
    assert known is not None
    cast(_Stream, known.stream).next_seq = next_seq
    held.let()
    assert slow.wait(0.0) == ([1], [])


def test_a_device_that_was_forgotten_meanwhile_hears_nothing(
    slow: Checkpoint, held: HeldStore, engine: _Engine
) -> None:
    slow.received(1, "a", 0.0)
    slow.commit(0.0, idle=True)
    engine.forget("a", comes_back=True)
    held.let()
    assert slow.wait(0.0) == ([1], [])


def test_a_device_is_forgotten_once_and_its_new_state_stays(slow: Checkpoint, held: HeldStore, engine: _Engine) -> None:
    slow.received(1, "a", 0.0)
    slow.commit(0.0, idle=True)
    engine.forget("a", comes_back=True)
    slow.commit(1.0, idle=True)
    slow.received(2, "a", 2.0)
    slow.commit(2.0, idle=True)
    slow.received(3, "b", 3.0)
    slow.commit(3.0, idle=True)
    assert [list(one.forgotten) for one in held.submitted] == [[], ["a"], [], []]
    assert engine.being_buried == ["a"]
    held.let(4)
    slow.wait(0.0)
    assert not engine.being_buried
    assert held.read_states(["a", "b"]) == {"a": b"a 2", "b": b"b 3"}


def test_what_a_failure_took_along_is_saved_later_once(slow: Checkpoint, held: HeldStore, engine: _Engine) -> None:
    for number in range(3):
        engine.hear("a", {(5, "normal"): (1, 800)})
        slow.outbox.add(_alert(number))
        slow.received(number, "a", float(number))
        slow.commit(float(number), idle=True)
    engine.hear("gone", {(5, "V"): (1, 700)})
    engine.forget("gone")
    slow.outbox.confirm("a-0")
    slow.commit(3.0, idle=True)
    assert len(held.submitted) == 4
    held.fail()
    assert slow.wait(0.0) == ([0, 1, 2], [])
    assert set(engine.tombstones) == {"gone"}
    slow.retry()
    slow.commit(4.0, idle=True)
    slow.commit(5.0, idle=True)
    [again] = held.submitted
    assert [one.id for one in again.published] == ["a-0", "a-1", "a-2", "a-1", "a-2"]
    held.let()
    slow.wait(0.0)
    assert held.read_states(["a"]) == {"a": b"a 4"}
    assert held.read_outbox() == [_alert(1), _alert(2)]
    assert held.location.read_hourly("m", 0.0) == [
        HourlyRow(5, "a", "normal", 3, 2400), HourlyRow(5, "gone", "V", 1, 700),
    ]  # fmt: skip
    assert [payload for _, payload in held.location.read_history("m", 0.0)] == [b"0", b"1", b"2"]
    assert (engine.tombstones, engine.being_buried) == ({}, [])


def test_what_was_decided_about_a_device_that_another_process_goes_on_with_is_not_saved_later(
    slow: Checkpoint, held: HeldStore
) -> None:
    for device in ("ours", "theirs"):
        slow.decided.add(device, b"1", RequestRow(f"of {device}", 0.0, device, "rename", "anna", b"{}", "done"))
    slow.commit(0.0, idle=True)
    slow.decided.add("theirs", b"2")
    slow.drop({1}, ["theirs"])
    held.fail()
    assert slow.wait(0.0) == ([], [])
    slow.retry()
    slow.commit(1.0, idle=True)
    slow.commit(2.0, idle=True)
    held.let()
    slow.wait(0.0)
    assert held.read_decisions() == {"ours": b"1"}
    assert [(row.id, fault) for row, fault in slow.take_settled()] == [("of ours", None)]


def test_the_store_is_retried_when_nothing_is_open_and_nothing_is_submitted_before(
    slow: Checkpoint, held: HeldStore
) -> None:
    slow.received(1, "a", 0.0)
    slow.commit(0.0, idle=True)
    slow.retry()
    slow.received(2, "b", 1.0)
    slow.commit(1.0, idle=True)
    assert len(held.submitted) == 1
    held.let()
    assert slow.commit(2.0, idle=True).tokens == [1]
    assert slow.commit(3.0, idle=True) == ([], [])
    held.let()
    assert slow.wait(0.0).tokens == [2]


def test_settling_commits_what_waits_and_nothing_that_comes_meanwhile(slow: Checkpoint, held: HeldStore) -> None:
    slow.received(1, "a", 0.0)
    assert not slow.settle()
    slow.received(2, "b", 0.0)
    slow.commit(0.0, idle=False)
    assert [set(one.states) for one in held.submitted] == [{"a"}]
    assert not slow.settle()
    slow.commit(1.0, idle=True)
    held.let()
    assert slow.commit(2.0, idle=True).tokens == [1]
    assert held.submitted == []
    assert slow.settle()
    slow.commit(3.0, idle=True)
    assert set(held.submitted[-1].states) == {"b"}


def test_what_needs_to_be_settled_no_more_holds_nothing_up(slow: Checkpoint, held: HeldStore) -> None:
    slow.received(1, "a", 0.0)
    slow.settle()
    slow.commit(0.0, idle=False)
    slow.received(2, "b", 0.0)
    slow.go_on()
    slow.commit(1.0, idle=True)
    assert set(held.submitted[-1].states) == {"b"}


def test_a_message_that_is_being_dropped_from_the_outbox_is_not_sent_again(slow: Checkpoint, held: HeldStore) -> None:
    slow.outbox.add(_alert(1))
    slow.commit(0.0, idle=True)
    held.let()
    slow.outbox.confirm("a-1")
    slow.commit(1.0, idle=True)
    assert held.read_outbox() == [_alert(1)]
    assert slow.outbox.resend() == []


def test_no_more_is_submitted_than_the_store_can_take_and_it_goes_on_when_it_can(
    slow: Checkpoint, held: HeldStore, engine: _Engine
) -> None:
    for number in range(2 * checkpoint.MOST_OPEN):
        slow.received(number, f"d{number}", float(number))
        slow.commit(float(number), idle=True)
    assert len(held.submitted) == engine.saves == checkpoint.MOST_OPEN
    held.let(checkpoint.MOST_OPEN)
    assert slow.commit(100.0, idle=True).tokens == list(range(checkpoint.MOST_OPEN))
    held.let()
    assert slow.wait(0.0).tokens == list(range(checkpoint.MOST_OPEN, 2 * checkpoint.MOST_OPEN))


def test_packets_of_a_device_that_is_looked_up_are_not_committed_nor_those_behind_them(
    slow: Checkpoint, held: HeldStore
) -> None:
    slow.hold("b")
    for number, device in enumerate("abc"):
        slow.received(number, device, 0.0)
    slow.commit(1.0, idle=True)
    held.let()
    assert slow.wait(0.0).tokens == [0]
    slow.commit(2.0, idle=True)
    assert not held.submitted
    slow.release("b")
    slow.commit(3.0, idle=True)
    held.let()
    assert slow.wait(0.0).tokens == [1, 2]
