"""The last seconds of each device's signal, at 125 Hz: what the strip of an alert is cut from.

A ring of int16 steps for each device. It outlives the stretch that it holds, so that an alert of a gap or of silence
shows what was before; the next stretch begins it anew. Signal is appended in its place among what was found, so the
ring never runs ahead of it, and the same strip comes out however packets were cut or batched.

Knows nothing of beats or alerts.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from monitor.beat import RATE_HZ, Signal
from monitor.ecg.kernels import compiled
from monitor.ecg.resample import DELAY_S
from monitor.wire import NO_SAMPLE

STRIP_S = 10.0
STRIP = round(STRIP_S * RATE_HZ)
"""Samples of a strip."""
PART = round(10.2 * RATE_HZ)
"""So much signal is appended in one go, and may lie behind the end of a strip; see `monitor.ecg.batch.PART_S`."""
LAG = round(DELAY_S * RATE_HZ) + 2
"""At a moment in a packet, the signal at 125 Hz is known up to so many samples before it."""
KEPT, SAVED = STRIP + PART, STRIP + LAG
"""Samples in the ring, and those of them that may be asked for once more signal has come."""
ROOM = 256
"""Rows that are added where all are in use."""
GRAIN = 1e-3
"""Samples by which a time that lies on one may miss it, as a sum of floats."""

STATE = np.dtype(
    [
        ("end", np.int64),  # number of the sample after the last, on the 8 ms grid since 1970
        ("end_s", np.float64),  # when that is on the device's clock
        ("pace", np.float64),  # seconds of that clock per second of signal
        ("known", np.int64),  # samples of the unbroken stretch that are in the ring
        ("steps", np.int16, KEPT),  # ring: sample number modulo KEPT
    ],
    align=True,
)
"""What is remembered of a device: 5 kB."""

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Owner(Protocol):
    """A device: where its row is."""

    tape: int
    """In the table of `Tapes`; -1 while it has none."""


class Piece(NamedTuple):
    """The next signal of some stretches."""

    owners: list[Any]
    """(k,) their devices."""
    signal: Signal
    """At 125 Hz, one stretch after the other, NaN where there is no valid sample."""
    ends: Ints
    """(k,) where those of each end."""
    produced: Ints
    """(k,) samples of the stretch so far, with these."""
    numbers: Ints
    """(k,) number of the sample after the last."""
    end_s: Floats
    """(k,) when that is, on the device's clock."""
    pace: Floats
    """(k,) seconds of that clock per second of signal."""


class Cut(NamedTuple):
    """A part of a tape."""

    start_s: float
    """Of the first sample, on the device's clock."""
    pace: float
    steps: npt.NDArray[np.int16]
    """(n,) `NO_SAMPLE` where there was none."""


class SavedTape(msgspec.Struct, frozen=True, array_like=True):
    """A tape between two packets."""

    end: int = 0
    end_s: float = 0.0
    pace: float = 1.0
    steps: bytes = b""
    """The latest, at most `SAVED`: as differences, all low bytes before all high ones, which is what compresses."""


class Tapes:
    """The tapes of all devices.

    Parameters
    ----------
    capacity
        Most devices that send at a time; rows that were never used take no memory. One that has been forgotten keeps
        its tape until that is observed, so there may be more of them for a while.
    """

    def __init__(self, capacity: int) -> None:
        self._table = np.zeros(capacity, STATE)
        self._used = 0
        self._free: list[int] = []

    def append(self, piece: Piece) -> None:
        """Append signal to the tapes of its devices; that of a new stretch begins a tape anew."""
        rows = np.array([owner.tape if owner.tape >= 0 else self._row(owner) for owner in piece.owners], np.int64)
        _append(self._table, rows, *piece[1:])

    def cut(self, device: Owner, end: int | None = None) -> Cut | None:
        """Return the last `STRIP_S` of a device before a sample, as far as they are known; None if nothing is.

        Parameters
        ----------
        device
            Whose.
        end
            Number of the sample, at most `PART` before the latest; None: all that is there.
        """
        if device.tape < 0:
            return None
        row = self._table[device.tape]
        latest, known, pace = int(row["end"]), int(row["known"]), float(row["pace"])
        stop = latest if end is None else min(end, latest)
        start = max(stop - STRIP, latest - known)
        if start >= stop:
            return None
        return Cut(float(row["end_s"]) - (latest - start) / RATE_HZ * pace, pace, _read(row, start, stop))

    def number(self, device: Owner, time_s: float) -> int | None:
        """Return up to which sample the signal is known at a moment of the device's clock, however packets are cut."""
        place = self.place(device, time_s)
        return None if place is None else place - LAG

    def place(self, device: Owner, time_s: float) -> int | None:
        """Return the number of the last sample that is not after a moment of the device's clock."""
        if device.tape < 0:
            return None
        row = self._table[device.tape]
        behind = (float(row["end_s"]) - time_s) / float(row["pace"]) * RATE_HZ if row["known"] else 0.0
        return int(row["end"]) - int(np.ceil(behind - GRAIN))

    def drop(self, device: Owner) -> None:
        """Forget a device."""
        if device.tape >= 0:
            self._free.append(device.tape)
            device.tape = -1

    def save(self, device: Owner) -> SavedTape:
        """All that may be asked for once more signal has come."""
        if device.tape < 0:
            return SavedTape()
        row = self._table[device.tape]
        end = int(row["end"])
        steps = _read(row, end - min(SAVED, int(row["known"])), end)
        planes = np.diff(steps, prepend=np.int16(0)).astype("<i2").view(np.uint8).reshape(-1, 2).T
        return SavedTape(end, float(row["end_s"]), float(row["pace"]), planes.tobytes())

    def restore(self, device: Owner, saved: SavedTape) -> None:
        """Go on where a device was saved.

        Raises
        ------
        ValueError
            It was not saved by this version.
        """
        size = len(saved.steps) // 2
        if len(saved.steps) % 2 or size > SAVED:
            raise ValueError(f"A saved tape must have at most {SAVED} samples: got {len(saved.steps)} bytes.")
        if not size:
            return
        planes = np.frombuffer(saved.steps, np.uint8).reshape(2, size)
        steps = np.cumsum(np.ascontiguousarray(planes.T).view("<i2").ravel(), dtype=np.int16)
        at = self._row(device)  # may replace the table
        row = self._table[at]
        row["end"], row["end_s"], row["pace"], row["known"] = saved.end, saved.end_s, saved.pace, size
        row["steps"][np.arange(saved.end - size, saved.end) % KEPT] = steps

    def _row(self, device: Owner) -> int:
        if device.tape < 0:
            row = self._free.pop() if self._free else self._used
            if row == self._table.size:
                self._table = np.concatenate([self._table, np.zeros(ROOM, STATE)])
            self._used = max(self._used, row + 1)
            self._table["known"][row] = 0
            device.tape = row
        return device.tape


def warm_up() -> None:
    """Load the compiled loop, or compile it if that was never done here."""
    none, nothing = np.zeros(0, np.int64), np.zeros(0)
    _append(np.zeros(1, STATE), none, np.zeros(0, np.float32), none, none, none, nothing, nothing)


def _read(row: np.void, start: int, stop: int) -> npt.NDArray[np.int16]:
    """Samples of a ring, by their numbers."""
    steps: npt.NDArray[np.int16] = row["steps"][np.arange(start, stop) % KEPT]
    return steps


@compiled
def _append(
    table: Any, rows: Ints, signal: Signal, ends: Ints, produced: Ints, numbers: Ints, end_s: Floats, pace: Floats
) -> None:
    start = 0
    for i in range(rows.size):
        state, size = table[rows[i]], ends[i] - start
        if size > 0:
            _write(state.steps, signal[start : ends[i]], numbers[i] - size)
            state.known = min(size if produced[i] == size else state.known + size, KEPT)
            state.end, state.end_s, state.pace = numbers[i], end_s[i], pace[i]
        start = ends[i]


@compiled
def _write(ring: Any, signal: Signal, number: int) -> None:
    at = number % KEPT
    for value in signal:
        if np.isnan(value):
            ring[at] = NO_SAMPLE
        else:
            ring[at] = int(np.rint(min(max(value, np.float32(-32767)), np.float32(32767))))
        at = at + 1 if at + 1 < KEPT else 0
