"""One record per device, and what is left of it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from monitor import devices, wire
from monitor.devices import Devices
from monitor.ecg.batch import Batch
from monitor.rate_limit import DEBT_S


@pytest.fixture
def registry() -> Devices:
    return Devices(Batch(8, False, 6.0), Counter())


def test_a_device_is_the_same_record_each_time_it_is_heard(registry: Devices) -> None:
    first = registry.obtain("a", 1.0)
    assert first is not None
    assert first.heard_once
    assert registry.obtain("a", 2.0) is first is registry["a"]
    assert (first.arrived_s, first.heard_once, len(registry)) == (2.0, False, 1)


def test_forgetting_drops_the_record_and_leaves_a_tombstone_until_it_is_buried(registry: Devices) -> None:
    first = registry.obtain("a", 1.0)
    registry.obtain("b", 2.0)
    registry.forget(2.0)
    assert [known.id for known in registry] == ["b"]
    assert set(registry.tombstones) == {"a"}
    again = registry.obtain("a", 3.0)
    assert again is not first
    assert set(registry.tombstones) == {"a"}  # what was saved of the first must not be restored
    taken = registry.take_tombstones()
    assert registry.has_forgotten("a")
    registry.bury(taken)
    assert not registry.has_forgotten("a")
    assert not registry.tombstones


def test_a_device_that_is_forgotten_again_while_it_is_buried_stays_forgotten(registry: Devices) -> None:
    registry.obtain("a", 1.0)
    registry.forget(2.0)
    first = registry.take_tombstones()
    registry.obtain("a", 3.0)
    registry.forget(4.0)
    second = registry.take_tombstones()
    registry.bury(first)
    assert registry.has_forgotten("a")
    registry.put_back(second)
    assert registry.has_forgotten("a")
    registry.bury(registry.take_tombstones())
    assert not registry.has_forgotten("a")


def test_tombstones_that_are_put_back_come_before_later_ones(registry: Devices) -> None:
    known = registry.obtain("a", 1.0)
    assert known is not None
    known.hourly[5, "normal"] = 1, 800
    registry.forget(2.0)
    taken = registry.take_tombstones()
    for name in "ab":
        registry.obtain(name, 3.0)
    registry.forget(4.0)
    registry.put_back(taken)
    assert registry.tombstones == {"a": [{(5, "normal"): (1, 800)}, {}], "b": [{}]}


def test_what_a_forgotten_stream_still_held_is_processed(registry: Devices) -> None:
    known = registry.obtain("a", 1.0)
    assert known is not None
    known.stream.feed(wire.Packet(0, 0.0, 250.0, np.zeros(250, np.int16)))
    registry.forget(2.0)
    assert known.stream.next_seq is None


def test_a_debt_outlives_becoming_a_device_and_being_forgotten(registry: Devices) -> None:
    registry.allowance("a").charge(10**9, 0.0, 100.0)
    known = registry.obtain("a", 1.0)
    assert known is not None
    assert not known.allowance.admits(100.0 + DEBT_S)
    registry.forget(2.0)
    assert not registry.allowance("a").admits(100.0 + DEBT_S)
    registry.forget_allowances(100.0)
    assert not registry.allowance("a").admits(100.0 + DEBT_S)
    registry.forget_allowances(1e6)
    assert registry.allowance("a").admits(100.0 + DEBT_S)


def test_allowances_of_unknown_clients_are_bounded(registry: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "MAX_UNKNOWN", 2)
    oldest = registry.allowance("a")
    for name in ("b", "c"):
        registry.allowance(name)
    assert registry.allowance("c") is registry.allowance("c")
    assert registry.allowance("a") is not oldest


def test_only_so_many_tombstones_are_kept(registry: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "MAX_TOMBSTONES", 2)
    for name in "abc":
        registry.obtain(name, 0.0)
    registry.forget(1.0)
    assert set(registry.tombstones) == {"a", "b"}
