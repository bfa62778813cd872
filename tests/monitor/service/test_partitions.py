"""What holds of a partition that two processes have in turn: on one database, each with a broker of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from monitor import wire
from monitor.broker.memory import MemoryBroker, MemorySource
from monitor.broker.source import Message
from monitor.service.decisions import DeviceDecisions
from monitor.state.worker import ThreadedStore
from tests.monitor.service.one_monitor import CALM, TOPICS, Monitor, running


class _Dealt(MemorySource):
    """All that comes over it belongs to one partition."""

    lost: bool = False
    partition: int | None = 1
    """None: over MQTT, as what all processes hear."""

    def poll(self, wait_s: float, most: int) -> list[Message]:
        return [message._replace(partition=self.partition) for message in super().poll(wait_s, most)]

    def take_lost(self) -> list[int]:
        lost, self.lost = [1] * self.lost, False
        return lost


@contextmanager
def _processes(store: str) -> Iterator[tuple[Monitor, Monitor]]:
    with ExitStack() as stack:
        first, second = [
            stack.enter_context(running(MemoryBroker(), client=_Dealt, source="amqp://unused", state=store))
            for _ in range(2)
        ]
        yield first, second


def _lose(monitor: Monitor) -> None:
    source = monitor.service.source
    assert isinstance(source, _Dealt)
    source.lost = True
    monitor.turn()
    assert not monitor.service.engine.devices


def _rename(monitor: Monitor, device: str, name: str) -> wire.Answer:
    answer = monitor.ask("rename", device, name=name)
    assert answer is not None
    return answer


def _decided(monitor: Monitor, device: str) -> DeviceDecisions:
    return monitor.loop._parts.states._decisions.of(device)


@pytest.mark.parametrize("device", ["heard", "never-heard"])
def test_what_another_process_decided_meanwhile_holds_when_a_partition_comes_back(
    database_url: str, device: str
) -> None:
    with _processes(database_url) as (first, second):
        first.play("heard", CALM)
        _rename(first, device, "first")
        _lose(first)
        second.play("heard", CALM)
        assert _decided(second, device).name == "first"
        _rename(second, device, "second")
        second.ask("silence", device, for_s=600, reason="bath")
        _lose(second)
        first.ask("limits", device, limits={"bradycardia": {"below_bpm": 45.0}})
        _lose(first)
        second.play("heard", CALM)
        kept = _decided(second, device)
        assert (kept.name, kept.limits, len(kept.silences)) == ("second", {"bradycardia": {"below_bpm": 45.0}}, 1)


@pytest.mark.parametrize("device", ["heard", "never-heard"])
def test_what_could_not_be_saved_of_a_partition_that_was_left_does_not_replace_what_was_decided_since(
    database_url: str, device: str
) -> None:
    with _processes(database_url) as (first, second):
        first.play("heard", CALM)
        store = first.loop._parts.store
        assert isinstance(store, ThreadedStore)
        store.later(lambda: store.set_fault("the disk is full"))
        store.read_devices()
        assert "But it is not saved" in _rename(first, device, "first").text
        _lose(first)
        second.play("heard", CALM)
        _rename(second, device, "second")
        for _ in range(2):  # it is seen to, and what was not saved is
            store.read_devices()
            first.loop.housekeeping(time.monotonic())
            first.turn()
        assert (store.fault, store.opened) == (None, 2)
        assert not first.loop._parts.checkpoint.is_open
        _lose(second)
        first.play("heard", CALM)
        assert _decided(first, device).name == "second"


def test_what_was_decided_since_a_partition_is_ours_is_newer_than_what_came_with_it(database_url: str) -> None:
    with _processes(database_url) as (first, _):
        first.play("heard", CALM)
        _rename(first, "heard", "before")
        store = first.loop._parts.store
        assert store is not None
        read = store.read_decisions()
        for device in ("heard", "never-heard"):
            _rename(first, device, "after")
            first.loop._parts.requests.adopt({device: read["heard"]})
            assert _decided(first, device).name == "after"


def test_what_is_asked_of_others_lets_nobody_take_their_devices_over_or_forget_what_is_saved(database_url: str) -> None:
    with _processes(database_url) as (first, second):
        first.play("heard", CALM)
        first.turn()
        store, source = first.loop._parts.store, second.service.source
        assert store is not None
        assert isinstance(source, _Dealt)
        saved, source.partition = store.read_states(["heard"]), None
        assert second.ask("forget", "heard") is None
        assert not second.service.engine.knows("heard")
        second.loop._parts.checkpoint.owe(second.service.engine.tick(time.monotonic() + 1000.0))
        second.turn()
        assert not second.messages(TOPICS.of("heard", "state"))
        assert not second.alerts("heard")
        assert store.read_states(["heard"]) == saved != {}
