"""The one shape in which every file is handed on, and what can be chosen in reading it. Knows nothing of any format."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from recordings.marks import Mark

Signal = npt.NDArray[np.float64]
"""(n,) microvolts; NaN where there is no signal."""

RATES_HZ = (50.0, 4000.0)
"""Rates that an ECG may have."""
RANGE_UV = 32_767.0
"""What 16 bits of 1 uV per ADC count hold, to either side of zero."""
OFFSET_UV = 1000.0
"""A smaller median of a signal is no offset worth naming."""
MAX_RESOLUTION_UV = 10.0
"""Coarsest resolution to play at: it holds +-328 mV, more than the +-300 mV of electrode offset that ECG recorders must
bear (IEC 60601-2-47)."""
MOST_SAMPLES = 400_000_000
"""Longest signal that is read, 18 days at 250 Hz: in memory it takes 8 bytes a sample."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What a person may say of a file; None where the file is to say it."""

    lead: str | None = None
    """Name of the signal or column, or its number counted from 0; see `recordings.leads.choose_lead`."""
    annotator: str | None = None
    """Whose annotations to read, of a WFDB record; see `recordings.marks.choose_annotator`."""
    rate_hz: float | None = None
    """Of text without times."""
    unit: str | None = None
    """Of text that names none."""
    time: str | None = None
    """Column of the times, in text: its name, or its number counted from 0."""

    def __post_init__(self) -> None:
        if self.rate_hz is not None and not RATES_HZ[0] <= self.rate_hz <= RATES_HZ[1]:
            least, most = RATES_HZ
            raise ValueError(f"Rate: got {self.rate_hz:g} Hz, expected {least:g} to {most:g}.")


@dataclass(frozen=True, eq=False)
class Recording:
    """One lead of a record and its annotations."""

    name: str
    rate_hz: float
    """Of the lead."""
    lead: str
    samples_uv: Signal
    annotator: str | None
    """Who annotated it; None where nobody did, or several did and none is preferred."""
    marks: tuple[Mark, ...]
    """All annotations within the record, beats or not, by time."""
    comments: str
    """Comments in the header, joined by blanks; no format hands on a person's name."""
    notes: tuple[str, ...]
    """What a reader of any figure from it must know; each begins with the record's name."""
    start_s: float | None = None
    """Time of the first sample, seconds since 1970 (UTC), where the file states it."""

    @property
    def seconds(self) -> float:
        """Length of the recording."""
        return self.samples_uv.size / self.rate_hz


def make_recording(
    name: str,
    rate_hz: float,
    lead: str,
    samples_uv: Signal,
    notes: list[str],
    *,
    start_s: float | None = None,
    marks: tuple[Mark, ...] = (),
) -> Recording:
    """Make a recording of what a format has read.

    Parameters
    ----------
    name
        Of the file, without its ending.
    rate_hz, lead, samples_uv, marks, start_s
        See `Recording`; annotations past the end are left out.
    notes
        What was chosen or assumed, without the name.

    Raises
    ------
    ValueError
        There is no sample, too many, or the rate is no positive number.
    """
    check_size(samples_uv.size)
    if samples_uv.size == 0 or not 0 < rate_hz < math.inf:
        raise ValueError(f"got {samples_uv.size} samples at {rate_hz:g} Hz, expected a signal")
    if not np.isfinite(samples_uv).any():
        raise ValueError(f"got {samples_uv.size} missing samples, expected a signal")
    samples_uv, more = take_offset_off(samples_uv)
    inside = tuple(mark for mark in marks if 0 <= mark[0] < samples_uv.size / rate_hz)
    told = tuple(f"{name}: {note}" for note in [*notes, *more])
    return Recording(
        name,
        rate_hz,
        lead[:64],
        samples_uv,
        "file" if inside else None,
        inside,
        comments="",
        notes=told,
        start_s=start_s,
    )


def check_size(samples: int) -> None:
    """Refuse a signal that would not fit in memory; see `MOST_SAMPLES`."""
    if samples > MOST_SAMPLES:
        raise ValueError(f"got {samples} samples, expected at most {MOST_SAMPLES}: cut it into parts")


def take_offset_off(samples_uv: Signal) -> tuple[Signal, list[str]]:
    """Centre a signal that does not fit in 16 bits of 1 uV per ADC count; return it, and what to note."""
    known = samples_uv[np.isfinite(samples_uv)]
    if not known.size or np.abs(known).max() <= RANGE_UV:
        return samples_uv, []
    offset_uv = float(np.median(known))
    if abs(offset_uv) < OFFSET_UV:
        return samples_uv, []
    return samples_uv - offset_uv, [f"an offset of {offset_uv / 1000:.1f} mV is taken off"]


def choose_resolution(samples_uv: Signal, verb: str = "played") -> tuple[float, list[str]]:
    """Microvolts per ADC count at which a signal fits in 16 bits, and what to note if those are not one."""
    known = samples_uv[np.isfinite(samples_uv)]
    if not known.size or (reach := float(np.abs(known).max())) <= RANGE_UV:
        return 1.0, []
    needed = math.ceil(10 * reach / RANGE_UV) / 10
    span = f"it spans {known.min() / 1000:.1f} to {known.max() / 1000:.1f} mV"
    if needed <= MAX_RESOLUTION_UV:
        return needed, [f"{span}: {verb} at {needed:g} uV per ADC count"]
    return MAX_RESOLUTION_UV, [f"{span}: {verb} at {MAX_RESOLUTION_UV:g} uV per ADC count, and clipped"]


def start_of(moment: datetime) -> tuple[float | None, list[str]]:
    """Seconds since 1970 of a moment as a file states it, and what to note; None before 1970."""
    zoned = moment.tzinfo is not None
    start_s = (moment if zoned else moment.replace(tzinfo=UTC)).timestamp()
    if start_s < 0:
        return None, []
    return start_s, [] if zoned else [f"it began at {moment:%Y-%m-%d %H:%M:%S}, no time zone stated: taken as UTC"]
