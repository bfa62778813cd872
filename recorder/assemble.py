"""What is kept of a device -> one recording at one rate, with holes; its alerts; and the beats that were published."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from monitor import wire
from recorder.archive import Kept
from recordings.annotations import Note, Spell, note_beats
from recordings.export import MISSING, Export
from recordings.recording import Recording, make_recording
from recordings.timeline import find_rate, lay_out

JOINED_S = 10.0
"""Length of packets that are joined."""
SAME_S = 0.0005
"""Time stamps of whole milliseconds miss by so much."""


@dataclass(frozen=True, eq=False)
class Assembled:
    """A device's recording, and what was said of it."""

    recording: Recording
    resolution_uv: float
    alerts: tuple[dict[str, Any], ...]
    """As they were published, of the time of the recording, by time; each once."""
    beats: tuple[dict[str, Any], ...]
    """As they were published; empty if the monitor published none."""

    @property
    def start_s(self) -> float:
        """Time of the first sample."""
        return self.recording.start_s or 0.0


def assemble(kept: Kept) -> Assembled:
    """Lay out a device's packets by their time stamps.

    Raises
    ------
    ValueError
        There are no samples.
    """
    if not kept.packets:
        raise ValueError(f"No sample of device {kept.device} is kept of that time.")
    packets, notes = _of_one_rate(kept)
    info = kept.info()
    resolution_uv = 1.0 if info is None else info.resolution_uv
    if info is None:
        notes.append("the device never said what it sends: steps of 1 uV are assumed")
    if kept.damaged:
        notes.append(f"{kept.damaged} blocks of the record are damaged and left out")
    sizes = np.array([packet.samples.size for packet in packets])
    stamps_s = np.array([packet.start_s for packet in packets])
    rate_hz = packets[0].rate_hz
    if len(packets) > 1 and stamps_s[-1] > stamps_s[0]:
        rate_hz = find_rate(sizes[:-1], np.diff(stamps_s), rate_hz)
    steps = np.concatenate([packet.samples for packet in packets]).astype(np.float64)
    steps[steps == wire.NO_SAMPLE] = np.nan
    if stamps_s[-1] > stamps_s[0]:
        line = lay_out(np.repeat(stamps_s - stamps_s[0], sizes), steps, rate_hz)
        steps, more = line.samples_uv, line.notes
        notes += more
    lead = "ECG" if info is None else info.lead
    recording = make_recording(kept.device, rate_hz, lead, steps * resolution_uv, notes, start_s=float(stamps_s[0]))
    end_s = stamps_s[0] + recording.seconds
    alerts = _said(kept, "alerts", float(stamps_s[0]), end_s)
    return Assembled(recording, resolution_uv, alerts, _said(kept, "beats", float(stamps_s[0]), end_s))


def join_packets(packets: Sequence[wire.Packet]) -> Iterator[wire.Packet]:
    """Join packets that follow each other without a gap into longer ones, by time: an engine finds the same, sooner.

    They are numbered anew; a number is left out wherever one does not follow the one before.
    """
    number, held, end_s, last = 0, list[wire.Packet](), -np.inf, -1
    for packet in sorted(packets, key=lambda one: one.start_s):
        follows = packet.seq == last + 1 and abs(packet.start_s - end_s) <= SAME_S
        if held and (not follows or packet.rate_hz != held[0].rate_hz or end_s - held[0].start_s >= JOINED_S):
            yield _joined(number, held)
            number, held = number + (1 if follows else 2), []
        held.append(packet)
        samples = sum(one.samples.size for one in held)
        end_s, last = held[0].start_s + samples / packet.rate_hz, packet.seq
    if held:
        yield _joined(number, held)


def _joined(number: int, held: list[wire.Packet]) -> wire.Packet:
    return wire.Packet(number, held[0].start_s, held[0].rate_hz, np.concatenate([one.samples for one in held]))


def to_export(assembled: Assembled, beats: Sequence[Note], comments: Sequence[str]) -> Export:
    """Make what is to be written; times of `beats` are seconds since the start."""
    recording = assembled.recording
    steps = np.rint(recording.samples_uv / assembled.resolution_uv)
    return Export(
        name=recording.name,
        lead=recording.lead,
        rate_hz=recording.rate_hz,
        start_s=assembled.start_s,
        steps=np.where(np.isnan(steps), MISSING, np.clip(steps, -32767, 32767)).astype(np.int16),
        resolution_uv=assembled.resolution_uv,
        beats=tuple(beats),
        alerts=tuple(spells(assembled)),
        comments=(*recording.notes, *comments),
    )


def published_beats(assembled: Assembled) -> list[Note]:
    """Beats that the monitor published, as annotations."""
    times_s = [float(beat["qrs_s"]) - assembled.start_s for beat in assembled.beats]
    return note_beats(times_s, [str(beat.get("label") or "withheld") for beat in assembled.beats])


def spells(assembled: Assembled) -> list[Spell]:
    """Alerts from begin to end, as far as both were published; seconds since the start."""
    ends = {alert["episode"]: alert for alert in assembled.alerts if alert.get("state") == "end"}
    found = []
    for alert in assembled.alerts:
        if alert.get("state") != "new":
            continue
        end = ends.get(alert["episode"])
        end_s = None if end is None else float(end["time_s"]) - assembled.start_s
        begin_s = max(0.0, float(alert["since_s"]) - assembled.start_s)
        found.append(Spell(str(alert["kind"]), begin_s, end_s, str(alert.get("text") or "")))
    return sorted(found, key=lambda one: one.begin_s)


def _of_one_rate(kept: Kept) -> tuple[list[wire.Packet], list[str]]:
    """Packets of the rate that most samples have, by time."""
    samples: Counter[float] = Counter()
    for packet in kept.packets:
        samples[packet.rate_hz] += packet.samples.size
    (rate_hz, count), *others = samples.most_common()
    notes = [f"{number} samples at {other:g} Hz are left out" for other, number in others] if count else []
    return sorted((one for one in kept.packets if one.rate_hz == rate_hz), key=lambda one: one.start_s), notes


def _said(kept: Kept, leaf: str, since_s: float, until_s: float) -> tuple[dict[str, Any], ...]:
    """Messages of a time, by time; each once, and none that cannot be read."""
    found: dict[str, dict[str, Any]] = {}
    for message in kept.messages:
        if message.leaf != leaf:
            continue
        try:
            said = json.loads(message.payload)
            time_s = float(said["time_s" if leaf == "alerts" else "qrs_s"])
            name = str(said["id"])
        except (ValueError, KeyError, TypeError):
            continue
        if since_s <= time_s <= until_s:
            found.setdefault(name, said)
    return tuple(sorted(found.values(), key=lambda one: float(one.get("time_s", one.get("qrs_s", 0.0)))))
