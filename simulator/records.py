"""Continuous recordings to play, with their beats: WFDB records, and the lead II of the PTB database.

A record is played once; then its device goes offline. Files are read by `recordings`. Knows nothing of devices or
packets.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from monitor import beat
from recordings.marks import Mark, beats_of
from recordings.reader import read_recording
from recordings.recording import Recording, choose_resolution
from simulator.beats import LABELS, load_beats
from simulator.stream import Played, Signal, Stretch

PTB_SIGNALS, PTB_TABLE = "ptbdb_leadII_1000hz_int16_uV.npz", "ptbdb_records.csv"
"""Files with the continuous lead II of PTB: one array a record, and a row about each."""


@dataclass(frozen=True, eq=False)
class Record:
    """One lead of a recording and its beats."""

    name: str
    rate_hz: float
    lead: str
    samples_uv: Signal
    """(n,) microvolts; NaN where there is no signal."""
    beats: tuple[Played, ...]
    """Annotated beats, in order."""
    flutter_s: tuple[tuple[float, float], ...] = ()
    """Start and end of each episode of ventricular flutter or fibrillation: there are no beats to annotate in it."""
    annotated: bool = True
    resolution_uv: float = 1.0
    """Microvolts per ADC count that a device would need to send it."""
    notes: tuple[str, ...] = ()
    """What was chosen or assumed in reading it."""


def read_wfdb(path: Path, lead: str | None = None, annotator: str | None = None) -> Record:
    """Read one lead of a WFDB record and its annotations; see `recordings.reader.read_recording`.

    Raises
    ------
    ValueError
        A file is missing or broken, there is no such lead or annotator, or `wfdb` is not installed.
    """
    return from_recording(read_recording(path, lead, annotator))


def from_recording(read: Recording) -> Record:
    """Make a recording of any format into one to play."""
    resolution_uv, notes = choose_resolution(read.samples_uv)
    return Record(
        read.name,
        read.rate_hz,
        read.lead,
        read.samples_uv,
        _mark(read.name, beats_of(list(read.marks))),
        _find_flutter(list(read.marks)),
        read.annotator is not None,
        resolution_uv,
        (*read.notes, *(f"{read.name}: {note}" for note in notes)),
    )


def _find_flutter(marks: list[Mark]) -> tuple[tuple[float, float], ...]:
    """Stretches from each "[" to the next "]", or to the end of the record."""
    found = []
    start_s: float | None = None
    for time_s, symbol in marks:
        if symbol == "[" and start_s is None:
            start_s = time_s
        elif symbol == "]" and start_s is not None:
            found.append((start_s, time_s))
            start_s = None
    return tuple(found) if start_s is None else (*found, (start_s, math.inf))


def read_ptb(directory: Path) -> list[Record]:
    """Read the continuous PTB lead II, longest record first; the rows of the CSV files are its beats.

    Parameters
    ----------
    directory
        Where the PTB files, their ``_rows.csv`` and the continuous files lie.

    Raises
    ------
    ValueError
        A file is missing or does not fit the others.
    """
    if not (directory / PTB_SIGNALS).is_file():
        raise ValueError(f"No continuous PTB records in {directory}: expected {PTB_SIGNALS} and {PTB_TABLE}.")
    table = {row["record"]: row for row in _read_rows(directory / PTB_TABLE)}
    beats = _ptb_beats(directory)
    records = []
    with np.load(directory / PTB_SIGNALS, allow_pickle=False) as signals:
        for name in signals.files:
            about = table.get(name, {})
            if about.get("unit") != "uV":
                raise ValueError(f"{PTB_TABLE}: got unit {about.get('unit')!r} for record {name}, expected 'uV'.")
            played = sorted(beats.get(name, []), key=lambda one: one.r_peak_s)
            records.append(
                Record(name, float(about["rate_hz"]), about["lead"], signals[name].astype(np.float64), tuple(played))
            )
    return sorted(records, key=lambda record: -record.samples_uv.size)


def play(record: Record) -> Iterator[Stretch]:
    """Play a record once, a second at a time."""
    size = max(1, round(record.rate_hz))
    beats = list(record.beats)
    for start in range(0, record.samples_uv.size, size):
        end_s = (start + size) / record.rate_hz
        here = tuple(played for played in beats if played.r_peak_s < end_s)
        beats = beats[len(here) :]
        yield Stretch(record.samples_uv[start : start + size], here)


def _mark(name: str, marks: list[Mark]) -> tuple[Played, ...]:
    """Make annotations into beats, each 1.2 times the record's median RR interval long."""
    median_rr = float(np.median(np.diff([time for time, _ in marks]))) if len(marks) > 1 else 1.0
    duration = min(beat.SPAN * median_rr, beat.LENGTH / beat.RATE_HZ)
    return tuple(Played(time, symbol, f"{name}:{number}", duration) for number, (time, symbol) in enumerate(marks))


def _ptb_beats(directory: Path) -> dict[str, list[Played]]:
    """Beats of each record, from the CSV files and the tables of where each row was cut."""
    beats = load_beats(directory)
    rows = [row for label in LABELS for row in _read_rows(directory / f"ptbdb_{label}_rows.csv")]
    if len(rows) != len(beats):
        raise ValueError(f"{directory}: got {len(rows)} rows in the ptbdb_*_rows.csv, expected {len(beats)}.")
    found: dict[str, list[Played]] = {}
    for number, row in enumerate(rows):
        start, length = int(row["start_sample_125hz"]), int(row["nonzero_samples"])
        played = Played(
            start / beat.RATE_HZ,
            beats.labels[number],
            beats.sources[number],
            length / beat.RATE_HZ,
            beats.windows[number],
        )
        found.setdefault(row["record"], []).append(played)
    return found


def _read_rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from None
