"""ISHNE Holter files: up to twelve leads, 16 bits a sample.

Source: Badilini, "The ISHNE Holter Standard Output File Format", Ann Noninvasive Electrocardiol 1998;3(3):263-266.
Eight bytes of magic, the CRC-CCITT of what follows of the header, 512 bytes of fixed header, a text block, samples
frame by frame. Names and identity of the person are skipped over.
"""

from __future__ import annotations

import binascii
import struct
from datetime import datetime
from pathlib import Path

import numpy as np

from recordings import leads
from recordings.recording import Choices, Recording, Signal, check_size, make_recording, start_of

MAGIC = b"ISHNE1.0"
ANNOTATIONS = b"ANN  1.0"
"""Magic of the format's annotation files."""
HEADER = 522
"""Bytes of magic, checksum and fixed header."""
NAMES = (
    "unknown", "ECG", "X", "Y", "Z", "I", "II", "III", "aVR", "aVL", "aVF",
    "V1", "V2", "V3", "V4", "V5", "V6", "ES", "AS", "AI",
)  # fmt: skip
"""Leads by their code; 1 is "generic bipolar"."""
MOST_LEADS = 12


def read_ishne(path: Path, choices: Choices) -> Recording:
    """Read one lead of an ISHNE file; see `recordings.formats.read`."""
    with path.open("rb") as file:
        head = file.read(HEADER)
        if head.startswith(ANNOTATIONS):
            raise ValueError("it holds annotations: expected the file with the signals beside it")
        if len(head) < HEADER:
            raise ValueError(f"got {len(head)} bytes, expected a header of {HEADER}")
        text_size, samples, _, offset = struct.unpack_from("<4i", head, 10)
        count, *codes = struct.unpack_from("<13h", head, 156)
        resolutions_nv = struct.unpack_from("<12h", head, 206)
        rate_hz = struct.unpack_from("<h", head, 272)[0]
        if not 0 < count <= MOST_LEADS or offset < HEADER or samples < 1 or rate_hz < 1:
            raise ValueError(f"got {count} leads, {samples} samples, {rate_hz} Hz: the header is damaged")
        text = file.read(max(0, min(text_size, offset - HEADER)))
    notes = _check_sum(head, text)
    names = [NAMES[code] if 0 <= code < len(NAMES) else f"lead {i}" for i, code in enumerate(codes[:count])]
    number = 0 if choices.lead is None else leads.find_lead(names, choices.lead)
    if resolutions_nv[number] <= 0:
        raise ValueError(f"got a resolution of {resolutions_nv[number]} nV, expected a positive one")
    counts = _read_samples(path, offset, samples, count)[:, number]
    start_s, told = _start(head)
    samples_uv: Signal = counts * (resolutions_nv[number] / 1000)
    return make_recording(path.stem, float(rate_hz), names[number], samples_uv, [*notes, *told], start_s=start_s)


def _read_samples(path: Path, offset: int, samples: int, count: int) -> np.memmap[tuple[int, int], np.dtype[np.int16]]:
    """(n, leads) steps. The standard leaves open whether one lead's samples are counted or all: the size tells."""
    held = (path.stat().st_size - offset) // (2 * count)
    stated = samples // count if samples % count == 0 and samples // count == held else samples
    check_size(stated)
    if held < stated:
        size = offset + 2 * count * stated
        raise ValueError(f"it is truncated: got {path.stat().st_size} bytes, expected {size}")
    return np.memmap(path, "<i2", "r", offset, (stated, count))


def _check_sum(head: bytes, text: bytes) -> list[str]:
    """Note a checksum that differs: many recorders write none."""
    stated = struct.unpack_from("<H", head, 8)[0]
    if stated in (0, binascii.crc_hqx(head[10:] + text, 0xFFFF)):
        return []
    return ["the checksum of its header is wrong: rate, lead and resolution may be"]


def _start(head: bytes) -> tuple[float | None, list[str]]:
    day, month, year = struct.unpack_from("<3h", head, 138)
    hour, minute, second = struct.unpack_from("<3h", head, 150)
    try:
        return start_of(datetime(year, month, day, hour, minute, second))
    except ValueError:
        return None, []
