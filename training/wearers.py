"""Recordings -> beats as the live monitor would hand them to a class model: found, gated and cut by its own stages.

Each lead of a recording, upright and upside down, is a wearer of its own, whose folds are those of the person. Labels
come from the annotations, by the matching of ANSI/AAMI EC57: a found beat has the class of the annotated one within
150 ms. What the annotations do not tell of a beat is left open, see `LABELS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from monitor import beat2
from monitor.ecg import quality, resample, segment, wearer
from monitor.wire import NO_SAMPLE

LABELS = ("N", "S", "V", "F", "X", "not S", "?")
"""Of a found beat: its class; that nobody annotated a beat there; that an early beat is none of S, as in atrial
fibrillation; that nothing is known."""
N, S, V, F, X, NOT_S, UNKNOWN = range(len(LABELS))
MATCH = round(0.15 * beat2.RATE_HZ)
"""Most samples between a found beat and the annotated one (ANSI/AAMI EC57)."""
PART = round(10 * beat2.RATE_HZ)
Ints = npt.NDArray[np.int64]
_FIRST = np.zeros(1, np.int64)


@dataclass(frozen=True)
class Source:
    """One lead of a recording, and what is known of its beats."""

    database: str
    person: str
    name: str
    rate_hz: float
    samples_uv: npt.NDArray[np.float64]
    marks: Ints
    """(m,) annotated QRS complexes, samples at 125 Hz; empty where beats were not annotated."""
    labels: Ints
    """(m,) in `LABELS`."""
    rhythms: tuple[tuple[float, float, int], ...] = ()
    """Begin and end, samples at 125 Hz, and the label of beats that match no mark there."""
    otherwise: int = X
    """Label of beats that match no mark elsewhere."""
    symbols: tuple[str, ...] = ()
    """Of the marks, as annotated; empty where beats were not annotated one by one."""


@dataclass(frozen=True)
class Found:
    """The beats that were found in one source, in order of time."""

    signal: npt.NDArray[np.float32]
    fiducials: Ints
    r_peaks: Ints
    lengths: Ints
    """(n,) samples of the window that begins at the R peak, see `monitor.beat`."""
    rr: Ints
    reasons: npt.NDArray[np.uint8]
    """Why the gate withholds a beat, 0 for those that are judged."""


def follow(samples: npt.NDArray[np.int16], rate_hz: float) -> Found:
    """Find the beats of one stream as the monitor does."""
    contact, gate = np.zeros(1, quality.CONTACT), np.zeros(1, quality.STATE)
    resampler, segmenter = np.zeros(1, resample.STATE), np.zeros(1, segment.STATE)
    quality.begin_contact(contact[0], rate_hz)
    resample.begin(resampler[0], rate_hz, 0.0)
    kernel, room = resample.design_kernel(rate_hz), segment.make_room(segment.MOST_BEATS)
    parts, beats, reasons = [], [], []

    def put_aside(found: int) -> None:
        some, signals, _ = room.copy(found)
        beats.append(some)
        reasons.append(quality.judge(gate, contact, _FIRST, some, signals, some["r_peak"] / beat2.RATE_HZ)[0])

    step = int(10 * rate_hz)
    for begin in range(0, samples.size, step):
        part = samples[begin : begin + step]
        quality.watch(contact, _FIRST, part, np.array([part.size]))
        signal, ends = resample.resample(resampler, _FIRST, part, np.array([part.size]), kernel)
        parts.append(signal)
        put_aside(segment.segment(segmenter, _FIRST, signal, ends, 0, 0, room)[1])
    put_aside(segment.finish(segmenter, 0, 0, room))
    every = np.concatenate(beats)
    fiducials, r_peaks, lengths, rr = (every[name] for name in ("fiducial", "r_peak", "length", "rr"))
    return Found(np.concatenate(parts), fiducials, r_peaks, lengths, rr, np.concatenate(reasons))


def match(found: Ints, marks: Ints) -> Ints:
    """Which mark each found beat is, (n,), -1 for none: those that are nearest to each other, within 150 ms."""
    if not marks.size or not found.size:
        return np.full(found.size, -1)
    nearest = _nearest(found, marks)
    mutual = _nearest(marks, found)[nearest] == np.arange(found.size)
    near = np.abs(marks[nearest] - found) <= MATCH
    return np.where(mutual & near, nearest, -1)


def _nearest(of: Ints, among: Ints) -> Ints:
    right = np.searchsorted(among, of).clip(1, max(1, among.size - 1))
    if among.size == 1:
        return np.zeros(of.size, np.int64)
    return np.where(of - among[right - 1] <= among[right] - of, right - 1, right)


def samples_of(source: Source, sign: int) -> npt.NDArray[np.int16]:
    """Samples as a device of 1 uV a step would send them; a sign of -1 turns the signal upside down."""
    uv = np.where(np.isfinite(source.samples_uv), np.clip(sign * source.samples_uv, -32000, 32000), NO_SAMPLE)
    return np.rint(uv).astype(np.int16)


def label(found: Found, which: Ints, source: Source) -> Ints:
    """Label of each found beat, (n,) in `LABELS`; `which` is its mark, as `match` returns it."""
    labels = np.full(found.fiducials.size, source.otherwise)
    for since, until, told in source.rhythms:
        labels[(found.fiducials >= since) & (found.fiducials < until)] = told
    labels[which >= 0] = source.labels[which[which >= 0]]
    return labels


def cut(source: Source, sign: int) -> dict[str, npt.NDArray[Any]]:
    """Beats that the gate lets pass, with their labels, and what was missed: arrays to be stored."""
    found = follow(samples_of(source, sign), source.rate_hz)
    which = match(found.fiducials, source.marks)
    labels = label(found, which, source)
    begin = found.fiducials - beat2.BEFORE
    whole = (begin >= 0) & (begin + beat2.LENGTH <= found.signal.size) & (found.reasons == 0)
    windows = np.array([found.signal[b : b + beat2.LENGTH] for b in begin[whole]], np.float32)
    windows = windows.reshape(-1, beat2.LENGTH)
    finite = np.isfinite(windows).all(axis=1)
    kept = np.flatnonzero(whole)[finite]
    rows, state = np.zeros(kept.size, np.int64), np.zeros(1, wearer.STATE)
    inputs, context = wearer.observe(state, rows, windows[finite], found.rr[kept])
    missed = np.setdiff1d(np.arange(source.marks.size), which)
    withheld = labels[np.setdiff1d(np.arange(labels.size), kept)]
    return {
        "inputs": inputs.astype(np.float16),
        "context": context,
        "labels": labels[kept].astype(np.int8),
        "at": found.fiducials[kept],
        "missed": np.bincount(source.labels[missed], minlength=len(LABELS)),
        "withheld": np.bincount(withheld, minlength=len(LABELS)),
    }
