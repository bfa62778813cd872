"""What is kept of a device, wherever it lies now: in the archive, or still in the journal of a recorder that runs."""

from __future__ import annotations

import contextlib
import math
from datetime import UTC, datetime
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
    packets, messages = _in_journal(root, device)
    in_archive = Archive(root).read(device, since_s, until_s)  # after the journal: what moves is rather found twice
    kept = merge(in_archive, choose(packets, since_s, until_s), messages)
    if not kept.packets and not kept.messages:
        raise none_kept(root, device)
    return kept


def none_kept(root: Path, device: str) -> ValueError:
    """Return the error that there are no samples: of that device, or of the time that was asked for."""
    span = read_span(root, device)
    if span is None:
        return ValueError(f"Nothing is kept of device {device} in {root}: got {_list(root)}.")
    begin, end = (f"{datetime.fromtimestamp(time_s, UTC):%Y-%m-%dT%H:%M:%S}" for time_s in span)
    return ValueError(
        f"No sample of device {device} is kept of that time: got {begin} to {end} (UTC, by the device's clock); "
        "--since and --until choose."
    )


def read_span(root: Path, device: str) -> tuple[float, float] | None:
    """Return from when to when samples of a device are kept, on its clock; None if none are."""
    packets, _ = _in_journal(root, device)
    spans = [(packet.start_s, packet.start_s + packet.samples.size / packet.rate_hz) for packet in packets]
    in_archive = Archive(root).span(device)
    spans += [] if in_archive is None else [in_archive]
    return (min(begin_s for begin_s, _ in spans), max(end_s for _, end_s in spans)) if spans else None


def _in_journal(root: Path, device: str) -> tuple[list[wire.Packet], list[Message]]:
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
    return packets, messages


def _list(root: Path) -> str:
    devices = Archive(root).devices()
    return f"{', '.join(devices[:8])}{' ...' * (len(devices) > 8)}" if devices else "no record"
