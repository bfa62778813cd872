"""The figures of a recording: what a Holter report counts. Every number follows from beats, alerts and samples.

Rules
-----
* The heart rate of a minute is 60 over the mean of its RR intervals, all beats counted, as far as at least
  `LEAST_BEATS` follow each other without a hole.
* An RR interval is that of two QRS complexes that follow each other in signal without a hole. The longest of them is
  the longest pause; that a pause is none but the detector's is possible, and the strip shows it.
* Beats that were withheld count as beats, not as any class.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.examine import Episode, Findings
from recordings.recording import Recording

MINUTE_S = 60.0
LEAST_BEATS = 10
"""Fewer RR intervals in a minute make no heart rate."""
MOST_RR_S = 3.0
"""A longer RR interval, in signal where beats were withheld or noise is, is no part of the heart rate."""


@dataclass(frozen=True, eq=False)
class Summary:
    """Figures of a recording. None where there is nothing to measure."""

    seconds: float
    """From the first sample to the last, holes included."""
    signal_s: float
    """With a sample."""
    beats: int
    counts: dict[str, int]
    """Beats of each class, those of the model first, in its order; "withheld" last."""
    mean_bpm: float | None
    """Over the whole recording."""
    lowest_bpm: tuple[float, float] | None
    """Lowest heart rate of a minute, and when that minute began."""
    highest_bpm: tuple[float, float] | None
    longest_rr_s: tuple[float, float] | None
    """Longest RR interval, and when it began."""
    judged: float | None
    """Share of the beats that could be judged."""
    trend_bpm: npt.NDArray[np.float64]
    """(minutes,) heart rate of each minute; NaN where there is none."""
    quality: npt.NDArray[np.float64]
    """(minutes,) share of the beats that could be judged; NaN where there was none."""
    episodes: tuple[Episode, ...]


def summarise(recording: Recording, findings: Findings) -> Summary:
    """Count what was found in a recording."""
    qrs_s, labels = findings.qrs_s, findings.labels
    begins_s, intervals_s = _intervals(recording, qrs_s)
    minutes = max(1, int(np.ceil(recording.seconds / MINUTE_S)))
    trend = _trend(begins_s, intervals_s, minutes)
    is_judged = np.array([label != "withheld" for label in labels], bool)
    count = Counter(labels)
    longest = int(np.argmax(intervals_s)) if intervals_s.size else None
    usual = intervals_s[intervals_s <= MOST_RR_S]
    return Summary(
        seconds=recording.seconds,
        signal_s=float(np.count_nonzero(np.isfinite(recording.samples_uv)) / recording.rate_hz),
        beats=len(labels),
        counts={name: count[name] for name in (*findings.classes, "withheld")},
        mean_bpm=60 / float(usual.mean()) if usual.size else None,
        lowest_bpm=_extreme(trend, lowest=True),
        highest_bpm=_extreme(trend, lowest=False),
        longest_rr_s=None if longest is None else (float(intervals_s[longest]), float(begins_s[longest])),
        judged=float(is_judged.mean()) if labels else None,
        trend_bpm=trend,
        quality=_share(qrs_s, is_judged, minutes),
        episodes=tuple(findings.episodes()),
    )


def _intervals(
    recording: Recording, qrs_s: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Begin and length of the RR intervals without a missing sample in them."""
    if qrs_s.size < 2:
        return np.empty(0), np.empty(0)
    missing = np.append(0, np.cumsum(np.isnan(recording.samples_uv)))
    places = np.clip((qrs_s * recording.rate_hz).astype(np.int64), 0, missing.size - 1)
    is_whole = missing[places[1:]] == missing[places[:-1]]
    return qrs_s[:-1][is_whole], np.diff(qrs_s)[is_whole]


def _trend(
    begins_s: npt.NDArray[np.float64], intervals_s: npt.NDArray[np.float64], minutes: int
) -> npt.NDArray[np.float64]:
    usual = intervals_s <= MOST_RR_S
    minute = np.minimum((begins_s[usual] // MINUTE_S).astype(np.int64), minutes - 1)
    counts = np.bincount(minute, minlength=minutes)
    sums = np.bincount(minute, intervals_s[usual], minlength=minutes)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(counts >= LEAST_BEATS, 60 * counts / sums, np.nan)


def _share(qrs_s: npt.NDArray[np.float64], is_judged: npt.NDArray[np.bool_], minutes: int) -> npt.NDArray[np.float64]:
    minute = np.clip((qrs_s // MINUTE_S).astype(np.int64), 0, minutes - 1)
    counts = np.bincount(minute, minlength=minutes)
    with np.errstate(invalid="ignore"):
        return np.where(counts > 0, np.bincount(minute, is_judged, minlength=minutes) / counts, np.nan)


def _extreme(trend: npt.NDArray[np.float64], *, lowest: bool) -> tuple[float, float] | None:
    if not np.isfinite(trend).any():
        return None
    minute = int(np.nanargmin(trend) if lowest else np.nanargmax(trend))
    return float(trend[minute]), minute * MINUTE_S
