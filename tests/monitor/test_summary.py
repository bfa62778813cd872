"""Statuses of processes that share a fleet: one for the fleet, online while one of them is."""

from __future__ import annotations

from typing import Any

from monitor import wire
from monitor.summary import Monitors


def _status(**fields: Any) -> bytes:
    given: dict[str, Any] = {
        "state": "online",
        "version": "1",
        "model": "nsv",
        "model_sha256": "s",
        "since_s": 100.0,
        "fleet": "f",
    }
    return wire.encode(wire.MonitorStatus(**given | fields))


def test_the_processes_of_a_fleet_are_added_up() -> None:
    monitors = Monitors()
    first = _status(devices=3, streaming=2, silent=1, unsettled=5, partitions=4, counts={"beats": 7}, lateness_s=0.1)
    second = _status(devices=2, streaming=2, partitions=3, counts={"beats": 1}, version="2", since_s=50.0, fault="full")
    assert monitors.take("f-host-1", first) == "f"
    assert monitors.take("f-host-2", second) == "f"
    [fleet] = monitors.shown().values()
    assert (fleet.state, fleet.processes, fleet.partitions, fleet.version) == ("online", 2, 7, "1, 2")
    assert (fleet.devices, fleet.streaming, fleet.silent, fleet.unsettled) == (5, 4, 1, 5)
    assert (fleet.counts, fleet.lateness_s, fleet.since_s, fleet.fault) == ({"beats": 8}, 0.1, 50.0, "full")
    assert set(monitors.processes("f")) == {"f-host-1", "f-host-2"}


def test_a_fleet_is_offline_only_when_all_its_processes_are() -> None:
    monitors = Monitors()
    monitors.take("f-host-1", _status(devices=3))
    monitors.take("f-host-2", _status(devices=2))
    monitors.take("f-host-1", _status(state="offline", devices=3))
    assert (monitors.shown()["f"].state, monitors.shown()["f"].devices) == ("online", 2)
    monitors.take("f-host-2", _status(state="offline"))
    assert (monitors.shown()["f"].state, monitors.shown()["f"].processes) == ("offline", 0)
    monitors.take("f-host-3", _status(state="overloaded"))
    assert (monitors.shown()["f"].state, monitors.shown()["f"].processes) == ("overloaded", 1)


def test_a_monitor_that_shares_with_nobody_stands_for_itself() -> None:
    monitors = Monitors()
    assert monitors.take("ward", _status(fleet=None)) == "ward"
    monitors.take("f-host-1", _status())
    assert set(monitors.shown()) == {"ward", "f"}
    assert monitors.take("ward", b"") == "ward"
    assert monitors.take("f-host-1", b"") == "f"
    assert monitors.shown() == {}


def test_a_monitor_of_the_name_of_a_fleet_that_was_stands_for_itself_while_it_is_online() -> None:
    monitors = Monitors()
    monitors.take("f", _status(fleet=None, devices=9))
    for retained in ("f-host-1", "f-host-2"):
        monitors.take(retained, _status(state="offline"))
    assert (monitors.shown()["f"].state, monitors.shown()["f"].devices) == ("online", 9)
    monitors.take("f", _status(fleet=None, state="offline"))
    assert monitors.shown()["f"].state == "offline"
    monitors.take("f-host-3", _status(devices=2))
    assert (monitors.shown()["f"].state, monitors.shown()["f"].devices) == ("online", 2)
