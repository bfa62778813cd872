from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from export.__main__ import main
from tests.training.conftest import write_toy
from tests.training.test_wearers import make_source
from training import shapes


def test_model_file_is_evaluated_on_beats_it_was_not_trained_on(
    write_run: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(tmp_path / "m.onnx")
    assert main(["onnx", str(write_run("compact")), "--out", model]) == 0
    (tmp_path / "new").mkdir()
    write_toy(tmp_path / "new", patients=2, beats=3)
    capsys.readouterr()
    assert main(["evaluate", model, "--data", str(tmp_path / "new"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["figures"]["toy"]["beats"] == 12
    assert 0 <= report["figures"]["toy"]["roc_auc"] <= 1
    assert main(["evaluate", model, "--data", str(tmp_path / "new")]) == 0
    assert "roc auc" in capsys.readouterr().out


def test_beats_of_other_classes_than_the_model_are_refused(
    write_run: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(tmp_path / "m.onnx")
    assert main(["onnx", str(write_run("compact", five=True)), "--out", model]) == 0
    (tmp_path / "new").mkdir()
    write_toy(tmp_path / "new", patients=2, beats=3)
    assert main(["evaluate", model, "--data", str(tmp_path / "new")]) == 2
    assert "got toy (normal abnormal), expected N S V F Q" in capsys.readouterr().err


def test_recordings_upside_down_are_evaluated_beside_the_upright_ones(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = replace(make_source(), symbols=("N",) * 60)
    monkeypatch.setitem(shapes.WHOLE, "mitdb", lambda _: iter([made]))
    assert main(["evaluate", "ptb", "--recordings", "somewhere/mitdb", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)["figures"]
    assert {"mitdb recordings", "mitdb recordings, inverted"} <= set(figures)
    assert 0 <= figures["mitdb recordings"]["specificity"] <= 1
    assert "roc_auc" not in figures["mitdb recordings"]
    assert main(["evaluate", "mitbih", "--recordings", "somewhere/mitdb"]) == 2
    assert "Recordings tell normal abnormal: got a model of N S V F Q" in capsys.readouterr().err


def test_nothing_to_evaluate_on_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "ptb"]) == 2
    assert "got neither --data nor --recordings" in capsys.readouterr().err
