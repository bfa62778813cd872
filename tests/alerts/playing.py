"""Recordings that are no WFDB records, and what the engine publishes of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from monitor import wire
from monitor.panel import Panel
from recordings.recording import Signal, choose_resolution
from simulator.alert_score import Published, publish
from simulator.records import Record, read_wfdb

HEART = ("high", "medium")
"""Priorities of alerts about the heart that somebody should look at soon."""


def make_record(name: str, samples_uv: Signal, rate_hz: float, lead: str, resolution_uv: float | None = None) -> Record:
    """Return a record without annotations; the resolution is chosen if not given."""
    resolution_uv = resolution_uv or choose_resolution(samples_uv)[0]
    return Record(name, rate_hz, lead, samples_uv, (), annotated=False, resolution_uv=resolution_uv)


def read_records(folder: Path) -> Iterator[tuple[Path, Record]]:
    """Read the WFDB records of a folder by name, with the path of each."""
    for path in sorted(folder.glob("*.hea")):
        yield path, read_wfdb(path)


def play(record: Record, panel: Panel) -> tuple[Published, list[tuple[int, wire.Verdict]]]:
    """Play a record; return also the sample and the verdict of each beat that was found."""
    published = publish(record, panel)
    last = record.samples_uv.size - 1
    places = [(min(last, round(beat.qrs_s * record.rate_hz)), beat.verdict) for beat in beats_of(published)]
    return published, places


def beats_of(published: Published) -> list[wire.Beat]:
    """All beats that were found."""
    return [message for message in published.messages if isinstance(message, wire.Beat)]


def begun(published: Published, *severities: str) -> list[wire.Alert]:
    """First messages of all alerts of some priorities."""
    return [one for one in published.alerts if one.state == "new" and one.severity in severities]
