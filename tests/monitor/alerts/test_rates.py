"""Alerts about how fast the heart beats, and whether it does."""

from __future__ import annotations

import numpy as np
import pytest

from monitor.alerts.episode import AlertSettings
from monitor.alerts.finding import NORMAL, WITHHELD
from monitor.alerts.limits import Limits, parse_limits
from monitor.alerts.registry import make_detectors
from tests.monitor.alerts.player import Beat, Moment, Player, Step

NOISE = Beat(0.8, WITHHELD, is_poor=True)


def _beats(rr_s: float, n: int) -> list[Step]:
    return [Beat(rr_s, NORMAL, 0.1)] * n


def _play(*parts: list[Step], limits: Limits | None = None) -> list[str]:
    """Play steps one by one; return kinds and states of the alerts."""
    player = Player(make_detectors(AlertSettings(limits=limits or Limits())))
    for part in parts:
        for step in part:
            player.play([step])
    return [f"{alert.kind} {alert.state}" for alert in player.alerts]


def _texts(*parts: list[Step]) -> list[str]:
    player = Player(make_detectors(AlertSettings()))
    player.play([step for part in parts for step in part])
    return [alert.text for alert in player.alerts]


def test_a_healthy_heart_is_left_alone() -> None:
    assert _play(_beats(0.8, 50), _beats(1.2, 50), _beats(0.5, 50)) == []


def test_a_heart_that_stops_is_alerted_once_and_until_it_beats_again() -> None:
    silence: list[Step] = [Moment(5.0, "no-beats"), Moment(1.0, "no-beats"), Moment(1.0, "no-beats")]
    assert _play(_beats(0.8, 20), silence) == ["asystole new"]
    assert _play(_beats(0.8, 20), silence, _beats(0.8, 20)) == ["asystole new", "asystole end"]


@pytest.mark.parametrize("silence_s", [4.2, 12.0])
def test_a_silence_has_no_heart_rate_and_is_no_part_of_the_one_after_it(silence_s: float) -> None:
    player = Player(make_detectors(AlertSettings()))
    silence: list[Step] = [Moment(4.1, "no-beats"), *_beats(silence_s - 4.1, 1)]
    rates_bpm = []
    for step in [*_beats(0.8, 20), *silence, *_beats(1.0, 4)]:
        player.play([step])
        rates_bpm += player.rhythms.summarise([player.device])[1].tolist()
    assert rates_bpm[-5:] == pytest.approx([np.nan, np.nan, np.nan, 60, 60], nan_ok=True)  # it needs three intervals
    told = [(alert.kind, alert.state, alert.heart_rate_bpm) for alert in player.alerts]
    assert told == [("asystole", "new", None), ("asystole", "end", pytest.approx(60))]


def test_a_silence_in_one_long_packet_is_alerted_by_the_beat_that_ends_it() -> None:
    assert _play(_beats(0.8, 20), _beats(6.0, 1), _beats(0.8, 10)) == ["asystole new", "asystole end"]


def test_a_silence_after_noise_is_no_asystole() -> None:
    assert "asystole new" not in _play(_beats(0.8, 20), [NOISE] * 8, [Moment(5.0, "no-beats")])


def test_a_silence_in_which_beats_may_be_hidden_is_no_asystole() -> None:
    assert _play(_beats(0.8, 20), [Moment(5.0, "no-beats", is_doubtful=True)]) == []


def test_signal_that_never_had_beats_is_technical() -> None:
    assert _play([Moment(5.0, "no-beats")]) == []
    assert _play([Moment(12.0, "no-beats")]) == ["no-beats new"]


def test_an_electrode_that_comes_off_ends_what_is_open() -> None:
    player = Player(make_detectors(AlertSettings()))
    player.play([*_beats(0.8, 20), Moment(5.0, "no-beats"), Moment(1.0, "lead-off")])
    end = next(alert for alert in player.alerts if alert.state == "end")
    assert (end.kind, end.reason) == ("asystole", "lead-off")


def test_an_interval_over_an_electrode_that_was_off_is_no_pause() -> None:
    assert "pause new" not in _play(_beats(0.8, 20), [Moment(1.0, "lead-off")], _beats(2.5, 1), _beats(0.8, 5))


def test_a_pause_is_alerted_and_over_with_the_next_beat() -> None:
    assert _play(_beats(0.8, 20), _beats(3.4, 1), _beats(0.8, 20)) == ["pause new", "pause end"]
    assert _play(_beats(0.8, 20), _beats(2.9, 1), _beats(0.8, 20)) == []


@pytest.mark.parametrize(
    ("rr_s", "kind"),
    [(1.6, "bradycardia"), (2.4, "extreme-bradycardia"), (0.4, "tachycardia"), (0.3, "extreme-tachycardia")],
)
def test_a_rate_beyond_a_limit_is_alerted_and_ends_back_inside(rr_s: float, kind: str) -> None:
    alerts = _play(_beats(0.8, 20), _beats(rr_s, 40), _beats(0.8, 40))
    mine = [alert for alert in alerts if alert.startswith(f"{kind} ") and not alert.endswith("update")]
    assert mine == [f"{kind} new", f"{kind} end"]


def _each(*rr_s: float) -> list[Step]:
    return [step for one in rr_s for step in _beats(one, 1)]


@pytest.mark.parametrize("rr_s", [(0.36,), (0.41, 0.3, 0.42, 0.38), (0.5, 0.35, 0.41, 0.35)])
def test_a_fast_rate_is_told_by_three_means_of_eight_intervals(rr_s: tuple[float, ...]) -> None:
    """By the tenth fast beat, or the eleventh where some of its intervals are longer."""
    fast = _each(*rr_s * 16)[:12]
    assert _play(_beats(0.8, 20), fast[:8]) == []
    assert _play(_beats(0.8, 20), fast) == ["tachycardia new"]


@pytest.mark.parametrize("rr_s", [(0.22, 0.58), (0.25, 0.25, 0.25, 0.65), (0.3, 0.2, 0.6, 0.4)])
def test_a_fast_mean_of_intervals_that_differ_too_much_is_no_fast_rate(rr_s: tuple[float, ...]) -> None:
    told = _play(_beats(0.8, 20), _each(*rr_s * 10), _beats(0.8, 20))
    assert not any("tachycardia" in one for one in told)


@pytest.mark.parametrize(("rr_s", "other_s"), [(0.40, 0.46), (1.6, 1.4)])
def test_a_rate_that_stays_near_its_limit_is_told_once(rr_s: float, other_s: float) -> None:
    told = _play(_beats(0.8, 20), [*_beats(rr_s, 14), *_beats(other_s, 14)] * 6)
    assert [one.split()[1] for one in told if not one.endswith("update")] == ["new"]


@pytest.mark.parametrize("rr_s", [0.36, 1.7])
def test_a_rate_that_comes_back_is_told_again(rr_s: float) -> None:
    told = _play(_beats(0.8, 20), _beats(rr_s, 20), _beats(0.8, 50), _beats(rr_s, 20))
    assert [one.split()[1] for one in told] == ["new", "end", "new"]


@pytest.mark.parametrize("rr_s", [1.52, 1.6, 1.9])
def test_a_slow_heart_is_told_after_three_equal_intervals(rr_s: float) -> None:
    assert _play(_beats(0.8, 20), _beats(rr_s, 2)) == []
    assert _play(_beats(0.8, 20), _beats(rr_s, 3)) == ["bradycardia new"]


@pytest.mark.parametrize("rr_s", [(1.4, 1.9, 1.7), (1.8, 1.9, 1.3), (1.3, 1.5, 1.9), (1.9, 1.3, 1.9)])
def test_a_slow_heart_is_told_after_three_long_intervals_that_differ_by_half_at_most(rr_s: tuple[float, ...]) -> None:
    slow = [step for one in rr_s for step in _beats(one, 1)]
    assert _play(_beats(0.8, 20), slow[:2]) == []
    assert _play(_beats(0.8, 20), slow) == ["bradycardia new"]


@pytest.mark.parametrize("rr_s", [(1.1, 1.8, 1.7), (1.25, 2.6, 1.3), (1.9, 1.1, 1.9)])
def test_a_pause_beside_shorter_intervals_is_no_slow_heart(rr_s: tuple[float, ...]) -> None:
    assert _play(_beats(0.8, 20), [step for one in rr_s for step in _beats(one, 1)], _beats(0.8, 20)) == []


def test_three_long_intervals_that_differ_by_more_are_no_slow_heart_yet() -> None:
    unequal = [step for rr_s in (1.3, 2.0, 1.6) for step in _beats(rr_s, 1)]
    assert _play(_beats(0.8, 20), unequal) == []
    assert _play(_beats(0.8, 20), unequal, _beats(1.6, 1)) == ["bradycardia new"]


def test_nor_are_three_with_a_beat_of_bad_signal() -> None:
    assert _play(_beats(0.8, 20), _beats(1.6, 1), [Beat(1.6, WITHHELD, is_poor=True)], _beats(1.6, 1)) == []


@pytest.mark.parametrize(("pattern", "told"), [("nn??", True), ("?n?n", True), ("n???", False), ("????", False)])
def test_two_of_four_beats_of_a_slow_heart_may_be_of_bad_signal(pattern: str, told: bool) -> None:
    slow: list[Step] = [Beat(1.6, WITHHELD, is_poor=True) if one == "?" else Beat(1.6, NORMAL, 0.1) for one in pattern]
    assert _play(_beats(0.8, 20), slow) == (["bradycardia new"] if told else [])


def test_two_of_bad_signal_are_too_many_for_a_fast_rate() -> None:
    fast: list[Step] = [Beat(0.4, WITHHELD, is_poor=True) if k % 4 == 0 else Beat(0.4, NORMAL, 0.1) for k in range(40)]
    assert _play(_beats(0.8, 20), fast) == []


def test_the_graver_rate_hides_the_other() -> None:
    player = Player(make_detectors(AlertSettings()))
    player.play([*_beats(0.8, 20), *_beats(1.6, 20), *_beats(2.4, 20)])
    assert [(a.kind, a.state) for a in player.alerts] == [
        ("bradycardia", "new"),
        ("extreme-bradycardia", "new"),
        ("bradycardia", "end"),
    ]
    assert player.alerts[-1].reason == "extreme-bradycardia"


def test_what_was_hidden_is_alerted_again_if_it_goes_on() -> None:
    alerts = _play(_beats(0.8, 20), _beats(2.4, 20), _beats(1.6, 40))
    assert alerts[-2:] == ["extreme-bradycardia end", "bradycardia new"]


@pytest.mark.parametrize("every", [2, 3, 4, 5, 6, 8])
def test_beats_of_bad_signal_now_and_then_do_not_keep_an_alert_open(every: int) -> None:
    calm: list[Step] = [NOISE if k % every == 0 else Beat(0.8, NORMAL, 0.1) for k in range(150)]
    assert _play(_beats(0.4, 60), calm) == ["tachycardia new", "tachycardia end"]
    slow = _play(_beats(1.6, 20), calm)
    assert slow == (["bradycardia new", "bradycardia end"] if every > 4 else ["bradycardia new"])  # some may be hidden


@pytest.mark.parametrize("rr_s", [2.2, 2.9, 3.2, 3.6, 4.0])
@pytest.mark.parametrize("before", [0, 40])
def test_a_heart_slower_than_any_pause_is_one_of_extreme_bradycardia(rr_s: float, before: int) -> None:
    slow: list[Step] = [Beat(rr_s, WITHHELD) if rr_s > 3 and not before else Beat(rr_s, NORMAL, 0.1)] * 8
    assert "extreme-bradycardia new" in _play(_beats(0.8, before), slow)


def test_pauses_among_quicker_beats_are_no_slow_rate() -> None:
    told = _play(_beats(0.8, 20), [Beat(3.5, NORMAL, 0.1), *_beats(1.6, 1)] * 6)
    assert {one.split()[0] for one in told} == {"pause"}


def test_artefacts_far_apart_without_a_heartbeat_are_told_as_no_beats() -> None:
    apart: list[Step] = [Beat(rr_s, WITHHELD) for rr_s in (3.5, 9.0, 5.5, 10.0, 6.0, 4.0, 9.5)]
    assert _play(apart) == ["no-beats new"]
    assert _play(apart, _beats(0.8, 10))[:2] == ["no-beats new", "no-beats end"]
    assert "no-beats new" not in _play([NOISE] * 60)


def test_a_rate_from_noise_is_none() -> None:
    noise: list[Step] = [Beat(0.3, WITHHELD, is_poor=True)] * 40
    assert not [alert for alert in _play(_beats(0.8, 20), noise) if "tachycardia" in alert]


def test_limits_can_be_set() -> None:
    assert _play(_beats(1.1, 40), limits=Limits(bradycardia_bpm=60)) == ["bradycardia new"]


def test_an_alert_names_what_happened_in_plain_words() -> None:
    assert _texts(_beats(0.8, 20), [Moment(5.0, "no-beats")]) == ["No heartbeat for 5 s."]
    assert _texts(_beats(0.8, 20), _beats(3.4, 1)) == ["3.4 s between two heartbeats."]
    assert _texts(_beats(1.58, 20)) == ["Heart rate 38/min, below 40."]


def test_an_alert_has_the_heart_rate_and_the_beats_of_the_last_ten_seconds() -> None:
    player = Player(make_detectors(AlertSettings()))
    player.play([*_beats(0.8, 20), *_beats(3.4, 1)])
    [alert] = player.alerts
    assert alert.heart_rate_bpm == pytest.approx(60 * 12 / (11 * 0.8 + 3.4), abs=0.1)
    assert [beat.label for beat in alert.recent] == ["N"] * len(alert.recent)
    assert alert.recent[-1].qrs_s == pytest.approx(alert.time_s, abs=0.01)
    assert alert.time_s - 10.8 < alert.recent[0].qrs_s < alert.time_s - 9.1


@pytest.mark.parametrize(
    "limits",
    [{"asystole_s": 0.0}, {"bradycardia_bpm": 20.0}, {"pause_s": 5.0}, {"ventricular_run_beats": 2},
     {"ventricular_a_minute": 30}],
)  # fmt: skip
def test_limits_without_sense_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="got"):
        Limits(**limits)  # type: ignore[arg-type]


def test_limits_are_set_by_name() -> None:
    limits = parse_limits(["bradycardia-bpm=45", "ventricular-a-minute=6"])
    assert (limits.bradycardia_bpm, limits.ventricular_a_minute) == (45.0, 6)
    assert limits.asystole_s == Limits().asystole_s


@pytest.mark.parametrize(
    "text", ["bradycardia=45", "bradycardia-bpm=slow", "bradycardia-bpm", "ventricular-a-minute=2.5"]
)
def test_a_limit_that_does_not_exist_or_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="got"):
        parse_limits([text])
