"""A shape model trained on windows and recordings together, patients apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from monitor import beat
from training import fit
from training.data import BINARY, Beats, join
from training.run import Recipe, load_run
from training.shape_run import FOLDS, train_shapes
from training.shapes import IMPORTANCE

PEOPLE, EACH = 20, 12


def make_beats(dataset: str = "ptbxl", abnormal: bool = True) -> Beats:
    """Windows of twenty people; every second person's are abnormal: their T wave is inverted."""
    rng = np.random.default_rng(len(dataset))
    person = np.repeat(np.arange(PEOPLE), EACH)
    labels = person % 2 if abnormal else np.zeros(person.size, np.int64)
    time_s = np.arange(120) / beat.RATE_HZ
    qrs, t_wave = (np.exp(-0.5 * ((time_s - at) / width) ** 2) for at, width in ((0, 0.02), (0.3, 0.04)))
    shapes = [qrs + (0.3 - 0.6 * label) * t_wave + rng.normal(0, 0.02, 120) for label in labels]
    n = labels.size
    patients, text = np.array([f"ptbxl/{one}" for one in person]), np.full(n, "")
    about = pd.DataFrame({"age": np.full(n, np.nan), "sex": text, "diagnosis": text})
    windows = np.stack([beat.fit_window(one) for one in shapes])
    no_rr = np.full((n, 3), np.nan, np.float32)
    return Beats(windows, labels, BINARY, patients, np.full(n, dataset), text, patients, no_rr, about)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "EPOCH_BEATS", 256)
    monkeypatch.setattr(fit, "BATCH", 64)


@pytest.mark.usefixtures("quick")
def test_figures_are_of_networks_that_have_not_met_the_patient(tmp_path: Path) -> None:
    both = join([make_beats(), make_beats("ptbxl recordings")])
    run = train_shapes(both, ["somewhere"], Recipe("compact", epochs=3), tmp_path, "a command")
    figures = run.figures[f"inter-patient, {FOLDS} folds"]
    assert set(figures) == {"all", "ptbxl", "ptbxl recordings"}
    assert figures["all"]["patients"] == PEOPLE
    assert figures["ptbxl"]["roc_auc"] > 0.9
    assert load_run(tmp_path)[0] == run


@pytest.mark.usefixtures("quick")
def test_folds_that_are_there_are_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe("compact", epochs=1)
    first = train_shapes(make_beats(), [], recipe, tmp_path, "")
    monkeypatch.setattr(fit, "train_network", None)
    assert replace(train_shapes(make_beats(), [], recipe, tmp_path, ""), seconds=first.seconds) == first


@pytest.mark.usefixtures("quick")
def test_recordings_of_normal_people_alone_have_a_specificity_and_no_auc(tmp_path: Path) -> None:
    both = join([make_beats(), make_beats("cinc2017 recordings", abnormal=False)])
    figures = train_shapes(both, [], Recipe("compact", epochs=1), tmp_path, "").figures
    of_normals = figures[f"inter-patient, {FOLDS} folds"]["cinc2017 recordings"]
    assert 0 <= of_normals["specificity"] <= 1
    assert np.isnan(of_normals["roc_auc"])


def test_recordings_are_drawn_less_often_than_windows() -> None:
    both = join([make_beats(), make_beats("ptbxl recordings, inverted")])
    chances = fit.sampling_probabilities(both, np.arange(len(both)))
    share = chances[both.datasets != "ptbxl"].sum() / chances[both.datasets == "ptbxl"].sum()
    assert share == pytest.approx(IMPORTANCE["ptbxl recordings, inverted"])
