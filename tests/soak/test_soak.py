"""The shortest of what `python -m tests.soak` does at length."""

from __future__ import annotations

import time
from pathlib import Path

from tests.soak.fleet import Fleet
from tests.soak.harness import Monitor, stage, watched
from tests.soak.scenarios import finish, play, start


def test_a_new_monitor_that_is_started_beside_the_old_one_takes_over_without_a_loss(tmp_path: Path) -> None:
    fleet = Fleet(10, 16.0)
    with (
        stage(tmp_path, fleet) as (broker, heard, devices),
        watched(Monitor(broker.url, tmp_path)) as old,
        watched(Monitor(broker.url, tmp_path)) as new,
    ):
        start(old, heard)
        playing = play(devices, 8.0)
        new.start()
        time.sleep(4)
        old.end()
        row = finish("", fleet, heard, devices, playing)
    assert row.is_met, row.counts
