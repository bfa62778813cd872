"""What was before the page was started: the hours that the monitor has kept."""

from __future__ import annotations

import time
from pathlib import Path

from monitor.page.past import Past
from monitor.state.sqlite import SqliteStore
from monitor.state.store import HourlyRow
from tests.monitor.state.saving import save

HOUR = int(time.time() // 3600) - 2
"""Since 1970, two hours ago."""
ROWS = (
    HourlyRow(HOUR, "a", "N", 3000, 3000 * 800),
    HourlyRow(HOUR, "a", "V", 1000, 1000 * 1600),
    HourlyRow(HOUR, "a", "withheld", 500, 500 * 400),
    HourlyRow(HOUR + 1, "a", "withheld", 7, 0),
    HourlyRow(HOUR, "b", "N", 1, 1000),
)


def test_each_hour_of_the_last_day_has_its_heart_rate_by_the_beats_that_were_judged(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path, "monitor")
    save(store, hourly=ROWS)
    assert Past(tmp_path, "monitor").hours("a") == [
        {"start_s": 3600 * HOUR, "beats": {"N": 3000, "V": 1000, "withheld": 500}, "bpm": 60.0},
        {"start_s": 3600 * (HOUR + 1), "beats": {"withheld": 7}, "bpm": None},
    ]
    store.close()


def test_without_a_state_nothing_is_known_of_before(tmp_path: Path) -> None:
    assert Past(None, "monitor").hours("a") == []
    assert Past(tmp_path / "none", "monitor").hours("a") == []
