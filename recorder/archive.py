"""Where the record lies: a folder for each device, a file for each day, a block for each minute.

Rules
-----
* Every packet is kept as it came: its number, its time stamp, its rate and its samples, so that the same packets can go
  through an engine once more. What comes twice is kept once.
* Messages about a device (what it says of itself, alerts, beats) are kept beside its samples, as they were published.
* Days are those of this machine's clock at which something arrived; the times in a block are the device's own.
* A folder that a person looks at holds nothing else: names of people are not in it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from monitor import wire
from recorder import blocks
from recorder.blocks import Block, Place
from recorder.codec import Packed, pack, unpack

SAMPLES, MESSAGES = 1, 2
"""Kinds of blocks."""
SUFFIX = ".ecgw"
MOST_S = 300.0
"""Longest block of samples."""


class Message(NamedTuple):
    """A message about a device."""

    leaf: str
    """Last word of its topic."""
    arrived_s: float
    payload: bytes


class _Samples(msgspec.Struct, frozen=True, array_like=True):
    """Packets of one rate."""

    rate_hz: float
    packets: bytes
    """Numbers (int64), time stamps (float64) and sizes (uint32) of all packets, one after the other; compressed."""
    samples: Packed


_samples = msgspec.msgpack.Decoder(_Samples)
_messages = msgspec.msgpack.Decoder(list[tuple[str, float, bytes]])


@dataclass(frozen=True, eq=False)
class Kept:
    """What is kept of a device."""

    device: str
    packets: list[wire.Packet]
    """By the order in which they came."""
    messages: list[Message]
    damaged: int = 0
    """Blocks that could not be read."""

    def info(self) -> wire.Info | None:
        """Return what the device last said of itself."""
        for message in reversed(self.messages):
            if message.leaf == "info":
                try:
                    return wire.decode(message.payload, wire.Info)
                except wire.PacketError:
                    continue
        return None


@dataclass(slots=True)
class _Seen:
    """Packets of a device that are kept already: those of late."""

    keys: dict[tuple[int, float], None] = field(default_factory=dict)

    MOST = 4000

    def is_new(self, packet: wire.Packet) -> bool:
        key = (packet.seq, packet.start_s)
        if key in self.keys:
            return False
        self.keys[key] = None
        if len(self.keys) > self.MOST:
            del self.keys[next(iter(self.keys))]
        return True


class Archive:
    """The record of all devices.

    Parameters
    ----------
    root
        Its folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._seen: dict[str, _Seen] = {}
        self._mended: set[Path] = set()

    def devices(self) -> list[str]:
        """Ids of the devices of which something is kept."""
        return sorted({path.parent.name for path in self.root.glob(f"*/*{SUFFIX}")})

    def files(self, device: str | None = None) -> list[Path]:
        """Files of a device or of all, the oldest first."""
        return sorted(self.root.glob(f"{device or '*'}/*{SUFFIX}"), key=lambda path: (path.name, path.parent.name))

    def add(self, device: str, packets: Sequence[wire.Packet], messages: Sequence[Message], now_s: float) -> int:
        """Keep packets and messages of a device; return the bytes written. They are on the disk when this returns.

        Raises
        ------
        OSError
            They cannot be written.
        """
        seen = self._seen.get(device) or self._seen.setdefault(device, self._recall(device))
        fresh = [packet for packet in packets if (packet.seq, packet.start_s) not in seen.keys]
        made = [*_blocks_of(fresh), *_block_of(messages)]
        if not made:
            return 0
        path = self.root / device / f"{datetime.fromtimestamp(now_s, UTC):%Y-%m-%d}{SUFFIX}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if path not in self._mended and path.exists():
            blocks.mend(path)
        self._mended.discard(path)  # until it is known that nothing was left half written
        written = blocks.append(path, made)
        self._mended.add(path)
        for packet in fresh:
            seen.is_new(packet)
        return written

    def read(self, device: str, since_s: float = -np.inf, until_s: float = np.inf) -> Kept:
        """Return what is kept of a device; times are on the device's clock."""

        def is_wanted(place: Place) -> bool:
            return place.begin_s < until_s and place.end_s > since_s

        packets: list[wire.Packet] = []
        messages: list[Message] = []
        damaged = 0
        for path in self.files(device):
            for block in blocks.read(path, is_wanted):
                try:
                    found = None if block is None else _decode(block)
                except (ValueError, msgspec.MsgspecError, zlib.error):
                    found = None
                if found is None:
                    damaged += 1
                elif block is not None and block.kind == SAMPLES:
                    packets += [one for one in found if isinstance(one, wire.Packet)]
                else:
                    messages += [one for one in found if isinstance(one, Message)]
        return Kept(device, choose(packets, since_s, until_s), messages, damaged)

    def span(self, device: str) -> tuple[float, float] | None:
        """Return from when to when there are samples of a device, on its clock; None if there are none."""
        places = [place for path in self.files(device) for place in blocks.scan(path) if place.kind == SAMPLES]
        return (min(place.begin_s for place in places), max(place.end_s for place in places)) if places else None

    def forget(self, device: str) -> int:
        """Delete all that is kept of a device; return the bytes that were freed."""
        freed = 0
        for path in self.files(device):
            freed += path.stat().st_size
            path.unlink()
            self._mended.discard(path)
        folder = self.root / device
        if folder.is_dir() and not any(folder.iterdir()):  # what somebody else laid there is theirs
            folder.rmdir()
            blocks.sync_folder(self.root)
        self._seen.pop(device, None)
        return freed

    def bound(self, oldest_s: float, most_bytes: float) -> int:
        """Delete the days before `oldest_s`, and the oldest of what is beyond `most_bytes`; return how many files."""
        first = f"{datetime.fromtimestamp(max(0.0, oldest_s), UTC):%Y-%m-%d}"
        files = self.files()
        sizes = {path: path.stat().st_size for path in files}
        total, deleted = sum(sizes.values()), 0
        for path in files:
            if path.stem >= first and total <= most_bytes:
                break
            total -= sizes[path]
            path.unlink()
            deleted += 1
        return deleted

    def _recall(self, device: str) -> _Seen:
        """Look up which packets were kept last: after a crash some come again."""
        seen = _Seen()
        for path in self.files(device)[-2:]:
            blocks.mend(path)
            self._mended.add(path)
            for packet in _last_packets(path):
                seen.is_new(packet)
        return seen


def _last_packets(path: Path) -> Iterator[wire.Packet]:
    """Packets of the last blocks of a file."""
    last = {place.position for place in [place for place in blocks.scan(path) if place.kind == SAMPLES][-8:]}
    for block in blocks.read(path, lambda place: place.position in last):
        if block is not None:
            yield from (one for one in _decode(block) if isinstance(one, wire.Packet))


def _blocks_of(packets: Iterable[wire.Packet]) -> Iterator[Block]:
    """Blocks of packets: one for each rate and `MOST_S`."""
    for rate_hz, of_rate in groupby(packets, key=lambda packet: packet.rate_hz):
        part: list[wire.Packet] = []
        samples = 0
        for packet in of_rate:
            part.append(packet)
            samples += packet.samples.size
            if samples >= MOST_S * rate_hz:
                yield _encode(part)
                part, samples = [], 0
        if part:
            yield _encode(part)


def _encode(packets: Sequence[wire.Packet]) -> Block:
    rate_hz = packets[0].rate_hz
    numbers = np.array([packet.seq for packet in packets], "<i8")
    stamps = np.array([packet.start_s for packet in packets], "<f8")
    sizes = np.array([packet.samples.size for packet in packets], "<u4")
    table = zlib.compress(b"".join(_delta(column) for column in (numbers, stamps.view("<i8"), sizes.astype("<i8"))), 9)
    samples = pack(np.concatenate([packet.samples for packet in packets]))
    ends = stamps + sizes / rate_hz
    content = msgspec.msgpack.encode(_Samples(rate_hz, table, samples))
    return Block(SAMPLES, float(stamps.min()), float(ends.max()), content)


def _delta(column: np.ndarray) -> bytes:
    """Differences of differences: of numbers that grow evenly, mostly zeros."""
    return np.diff(np.diff(column, prepend=0), prepend=0).astype("<i8").tobytes()


def _undelta(content: bytes) -> np.ndarray:
    return np.cumsum(np.cumsum(np.frombuffer(content, "<i8")))


def _block_of(messages: Sequence[Message]) -> list[Block]:
    if not messages:
        return []
    times_s = [message.arrived_s for message in messages]
    content = zlib.compress(msgspec.msgpack.encode([tuple(message) for message in messages]))
    return [Block(MESSAGES, -np.inf, np.inf, content)] if times_s else []


def _decode(block: Block) -> list[wire.Packet | Message]:
    if block.kind == MESSAGES:
        return [Message(*one) for one in _messages.decode(zlib.decompress(block.content))]
    if block.kind != SAMPLES:
        return []
    about = _samples.decode(block.content)
    table = zlib.decompress(about.packets)
    size = len(table) // 3
    numbers, bits, sizes = (_undelta(table[i * size : (i + 1) * size]) for i in range(3))
    samples = unpack(about.samples)
    ends = np.cumsum(sizes)
    if samples.size != (ends[-1] if ends.size else 0):
        raise ValueError("got packets that are not as long as their samples")
    columns = zip(numbers.tolist(), bits.view("<f8").tolist(), (ends - sizes).tolist(), ends.tolist(), strict=True)
    return [wire.Packet(seq, start_s, about.rate_hz, samples[begin:end]) for seq, start_s, begin, end in columns]


def choose(packets: Iterable[wire.Packet], since_s: float, until_s: float) -> list[wire.Packet]:
    """Return the packets that lie in a time, each once."""
    chosen: dict[tuple[int, float], wire.Packet] = {}
    for packet in packets:
        if packet.start_s < until_s and packet.start_s + packet.samples.size / packet.rate_hz > since_s:
            chosen.setdefault((packet.seq, packet.start_s), packet)
    return list(chosen.values())


def merge(kept: Kept, packets: list[wire.Packet], messages: list[Message]) -> Kept:
    """Return what is kept with what came later; what is in both is there once."""
    every = choose([*kept.packets, *packets], -np.inf, np.inf)
    said = [*kept.messages, *(message for message in messages if message not in kept.messages)]
    return Kept(kept.device, every, said, kept.damaged)
