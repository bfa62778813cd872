"""Contract 1, for models: the beat window, and the RR context that a model may ask for.

One heartbeat, as every model of this project sees it: it starts at an R peak, is 1.2 T long (T = median RR interval of
the last 10 s), is sampled at 125 Hz, scaled to 0..1 by its own minimum and maximum, and zero-padded to 187 samples.

The recipe is that of Kachuee, Fazeli, Sarrafzadeh, "ECG Heartbeat Classification: A Deep Transferable Representation",
2018 (arXiv 1805.00794), the one the PTB and MIT-BIH heartbeat CSV files were cut by.

A window does not show how early its beat came. A model that must know asks for the *RR context*, three numbers a beat,
in seconds: the interval from the beat before, the interval to the beat after, and T. Rules:

* Intervals are measured between QRS fiducials, see `monitor.ecg.segment`.
* Where an interval is unknown T stands in: before the first beat, across a gap, after the signal has ended.
* No interval counts for more than `RR_LIMIT` T. So a pause need not be waited out, and a missed beat does not shout.

Training and the live monitor both go by this module; it knows nothing of devices, detectors or networks.
"""

from __future__ import annotations

import csv
import gzip
import math
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

CONTRACT = "beat/1"
"""Name and version of this contract; stands in every model file."""
RATE_HZ = 125.0
"""Sampling rate of a window."""
LENGTH = 187
"""Samples in a window, padding included (1.496 s)."""
SPAN = 1.2
"""How many median RR intervals a window lasts."""
MEDIAN_RR_OVER_S = 10.0
"""How far back the median RR interval looks."""
RR_CONTEXT = ("previous_rr_s", "next_rr_s", "median_rr_s")
"""Names of the columns of the RR context, in order, all in seconds."""
RR_LIMIT = 2.0
"""An interval of the RR context counts for at most this many median RR intervals."""

GZIP, ZIP = b"\x1f\x8b", b"PK\x03\x04"
"""First bytes of files that are packed."""
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
"""First bytes of texts in UTF-16: spreadsheets call it Unicode."""

Windows = npt.NDArray[np.float32]
"""(n, 187) float32, each row one beat window."""
RrContext = npt.NDArray[np.float32]
"""(n, 3) float32, each row the RR context of one beat, see `RR_CONTEXT`."""
Signal = npt.NDArray[np.float32]
"""(n,) float32 stretch of a stream in any unit, NaN where there is no valid sample."""


def window_length(median_rr: float) -> int:
    """Samples of signal in the window of a beat, before padding.

    Parameters
    ----------
    median_rr
        Median RR interval, samples at 125 Hz.

    Returns
    -------
    int
        1.2 T. More than 187 means that the rhythm is too slow for a whole window: `fit_window` keeps the first 187.
    """
    return int(SPAN * median_rr)


def fit_window(signal: npt.ArrayLike) -> Windows:
    """Scale a stretch of signal to 0..1 and pad it with zeros: one beat window.

    Parameters
    ----------
    signal
        (samples,) at 125 Hz from the R peak on, any unit. Samples after the 187th are cut off.

    Returns
    -------
    ndarray
        (187,) float32. A flat stretch has no shape to scale: it becomes all zeros.

    Raises
    ------
    ValueError
        The signal is empty, has more than one dimension, or holds a value that is not finite.
    """
    x = np.asarray(signal, dtype=np.float64)
    if x.ndim != 1 or x.size == 0:
        raise ValueError(f"A beat's signal must be a non-empty row of samples: got shape {x.shape}.")
    if not np.isfinite(x).all():
        raise ValueError("A beat's signal must be finite: got NaN or infinity.")
    x = x[:LENGTH]
    low, high = x.min(), x.max()
    window = np.zeros(LENGTH, np.float32)
    if high > low:
        window[: x.size] = (x - low) / (high - low)
    return window


def check_windows(windows: npt.ArrayLike) -> Windows:
    """Return `windows` as (n, 187) float32, or raise an error that names what is wrong with them.

    Raises
    ------
    ValueError
        The shape is not (n, 187), or a value is not finite or lies outside 0..1.
    """
    x = np.asarray(windows)
    if x.ndim != 2 or x.shape[1] != LENGTH:
        raise ValueError(f"Beat windows must have the shape (n, {LENGTH}): got {x.shape}.")
    if not np.issubdtype(x.dtype, np.number):
        raise ValueError(f"Beat windows must be numbers: got {x.dtype}.")
    finite = np.isfinite(x).all(axis=1)
    if not finite.all():
        raise ValueError(f"Beat windows must be finite: window {int(np.argmin(finite))} holds NaN or infinity.")
    inside = ((x >= 0) & (x <= 1)).all(axis=1)
    if not inside.all():
        bad = int(np.argmin(inside))
        raise ValueError(
            f"Beat windows must be scaled to 0..1: window {bad} spans {x[bad].min():g} to {x[bad].max():g}."
        )
    return np.ascontiguousarray(x, dtype=np.float32)


def rr_context(previous_s: npt.ArrayLike, next_s: npt.ArrayLike, median_s: npt.ArrayLike) -> RrContext:
    """RR context of n beats.

    Parameters
    ----------
    previous_s, next_s
        (n,) seconds from the beat before, and to the beat after; NaN where unknown, infinity where it is only known
        that the limit was passed.
    median_s
        (n,) median RR interval over the last 10 s, seconds.

    Returns
    -------
    ndarray
        (n, 3) float32, columns as in `RR_CONTEXT`; the rules stand at the top of this module.

    Raises
    ------
    ValueError
        The shapes are not one and the same (n,), a median is not finite and positive, or an interval is negative.
    """
    previous, following, median = (np.asarray(given, np.float64) for given in (previous_s, next_s, median_s))
    if median.ndim != 1 or not previous.shape == following.shape == median.shape:
        shapes = f"{previous.shape}, {following.shape} and {median.shape}"
        raise ValueError(f"Previous, next and median RR intervals: got the shapes {shapes}, expected one (n,) of all.")
    usable = np.isfinite(median) & (median > 0)
    if not usable.all():
        bad = int(np.argmin(usable))
        raise ValueError(f"Median RR interval of beat {bad}: got {median[bad]:g} s, expected finite and more than 0 s.")
    for name, intervals in (("Previous", previous), ("Next", following)):
        if (negative := intervals < 0).any():
            bad = int(np.argmax(negative))
            raise ValueError(f"{name} RR interval of beat {bad}: got {intervals[bad]:g} s, expected 0 s or more.")
    known = [np.where(np.isnan(intervals), median, intervals) for intervals in (previous, following)]
    limited = [np.minimum(intervals, RR_LIMIT * median) for intervals in known]
    return np.stack([*limited, median], axis=1).astype(np.float32)


def check_rr(rr: npt.ArrayLike) -> RrContext:
    """Return `rr` as (n, 3) float32, or raise an error that names what is wrong with it.

    Raises
    ------
    ValueError
        The shape is not (n, 3), or a value is not a finite number of 0 or more.
    """
    x = np.asarray(rr)
    if x.ndim != 2 or x.shape[1] != len(RR_CONTEXT):
        raise ValueError(f"RR context must have the shape (n, {len(RR_CONTEXT)}): got {x.shape}.")
    if not np.issubdtype(x.dtype, np.number):
        raise ValueError(f"RR context must be numbers: got {x.dtype}.")
    usable = (np.isfinite(x) & (x >= 0)).all(axis=1)
    if not usable.all():
        bad = int(np.argmin(usable))
        raise ValueError(f"RR context must be finite and 0 s or more: got {x[bad].tolist()} for beat {bad}.")
    return np.ascontiguousarray(x, dtype=np.float32)


def read_windows(path: Path) -> tuple[Windows, npt.NDArray[np.int64] | None]:
    """Read a file of beat windows in the layout of the PTB and MIT-BIH heartbeat files.

    A row is 187 samples in 0..1, and in a labelled file the number of its class. Plain or gzip, known by its content,
    not its name. What spreadsheets add is understood: a byte order mark, UTF-16, semicolons or tabs with decimal
    commas, any line ends, empty lines, a heading, and a first column without heading that numbers the rows.

    Returns
    -------
    windows, labels
        (n, 187) float32, and (n,) int64 or None if the rows have no label.

    Raises
    ------
    ValueError
        The file is empty, cannot be read as text, or a row is not a beat window: the message names file, row and
        column, counted from 1.
    """
    numbered = _drop_heading(
        [(number, _trim(cells)) for number, cells in _read_cells(path) if any(map(str.strip, cells))]
    )
    rows = [_parse_row(path, number, cells) for number, cells in numbered]
    if not rows:
        raise ValueError(f"{path}: got an empty file, expected at least one row of {LENGTH} samples.")
    for (number, _), row in zip(numbered, rows, strict=True):
        if len(row) != len(rows[0]):
            before = f"expected {len(rows[0])} as in row {numbered[0][0]}"
            raise ValueError(f"{path}, row {number}: got {len(row)} columns, {before}.")
    values = np.array(rows)
    windows = values[:, :LENGTH].astype(np.float32)
    return windows, values[:, LENGTH].astype(np.int64) if values.shape[1] > LENGTH else None


def read_class(path: Path, label: int) -> Windows:
    """Read a file of beat windows that all carry one label, as the pairs of PTB files do.

    Raises
    ------
    ValueError
        As `read_windows`; or the rows have no label, or another one.
    """
    windows, labels = read_windows(path)
    if labels is None:
        raise ValueError(f"{path}, row 1: got {LENGTH} columns, expected {LENGTH} samples and the label {label}.")
    for row in np.flatnonzero(labels != label):
        raise ValueError(f"{path}, row {row + 1}, column {LENGTH + 1}: got {labels[row]}, expected the label {label}.")
    return windows


def find_csv(folder: Path, stem: str) -> Path | None:
    """Path of ``<stem>.csv`` or ``<stem>.csv.gz`` in a folder, in upper or lower case; None if there is none."""
    for name in (f"{stem}.csv", f"{stem}.csv.gz"):
        if (exact := folder / name).is_file():
            return exact
    wanted = (f"{stem}.csv".lower(), f"{stem}.csv.gz".lower())
    alike = (path for path in folder.glob("*") if path.name.lower() in wanted and path.is_file())
    return min(alike, default=None)


def _read_cells(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Cells of each line of a CSV file, with its number, counted from 1."""
    try:
        content = path.read_bytes()
        if content.startswith(GZIP):
            content = gzip.decompress(content)
        if content.startswith(ZIP):
            raise csv.Error("it is a spreadsheet or a ZIP file; save the sheet as CSV")
        text = content.decode("utf-16" if content.startswith(UTF_16) else "utf-8-sig")
        lines = text.splitlines()
        yield from enumerate(csv.reader(lines, delimiter=_delimiter(lines)), 1)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, zlib.error) as error:
        raise ValueError(f"{path}: cannot be read as a CSV file: {error}.") from None


def _delimiter(lines: list[str]) -> str:
    """What stands between the cells: a tab or semicolon where the first line that is not empty has one."""
    first = next((line for line in lines if line.strip()), "")
    return next((mark for mark in ("\t", ";") if mark in first), ",")


def _trim(cells: list[str]) -> list[str]:
    """Cells of a row, without the empty one that a separator at its end makes."""
    return cells[:-1] if len(cells) > 1 and not cells[-1].strip() else cells


def _drop_heading(rows: list[tuple[int, list[str]]]) -> list[tuple[int, list[str]]]:
    """Rows without a heading, and without the column that numbers them, whose heading is empty."""
    if not rows or not _is_heading(rows[0][1]):
        return rows
    (_, heading), *rest = rows
    if heading[0].strip():
        return rest
    return [(number, cells[1:]) for number, cells in rest]


def _is_heading(cells: list[str]) -> bool:
    """Whether a row names its columns: most cells are no numbers, or they number the columns one by one."""
    values = [_number(cell) for cell in cells]
    if sum(map(math.isnan, values)) > len(values) / 2:
        return True
    known = [value for value in values if not math.isnan(value)]
    return len(known) >= LENGTH and known == list(np.arange(len(known)) + known[0])


def _number(cell: str) -> float:
    """Value of a cell, with a decimal point or comma; NaN if it is none."""
    try:
        return float(cell)
    except ValueError:
        pass
    try:
        return float(cell.replace(",", ".", 1))
    except ValueError:
        return math.nan


def _parse_row(path: Path, number: int, cells: list[str]) -> list[float]:
    if len(cells) not in (LENGTH, LENGTH + 1):
        raise ValueError(
            f"{path}, row {number}: got {len(cells)} columns, expected {LENGTH} samples, or {LENGTH} and a label."
        )
    row = []
    for column, cell in enumerate(cells, 1):
        value = _number(cell)
        if column <= LENGTH and not 0 <= value <= 1:
            raise ValueError(f"{path}, row {number}, column {column}: got {cell!r}, expected a sample from 0 to 1.")
        if column > LENGTH and not (value >= 0 and value.is_integer()):
            raise ValueError(f"{path}, row {number}, column {column}: got {cell!r}, expected the number of a class.")
        row.append(value)
    return row
