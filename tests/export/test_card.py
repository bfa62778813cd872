from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from export.__main__ import main
from monitor.classify import DEFAULT_MODEL, MODELS, Classifier


def test_card_shows_both_kinds_of_split_side_by_side_with_their_commands(
    write_run: Callable[..., Path], tmp_path: Path
) -> None:
    apart, mixed = write_run(auc=0.875), write_run(split="beat", auc=0.99)
    assert main(["onnx", str(apart), "--out", str(tmp_path / "m.onnx"), "--beside", str(mixed)]) == 0
    card = (tmp_path / "m.md").read_text()
    lines = [line for line in card.splitlines() if line.startswith("| ptbdb | cnn")]
    assert [("patients apart" in line, "beats at random" in line) for line in lines] == [
        (True, False),
        (False, True),
    ] * 2
    assert "0.875" in lines[0]
    assert "0.990" in lines[1]
    assert "python -m training fit --net cnn --split patient\npython -m training fit --net cnn --split beat\n" in card
    assert hashlib.sha256((tmp_path / "m.onnx").read_bytes()).hexdigest() in card
    for sentence in ("not a medical device", "ODC-By 1.0", "a note of the run", "0.4375"):
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
