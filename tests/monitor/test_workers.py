"""Several workers speak with one voice."""

from __future__ import annotations

from typing import Any

from monitor import wire
from monitor.workers import add_up


def _status(state: wire.MonitorState = "online", **fields: Any) -> wire.MonitorStatus:
    return wire.MonitorStatus(state=state, version="1", model="ptb", model_sha256="ab", since_s=1.0, **fields)


BLANK = wire.MonitorStatus(state="online", version="1", model="", model_sha256="", since_s=0.0)


def test_counts_are_added_up_and_the_worst_of_all_else_is_told() -> None:
    one = _status(
        counts={"packets": 3, "gaps": 1}, devices=3, streaming=1, lead_off=1, silent=1, behind_s=0.1, heard_s=9.0
    )
    other = _status(
        "overloaded",
        counts={"packets": 4},
        devices=2,
        streaming=2,
        behind_s=7.0,
        overloaded_since_s=50.0,
        lateness_s=8.0,
        heard_s=20.0,
    )
    told = add_up(BLANK, [one, other])
    assert told.counts == {"packets": 7, "gaps": 1}
    assert (told.devices, told.streaming, told.lead_off, told.silent) == (5, 3, 1, 1)
    assert (told.state, told.behind_s, told.overloaded_since_s, told.lateness_s) == ("overloaded", 7.0, 50.0, 8.0)
    assert (told.model, told.since_s, told.heard_s) == ("ptb", 0.0, 20.0)


def test_who_says_goodbye_is_not_overloaded() -> None:
    offline = add_up(_status("offline"), [_status("overloaded", overloaded_since_s=50.0)])
    assert (offline.state, offline.overloaded_since_s) == ("offline", None)


def test_without_any_worker_nothing_is_known() -> None:
    assert add_up(BLANK, []) == BLANK
