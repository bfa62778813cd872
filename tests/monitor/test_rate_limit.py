"""How much one device may send."""

from __future__ import annotations

import pytest

from monitor.rate_limit import AHEAD_S, BYTE_S, DEBT_S, MESSAGE_S, Allowance

DAY_S = 86400.0


def _admitted(
    allowance: Allowance, count: int, size: int, signal_s: float, pause_s: float, begin_s: float = 100.0
) -> int:
    """Send messages, one each `pause_s`; return how many were admitted."""
    admitted = 0
    for k in range(count):
        now_s = begin_s + k * pause_s
        if allowance.admits(now_s):
            allowance.charge(size, signal_s, now_s)
            admitted += 1
    return admitted


@pytest.mark.parametrize("packet_s", [0.02, 0.2, 1.0, 10.0])
@pytest.mark.parametrize("bytes_a_second", [500, 28_000])  # 250 Hz as MessagePack, 4000 Hz as JSON
def test_whoever_sends_as_time_goes_by_is_never_refused(packet_s: float, bytes_a_second: int) -> None:
    count = round(2000 / packet_s)
    size = round(100 + bytes_a_second * packet_s)
    assert _admitted(Allowance(), count, size, packet_s, packet_s) == count


def test_single_samples_at_250_hz_are_never_refused() -> None:
    assert _admitted(Allowance(), 100_000, 60, 1 / 250, 1 / 250) == 100_000


def test_an_outage_of_two_days_is_caught_up_with_at_any_speed() -> None:
    count = round(2 * DAY_S / 0.5)
    assert _admitted(Allowance(), count, 400, 0.5, 1e-5) == count


def test_the_same_outage_may_come_again_when_time_has_caught_up() -> None:
    allowance, count = Allowance(), round(2 * DAY_S / 5)
    assert _admitted(allowance, count, 3000, 5.0, 1e-5) == count
    assert _admitted(allowance, count, 3000, 5.0, 1e-5, 2 * DAY_S) == count


@pytest.mark.parametrize("size", [0, 60, 100_000])
def test_of_messages_without_signal_so_many_are_admitted_as_time_pays_for(size: int) -> None:
    cost_s, seconds = MESSAGE_S + size * BYTE_S, 100.0
    admitted = _admitted(Allowance(), round(seconds * 2000), size, 0.0, 1 / 2000)
    assert admitted == pytest.approx((DEBT_S + seconds) / cost_s, rel=0.03, abs=2)


def test_signal_pays_for_three_days_more_than_time_has_gone_by_and_no_longer() -> None:
    admitted = _admitted(Allowance(), 60_000, 1000, 10.0, 1e-5)
    assert admitted == pytest.approx(AHEAD_S / 10 + DEBT_S / (MESSAGE_S + 1000 * BYTE_S), rel=0.01)


def test_of_single_samples_repeated_without_end_some_hundreds_a_second_are_admitted() -> None:
    admitted = _admitted(Allowance(), 1_000_000, 60, 1 / 250, 1 / 5000)
    assert admitted == pytest.approx((200 + DEBT_S) / (MESSAGE_S + 60 * BYTE_S - 1 / 250), rel=0.01)


def test_a_client_that_was_refused_is_admitted_again_when_time_has_paid() -> None:
    allowance = Allowance()
    allowance.charge(0, 0.0, 100.0)
    allowance.charge(50_000_000, 0.0, 100.0)
    assert not allowance.admits(500.0 - MESSAGE_S)
    assert allowance.admits(600.0)


def test_an_allowance_is_full_again_when_time_has_paid() -> None:
    allowance = Allowance()
    assert allowance.is_full(200.0)
    allowance.charge(50_000_000, 0.0, 100.0)
    assert not allowance.is_full(200.0)
    assert allowance.is_full(700.0)
