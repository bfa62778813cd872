"""Abnormal beats: by their class, or by a shape that is new for the wearer."""

from __future__ import annotations

from monitor.alerts.beats import AbnormalBeats
from monitor.alerts.finding import ABNORMAL, NORMAL
from tests.monitor.alerts.player import Beat, Player

CALM, ECTOPIC = Beat(0.8, NORMAL, 0.1, shape=0.1), Beat(0.5, ABNORMAL, 0.9)
NEW, USUAL = CALM._replace(shape=0.9, unusual=True), CALM._replace(shape=0.9)
AT_THE_EDGE = CALM._replace(shape=0.45)


def _player() -> Player:
    return Player([AbnormalBeats(kind="abnormal-beats", severity="low", n=3, m=5, exit_ratio=0.8, refractory_s=0.0)])


def test_ectopic_beats_and_beats_of_a_new_shape_count_together() -> None:
    [new] = _player().play([CALM] * 10 + [NEW, ECTOPIC, NEW])
    assert (new.state, new.beats) == ("new", 3)


def test_a_shape_that_is_usual_for_the_wearer_begins_nothing() -> None:
    assert _player().play([USUAL] * 500) == []


def test_an_alert_of_a_shape_that_stays_ends_as_usual() -> None:
    new, end = _player().play([NEW] * 5 + [USUAL] * 5)
    assert (new.state, end.state, end.reason) == ("new", "end", "usual")
    assert "new for this wearer" in new.text
    assert "usual for this wearer" in end.text


def test_an_alert_of_a_shape_that_goes_ends_without_a_reason() -> None:
    player = _player()
    assert [alert.state for alert in player.play([NEW] * 5 + [AT_THE_EDGE] * 20)] == ["new"]
    [end] = player.play([CALM] * 5)
    assert end.state == "end"
    assert not end.reason
