"""Waits between attempts: they grow to a limit, differ between clients, and start over after a success."""

from __future__ import annotations

import random

import pytest

from monitor.broker.backoff import Backoff


class _Longest(random.Random):
    """Draws the upper bound, always."""

    def uniform(self, a: float, b: float) -> float:
        return b


def _waits(backoff: Backoff, count: int) -> list[float]:
    return [backoff.next_s() for _ in range(count)]


def test_waits_double_up_to_the_longest() -> None:
    assert _waits(Backoff(0.5, 6.0, _Longest()), 6) == [0.5, 1.0, 2.0, 4.0, 6.0, 6.0]


def test_a_success_starts_over_with_the_shortest_wait() -> None:
    backoff = Backoff(0.5, 30.0, _Longest())
    _waits(backoff, 5)
    backoff.reset()
    assert _waits(backoff, 2) == [0.5, 1.0]


def test_each_wait_lies_between_half_its_bound_and_the_bound() -> None:
    for seed in range(50):
        waits = _waits(Backoff(1.0, 8.0, random.Random(seed)), 6)
        assert all(bound / 2 <= wait <= bound for wait, bound in zip(waits, (1, 2, 4, 8, 8, 8), strict=True))


def test_clients_that_failed_together_do_not_come_back_together() -> None:
    assert len({Backoff(rng=random.Random(seed)).next_s() for seed in range(100)}) == 100


def test_the_same_generator_gives_the_same_waits() -> None:
    assert _waits(Backoff(rng=random.Random(7)), 10) == _waits(Backoff(rng=random.Random(7)), 10)


@pytest.mark.parametrize(("first_s", "longest_s"), [(0.0, 1.0), (-1.0, 1.0), (2.0, 1.0)])
def test_waits_that_cannot_be_are_refused(first_s: float, longest_s: float) -> None:
    with pytest.raises(ValueError, match="must be positive and at most the longest"):
        Backoff(first_s, longest_s)
