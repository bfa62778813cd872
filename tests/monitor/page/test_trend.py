"""What is kept of a heart: rates every ten seconds for six hours, and counts of beats by class."""

from __future__ import annotations

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


def test_beats_are_counted_by_class_and_withheld_ones_by_reason() -> None:
    trend = Trend()
    for i in range(3):
        trend.note_beat(beat(time_s=NOW_S + i))
    trend.note_beat(beat(time_s=NOW_S + 3, verdict="withheld", label=None, reason="noise", heart_rate_bpm=None))
    assert trend.classes == {"N": 3, "withheld": 1}
    assert trend.reasons == {"noise": 1}
    assert trend.judged() == 0.75


def test_the_judged_share_is_that_of_the_last_minute() -> None:
    trend = Trend()
    trend.note_beat(beat(time_s=NOW_S - 100, verdict="withheld", label=None, reason="noise"))
    trend.note_beat(beat(time_s=NOW_S))
    assert trend.judged() == 1.0
    assert Trend().judged() is None
