"""``ecgwatch export-ecg``: what is kept of a device, into a file that other people's software reads."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from analysis.examine import Findings, examine_packets
from monitor import wire
from monitor.alerts.episode import AlertSettings
from monitor.engine import warm_up
from monitor.panel import DEFAULT_MODEL, Panel, load_panel
from recorder.archive import Kept
from recorder.assemble import Assembled, assemble, join_packets, published_beats, to_export
from recorder.kept import none_kept, read_kept, read_span
from recordings import export
from recordings.annotations import Note, note_beats


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which part of the record."""

    root: Path
    device: str
    since_s: float = -math.inf
    """Seconds since 1970, on the device's clock."""
    until_s: float = math.inf
    model: str = DEFAULT_MODEL
    """Names the beats, where the monitor published none."""

    def __post_init__(self) -> None:
        wire.check_device_id(self.device)
        if not self.since_s < self.until_s:
            raise ValueError(f"The end must come after the begin: got {self.since_s:g} and {self.until_s:g}.")

    def read(self) -> Kept:
        """Read it; `ValueError` if nothing is kept, or nothing of that time: with the time of which there is."""
        kept = read_kept(self.root, self.device, self.since_s, self.until_s)
        if not kept.packets and read_span(self.root, self.device) is not None:
            raise none_kept(self.root, self.device)
        return kept


def run_export(wanted: Wanted, name: str, output: Path | None) -> Path:
    """Write what is wanted in a format; return the file.

    Raises
    ------
    ValueError
        Nothing is kept, or the format cannot hold it; see `recordings.export.write`.
    """
    kept = wanted.read()
    assembled = assemble(kept)
    beats, comment = name_beats(kept, assembled, wanted.model)
    path = output or Path(f"{wanted.device}-{datetime.fromtimestamp(assembled.start_s, UTC):%Y%m%dT%H%M%S}")
    return export.write(to_export(assembled, beats, [comment]), path, name)


def name_beats(kept: Kept, assembled: Assembled, model: str) -> tuple[list[Note], str]:
    """Beats with their classes: as they were published, else as a model names them now; and what to say of that."""
    if assembled.beats:
        return published_beats(assembled), "beats as the monitor published them"
    found = examine_kept(kept, assembled.start_s, load_panel(model))
    return note_beats(found.qrs_s.tolist(), found.labels), f"beats found by the model {model} when this was written"


def examine_kept(kept: Kept, start_s: float, panel: Panel, alerts: AlertSettings | None = None) -> Findings:
    """Send the packets that are kept through an engine; times count from `start_s`."""
    warm_up()
    return examine_packets(kept.device, join_packets(kept.packets), kept.info(), panel, alerts).since(start_s)


def moment(text: str, now_s: float | None = None) -> float:
    """Seconds since 1970 of a moment: ``24h`` (ago), or a date and time, UTC where it names no zone.

    Raises
    ------
    ValueError
        It is neither.
    """
    units_s = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
    if text[-1:] in units_s and text[:-1].replace(".", "", 1).isdecimal():
        return (time.time() if now_s is None else now_s) - float(text[:-1]) * units_s[text[-1]]
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        expected = "a time ago such as 24h, or a date such as 2026-11-27T21:00"
        raise ValueError(f"Time: got {text!r}, expected {expected}.") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
