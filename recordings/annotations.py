"""What was found, as annotations that other people's software reads: WFDB symbols and rhythm notes.

A beat has the symbol of its class by ANSI/AAMI EC57; one of a model without these classes, or one that was withheld, is
Q (unclassifiable) with the word in its note. An alert that names a rhythm begins it by a note "+", and its end is a
note "(N"; any other alert is a comment.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recordings.classes import CLASSES
from recordings.reader import open_wfdb

RHYTHMS = {
    "atrial-fibrillation": "(AFIB",
    "atrial-flutter": "(AFL",
    "ventricular-tachycardia": "(VT",
    "ventricular-fibrillation": "(VFIB",
    "ventricular-flutter": "(VFL",
    "bigeminy": "(B",
    "trigeminy": "(T",
    "bradycardia": "(SBR",
    "extreme-bradycardia": "(SBR",
    "asystole": "(ASYS",
}
"""Kind of alert -> the WFDB note of a rhythm that begins (PhysioNet, "Annotations")."""
NORMAL = "(N"
UNKNOWN = "Q"
SYMBOLS = {"normal": "N"} | {name: name for name in CLASSES if name != "Q"}
"""Class of a model -> WFDB symbol."""


class Note(NamedTuple):
    """An annotation."""

    time_s: float
    """Since the start of the recording."""
    symbol: str
    text: str = ""


class Spell(NamedTuple):
    """An alert, as annotations need it."""

    kind: str
    begin_s: float
    end_s: float | None
    text: str


def note_beats(qrs_s: Iterable[float], labels: Iterable[str]) -> list[Note]:
    """Annotations of beats with their classes."""
    known = ((time_s, label, SYMBOLS.get(label, UNKNOWN)) for time_s, label in zip(qrs_s, labels, strict=True))
    return [Note(time_s, symbol, "" if symbol != UNKNOWN else label) for time_s, label, symbol in known]


def note_alerts(spells: Iterable[Spell]) -> list[Note]:
    """Annotations of alerts."""
    notes = []
    for one in spells:
        rhythm = RHYTHMS.get(one.kind)
        notes.append(Note(one.begin_s, "+", rhythm) if rhythm else Note(one.begin_s, '"', one.text or one.kind))
        if rhythm and one.end_s is not None:
            notes.append(Note(one.end_s, "+", NORMAL))
    return notes


def write_annotations(path: Path, notes: Sequence[Note], rate_hz: float, samples: int) -> None:
    """Write a WFDB annotation file, whole or not at all.

    Parameters
    ----------
    path
        Of the file; its ending is the annotator.
    notes
        In any order; places are whole samples within the recording.
    rate_hz, samples
        Of the recording.

    Raises
    ------
    ValueError
        `wfdb` is missing, or cannot write a file of such a name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    notes = sorted(notes)
    if not notes:
        path.write_bytes(b"\0\0")  # the mark of the end: wfdb writes no empty file, but reads one
        return
    places = np.clip(np.rint([note.time_s * rate_hz for note in notes]).astype(np.int64), 0, max(0, samples - 1))
    draft = f"{path.stem}-draft-{os.getpid()}"
    with open_wfdb(f"{path} cannot be written as WFDB annotations") as wfdb:
        wfdb.wrann(
            draft, path.suffix[1:], places, symbol=[note.symbol for note in notes],
            aux_note=[note.text for note in notes], fs=rate_hz, write_dir=str(path.parent),
        )  # fmt: skip
    (path.parent / f"{draft}{path.suffix}").replace(path)
