"""What came and is not in the archive yet: one file for all devices, appended and synced before it is acknowledged.

The archive is written once a minute, in blocks that are long enough to compress well. Until then the journal holds the
messages as they came. It is deleted when all of it is in the archive; a process that was killed finds it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from recorder import blocks
from recorder.blocks import Block

KIND = 3
SUFFIX = ".journal"
_entries = msgspec.msgpack.Decoder(list[tuple[str, str, float, bytes]])


class Entry(NamedTuple):
    """A message as it came."""

    device: str
    leaf: str
    arrived_s: float
    payload: bytes


class Journal:
    """The journal of a recorder.

    Parameters
    ----------
    folder
        Where its files lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = max((int(path.stem) for path in self._files()), default=0) + 1
        self._may_be_torn = False

    def recover(self) -> Iterator[Entry]:
        """Return what an earlier process left."""
        for path in self._files():
            for block in blocks.read(path, lambda place: place.kind == KIND):
                if block is not None:
                    yield from (Entry(*one) for one in _entries.decode(block.content))

    def write(self, entries: Sequence[Entry]) -> None:
        """Append; what was written is on the disk when this returns.

        Raises
        ------
        OSError
            It cannot be written.
        """
        path = self._path(self._number)
        if self._may_be_torn and path.exists():
            blocks.mend(path)
        self._may_be_torn = True
        blocks.append(path, [_encode(entries)])
        self._may_be_torn = False

    def replace(self, entries: Sequence[Entry]) -> None:
        """Hold these entries, and nothing else that was written so far: they are safe before that is deleted.

        Raises
        ------
        OSError
            They cannot be written: all is still there.
        """
        new = self._path(self._number + 1)
        new.unlink(missing_ok=True)  # of an attempt that failed
        old = self._files()
        if entries:
            blocks.append(new, [_encode(entries)])
        for path in old:
            path.unlink()
        self._number += 1
        self._may_be_torn = False

    def clear(self) -> None:
        """Forget all that was written so far."""
        for path in self._files():
            path.unlink()
        self._number += 1

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}{SUFFIX}"

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob(f"*{SUFFIX}"), key=lambda path: int(path.stem))


def _encode(entries: Sequence[Entry]) -> Block:
    return Block(KIND, 0.0, 0.0, msgspec.msgpack.encode([tuple(entry) for entry in entries]))
