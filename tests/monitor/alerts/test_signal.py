"""Alerts about the signal: what they say is wrong with it."""

from __future__ import annotations

import pytest

from monitor.alerts.episode import AlertSettings
from monitor.alerts.finding import NORMAL, WITHHELD
from monitor.alerts.registry import make_detectors
from tests.monitor.alerts.player import Beat, Player


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("noise", "Hardly any beat can be judged: look at the electrodes, or wait for less motion."),
        ("clipped", "cut off at the ends of its range, or its steps are too coarse, and hardly any beat can be judged"),
        ("missing samples", "Too many samples are missing, and hardly any beat can be judged: look at the device."),
        ("mains", "Hum of the mains hides the heartbeats"),
    ],
)
def test_a_poor_signal_says_what_is_poor_about_it(reason: str, words: str) -> None:
    player = Player(make_detectors(AlertSettings()))
    alerts = player.play([*[Beat(0.8, WITHHELD, is_poor=True, reason=reason)] * 20, *[Beat(0.8, NORMAL)] * 20])
    [new, end] = [alert for alert in alerts if alert.kind == "poor-signal"]
    assert words in (new.text or "")
    assert end.text == "The signal is good again."


def test_a_poor_signal_is_over_once_twenty_beats_in_a_row_can_be_judged() -> None:
    player = Player(make_detectors(AlertSettings()))
    player.play([Beat(0.8, WITHHELD, is_poor=True)] * 20)
    assert player.play([*[Beat(0.8, NORMAL)] * 19, Beat(0.8, WITHHELD, is_poor=True)]) == []
    assert [alert.state for alert in player.play([Beat(0.8, NORMAL)] * 20)] == ["end"]
