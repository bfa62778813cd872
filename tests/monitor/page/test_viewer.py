"""What one page is sent, however slow it is."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from monitor.page.fleet import Fleet
from monitor.page.signal import HEADER, Chunk
from monitor.page.viewer import MOST_WAITING_S, MOST_WATCHED, ROWS_S, Viewer
from tests.monitor.page.messages import NOW_S, alert, beat, state


def _news(messages: list[str | bytes]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for message in messages:
        if isinstance(message, str):
            merged |= json.loads(message)
    return merged


def _frames(messages: list[str | bytes]) -> list[tuple[int, float]]:
    headers = [HEADER.unpack(message[: HEADER.size]) for message in messages if isinstance(message, bytes)]
    return [(header[2], header[4]) for header in headers]


def _chunk(start_s: float) -> Chunk:
    return Chunk(start_s, 125.0, np.zeros(125, np.int16))


def test_a_new_page_gets_all_rows_and_alerts_and_then_what_changed() -> None:
    fleet, viewer = Fleet(), Viewer(lambda: None)
    fleet.take_state(state("a"), NOW_S)
    fleet.take_state(state("b"), NOW_S)
    fleet.take_alert(alert("a"), NOW_S)
    first = _news(viewer.take(fleet, NOW_S))
    assert {row["id"] for row in first["rows"]} == {"a", "b"}
    assert [one["episode"] for one in first["alerts"]] == ["a:asystole"]
    assert first["all"], "a page that was open before forgets what this server does not know"
    assert viewer.take(fleet, NOW_S + 1) == []
    for bpm in (80.0, 81.0, 82.0):
        fleet.take_state(state("b", heart_rate_bpm=bpm), NOW_S + 1)
    assert [row["heart_rate_bpm"] for row in _news(viewer.take(fleet, NOW_S + 2))["rows"]] == [82.0]


def test_rows_wait_a_moment_and_alerts_do_not() -> None:
    woken: list[bool] = []
    fleet, viewer = Fleet(), Viewer(lambda: woken.append(True))
    viewer.take(fleet, NOW_S)
    fleet.take_state(state("a"), NOW_S)
    viewer.take(fleet, NOW_S)
    fleet.take_state(state("a", heart_rate_bpm=90.0), NOW_S)
    assert viewer.take(fleet, NOW_S + ROWS_S / 2) == []
    fleet.take_alert(alert("a"), NOW_S)
    viewer.hear_alert()
    assert woken
    assert "alerts" in _news(viewer.take(fleet, NOW_S + ROWS_S / 2))


def test_signal_goes_out_under_the_number_that_the_page_was_told() -> None:
    fleet, viewer = Fleet(), Viewer(lambda: None)
    viewer.watch(["a", "b"])
    numbers = _news(viewer.take(fleet, NOW_S))["numbers"]
    viewer.add_chunk("b", _chunk(NOW_S), 1.0)
    assert _frames(viewer.take(fleet, NOW_S)) == [(numbers["b"], NOW_S)]


def test_numbers_of_devices_on_a_page_stay_their_own_however_many_it_has_seen() -> None:
    viewer = Viewer(lambda: None)
    viewer.watch(["a"])
    for i in range(65_536):
        viewer.watch(["a", f"d{i}"])
        assert viewer.watched["a"] != viewer.watched[f"d{i}"]


def test_a_slow_page_gets_the_latest_signal_and_what_is_dropped_is_counted() -> None:
    fleet, viewer = Fleet(), Viewer(lambda: None)
    viewer.watch(["a"])
    for i in range(60):
        viewer.add_chunk("a", _chunk(NOW_S + i), 1.0)
    times = [time_s for _, time_s in _frames(viewer.take(fleet, NOW_S))]
    assert times[-1] == NOW_S + 59
    assert times[-1] + 1 - times[0] <= MOST_WAITING_S
    assert viewer.dropped == 60 - len(times)


def test_a_slow_page_gets_a_bounded_number_of_beats() -> None:
    fleet, viewer = Fleet(), Viewer(lambda: None)
    for i in range(5000):
        viewer.add_beat(beat(time_s=NOW_S + i))
    beats = _news(viewer.take(fleet, NOW_S))["beats"]
    assert len(beats) == 500
    assert beats[-1]["qrs_s"] == NOW_S + 4999


def test_what_is_watched_no_more_is_not_sent() -> None:
    fleet, viewer = Fleet(), Viewer(lambda: None)
    viewer.watch(["a", "b"])
    viewer.add_chunk("a", _chunk(NOW_S), 1.0)
    assert viewer.watch(["b", "c"]) == ({"c"}, {"a"})
    assert _frames(viewer.take(fleet, NOW_S)) == []


def test_a_page_watches_no_more_than_it_may() -> None:
    viewer = Viewer(lambda: None)
    viewer.watch(f"d{i}" for i in range(MOST_WATCHED + 5))
    assert len(viewer.watched) == MOST_WATCHED
