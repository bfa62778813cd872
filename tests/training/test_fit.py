from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from training import data, fit, models
from training.__main__ import NETS, main
from training.evaluate import evaluate
from training.run import Recipe, Run, load_run
from training.split import split_beats

torch.set_num_threads(1)
Write = Callable[..., Path]


def fitted(folder: Path, out: Path, recipe: Recipe | None = None, **settings: Any) -> Run:
    recipe = recipe or Recipe("compact", epochs=2)
    return fit.fit(recipe, [str(folder)], "patient", out, "python -m training fit", **settings)


@pytest.mark.parametrize("net", NETS)
def test_separable_toy_is_learned(write_beats: Write, tmp_path: Path, net: str) -> None:
    run = fitted(write_beats(patients=8, beats=60), tmp_path / "run", Recipe(net, epochs=16))
    assert run.figures["test"]["toy"]["roc_auc"] > 0.95
    assert run.figures["test"]["toy"]["patients"] == 2
    assert 0 <= run.threshold <= 1


def test_fit_is_deterministic(write_beats: Write, tmp_path: Path) -> None:
    folder = write_beats()
    recipe = Recipe("compact", epochs=2)
    runs = [fitted(folder, tmp_path / name, recipe) for name in ("a", "b")]
    for part in ("val", "test"):
        assert runs[0].figures[part]["toy"] == pytest.approx(runs[1].figures[part]["toy"], abs=0, rel=0, nan_ok=True)
    assert same_weights(tmp_path / "a", tmp_path / "b")
    fitted(folder, tmp_path / "c", replace(recipe, seed=1))
    assert not same_weights(tmp_path / "a", tmp_path / "c")


def same_weights(a: Path, b: Path) -> bool:
    first, second = (torch.load(run / "weights.pt", weights_only=True) for run in (a, b))
    return all(torch.equal(first[key], second[key]) for key in first)


class _Stopped(Exception):
    pass


def test_network_learns_from_its_teachers(write_beats: Write, tmp_path: Path) -> None:
    folder = write_beats()
    fitted(folder, tmp_path / "teacher", Recipe("transformer", epochs=2))
    alone = fitted(folder, tmp_path / "alone")
    taught = fitted(folder, tmp_path / "taught", teachers=[tmp_path / "teacher"])
    assert (alone.recipe.title, taught.recipe.title) == ("compact", "compact, taught")
    assert load_run(tmp_path / "taught")[0].recipe.teachers == ("transformer",)
    assert not same_weights(tmp_path / "alone", tmp_path / "taught")


def test_teacher_that_was_trained_on_other_parts_is_refused(write_beats: Write, tmp_path: Path) -> None:
    folder = write_beats()
    fitted(folder, tmp_path / "teacher", Recipe("compact", epochs=2, seed=1))
    with pytest.raises(ValueError, match="got a teacher of other beats or another split"):
        fitted(folder, tmp_path / "taught", teachers=[tmp_path / "teacher"])


def test_resumed_fit_reaches_the_very_same_weights(
    write_beats: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_beats()
    recipe = Recipe("compact", epochs=4)
    fitted(folder, tmp_path / "whole", recipe)
    save, saved = fit._Checkpoint.save, []

    def save_then_stop(checkpoint: fit._Checkpoint, history: fit.History) -> None:
        save(checkpoint, history)
        saved.append(len(history))
        if len(saved) == 2:
            raise _Stopped

    monkeypatch.setattr(fit._Checkpoint, "save", save_then_stop)
    with pytest.raises(_Stopped):
        fitted(folder, tmp_path / "parts", recipe)
    monkeypatch.setattr(fit._Checkpoint, "save", save)
    epochs = []
    monkeypatch.setattr(fit._ProgressBar, "__call__", lambda _, row: epochs.append(row["epoch"]))
    fitted(folder, tmp_path / "parts", recipe, resume=True)
    assert epochs == [1, 2, 3, 4]
    assert same_weights(tmp_path / "whole", tmp_path / "parts")
    assert fit.read_history(tmp_path / "parts")[-1]["epoch"] == 4
    assert not (tmp_path / "parts" / fit.CHECKPOINT).exists()


def test_checkpoint_of_another_recipe_or_of_other_beats_is_refused(
    write_beats: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_beats()

    def stop(*_: object) -> None:
        raise _Stopped

    monkeypatch.setattr(fit, "_write_history", stop)
    with pytest.raises(_Stopped):
        fitted(folder, tmp_path / "run")
    with pytest.raises(ValueError, match="got a checkpoint of"):
        fitted(folder, tmp_path / "run", Recipe("compact", epochs=2, augment=False), resume=True)
    write_beats(seed=5)
    with pytest.raises(ValueError, match="got a checkpoint of"):
        fitted(folder, tmp_path / "run", resume=True)
    (tmp_path / "run" / fit.CHECKPOINT).write_bytes(b"x")
    with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
        fitted(folder, tmp_path / "run", resume=True)


def test_training_samples_the_training_part_only(
    write_beats: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_beats()
    beats = data.load_beats([folder])
    train = beats.windows[split_beats(beats, "patient", 0) == "train"]
    known = {window.tobytes() for window in train}
    forward = models.Compact.encode
    seen: list[bytes] = []

    def spy(network: models.Compact, windows: torch.Tensor) -> torch.Tensor:
        if network.training:
            seen.extend(window.tobytes() for window in windows.numpy())
        return forward(network, windows)

    monkeypatch.setattr(models.Compact, "encode", spy)
    fitted(folder, tmp_path / "run", Recipe("compact", epochs=3, augment=False))
    assert seen
    assert set(seen) <= known


def test_rare_class_and_small_data_set_are_oversampled() -> None:
    n = 110
    labels = np.array([0] * 90 + [1] * 10 + [0] * 10)
    beats = data.Beats(
        np.zeros((n, 187), np.float32),
        labels,
        data.BINARY,
        np.array(["a/p"] * 80 + ["a/q"] * 10 + ["a/r"] * 10 + ["b/s"] * 10),
        np.array(["a"] * 100 + ["b"] * 10),
        *(np.full(n, ""), np.full(n, "")),
        np.full((n, 3), np.nan, np.float32),
        data._nothing_about(n),
    )
    chances = fit.sampling_probabilities(beats, np.arange(n))
    assert chances.sum() == pytest.approx(1)
    of = {name: chances[beats.patients == name].sum() for name in ("a/p", "a/q", "a/r", "b/s")}
    assert of["a/r"] == pytest.approx(of["b/s"])
    assert (of["a/p"] + of["a/q"]) / of["a/r"] == pytest.approx(np.sqrt(90 / 10))
    assert of["a/p"] / of["a/q"] == pytest.approx(np.sqrt(80 / 10))


def test_network_with_rr_context_needs_data_that_have_it(write_beats: Write, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="RR context: got none in toy"):
        fitted(write_beats(), tmp_path / "run", Recipe("compact", rr=True, epochs=1))


def test_run_is_read_as_it_was_written(write_beats: Write, tmp_path: Path) -> None:
    run = fitted(write_beats(), tmp_path / "run")
    read, network = load_run(tmp_path / "run")
    assert read.recipe == run.recipe
    assert read.threshold == run.threshold
    assert not network.training


def test_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got no finished run"):
        load_run(tmp_path)


def test_interrupted_fit_leaves_no_run_behind(
    write_beats: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_beats()
    fitted(folder, tmp_path / "run")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fit, "sampling_probabilities", stop)
    assert main(["fit", "--data", str(folder), "--out", str(tmp_path / "run")]) == 130
    with pytest.raises(ValueError, match="got no finished run"):
        load_run(tmp_path / "run")


def test_intra_patient_split_is_announced_loudly(write_beats: Write, tmp_path: Path) -> None:
    run = fitted(write_beats(side=False), tmp_path / "run")
    assert run.split_kinds == {"toy": "beat"}
    assert "INTRA-PATIENT SPLIT" in run.notes[0]
    assert "do not identify the patients" in run.notes[0]


def test_unavailable_device_is_refused_and_auto_reports_its_fallback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        pytest.skip("this machine has CUDA or MPS")
    for device in ("cuda", "mps"):
        with pytest.raises(ValueError, match=f"got {device}"):
            fit.choose_device(device)
    assert fit.choose_device("auto").type == "cpu"
    assert "Neither CUDA nor MPS is available" in capsys.readouterr().err


def test_evaluate_reproduces_the_figures_of_the_fit(write_beats: Write, tmp_path: Path) -> None:
    run = fitted(write_beats(), tmp_path / "run")
    _, figures = evaluate(tmp_path / "run")
    for part, of_part in run.figures.items():
        assert figures[part]["toy"] == pytest.approx(of_part["toy"], nan_ok=True)


def test_evaluate_refuses_rows_that_have_changed(write_beats: Write, tmp_path: Path) -> None:
    fitted(write_beats(), tmp_path / "run")
    write_beats(seed=5)
    with pytest.raises(ValueError, match="have changed since training"):
        evaluate(tmp_path / "run")


def test_tensorboard_gets_every_epoch(write_beats: Write, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="pip install 'ecgwatch[tensorboard]'")
    fitted(write_beats(), tmp_path / "run", tensorboard=True)
    assert list((tmp_path / "run" / "tensorboard").glob("events.*"))


def test_command_line_fits_and_evaluates(
    write_beats: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "run")
    assert main(["fit", "--data", str(write_beats()), "--out", out, "--epochs", "1"]) == 0
    assert load_run(Path(out))[0].command.startswith("python -m training fit --data ")
    capsys.readouterr()
    assert main(["evaluate", out, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["split"] == {"toy": "patient"}
    assert set(report["figures"]) == {"val", "test"}
    assert main(["evaluate", out]) == 0
    assert "no patient of val or test is in train" in " ".join(capsys.readouterr().out.split())
