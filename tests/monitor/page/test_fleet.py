"""Rows and alerts, made of the messages on the wire."""

from __future__ import annotations

from typing import Any

import pytest

from monitor import wire
from monitor.page.fleet import HEARD_S, MOST_ACTIVE, MOST_EPISODES, NOT_HEARD, SILENT_S, Fleet
from tests.monitor.page.messages import NOW_S, STRIP, active, alert, beat, state


def test_a_state_is_a_row() -> None:
    fleet = Fleet()
    fleet.take_state(state(name="Bed 3", rhythm="sinus rhythm", judged=0.9), NOW_S)
    row = fleet.rows["a"]
    assert (row.name, row.connection, row.heart_rate_bpm, row.rhythm) == ("Bed 3", "streaming", 72.0, "sinus rhythm")
    assert row.has_state


def test_an_alert_goes_through_its_life() -> None:
    fleet = Fleet()
    fleet.take_alert(alert(strip=STRIP), NOW_S)
    assert fleet.rows["a"].alerts == ["a:asystole"]
    fleet.take_alert(alert(state="acknowledged", time_s=NOW_S + 1, by="Ada"), NOW_S + 1)
    fleet.take_alert(alert(state="commented", time_s=NOW_S + 2, by="Bo", comment="artefact", right=False), NOW_S + 2)
    fleet.take_alert(alert(state="end", time_s=NOW_S + 9, reason="gone"), NOW_S + 9)
    episode = fleet.episodes["a:asystole"]
    assert (episode.acknowledged_by, episode.right, episode.ended_s, episode.reason) == (
        "Ada",
        False,
        NOW_S + 9,
        "gone",
    )
    assert [(step.state, step.by, step.text) for step in episode.steps] == [
        ("new", None, "No heartbeat for 6 s."),
        ("acknowledged", "Ada", None),
        ("commented", "Bo", "artefact"),
        ("end", None, "gone"),
    ]
    assert fleet.rows["a"].alerts == []
    assert fleet.strips("a:asystole") == {"new": STRIP}


def test_an_alert_that_is_delivered_twice_is_one() -> None:
    fleet = Fleet()
    for _ in range(2):
        fleet.take_alert(alert(), NOW_S)
        fleet.take_alert(alert(state="commented", time_s=NOW_S + 1, by="Bo", comment="artefact"), NOW_S)
    assert len(fleet.episodes["a:asystole"].steps) == 2


def test_who_comes_late_learns_of_active_alerts_from_the_state() -> None:
    fleet = Fleet()
    fleet.take_state(state(alerts=[active(alert(), acknowledged_by="Ada", acknowledged_s=NOW_S)]), NOW_S)
    assert fleet.rows["a"].alerts == ["a:asystole"]
    assert fleet.episodes["a:asystole"].acknowledged_by == "Ada"


def test_an_alert_whose_end_was_not_heard_ends_with_the_state() -> None:
    fleet = Fleet()
    fleet.take_alert(alert(), NOW_S)
    fleet.take_state(state(alerts=[]), NOW_S + HEARD_S - 1)
    assert fleet.rows["a"].alerts == ["a:asystole"], "the state may be older than the alert"
    fleet.take_state(state(alerts=[]), NOW_S + HEARD_S + 1)
    assert fleet.rows["a"].alerts == []


@pytest.mark.parametrize("what", ["commented", "acknowledged", "silenced"])
def test_an_answer_to_an_alert_of_long_ago_makes_nothing_active(what: wire.AlertState) -> None:
    fleet = Fleet()
    fleet.take_alert(alert(state=what, by="Ada", comment="artefact", right=False), NOW_S)
    episode = fleet.episodes["a:asystole"]
    assert (episode.is_active, episode.reason, episode.right) == (False, NOT_HEARD, False)
    assert not fleet.rows, "nothing says that the device is there"


@pytest.mark.parametrize("is_listed", [True, False])
def test_an_answered_alert_that_is_listed_or_goes_on_is_active_after_all(is_listed: bool) -> None:
    fleet = Fleet()
    fleet.take_alert(alert(state="acknowledged", by="Ada"), NOW_S)
    if is_listed:
        fleet.take_state(state(alerts=[active(alert(), acknowledged_by="Ada")]), NOW_S + 1)
    else:
        fleet.take_alert(alert(state="update", time_s=NOW_S + 1), NOW_S + 1)
    assert fleet.rows["a"].alerts == ["a:asystole"]
    assert fleet.episodes["a:asystole"].reason is None
    fleet.take_alert(alert(state="end", time_s=NOW_S + 9), NOW_S + 9)
    fleet.take_state(state(alerts=[active(alert())]), NOW_S + 9)
    assert fleet.rows["a"].alerts == [], "the state may be older than the end"


def test_the_gravest_alert_of_a_row_stands_first() -> None:
    fleet = Fleet()
    for kind, severity in (("gap", "technical"), ("pause", "medium"), ("asystole", "high")):
        fleet.take_alert(alert(kind=kind, severity=severity), NOW_S)
    assert fleet.rows["a"].alerts == ["a:asystole", "a:pause", "a:gap"]


def test_without_a_state_beats_and_silence_say_how_a_device_is() -> None:
    fleet = Fleet()
    fleet.take_beat(beat(), 0.95, NOW_S)
    assert (fleet.rows["a"].heart_rate_bpm, fleet.rows["a"].judged) == (75.0, 0.95)
    told: list[str] = []
    fleet.tick(NOW_S + SILENT_S + 1)
    told.append(fleet.rows["a"].connection)
    fleet.see("a", NOW_S + 20)
    told.append(fleet.rows["a"].connection)
    fleet.take_status("a", wire.DeviceStatus(state="offline"))
    told.append(fleet.rows["a"].connection)
    assert told == ["silent", "streaming", "offline"]


def test_with_a_state_beats_and_silence_do_not_contradict_it() -> None:
    fleet = Fleet()
    fleet.take_state(state(connection="lead-off", heart_rate_bpm=None), NOW_S)
    fleet.take_beat(beat(), 1.0, NOW_S)
    fleet.take_status("a", wire.DeviceStatus(state="offline"))
    fleet.tick(NOW_S + 100)
    assert (fleet.rows["a"].connection, fleet.rows["a"].heart_rate_bpm) == ("lead-off", None)


def test_a_browser_is_sent_what_changed_since() -> None:
    fleet = Fleet()
    fleet.take_state(state("a"), NOW_S)
    fleet.take_state(state("b"), NOW_S)
    version = fleet.version
    fleet.take_state(state("a", heart_rate_bpm=80.0), NOW_S + 1)
    assert [row.id for row in fleet.rows_since(version)] == ["a"]
    assert {row.id for row in fleet.rows_since(0)} == {"a", "b"}
    fleet.forget("b")
    assert fleet.gone_since(version) == ["b"]
    fleet.take_state(state("b"), NOW_S + 2)
    assert fleet.gone_since(version) == []


def test_memory_is_bounded_and_active_alerts_stay() -> None:
    fleet = Fleet()
    fleet.take_alert(alert("kept"), NOW_S)
    for i in range(MOST_EPISODES + 10):
        for what in ("new", "end"):
            fleet.take_alert(alert(f"d{i % 7}", episode=f"e{i}", id=f"{i}{what}", state=what), NOW_S)
    assert len(fleet.episodes) == MOST_EPISODES
    assert "kept:asystole" in fleet.episodes


def test_every_alert_of_an_outage_is_active_however_many_there_are() -> None:
    fleet = Fleet()
    fleet.take_alert(alert("over"), NOW_S)
    fleet.take_alert(alert("over", state="end"), NOW_S)
    for i in range(MOST_EPISODES + 10):
        fleet.take_alert(alert(f"d{i}", kind="device-silent", severity="technical"), NOW_S)
    assert len(fleet.episodes) == MOST_EPISODES + 10
    assert all(episode.is_active for episode in fleet.episodes.values())
    fleet.take_alert(alert("d3", kind="device-silent", state="end"), NOW_S)
    fleet.take_state(state("late", alerts=[active(alert("late"))]), NOW_S)
    assert fleet.rows["late"].alerts == ["late:asystole"]
    assert "d3:device-silent" not in fleet.episodes, "what is over goes first"


def test_nothing_is_left_of_devices_that_have_gone() -> None:
    fleet = Fleet()
    for i in range(3 * MOST_EPISODES):
        fleet.take_state(state(f"d{i}", alerts=[active(alert(f"d{i}"))]), NOW_S)
        fleet.take_state(state(f"d{i}"), NOW_S + HEARD_S + 1)
        fleet.forget(f"d{i}")
    assert len(fleet._of_device) == MOST_EPISODES


def test_active_alerts_are_bounded_as_well() -> None:
    fleet = Fleet()
    for i in range(MOST_ACTIVE + 2):
        fleet.take_alert(alert(f"d{i // 2}", episode=f"e{i}", id=f"e{i}"), NOW_S)
    assert len(fleet.episodes) == MOST_ACTIVE
    assert {"e0", "e1"}.isdisjoint(fleet.episodes)


@pytest.mark.parametrize("kind", ["a-kind-nobody-knows-yet", "asystole"])
def test_kinds_that_are_not_known_yet_are_shown(kind: str) -> None:
    fleet = Fleet()
    fleet.take_alert(alert(kind=kind), NOW_S)
    assert fleet.episodes[f"a:{kind}"].kind == kind


def test_what_was_retained_of_a_silent_device_is_as_old_as_its_signal() -> None:
    fleet = Fleet()
    fleet.take_state(state(connection="silent", heard_s=NOW_S - 240), NOW_S, is_retained=True)
    assert fleet.rows["a"].seen_s == NOW_S - 240
    fleet.take_state(state(connection="silent", name="Bed 4", heard_s=NOW_S - 240), NOW_S + 60)
    assert fleet.rows["a"].seen_s == NOW_S - 240, "that somebody named it is no signal"


@pytest.mark.parametrize("is_retained", [True, False])
def test_of_a_monitor_that_does_not_say_when_it_heard_a_silent_device_nothing_is_made_up(is_retained: bool) -> None:
    fleet = Fleet()
    fleet.take_state(state(connection="silent"), NOW_S, is_retained)
    assert fleet.rows["a"].seen_s == 0.0


@pytest.mark.parametrize(("shown_s", "ahead_s"), [(NOW_S - 30, 0.0), (NOW_S - 3600, -3600.0), (12.5, 12.5 - NOW_S)])
def test_a_device_s_clock_is_followed_if_it_is_wrong_by_more_than_a_delay(shown_s: float, ahead_s: float) -> None:
    fleet = Fleet()
    fleet.take_state(state(), NOW_S)
    fleet.note_clock("a", shown_s, NOW_S)
    assert fleet.rows["a"].ahead_s == ahead_s
    version = fleet.version
    fleet.note_clock("a", shown_s + 61, NOW_S + 60)
    assert fleet.version == version, "nothing is told that has not changed"


def test_an_alert_that_is_over_keeps_what_was_said_of_its_beats() -> None:
    fleet = Fleet()
    said: dict[str, Any] = {"label": "V", "probability": 0.9, "model": "nsv", "heart_rate_bpm": 160.0}
    fleet.take_alert(alert(beats=3, **said), NOW_S)
    fleet.take_alert(alert(state="end", beats=9, label="N", probability=0.1, heart_rate_bpm=70.0), NOW_S + 9)
    episode = fleet.episodes["a:asystole"]
    assert {name: getattr(episode, name) for name in said} == said
    assert (episode.beats, episode.is_active) == (9, False)


def test_an_end_that_was_not_heard_has_its_device_s_time() -> None:
    fleet = Fleet()
    fleet.take_alert(alert(since_s=100.0, time_s=103.0, completed_s=104.0), NOW_S)
    fleet.note_clock("a", 104.0, NOW_S)
    fleet.take_state(state(alerts=[], time_s=NOW_S + 60), NOW_S + 60)
    assert fleet.episodes["a:asystole"].ended_s == pytest.approx(164.0)
