"""By how much a device's clock is ahead, from stamps that may be late."""

from __future__ import annotations

import pytest

from monitor.device_clock import STEADY_S, DeviceClock

NOW_S = 1_700_000_000.0


@pytest.mark.parametrize("wrong_s", [-86_400.0, -3600.0, 61.0, 3600.0, 1e9])
def test_a_clock_that_is_wrong_is_known_at_once(wrong_s: float) -> None:
    clock = DeviceClock()
    assert clock.note(NOW_S + wrong_s, NOW_S)
    assert clock.ahead_s == wrong_s
    assert not any(clock.note(NOW_S + wrong_s + i, NOW_S + i + 0.3 * (i % 3)) for i in range(100))


@pytest.mark.parametrize("late_s", [0.0, 5.0, 59.0])
def test_what_comes_a_little_late_is_of_a_clock_that_is_right(late_s: float) -> None:
    clock = DeviceClock()
    assert not clock.note(NOW_S - late_s, NOW_S)
    assert clock.ahead_s == 0.0


def test_what_was_held_back_during_an_outage_is_of_a_clock_that_is_right() -> None:
    clock = DeviceClock()
    clock.note(NOW_S, NOW_S)
    for second in range(600):  # it comes ten times as fast as time goes
        now_s = NOW_S + 600 + 0.1 * second
        assert not clock.note(NOW_S + second, now_s)
    assert clock.ahead_s == 0.0


def test_a_clock_that_is_heard_first_in_the_middle_of_that_is_right_once_it_has_caught_up() -> None:
    clock = DeviceClock()
    for second in range(600):
        clock.note(NOW_S - 540 + second, NOW_S + 0.1 * second)
    assert clock.ahead_s == 0.0


def test_a_clock_that_is_set_back_is_believed_once_it_stays_so() -> None:
    clock = DeviceClock()
    clock.note(NOW_S + 3600, NOW_S)
    heard = [clock.note(NOW_S + i, NOW_S + i) for i in range(1, 60)]
    assert clock.ahead_s == 0.0
    assert heard.index(True) == STEADY_S
