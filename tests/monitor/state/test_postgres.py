"""What holds for the store in PostgreSQL alone: fencing, lost connections, its schema, its partitions."""

from __future__ import annotations

import importlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from monitor.state import postgres
from monitor.state.location import locate
from monitor.state.migrations import MIGRATIONS
from monitor.state.postgres import Connection, PostgresLocation, PostgresStore
from monitor.state.store import HourlyRow, OutboxMessage, Taken, Transaction
from simulator.broker import HOST, free_port
from tests.monitor.state.saving import WAIT_S, find, prune, retry, save, settle
from tests.postgres import Postgres, make_database, run_postgres

ROW = HourlyRow(5, "a", "normal", 3, 2400)
DAY_S = 86400.0


@pytest.fixture
def location(database_url: str) -> PostgresLocation:
    return PostgresLocation(database_url)


@pytest.fixture
def server() -> Iterator[Postgres]:
    """A server that the test may stop."""
    with run_postgres() as server:
        yield server


def _alert(number: int, published_s: float = 100.0) -> OutboxMessage:
    return OutboxMessage(f"a-{number}", "a", published_s, "ecg/v1/a/alerts", b"{%d}" % number)


def _wait(condition: Callable[[], bool]) -> None:
    until_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < until_s, "waited in vain"
        time.sleep(0.01)


def _execute(location: PostgresLocation, query: str) -> None:
    with psycopg.connect(location.url, autocommit=True, options="-c search_path=ecgwatch") as connection:
        connection.execute(query.encode())


def _partitions(location: PostgresLocation) -> list[str]:
    with location.connect() as connection:
        query = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'alert'::regclass ORDER BY 1"
        return [name for (name,) in connection.execute(query).fetchall()]


def test_who_is_superseded_writes_nothing_any_more(location: PostgresLocation) -> None:
    former = location.open("m")
    assert save(former, {"a": b"1"}, hourly=[ROW])
    successor = location.open("m")
    assert save(successor, {"a": b"2"}, hourly=[ROW])
    assert not save(former, {"a": b"3", "b": b"3"}, [_alert(1)], [_alert(1)], forgotten=["c"], hourly=[ROW])
    assert (former.is_fenced, former.fault is not None) == (True, True)
    retry(former)
    assert not save(former, {"a": b"4"})
    assert former.opened == 1
    assert successor.read_states(["a", "b"]) == {"a": b"2"}
    assert (successor.read_outbox(), location.read_history("m", 0.0)) == ([], [])
    assert location.read_hourly("m", 0.0) == [ROW._replace(beats=6, rr_ms=4800)]


def test_who_lost_the_database_and_was_superseded_meanwhile_does_not_take_over_again(
    location: PostgresLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "PATIENCE_S", 0.0)
    former = location.open("m")
    with monkeypatch.context() as patch:
        patch.setattr(postgres, "connect", _unreachable)
        assert former._connection is not None
        former._connection.close()
        assert not save(former, {"a": b"1"})
    successor = location.open("m")
    retry(former)
    assert former.is_fenced
    assert save(successor, {"a": b"2"})


def _unreachable(_url: str) -> Connection:
    raise psycopg.OperationalError("connection refused")


def test_workers_and_monitors_do_not_supersede_each_other(location: PostgresLocation) -> None:
    stores = [location.open("m", 0), location.open("m", 1), location.open("other")]
    for number, store in enumerate(stores):
        assert save(store, {f"d{number}": b"1"})


@pytest.mark.parametrize("before_it_was_saved", [True, False])
def test_a_connection_that_breaks_during_a_commit_counts_beats_once(
    location: PostgresLocation, monkeypatch: pytest.MonkeyPatch, before_it_was_saved: bool
) -> None:
    store, really, losses = location.open("m"), PostgresStore._write, iter([True, True])

    def write(self: PostgresStore, connection: Connection, transaction: Transaction) -> None:
        is_lost = next(losses, False)
        if not (is_lost and before_it_was_saved):
            really(self, connection, transaction)
        if is_lost:
            connection.close()
            raise psycopg.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(PostgresStore, "_write", write)
    assert save(store, {"a": b"1"}, hourly=[ROW])
    assert location.read_hourly("m", 0.0) == [ROW]
    assert (store.opened, store.faults, store.delay) == (1, 0, None)


def test_a_server_that_is_away_is_waited_for_and_what_is_open_is_saved_then(server: Postgres) -> None:
    store = PostgresLocation(server.url).open("m")
    assert save(store, {"a": b"1"})
    server.end()
    store.submit(Transaction({"a": b"2"}, hourly=[ROW]))
    store.ask(["a"])
    _wait(lambda: store.delay is not None)
    assert store.fault is None
    assert store.done() == []
    assert store.answers() == []
    server.start()
    [outcome] = store.done(WAIT_S)
    assert outcome.is_saved
    settle(store)
    assert store.answers() == [("a", b"2")]
    assert (store.delay, store.faults, store.opened) == (None, 0, 1)
    store.close()


def test_a_server_that_stays_away_is_a_fault_until_it_is_back(
    server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "PATIENCE_S", 0.3)
    store = PostgresLocation(server.url).open("m")
    server.end()
    assert not save(store, {"a": b"1"})
    assert (store.fault is not None, store.delay) == (True, None)
    assert store.read_states(["a"]) == {}
    retry(store)
    assert store.opened == 1
    server.start()
    retry(store)
    assert (store.fault, store.opened, store.faults) == (None, 2, 1)
    assert save(store, {"a": b"2"})
    store.close()


def test_closing_does_not_wait_for_a_server_that_is_away(server: Postgres) -> None:
    store = PostgresLocation(server.url).open("m")
    server.end()
    store.submit(Transaction({"a": b"1"}))
    began_s = time.monotonic()
    store.close()
    assert time.monotonic() - began_s < 0.9 * postgres.PATIENCE_S
    assert [outcome.is_saved for outcome in store.done()] == [False]
    server.start()


def test_a_database_that_is_not_there_is_one_clear_error() -> None:
    location = PostgresLocation(f"postgresql://{HOST}:{free_port()}/nowhere")
    with (
        pytest.raises(ConnectionError, match="No database reached at postgresql://"),
        location.hold("m", lambda: False),
    ):
        pass
    store = location.open("m")
    assert (store.fault is not None, store.opened) == (True, 0)
    assert not save(store, {"a": b"1"})
    with pytest.raises(OSError, match="cannot be read"):
        location.read_history("m", 0.0)


def test_a_schema_that_is_newer_is_refused_and_left_alone(location: PostgresLocation) -> None:
    save(location.open("m"), {"a": b"1"})
    _execute(location, f"INSERT INTO migration (version) VALUES ({len(MIGRATIONS) + 1})")
    store = location.open("m")
    assert store.fault is not None
    assert "upgrade this program" in store.fault
    assert not save(store, {"a": b"2"})
    with pytest.raises(ConnectionError, match="upgrade this program"):
        location.connect()


def test_two_that_find_an_empty_database_make_one_schema(database_server: Postgres) -> None:
    with make_database(database_server) as url, ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(lambda number: PostgresLocation(url).open("m", number), range(4)))
        assert [store.fault for store in stores] == [None] * 4
        assert all(save(store, {f"d{number}": b"1"}) for number, store in enumerate(stores))
        for store in stores:
            store.close()


def test_a_step_of_the_schema_is_made_by_itself_on_a_database_in_use(
    location: PostgresLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    former = location.open("m", 0)
    save(former, {"a": b"1"})
    monkeypatch.setattr(postgres, "MIGRATIONS", [*MIGRATIONS, "ALTER TABLE device ADD COLUMN note text"])
    later = location.open("m", 1)
    assert (later.fault, find(later, "a")) == (None, b"1")
    assert save(former, {"a": b"2"})


def test_days_that_are_over_are_dropped_and_made_again_when_they_are_needed(location: PostgresLocation) -> None:
    store, other = location.open("m", 0), location.open("m", 1)
    alerts = [_alert(day, day * DAY_S) for day in range(4)]
    assert save(store, published=alerts, unconfirmed=[alerts[1]])
    assert save(other, published=[_alert(10, 0.0)])
    assert _partitions(location) == ["alert_0", "alert_1", "alert_2", "alert_3"]
    prune(other, 3 * DAY_S)
    assert _partitions(location) == ["alert_1", "alert_3"]  # one that is still on its way holds its day
    assert save(store, published=[_alert(11, 0.0)])  # it does not know that the other has dropped this day
    assert [payload for _, payload in location.read_history("m", 0.0)] == [b"{11}", b"{1}", b"{3}"]


def test_an_alert_that_is_published_again_on_another_day_is_there_once(location: PostgresLocation) -> None:
    store = location.open("m")
    save(store, published=[_alert(1, 0.0)])
    save(store, published=[_alert(1, DAY_S), _alert(2, DAY_S), _alert(2, 2 * DAY_S)])
    assert location.read_history("m", 0.0) == [(0.0, b"{1}"), (DAY_S, b"{2}")]


def test_a_state_that_is_not_as_it_was_is_not_returned(location: PostgresLocation) -> None:
    store = location.open("m")
    save(store, {"a": b"state", "b": b"state"})
    _execute(location, "UPDATE device SET state = substr(state, 1, 8) WHERE id = 'a'")
    assert store.read_states(["a", "b"]) == {"b": b"state"}


def test_a_name_whose_session_was_lost_is_held_again(
    location: PostgresLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "KEEP_S", 0.02)
    with location.hold("m", lambda: False):
        _execute(location, "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted")
        _wait(lambda: not _is_free(location))
    assert _is_free(location)


def _is_free(location: PostgresLocation) -> bool:
    with location.try_hold("m") as is_ours:
        return is_ours


def test_a_password_in_the_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="PGPASSWORD") as error:
        locate("postgresql://anna:secret@localhost/ecg")
    assert "secret" not in str(error.value)


def test_without_psycopg_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.delitem(sys.modules, "monitor.state.postgres")
    with pytest.raises(ValueError, match=r"ecgwatch\[cluster\]"):
        importlib.import_module("monitor.state.postgres")


def test_partitions_are_taken_over_with_their_outbox_and_their_former_owner_writes_nothing_more(
    location: PostgresLocation,
) -> None:
    first, second = location.open_shared("m"), location.open_shared("m")
    first.own([1, 2])
    alert = replace(_alert(1), partition=1)
    assert save(first, {"a": b"1"}, [alert], [alert], hourly=[ROW])
    second.own([1])
    assert save(second, {"a": b"2"})
    assert second.taken() == [Taken([alert], {})]
    assert second.taken() == []
    assert not save(first, {"a": b"3", "b": b"3"}, hourly=[ROW])  # nothing at all: it knows nothing of the takeover
    assert first.is_fenced
    assert second.read_states(["a", "b"]) == {"a": b"2"}
    assert location.read_hourly("m", 0.0) == [ROW]


def test_who_leaves_a_partition_goes_on_with_the_others_and_may_take_it_over_again(location: PostgresLocation) -> None:
    first, second = location.open_shared("m"), location.open_shared("m")
    first.own([1, 2])
    settle(first)
    first.disown([1])
    second.own([1])
    assert save(second, {"a": b"1"})
    assert save(first, {"b": b"1"})
    second.disown([1])
    first.own([1])
    assert save(first, {"a": b"2"})
    assert save(second, {})
    assert [(one.slot, bool(one.about)) for one in location.read_claims("m")] == [("p1", True), ("p2", True)]


def test_a_partition_that_is_left_before_it_was_taken_over_is_taken_from_nobody(server: Postgres) -> None:
    location = PostgresLocation(server.url)
    first, second = location.open_shared("m"), location.open_shared("m")
    server.end()
    first.own([1])
    first.disown([1])
    server.start()
    second.own([1])
    settle(second)
    settle(first)
    assert save(second, {"a": b"1"})
    first.close()
    second.close()


def test_a_partition_that_comes_while_the_database_is_at_fault_is_taken_over_once_it_is_back(
    server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "PATIENCE_S", 0.3)
    location = PostgresLocation(server.url)
    first, second = location.open_shared("m"), location.open_shared("m")
    second.own([1, 2])
    alert = replace(_alert(1), partition=1)
    second.submit(Transaction({"a": b"1"}, [alert], [alert], decisions={"a": b"named"}))
    assert second.done(WAIT_S)[0].is_saved
    server.end()
    first.own([1, 2])
    first.disown([2])
    _wait(lambda: first.fault is not None)
    server.start()
    assert first.taken() == []
    retry(first)
    assert first.taken() == [Taken([alert], {"a": b"named"})]
    assert save(first, {"a": b"2"})
    assert not save(second, {"a": b"3"})
    assert second.is_fenced
    assert first.read_states(["a"]) == {"a": b"2"}
    first.close()
    second.close()


def test_only_a_store_that_machines_share_has_partitions(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs a store that they share"):
        locate(tmp_path).open_shared("m")


def test_its_condition_is_told_in_words(location: PostgresLocation, monkeypatch: pytest.MonkeyPatch) -> None:
    found, advice = location.examine()
    assert "PostgreSQL" in found
    assert "a commit takes" in found
    assert advice == ""
    monkeypatch.setattr("time.time", lambda: 1e9)
    found, advice = location.examine()
    assert "its clock is +" in found
    assert "time service" in advice


def test_many_that_write_at_once_do_not_wait_for_each_other_in_a_circle(location: PostgresLocation) -> None:
    stores = [location.open("m", number) for number in range(3)]
    devices = [f"d{number}" for number in range(50)]
    saved: list[bool] = []

    def write(store: PostgresStore, order: int) -> None:
        for number in range(20):
            states = dict.fromkeys(devices[::order], b"%d" % number)
            saved.append(save(store, states, [_alert(number, number * DAY_S)], hourly=[ROW]))

    threads = [
        threading.Thread(target=write, args=(store, order)) for store, order in zip(stores, (1, -1, 1), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert saved == [True] * 60
    assert location.read_hourly("m", 0.0) == [ROW._replace(beats=180, rr_ms=144_000)]


def test_what_others_have_decided_comes_with_a_partition_before_the_states_of_its_devices(
    location: PostgresLocation,
) -> None:
    first, second = location.open_shared("m"), location.open_shared("m")
    first.own([1])
    first.submit(Transaction({"a": b"1"}, decisions={"a": b"named"}))
    settle(first)
    second.own([1])
    second.ask(["a"])
    settle(second)
    assert second.answers() == []
    assert second.taken() == [Taken([], {"a": b"named"})]
    assert second.answers() == [("a", b"1")]


@pytest.mark.parametrize("is_idle", [True, False])
def test_who_stops_in_the_middle_of_a_transaction_holds_nobody_up_who_takes_over(
    location: PostgresLocation, monkeypatch: pytest.MonkeyPatch, is_idle: bool
) -> None:
    monkeypatch.setattr(postgres, "IDLE_MS", 200 if is_idle else 0)  # 0: never
    monkeypatch.setattr(postgres, "STUCK_S", 30.0 if is_idle else 0.5)
    first, second = location.open_shared("m"), location.open_shared("m")
    first.own([1])
    assert save(first, {"a": b"1"})
    with location.connect() as frozen:
        frozen.execute("BEGIN")
        frozen.execute("SELECT FROM claim WHERE slot = 'p1' FOR SHARE")
        second.own([1])
        assert save(second, {"a": b"2"})
        frozen.close()
    assert not save(first, {"a": b"3"})
    assert first.is_fenced
