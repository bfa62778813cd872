"""A row of plain numbers for each device of which something is remembered: what compiled loops work on.

Rows are made when they are first asked for, zero, and are used again when a device is dropped. Knows nothing of devices
but that they can be told apart.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

FIRST_ROWS = 64


class Table:
    """Rows of one type.

    Parameters
    ----------
    dtype
        Of a row, all of it zero at the start.
    """

    def __init__(self, dtype: np.dtype[np.void]) -> None:
        self.states = np.zeros(FIRST_ROWS, dtype)
        """The rows; replaced by more of them when `find` needs a new one."""
        self._rows: dict[Hashable, int] = {}
        self._free: list[int] = []

    def __contains__(self, device: Hashable) -> bool:
        return device in self._rows

    def find(self, device: Hashable) -> int:
        """Return the number of a device's row."""
        row = self._rows.get(device)
        if row is None:
            row = self._rows[device] = self._free.pop() if self._free else self._grow()
            self.states[row] = np.zeros((), self.states.dtype)
        return row

    def find_all(self, devices: Sequence[Hashable]) -> npt.NDArray[np.int64]:
        """Return the numbers of the rows of many devices."""
        return np.array([self.find(device) for device in devices], np.int64)

    def drop(self, device: Hashable) -> None:
        """Forget a device."""
        row = self._rows.pop(device, None)
        if row is not None:
            self._free.append(row)

    def save(self, device: Hashable) -> bytes:
        """All that is remembered of a device; empty if nothing is."""
        return self.states[self._rows[device]].tobytes() if device in self._rows else b""

    def restore(self, device: Hashable, saved: bytes) -> None:
        """Go on where a device was saved.

        Raises
        ------
        ValueError
            That is not a row of this type.
        """
        if saved:
            [state] = np.frombuffer(saved, self.states.dtype)
            row = self.find(device)  # may replace the rows
            self.states[row] = state

    def _grow(self) -> int:
        row = len(self._rows)
        if row == self.states.size:
            self.states = np.concatenate([self.states, np.zeros(row, self.states.dtype)])
        return row
