"""All formats that are written, behind one interface: samples, beats and alerts of one lead, into files of others.

Adding one is a module with a function `write`, and an entry here. A file is written beside its place and then renamed:
it is whole or not there. Nothing that names a person is written; a device's id is.
"""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from recordings.annotations import Note, Spell, note_alerts
from recordings.recording import Signal

MISSING = -32768
"""The step that stands for a missing sample."""
GAP_TEXT = "Signal missing"
"""What EDF annotates a hole with."""


@dataclass(frozen=True, eq=False)
class Export:
    """What is to be written of a device."""

    name: str
    """Of the device."""
    lead: str
    rate_hz: float
    start_s: float
    """Time of the first sample, seconds since 1970 (UTC)."""
    steps: npt.NDArray[np.int16]
    """(n,) steps of `resolution_uv`; `MISSING` where there is no sample."""
    resolution_uv: float
    beats: tuple[Note, ...] = ()
    alerts: tuple[Spell, ...] = ()
    comments: tuple[str, ...] = ()
    """What a reader must know, such as which model named the beats."""

    @property
    def notes(self) -> list[Note]:
        """Beats and alerts as annotations, by time."""
        return sorted([*self.beats, *note_alerts(self.alerts)])

    @property
    def samples_uv(self) -> Signal:
        """(n,) microvolts; NaN where there is no sample."""
        samples_uv: Signal = np.where(self.steps == MISSING, np.nan, self.steps * self.resolution_uv)
        return samples_uv

    def holes(self) -> list[tuple[int, int]]:
        """Begin and end of each run of missing samples."""
        edges = np.flatnonzero(np.diff(self.steps == MISSING, prepend=False, append=False))
        return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


class Writer(NamedTuple):
    """One format."""

    name: str
    suffix: str
    module: str
    """Has `write(export, path)`; imported when it is needed."""


WRITERS = (
    Writer("wfdb", ".hea", "recordings.write_wfdb"),
    Writer("edf", ".edf", "recordings.write_edf"),
    Writer("parquet", ".parquet", "recordings.write_parquet"),
    Writer("csv", ".csv", "recordings.write_csv"),
    Writer("fhir", ".json", "recordings.write_fhir"),
    Writer("fhir-r4", ".json", "recordings.write_fhir_r4"),
)
NAMES = tuple(one.name for one in WRITERS)


def write(export: Export, path: Path, name: str) -> Path:
    """Write one file, or the three of a WFDB record; return the path of the first.

    Raises
    ------
    ValueError
        There is no such format, the package that writes it is not installed, or the format cannot hold the signal.
    OSError
        It cannot be written; nothing of it is left.
    """
    wanted = next((one for one in WRITERS if one.name == name), None)
    if wanted is None:
        raise ValueError(f"Format: got {name!r}, expected {', '.join(NAMES)}.")
    path = path if path.suffix == wanted.suffix else path.with_name(path.name + wanted.suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    importlib.import_module(wanted.module).write(export, path)
    return path


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Give a path beside another, and put what was written there in its place; nothing is left after an error."""
    draft = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """Give an empty folder beside a path, and move what was written there next to it, a header last."""
    draft = path.with_name(f".{os.getpid()}-{path.name}.d")
    draft.mkdir()
    try:
        yield draft
        for file in sorted(draft.iterdir(), key=lambda file: file.suffix == path.suffix):
            file.replace(path.parent / file.name)
    finally:
        shutil.rmtree(draft)
