from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from export.__main__ import main
from monitor.classify import DEFAULT_MODEL, MODELS, Classifier


def test_card_shows_figures_file_and_warnings(write_run: Callable[..., Path], tmp_path: Path) -> None:
    out = tmp_path / "m.onnx"
    assert main(["onnx", str(write_run()), "--out", str(out), "--name", "mine"]) == 0
    card = (tmp_path / "m.md").read_text()
    assert "| ptbdb | 40 | 7 | 0.875 |" in card
    assert hashlib.sha256(out.read_bytes()).hexdigest() in card
    for sentence in ("not a medical device", "ODC-By 1.0", "a note of the run", "0.4375", "python -m training fit"):
        assert sentence in card


def test_card_takes_in_what_a_comparison_left(write_run: Callable[..., Path], tmp_path: Path) -> None:
    folder = write_run("compact", five=True)
    (folder / "figures.md").write_text("the figures of a comparison\n")
    assert main(["onnx", str(folder), "--out", str(tmp_path / "m.onnx"), "--name", "mitbih"]) == 0
    card = (tmp_path / "m.md").read_text()
    assert "the figures of a comparison" in card
    for sentence in ("ANSI/AAMI EC57", "previous_rr_s, next_rr_s, median_rr_s", "N, S, V, F, Q"):
        assert sentence in card


@pytest.fixture(scope="module")
def bundled() -> Classifier:
    return Classifier(DEFAULT_MODEL)


def test_bundled_model_is_small_and_knows_a_flat_window_without_failing(bundled: Classifier) -> None:
    assert (MODELS / f"{DEFAULT_MODEL}.onnx").stat().st_size <= 1_000_000
    assert bundled.info.name == DEFAULT_MODEL
    assert bundled.info.classes == ["normal", "abnormal"]


def test_card_of_the_bundled_model_matches_its_file(bundled: Classifier) -> None:
    card = (MODELS / f"{DEFAULT_MODEL}.md").read_text()
    assert bundled.sha256 in card
    assert repr(bundled.info.threshold) in card
    for what in bundled.info.trained_on.values():
        assert what.rsplit("sha256:", 1)[1] in card
    tables = [line for line in card.splitlines() if line.startswith("| ")]
    for name, figure in bundled.info.figures.items():
        data, split = name.split(", ")[1], name.split(", ")[2].split(":")[0]
        rows = [line for line in tables if line.startswith(f"| {data} | {bundled.info.network} | {split} ")]
        assert any(f"{figure:.3f}" in row for row in rows), name


def test_bundled_model_was_judged_with_patients_apart_and_with_beats_at_random(bundled: Classifier) -> None:
    card = (MODELS / f"{DEFAULT_MODEL}.md").read_text()
    assert "patients apart" in next(iter(bundled.info.figures))
    assert f"| {bundled.info.network} | beats at random |" in card
