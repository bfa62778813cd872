"""Which models judge together, and of whom they speak."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from monitor import beat2
from monitor.class_model import ClassModel
from monitor.classify import Classifier, ModelMismatch, bundled_models
from monitor.panel import DEFAULT_MODEL, Panel, load_panel, read_info
from tests.monitor.tiny_model import tiny_info, write_tiny


def test_a_class_model_judges_with_a_shape_model_beside_it_unless_something_else_is_asked_for() -> None:
    panel = load_panel()
    assert panel.info.name == DEFAULT_MODEL == "nsv"
    assert panel.info.classes == ["N", "S", "V"]
    assert panel.class_model is panel.main
    assert panel.shape is not None
    assert panel.names() == {
        "model": "nsv",
        "model_sha256": panel.main.sha256,
        "shape_model": "ptb",
        "shape_model_sha256": Classifier("ptb").sha256,
    }


def test_a_class_model_may_judge_alone() -> None:
    panel = load_panel(shape="none")
    assert panel.shape is None
    assert panel.names()["shape_model"] is None
    assert not panel.speaks_of("II")


def test_a_model_of_single_windows_judges_alone_as_ever(tmp_path: Path) -> None:
    for model in ("ptb", "mitbih", write_tiny(tmp_path / "own.onnx")):
        panel = load_panel(model)
        assert panel.class_model is None
        assert panel.shape is None
        assert isinstance(panel.main, Classifier)


def test_a_shape_model_must_see_windows_alone() -> None:
    with pytest.raises(ModelMismatch, match="mitbih cannot be a shape model"):
        load_panel(shape="mitbih")
    with pytest.raises(FileNotFoundError, match="'nothing'"):
        load_panel(shape="nothing")


@pytest.mark.parametrize("lead", ["II", "ii", "Lead II", "ECG_II", "ecg lead: II"])
def test_the_shape_model_speaks_of_the_lead_it_was_trained_on_however_it_is_written(lead: str) -> None:
    assert load_panel().speaks_of(lead)


@pytest.mark.parametrize("lead", ["I", "III", "MLII", "V5", "chest", "", None])
def test_the_shape_model_is_quiet_about_other_leads_and_those_that_are_not_named(lead: str | None) -> None:
    assert not load_panel().speaks_of(lead)


def test_a_shape_model_that_names_no_leads_speaks_of_any(tmp_path: Path) -> None:
    info = tiny_info(context=[], classes=["normal", "abnormal"])
    own = Classifier(write_tiny(tmp_path / "own.onnx", info))
    assert Panel(ClassModel(), own).speaks_of("chest")


def test_what_any_bundled_model_says_of_itself_can_be_read() -> None:
    assert {name: read_info(name).contract for name in bundled_models()} == {
        "mitbih": "beat/1", "nsv": "beat/2", "ptb": "beat/1",
    }  # fmt: skip


def test_a_class_model_is_no_model_of_single_windows_and_the_other_way_round() -> None:
    with pytest.raises(ModelMismatch, match=r"nsv\.onnx is a class model, contract beat/2"):
        Classifier("nsv")
    with pytest.raises(ModelMismatch, match="contract must match the monitor: got 'beat/1', expected 'beat/2'"):
        ClassModel("ptb")


def test_the_company_a_beat_keeps_in_a_batch_does_not_matter_to_a_class_model() -> None:
    model, rng = ClassModel(), np.random.default_rng(0)
    windows = rng.normal(0, 0.5, (9, 2, beat2.LENGTH)).astype(np.float32)
    context = rng.normal(1, 0.2, (9, len(beat2.CONTEXT))).astype(np.float32)
    alone = [model.probabilities(windows[i : i + 1], context[i : i + 1]) for i in range(9)]
    np.testing.assert_allclose(model.probabilities(windows, context), np.concatenate(alone), atol=1e-5)
