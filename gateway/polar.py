"""A chest strap of Polar's (H10) over Bluetooth, by `bleak`: its measurement service, with reconnecting and battery.

Source: Polar, "Polar Measurement Data Specification for 3rd party"; frames are decoded by `recordings.polar`. A frame
is stamped with its last sample by the strap's own clock, which may be years off: the first frame's arrival tells by how
much.

Bluetooth runs in a thread of its own, with an event loop; frames come through a queue.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from gateway.stream import Chunk, Stream
from recordings.polar import RATE_HZ, Frame, decode_frame

log = logging.getLogger(__name__)

CONTROL = "fb005c81-02e7-f387-1cad-8acd2d8df0c8"
DATA = "fb005c82-02e7-f387-1cad-8acd2d8df0c8"
BATTERY = "00002a19-0000-1000-8000-00805f9b34fb"
START_ECG = bytes([0x02, 0x00, 0x00, 0x01, 0x82, 0x00, 0x01, 0x01, 0x0E, 0x00])
"""Request to stream ECG at 130 Hz with 14 bits."""
FIND_S = 20.0
RETRY_S = 2.0
WATCH_S = 5.0
"""A connection over which nothing comes for so long is made anew."""

Find = Callable[[str | None, float], Any]
"""Finds a strap by its name or address: a coroutine that returns what `Connect` takes, or None."""
Connect = Callable[[Any], Any]
"""Makes a client of what was found, with the interface of `bleak.BleakClient`."""


class PolarStream(Stream):
    """A strap.

    Parameters
    ----------
    name
        Its name or address; the first one whose name begins with "Polar" if None.
    find, connect
        Bluetooth; by `bleak` if not given.
    """

    rate_hz = RATE_HZ
    lead = "ECG"

    def __init__(self, name: str | None = None, find: Find | None = None, connect: Connect | None = None) -> None:
        self._name = name
        self._find, self._connect = find, connect
        self._frames: queue.Queue[tuple[float, Frame]] = queue.Queue()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._first = threading.Event()
        self._fault: str | None = None
        self._offset_s: float | None = None

    def open(self) -> None:
        """Connect, and wait for the first frame; see `Stream.open`."""
        if self._find is None or self._connect is None:
            self._find, self._connect = _bleak()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        if not self._first.wait(FIND_S + 10):
            self.close()
            raise ConnectionError(self._fault or "No frame of ECG came from the strap: is it worn, and wet?")

    def read(self, wait_s: float) -> list[Chunk]:
        """Return the frames that have come."""
        chunks = []
        try:
            item = self._frames.get(timeout=wait_s)
            while True:
                chunks.append(self._place(*item))
                item = self._frames.get_nowait()
        except queue.Empty:
            return chunks

    def close(self) -> None:
        """Disconnect."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(10)

    def _place(self, arrived_s: float, frame: Frame) -> Chunk:
        """Put a frame on this machine's clock."""
        if self._offset_s is None:
            self._offset_s = arrived_s - frame.last_s
        start_s = frame.last_s + self._offset_s - (frame.samples_uv.size - 1) / RATE_HZ
        return Chunk(start_s, frame.samples_uv.astype("float64"))

    async def _serve(self) -> None:
        """Connect again and again until told to stop."""
        assert self._find is not None
        assert self._connect is not None
        while not self._stop.is_set():
            try:
                found = await self._find(self._name, FIND_S)
                if found is None:
                    self._fault = f"No strap {self._name or 'of Polar'} was found within {FIND_S:g} s."
                    continue
                async with self._connect(found) as client:
                    await self._listen(client)
            except Exception as error:  # bleak raises what the system's Bluetooth does
                self._fault = f"Bluetooth: {error}"
                log.warning("the strap is gone: %s; connecting again", error)
                await asyncio.sleep(RETRY_S)

    async def _listen(self, client: Any) -> None:
        heard_s = time.monotonic()

        def take(_sender: Any, content: bytearray) -> None:
            nonlocal heard_s
            heard_s = time.monotonic()
            try:
                self._frames.put((time.time(), decode_frame(bytes(content))))
                self._first.set()
            except ValueError as error:
                log.warning("not understood: %s", error)

        self.battery_percent = int((await client.read_gatt_char(BATTERY))[0])
        await client.start_notify(DATA, take)
        await client.write_gatt_char(CONTROL, START_ECG, response=True)
        while not self._stop.is_set() and client.is_connected and time.monotonic() - heard_s < WATCH_S:
            await asyncio.sleep(0.1)


def _bleak() -> tuple[Find, Connect]:
    try:
        import bleak
    except ImportError:
        raise ValueError("Bluetooth needs the package bleak: pip install 'ecgwatch[polar]'.") from None

    async def find(name: str | None, timeout: float) -> Any:
        def fits(device: Any, _about: Any) -> bool:
            known = device.name or ""
            return known.startswith("Polar") if name is None else name in (known, device.address)

        return await bleak.BleakScanner.find_device_by_filter(fits, timeout=timeout)

    return find, bleak.BleakClient
