"""ECG in plain text: columns, with or without names, units and times. What is not stated is guessed, and said.

Rules
-----
* Columns stand apart by semicolons, tabs, commas or blanks; lines that begin with # or % are comments, and so is a
  first line ``sep=;``. Where columns do not stand apart by commas, or fields are in quotes, a comma in a number is a
  decimal point.
* A row of words before the numbers names the columns, a second one their units, as PhysioNet writes them. A unit may
  also stand in a name: ``ecg [uV]``, ``ECG (mV)``, ``ecg_mv``.
* The ECG is the column that is named so, or the only one that is no time. The time is the column that is named so:
  dates, ``0:00:01.008``, or numbers in s, ms, us or ns; of these the one by which the rate is one of an ECG. Without
  names it is the first of several columns, if that grows evenly and does not just count.
* A field that is empty, "nan" or "NA" is a missing sample.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from recordings import leads, moments
from recordings.recording import RATES_HZ, Choices, Recording, Signal, make_recording
from recordings.text import number, read_text
from recordings.timeline import lay_out

TIME = re.compile(
    r"(elapsed|phone|sensor|sample|unix|system|local|device|relative)?[ _]*(time|timestamp|date|datetime|zeit|t)s?\b"
)
COUNTER = re.compile(r"(sample|index|seq|nseq|no|nr|row|#|n|i)([ _]*(number|no|nr|index|#))?|unnamed: 0|")
"""Names, in lower case and without their units, of columns that are no signal."""
MISSING = {"", "nan", "na", "n/a", "null", "none", "-"}
SECONDS = {"s": 1.0, "sec": 1.0, "seconds": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
SPANS_UV = (50.0, 20_000.0)
"""Least and most of what an ECG spans in two seconds: by it the unit is guessed."""
MOST_UV = 1e6
"""Beyond that a unit is doubted, also one that is stated."""
_excel = re.compile(r"sep=[;,\t|]", re.IGNORECASE)
"""The first line of a table, where it is for Excel alone."""
_UNIT = r"(nv|uv|mv|v|µv|μv|ns|us|ms|s|sec|seconds|volts?|millivolts?|microvolts?)"
_unit_in_name = re.compile(rf"^(.*?)[ _]*(?:[\[(]\s*{_UNIT}\s*[\])]|(?<=[ _]){_UNIT})$")


@dataclass(frozen=True, slots=True)
class _Table:
    """A file, taken apart."""

    names: list[str]
    units: list[str | None]
    rows: list[str]
    separator: str | None
    """None: blanks."""
    line: int
    """Number of the first row in the file, from 1."""
    has_names: bool
    notes: list[str]
    """What was left out."""

    def column(self, position: int) -> list[str]:
        """Fields of a column."""
        try:
            return [row.split(self.separator)[position].strip().strip("'\"") for row in self.rows]
        except IndexError:
            short = next(i for i, row in enumerate(self.rows) if len(row.split(self.separator)) <= position)
            raise ValueError(
                f"got {self.rows[short][:60]!r} in row {self.line + short}, expected {len(self.names)} columns"
            ) from None


def read_table(path: Path, choices: Choices) -> Recording:
    """Read one column of a text file; see `recordings.formats.read`."""
    table = _take_apart(read_text(path))
    time = _find_time(table, choices)
    position, notes = _find_ecg(table, time, choices)
    samples = _numbers(table, position)
    if infinite := np.count_nonzero(np.isinf(samples)):
        samples[np.isinf(samples)] = np.nan
        notes.append(f"{infinite} infinite values are taken for missing samples")
    scale, more = _find_scale(table, position, samples, choices, _stated_rate(table, time, choices))
    samples_uv: Signal = scale * samples
    notes += [*more, *table.notes]
    start_s = None
    if time is None:
        if choices.rate_hz is None:
            raise ValueError("got no column of times: expected --rate")
        rate_hz = choices.rate_hz
    else:
        times_s, start_s, told = _read_times(table, time, choices)
        if not table.has_names and choices.time is None and start_s is None:
            told.append(f"column {time}, which grows evenly, is taken for the times")
        line = lay_out(times_s, samples_uv, choices.rate_hz)
        rate_hz, samples_uv = line.rate_hz, line.samples_uv
        notes += [*told, *line.notes]
    return make_recording(path.stem, rate_hz, table.names[position], samples_uv, notes, start_s=start_s)


def _take_apart(text: str) -> _Table:
    lines = text.splitlines()
    if lines and _excel.fullmatch(lines[0].strip(' "')):
        lines[0] = ""
    kept = [(i, line) for i, line in enumerate(lines, 1) if line.strip() and not line.lstrip().startswith(("#", "%"))]
    if not kept:
        raise ValueError("got no rows but comments")
    kept, separator = _unquote(kept)
    fields = [[field.strip().strip("'\"") for field in line.split(separator)] for _, line in kept[:3]]
    heads = next((i for i, row in enumerate(fields) if _is_data(row)), None)
    if heads is None:
        raise ValueError(f"got {kept[0][1][:60]!r}, expected rows of numbers")
    width = len(fields[heads])
    names = fields[0] if heads else [f"column {i}" for i in range(width)]
    names = [*names, *(f"column {i}" for i in range(len(names), width))][: max(width, len(names))]
    units: list[str | None] = [None] * len(names)
    if heads == 2:
        units = [unit or None for unit in fields[1]][: len(names)] + [None] * (len(names) - len(fields[1]))
    found = [_split_unit(name) for name in names]
    units = [unit or stated for unit, (_, stated) in zip(units, found, strict=True)]
    rows, notes = [line for _, line in kept[heads:]], []
    if _is_cut_off(rows, separator):
        notes.append(f"the last line is cut off, and left out: {rows.pop()[:40]!r}")
    if wide := _count_wide(rows, separator):
        notes.append(f"{wide} row{'s have' if wide > 1 else ' has'} more columns than the others, which are not read")
    return _Table(names, units, rows, separator, kept[heads][0], heads > 0, notes)


def _unquote(kept: list[tuple[int, str]]) -> tuple[list[tuple[int, str]], str | None]:
    """Return rows in which a separator stands between fields alone, and which that is."""
    sample = re.sub('"[^"]*"', "", kept[min(len(kept), 20) - 1][1])
    separator = next((one for one in (";", "\t", ",") if one in sample), None)
    if separator is None or not any('"' in line for _, line in kept[:50]):
        return kept, separator
    fields = csv.reader((line for _, line in kept), delimiter=separator, skipinitialspace=True)
    return [
        (number, "\t".join(field.replace("\t", " ") for field in row))
        for (number, _), row in zip(kept, fields, strict=False)
    ], "\t"


def _count_wide(rows: list[str], separator: str | None) -> int:
    """How many rows have more columns than most; one that ends with a separator has none behind it."""
    if separator is None:
        return 0
    widths = [row.rstrip().removesuffix(separator).count(separator) for row in rows]
    usual = Counter(widths).most_common(1)[0][0]
    return sum(width > usual for width in widths)


def _is_cut_off(rows: list[str], separator: str | None) -> bool:
    """Whether a file ends within a row, as where a logger was killed while it wrote."""
    return len(rows) > 2 and len(rows[-1].split(separator)) < len(rows[-2].split(separator))


def _is_data(row: list[str]) -> bool:
    """Whether a row is none of names or units: something in it is a number."""
    return any(_is_number(field) for field in row)


def _is_number(field: str) -> bool:
    try:
        number(field)
    except ValueError:
        return False
    return field.lower() not in MISSING


def _split_unit(name: str) -> tuple[str, str | None]:
    """Name without its unit, in lower case, and the unit."""
    found = _unit_in_name.match(name.strip().lower())
    return (found.group(1), found.group(2) or found.group(3)) if found else (name.strip().lower(), None)


def _find_time(table: _Table, choices: Choices) -> int | None:
    """Position of the column with the times; None if there is none, or a rate was given instead."""
    if choices.time is not None:
        return leads.find_lead(table.names, choices.time)
    for i, name in enumerate(table.names):
        first = table.rows[0].split(table.separator)
        if TIME.fullmatch(_split_unit(name)[0]) or (i < len(first) and moments.is_moment(first[i].strip("'\" "))):
            return i
    return 0 if not table.has_names and len(table.names) > 1 and _grows_evenly(table) else None


def _grows_evenly(table: _Table) -> bool:
    """Whether the numbers of the first column are times: they grow in like steps, and do not just count."""
    try:
        steps = np.diff(_numbers(table, 0))
    except ValueError:
        return False
    if steps.size < 10 or not (steps > 0).all() or (steps == 1).all():
        return False
    return bool(np.percentile(steps, 90) < 2 * np.median(steps))


def _find_ecg(table: _Table, time: int | None, choices: Choices) -> tuple[int, list[str]]:
    if choices.lead is not None:
        return leads.find_lead(table.names, choices.lead), []
    stems = [_split_unit(name)[0] for name in table.names]
    named = [i for i, stem in enumerate(stems) if i != time and leads.is_ecg(stem)]
    if named:
        return named[0], leads.note_choice(table.names, named[0]) if len(named) > 1 else []
    left = [
        i
        for i, stem in enumerate(stems)
        if i != time and not COUNTER.fullmatch(stem) and not TIME.fullmatch(stem) and not leads.is_other(stem)
    ]
    if len(left) == 1:
        note = f"column {left[0]} ({table.names[left[0]]}) is taken for the ECG"
        return left[0], [note] if len(table.names) > 1 else []
    known = ", ".join(f"{i} ({name})" for i, name in enumerate(table.names))
    raise ValueError(f"got no column that is named as an ECG, or several, among {known}: --lead chooses one")


def _numbers(table: _Table, position: int) -> Signal:
    """(n,) numbers of a column; NaN where one is missing."""
    try:
        if table.separator != "," and any("," in row for row in table.rows[:50]):
            raise ValueError("decimal commas")
        return np.loadtxt(table.rows, delimiter=table.separator, usecols=position, ndmin=1, comments=None)
    except ValueError:  # something is missing or written otherwise: field by field
        fields = table.column(position)
    values = np.empty(len(fields))
    for i, field in enumerate(fields):
        try:
            values[i] = np.nan if field.lower() in MISSING else number(field)
        except ValueError:
            where = f"row {table.line + i}, column {table.names[position]!r}"
            raise ValueError(f"got {field[:40]!r} in {where}, expected a number") from None
    return values


def _stated_rate(table: _Table, time: int | None, choices: Choices) -> float:
    """Roughly the rate, to know how many samples two seconds are."""
    if choices.rate_hz is not None or time is None:
        return choices.rate_hz or 250.0
    times_s = _read_times(table, time, choices)[0]
    span_s = float(times_s[-1] - times_s[0])
    return times_s.size / span_s if span_s > 0 else 250.0


def _find_scale(
    table: _Table, position: int, samples: Signal, choices: Choices, rate_hz: float
) -> tuple[float, list[str]]:
    """Microvolts in one of a column's unit, and what to note if that was guessed."""
    unit, span = choices.unit or table.units[position], _span(samples, rate_hz)
    if unit is not None:
        scale = leads.microvolts(unit)
        if scale is None:
            raise ValueError(f"got unit {unit!r}, expected {leads.EXPECTED_UNITS}")
        notes = [f"the signal spans {span * scale / 1000:.2g} mV in {unit}: is that its unit?"]
        return scale, notes if span * scale > MOST_UV else []
    for guess in ("uV", "mV", "V"):
        scale = leads.MICROVOLTS[guess.lower()]
        if SPANS_UV[0] <= span * scale <= SPANS_UV[1]:
            return scale, [
                f"no unit stated: {guess} is guessed, by which the signal spans {span * scale / 1000:.2g} mV"
            ]
    raise ValueError(f"got a signal without a unit that spans {span:g}: expected --unit {leads.EXPECTED_UNITS}")


def _span(samples: Signal, rate_hz: float) -> float:
    """Median of what a signal spans in two seconds."""
    size = max(2, round(2 * rate_hz))
    whole = samples[: samples.size // size * size].reshape(-1, size) if samples.size >= size else samples[None, :]
    known = whole[np.isfinite(whole).all(axis=1)]
    return float(np.median(np.ptp(known, axis=1))) if known.size else 0.0


def _read_times(
    table: _Table, position: int, choices: Choices
) -> tuple[npt.NDArray[np.float64], float | None, list[str]]:
    """Seconds since the first row, when that was (if stated), and what to note."""
    first = table.rows[0].split(table.separator)[position].strip().strip("'\"")
    if not _is_number(first):
        try:
            return moments.read_moments(table.column(position))
        except IndexError as error:
            row = int(error.args[0])
            raise ValueError(f"got {table.rows[row][:60]!r} in row {table.line + row}, expected a time in it") from None
    times = _numbers(table, position)
    if times.size < 2:
        raise ValueError("got one row, expected a signal")
    unit, notes = _time_unit(table, position, times, choices)
    start_s = float(times[0]) * SECONDS[unit]
    return (times - times[0]) * SECONDS[unit], start_s if 1e8 < start_s < 2**33 else None, notes


def _time_unit(table: _Table, position: int, times: npt.NDArray[np.float64], choices: Choices) -> tuple[str, list[str]]:
    stated = table.units[position]
    if stated in SECONDS:
        return stated, []
    known = times[np.isfinite(times)]
    grow = np.count_nonzero(np.diff(known) > 0)
    span = float(known[-1] - known[0]) * known.size / max(1, known.size - 1)
    if grow == 0 or span <= 0:
        raise ValueError("got one time for all samples, expected times that grow")
    for unit in ("s", "ms", "us", "ns"):
        if RATES_HZ[0] <= known.size / (span * SECONDS[unit]) <= RATES_HZ[1]:
            return unit, [] if unit == "s" else [f"times in {unit} are guessed, by which the rate is one of an ECG"]
    raise ValueError(
        f"got {known.size} times over {span:g}, {known.size / span:.3g} a second if they are s: "
        f"expected {RATES_HZ[0]:g} to {RATES_HZ[1]:g}, in s, ms, us or ns"
    )
