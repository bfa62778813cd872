"""What Polar's chest straps send and what is saved of it: text of Polar Sensor Logger, and raw frames.

Source of the frames: Polar, "Polar Measurement Data Specification for 3rd party". The first byte says what was measured
(0: ECG), eight bytes when, in nanoseconds since 2000 and of the frame's *last* sample, one byte how samples are written
(0: 24 bits, signed, in microvolts). Bytes are little-endian.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from recordings.recording import Choices, Recording, Signal, make_recording
from recordings.text import read_text
from recordings.timeline import find_rate, lay_out

EPOCH_S = 946_684_800
"""1 January 2000, UTC: where the straps' clocks begin."""
HEAD = 10
"""Bytes before the samples of a frame."""
ECG, INT24 = 0, 0
"""First byte of a frame of ECG; its way to write samples."""
RATE_HZ = 130.0
"""Nominal, of the H10; straps differ by some parts in a thousand."""
LEAD = "ECG"
_hex = re.compile(r"(?:0x)?((?:[0-9A-Fa-f]{2}[-: ]?){13,})")
_header = re.compile(r"phone timestamp\s*;\s*sensor timestamp \[ns\].*;\s*ecg\s*\[uv\]", re.IGNORECASE)


class Frame(NamedTuple):
    """Samples that came together."""

    last_s: float
    """Time of the last sample, seconds since 1970 by the strap's clock."""
    samples_uv: npt.NDArray[np.int32]


def decode_frame(frame: bytes) -> Frame:
    """Decode a frame of ECG.

    Raises
    ------
    ValueError
        It is none.
    """
    size = len(frame) - HEAD
    if size < 3 or size % 3 or frame[0] != ECG or frame[9] != INT24:
        raise ValueError(f"got {frame[:HEAD].hex(' ')} and {size} bytes, expected a frame of ECG in 24 bits")
    nanoseconds = int.from_bytes(frame[1:9], "little")
    octets = np.frombuffer(frame, np.uint8, offset=HEAD).reshape(-1, 3).astype(np.int32)
    samples_uv = octets[:, 0] | octets[:, 1] << 8 | octets[:, 2].astype(np.int8).astype(np.int32) << 16
    return Frame(EPOCH_S + nanoseconds / 1e9, samples_uv)


def is_sensor_logger(text: str) -> bool:
    """Whether the beginning of a file is that of Polar Sensor Logger's ECG."""
    return _header.match(text) is not None


def is_frames(text: str) -> bool:
    """Whether the beginning of a file has raw frames, in hexadecimal digits."""
    lines = text.splitlines()[:100]
    return any(_frame_of(line) is not None for line in (lines if len(lines) < 2 else lines[:-1]))


def read_sensor_logger(path: Path, choices: Choices) -> Recording:
    """Read a text file of Polar Sensor Logger; see `recordings.formats.read`."""
    header, *rows = [line for line in read_text(path).splitlines() if line.strip()]
    names = [name.strip().lower() for name in header.split(";")]
    time, ecg = names.index("sensor timestamp [ns]"), names.index("ecg [uv]")
    if not rows:
        raise ValueError("got no row after the header")
    try:
        fields = [row.split(";") for row in rows]
        nanoseconds = np.array([int(row[time]) for row in fields], np.int64)
        samples_uv = np.array([float(row[ecg]) for row in fields])
    except (ValueError, IndexError):
        row = next(i for i, row in enumerate(fields) if not _is_row(row, time, ecg))
        raise ValueError(f"got {rows[row][:60]!r} in row {row + 1}, expected a time in ns and microvolts") from None
    line = lay_out((nanoseconds - nanoseconds[0]) / 1e9, samples_uv, choices.rate_hz)
    start_s = EPOCH_S + int(nanoseconds[0]) / 1e9
    return make_recording(path.stem, line.rate_hz, LEAD, line.samples_uv, list(line.notes), start_s=start_s)


def read_frames(path: Path, choices: Choices) -> Recording:
    """Read raw frames, each in hexadecimal digits on a line; see `recordings.formats.read`."""
    frames: list[Frame] = []
    unread = 0
    for line in read_text(path).splitlines():
        frame = _frame_of(line)
        if frame is None:
            unread += bool(line.strip())
        elif not frames or frame.last_s > frames[-1].last_s:  # loggers write some frames twice
            frames.append(frame)
    notes = [f"{unread} lines that are no frames are passed over"] if unread else []
    rate_hz = choices.rate_hz or _find_rate(frames)
    begins_s = np.array([frame.last_s - (frame.samples_uv.size - 1) / rate_hz for frame in frames])
    samples_uv: Signal = np.concatenate([frame.samples_uv for frame in frames]).astype(np.float64)
    if len(frames) > 1:
        sizes = [frame.samples_uv.size for frame in frames]
        line_up = lay_out(np.repeat(begins_s - begins_s[0], sizes), samples_uv, rate_hz)
        samples_uv, notes = line_up.samples_uv, [*notes, *line_up.notes]
    if choices.rate_hz is None:
        notes.append(f"the rate is taken from the times: {rate_hz:.6g} Hz" if len(frames) > 2 else "130 Hz is assumed")
    return make_recording(path.stem, rate_hz, LEAD, samples_uv, notes, start_s=float(begins_s[0]))


def _find_rate(frames: list[Frame]) -> float:
    """Rate of the frames: each is stamped with its last sample, so that a step is as long as the frame after it."""
    if len(frames) < 3:
        return RATE_HZ
    return find_rate(np.array([frame.samples_uv.size for frame in frames[1:]]), np.diff([one.last_s for one in frames]))


def _frame_of(line: str) -> Frame | None:
    for found in _hex.finditer(line):
        digits = re.sub("[^0-9A-Fa-f]", "", found.group(1))
        try:
            return decode_frame(bytes.fromhex(digits))
        except ValueError:
            continue
    return None


def _is_row(row: list[str], time: int, ecg: int) -> bool:
    try:
        int(row[time]), float(row[ecg])
    except (ValueError, IndexError):
        return False
    return True
