"""Continuous recordings with their annotations: WFDB records, and the lead II of the PTB database.

A record is played once; then its device goes offline. Knows nothing of devices or packets.
"""

from __future__ import annotations

import csv
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from monitor import beat
from simulator.beats import LABELS, load_beats
from simulator.stream import Played, Signal, Stretch

CLASSES = ("N", "S", "V", "F", "Q")
"""Normal (bundle branch block included), supraventricular ectopic, ventricular ectopic, fusion, paced or unknown."""
CLASS_OF = {
    symbol: name
    for name, symbols in zip(CLASSES, ("NLRBej", "AaJSn", "VEr", "F", "/fQ?"), strict=True)
    for symbol in symbols
}
"""Annotation symbol of WFDB that marks a beat -> its class (ANSI/AAMI EC57; de Chazal, O'Dwyer and Reilly 2004)."""
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


def read_wfdb(path: Path, lead: str | None = None, *, needs_annotations: bool = True) -> Record:
    """Read one lead of a WFDB record and the annotations beside it (.atr).

    Parameters
    ----------
    path
        The record, with or without ".hea".
    lead
        Its name, or its number counted from 0; the first one if not given.
    needs_annotations
        Whether a record without .atr is refused; else it is one without beats, not `Record.annotated`.

    Raises
    ------
    ValueError
        A file is missing or broken, there is no such lead, its unit is none of volts, or `wfdb` is not installed.
    """
    base = find_base(path)
    annotated = base.with_name(f"{base.name}.atr").is_file()
    for suffix in (".hea", ".atr") if needs_annotations else (".hea",):
        if not base.with_name(base.name + suffix).is_file():
            raise ValueError(f"No file {base}{suffix}: a record needs .hea, its signal file and .atr.")
    record, notes = _read_files(base, lead, annotated)
    unit = {"V": 1e6, "mV": 1e3, "uV": 1.0}.get(record.units[0])
    if unit is None:
        raise ValueError(f"{base}: got a signal in {record.units[0]!r}, expected V, mV or uV.")
    rate_hz = float(record.fs)
    marks = [(float(sample) / rate_hz, symbol) for sample, symbol in notes]
    return Record(
        base.name,
        rate_hz,
        str(record.sig_name[0])[:64],
        unit * record.p_signal[:, 0],
        _mark(base.name, [mark for mark in marks if mark[1] in CLASS_OF]),
        _find_flutter(marks),
        annotated,
    )


def find_base(path: Path) -> Path:
    """Path of a record, to which ".hea" and so on are added, given with or without one of them."""
    return path.with_suffix("") if path.suffix in (".hea", ".dat", ".mat", ".atr") else path


def _find_flutter(marks: list[tuple[float, str]]) -> tuple[tuple[float, float], ...]:
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


def _find_lead(base: Path, names: list[str], lead: str | None) -> int:
    """Number of a lead given by name or number."""
    if not names:
        raise ValueError(f"{base}: got a record without signals, expected at least one.")
    if lead is None:
        return 0
    if lead in names:
        return names.index(lead)
    if lead.isdecimal() and int(lead) < len(names):
        return int(lead)
    known = ", ".join(f"{number} ({name})" for number, name in enumerate(names))
    raise ValueError(f"{base}: got lead {lead!r}, expected {known}.")


def _read_files(base: Path, lead: str | None, annotated: bool) -> tuple[Any, list[tuple[int, str]]]:
    """Return wfdb's record with the one lead, and (sample, symbol) of its annotations."""
    broken = f"{base} cannot be read as a WFDB record"
    with open_wfdb(broken) as wfdb:
        header = wfdb.rdheader(str(base), rd_segments=True)
        names = header.get_sig_name() if isinstance(header, wfdb.MultiRecord) else header.sig_name
    number = _find_lead(base, names or [], lead)
    with open_wfdb(broken) as wfdb:
        record = wfdb.rdrecord(str(base), channels=[number])
        notes = wfdb.rdann(str(base), "atr") if annotated else None
    if record.p_signal.size == 0 or not record.fs > 0:
        raise ValueError(f"{broken}: got {record.p_signal.size} samples at {record.fs:g} Hz.")
    return record, [] if notes is None else list(zip(notes.sample.tolist(), notes.symbol, strict=True))


@contextmanager
def open_wfdb(broken: str) -> Iterator[Any]:
    """Give the package `wfdb`, and tell whatever goes wrong in it as one ValueError that begins with `broken`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wfdb 4.3 uses what pandas 3 warns of; its users can do nothing about it
        try:
            import wfdb
        except ImportError:
            raise ValueError("WFDB records need the package wfdb: pip install 'ecgwatch[records]'.") from None
        try:
            yield wfdb
        except Exception as error:  # wfdb raises many kinds, none documented
            raise ValueError(f"{broken}: {' '.join(str(error).split())}") from None


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


def _mark(name: str, marks: list[tuple[float, str]]) -> tuple[Played, ...]:
    """Make annotations into beats, each 1.2 times the record's median RR interval long."""
    median_rr = float(np.median(np.diff([time for time, _ in marks]))) if len(marks) > 1 else 1.0
    duration = min(beat.SPAN * median_rr, beat.LENGTH / beat.RATE_HZ)
    return tuple(Played(time, symbol, f"{name}:{number}", duration) for number, (time, symbol) in enumerate(marks))


def _ptb_beats(directory: Path) -> dict[str, list[Played]]:
    """Beats of each record, from the CSV files and the tables that say where each row was cut."""
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
