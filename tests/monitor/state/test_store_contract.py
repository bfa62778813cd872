"""What every store promises: one test over all of them.

A new store joins by a class of its own in `STORES`: where it is, how it is broken so that nothing can be saved, and
how that is mended.
"""

from __future__ import annotations

import itertools
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import LiteralString
from uuid import uuid4

import psycopg
import pytest

from monitor.state.location import locate
from monitor.state.memory import MemoryLocation
from monitor.state.sqlite import SqliteStore
from monitor.state.store import (
    KEEP_STATE_S,
    HourlyRow,
    OutboxMessage,
    RequestRow,
    StateLocation,
    StateStore,
    Transaction,
)
from tests.monitor.state.saving import WAIT_S, find, prune, retry, save
from tests.monitor.state.slow import SlowMemoryLocation, SlowSqliteLocation, outcomes_of

NOW_S = 1e9
ROWS = [HourlyRow(5, "a", "normal", 3, 2400), HourlyRow(5, "a", "withheld", 1, 0), HourlyRow(6, "b", "V", 2, 1800)]


class _Case(ABC):
    """A kind of store under test."""

    location: StateLocation

    @abstractmethod
    def break_(self, store: StateStore) -> None:
        """Let nothing large be written; that shows when it is tried."""

    @abstractmethod
    def mend(self) -> None:
        """Let `retry` find that it can be written again."""


class _Sqlite(_Case):
    def __init__(self, folder: Path) -> None:
        self.location = locate(folder / "state")

    def break_(self, store: StateStore) -> None:
        assert isinstance(store, SqliteStore)
        assert store._connection is not None
        store._connection.execute("PRAGMA max_page_count = 1")  # as a full disk; a new connection knows nothing of it

    def mend(self) -> None:
        pass


class _Memory(_Case):
    def __init__(self, _folder: Path) -> None:
        location = locate(f"memory:{uuid4()}")
        assert isinstance(location, MemoryLocation)
        self.location = self._location = location

    def break_(self, store: StateStore) -> None:
        self._location.broken = "out of memory"

    def mend(self) -> None:
        self._location.broken = None


class _SlowSqlite(_Sqlite):
    def __init__(self, folder: Path) -> None:
        self.location = SlowSqliteLocation(folder / "state")


class _SlowMemory(_Memory):
    def __init__(self, _folder: Path) -> None:
        self.location = self._location = SlowMemoryLocation()


class _Postgres(_Case):
    def __init__(self, url: str) -> None:
        self.location = locate(url)
        self._url = url

    def break_(self, store: StateStore) -> None:
        self._execute("ALTER TABLE ecgwatch.device ADD CONSTRAINT disk_is_full CHECK (octet_length(state) < 50000)")
        self._execute("ALTER TABLE ecgwatch.decision ADD CONSTRAINT is_full CHECK (octet_length(content) < 50000)")

    def mend(self) -> None:
        self._execute("ALTER TABLE ecgwatch.device DROP CONSTRAINT disk_is_full")
        self._execute("ALTER TABLE ecgwatch.decision DROP CONSTRAINT is_full")

    def _execute(self, statement: LiteralString) -> None:
        with psycopg.connect(self._url) as connection:
            connection.execute(statement)


STORES = [_Sqlite, _SlowSqlite, _Memory, _SlowMemory, _Postgres]


@pytest.fixture(params=STORES, ids=lambda kind: kind.__name__.strip("_").lower())
def case(request: pytest.FixtureRequest, tmp_path: Path) -> _Case:
    """Return a kind of store, on a server of the tests' own where it needs one."""
    place = request.getfixturevalue("database_url") if request.param is _Postgres else tmp_path
    made: _Case = request.param(place)
    return made


@pytest.fixture
def location(case: _Case) -> StateLocation:
    return case.location


@pytest.fixture
def store(location: StateLocation) -> Iterator[StateStore]:
    opened = location.open("m")
    yield opened
    opened.close()


def _alert(number: int, published_s: float = 100.0, device: str = "a") -> OutboxMessage:
    return OutboxMessage(f"{device}-{number}", device, published_s, f"ecg/v1/{device}/alerts", b"{%d}" % number)


def _payloads(location: StateLocation, since_s: float = 0.0, device: str | None = None) -> list[bytes]:
    return [alert.payload for alert in location.read_history("m", since_s, device)]


def _health(store: StateStore) -> tuple[bool, int, int]:
    """Whether it has a fault; how often it was opened, and how often something was wrong."""
    return store.fault is not None, store.opened, store.faults


def _set_clock(monkeypatch: pytest.MonkeyPatch, now_s: float) -> None:
    monkeypatch.setattr("time.time", lambda: now_s)


def test_a_new_store_is_open_and_holds_nothing(store: StateStore, location: StateLocation) -> None:
    assert (store.fault, store.opened, store.faults) == (None, 1, 0)
    assert (store.read_states(["a"]), store.read_states([]), store.read_outbox(), store.done()) == ({}, {}, [], [])
    assert (location.read_history("m", 0.0), location.read_hourly("m", 0.0)) == ([], [])


def test_what_was_saved_is_there_when_it_is_opened_again(store: StateStore, location: StateLocation) -> None:
    assert save(store, {"a": b"state"}, [_alert(1)], [_alert(1)], hourly=ROWS)
    store.close()
    again = location.open("m")
    assert again.read_states(["a"]) == {"a": b"state"}
    assert again.read_outbox() == [_alert(1)]
    assert _payloads(location) == [b"{1}"]
    assert location.read_hourly("m", 0.0) == ROWS


def test_the_outcomes_come_once_each_in_the_order_of_submission(store: StateStore) -> None:
    transactions = [Transaction({"a": b"%d" % number}) for number in range(5)]
    for transaction in transactions:
        store.submit(transaction)
    outcomes = outcomes_of(store, len(transactions), WAIT_S)
    assert [outcome.transaction for outcome in outcomes] == transactions
    assert all(outcome.is_saved for outcome in outcomes)
    assert store.done() == []
    assert find(store, "a") == b"4"


def test_what_was_submitted_is_saved_before_it_is_closed(store: StateStore, location: StateLocation) -> None:
    store.submit(Transaction({"a": b"state"}))
    store.close()
    assert find(location.open("m"), "a") == b"state"


def test_many_devices_are_saved_and_found_at_once(store: StateStore) -> None:
    states = {f"d{number}": b"%d" % number for number in range(2000)}
    assert save(store, states)
    assert store.read_states([*states, "unknown"]) == states
    assert store.read_states(["d7", "d7"]) == {"d7": b"7"}


def test_states_that_are_asked_for_are_answered_once_each_after_what_was_submitted_before(store: StateStore) -> None:
    store.submit(Transaction({"a": b"1"}))
    store.ask(["a", "unknown"])
    store.submit(Transaction({"a": b"2", "b": b"3"}, forgotten=["c"]))
    store.ask(["b"])
    outcomes_of(store, 2, WAIT_S)
    assert find(store, "a") == b"2"
    assert store.answers() == [("a", b"1"), ("unknown", None), ("b", b"3")]
    assert store.answers() == []


def test_transactions_that_wait_together_lead_to_the_same_as_one_by_one(
    store: StateStore, location: StateLocation
) -> None:
    alert = _alert(1)
    transactions = [
        Transaction({"a": b"1", "b": b"1", "c": b"1"}, [alert], [alert], hourly=ROWS[:1]),
        Transaction({"d": b"2"}, confirmed=["a-1"], forgotten=["a", "b"], hourly=ROWS),
        Transaction({"b": b"3", "c": b"3"}, [_alert(2)], [_alert(2)]),
        Transaction(forgotten=["d"]),
    ]
    for transaction in transactions:
        store.submit(transaction)
    assert [outcome.is_saved for outcome in outcomes_of(store, 4, WAIT_S)] == [True] * 4
    assert store.read_states("abcd") == {"b": b"3", "c": b"3"}
    assert store.read_outbox() == [_alert(2)]
    assert _payloads(location) == [b"{1}", b"{2}"]
    assert location.read_hourly("m", 0.0) == [HourlyRow(5, "a", "normal", 6, 4800), *ROWS[1:]]


def test_an_empty_state_and_one_of_any_bytes_are_states(store: StateStore) -> None:
    states = {"empty": b"", "all": bytes(range(256)), "sensor é 'x'": b"\0"}
    assert save(store, states)
    assert store.read_states(list(states)) == states


def test_saving_the_same_alerts_again_changes_nothing(store: StateStore, location: StateLocation) -> None:
    alerts = [_alert(1), _alert(2)]
    for _ in range(2):
        assert save(store, published=alerts, unconfirmed=alerts)
    assert store.read_outbox() == alerts
    assert _payloads(location) == [b"{1}", b"{2}"]
    assert save(store, confirmed=["a-1"])
    assert save(store, published=alerts, confirmed=["a-1", "unknown"])
    assert store.read_outbox() == [_alert(2)]
    assert _payloads(location) == [b"{1}", b"{2}"]


def test_the_outbox_keeps_the_order_in_which_alerts_came(store: StateStore) -> None:
    alerts = [_alert(number, published_s=100.0 - number) for number in (3, 1, 2)]
    for alert in alerts:
        save(store, published=[alert], unconfirmed=[alert])
    assert store.read_outbox() == alerts
    save(store, confirmed=["a-1"])
    assert store.read_outbox() == [alerts[0], alerts[2]]


def test_an_alert_that_is_confirmed_in_its_own_transaction_is_not_in_the_outbox(
    store: StateStore, location: StateLocation
) -> None:
    save(store, published=[_alert(1)], unconfirmed=[_alert(1)], confirmed=["a-1"])
    assert store.read_outbox() == []
    assert _payloads(location) == [b"{1}"]


def test_a_state_is_not_returned_after_a_day(store: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    _set_clock(monkeypatch, NOW_S)
    save(store, {"old": b"state", "new": b"state"})
    _set_clock(monkeypatch, NOW_S + KEEP_STATE_S)
    save(store, {"new": b"newer"})
    assert store.read_states(["old", "new"]) == {"old": b"state", "new": b"newer"}
    _set_clock(monkeypatch, NOW_S + KEEP_STATE_S + 1)
    assert store.read_states(["old", "new"]) == {"new": b"newer"}
    prune(store, 0.0)
    assert store.read_states(["old", "new"]) == {"new": b"newer"}


def test_a_state_from_before_the_clock_was_set_back_ages_from_then_on(
    store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set_clock(monkeypatch, NOW_S)
    save(store, {"a": b"old", "b": b"old"})
    _set_clock(monkeypatch, NOW_S / 10)
    save(store, {"a": b"new"})
    prune(store, 0.0)
    assert store.read_states(["a", "b"]) == {"a": b"new", "b": b"old"}
    _set_clock(monkeypatch, NOW_S / 10 + KEEP_STATE_S + 1)
    assert store.read_states(["a", "b"]) == {}


def test_a_forgotten_device_has_no_state_until_it_gets_a_new_one(store: StateStore, location: StateLocation) -> None:
    save(store, {"a": b"old", "b": b"old", "c": b"old"})
    save(store, {"a": b"new"}, forgotten=["a", "b", "unknown"])
    expected = {"a": b"new", "c": b"old"}
    assert store.read_states(["a", "b", "c", "unknown"]) == expected
    store.close()
    assert location.open("m").read_states(["a", "b", "c", "unknown"]) == expected


def test_a_worker_finds_the_latest_state_whichever_worker_saved_it(location: StateLocation) -> None:
    first, second = location.open("m", 0), location.open("m", 1)
    save(first, {"a": b"old", "gone": b"old", "b": b"first"})
    save(second, {"a": b"new", "c": b"second"})
    save(location.open("other"), {"a": b"of another monitor"})
    save(location.open("m", 2), forgotten=["gone"])
    for worker in (None, 0, 3):
        found = location.open("m", worker).read_states(["a", "b", "c", "gone"])
        assert found == {"a": b"new", "b": b"first", "c": b"second"}


def test_each_worker_has_an_outbox_of_its_own_and_all_have_one_history(location: StateLocation) -> None:
    first, second = location.open("m", 0), location.open("m", 1)
    for worker, alert in ((first, _alert(2, 20.0)), (second, _alert(1, 10.0)), (first, _alert(3, 30.0))):
        save(worker, published=[alert], unconfirmed=[alert])
    assert [[alert.id for alert in worker.read_outbox()] for worker in (first, second)] == [["a-2", "a-3"], ["a-1"]]
    assert _payloads(location) == [b"{1}", b"{2}", b"{3}"]


def test_the_history_is_read_by_device_and_time_oldest_first(store: StateStore, location: StateLocation) -> None:
    alerts = [_alert(3, 30.0), _alert(1, 10.0), _alert(2, 20.0, "b")]
    save(store, published=alerts)
    assert location.read_history("m", 20.0) == [(20.0, b"{2}"), (30.0, b"{3}")]
    assert _payloads(location, device="a") == [b"{1}", b"{3}"]
    assert _payloads(location, device="c") == []
    assert location.read_history("other", 0.0) == []


def test_alerts_of_the_same_moment_keep_their_order(store: StateStore, location: StateLocation) -> None:
    save(store, published=[_alert(number) for number in (3, 1, 2)])
    assert _payloads(location) == [b"{3}", b"{1}", b"{2}"]


def test_old_alerts_go_unless_they_are_on_their_way(store: StateStore, location: StateLocation) -> None:
    alerts = [_alert(1, 10.0), _alert(2, 20.0), _alert(3, 30.0)]
    save(store, published=alerts, unconfirmed=alerts[:1])
    prune(store, 25.0)
    assert _payloads(location) == [b"{1}", b"{3}"]
    assert store.read_outbox() == alerts[:1]


def test_beats_of_an_hour_are_added_up_over_transactions_and_workers(
    location: StateLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = [location.open("m", number) for number in (0, 1)]
    for now_s, number, rows in ((36_000.0, 0, ROWS), (36_001.0, 1, ROWS[:1]), (43_300.0, 0, ROWS[:1])):
        _set_clock(monkeypatch, now_s)
        assert save(workers[number], hourly=rows)
    assert location.read_hourly("m", 0.0) == [HourlyRow(5, "a", "normal", 9, 7200), *ROWS[1:]]
    assert location.read_hourly("m", 0.0, "b") == ROWS[2:]
    assert location.read_hourly("m", 43_299.0) == ROWS[:1]
    for worker in workers:
        prune(worker, 43_200.0)
    assert location.read_hourly("m", 0.0) == ROWS[:1]


def test_a_transaction_that_fails_leaves_nothing_and_can_be_made_again(
    case: _Case, store: StateStore, location: StateLocation
) -> None:
    save(store, {"a": b"old", "gone": b"old"}, [_alert(1)], [_alert(1)], hourly=ROWS[:1])
    failing = Transaction(
        {"a": bytes(100_000)}, [_alert(2)], [_alert(2)], confirmed=["a-1"], forgotten=["gone"], hourly=ROWS
    )
    case.break_(store)
    store.submit(failing)
    store.submit(Transaction({"b": b""}))  # one that comes later is not saved either, though there would be room
    outcomes = outcomes_of(store, 2, WAIT_S)
    assert [outcome.is_saved for outcome in outcomes] == [False, False]
    assert _health(store) == (True, 1, 1)
    assert store.read_states(["a", "b", "gone"]) == {"a": b"old", "gone": b"old"}
    assert store.read_outbox() == [_alert(1)]
    assert _payloads(location) == [b"{1}"]
    assert location.read_hourly("m", 0.0) == ROWS[:1]
    prune(store, 1e12)
    assert _payloads(location) == [b"{1}"]
    case.mend()
    assert not save(store, {"b": b""})  # nothing is tried before `retry`
    retry(store)
    assert _health(store) == (False, 2, 1)
    store.submit(failing)
    assert [outcome.is_saved for outcome in store.done(WAIT_S)] == [True]
    assert store.read_states(["a", "b", "gone"]) == {"a": bytes(100_000)}
    assert store.read_outbox() == [_alert(2)]
    assert location.read_hourly("m", 0.0) == [HourlyRow(5, "a", "normal", 6, 4800), *ROWS[1:]]  # once, not twice


def test_a_healthy_store_is_not_opened_again(store: StateStore) -> None:
    retry(store)
    assert (store.opened, store.faults) == (1, 0)


def test_a_location_knows_who_has_kept_something(store: StateStore, location: StateLocation) -> None:
    assert location.has_kept("m")
    assert not location.has_kept("other")
    assert not location.has_kept("m.0")
    location.open("other", 1)
    assert location.has_kept("other")


def test_a_name_is_held_by_one_at_a_time_and_waited_for(location: StateLocation) -> None:
    entered, stopping = threading.Event(), threading.Event()

    def wait_for_it() -> None:
        with location.hold("m", stopping.is_set):
            entered.set()

    waiting = threading.Thread(target=wait_for_it)
    with location.hold("m", lambda: False), location.try_hold("m") as is_ours:
        assert not is_ours
        waiting.start()
        assert not entered.wait(0.2)
    assert entered.wait(WAIT_S)
    waiting.join()
    with location.try_hold("m") as is_ours:
        assert is_ours


def test_waiting_for_a_name_ends_when_the_process_is_to_stop(location: StateLocation) -> None:
    asked = itertools.count()
    with location.hold("m", lambda: False), location.hold("m", lambda: next(asked) > 2):
        pass
    with location.try_hold("m") as is_ours:
        assert is_ours  # who has gone on without the name takes it from nobody


def test_names_that_were_held_are_known_until_they_are_dropped(location: StateLocation) -> None:
    for name in ("m", "m.1", "m.0", "m.workers", "m.0.1", "other"):
        with location.hold(name, lambda: False):
            pass
    assert location.names_held("m") == ["m", "m.0", "m.1"]
    with location.try_hold("m.0") as is_ours:
        assert is_ours
        location.drop_name("m.0")
    assert location.names_held("m") == ["m", "m.1"]
    with location.try_hold("m.0") as is_ours:
        assert not is_ours  # only what was held before


def test_what_goes_wrong_while_a_name_is_held_is_not_swallowed(location: StateLocation) -> None:
    with location.hold("m", lambda: False):
        pass
    with pytest.raises(OSError, match="of the caller"), location.try_hold("m"):
        raise OSError("of the caller")
    with location.try_hold("m") as is_ours:
        assert is_ours


def _request(number: int, made_s: float = 100.0, device: str = "a") -> RequestRow:
    return RequestRow(f"id-{number}", made_s, device, "comment", "anna", b'{"text": "%d"}' % number, "Noted.")


def _submit(store: StateStore, transaction: Transaction) -> bool:
    store.submit(transaction)
    [outcome] = store.done(WAIT_S)
    return outcome.is_saved


def test_what_people_decided_replaces_what_they_had_decided_before(store: StateStore, location: StateLocation) -> None:
    assert store.read_decisions() == {}
    _submit(store, Transaction(decisions={"a": b"old", "b": b"kept"}))
    _submit(store, Transaction(decisions={"a": b"new"}, forgotten=["a", "b"]))
    store.close()
    assert location.open("m").read_decisions() == {"a": b"new", "b": b"kept"}
    assert location.open("other").read_decisions() == {}


def test_decisions_do_not_age(store: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    _set_clock(monkeypatch, NOW_S)
    _submit(store, Transaction(decisions={"a": b"old"}))
    _set_clock(monkeypatch, NOW_S + 1000 * KEEP_STATE_S)
    store.prune(NOW_S + 1000 * KEEP_STATE_S)
    assert store.read_decisions() == {"a": b"old"}


def test_a_worker_finds_the_latest_decision_whichever_worker_saved_it(
    location: StateLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = location.open("m", 0), location.open("m", 1)
    for now_s, worker, decided in ((1.0, first, b"old"), (2.0, second, b"new")):
        _set_clock(monkeypatch, NOW_S + now_s)
        _submit(worker, Transaction(decisions={"a": decided}))
    assert [location.open("m", worker).read_decisions() for worker in (None, 0, 2)] == [{"a": b"new"}] * 3


def test_requests_are_kept_once_and_found_by_id_time_and_device(store: StateStore, location: StateLocation) -> None:
    rows = [_request(1, 30.0), _request(2, 10.0), _request(3, 20.0, "b")]
    for _ in range(2):
        assert _submit(store, Transaction(requests=rows))
    assert _submit(store, Transaction(requests=[rows[0]._replace(answer="Another.")]))
    store.prune(1e12)
    assert store.find_request("id-1") == rows[0]
    assert store.find_request("unknown") is None
    assert location.read_requests("m", 0.0) == [rows[1], rows[2], rows[0]]
    assert location.read_requests("m", 15.0, "a") == [rows[0]]
    assert location.read_requests("other", 0.0) == []


def test_an_alert_that_was_judged_is_kept_however_old(store: StateStore, location: StateLocation) -> None:
    judged, other = replace(_alert(1, 10.0), episode="a-1-x"), replace(_alert(2, 10.0), episode="a-2-x")
    save(store, published=[judged, other])
    rows = [_request(1)._replace(verb="judge", episode="a-1-x"), _request(2)._replace(episode="a-2-x")]
    assert _submit(store, Transaction(requests=rows))
    prune(store, 50.0)
    assert _payloads(location) == [b"{1}"]


def test_a_request_is_found_whichever_worker_granted_it(location: StateLocation) -> None:
    first, second = location.open("m", 0), location.open("m", 1)
    _submit(first, Transaction(requests=[_request(1, 20.0)]))
    _submit(second, Transaction(requests=[_request(2, 10.0)]))
    assert location.open("m", 2).find_request("id-1") == _request(1, 20.0)
    assert location.read_requests("m", 0.0) == [_request(2, 10.0), _request(1, 20.0)]


def test_an_alert_is_found_by_its_episode(store: StateStore, location: StateLocation) -> None:
    new, end, other = (replace(_alert(number), episode=of) for number, of in ((1, "a-1-x"), (2, "a-1-x"), (3, "a-3-x")))
    save(store, published=[new, end, other], unconfirmed=[new, end, other])
    for reader in (store, location.open("m", 1)):
        assert reader.find_alert("a", "a-1-x") == b"{1}"
        assert reader.find_alert("a", "a-3-x") == b"{3}"
        assert reader.find_alert("a", "a-2-x") is None
        assert reader.find_alert("b", "a-1-x") is None
    assert store.read_outbox() == [new, end, other]


def test_a_long_alert_is_the_same_when_it_is_read(store: StateStore, location: StateLocation) -> None:
    long = replace(_alert(1), payload=b'{"samples": [%s]}' % b",".join(b"%d" % (i % 300) for i in range(2000)))
    save(store, published=[long], unconfirmed=[long])
    assert _payloads(location) == [long.payload]
    assert store.read_outbox() == [long]


def test_devices_that_have_a_state_are_known_however_old_it_is(
    location: StateLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = location.open("m", 0), location.open("m", 1)
    _set_clock(monkeypatch, NOW_S)
    save(first, {"b": b"old", "a": b"old", "gone": b"old"})
    _set_clock(monkeypatch, NOW_S + KEEP_STATE_S + 1)
    save(second, {"c": b"new"}, forgotten=["gone"])
    assert first.read_states(["a"]) == {}
    assert location.open("m", 2).read_devices() == ["a", "b", "c"]


def test_decisions_and_requests_that_cannot_be_saved_are_not_there(case: _Case, store: StateStore) -> None:
    case.break_(store)
    large = Transaction(decisions={"a": bytes(100_000)}, requests=[_request(1)])
    assert not _submit(store, large)
    assert (store.read_decisions(), store.find_request("id-1")) == ({}, None)
    case.mend()
    store.retry()
    assert _submit(store, large)
    assert store.find_request("id-1") == _request(1)


def test_erased_device_is_gone_and_the_others_stay(store: StateStore, location: StateLocation) -> None:
    alerts = [_alert(1), _alert(2, device="b"), _alert(3, device="a_"), _alert(4, device="ab")]
    states = {"a": b"state", "b": b"other", "a_": b"third"}
    assert save(store, states, alerts, alerts, hourly=ROWS)
    _submit(store, Transaction(decisions={"a": b"old", "b": b"kept"}, requests=[_request(1), _request(2, device="b")]))
    store.close()
    deleted = location.erase("m", "a")
    assert sorted((what, count) for what, count in deleted.items() if count) == [
        ("alert", 1), ("decision", 1), ("device", 1), ("hourly", 2), ("outbox", 1), ("request", 1),
    ]  # fmt: skip
    again = location.open("m")
    assert again.read_states(["a", "b", "a_"]) == {"b": b"other", "a_": b"third"}
    assert again.read_outbox() == alerts[1:]
    assert _payloads(location) == [b"{2}", b"{3}", b"{4}"]
    assert location.read_hourly("m", 0.0) == [row for row in ROWS if row.device != "a"]
    assert again.read_decisions() == {"b": b"kept"}
    assert [row.id for row in location.read_requests("m", 0.0)] == ["id-2"]
    assert sum(location.erase("nobody", "a").values()) == 0


def test_devices_are_erased_by_a_store_that_is_open(store: StateStore, location: StateLocation) -> None:
    alerts = [_alert(1), _alert(2, device="b")]
    assert save(store, {"a": b"state", "b": b"other"}, alerts, alerts, hourly=ROWS)
    assert _submit(store, Transaction(decisions={"a": b"old"}, requests=[_request(1), _request(2, device="b")]))
    assert store.count("a") == {"alert": 1, "decision": 1, "device": 1, "hourly": 2, "outbox": 1, "request": 1}
    assert _submit(store, Transaction(erased={"a"}, requests=[_request(3, device="")]))
    assert sum((store.count("a") or {"?": 1}).values()) == 0
    assert store.read_states(["a", "b"]) == {"b": b"other"}
    assert _payloads(location) == [b"{2}"]
    assert [row.id for row in location.read_requests("m", 0.0)] == ["id-2", "id-3"]
    assert location.read_hourly("m", 0.0) == [row for row in ROWS if row.device != "a"]


def test_what_is_saved_after_a_device_was_erased_stays(store: StateStore, location: StateLocation) -> None:
    """Also where the store writes all of it as one, and within one transaction."""
    for transaction in (
        Transaction({"a": b"1"}, [_alert(1)], [_alert(1)], hourly=ROWS, decisions={"a": b"1"}, requests=[_request(1)]),
        Transaction({"a": b"2"}, [_alert(2)], erased={"a"}),
        Transaction(hourly=ROWS[:1], requests=[_request(2)]),
    ):
        store.submit(transaction)
    assert all(outcome.is_saved for outcome in outcomes_of(store, 3, WAIT_S))
    assert store.count("a") == {"alert": 1, "decision": 0, "device": 1, "hourly": 1, "outbox": 0, "request": 1}
    assert store.read_states(["a"]) == {"a": b"2"}


def test_a_device_is_erased_from_what_other_workers_saved(location: StateLocation) -> None:
    first, second = location.open("m", 0), location.open("m", 1)
    assert save(first, {"a": b"state", "b": b"other"}, [_alert(1)], [_alert(1)])
    assert save(second, {"a": b"newer"})
    assert _submit(second, Transaction(erased={"a"}))
    assert sum((second.count("a") or {"?": 1}).values()) == 0
    assert (first.read_states(["a", "b"]), first.read_outbox()) == ({"b": b"other"}, [])
    assert save(first, {"b": b"goes on"})
    second.close()
    first.close()
