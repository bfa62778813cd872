"""Who is told of what, and when."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from datetime import datetime

import pytest

from monitor import wire
from monitor.notify.rules import Quiet, Rules, parse_quiet, parse_rule, parse_severities


def make_alert(number: int = 0, severity: wire.Severity = "high", **fields: object) -> wire.Alert:
    values = {
        "id": f"a-{number}-pause-new",
        "episode": f"a-{number}-pause",
        "device": "a",
        "kind": "pause",
        "state": "new",
        "time_s": 1_700_000_000.0,
        "since_s": 1_700_000_000.0,
        "text": "No heartbeat for 3.4 s.",
        "seq": 5,
        "completed_s": 1_700_000_001.0,
    }
    return wire.Alert(**values | {"severity": severity} | fields)  # type: ignore[arg-type] # as a test gives them


@pytest.fixture(autouse=True)
def _berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("rule", "alert", "tells"),
    [
        ("", {}, True),
        ("", {"severity": "low"}, False),
        ("", {"state": "end"}, False),
        ("", {"silenced": True}, False),
        ("silenced=true", {"silenced": True}, True),
        ("severity=low,technical", {"severity": "low"}, True),
        ("severity=low", {}, False),
        ("state=new,end", {"state": "end"}, True),
        ("device=bed-*", {"device": "bed-4"}, True),
        ("device=bed-?,a", {"device": "a"}, True),
        ("device=bed-*", {}, False),
        ("kind=pause,asystole", {}, True),
        ("kind=asystole", {}, False),
        ("kind=monitor-offline,later-*", {"kind": "later-kind"}, True),
        ("kind=*-tachycardia severity=high", {"kind": "ventricular-tachycardia"}, True),
    ],
)
def test_a_rule_is_about_priority_device_kind_and_state(rule: str, alert: dict[str, object], tells: bool) -> None:
    rules = Rules((parse_rule(rule),))
    assert rules.targets(make_alert(**alert), ["x"]) == (["x"] if tells else [])  # type: ignore[arg-type] # as above


def test_each_rule_says_where_and_none_tells_twice() -> None:
    rules = Rules(tuple(map(parse_rule, ("severity=high to=doctor", "severity=high,low to=nurse*", "to=doctor"))))
    names = ["doctor", "nurse-1", "nurse-2", "log"]
    assert rules.targets(make_alert(), names) == ["doctor", "nurse-1", "nurse-2"]
    assert rules.targets(make_alert(severity="low"), names) == ["nurse-1", "nurse-2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sevrity=high", "got 'sevrity=high' in a rule, did you mean severity?"),
        ("severity=hgih", "got severity='hgih' in a rule, expected high, medium, low, technical"),
        ("state=over", "got state='over' in a rule, expected new, update, end"),
        ("device", "got 'device' in a rule"),
        ("kind=pause,asytole", "got kind='asytole' in a rule, which no alert has, did you mean asystole?"),
        ("kind=x", "expected one of abnormal-beats, asystole"),
        ("silenced=maybe", "got silenced='maybe' in a rule, expected true, false"),
    ],
)
def test_a_rule_that_is_none_is_refused_with_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        parse_rule(text)
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["22-7", "24:00-07:00", "07:00-07:00", "22:00", "", "22:60-07:00"])
def test_quiet_hours_are_two_times_of_the_day(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="such as 22:00-07:00"):
        parse_quiet(text)


@pytest.mark.parametrize(
    ("quiet", "now", "until"),
    [
        ("22:00-07:00", "2026-01-10 21:59", None),
        ("22:00-07:00", "2026-01-10 22:00", "2026-01-11 07:00"),
        ("22:00-07:00", "2026-01-11 06:59", "2026-01-11 07:00"),
        ("22:00-07:00", "2026-01-11 07:00", None),
        ("13:00-14:30", "2026-01-11 13:10", "2026-01-11 14:30"),
        ("13:00-14:30", "2026-01-11 12:59", None),
        ("22:00-07:00", "2026-03-28 23:30", "2026-03-29 07:00"),  # the clocks go forward that night
    ],
)
def test_in_quiet_hours_alerts_wait_until_they_end(quiet: str, now: str, until: str | None) -> None:
    now_s = datetime.fromisoformat(now).timestamp()
    rules = Rules(quiet=parse_quiet(quiet))
    expected = now_s if until is None else datetime.fromisoformat(until).timestamp()
    assert rules.due_s(make_alert(severity="medium"), now_s) == expected


def test_high_priority_does_not_wait_unless_that_is_said() -> None:
    night_s = datetime.fromisoformat("2026-01-10 23:00").timestamp()
    quiet = Quiet(22 * 60, 7 * 60)
    assert Rules(quiet=quiet).due_s(make_alert(), night_s) == night_s
    assert Rules(quiet=quiet, passes=parse_severities("none")).due_s(make_alert(), night_s) > night_s
    medium = make_alert(severity="medium")
    assert Rules(quiet=quiet, passes=parse_severities("high,medium")).due_s(medium, night_s) == night_s
