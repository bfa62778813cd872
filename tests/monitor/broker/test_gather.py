"""Messages that come singly are waited for, as long as they can be expected in time."""

from __future__ import annotations

import pytest

from monitor.broker.gather import AIM, LONGEST_S, Gathering


def _turns(a_second: float, busy_s: float = 0.0, seconds: float = 10.0) -> list[int]:
    """Return how many messages each turn has, where they come evenly and a turn keeps one busy for a while."""
    gathering, turns = Gathering(), []
    taken, now_s = 0, 0.0
    gathering.note(0, now_s)
    while now_s < seconds:
        now_s = max(now_s + busy_s, (taken + 1) / a_second)
        now_s += gathering.wait_s(now_s)
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
    assert max(turns) <= LONGEST_S * 200 + 1
    assert sum(turns) / len(turns) > 2


def test_what_came_during_a_turn_is_waited_for_no_more() -> None:
    gathering = Gathering()
    for k in range(200):
        gathering.note(1, k * 0.001)
    read_s = 0.199
    assert gathering.wait_s(read_s + 0.002) == pytest.approx(AIM * 0.001 - 0.002, rel=1e-2)
    assert gathering.wait_s(read_s + 0.006) == 0.0
    assert set(_turns(1000, busy_s=0.02)) <= {19, 20, 21}


def test_messages_that_are_rare_are_not_waited_for() -> None:
    assert set(_turns(40)) == {1}
    assert Gathering().wait_s(0.0) == 0.0


def test_what_comes_after_a_long_silence_is_soon_gathered_again() -> None:
    gathering, now_s = Gathering(), 0.0
    for after_s in [*[0.001] * 100, 600.0, *[0.001] * 60]:
        now_s += after_s
        gathering.note(1, now_s)
    assert gathering.wait_s(now_s) > 0.0
