"""The signal of one device on its way to a browser: in order, thinned to what a screen shows, and kept for a while.

Rules
-----
* Packets with consecutive numbers are one line without gaps, even if their time stamps jitter; what came before is
  not taken again.
* More than `MOST_HZ` is averaged down: at 25 mm/s a screen shows about 100 pixels a second.
* A frame on the WebSocket is little-endian: kind 1 (u8), 0 (u8), the number under which the browser knows the device
  (u16), rate in Hz (f32), time of the first sample (f64), microvolts a step (f32, 0: not known), number of samples
  (u32), samples (i16; -32768: none).
"""

from __future__ import annotations

import struct
from collections import deque
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from monitor import wire

MOST_HZ = 250.0
"""A rate of twice that or more is averaged down, to no less than this."""
KEPT_S = 30.0
"""So much is kept for a browser that lost its connection."""
JOINS_S = 0.5
"""Packets whose stamps differ no more than that from what their numbers say are one line."""
FOLLOWS = 0.05
"""Share of that difference which each packet corrects."""
HEADER = struct.Struct("<BBHfdfI")
SAMPLES = 1
"""Kind of a frame."""


class Chunk(NamedTuple):
    """A stretch of samples."""

    start_s: float
    rate_hz: float
    samples: npt.NDArray[np.int16]

    @property
    def end_s(self) -> float:
        """Time just after the last sample."""
        return self.start_s + len(self.samples) / self.rate_hz


class Signal:
    """What came of one device lately."""

    def __init__(self) -> None:
        self.step_uv = 0.0
        """Microvolts a step; 0 while it is not known."""
        self._chunks: deque[Chunk] = deque()
        self._seq = -1

    def take(self, packet: wire.Packet) -> Chunk | None:
        """Take a packet; return what a browser should draw of it, None if it came before."""
        last = self._chunks[-1] if self._chunks else None
        if last is not None and self._seq - 1000 < packet.seq <= self._seq and packet.start_s < last.end_s:
            return None
        start_s = packet.start_s
        if last is not None and packet.seq == self._seq + 1 and abs(start_s - last.end_s) < JOINS_S:
            start_s = last.end_s + FOLLOWS * (start_s - last.end_s)
        self._seq = packet.seq
        chunk = thin(Chunk(start_s, packet.rate_hz, packet.samples))
        self._chunks.append(chunk)
        while self._chunks[0].end_s < chunk.end_s - KEPT_S or self._chunks[0].start_s > chunk.end_s:
            self._chunks.popleft()
        return chunk

    def since(self, time_s: float) -> list[Chunk]:
        """Return what is kept from a time on."""
        return [chunk for chunk in self._chunks if chunk.end_s > time_s + 0.5 / chunk.rate_hz]


def thin(chunk: Chunk) -> Chunk:
    """Average a chunk down to what a screen shows; what has a missing sample is missing."""
    every = int(chunk.rate_hz // MOST_HZ)
    n = len(chunk.samples) // every if every > 1 else 0
    if n == 0:
        return chunk
    groups = chunk.samples[: n * every].reshape(n, every)
    means = groups.mean(axis=1).round().astype(np.int16)
    means[(groups == wire.NO_SAMPLE).any(axis=1)] = wire.NO_SAMPLE
    return Chunk(chunk.start_s, len(means) * chunk.rate_hz / len(chunk.samples), means)


def encode_frame(number: int, chunk: Chunk, step_uv: float) -> bytes:
    """Return the frame of a chunk; see the rules above."""
    header = HEADER.pack(SAMPLES, 0, number, chunk.rate_hz, chunk.start_s, step_uv, len(chunk.samples))
    return header + chunk.samples.astype("<i2", copy=False).tobytes()
