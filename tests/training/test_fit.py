from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from training import data, models
from training.__main__ import NETS, main
from training.evaluate import evaluate
from training.fit import choose_device, fit
from training.run import Run, Settings, load_run

torch.set_num_threads(1)


def settings_of(folder: Path, net: str = "cnn", epochs: int = 2, split: data.SplitKind = "patient") -> Settings:
    return Settings(net, [str(folder)], split, seed=0, epochs=epochs, patience=10, augment=True, device="cpu")


def fitted(folder: Path, out: Path, net: str = "cnn", epochs: int = 2) -> Run:
    return fit(settings_of(folder, net, epochs), out, "python -m training fit")


def val_aucs(run: Path) -> list[float]:
    return [float(line.split(",")[2]) for line in (run / "history.csv").read_text().splitlines()[1:]]


@pytest.mark.parametrize(("net", "parameters"), [("cnn", 184_193), ("cnn-lstm", 101_825)])
def test_network_turns_windows_into_one_logit_each(net: str, parameters: int) -> None:
    network = models.NETWORKS[net]().eval()
    assert models.count_parameters(network) == parameters
    for n in (1, 5):
        assert network(torch.zeros(n, 187)).shape == (n, 1)


def test_command_line_offers_every_network() -> None:
    assert set(NETS) == set(models.NETWORKS)


def test_probabilities_do_not_depend_on_the_batch() -> None:
    torch.manual_seed(0)
    network, windows = models.Cnn(), torch.rand(7, 187)
    whole = models.probabilities(network, windows)
    torch.testing.assert_close(models.probabilities(network, windows, batch=2), whole, atol=1e-6, rtol=0)
    assert whole.shape == (7,)


@pytest.mark.parametrize("net", NETS)
def test_separable_toy_is_learned(write_beats: Callable[..., Path], tmp_path: Path, net: str) -> None:
    run = fitted(write_beats(patients=8, beats=20), tmp_path / "run", net, epochs=8)
    assert run.figures["test"]["toy"]["auc"] > 0.95
    assert run.figures["test"]["toy"]["patients"] == 2
    assert 0 <= run.threshold <= 1


def test_fit_is_deterministic(write_beats: Callable[..., Path], tmp_path: Path) -> None:
    folder = write_beats()
    runs = [fitted(folder, tmp_path / name) for name in ("a", "b")]
    assert runs[0].figures == runs[1].figures
    first, second = (torch.load(tmp_path / name / "weights.pt", weights_only=True) for name in ("a", "b"))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_training_sees_the_training_part_only(
    write_beats: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_beats()
    beats = data.load_beats([folder])
    train = data.split_beats(beats, "patient", 0) == "train"
    seen = []

    def spy(labels: data.Labels, datasets: data.Strings, rng: np.random.Generator) -> np.ndarray:
        seen.append(labels.copy())
        return np.arange(len(labels))

    monkeypatch.setattr(data, "balance", spy)
    fitted(folder, tmp_path / "run", epochs=1)
    assert [labels.tolist() for labels in seen] == [beats.labels[train].tolist()]


def test_early_stopping_keeps_the_best_epoch(write_beats: Callable[..., Path], tmp_path: Path) -> None:
    settings = replace(settings_of(write_beats(), epochs=30), patience=2, augment=False)
    run = fit(settings, tmp_path / "run", "")
    aucs = val_aucs(tmp_path / "run")
    assert len(aucs) == run.epochs
    assert aucs.index(max(aucs)) + 1 == run.best_epoch
    assert run.epochs == min(30, run.best_epoch + 2)


def test_run_is_read_as_it_was_written(write_beats: Callable[..., Path], tmp_path: Path) -> None:
    run = fitted(write_beats(), tmp_path / "run", epochs=1)
    read, network = load_run(tmp_path / "run")
    assert read == run
    assert not network.training


def test_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got no finished run"):
        load_run(tmp_path)


def test_stopped_fit_leaves_no_run_behind(
    write_beats: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_beats()
    fitted(folder, tmp_path / "run", epochs=1)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(data, "balance", stop)
    assert main(["fit", "--data", str(folder), "--out", str(tmp_path / "run")]) == 130
    with pytest.raises(ValueError, match="got no finished run"):
        load_run(tmp_path / "run")


def test_beat_split_is_announced_loudly(write_beats: Callable[..., Path], tmp_path: Path) -> None:
    run = fitted(write_beats(side=False), tmp_path / "run", epochs=1)
    assert run.split_kinds == {"toy": "beat"}
    assert "BEATS SPLIT AT RANDOM" in run.notes[0]
    assert "do not say who the patients are" in run.notes[0]


def test_cuda_that_is_not_there_is_refused_and_auto_says_that_it_falls_back(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(ValueError, match="got cuda"):
        choose_device("cuda")
    assert choose_device("auto").type == "cpu"
    assert "No CUDA here" in capsys.readouterr().err


def test_evaluate_repeats_the_figures_of_the_fit(write_beats: Callable[..., Path], tmp_path: Path) -> None:
    run = fitted(write_beats(), tmp_path / "run", epochs=1)
    again, figures = evaluate(tmp_path / "run")
    assert again == run
    for part, of_part in run.figures.items():
        assert figures[part]["toy"] == pytest.approx(of_part["toy"])


def test_evaluate_refuses_rows_that_have_changed(write_beats: Callable[..., Path], tmp_path: Path) -> None:
    fitted(write_beats(), tmp_path / "run", epochs=1)
    write_beats(seed=5)
    with pytest.raises(ValueError, match="have changed since it was fitted"):
        evaluate(tmp_path / "run")


def test_command_line_fits_and_evaluates(
    write_beats: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
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
