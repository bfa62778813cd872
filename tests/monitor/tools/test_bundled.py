"""The list of the bundled models, and their cards."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from monitor import classify
from monitor.__main__ import main
from monitor.classify import MODELS, bundled_models
from monitor.panel import read_info
from monitor.tools import bundled
from tests.monitor.tiny_model import tiny_info, write_tiny


def test_every_bundled_model_has_one_line_and_the_default_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    heading, *lines, empty, last = capsys.readouterr().out.splitlines()
    assert heading.split()[0] == "name"
    assert [line.split()[0] for line in lines] == bundled_models()
    [default] = [line for line in lines if "(default)" in line]
    for name, line in zip(bundled_models(), lines, strict=True):
        info, content = read_info(name), (MODELS / f"{name}.onnx").read_bytes()
        checksum = hashlib.sha256(content).hexdigest()
        for words in (info.network, info.precision, ", ".join(info.classes), f"{info.threshold:.3f}"):
            assert words in line
        assert f"{len(content) / 1000:.0f} kB" in line
        assert checksum[:12] in line
        assert checksum[:13] not in line
    assert default.startswith("nsv (default)")
    assert "beats, context" in default
    assert any("ROC-AUC 0." in line for line in lines)
    assert not empty
    assert "Not a medical device" in last
    assert "ecgwatch models NAME" in last


def test_a_model_with_context_is_listed_with_both_inputs_and_its_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = {
        "val, a: macro F1": 0.9,
        "test, a: macro F1": 0.512,
        "test, a: sensitivity to V": 0.25,
        "test, b: x": 1.0,
    }
    monkeypatch.setattr(classify, "MODELS", tmp_path)
    write_tiny(tmp_path / "tiny.onnx", tiny_info(figures=figures, precision="int8"))
    assert main(["models"]) == 0
    line = capsys.readouterr().out.splitlines()[1]
    for words in ("tiny  ", "int8", "N, S, V, F, Q", "beats, rr", "test, a: macro F1 0.512, sensitivity to V 0.25"):
        assert words in line
    assert "(default)" not in line
    assert "x 1" not in line


def test_figures_that_do_not_fit_are_left_out() -> None:
    assert bundled.headline({}) == ""
    assert bundled.headline({"beat AUC": 0.5, "F1": 0.25}) == "beat AUC 0.5, F1 0.25"
    assert bundled.headline({"test, x: " + "long " * 9: 0.5, "test, x: too long": 0.5}).count("0.5") == 1
    assert bundled.headline({"test, x: " + "long " * 20: 0.5}) == ""


@pytest.mark.parametrize("name", bundled_models())
def test_the_card_of_every_bundled_model_is_printed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", name]) == 0
    assert capsys.readouterr().out == (MODELS / f"{name}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("arguments", [["none"], ["none", "--json"], ["../models/ptb"]])
def test_a_model_that_is_not_bundled_is_named_with_those_that_are(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", *arguments]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert repr(arguments[0]) in said
    assert ", ".join(bundled_models()) in said


def test_as_json_every_model_says_all_it_knows_of_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [model["name"] for model in told] == bundled_models()
    assert [model["name"] for model in told if model["default"]] == ["nsv"]
    for model in told:
        info, content = read_info(model["name"]), (MODELS / f"{model['name']}.onnx").read_bytes()
        assert model["sha256"] == hashlib.sha256(content).hexdigest()
        assert model["size_bytes"] == len(content)
        for field in info.__struct_fields__:
            assert model[field] == getattr(info, field)
    assert main(["models", "ptb", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == next(model for model in told if model["name"] == "ptb")
