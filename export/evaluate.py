"""Evaluate a model file on labelled beats it was not trained on: other patients, other records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from monitor.classify import Classifier
from training import data, metrics, shapes
from training.fit import figures_of


def evaluate(
    model: str | Path, directories: Sequence[str | Path], recordings: Sequence[Path] = ()
) -> tuple[Classifier, dict[str, metrics.Figures]]:
    """Classify every beat of some data sets with the monitor's classifier, and compute its figures.

    Parameters
    ----------
    model
        Name of a bundled model, or path of a file.
    directories
        See `training.data.load_beats`; may be empty if there are recordings.
    recordings
        Folders of recordings for a model of single windows, normal or abnormal: see `training.shapes.read_shapes`.

    Returns
    -------
    tuple
        The model, and data set -> figures of `training.metrics`.

    Raises
    ------
    FileNotFoundError, ModelMismatch
        There is no such model, or the monitor refuses it.
    ValueError
        The data cannot be read, have other classes than the model, or lack the RR context that it needs.
    """
    classifier = Classifier(model)
    beats = _load(directories, recordings, classifier.info.classes)
    if classifier.needs_rr and not beats.has_rr:
        raise ValueError(f"RR context: got beats without, expected it for the model {classifier.info.name}.")
    p = classifier.probabilities(beats.windows, beats.rr)
    everything = np.ones(len(beats), np.bool_)
    return classifier, figures_of(beats, p, np.full(len(beats), classifier.info.threshold), everything)


def _load(directories: Sequence[str | Path], recordings: Sequence[Path], classes: Sequence[str]) -> data.Beats:
    if not recordings:
        return data.load_beats(directories, classes)
    cut = shapes.read_shapes(recordings)
    if cut.classes != tuple(classes):
        raise ValueError(f"Recordings tell {' '.join(cut.classes)}: got a model of {' '.join(classes)}.")
    return data.join([data.load_beats(directories, classes), cut]) if directories else cut
