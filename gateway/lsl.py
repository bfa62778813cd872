"""A stream of LabStreamingLayer, by `pylsl`: any ECG that some program of this network offers.

Times are those of the samples, corrected for the difference of the machines' clocks and smoothed (`proc_clocksync`,
`proc_dejitter`), put on this machine's UTC. The unit stands in the stream's description of its channels; where it does
not it must be given.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from gateway.stream import Chunk, Stream
from recordings import leads

FIND_S = 5.0
"""How long to look for a stream."""
MOST = 4096
"""Samples that are read in one go."""


class LslStream(Stream):
    """A channel of a stream.

    Parameters
    ----------
    name
        Of the stream; the first of type ECG if None.
    channel
        Its name, or its number from 0; see `recordings.leads.choose_lead` if None.
    unit
        Of the samples, where the stream does not say.
    """

    def __init__(self, name: str | None = None, channel: str | None = None, unit: str | None = None) -> None:
        self._name, self._channel, self._unit = name, channel, unit
        self._inlet: Any = None
        self._number = 0
        self._scale = 1.0
        self._offset_s = 0.0

    def open(self) -> None:
        """Find the stream; see `Stream.open`."""
        try:
            import pylsl
        except (ImportError, RuntimeError):  # RuntimeError: without liblsl
            raise ValueError("LSL streams need the package pylsl: pip install 'ecgwatch[lsl]'.") from None
        by, value = ("type", "ECG") if self._name is None else ("name", self._name)
        found = pylsl.resolve_byprop(by, value, minimum=1, timeout=FIND_S)
        if not found:
            raise ConnectionError(f"No LSL stream whose {by} is {value!r} was found within {FIND_S:g} s.")
        flags = pylsl.proc_clocksync | pylsl.proc_dejitter | pylsl.proc_monotonize
        self._inlet = pylsl.StreamInlet(found[0], max_buflen=360, processing_flags=flags)
        info = self._inlet.info(FIND_S)
        self.rate_hz = float(info.nominal_srate())
        if not self.rate_hz > 0:
            raise ValueError(f"The LSL stream {info.name()!r} has no rate: got 0 Hz, expected a regular stream.")
        self._choose(info)
        self._inlet.open_stream(FIND_S)
        self._offset_s = time.time() - pylsl.local_clock()

    def read(self, wait_s: float) -> list[Chunk]:
        """Return what has come; a stream that went away is found again by its source id."""
        samples, stamps = self._inlet.pull_chunk(timeout=wait_s, max_samples=MOST)
        if not stamps:
            return []
        values = self._scale * np.array([sample[self._number] for sample in samples], np.float64)
        return list(cut(np.array(stamps) + self._offset_s, values, self.rate_hz))

    def close(self) -> None:
        """Close the stream."""
        if self._inlet is not None:
            self._inlet.close_stream()

    def _choose(self, info: Any) -> None:
        names, units = [], []
        channel = info.desc().child("channels").child("channel")
        for number in range(info.channel_count()):
            names.append(channel.child_value("label") or f"channel {number}")
            units.append(self._unit or channel.child_value("unit"))
            channel = channel.next_sibling()
        self._number = _number_of(names, units, self._channel)
        unit = units[self._number]
        scale = leads.microvolts(unit)
        if scale is None:
            expected = f"expected --unit {leads.EXPECTED_UNITS}"
            raise ValueError(f"LSL channel {names[self._number]!r}: got unit {unit!r}, {expected}.")
        self._scale, self.lead = scale, names[self._number][:64]


def _number_of(names: list[str], units: list[str], wanted: str | None) -> int:
    if wanted is not None:
        return leads.find_lead(names, wanted)
    return 0 if len(names) == 1 else leads.choose_lead(names, units)


def cut(stamps_s: np.ndarray, samples_uv: np.ndarray, rate_hz: float) -> list[Chunk]:
    """Cut samples where their times leave some out."""
    breaks = np.flatnonzero(np.diff(stamps_s) > 2.5 / rate_hz) + 1
    begins = [0, *breaks.tolist()]
    return [
        Chunk(float(stamps_s[begin]), samples_uv[begin:end])
        for begin, end in zip(begins, [*begins[1:], stamps_s.size], strict=True)
    ]
