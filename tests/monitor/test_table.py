from __future__ import annotations

import numpy as np
import pytest

from monitor.table import FIRST_ROWS, Table

STATE = np.dtype([("count", np.int64)])


def test_each_device_has_a_row_of_its_own_that_starts_at_zero() -> None:
    table, devices = Table(STATE), [f"device {k}" for k in range(3 * FIRST_ROWS)]
    rows = table.find_all(devices)
    table.states["count"][rows] = np.arange(rows.size)
    assert np.unique(rows).size == rows.size
    assert table.states["count"][table.find_all(devices)].tolist() == list(range(rows.size))


def test_the_row_of_a_dropped_device_is_used_again_without_what_was_in_it() -> None:
    table = Table(STATE)
    row, other = table.find_all(["old", "other"])
    table.states["count"] = 7
    table.drop("old")
    table.drop("unknown")
    assert table.find("new") == row
    assert table.states["count"][[row, other]].tolist() == [0, 7]


def test_any_number_of_devices_go_on_where_they_were_saved() -> None:
    table, other = Table(STATE), Table(STATE)
    assert table.save(0) == b""
    devices = list(range(FIRST_ROWS + 1))
    for device in devices:
        row = table.find(device)
        table.states["count"][row] = device
        other.restore(device, table.save(device))
    rows = other.find_all(devices)
    assert other.states["count"][rows].tolist() == devices
    with pytest.raises(ValueError, match="buffer size"):
        other.restore("a", table.save(0)[:-1])
