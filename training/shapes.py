"""Recordings of other devices, leads and polarities -> windows of the task "normal or abnormal".

The PTB files hold one lead of one kind of electrode, upright. What else a wearable may send has to be learned from
recordings: each lead of each, upright and upside down, goes through the stages of the live monitor, which find, gate
and cut its beats. Polarity must be taken from recordings, not made from windows: in a signal that is
upside down another sample is the R peak. Where no lead but II was recorded, other leads are those of other databases.

Labels say what the PTB labels say, as far as annotations tell: a beat of bundle branch block and a ventricular one are
abnormal, a normal one (`N`) is normal; all others, premature ones of normal shape among them, are left out. Recordings
labelled normal as a whole are normal throughout.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from monitor import beat
from training import motion
from training.data import BINARY, Beats, join
from training.sources import read_sources
from training.wearers import UNKNOWN, Found, Ints, N, Source, V, follow, label, match, samples_of

NORMAL, ABNORMAL, LEFT_OUT = 0, 1, -1
OF_SYMBOL = {"N": NORMAL, "L": ABNORMAL, "R": ABNORMAL, "V": ABNORMAL, "E": ABNORMAL, "F": ABNORMAL}
"""Annotated symbol -> label; others are left out."""
OF_LABEL = {N: NORMAL, V: ABNORMAL}
"""Label in `training.wearers.LABELS` -> label, where single beats have no symbol."""
MOST = 60
"""Beats of each label that are taken of one lead of a recording: more of one heart teach little."""
IMPORTANCE = {
    "ptbdb recordings, inverted": 0.3,
    "ptbxl recordings, inverted": 0.3,
    "cinc2017 recordings": 0.125,
    "cinc2017 recordings, inverted": 0.125,
    "tele_ecg recordings": 0.05,
    "tele_ecg recordings, inverted": 0.05,
    "mitdb recordings": 0.025,
    "mitdb recordings, inverted": 0.025,
    "svdb recordings": 0.025,
    "svdb recordings, inverted": 0.025,
}
"""How often beats of a data set are drawn, beside what their number asks for; 1 for others. Labels of other databases
contradict those of PTB: what is normal there may look like lead II of a patient."""
SIGNS = {1: "", -1: ", inverted"}
"""Sign of the signal -> what is added to the name of its database."""
CLEAN = 1
"""Grade of artefacts in recordings in motion."""
SAME_PERSON = {"cinc2017b": "cinc2017"}
_NONE = np.zeros(0, np.int64)


def read_shapes(folders: Sequence[Path]) -> Beats:
    """Cut the beats of all recordings of some folders; a database upside down is a data set of its own.

    Parameters
    ----------
    folders
        Named for databases: those of `training.sources.read_sources`, or ptbdb with its continuous recordings.

    Raises
    ------
    ValueError
        A folder's name is that of no known database, or no beat was found.
    """
    parts = [
        _as_beats(source, windows, labels, sign)
        for folder in folders
        for source in _read(folder)
        for sign in SIGNS
        for windows, labels in [cut(source, sign)]
        if labels.size
    ]
    if not parts:
        raise ValueError(f"Recordings: got no beats in {', '.join(map(str, folders))}, expected some.")
    return join(parts)


def cut(source: Source, sign: int) -> tuple[beat.Windows, Ints]:
    """Windows that the monitor would judge and whose label is known, at most `MOST` of a label: (n, 187), (n,)."""
    found = follow(samples_of(source, sign), source.rate_hz)
    labels = _labels(found, source)
    whole = (found.reasons == 0) & (found.r_peaks + found.lengths <= found.signal.size) & (labels != LEFT_OUT)
    kept = np.sort(np.concatenate([_some(np.flatnonzero(whole & (labels == one))) for one in (NORMAL, ABNORMAL)]))
    stretches = [found.signal[r : r + n] for r, n in zip(found.r_peaks[kept], found.lengths[kept], strict=True)]
    finite = np.array([np.isfinite(one).all() for one in stretches], np.bool_)
    windows = [beat.fit_window(one) for one, is_whole in zip(stretches, finite, strict=True) if is_whole]
    return np.array(windows, np.float32).reshape(-1, beat.LENGTH), labels[kept][finite]


def _labels(found: Found, source: Source) -> Ints:
    which = match(found.fiducials, source.marks)
    told = [OF_LABEL.get(one, LEFT_OUT) for one in label(found, which, source).tolist()]
    labels = np.array(told, np.int64)
    if source.symbols:
        of_marks = np.array([OF_SYMBOL.get(symbol, LEFT_OUT) for symbol in source.symbols], np.int64)
        labels = np.where(which >= 0, of_marks[which], LEFT_OUT)
    return labels


def _some(rows: Ints) -> Ints:
    """At most `MOST` of some rows, from all over the recording."""
    if rows.size <= MOST:
        return rows
    return rows[np.linspace(0, rows.size - 1, MOST).round().astype(np.int64)]


def _read(folder: Path) -> Iterator[Source]:
    return WHOLE[folder.name](folder) if folder.name in WHOLE else read_sources(folder)


def _read_ptbxl(folder: Path) -> Iterator[Source]:
    """Ten seconds of lead II of each person: normal, or with a diagnosis."""
    with np.load(folder / "ptbxl_leadII_500hz_int16_uV.npz") as stored:
        signals = stored["x"]
    for signal, about in zip(signals, _rows(folder / "ptbxl_records.csv"), strict=True):
        said = about["superclasses"]
        is_normal = said == "NORM"
        if is_normal or (said and "NORM" not in said.split("|")):
            yield _whole("ptbxl", about["patient"], about["ecg_id"], 500.0, signal, is_normal)


def _read_ptbdb(folder: Path) -> Iterator[Source]:
    """Lead II of healthy controls and of patients."""
    with np.load(folder / "ptbdb_leadII_1000hz_int16_uV.npz") as stored:
        for about in _rows(folder / "ptbdb_records.csv"):
            signal, is_normal = stored[about["record"]], about["diagnosis"] == "Healthy control"
            yield _whole("ptbdb", about["patient"], about["record"], float(about["rate_hz"]), signal, is_normal)


def _read_motion(folder: Path) -> Iterator[Source]:
    """A chest sensor on healthy people at rest and in motion; only what was graded as clean counts."""
    for path in sorted(folder.glob("*.npz")):
        signal, stretches = motion.read_motion(path)
        pace = beat.RATE_HZ / motion.RATE_HZ
        clean = tuple((begin * pace, end * pace, N) for begin, end, grade in stretches if grade == CLEAN)
        person = path.stem.partition("_")[0]
        yield Source(folder.name, person, path.stem, motion.RATE_HZ, signal, _NONE, _NONE, clean, UNKNOWN)


def _whole(database: str, person: str, name: str, rate_hz: float, signal: Ints, is_normal: bool) -> Source:
    """A recording with one label."""
    return Source(database, person, name, rate_hz, signal.astype(float), _NONE, _NONE, (), N if is_normal else V)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


WHOLE: dict[str, Callable[[Path], Iterator[Source]]] = {
    "ptbxl": _read_ptbxl,
    "ptbdb": _read_ptbdb,
    "motion_artefacts": _read_motion,
}
"""Databases that are read otherwise than for the class model (those with a diagnosis count, too), or not at all."""


def _as_beats(source: Source, windows: beat.Windows, labels: Ints, sign: int) -> Beats:
    n = labels.size
    database = SAME_PERSON.get(source.database, source.database)
    names = (
        f"{database}/{source.person}",
        f"{database} recordings{SIGNS[sign]}",
        "",
        f"{database}/{source.name}/{sign:+d}",
    )
    patients, datasets, given, records = (np.full(n, name) for name in names)
    nothing = pd.DataFrame({"age": np.full(n, np.nan), "sex": np.full(n, ""), "diagnosis": np.full(n, "")})
    no_rr = np.full((n, len(beat.RR_CONTEXT)), np.nan, np.float32)
    return Beats(windows, labels, BINARY, patients, datasets, given, records, no_rr, nothing)
