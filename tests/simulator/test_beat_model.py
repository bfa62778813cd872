"""Beats drawn from the shipped statistical model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from monitor import beat
from monitor.classify import Classifier
from simulator.beat_model import MODEL_FILE, PHASE_STOP, PHASES, BeatModel, fit_model
from simulator.beats import LABELS, Label, load_beats, next_r_peak


@pytest.fixture(scope="module")
def model() -> BeatModel:
    return BeatModel.load()


def test_shipped_model_is_small() -> None:
    assert MODEL_FILE.stat().st_size <= 200_000


@pytest.mark.parametrize("label", LABELS)
def test_drawn_beats_are_windows_with_the_next_r_peak_at_their_period(model: BeatModel, label: Label) -> None:
    for seed in range(20):
        beats = model.draw(label, 10, seed)
        beat.check_windows(beats.windows)
        for window, length in zip(beats.windows, beats.lengths, strict=True):
            assert window.max() == 1
            assert abs(next_r_peak(window, int(length)) - length / beat.SPAN) <= 0.08 * length


def test_same_seed_draws_the_same_beats_and_another_seed_another_patient(model: BeatModel) -> None:
    first, again, other = (model.draw("normal", 5, seed).windows for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_beats_of_one_virtual_patient_resemble_each_other_more_than_those_of_two(model: BeatModel) -> None:
    patients = [model.draw("normal", 8, seed, period=110).windows for seed in range(10)]
    within = np.mean([np.abs(beats - beats.mean(axis=0)).mean() for beats in patients])
    means = np.array([beats.mean(axis=0) for beats in patients])
    assert within < 0.5 * np.abs(means - means.mean(axis=0)).mean()


def test_bundled_classifier_distinguishes_drawn_classes(model: BeatModel) -> None:
    classifier = Classifier()
    fractions = {}
    for label in LABELS:
        windows = np.concatenate([model.draw(label, 5, seed).windows for seed in range(40)])
        abnormal = classifier.abnormal(classifier.probabilities(windows))
        fractions[label] = np.mean(abnormal >= classifier.info.threshold)
    assert fractions["abnormal"] > 0.8
    assert fractions["normal"] < 0.3


def test_no_beat_of_a_patient_is_stored(model: BeatModel, ecg_data: Path) -> None:
    beats = load_beats(ecg_data / "ptbdb")
    phases = np.linspace(0, PHASE_STOP, PHASES)
    for label in LABELS:
        rows = beats.where(label)
        scaled = np.array(
            [
                np.interp(phases, np.arange(length) / (length / beat.SPAN), window[:length])
                for window, length in zip(rows.windows, rows.lengths, strict=True)
            ]
        )
        own = model.classes[label]
        for stored in (own.mean, *own.components):
            shape = (stored - stored.min()) / np.ptp(stored)
            assert np.sqrt(((scaled - shape) ** 2).mean(axis=1)).min() > 0.02


def test_refitted_model_is_the_same(ecg_data: Path, tmp_path: Path, model: BeatModel) -> None:
    fitted = fit_model(load_beats(ecg_data / "ptbdb"))
    fitted.save(tmp_path / "model.npz")
    again = BeatModel.load(tmp_path / "model.npz")
    for label in LABELS:
        assert np.allclose(again.classes[label].mean, model.classes[label].mean, atol=1e-3)


@pytest.mark.parametrize("content", [None, b"", b"no archive"])
def test_file_without_a_model_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "model.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match="is not a model of beats"):
        BeatModel.load(path)


def test_too_few_beats_are_refused(model: BeatModel) -> None:
    with pytest.raises(ValueError, match="Too few beats to fit a model: got 5"):
        fit_model(model.draw("normal", 5, seed=0))
