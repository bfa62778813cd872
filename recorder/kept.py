"""What is kept of a device, wherever it lies now: in the archive, or still in the journal of a recorder that runs."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path

from monitor import wire
from recorder.archive import Archive, Kept, Message, choose, merge
from recorder.journal import Journal


def read_kept(root: Path, device: str, since_s: float = -math.inf, until_s: float = math.inf) -> Kept:
    """Return what is kept of a device between two times on its clock.

    Raises
    ------
    ValueError
        Nothing is.
    """
    packets: list[wire.Packet] = []
    messages: list[Message] = []
    for entry in Journal(root).recover():
        if entry.device != device:
            continue
        if entry.leaf != "samples":
            messages.append(Message(entry.leaf, entry.arrived_s, entry.payload))
            continue
        with contextlib.suppress(wire.PacketError):
            packets.append(wire.decode_packet(entry.payload))
    in_archive = Archive(root).read(device, since_s, until_s)  # after the journal: what moves is rather found twice
    kept = merge(in_archive, choose(packets, since_s, until_s), messages)
    if not kept.packets and not kept.messages:
        raise ValueError(f"Nothing is kept of device {device} in {root}: got {_list(root)}.")
    return kept


def _list(root: Path) -> str:
    devices = Archive(root).devices()
    return f"{', '.join(devices[:8])}{' ...' * (len(devices) > 8)}" if devices else "no record"
