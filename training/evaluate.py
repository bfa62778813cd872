"""Evaluate a run on its own val and test parts, and explain the figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from training import data, models
from training.fit import figures_of
from training.metrics import Figures
from training.run import Run, load_run
from training.split import hash_rows, split_beats

MEANING = {
    "patient": "inter-patient: no patient of val or test is in train, so the figures hold for new patients",
    "beat": "intra-patient: the same patients are in all parts, so the figures are optimistic for new patients",
}
COLUMNS = {
    "accuracy": "acc.",
    "balanced_accuracy": "bal.",
    "sensitivity": "sens.",
    "specificity": "spec.",
    "ppv": "PPV",
    "f1": "F1",
    "roc_auc": "AUC",
    "macro_f1": "macro",
}


def evaluate(folder: Path, directories: Sequence[str] | None = None) -> tuple[Run, dict[str, dict[str, Figures]]]:
    """Evaluate a run again, from its weights and its data.

    Parameters
    ----------
    folder
        A run folder.
    directories
        Where its data are now; None: where they were at training time.

    Returns
    -------
    tuple
        The run, and its figures in the shape of `Run.figures`.

    Raises
    ------
    ValueError
        There is no such run or data, or the rows are not those that it was trained on.
    """
    run, network = load_run(folder)
    if "test" not in run.figures:
        raise ValueError(
            f"{folder}: got a network that was trained on all its beats, expected one with a test part; export it, and "
            "evaluate it on other beats with 'python -m export evaluate'."
        )
    beats = data.load_beats(directories or run.data, run.classes)
    parts = split_beats(beats, run.split, run.recipe.seed, run.recipe.shares)
    if (got := hash_rows(beats, parts)) != run.sha256:
        raise ValueError(f"Data of {folder} have changed since training: got SHA-256 {got}, expected {run.sha256}.")
    p = models.probabilities(network, beats.windows, beats.rr)
    thresholds = np.full(len(beats), run.threshold)
    return run, {part: figures_of(beats, p, thresholds, parts == part) for part in ("val", "test")}


def print_figures(run: Run, figures: dict[str, dict[str, Figures]], console: Console) -> None:
    """Print a table of figures that fits a terminal of 80 columns, and an explanation below it."""
    console.print(f"{run.recipe.title}, split by {run.split}, threshold {run.threshold:.3f}\n")
    width = max(len(name) for of_part in figures.values() for name in of_part)
    columns = {
        key: heading
        for key, heading in COLUMNS.items()
        if any(key in row for of_part in figures.values() for row in of_part.values())
    }
    headings = "".join(f"{heading:>7}" for heading in columns.values())
    console.print(f"part {'data':<{width}}{'beats':>7}{'pat.':>6}{headings}", soft_wrap=True, highlight=False)
    for part, of_part in figures.items():
        for name, row in of_part.items():
            rates = "".join(f"{row[column]:>7.3f}" for column in columns)
            line = f"{part:<4} {name:<{width}}{row['beats']:>7.0f}{row['patients']:>6.0f}{rates}"
            console.print(line, soft_wrap=True, highlight=False)
    console.print(
        "\nRates from 0 to 1. pat.: patients; bal.: balanced accuracy; AUC: area under the ROC curve; "
        "macro: F1 averaged over the classes N, S, V, F."
    )
    for name, kind in run.split_kinds.items():
        console.print(f"{name}: {MEANING[kind]}.")
    for note in run.notes:
        console.print(f"Note: {note}")
