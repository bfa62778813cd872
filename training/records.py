"""Annotated WFDB records -> labelled beat windows with their RR context, cut as the live monitor would cut them.

The annotations give the places of the QRS complexes and their classes; classes are those of ANSI/AAMI EC57. Nothing is
detected here. Knows nothing of splits or networks.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import signal as filters

from monitor import beat
from recordings.classes import CLASS_OF, CLASSES
from recordings.reader import read_recording

R_REACH = round(0.064 * beat.RATE_HZ)
"""The R peak is the highest sample within this distance of the annotation, in samples, as in the monitor."""
RHYTHM = 3
"""Minimum number of RR intervals for a median."""
LONGEST_RR_S = 3.0
"""Longer intervals are pauses or gaps, not part of the rhythm."""
SAME_PATIENT = {"202": "201"}
"""MIT-BIH record -> the other record of the same patient (Moody and Mark 2001)."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class CutRecord:
    """The beats of one record."""

    name: str
    patient: str
    age: float
    """NaN where the header does not give it."""
    sex: str
    """"female", "male", or empty."""
    windows: beat.Windows
    """(n, 187)"""
    labels: Ints
    """(n,) numbers in `CLASSES`."""
    rr: beat.Windows
    """(n, 3) float32 seconds, see `monitor.beat.rr_context`."""
    dropped: int
    """Annotated beats without a window: the record ends within it, or samples are missing."""
    notes: tuple[str, ...] = ()
    """Choices and assumptions made in reading it."""


def read_record(stem: Path) -> CutRecord:
    """Read the first ECG lead of a WFDB record, and cut it at its annotations.

    Parameters
    ----------
    stem
        Path of the record, without ".hea"; see `recordings.reader.read_recording`.

    Raises
    ------
    ValueError
        `wfdb` is not installed, a file is missing or broken, or there are too few beats for a median RR interval.
    """
    read = read_recording(stem)
    step = Fraction(beat.RATE_HZ / read.rate_hz).limit_denominator(1000)
    signal = filters.resample_poly(read.samples_uv, step.numerator, step.denominator)
    marks = [(time_s, CLASSES.index(CLASS_OF[symbol])) for time_s, symbol in read.marks if symbol in CLASS_OF]
    if len(marks) <= RHYTHM:
        raise ValueError(f"{stem}.{read.annotator or 'atr'}: got {len(marks)} beats, expected more than {RHYTHM}.")
    places = np.round([time_s * read.rate_hz for time_s, _ in marks], 6)  # whole samples stay whole
    fiducials = places * (beat.RATE_HZ / read.rate_hz)
    windows, rr, kept = cut(signal, fiducials)
    labels = np.array([label for _, label in marks], np.int64)[kept]
    age, sex = _person(read.comments)
    patient = SAME_PATIENT.get(stem.name, stem.name)
    dropped = len(marks) - len(labels)
    return CutRecord(stem.name, patient, age, sex, windows, labels, rr, dropped, read.notes)


def cut(signal: Floats, fiducials: Floats) -> tuple[beat.Windows, beat.Windows, Ints]:
    """Cut windows at annotated QRS complexes.

    Parameters
    ----------
    signal
        (samples,) at 125 Hz, any unit, NaN where there is none.
    fiducials
        (n,) annotated positions, samples at 125 Hz, ascending.

    Returns
    -------
    windows, rr, kept
        (k, 187) windows, (k, 3) their RR context, and (k,) their indices among the n: those whose window lies
        within the signal and has no sample missing.
    """
    median = median_rr(fiducials)
    previous_s = np.diff(fiducials, prepend=np.nan) / beat.RATE_HZ
    previous_s[previous_s > LONGEST_RR_S] = (
        np.nan
    )  # in the live monitor, what came before a pause is not known any more
    next_s = np.diff(fiducials, append=np.nan) / beat.RATE_HZ
    rr = beat.rr_context(previous_s, next_s, median / beat.RATE_HZ)
    windows, kept = [], []
    for i, at in enumerate(np.rint(fiducials).astype(int)):
        begin = max(0, at - R_REACH)
        near = signal[begin : at + R_REACH + 1]
        length = min(beat.LENGTH, beat.window_length(median[i]))
        if near.size == 0 or np.isnan(near).any():
            continue
        r_peak = begin + int(np.argmax(near))
        stretch = signal[r_peak : r_peak + length]
        if stretch.size == length and np.isfinite(stretch).all():
            windows.append(beat.fit_window(stretch))
            kept.append(i)
    rows = np.array(kept, np.int64)
    return np.array(windows, np.float32).reshape(-1, beat.LENGTH), rr[rows], rows


def median_rr(fiducials: Floats) -> Floats:
    """Median RR interval of the last 10 s at each QRS complex, samples: (n,) -> (n,).

    At least three intervals count; earlier complexes get the first known median, and those after a pause keep the
    last.
    """
    rr = np.diff(fiducials, prepend=np.nan)
    median = np.full(len(fiducials), np.nan)
    for i in range(len(fiducials)):
        since = np.searchsorted(fiducials, fiducials[i] - beat.MEDIAN_RR_OVER_S * beat.RATE_HZ)
        recent = rr[max(1, min(since, i - RHYTHM + 1)) : i + 1]
        recent = recent[recent <= LONGEST_RR_S * beat.RATE_HZ]
        median[i] = np.median(recent) if len(recent) >= RHYTHM else median[i - 1] if i else np.nan
    known = np.flatnonzero(np.isfinite(median))
    if known.size:
        median[: known[0]] = median[known[0]]
    return median


def _person(comments: str) -> tuple[float, str]:
    """Age and sex, as the headers of MIT-BIH give them: "69 M 1085 1629 x1"."""
    found = re.match(r"\s*(-?\d+)\s+([MF])\b", comments)
    if not found or int(found[1]) < 0:
        return math.nan, {"M": "male", "F": "female"}.get(found[2], "") if found else ""
    return float(found[1]), {"M": "male", "F": "female"}[found[2]]
