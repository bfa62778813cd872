"""Files of blocks, to which is only ever appended: what was written whole is read, whatever happened after.

A block is a head of 32 bytes (mark, kind, begin and end in seconds, length and CRC-32 of the content) and its content.
A process that is killed leaves a torn block at the end: readers stop before it, and the next writer cuts it off; after
an error, such as that the disk is full, the writer does so at once. A block that is damaged in the middle is left out,
and counted.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

MARK = b"EW1\n"
_head = struct.Struct("<4sI2d2I")
MOST_BYTES = 1 << 28
"""Longest content of a block."""


class Block(NamedTuple):
    """What one block holds."""

    kind: int
    begin_s: float
    end_s: float
    content: bytes


class Place(NamedTuple):
    """Where a block is, without its content."""

    kind: int
    begin_s: float
    end_s: float
    position: int
    length: int
    crc: int


def append(path: Path, blocks: Sequence[Block]) -> int:
    """Append blocks; return the bytes written. They are on the disk when this returns.

    Raises
    ------
    OSError
        They cannot be written; what was written of them has been cut off again, unless that failed as well: `mend`
        the file before more is appended.
    """
    content = b"".join(_encode(block) for block in blocks)
    with path.open("ab", buffering=0) as file:  # a buffer would be written once more before what is torn is cut off
        before = file.seek(0, os.SEEK_END)
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except OSError:
            file.truncate(before)
            raise
    if before == 0:
        sync_folder(path.parent)
    return len(content)


def mend(path: Path) -> int:
    """Cut off what is torn at the end of a file; return how many bytes that was."""
    good = 0
    for place in scan(path):
        good = place.position + place.length
    torn = path.stat().st_size - good
    if torn:
        with path.open("r+b") as file:
            file.truncate(good)
            os.fsync(file.fileno())
    return torn


def scan(path: Path) -> Iterator[Place]:
    """Return where the blocks of a file are; stop before what is torn, pass over what is damaged."""
    size = path.stat().st_size
    with path.open("rb") as file:
        position: int | None = 0
        while position is not None and position + _head.size <= size:
            file.seek(position)
            mark, kind, begin_s, end_s, length, crc = _head.unpack(file.read(_head.size))
            place = Place(kind, begin_s, end_s, position + _head.size, length, crc)
            if mark == MARK and length <= MOST_BYTES and _is_followed(file, place, size):
                yield place
                position = place.position + length
            else:
                position = _find_mark(file, position + 1)


def read(path: Path, wanted: Callable[[Place], bool]) -> Iterator[Block | None]:
    """Return the blocks of a file that are wanted; None for one that is damaged."""
    places = [place for place in scan(path) if wanted(place)]
    with path.open("rb") as file:
        for place in places:
            file.seek(place.position)
            content = file.read(place.length)
            is_whole = zlib.crc32(content) == place.crc
            yield Block(place.kind, place.begin_s, place.end_s, content) if is_whole else None


def sync_folder(folder: Path) -> None:
    """Make sure that the names in a folder are on the disk."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _encode(block: Block) -> bytes:
    crc = zlib.crc32(block.content)
    return _head.pack(MARK, block.kind, block.begin_s, block.end_s, len(block.content), crc) + block.content


def _is_followed(file: IO[bytes], place: Place, size: int) -> bool:
    """Whether the length of a block can be true: another follows, or the file ends, or the content is whole."""
    end = place.position + place.length
    if end >= size:
        return end == size
    file.seek(end)
    if MARK.startswith(file.read(len(MARK))):  # or a part of the mark, where the file ends
        return True
    file.seek(place.position)
    return zlib.crc32(file.read(place.length)) == place.crc


def _find_mark(file: IO[bytes], position: int) -> int | None:
    """Position of the next mark, or None."""
    file.seek(position)
    before = b""
    while part := file.read(1 << 20):
        found = (before + part).find(MARK)
        if found >= 0:
            return position - len(before) + found
        position += len(part)
        before = (before + part)[1 - len(MARK) :]
    return None
