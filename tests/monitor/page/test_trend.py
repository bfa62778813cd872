"""What is kept of a heart: rates every ten seconds for six hours, and counts of beats by class."""

from __future__ import annotations

import pytest

from monitor.page.trend import BIN_S, BINS, Trend
from tests.monitor.page.messages import NOW_S, beat


def test_rates_stand_where_they_were_and_gaps_stay_gaps() -> None:
    trend = Trend()
    trend.note_rate(NOW_S, 70.0)
    trend.note_rate(NOW_S + 3 * BIN_S, 80.0)
    content = trend.as_json()
    assert content["bpm"] == [70.0, None, None, 80.0]
    assert content["newest_s"] == (NOW_S + 3 * BIN_S) // BIN_S * BIN_S


def test_six_hours_are_kept() -> None:
    trend = Trend()
    for i in range(BINS + 100):
        trend.note_rate(NOW_S + i * BIN_S, float(i))
    content = trend.as_json()
    assert len(content["bpm"]) == BINS
    assert content["bpm"][0] == 100.0


def test_a_long_silence_leaves_nothing_of_what_was_before() -> None:
    trend = Trend()
    trend.note_rate(NOW_S, 70.0)
    trend.note_rate(NOW_S + 10 * BINS * BIN_S, 80.0)
    assert trend.as_json()["bpm"] == [80.0]


def test_a_rate_from_the_past_is_put_in_its_place_and_an_older_one_left_out() -> None:
    trend = Trend()
    trend.note_rate(NOW_S, 70.0)
    trend.note_rate(NOW_S - 2 * BIN_S, 60.0)
    trend.note_rate(NOW_S - 2 * BINS * BIN_S, 50.0)
    assert trend.as_json()["bpm"] == [60.0, None, 70.0]


def test_a_stamp_from_the_future_does_not_end_the_trend() -> None:
    trend = Trend()
    trend.note_beat(beat(time_s=NOW_S + 1e9, heart_rate_bpm=50.0), NOW_S)
    for i in range(1, 4):
        trend.note_beat(beat(time_s=NOW_S + i * BIN_S, heart_rate_bpm=60.0 + i), NOW_S + i * BIN_S)
    trend.note_told(NOW_S + 1e9, 99.0, NOW_S + 30 * BIN_S)
    content = trend.as_json()
    assert content["bpm"][:4] == [50.0, 61.0, 62.0, 63.0]
    assert content["newest_s"] == NOW_S + 30 * BIN_S
    assert [one[0] for one in content["beats"]] == [NOW_S + i * BIN_S for i in range(4)]


def test_a_clock_that_was_never_set_leaves_rates_where_they_arrive() -> None:
    trend = Trend()
    for i in range(3):
        trend.note_beat(beat(time_s=i * BIN_S, heart_rate_bpm=60.0 + i), NOW_S + i * BIN_S)
    assert trend.as_json()["bpm"] == [60.0, 61.0, 62.0]


def test_rates_of_two_clocks_are_not_mixed() -> None:
    late_s, trend = 3600.0, Trend()
    for i in range(12):
        trend.note_beat(beat(time_s=NOW_S - late_s + i * BIN_S), NOW_S + i * BIN_S)
        trend.note_told(NOW_S + i * BIN_S, 99.0, NOW_S + i * BIN_S)
    assert trend.as_json()["bpm"] == [75.0] * 12
    trend.note_told(NOW_S + 20 * BIN_S, 99.0, NOW_S + 20 * BIN_S)
    assert trend.as_json()["bpm"][-1] == 99.0, "no beats come any more"


def test_beats_are_counted_by_class_and_withheld_ones_by_reason() -> None:
    trend = Trend()
    for i in range(3):
        trend.note_beat(beat(time_s=NOW_S + i), NOW_S)
    trend.note_beat(beat(time_s=NOW_S + 3, verdict="withheld", label=None, reason="noise", heart_rate_bpm=None), NOW_S)
    assert trend.classes == {"N": 3, "withheld": 1}
    assert trend.reasons == {"noise": 1}
    assert trend.judged() == 0.75


def test_the_judged_share_is_that_of_the_last_minute() -> None:
    trend = Trend()
    trend.note_beat(beat(time_s=NOW_S - 100, verdict="withheld", label=None, reason="noise"), NOW_S)
    trend.note_beat(beat(time_s=NOW_S), NOW_S)
    assert trend.judged() == 1.0
    assert Trend().judged() is None


@pytest.mark.parametrize("ahead_s", [-86_400.0, 3600.0])
def test_beats_of_a_clock_that_is_wrong_stand_where_they_were(ahead_s: float) -> None:
    trend = Trend()
    for i in range(3):
        stamp_s = NOW_S + i * BIN_S + ahead_s - 4.0  # told four seconds later
        trend.note_beat(beat(time_s=stamp_s, heart_rate_bpm=60.0 + i), NOW_S + i * BIN_S, ahead_s)
    assert [one[0] for one in trend.as_json()["beats"]] == [NOW_S + i * BIN_S - 4.0 for i in range(3)]
