"""WFDB records: one lead in microvolts, with the annotations beside it.

Rules
-----
* A lead has the rate at which it was sampled: the frame rate times its samples per frame. Nothing is averaged.
* Where there is no signal there is NaN: invalid samples, empty segments, segments without the lead. Nothing is filled
  in.
* An offset that a device of 16 bits and 1 uV per ADC count could not send is taken off; any other signal stays.
* Whatever was chosen or assumed that the record does not state is one line of `Recording.notes`.

Both the simulator and training read records through this module. It detects nothing, and knows nothing of devices.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recordings import leads
from recordings.marks import PREFERRED, Mark, choose_annotator, list_annotators, read_marks
from recordings.recording import Recording, Signal, take_offset_off

BYTES_PER_SAMPLE = {
    "8": 1.0, "16": 2.0, "24": 3.0, "32": 4.0, "61": 2.0, "80": 1.0, "160": 2.0, "212": 1.5, "310": 4 / 3, "311": 4 / 3,
}  # fmt: skip
"""Of the signal formats whose file sizes follow from the number of samples."""
EMPTY = "~"
"""Name of a segment without signal."""


@dataclass(frozen=True, slots=True)
class _Header:
    """What the headers state of the lead."""

    number: int
    """Of the lead among the signals; of the layout segment where segments differ."""
    lead: str
    frame_rate_hz: float
    samples_per_frame: int
    segments: tuple[tuple[str, int | None], ...]
    """Name and number of frames of each; a record without segments is its own only one."""
    is_layout: bool
    """Whether the signals of each segment must be looked up by their names."""
    comments: str
    signal_files: frozenset[str]


def read_recording(path: Path, lead: str | None = None, annotator: str | None = None) -> Recording:
    """Read one lead of a WFDB record.

    Parameters
    ----------
    path
        The record, with or without ".hea" or the end of another of its files.
    lead
        Name of the lead, or its number counted from 0; see `recordings.leads.choose_lead` if not given.
    annotator
        Whose annotations to read; see `recordings.marks.choose_annotator` if not given.

    Raises
    ------
    ValueError
        A file is missing, broken or truncated, there is no such lead or annotator, the unit is none of voltage, or
        `wfdb` is not installed.
    """
    base = find_base(path)
    if not _with(base, ".hea").is_file():
        raise ValueError(f"No file {base}.hea: a record needs .hea and its signal files.")
    broken = f"{base} cannot be read as a WFDB record"
    with open_wfdb(broken) as wfdb:
        header, notes = _read_header(wfdb, base, lead)
        parts = [_read_segment(wfdb, base, header, name, frames) for name, frames in header.segments]
    samples_uv = np.concatenate(parts)
    rate_hz = header.frame_rate_hz * header.samples_per_frame
    if samples_uv.size == 0 or not 0 < rate_hz < math.inf:
        raise ValueError(f"{broken}: got {samples_uv.size} samples at {rate_hz:g} Hz.")
    samples_uv, more = take_offset_off(samples_uv)
    known = list_annotators(base, set(header.signal_files))
    chosen, marks = _read_annotations(base, known, annotator, header.frame_rate_hz)
    inside = [mark for mark in marks if mark[0] < samples_uv.size / rate_hz]
    more += _note_annotations(known, chosen, annotator, len(marks) - len(inside))
    told = tuple(f"{base.name}: {note}" for note in [*notes, *more])
    return Recording(base.name, rate_hz, header.lead[:64], samples_uv, chosen, tuple(inside), header.comments, told)


def find_base(path: Path) -> Path:
    """Path of a record, to which ".hea" and so on are added, given with or without one of them."""
    if path.suffix and not _with(path, ".hea").is_file() and path.with_suffix(".hea").is_file():
        return path.with_suffix("")
    return path.with_suffix("") if path.suffix == ".hea" else path


@contextmanager
def open_wfdb(broken: str) -> Iterator[Any]:
    """Give the package `wfdb`, and report whatever goes wrong in it as one ValueError that begins with `broken`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wfdb 4.3 uses what pandas 3 warns of; its users can do nothing about it
        try:
            import wfdb
        except ImportError:
            raise ValueError("WFDB records need the package wfdb: pip install 'ecgwatch[records]'.") from None
        try:
            yield wfdb
        except Exception as error:  # wfdb raises many kinds, none documented
            raise ValueError(f"{broken}: {' '.join(str(error).split()).rstrip('.')}.") from None


def _with(base: Path, suffix: str) -> Path:
    return base.with_name(base.name + suffix)


def _read_header(wfdb: Any, base: Path, lead: str | None) -> tuple[_Header, list[str]]:
    """Read the headers, choose the lead, and note what was chosen or assumed."""
    record = wfdb.rdheader(str(base), rd_segments=False)
    is_layout = isinstance(record, wfdb.MultiRecord) and record.layout == "variable"
    if isinstance(record, wfdb.MultiRecord):
        segments = tuple(zip(record.seg_name, record.seg_len, strict=True))[1 if is_layout else 0 :]
        named = record.seg_name[0] if is_layout else next((name for name, _ in segments if name != EMPTY), EMPTY)
        if named == EMPTY:
            raise ValueError("got only empty segments, expected one with signals")
        about, signals = base.with_name(named), wfdb.rdheader(str(base.with_name(named)))
    else:
        segments, about, signals = ((base.name, record.sig_len),), base, record
    names = _names(signals)
    if not names:
        raise ValueError("got a record without signals, expected at least one")
    units = _units(about)
    number = leads.choose_lead(names, units) if lead is None else leads.find_lead(names, lead)
    notes = leads.note_choice(names, number) if lead is None else []
    if not _gain_field(about, number).partition("/")[0].partition("(")[0].strip("0."):
        notes.append("the header states no gain: 200 ADC counts per mV are assumed")
    if len(_header_lines(base)[0].split()) < 3:
        notes.append(f"the header states no rate: {record.fs:g} Hz is assumed")
    header = _Header(
        number,
        names[number],
        float(record.fs),
        signals.samps_per_frame[number] or 1,
        segments,
        is_layout,
        " ".join(record.comments or []),
        frozenset(signals.file_name or []),
    )
    return header, notes


def _read_segment(wfdb: Any, base: Path, header: _Header, name: str, frames: int | None) -> Signal:
    """Microvolts of the lead in one segment, as long as the record states; NaN where it has no such lead."""
    missing = np.full((frames or 0) * header.samples_per_frame, np.nan)
    if name == EMPTY:
        return missing
    path = base.with_name(name)
    signals = wfdb.rdheader(str(path))
    number = header.number
    if header.is_layout:
        if header.lead not in _names(signals):
            return missing
        number = _names(signals).index(header.lead)
    if (signals.samps_per_frame[number] or 1) != header.samples_per_frame:
        got = f"got {signals.samps_per_frame[number]} samples per frame in segment {name}"
        raise ValueError(f"{got}, expected {header.samples_per_frame} as before")
    unit = _units(path)[number]
    scale = leads.microvolts(unit)
    if scale is None:
        raise ValueError(f"got a signal in {unit!r}, expected {leads.EXPECTED_UNITS}")
    _check_size(path, signals, number)
    read = wfdb.rdrecord(str(path), channels=[number], smooth_frames=False)
    samples: Signal = scale * np.asarray(read.e_p_signal[0], np.float64)
    return samples if frames is None else np.concatenate([samples, missing])[: missing.size]


def _check_size(path: Path, signals: Any, number: int) -> None:
    """Refuse a signal file that is shorter than the header states, as an interrupted download is."""
    file = path.with_name(signals.file_name[number])
    size = BYTES_PER_SAMPLE.get(str(signals.fmt[number]))
    if size is None or not signals.sig_len or not file.is_file():
        return
    per_frame = sum(signals.samps_per_frame[i] or 1 for i in range(signals.n_sig) if signals.file_name[i] == file.name)
    expected = (signals.byte_offset[number] or 0) + math.floor(signals.sig_len * per_frame * size)
    if (got := file.stat().st_size) < expected:
        raise ValueError(f"{file.name} is truncated: got {got} bytes, expected {expected}")


def _read_annotations(
    base: Path, known: list[str], wanted: str | None, frame_rate_hz: float
) -> tuple[str | None, list[Mark]]:
    """Whom to go by, and what they annotated."""
    chosen = choose_annotator(known) if wanted is None else wanted.removeprefix(".")
    if chosen is None:
        return None, []
    if wanted is not None and not _with(base, f".{chosen}").is_file():
        raise ValueError(f"{base}: got annotator {chosen!r}, expected {' or '.join(known) or 'none: there are none'}.")
    try:
        with open_wfdb(f"{base} cannot be read as a WFDB record: annotations .{chosen}") as wfdb:
            return chosen, read_marks(wfdb, base, chosen, frame_rate_hz)
    except ValueError:
        if wanted is None and chosen not in PREFERRED:
            return None, []  # a file of another kind that happens to lie there
        raise


def _note_annotations(known: list[str], chosen: str | None, wanted: str | None, past: int) -> list[str]:
    notes = []
    if chosen is None and known:
        notes.append(f"annotations of {', '.join(f'.{one}' for one in known)}: --annotator chooses one")
    elif chosen is not None and wanted is None and chosen != PREFERRED[0]:
        notes.append(f"annotations of .{chosen}, for want of .{PREFERRED[0]}")
    if past:
        notes.append(f"{past} annotations lie past the end of the signal and are left out")
    return notes


def _names(signals: Any) -> list[str]:
    return [name or f"signal {number}" for number, name in enumerate(signals.sig_name or [])]


def _units(path: Path) -> list[str]:
    """Units of a record's signals. wfdb drops what is not ASCII, and so would read microvolts as volts."""
    count = int(_header_lines(path)[0].split()[1])
    return [_gain_field(path, number).partition("/")[2] or "mV" for number in range(count)]


def _gain_field(path: Path, number: int) -> str:
    """What a header states of the gain of one signal, such as ``200(1024)/mV``; empty if nothing."""
    fields = _header_lines(path)[1 + number].split()
    return fields[2] if len(fields) > 2 else ""


def _header_lines(path: Path) -> list[str]:
    """Lines of a header that are no comments."""
    content = _with(path, ".hea").read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
