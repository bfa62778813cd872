"""Recorded heartbeats in the Kaggle layout, and the start of the next beat in each of them.

A file has no header; a row is 187 samples at 125 Hz, scaled to 0..1 and padded with zeros, then the label (0 normal,
1 abnormal). Rows are numbered from 1, as in editors. Knows nothing about streams or devices.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from monitor import beat

Label = Literal["normal", "abnormal"]
LABELS: tuple[Label, Label] = ("normal", "abnormal")
"""Class names, in the order of their numbers in the files."""
DATA_VARIABLE = "ECGWATCH_DATA"
"""Environment variable with the directory of the PTB files."""


@dataclass(frozen=True, eq=False)
class Beats:
    """Heartbeats as windows, with their class and source."""

    windows: beat.Windows
    """(n, 187) float32 in 0..1, zero-padded."""
    labels: tuple[str, ...]
    """Class of each beat."""
    sources: tuple[str, ...]
    """Source of each beat, such as "ptbdb_abnormal.csv:17"."""
    lengths: npt.NDArray[np.int64]
    """(n,) length of each window without its padding, samples."""

    def __len__(self) -> int:
        return len(self.windows)

    def where(self, label: str) -> Beats:
        """Return the beats of one class.

        Raises
        ------
        ValueError
            There are none.
        """
        rows = [row for row, name in enumerate(self.labels) if name == label]
        if not rows:
            raise ValueError(f"No beats of class {label!r}: got {sorted(set(self.labels))}.")
        return Beats(
            self.windows[rows],
            tuple(self.labels[row] for row in rows),
            tuple(self.sources[row] for row in rows),
            self.lengths[rows],
        )


def find_data(directory: Path | None) -> Path | None:
    """Return the directory with the PTB files: as given, else from the environment, else None.

    The files may be in the directory itself or in its subfolder "ptbdb".

    Raises
    ------
    ValueError
        There are no PTB files in it.
    """
    named = directory if directory is not None else os.environ.get(DATA_VARIABLE)
    if not named:
        return None
    for folder in (Path(named), Path(named) / "ptbdb"):
        if _find_file(folder, "normal") and _find_file(folder, "abnormal"):
            return folder
    raise ValueError(f"No PTB files in {named}: expected ptbdb_normal.csv and ptbdb_abnormal.csv (or .csv.gz).")


def load_beats(directory: Path) -> Beats:
    """Load the beats of both classes from a directory in the Kaggle layout.

    Raises
    ------
    ValueError
        A file is missing or empty, or a row is not a beat: the message names file, row and column.
    """
    parts = [_load_file(_require_file(directory, label), number) for number, label in enumerate(LABELS)]
    return Beats(
        np.concatenate([part.windows for part in parts]),
        sum((part.labels for part in parts), ()),
        sum((part.sources for part in parts), ()),
        np.concatenate([part.lengths for part in parts]),
    )


def unpadded_length(window: npt.NDArray[np.float32]) -> int:
    """Return the length of a window without its padding, samples.

    A window may hold real zeros (its minimum is one), so only trailing zeros count as padding. Where the minimum is the
    last real sample, the result is one too small, which cannot be detected from the row.
    """
    return int(np.flatnonzero(window)[-1]) + 1


def next_r_peak(window: npt.NDArray[np.float32], length: int) -> int:
    """Find the next beat's R peak in a window.

    A window lasts 1.2 T, so the next R peak is expected near ``length / 1.2``. The beat that starts there resembles
    the one at the start of the window: the best match of the window's own first 12 samples (96 ms) is taken, near the
    expected position where several match, and then the highest adjacent sample. On PTB rows whose neighbour in the
    record is known, the result is within a sample of the true start in 100 % (normal) and 89 % (abnormal) of them.

    Parameters
    ----------
    window
        (187,) a beat window.
    length
        Its length without the padding, samples.

    Returns
    -------
    int
        Index of the next R peak, 0 < index < length.
    """
    signal = window[:length].astype(np.float64)
    expected = length / beat.SPAN
    positions = np.arange(int(0.75 * expected), min(length - 7, int(1.25 * expected) + 1))
    size = min(12, length - int(positions[-1]))
    head = signal[:size] - signal[:size].mean()
    tails = sliding_window_view(signal, size)[positions]
    tails = tails - tails.mean(axis=1, keepdims=True)  # (positions, size)
    similarity = tails @ head / (np.linalg.norm(tails, axis=1) * np.linalg.norm(head) + 1e-9)
    log_gain = np.log((tails.std(axis=1) + 1e-3) / (head.std() + 1e-3))
    cost = -similarity + 0.1 * np.abs(log_gain) + 2 * ((positions - expected) / expected) ** 2
    peak = int(positions[cost.argmin()])
    if signal[0] > signal[1]:
        peak += int(signal[peak - 1 : peak + 2].argmax()) - 1
    return peak


def _find_file(directory: Path, label: str) -> Path | None:
    return beat.find_csv(directory, f"ptbdb_{label}")


def _require_file(directory: Path, label: str) -> Path:
    path = _find_file(directory, label)
    if path is None:
        raise ValueError(f"No PTB file in {directory}: expected ptbdb_{label}.csv or ptbdb_{label}.csv.gz.")
    return path


def _load_file(path: Path, number: int) -> Beats:
    """Load the file of one class; `number` is the label expected in every row."""
    windows = beat.read_class(path, number)
    for zeros in np.flatnonzero(~windows.any(axis=1)):
        raise ValueError(f"{path}, row {zeros + 1}: got only zeros, expected a heartbeat.")
    lengths = np.array([unpadded_length(window) for window in windows])
    if lengths.min() < MIN_LENGTH:
        row = int(lengths.argmin())
        raise ValueError(f"{path}, row {row + 1}: got {lengths[row]} samples, expected at least {MIN_LENGTH}.")
    name = f"ptbdb_{LABELS[number]}.csv"
    sources = tuple(f"{name}:{row + 1}" for row in range(len(windows)))
    return Beats(windows, (LABELS[number],) * len(windows), sources, lengths)


MIN_LENGTH = 30
"""Shortest window that can be a heartbeat, samples: 1.2 T at 300 beats per minute."""
