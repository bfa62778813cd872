"""Train and judge a shape model on windows of the PTB kind and on recordings of other leads, patients apart.

``ecgwatch train shapes --data DIR... --recordings DIR... --out RUN``. A patient is in one fold with all windows and all
recordings, upright and upside down. Figures and threshold come from networks that have not met the patient; the network
that is kept has seen all of them. The run folder is like any other: ``ecgwatch export onnx RUN`` writes model and card.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from training import fit, metrics, models
from training.data import BINARY, Beats, join, load_beats
from training.run import WEIGHTS, Recipe, Run
from training.shapes import read_shapes
from training.split import fold_groups, group_beats, hash_rows, split_kinds, strata_of

FOLDS = 5
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


def run_shapes(data: Sequence[str], recordings: Sequence[Path], recipe: Recipe, out: Path, command: str) -> Run:
    """Train one network for each fold and one on all beats; write a run folder, and return what is in it.

    Folds that are in the folder already are not trained again.

    Raises
    ------
    ValueError
        The data or the recordings cannot be read.
    """
    beats = join([load_beats(data, BINARY), read_shapes(recordings)])
    return train_shapes(beats, [*data, *map(str, recordings)], recipe, out, command)


def train_shapes(beats: Beats, directories: list[str], recipe: Recipe, out: Path, command: str) -> Run:
    """The same, of beats that have been read."""
    started = time.monotonic()
    fold = fold_groups(group_beats(beats, "patient"), strata_of(beats), FOLDS, recipe.seed)
    probabilities, thresholds = np.empty((len(beats), len(beats.classes)), np.float32), np.empty(len(beats))
    for k in range(FOLDS):
        network = _train(beats, np.flatnonzero(fold != k), recipe, out / f"fold-{k}")
        held_out = fold == k
        probabilities[held_out] = models.probabilities(network, beats.windows[held_out], beats.rr[held_out])
    for k in range(FOLDS):
        thresholds[fold == k] = _threshold(beats, probabilities, np.flatnonzero(fold != k))
    network = _train(beats, np.arange(len(beats)), recipe, out / "all")
    point = metrics.OperatingPoint(_threshold(beats, probabilities, np.arange(len(beats))), (0.0, 0.0))
    fit.finish(network, point, out)
    every = np.ones(len(beats), np.bool_)
    done = Run(
        recipe=recipe,
        data=directories,
        split="patient",
        command=command,
        classes=list(beats.classes),
        parameters=models.count_parameters(network),
        split_kinds={name: str(kind) for name, kind in split_kinds(beats, "patient").items()},
        sha256=hash_rows(beats, np.full(len(beats), "train")),
        notes=list(beats.notes),
        seconds=round(time.monotonic() - started, 1),
        threshold=point.threshold,
        threshold_from=f"out-of-fold beats of {FOLDS} folds of patients",
        figures={f"inter-patient, {FOLDS} folds": fit.figures_of(beats, probabilities, thresholds, every)},
    )
    done.save(out)
    return done


def _train(beats: Beats, rows: Ints, recipe: Recipe, folder: Path) -> models.BeatNetwork:
    """Train, or take what was trained before."""
    if (folder / WEIGHTS).is_file():
        network = recipe.make_network(len(beats.classes))
        network.load_state_dict(torch.load(folder / WEIGHTS, weights_only=True))
        return network.eval()
    network = fit.train_network(recipe, beats, rows, rows[:0], folder, resume=True)
    torch.save(network.state_dict(), folder / WEIGHTS)
    (folder / fit.CHECKPOINT).unlink()
    return network


def _threshold(beats: Beats, probabilities: Floats, rows: Ints) -> float:
    return metrics.best_threshold(beats.labels[rows] > 0, metrics.abnormal(probabilities[rows]))
