from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from monitor import beat

WriteBeats = Callable[..., Path]


def toy_windows(n: int, label: int, seed: int) -> beat.Windows:
    """(n, 187): a bump late in the window where the beat is abnormal, early where it is normal."""
    rng = np.random.default_rng(seed)
    time = np.arange(120)
    center = 40 + 40 * label
    bumps = np.exp(-0.5 * ((time - center - rng.normal(0, 3, (n, 1))) / 6) ** 2) + rng.normal(0, 0.02, (n, 120))
    return np.stack([beat.fit_window(bump) for bump in bumps])


def write_toy(
    folder: Path, name: str = "toy", patients: int = 6, beats: int = 5, side: bool = True, seed: int = 0
) -> Path:
    """Write a data set of some patients a class, some beats each, in the Kaggle layout."""
    for label, of_class in enumerate(("normal", "abnormal")):
        windows = toy_windows(patients * beats, label, seed + label)
        rows = [",".join(f"{value:.6f}" for value in window) + f",{label}" for window in windows]
        (folder / f"{name}_{of_class}.csv").write_text("\n".join(rows) + "\n")
        if side:
            lines = [f"{of_class}{row // beats}" for row in range(patients * beats)]
            (folder / f"{name}_{of_class}_rows.csv").write_text("\n".join(["patient", *lines]) + "\n")
    return folder


@pytest.fixture
def write_beats(tmp_path: Path) -> WriteBeats:
    """`write_toy` into the test's own folder."""
    return partial(write_toy, tmp_path)
