from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from training import compare, data, models
from training.__main__ import main
from training.cost import Cost, measure
from training.evaluate import evaluate
from training.run import Recipe, load_run

torch.set_num_threads(1)
Write = Callable[..., Path]
NETS = ["compact", "transformer"]


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[compare.Settings, compare.Task]:
    """A comparison of two networks on toy beats."""
    from tests.training.conftest import write_toy

    folder = tmp_path_factory.mktemp("toy")
    write_toy(folder, patients=8, beats=30)
    out = tmp_path_factory.mktemp("compared")
    settings = compare.Settings([str(folder)], str(out), NETS, 2, 6, 0, "cpu", 1, "python -m training compare")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare, "KINDS", ("noise",))
        (task,) = compare.compare(settings)
    return settings, task


def test_every_beat_is_judged_once_by_a_network_that_has_not_seen_its_patient(
    compared: tuple[compare.Settings, compare.Task],
) -> None:
    _, task = compared
    judged = [one for one in task.judged if one.split == "patient"]
    assert [one.recipe.title for one in judged] == ["compact", "transformer", "compact, taught"]
    for one in judged:
        assert sorted(one.rows.tolist()) == list(range(len(task.beats)))
        for patient in set(task.beats.patients.tolist()):
            assert len(set(one.fold[task.beats.patients[one.rows] == patient].tolist())) == 1


def test_both_splits_have_figures_intervals_and_costs(
    compared: tuple[compare.Settings, compare.Task],
) -> None:
    _, task = compared
    for net in ("compact", "transformer", "compact, taught"):
        lines = {line.split: line for line in task.lines if line.network == net}
        assert set(lines) == {"patient", "beat"}
        low, high = lines["patient"].intervals["roc_auc"]
        assert low <= lines["patient"].figures["roc_auc"] <= high
        assert task.costs[net].us_per_beat > 0
    assert [one.recipe.title for one in task.ablation] == ["compact, beats not varied", "compact, without noise"]


def test_threshold_of_a_fold_does_not_depend_on_its_own_labels(
    compared: tuple[compare.Settings, compare.Task],
) -> None:
    settings, task = compared
    recipe = compare.candidates(settings, task.beats)[0]
    before = compare._gather(settings, task.beats, "ptb", "patient", recipe)
    labels = task.beats.labels.copy()
    own = before.rows[before.fold == 0]
    labels[own] = 1 - labels[own]
    after = compare._gather(settings, replace(task.beats, labels=labels), "ptb", "patient", recipe)
    assert (after.thresholds[after.fold == 0] == before.thresholds[before.fold == 0]).all()
    assert (after.thresholds[after.fold == 1] != before.thresholds[before.fold == 1]).all()


def test_finished_comparison_is_not_trained_again(
    compared: tuple[compare.Settings, compare.Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, task = compared
    monkeypatch.setattr(compare, "KINDS", ("noise",))
    left = [path for name in ("weights.pt", "history.csv") for path in Path(settings.out).glob(f"*/*/*/*/{name}")]
    written = {path: path.stat().st_mtime_ns for path in left}
    assert len(written) == 2 * (3 * (2 + 1) + 2 * 2 + 1 + len(task.chosen.teachers))  # folds, ablation, all beats
    (again,) = compare.compare(settings)
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert [line.figures["roc_auc"] for line in again.lines] == [line.figures["roc_auc"] for line in task.lines]


def test_folder_of_another_comparison_is_refused(compared: tuple[compare.Settings, compare.Task]) -> None:
    settings, _ = compared
    for other in (replace(settings, epochs=7), replace(settings, seed=1)):
        with pytest.raises(ValueError, match=r"got a comparison of .*choose another --out"):
            compare.compare(other)


def test_chosen_network_that_has_no_test_part_cannot_be_evaluated_on_it(
    compared: tuple[compare.Settings, compare.Task],
) -> None:
    settings, _ = compared
    with pytest.raises(ValueError, match="trained on all its beats"):
        evaluate(Path(settings.out) / "ptb" / "final")


def test_chosen_network_is_trained_on_all_beats_and_written_as_a_run(
    compared: tuple[compare.Settings, compare.Task],
) -> None:
    settings, task = compared
    run, network = load_run(Path(settings.out) / "ptb" / "final")
    assert run.recipe == task.chosen
    assert set(run.figures) == {"inter-patient, 2 folds", "intra-patient"}
    assert "out-of-fold" in run.threshold_from
    p = models.probabilities(network, task.beats.windows, task.beats.rr)[:, 1]
    assert np.mean((p >= run.threshold) == (task.beats.labels > 0)) > 0.9


def test_rule_requires_speed_first() -> None:
    recipes = [Recipe("cnn"), Recipe("compact"), Recipe("transformer")]
    costs = {
        "cnn": Cost(1, 1, 80.0),
        "compact": Cost(1, 1, 9.0),
        "transformer": Cost(1, 1, 10.1),
    }
    no_text = np.zeros(0, np.str_)
    no_window, no_rr = np.zeros((0, 187), np.float32), np.zeros((0, 3), np.float32)
    no_label, about = np.zeros(0, np.int64), pd.DataFrame()
    beats = data.Beats(no_window, no_label, data.BINARY, no_text, np.array(["x"]), no_text, no_text, no_rr, about)
    lines = [
        compare.Line(net, "patient", "x", {"roc_auc": auc}, {})
        for net, auc in (("cnn", 0.99), ("compact", 0.8), ("transformer", 0.9))
    ]
    assert compare._choose(recipes, costs, lines, beats).net == "compact"
    del costs["cnn"]
    assert compare._choose(recipes[1:], costs, lines, beats).net == "transformer"


def test_beats_are_grouped_by_rate_quality_and_diagnosis(write_beats: Write) -> None:
    beats = data.load_beats([write_beats(patients=4, beats=30)])
    about = beats.about.assign(diagnosis=["" if label == 0 else "MI" for label in beats.labels], age=50.0)
    groups = compare.groups_of(replace(beats, about=about))
    assert set(groups["heart rate"][1]) == {"60 to 100 bpm"}  # 120 samples are 1.2 x 0.8 s
    assert groups["diagnosis"][0] == ["MI"]
    assert set(groups["age"][1]) == {"40 to 59"}
    assert sorted(np.unique(groups["signal quality"][1], return_counts=True)[1].tolist()) == [80, 80, 80]
    smooth = replace(beats, windows=np.where(np.arange(240)[:, None] < 80, 0.5, beats.windows).astype(np.float32))
    assert set(compare.groups_of(smooth)["signal quality"][1][:80]) == {"cleanest third"}


def test_larger_network_costs_more() -> None:
    costs = measure({net: models.NETWORKS[net](2, False).eval() for net in ("cnn", "compact")})
    assert costs["cnn"].us_per_beat > costs["compact"].us_per_beat
    assert costs["cnn"].file_bytes > costs["compact"].file_bytes > 4 * costs["compact"].parameters


def test_command_writes_the_three_reports(
    compared: tuple[compare.Settings, compare.Task], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, task = compared
    monkeypatch.setattr(compare, "compare", lambda _: [task])
    assert main(["compare", "--data", *settings.data, "--out", settings.out, "--nets", *NETS]) == 0
    out = Path(settings.out)
    assert capsys.readouterr().out.count("Wrote") >= 3
    assert json.loads((out / "comparison.json").read_text())["tasks"]["ptb"]["chosen"] == task.chosen.title
    assert "inter-patient" in (out / "comparison.md").read_text().lower()
    assert (out / "report.html").read_text().startswith("<!doctype html>")
    assert "compact" in (out / "ptb" / "final" / "figures.md").read_text()
