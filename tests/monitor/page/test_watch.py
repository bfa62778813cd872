"""Whether anybody is watched, by what monitors say of themselves, what the broker retained, and how old that is."""

from __future__ import annotations

import msgspec
import pytest

from monitor.page.hub import Heard, Hub
from monitor.service.settings import STATUS_S
from monitor.watching import OVERDUE_S, Away
from tests.monitor.page.fake_broker import FakeBroker
from tests.monitor.page.messages import NOW_S, TOPICS, heard, state, status


@pytest.fixture
def hub() -> Hub:
    """Connected to the broker."""
    made = Hub(TOPICS, FakeBroker())
    made.set_connected(True, NOW_S)
    return made


def _retained(message: Heard) -> Heard:
    return message._replace(retained=True)


def test_a_monitor_that_says_nothing_for_twice_its_interval_watches_nobody(hub: Hub) -> None:
    hub.take([status()], NOW_S)
    hub.tick(NOW_S + 2 * STATUS_S)
    assert (hub.watch_news.watched, hub.watch_news.overdue) == (True, [])
    hub.tick(NOW_S + 2 * STATUS_S + 1)
    news = hub.watch_news
    assert (news.watched, news.watched_s, news.overdue) == (False, NOW_S, ["monitor"])
    assert news.away == {"monitor": Away("overdue", NOW_S)}
    hub.take([status()], NOW_S + 60)
    assert (hub.watch_news.watched, hub.watch_news.watched_s, hub.watch_news.away) == (True, NOW_S + 60, {})


def test_nobody_is_watched_once_the_monitor_or_the_broker_is_gone(hub: Hub) -> None:
    hub.take([status()], NOW_S)
    hub.take([status(state="offline")], NOW_S + 5)
    assert not hub.watch_news.watched
    assert hub.watch_news.away == {"monitor": Away("offline", NOW_S)}
    hub.take([status()], NOW_S + 6)
    hub.set_connected(False, NOW_S + 7)
    assert (hub.watch_news.watched, hub.watch_news.watched_s, hub.watch_news.away) == (False, NOW_S + 6, {})


def test_of_two_monitors_the_one_that_is_overdue_is_named_and_watches_nobody(hub: Hub) -> None:
    hub.take([status("east"), status("west")], NOW_S)
    hub.take([status("west")], NOW_S + 20)
    hub.tick(NOW_S + 25)
    news = hub.watch_news
    assert (news.watched, news.watched_s, news.overdue) == (True, NOW_S + 20, ["east"])
    assert news.away == {"east": Away("overdue", NOW_S)}


def test_devices_are_told_with_the_monitor_that_watches_them(hub: Hub) -> None:
    hub.take([heard("a", "state", state(monitor="east")), heard("b", "state", state("b"))], NOW_S)
    assert [row.monitor for row in hub.fleet.rows.values()] == ["east", None]


def test_what_was_retained_just_now_says_that_somebody_is_watched(hub: Hub) -> None:
    hub.take([_retained(status(time_s=NOW_S - 8))], NOW_S)
    assert (hub.watch_news.watched, hub.watch_news.watched_s) == (True, NOW_S - 8)
    assert hub.take_doubtful() == set()
    hub.tick(NOW_S - 8 + OVERDUE_S + 1)
    assert not hub.watch_news.watched, "by its own age"


@pytest.mark.parametrize(
    ("time_s", "since_s"), [(NOW_S - 300, NOW_S - 300), (None, None), (NOW_S + 300, None)], ids=["old", "none", "ahead"]
)
def test_after_an_old_status_it_is_not_known_until_the_monitor_speaks_or_fails_to(
    hub: Hub, time_s: float | None, since_s: float | None
) -> None:
    hub.take([_retained(status(time_s=time_s))], NOW_S)
    assert (hub.watch_news.watched, hub.watch_news.away) == (False, {"monitor": Away("doubtful", since_s)})
    assert hub.watch_news.overdue == []
    assert hub.take_doubtful() == {"monitor"}, "it is asked"
    assert hub.take_doubtful() == set(), "once"
    hub.tick(NOW_S + OVERDUE_S + 1)
    assert hub.watch_news.away == {"monitor": Away("overdue", since_s)}
    hub.take([status(time_s=NOW_S + 30)], NOW_S + 30)
    assert (hub.watch_news.watched, hub.watch_news.away) == (True, {})


def test_a_connection_that_comes_back_makes_no_monitor_doubtful_that_was_just_heard(hub: Hub) -> None:
    hub.take([status()], NOW_S)
    hub.take([_retained(status(time_s=NOW_S))], NOW_S + 3)
    assert (hub.watch_news.watched, hub.take_doubtful()) == (True, set())


def test_a_monitor_that_left_has_watched_until_it_said_so(hub: Hub) -> None:
    hub.take([_retained(status(state="offline", time_s=NOW_S - 900))], NOW_S)
    assert hub.watch_news.away == {"monitor": Away("offline", NOW_S - 900)}
    assert hub.take_doubtful() == set()


def test_a_fleet_is_away_once_all_its_processes_are(hub: Hub) -> None:
    hub.take([status("one", fleet="ward"), status("two", fleet="ward")], NOW_S)
    hub.take([status("one", fleet="ward", state="offline")], NOW_S + 1)
    assert (hub.watch_news.watched, hub.watch_news.away) == (True, {})
    hub.take([status("two", fleet="ward", state="offline")], NOW_S + 9)
    assert hub.watch_news.away == {"ward": Away("offline", NOW_S)}


@pytest.mark.parametrize("ahead_s", [-300.0, 0.0, 2.0, 300.0])
def test_when_a_device_was_heard_is_by_the_page_s_clock(hub: Hub, ahead_s: float) -> None:
    silent = state(connection="silent", heard_s=NOW_S - 1000 + ahead_s, time_s=NOW_S + ahead_s)
    hub.take([_retained(heard("a", "state", silent)), status(time_s=NOW_S + ahead_s)], NOW_S)
    hub.take([_retained(heard("b", "state", msgspec.structs.replace(silent, device="b")))], NOW_S)
    assert [row.seen_s for row in hub.fleet.rows.values()] == pytest.approx([NOW_S - 1000] * 2, abs=5)


def test_a_name_that_is_given_up_watches_nobody(hub: Hub) -> None:
    hub.take([status()], NOW_S)
    hub.take([Heard(TOPICS.monitor_status("monitor"), b"")], NOW_S + 1)
    assert (hub.watch_news.watched, hub.watch_news.away) == (False, {})
