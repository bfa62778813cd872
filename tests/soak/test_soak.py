"""The shortest scenario of `python -m tests.soak`."""

from __future__ import annotations

import time
from pathlib import Path

from tests.soak.fleet import Fleet
from tests.soak.harness import Monitor, fleet_on_broker, stopping
from tests.soak.scenarios import finish, play, start


def test_a_new_monitor_started_beside_the_old_one_takes_over_without_loss(tmp_path: Path) -> None:
    fleet = Fleet(10, 16.0)
    with (
        fleet_on_broker(tmp_path, fleet) as (broker, listener, devices),
        stopping(Monitor(broker.url, tmp_path)) as old,
        stopping(Monitor(broker.url, tmp_path)) as new,
    ):
        start(old, listener)
        playing = play(devices, 8.0)
        new.start()
        time.sleep(4)
        old.end()
        outcome = finish("", fleet, listener, devices, playing)
    assert outcome.is_met, outcome.counts
