"""What every gateway reads: stretches of samples with the time of the first one; and how they become packets.

Rules
-----
* Samples are counted within an unbroken stretch. A chunk that begins more than `GAP_S` from where the count says breaks
  it: the packet that was being filled goes out as it is, and the next one begins at the chunk's own time. What is
  missing is a gap; nothing is filled in.
* Where chunks begin a little early or late, packets follow slowly: clocks differ, and arrivals jitter.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from monitor import wire
from recordings.recording import Signal

log = logging.getLogger(__name__)

GAP_S = 0.3
"""A chunk that is further from where it should be comes after a gap."""
FOLLOW = 0.05
"""Share of what a chunk is early or late by which the next packet is."""


class Chunk(NamedTuple):
    """Samples that follow each other."""

    start_s: float
    """Time of the first one, seconds since 1970."""
    samples_uv: Signal
    """(n,) NaN where there is none."""


class Stream(ABC):
    """A wearable that is being read."""

    rate_hz: float
    lead: str
    resolution_uv: float = 1.0
    battery_percent: int | None = None

    @abstractmethod
    def open(self) -> None:
        """Connect.

        Raises
        ------
        ConnectionError
            It is not there.
        ValueError
            What it sends is no ECG, or not in a way that can be understood.
        """

    @abstractmethod
    def read(self, wait_s: float) -> list[Chunk]:
        """Return what has come; wait up to `wait_s` if nothing has. A wearable that went away is waited for."""

    @abstractmethod
    def close(self) -> None:
        """Disconnect."""


class Reopened(Stream):
    """A wearable that is opened again, now and then, while it is away.

    Parameters
    ----------
    what
        What it is called in the log.
    retry_s
        How often that is tried.
    """

    def __init__(self, what: str, retry_s: float) -> None:
        self._what, self._every_s = what, retry_s
        self._retry_s = 0.0

    def reopen(self, wait_s: float) -> None:
        """Wait, and open it if that is due and can be done."""
        time.sleep(wait_s)
        if time.monotonic() < self._retry_s:
            return
        self._retry_s = time.monotonic() + self._every_s
        try:
            self.open()
        except ConnectionError:
            return
        log.info("%s is back", self._what)


class Packetizer:
    """Chunks in, packets out.

    Parameters
    ----------
    rate_hz
        Nominal rate of the samples.
    size
        Samples in a packet.
    resolution_uv
        Microvolts per step. Values beyond 16 bits are clipped.
    follow
        See `FOLLOW`; 0 where the chunks' times are exact.
    """

    def __init__(self, rate_hz: float, size: int, resolution_uv: float, follow: float = FOLLOW) -> None:
        self._rate_hz, self._size, self._resolution_uv, self._follow = rate_hz, size, resolution_uv, follow
        self._seq = 0
        self._start_s: float | None = None  # of what waits
        self._waiting: list[npt.NDArray[np.int16]] = []

    def add(self, chunk: Chunk) -> Iterator[wire.Packet]:
        """Take a chunk, and return the packets that are complete."""
        if self._start_s is None:
            self._start_s = chunk.start_s
        waiting = sum(part.size for part in self._waiting)
        late_s = chunk.start_s - (self._start_s + waiting / self._rate_hz)
        if abs(late_s) > GAP_S:
            yield from self.flush()
            self._start_s = chunk.start_s
        else:
            self._start_s += self._follow * late_s
        counts = np.clip(np.rint(chunk.samples_uv / self._resolution_uv), -32767, 32767)
        self._waiting.append(np.where(np.isnan(counts), wire.NO_SAMPLE, counts).astype(np.int16))
        samples = np.concatenate(self._waiting)
        while samples.size >= self._size:
            yield self._make(samples[: self._size])
            samples = samples[self._size :]
        self._waiting = [samples]

    def flush(self) -> Iterator[wire.Packet]:
        """Return what waits, as a shorter packet."""
        samples = np.concatenate(self._waiting) if self._waiting else np.empty(0, np.int16)
        self._waiting = []
        if samples.size:
            yield self._make(samples)

    def _make(self, samples: npt.NDArray[np.int16]) -> wire.Packet:
        assert self._start_s is not None
        packet = wire.Packet(self._seq, self._start_s, self._rate_hz, samples)
        self._seq += 1
        self._start_s += samples.size / self._rate_hz
        return packet
