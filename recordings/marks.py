"""Which annotation files lie beside a WFDB record, and their contents, with times in seconds.

An annotation file is named for its record and its annotator: ``100.atr``. Its times count in its own resolution where
it states one, else in the record's frames. Knows nothing of signals.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from recordings.classes import CLASS_OF

PREFERRED = ("atr", "ecg", "qrs")
"""Annotators by how much they are trusted: the usual name of annotations made by people first."""
MADE_HERE = "ecgw"
"""What `simulator score --annotations` writes: never taken for what a record is annotated with."""
NOT_ANNOTATIONS = {
    "hea", "dat", "mat", "edf", "bdf", "flac", "csv", "tsv", "txt", "md", "json", "xml", "html", "pdf", "png", "jpg",
    "svg", "npz", "npy", "gz", "zip", "bak", "orig", "sha256", "md5", "xws", "log", "info", "xyz",
    MADE_HERE,
}  # fmt: skip
"""Last parts of names, in lower case, that are no annotators'."""

Mark = tuple[float, str]
"""Time of an annotation, seconds since the start of the record, and its symbol."""


def list_annotators(base: Path, signal_files: set[str]) -> list[str]:
    """Annotators whose files lie beside a record, by name."""
    beside = (path.name for path in base.parent.iterdir() if path.name.startswith(f"{base.name}.") and path.is_file())
    suffixes = [name[len(base.name) + 1 :] for name in beside if name not in signal_files]
    return sorted(one for one in suffixes if re.fullmatch(r"[A-Za-z]\w*", one) and one.lower() not in NOT_ANNOTATIONS)


def choose_annotator(known: list[str]) -> str | None:
    """Return the annotator to go by where nobody chose one; None if there is none, or no telling which."""
    for one in PREFERRED:
        if one in known:
            return one
    return known[0] if len(known) == 1 else None


def read_marks(wfdb: Any, base: Path, annotator: str, frame_rate_hz: float) -> list[Mark]:
    """Annotations of one annotator, in order. Raises whatever `wfdb` raises on a broken file."""
    notes = wfdb.rdann(str(base), annotator)
    resolution_hz = float(notes.fs) if notes.fs else frame_rate_hz
    return sorted((float(at) / resolution_hz, symbol) for at, symbol in zip(notes.sample, notes.symbol, strict=True))


def beats_of(marks: list[Mark]) -> list[Mark]:
    """Those of the annotations that mark beats."""
    return [mark for mark in marks if mark[1] in CLASS_OF]
