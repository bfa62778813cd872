"""Folders of recordings -> sources of beats, with what their annotations tell of the beats.

Which database a folder holds is known by its name, see `READERS`. Beats are labelled where people annotated them;
recordings that are normal, or in atrial fibrillation, as a whole tell less, and are taken for what they tell.
"""

from __future__ import annotations

import csv
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from monitor import beat2
from recordings.classes import CLASS_OF
from recordings.reader import open_wfdb
from training.wearers import NOT_S, UNKNOWN, F, N, S, Source, V

BEATS = {"N": N, "S": S, "V": V, "F": F, "Q": UNKNOWN}
RHYTHMS = {"(AFIB": NOT_S, "(VT": V, "(VFL": V, "(VF": V, "(VFIB": V}
"""Annotated rhythm -> what it tells of its beats, where beats themselves are not annotated."""
MARGIN = 20
"""Samples around an artefact of which nothing is known either."""
NOISE_HEIGHT = 0.6
"""Most noise that is added, in heights of the signal."""

Floats = npt.NDArray[np.float64]
Rhythms = tuple[tuple[float, float, int], ...]
_NONE = np.zeros(0, np.int64)


def read_sources(folder: Path) -> Iterator[Source]:
    """Every lead of every usable recording of a folder.

    Raises
    ------
    ValueError
        The folder's name is that of no known database.
    """
    if folder.name not in READERS:
        raise ValueError(f"{folder}: got an unknown folder, expected one of {', '.join(READERS)}.")
    return READERS[folder.name](folder)


def add_noise(source: Source, noises: list[Floats]) -> Source:
    """The same with recorded noise of 360 Hz in it that comes and goes; always the same for one source."""
    rng = np.random.default_rng(zlib.crc32(source.name.encode()))
    noise = noises[rng.integers(len(noises))]
    noise = np.roll(noise, rng.integers(noise.size // 2))
    count = source.samples_uv.size
    stretched = np.interp(np.arange(count) * 360 / source.rate_hz, np.arange(noise.size), noise)
    strength = np.interp(np.arange(count), np.linspace(0, count, 40), rng.uniform(0, 1, 40) ** 2)
    height = np.nanpercentile(np.abs(source.samples_uv - np.nanmedian(source.samples_uv)), 99.5)
    return replace(source, samples_uv=source.samples_uv + NOISE_HEIGHT * height * strength * stretched)


def read_noises(folder: Path) -> list[Floats]:
    """Signals of all noise records of a folder, without what is slower than 2 s, in units of their heights."""
    found = []
    for header in sorted(folder.glob("*.hea")):
        for signal in _read(header)[0].T:
            quick = signal - np.convolve(signal, np.ones(721) / 721, "same")
            found.append(quick / np.percentile(np.abs(quick), 99))
    if not found:
        raise ValueError(f"{folder}: got no records, expected those of the MIT-BIH Noise Stress Test Database.")
    return found


def _read(header: Path) -> tuple[Floats, float, Any]:
    """Microvolts (samples, leads), rate and annotations of a record."""
    base = header.with_suffix("")
    with open_wfdb(f"{base} cannot be read as a WFDB record") as wfdb:
        record = wfdb.rdrecord(str(base))
        marks = wfdb.rdann(str(base), "atr") if header.with_suffix(".atr").exists() else None
    return 1000 * record.p_signal, float(record.fs), marks


def _read_beats(folder: Path) -> Iterator[Source]:
    """Records in which every beat was annotated."""
    for header in sorted(folder.glob("*.hea")):
        signals, rate_hz, marks = _read(header)
        at = np.rint(marks.sample * beat2.RATE_HZ / rate_hz).astype(np.int64)
        known = [symbol in CLASS_OF or symbol == "!" for symbol in marks.symbol]
        symbols = tuple(symbol for symbol, one in zip(marks.symbol, known, strict=True) if one)
        labels = np.array([BEATS[CLASS_OF.get(symbol, "Q")] for symbol in symbols])
        flutter = _flutter(at, marks.symbol)
        for lead, signal in enumerate(signals.T):
            name = f"{header.stem}_{lead}"
            yield Source(folder.name, header.stem, name, rate_hz, signal, at[known], labels, flutter, symbols=symbols)


def _flutter(at: npt.NDArray[np.int64], symbols: list[str]) -> Rhythms:
    begins = [float(t) for t, symbol in zip(at, symbols, strict=True) if symbol == "["]
    ends = [float(t) for t, symbol in zip(at, symbols, strict=True) if symbol == "]"]
    return tuple((begin, next((end for end in ends if end > begin), np.inf), UNKNOWN) for begin in begins)


def _read_rhythms(folder: Path) -> Iterator[Source]:
    """Records of which rhythms were annotated."""
    for header in sorted(folder.glob("*.hea")):
        signals, rate_hz, marks = _read(header)
        names = [
            (t * beat2.RATE_HZ / rate_hz, aux.strip("\0")) for t, aux in zip(marks.sample, marks.aux_note, strict=True)
        ]
        changes = [(t, name) for t, name in names if name.startswith("(")]
        ends = [*(t for t, _ in changes[1:]), np.inf][: len(changes)]
        known = tuple((t, end, RHYTHMS[name]) for (t, name), end in zip(changes, ends, strict=True) if name in RHYTHMS)
        person = header.stem.rpartition("_")[0] or header.stem
        for lead, signal in enumerate(signals.T if known else ()):
            name = f"{header.stem}_{lead}"
            yield Source(folder.name, person, name, rate_hz, signal, _NONE, _NONE, known, UNKNOWN)


def _read_challenge(folder: Path) -> Iterator[Source]:
    """Short recordings that were labelled as a whole: normal, or in atrial fibrillation."""
    with (folder / "REFERENCE.csv").open(newline="") as file:
        labels = {name: {"N": N, "A": NOT_S}.get(label) for name, label in csv.reader(file)}
    for name, label in sorted(labels.items()):
        if label is not None:
            signals, rate_hz, _ = _read(folder / f"{name}.hea")
            yield Source("cinc2017", name, name, rate_hz, signals[:, 0], _NONE, _NONE, (), label)


def _read_tele(folder: Path) -> Iterator[Source]:
    """Recordings at home, beats annotated, artefacts masked; taken for normal."""
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as stored:
            bad = np.diff(np.r_[0, (stored["visual_mask"] | stored["software_mask"]).astype(int), 0])
            signal, marks = stored["ecg_uV"].astype(np.float64), np.rint(stored["qrs"] / 4).astype(np.int64)
        edges = zip(np.flatnonzero(bad == 1) / 4, np.flatnonzero(bad == -1) / 4, strict=True)
        unknown = tuple((float(begin) - MARGIN, float(end) + MARGIN, UNKNOWN) for begin, end in edges)
        yield Source("tele_ecg", path.stem, path.stem, 500.0, signal, marks, np.full(marks.size, N), unknown, UNKNOWN)


def _read_ptbxl(folder: Path) -> Iterator[Source]:
    """Ten seconds each of people whose ECG is normal."""
    with (folder / "ptbxl_records.csv").open(newline="") as file:
        about = list(csv.DictReader(file))
    with np.load(folder / "ptbxl_leadII_500hz_int16_uV.npz") as stored:
        signals = stored["x"]
    for signal, one in zip(signals, about, strict=True):
        if one["superclasses"] == "NORM":
            yield Source("ptbxl", one["patient"], one["ecg_id"], 500.0, signal.astype(float), _NONE, _NONE, (), N)


READERS: dict[str, Callable[[Path], Iterator[Source]]] = {
    "mitdb": _read_beats,
    "svdb": _read_beats,
    "vfdb": _read_rhythms,
    "cpsc2021": _read_rhythms,
    "cinc2017": _read_challenge,
    "cinc2017b": _read_challenge,
    "tele_ecg": _read_tele,
    "ptbxl": _read_ptbxl,
}
"""Name of a folder -> what reads it."""
