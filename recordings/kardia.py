"""AliveCor's ATC files, as KardiaMobile writes them: blocks with checksums, 16 bits a sample.

Source: AliveCor, Alive File Format Specification 1.6. Signature ``ALIVE`` and three zeros, version; then blocks of a
four-letter name, length, content and the sum of all bytes before it. ``fmt `` holds rate and nanovolts per step,
``ecg `` lead I, ``ecg2`` to ``ecg6`` leads II, III, aVR, aVL, aVF; later files have V1 to V6 in ``ecg7`` to ``ecgc``.
"""

from __future__ import annotations

import struct
from datetime import datetime
from pathlib import Path

import numpy as np

from recordings import leads
from recordings.recording import Choices, Recording, make_recording, start_of

SIGNATURE = b"ALIVE\0\0\0"
LEADS = {"ecg ": "I", "ecg2": "II", "ecg3": "III", "ecg4": "aVR", "ecg5": "aVL", "ecg6": "aVF"}
LEADS |= {f"ecg{one}": f"V{number}" for number, one in enumerate("789abc", 1)}
"""Block -> lead."""
RAW = 1
"""The one format of samples that is specified."""


def read_atc(path: Path, choices: Choices) -> Recording:
    """Read one lead of an ATC file; see `recordings.formats.read`."""
    blocks = _read_blocks(path.read_bytes())
    if len(blocks.get("fmt ", b"")) < 6:
        raise ValueError("got no block 'fmt ', expected the rate and the resolution in it")
    kind, rate_hz, resolution_nv = struct.unpack_from("<BHH", blocks["fmt "])
    if kind != RAW or not rate_hz or not resolution_nv:
        raise ValueError(f"got format {kind}, {rate_hz} Hz, {resolution_nv} nV a step, expected format {RAW}")
    there = [block for block in LEADS if block in blocks]
    if not there:
        raise ValueError("got no block 'ecg ', expected at least one lead")
    names = [LEADS[block] for block in there]
    number = 0 if choices.lead is None else leads.find_lead(names, choices.lead)
    content = blocks[there[number]]
    samples_uv = np.frombuffer(content[: len(content) // 2 * 2], "<i2") * (resolution_nv / 1000)
    start_s, notes = _start(blocks.get("info", b""))
    return make_recording(path.stem, float(rate_hz), names[number], samples_uv, notes, start_s=start_s)


def _read_blocks(content: bytes) -> dict[str, bytes]:
    """Blocks by name; raise `ValueError` where one is cut off or damaged."""
    blocks: dict[str, bytes] = {}
    place = len(SIGNATURE) + 4
    while place < len(content):
        if len(content) < place + 8:
            raise ValueError(f"it is truncated: got {len(content)} bytes, expected another block at byte {place}")
        name, size = content[place : place + 4].decode("latin-1"), struct.unpack_from("<I", content, place + 4)[0]
        end = place + 8 + size
        if len(content) < end + 4:
            raise ValueError(f"it is truncated: got {len(content)} bytes, expected {end + 4} for block {name!r}")
        if sum(content[place:end]) & 0xFFFFFFFF != struct.unpack_from("<I", content, end)[0]:
            raise ValueError(f"got a wrong checksum of block {name!r}: the file is damaged")
        blocks.setdefault(name, content[place + 8 : end])
        place = end + 4
    return blocks


def _start(info: bytes) -> tuple[float | None, list[str]]:
    """When it was recorded: ISO 8601 in the first 32 bytes of the block ``info``."""
    text = info[:32].partition(b"\0")[0].decode("latin-1").strip()
    try:
        return start_of(datetime.fromisoformat(text))
    except ValueError:
        return None, []
