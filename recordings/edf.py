"""EDF, EDF+ and BDF: one signal in microvolts, with the annotations of EDF+, by the package `edfio`.

A discontinuous file (EDF+D) is laid out by the times of its data records; what lies between them is missing.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from recordings import leads
from recordings.export import GAP_TEXT
from recordings.marks import Mark
from recordings.recording import Choices, Recording, Signal, make_recording, start_of
from recordings.timeline import open_holes

BDF_MARK = b"\xffBIOSEMI"


def read_edf(path: Path, choices: Choices) -> Recording:
    """Read one signal of an EDF, EDF+ or BDF file; see `recordings.formats.read`."""
    try:
        import edfio
    except ImportError:
        raise ValueError("EDF files need the package edfio: pip install 'ecgwatch[records]'") from None
    with path.open("rb") as file:
        is_bdf = file.read(8) == BDF_MARK
    _check_size(path, 3 if is_bdf else 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers that are not quite by the standard
        try:
            edf = (edfio.read_bdf if is_bdf else edfio.read_edf)(path)
        except Exception as error:  # edfio raises many kinds on a broken header, none documented
            raise ValueError(str(error)) from None
        try:
            return _read(path, edf, choices)
        except UnicodeError:  # its texts are decoded when they are asked for
            raise ValueError("it is damaged: got bytes that are no text for a name or an annotation") from None


def _read(path: Path, edf: Any, choices: Choices) -> Recording:
    names, units = [one.label for one in edf.signals], [one.physical_dimension for one in edf.signals]
    if not names:
        raise ValueError("got a file without signals, expected at least one")
    number = leads.choose_lead(names, units) if choices.lead is None else leads.find_lead(names, choices.lead)
    notes = leads.note_choice(names, number) if choices.lead is None else []
    scale = leads.microvolts(units[number])
    if scale is None:
        raise ValueError(f"got signal {names[number]!r} in {units[number]!r}, expected {leads.EXPECTED_UNITS}")
    signal = edf.signals[number]
    samples_uv: Signal = scale * np.asarray(signal.data, np.float64)
    samples_uv, more = _open_gaps(edf, samples_uv, signal.sampling_frequency)
    marks: tuple[Mark, ...] = tuple(sorted((float(one.onset), one.text) for one in edf.annotations))
    samples_uv = _open_annotated(edf, samples_uv, signal.sampling_frequency)
    start_s, told = _start(edf)
    rate_hz = float(signal.sampling_frequency)
    return make_recording(
        path.stem, rate_hz, names[number], samples_uv, [*notes, *more, *told], start_s=start_s, marks=marks
    )


def _open_gaps(edf: Any, samples_uv: Signal, rate_hz: float) -> tuple[Signal, list[str]]:
    """Insert what is missing between the data records of a discontinuous file."""
    if not edf.reserved.startswith(("EDF+D", "BDF+D")) or edf.is_continuous:
        return samples_uv, []
    onsets_s = _onsets(edf)
    per_record = samples_uv.size // onsets_s.size
    late = np.diff(onsets_s) - edf.data_record_duration
    if late.min(initial=0.0) < -0.5 / rate_hz:
        raise ValueError("got data records whose times run back or overlap")
    missing = np.rint(np.maximum(late, 0) * rate_hz).astype(np.int64)
    holes = int(np.count_nonzero(missing))
    lost_s = missing.sum() / rate_hz
    note = f"{holes} hole{'s' * (holes != 1)} between its data records, {lost_s:.1f} s in all, stay missing"
    return open_holes(samples_uv, per_record * np.arange(1, onsets_s.size), missing), [note]


def _open_annotated(edf: Any, samples_uv: Signal, rate_hz: float) -> Signal:
    """Take away what is annotated as missing: `recordings.write_edf` does that, since EDF knows no missing sample."""
    for one in edf.annotations:
        if one.text == GAP_TEXT and one.duration is not None:
            begin = round(one.onset * rate_hz)
            samples_uv[begin : begin + round(one.duration * rate_hz)] = np.nan
    return samples_uv


def _onsets(edf: Any) -> Signal:
    """(records,) seconds at which the data records begin: the first thing in each of their annotation signals."""
    raw = edf._timekeeping_signal.digital  # edfio offers these times in no other way
    records = raw.reshape(edf.num_data_records, -1)
    return np.array([float(record.tobytes().partition(b"\x14")[0]) for record in records])


def _start(edf: Any) -> tuple[float | None, list[str]]:
    try:
        return start_of(edf.startdatetime)
    except ValueError:
        return None, []  # anonymised, as EDF+ allows


def _check_size(path: Path, bytes_per_sample: int) -> None:
    """Refuse a file that is shorter than its header states; edfio would only warn."""
    with path.open("rb") as file:
        head = file.read(256)
        if len(head) < 256:
            raise ValueError(f"got {len(head)} bytes, expected a header of at least 256")
        signals = _count(head[252:256], "signals", 1)
        records = _count(head[236:244], "data records", -1)
        try:
            is_lasting = float(head[244:252]) > 0
        except ValueError:
            is_lasting = False
        if not is_lasting:
            raise ValueError(f"got data records of {_shown(head[244:252])} s in its header, expected more than 0")
        more = file.read(256 * signals)
    if len(more) < 256 * signals:
        raise ValueError(f"got {256 + len(more)} bytes, expected a header of {256 * (signals + 1)}")
    begin = 216 * signals
    sizes = [more[begin + 8 * i : begin + 8 * i + 8] for i in range(signals)]
    per_record = sum(_count(size, "samples of a signal in a data record", 1) for size in sizes)
    expected = 256 * (signals + 1) + max(records, 0) * per_record * bytes_per_sample
    if (got := path.stat().st_size) < expected:
        raise ValueError(f"it is truncated: got {got} bytes, expected {expected}")


def _count(field: bytes, of_what: str, least: int) -> int:
    """Return a whole number of a header, or raise `ValueError` in words of what it counts."""
    try:
        number = int(field)
    except ValueError:
        number = least - 1
    if number < least:
        raise ValueError(f"its header is damaged: got {_shown(field)} as the number of {of_what}, expected digits")
    return number


def _shown(field: bytes) -> str:
    return repr(field.decode("ascii", "backslashreplace").strip())
