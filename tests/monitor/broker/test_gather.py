"""Messages that come singly are waited for, as long as they can be expected in time."""

from __future__ import annotations

import pytest

from monitor.broker.gather import AIM, LONGEST_S, Gathering


def _turns(a_second: float, seconds: float = 10.0) -> list[int]:
    """Return how many messages each turn has, where they come evenly and a turn begins with the next one."""
    gathering, turns = Gathering(), []
    taken, now_s = 0, 0.0
    gathering.note(0, now_s)
    while now_s < seconds:
        now_s = max(now_s, (taken + 1) / a_second) + gathering.wait_s()
        came = int(now_s * a_second + 1e-9) - taken
        gathering.note(came, now_s)
        taken += came
        turns.append(came)
    return turns[len(turns) // 2 :]


@pytest.mark.parametrize("a_second", [400, 1000, 4000])
def test_a_turn_has_as_many_messages_as_it_is_to_have_however_fast_they_come(a_second: int) -> None:
    turns = _turns(a_second)
    assert sum(turns) / len(turns) == pytest.approx(AIM, abs=0.5)


def test_nobody_waits_longer_than_is_allowed() -> None:
    turns = _turns(200)
    assert max(turns) <= 1 + LONGEST_S * 200 + 1
    assert sum(turns) / len(turns) > 2


def test_messages_that_are_rare_are_not_waited_for() -> None:
    assert set(_turns(40)) == {1}
    assert Gathering().wait_s() == 0.0


def test_what_comes_after_a_long_silence_is_soon_gathered_again() -> None:
    gathering, now_s = Gathering(), 0.0
    for after_s in [*[0.001] * 100, 600.0, *[0.001] * 60]:
        now_s += after_s
        gathering.note(1, now_s)
    assert gathering.wait_s() > 0.0
