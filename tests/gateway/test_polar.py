"""A strap of Polar's behind a Bluetooth that is faked: frames, reconnecting, its clock, its battery."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gateway.polar import BATTERY, CONTROL, DATA, START_ECG, PolarStream
from tests.recordings.foreign_files import ecg_uv, make_frames

FRAMES = make_frames(ecg_uv(130.0), 130.0)


class FakeStrap:
    """Sends its frames once ECG was asked for; goes away after some of them, and comes back."""

    def __init__(self, leaves_after: int = 10**6) -> None:
        self.sent = 0
        self.connections = 0
        self.is_connected = False
        self._leaves_after = leaves_after
        self._take: Callable[[Any, bytearray], None] | None = None
        self._sending: asyncio.Task[None] | None = None

    async def __aenter__(self) -> FakeStrap:
        self.connections += 1
        self.is_connected = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self.is_connected = False
        if self._sending is not None:
            self._sending.cancel()

    async def read_gatt_char(self, which: str) -> bytearray:
        assert which == BATTERY
        return bytearray([87])

    async def start_notify(self, which: str, take: Callable[[Any, bytearray], None]) -> None:
        assert which == DATA
        self._take = take

    async def write_gatt_char(self, which: str, content: bytes, response: bool) -> None:
        assert (which, content, response) == (CONTROL, START_ECG, True)
        self._sending = asyncio.create_task(self._send())

    async def _send(self) -> None:
        assert self._take is not None
        while self.sent < len(FRAMES):
            if self.connections == 1 and self.sent == self._leaves_after:
                self.sent += 2  # what is measured meanwhile is lost
                self.is_connected = False
                return
            self._take(None, bytearray(FRAMES[self.sent]))
            self.sent += 1
            await asyncio.sleep(0.005)


def _stream(strap: FakeStrap | None) -> PolarStream:
    async def find(_name: str | None, _timeout: float) -> FakeStrap | None:
        await asyncio.sleep(0.01)
        return strap

    return PolarStream(None, find, lambda found: found)


def _read(stream: PolarStream, frames: int) -> list[Any]:
    chunks: list[Any] = []
    until_s = time.monotonic() + 10
    while len(chunks) < frames and time.monotonic() < until_s:
        chunks += stream.read(0.05)
    return chunks


def test_frames_come_on_this_machines_clock_and_the_battery_is_known() -> None:
    stream = _stream(FakeStrap())
    stream.open()
    chunks = _read(stream, len(FRAMES))
    stream.close()
    np.testing.assert_array_equal(np.concatenate([chunk.samples_uv for chunk in chunks]), ecg_uv(130.0))
    assert abs(chunks[0].start_s - time.time()) < 10
    steps_s = np.diff([chunk.start_s for chunk in chunks])
    np.testing.assert_allclose(steps_s, 73 / 130, atol=1e-6)
    assert stream.battery_percent == 87


def test_strap_that_goes_away_is_connected_again_and_what_it_lost_is_a_gap() -> None:
    strap = FakeStrap(leaves_after=10)
    stream = _stream(strap)
    stream.open()
    chunks = _read(stream, len(FRAMES) - 2)
    stream.close()
    assert strap.connections == 2
    steps_s = np.diff([chunk.start_s for chunk in chunks])
    np.testing.assert_allclose(steps_s[9], 3 * 73 / 130, atol=1e-6)
    assert len(chunks) == len(FRAMES) - 2


def test_strap_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.polar.FIND_S", -9.5)  # open waits ten seconds longer
    with pytest.raises(ConnectionError, match=r"No strap of Polar was found"):
        _stream(None).open()
