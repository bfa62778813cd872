from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from export.__main__ import main
from export.card import model_info
from monitor.classify import MODELS, SHAPE_MODEL, Classifier, bundled_models
from monitor.panel import DEFAULT_MODEL
from training.data import TASKS
from training.run import load_run


def test_card_shows_figures_file_and_warnings(write_run: Callable[..., Path], tmp_path: Path) -> None:
    out = tmp_path / "m.onnx"
    assert main(["onnx", str(write_run()), "--out", str(out), "--name", "mine"]) == 0
    card = (tmp_path / "m.md").read_text()
    assert "| ptbdb | 40 | 7 | 0.875 |" in card
    assert hashlib.sha256(out.read_bytes()).hexdigest() in card
    for sentence in ("not a medical device", "ODC-By 1.0", "a note of the run", "0.4375", "python -m training fit"):
        assert sentence in card


@pytest.mark.parametrize("split", ["patients apart, 5 folds", "inter-patient, 5 folds"])
def test_figures_of_a_run_keep_the_name_of_their_split(write_run: Callable[..., Path], split: str) -> None:
    run, _ = load_run(write_run())
    info = model_info("ptb", replace(run, figures={split: run.figures["test"]}))
    assert info.figures[f"{split}, ptbdb: ROC-AUC"] == 0.875


def test_card_includes_the_figures_of_a_comparison(write_run: Callable[..., Path], tmp_path: Path) -> None:
    folder = write_run("compact", five=True)
    (folder / "figures.md").write_text("the figures of a comparison\n")
    assert main(["onnx", str(folder), "--out", str(tmp_path / "m.onnx"), "--name", "mitbih"]) == 0
    card = (tmp_path / "m.md").read_text()
    assert "the figures of a comparison" in card
    for sentence in ("ANSI/AAMI EC57", "previous_rr_s, next_rr_s, median_rr_s", "N, S, V, F, Q"):
        assert sentence in card


SMALL = 300_000
"""Maximum size of a bundled model in bytes."""


@pytest.mark.parametrize(
    ("name", "classes", "needs_rr"),
    [("ptb", ["normal", "abnormal"], False), ("mitbih", ["N", "S", "V", "F", "Q"], True)],
)
def test_bundled_model_is_small_and_what_its_name_says(name: str, classes: list[str], needs_rr: bool) -> None:
    bundled = Classifier(name)
    assert (MODELS / f"{name}.onnx").stat().st_size <= SMALL
    assert bundled.info.name == name
    assert bundled.info.classes == classes
    assert bundled.needs_rr is needs_rr


@pytest.mark.parametrize("name", ["ptb", "mitbih"])
def test_card_of_a_bundled_model_matches_its_file_and_shows_both_kinds_of_split(name: str) -> None:
    bundled = Classifier(name)
    card = (MODELS / f"{name}.md").read_text()
    assert bundled.sha256 in card
    assert repr(bundled.info.threshold) in card
    for what in bundled.info.trained_on.values():
        assert what.rsplit("sha256:", 1)[1] in card
    inter, intra = re.split(r"(?:Beats at random|Intra-patient)\n", card, maxsplit=1)
    intra = intra.split("Cost, and the choice", 1)[0]
    # The models that are bundled were trained before the splits had their present names.
    parts = {"patients apart": inter, "inter-patient": inter, "beats at random": intra, "intra-patient": intra}
    assert bundled.info.figures
    for figure, value in bundled.info.figures.items():
        split, part = next((split, part) for split, part in parts.items() if figure.startswith(split))
        data = figure.removeprefix(f"{split}, ").removeprefix("5 folds, ").split(": ")[0]
        rows = [line for line in part.splitlines() if line.startswith(f"| {data} | {bundled.info.network} (chosen)")]
        assert len(rows) == 1, figure
        assert f"{value:.3f}" in rows[0], figure


def test_every_task_has_a_bundled_model() -> None:
    assert set(bundled_models()) == {*TASKS, DEFAULT_MODEL}
    assert SHAPE_MODEL in TASKS


def test_a_card_says_first_what_to_expect_of_new_people(write_run: Callable[..., Path], tmp_path: Path) -> None:
    folder = write_run()
    (folder / "further.md").write_text("On further people it was worse.\n")
    assert main(["onnx", str(folder), "--out", str(tmp_path / "m.onnx"), "--name", "mine"]) == 0
    expected, _, others = (tmp_path / "m.md").read_text().partition("## Figures\n")
    table = expected.split("## What to expect of people it has not met\n")[1]
    assert "| data | patients | ROC-AUC | calibration error | sensitivity | specificity |" in table
    assert "| ptbdb | 7 | 0.875 |" in table
    assert "On further people it was worse." in table
    assert "Intra-patient" in others


def test_the_card_of_the_shape_model_says_what_further_patients_gave() -> None:
    card = (MODELS / "ptb.md").read_text()
    expected = card.partition("## Figures\n")[0]
    for figure in ("0.899", "0.096"):
        assert figure in expected
