from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from export.card import model_info
from export.onnx import export_network
from training import classic, data, fit, models, split
from training.__main__ import CLASSIC_EPOCHS, CLASSIC_NETS, main
from training.classic_report import compare_classic
from training.evaluate import evaluate
from training.run import Recipe, Run, load_run

Write = Callable[..., Path]


def recipe(net: str = "cnn", epochs: int = 12) -> Recipe:
    return Recipe(net, augment=False, epochs=epochs, classic=True, shares="70/15/15")


def fitted(folder: Path, out: Path, of: Recipe) -> Run:
    return fit.fit(of, [str(folder)], "patient", out, "python -m training fit")


def test_command_line_knows_the_classic_networks_and_epochs() -> None:
    assert set(CLASSIC_NETS) == set(models.CLASSIC)
    assert classic.EPOCHS == CLASSIC_EPOCHS


@pytest.mark.parametrize("net", CLASSIC_NETS)
def test_separable_toy_is_learned(write_beats: Write, tmp_path: Path, net: str) -> None:
    run = fitted(write_beats(patients=8, beats=60), tmp_path / "run", recipe(net))
    assert run.figures["test"]["toy"]["accuracy"] > 0.9
    assert run.threshold == 0.5


def test_run_can_be_loaded_and_evaluated_again(write_beats: Write, tmp_path: Path) -> None:
    run = fitted(write_beats(patients=8), tmp_path / "run", recipe(epochs=2))
    again, figures = evaluate(tmp_path / "run")
    assert again.recipe == run.recipe == recipe(epochs=2)
    assert figures["test"]["toy"] == pytest.approx(run.figures["test"]["toy"], nan_ok=True)


@pytest.mark.parametrize("net", CLASSIC_NETS)
def test_one_sigmoid_gives_both_classes(net: str) -> None:
    network = models.CLASSIC[net](2, False).eval()
    windows = torch.rand(5, 187)
    logits = network(windows)
    assert not logits[:, 0].any()
    assert network.head[-1].out_features == 1
    np.testing.assert_allclose(logits.softmax(1)[:, 1].detach(), logits[:, 1].sigmoid().detach(), rtol=1e-5)


@pytest.mark.parametrize("kind", ["patient", "beat"])
def test_parts_hold_70_15_and_15_percent(write_beats: Write, kind: split.SplitKind) -> None:
    beats = data.load_beats([write_beats(patients=40, beats=5)])
    parts = split.split_beats(beats, kind, 0, "70/15/15")
    for part, share in (("train", 0.7), ("val", 0.15), ("test", 0.15)):
        for label in (0, 1):
            assert np.mean(parts[beats.labels == label] == part) == pytest.approx(share, abs=0.03)
    if kind == "patient":
        for patient in set(beats.patients.tolist()):
            assert len(set(parts[beats.patients == patient].tolist())) == 1


def test_classes_are_balanced_among_the_rows_given_and_no_others() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, 0, 1])
    rows = np.array([0, 1, 2, 3, 4, 5])
    drawn = classic.balance(labels, rows, np.random.default_rng(0))
    assert np.bincount(labels[drawn]).tolist() == [4, 4]
    assert set(drawn.tolist()) == set(rows.tolist())


def test_weights_are_those_of_the_best_epoch_and_training_ends_on_a_plateau(
    write_beats: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([0.9, 0.5, *[0.7] * 60])
    seen = []

    def validate(network: models.BeatNetwork, *_: object) -> tuple[float, float]:
        seen.append({name: value.clone() for name, value in network.state_dict().items()})
        return next(losses), 0.5

    monkeypatch.setattr(classic, "_validate", validate)
    beats = data.load_beats([write_beats()])
    rows = np.arange(len(beats))
    network = classic.train_classic(models.CLASSIC["cnn"](2, False), beats, rows, rows, 60, 0, lambda _: None)
    assert len(seen) == 2 + classic.STOP_EPOCHS
    assert all(torch.equal(value, seen[1][name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("words", [["--rr"], ["--resume"], ["--net", "compact"], ["--net", "transformer"]])
def test_what_the_recipe_does_not_have_is_refused(
    write_beats: Write, tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["fit", "--recipe", "classic", "--data", str(write_beats()), "--out", str(tmp_path / "run"), *words]
    assert main(given) == 2
    assert capsys.readouterr().err.count("\n") >= 1


def test_comparison_reports_both_splits_and_trains_no_run_twice(write_beats: Write, tmp_path: Path) -> None:
    folder, out = str(write_beats(patients=6)), tmp_path / "out"
    written = compare_classic([folder], out, "the command", epochs=2)
    first = [path.stat().st_mtime_ns for path in sorted(out.rglob("weights.pt"))]
    assert compare_classic([folder], out, "the command", epochs=2) == written
    assert [path.stat().st_mtime_ns for path in sorted(out.rglob("weights.pt"))] == first
    assert len(first) == 6
    runs = json.loads((out / "classic.json").read_text())["runs"]
    assert [one["network"] for one in runs] == 2 * ["cnn, classic", "cnn-lstm, classic", "compact"]
    for one in runs:
        counted = sum(sum(row) for row in one["confusion_matrix"])
        assert counted == one["figures"]["toy"]["beats"]
    assert (out / "classic.html").read_text().count("<svg") == 8


def test_network_of_the_recipe_is_exported(write_beats: Write, tmp_path: Path) -> None:
    fitted(write_beats(), tmp_path / "run", recipe("cnn-lstm", epochs=1))
    run, network = load_run(tmp_path / "run")
    proof = export_network(network, model_info("mine", run), tmp_path / "mine.onnx")
    assert proof is not None
