"""When packets are committed, and what is owed while nothing can be saved."""

from __future__ import annotations

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
from monitor.state.store import HourlyRow, OutboxMessage
from tests.monitor.state.saving import find, save


class _Engine:
    """Knows all devices but some, and saves of each how often one was saved."""

    def __init__(self) -> None:
        self.saves = 0
        self.unknown: set[str] = set()
        self.tombstones: dict[str, list[Hourly]] = {}
        self._records: dict[str, Device] = {}

    def knows(self, device: str) -> bool:
        return device not in self.unknown

    def record(self, device: str) -> Device | None:
        if device in self.unknown:
            return None
        return self._records.setdefault(device, Device(device, 0.0, Allowance()))

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

    def bury(self, devices: Iterable[str]) -> None:
        for device in devices:
            del self.tombstones[device]

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


def _break(store: SqliteStore) -> None:
    assert store._connection is not None
    store._connection.execute("PRAGMA max_page_count = 1")
    assert not save(store, {"x": bytes(100_000)})


def test_a_packet_is_committed_when_its_device_is_saved(kept: Checkpoint, store: SqliteStore) -> None:
    kept.received(7, "a", 0.0)
    kept.received(8, "a", 0.1)
    assert kept.commit(1.0, idle=False) == ([], [])
    assert kept.commit(1.0, idle=True) == ([7, 8], ["a"])
    assert find(store, "a") == b"a 1"


def test_a_packet_that_the_broker_does_not_wait_for_is_committed_without_its_acknowledgement(
    kept: Checkpoint, store: SqliteStore
) -> None:
    kept.received(None, "a", 0.0)
    kept.received(8, "b", 0.1)
    assert kept.commit(1.0, idle=True) == ([8], ["a", "b"])
    assert find(store, "a") == b"a 1"


def test_a_lost_connection_drops_only_what_the_broker_delivers_again(kept: Checkpoint) -> None:
    kept.received(None, "a", 0.0)
    kept.received(8, "b", 0.1)
    kept.disconnected()
    assert kept.commit(1.0, idle=True) == ([], ["a"])


def test_while_nothing_can_be_saved_packets_are_committed_and_alerts_do_not_pile_up(
    kept: Checkpoint, store: SqliteStore, tmp_path: Path
) -> None:
    _break(store)
    for number in range(checkpoint.MOST_KEPT + 100):
        kept.received(number, "a", 0.0)
        kept.outbox.add(_alert(number))
        kept.outbox.confirm(f"a-{number}")
        assert kept.commit(0.0, idle=True).tokens == [number]
    assert len(kept.outbox.published) == checkpoint.MOST_KEPT
    assert not kept.outbox._unconfirmed
    store.retry()
    kept.commit(0.0, idle=True)
    assert len(SqliteLocation(tmp_path).read_history("m", 0.0)) == checkpoint.MOST_KEPT


def test_what_could_not_be_saved_is_saved_later_also_of_a_device_that_is_silent(
    kept: Checkpoint, store: SqliteStore
) -> None:
    kept.received(1, "silent", 0.0)
    kept.commit(0.0, idle=True)
    _break(store)
    kept.received(2, "silent", 1.0)
    kept.commit(1.0, idle=True)
    assert find(store, "silent") == b"silent 1"
    store.retry()
    kept.commit(2.0, idle=True)
    assert find(store, "silent") == b"silent 2"
    assert kept.commit(3.0, idle=True) == ([], [])


def test_while_nothing_can_be_saved_nothing_is_made_ready_for_it(
    kept: Checkpoint, engine: _Engine, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    _break(store)
    engine.forget("gone")
    kept.received(1, "new", 0.0)
    kept.received(2, "new", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(SqliteStore, "submit", None)
        assert kept.commit(0.0, idle=True) == ([1, 2], [])
        kept.received(3, "new", -checkpoint.WINDOW_S)
        assert kept.commit(0.0, idle=False) == ([], [])  # one that is to be forgotten does not hurry it
        assert kept.commit(1.0, idle=False) == ([3], [])
    assert engine.saves == 0
    store.retry()
    assert kept.commit(2.0, idle=False) == ([], ["new"])
    assert find(store, "new") == b"new 1"
    assert not engine.tombstones


def test_a_new_file_gets_the_states_and_the_alerts_that_the_damaged_one_had(
    kept: Checkpoint, store: SqliteStore, tmp_path: Path
) -> None:
    kept.received(1, "a", 0.0)
    kept.outbox.add(_alert(1))
    kept.commit(0.0, idle=True)
    _break(store)
    kept.received(2, "b", 1.0)
    kept.commit(1.0, idle=True)
    store.close()
    (tmp_path / "m.db").write_bytes(b"garbage")
    store.retry()
    kept.commit(2.0, idle=True)
    assert find(store, "a")
    assert find(store, "b")
    assert store.read_outbox() == [_alert(1)]
    kept.outbox.confirm("a-1")
    kept.commit(3.0, idle=True)
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
    store.retry()
    assert kept.outbox.needs_resend
    assert kept.outbox.resend() == [alerts[0], alerts[2]]
    assert not kept.outbox.needs_resend
    kept.outbox.confirm("a-1")
    assert kept.outbox.resend() == []
    kept.commit(0.0, idle=True)
    assert store.read_outbox() == alerts[1:]


def test_beats_are_counted_once_with_the_state_that_has_seen_them(
    kept: Checkpoint, engine: _Engine, store: SqliteStore, tmp_path: Path
) -> None:
    engine.hear("a", {(5, "normal"): (3, 2400)})
    engine.hear("b", {(5, "V"): (1, 800)})
    kept.received(1, "a", 0.0)
    kept.commit(0.0, idle=True)
    assert SqliteLocation(tmp_path).read_hourly("m", 0.0) == [HourlyRow(5, "a", "normal", 3, 2400)]
    engine.forget("b")
    _break(store)
    engine.hear("a", {(5, "normal"): (1, 700), (6, "normal"): (1, 700)})
    for mid in (2, 3):
        kept.received(mid, "a", 1.0)
        kept.commit(1.0, idle=True)
    store.retry()
    kept.commit(2.0, idle=True)
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
        kept.commit(now_s, idle=True)
    store.retry()
    counts = []
    for now_s in (3.0, 4.0, 5.0):
        kept.commit(now_s, idle=False)
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
    kept.commit(0.0, idle=True)
    assert len(engine.tombstones) == MAX_DEVICES
    store.retry()
    kept.commit(1.0, idle=True)
    assert not engine.tombstones
    assert not any(find(store, device) for device in devices)


def test_without_a_store_no_beats_and_no_tombstones_are_kept() -> None:
    engine = _Engine()
    engine.hear("a", {(5, "normal"): (3, 2400)})
    kept = Checkpoint(cast(Engine, engine), None)
    kept.received(1, "a", 0.0)
    kept.commit(0.0, idle=True)
    assert engine.uncounted() == 0
    engine.forget("a")
    kept.commit(0.0, idle=True)
    assert not engine.tombstones
