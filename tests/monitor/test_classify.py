"""Loading and running a model file. What the file must hold is tested where it is written, with the export."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from monitor.beat import CONTRACT, LENGTH, RR_CONTEXT
from monitor.classify import (
    MAX_BATCH,
    RR_INPUT,
    Classifier,
    ModelMismatch,
    bundled_models,
    choose_provider,
    find_model,
)
from monitor.panel import read_info
from tests.monitor.tiny_model import AAMI, tiny_info, write_tiny


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier()


def test_the_default_model_is_bundled_and_says_what_it_is(classifier: Classifier) -> None:
    assert "ptb" in bundled_models()
    assert classifier.info.name == "ptb"
    assert classifier.info.contract == CONTRACT
    assert classifier.info.classes == ["normal", "abnormal"]


def test_a_model_file_that_says_nothing_of_context_or_precision_has_none_and_is_fp32(classifier: Classifier) -> None:
    assert classifier.info.context == []
    assert classifier.info.precision == "fp32"
    assert not classifier.needs_rr


@pytest.mark.parametrize("n", [0, 1, 2, MAX_BATCH, MAX_BATCH + 3])
def test_any_number_of_beats_gives_as_many_rows_of_probabilities(classifier: Classifier, n: int) -> None:
    windows = np.random.default_rng(0).random((n, LENGTH), np.float32)
    probabilities = classifier.probabilities(windows)
    assert probabilities.shape == (n, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert classifier.abnormal(probabilities).shape == (n,)


def test_the_company_a_beat_keeps_in_a_batch_does_not_matter(classifier: Classifier) -> None:
    windows = np.random.default_rng(0).random((9, LENGTH), np.float32)
    together = classifier.probabilities(windows)
    alone = np.concatenate([classifier.probabilities(windows[i : i + 1]) for i in range(9)])
    np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.fixture(scope="module")
def with_rr(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return Classifier(write_tiny(tmp_path_factory.mktemp("models") / "tiny.onnx"))


def _early_and_late(n: int) -> tuple[np.ndarray, np.ndarray]:
    rr = np.ones((n, 3), np.float32)
    rr[::3, 0] = 0.5
    return np.zeros((n, LENGTH), np.float32), rr


@pytest.mark.parametrize("n", [0, 1, 2, MAX_BATCH, MAX_BATCH + 3])
def test_a_model_with_context_sees_the_rr_row_of_each_beat(with_rr: Classifier, n: int) -> None:
    assert with_rr.needs_rr
    windows, rr = _early_and_late(n)
    probabilities = with_rr.probabilities(windows, rr)
    assert probabilities.shape == (n, 5)
    assert [AAMI[i] for i in probabilities.argmax(axis=1)] == ["N" if i % 3 else "V" for i in range(n)]


def test_a_beat_is_as_abnormal_as_it_is_unlikely_to_be_of_the_first_class(with_rr: Classifier) -> None:
    rows = np.array([[0.75, 0.0625, 0.0625, 0.0625, 0.0625], [0.0, 0.25, 0.25, 0.25, 0.25]], np.float32)
    assert with_rr.abnormal(rows).tolist() == [0.25, 1.0]


@pytest.mark.parametrize(
    ("threshold", "row", "label"),
    [
        (0.5, [0.75, 0.0, 0.25, 0.0, 0.0], "N"),
        (0.5, [0.375, 0.125, 0.0625, 0.0625, 0.375], "Q"),
        (0.25, [0.75, 0.0625, 0.125, 0.0625, 0.0], "V"),  # abnormal, though most probably N
        (0.75, [0.375, 0.0, 0.0, 0.625, 0.0], "N"),  # normal, though most probably F
        (0.0, [1.0, 0.0, 0.0, 0.0, 0.0], "S"),
        (1.0, [0.0, 0.0, 1.0, 0.0, 0.0], "V"),
    ],
)
def test_a_label_goes_with_the_verdict(threshold: float, row: list[float], label: str, tmp_path: Path) -> None:
    classifier = Classifier(write_tiny(tmp_path / "tiny.onnx", tiny_info(threshold=threshold)))
    assert classifier.labels(np.array([row, row], np.float32)) == [label, label]
    assert classifier.labels(np.empty((0, 5), np.float32)) == []


def test_a_verdict_is_what_the_two_published_numbers_say(tmp_path: Path) -> None:
    classifier = Classifier(write_tiny(tmp_path / "tiny.onnx", tiny_info(threshold=0.7)))
    rows = np.array([[0.3, 0.7, 0.0, 0.0, 0.0]], np.float32)
    [probability] = classifier.abnormal(rows).tolist()
    assert probability < 0.7  # as float32 it is the threshold
    assert classifier.labels(rows) == ["N"]


def test_a_model_with_context_is_not_run_without_it(with_rr: Classifier) -> None:
    windows, rr = _early_and_late(4)
    with pytest.raises(ValueError, match=r"'tiny' needs the RR context .*previous_rr_s.*: got none"):
        with_rr.probabilities(windows)
    with pytest.raises(ValueError, match="got 3 rows, expected 4"):
        with_rr.probabilities(windows, rr[:3])
    with pytest.raises(ValueError, match=r"shape \(n, 3\): got \(4, 2\)"):
        with_rr.probabilities(windows, rr[:, :2])


def test_a_model_without_context_does_not_look_at_it(classifier: Classifier) -> None:
    windows, rr = _early_and_late(4)
    assert classifier.probabilities(windows, rr).tolist() == classifier.probabilities(windows).tolist()


@pytest.mark.parametrize(
    ("fields", "inputs", "message"),
    [
        ({"context": ["previous_rr_s"]}, ["beats", "rr"], r"context must be \[\] or .*: got \['previous_rr_s'\]"),
        ({"context": list(reversed(RR_CONTEXT))}, ["beats", "rr"], "context must be"),
        ({}, ["beats"], r"expected one 'beats', .* and one 'rr', float32, any batch size x 3: got \[\('beats'"),
        ({"context": []}, ["beats", "rr"], r"context \[\]: expected one 'beats', [^']*: got .*'rr'"),
        ({}, ["rr"], r"expected one 'beats', .*: got \[\('rr'"),
        ({}, ["beats", "rr", "age"], "got .*'age'"),
        ({}, ["beats", "age"], "expected .*'rr'.*: got .*'age'"),
        ({"context": [], "classes": ["normal"]}, ["beats"], r"classes must be two or more.*: got \['normal'\]"),
        ({"classes": ["N", "S", "V", "V"]}, None, "classes must be two or more, all different"),
        ({"precision": "fp64"}, None, "precision"),
    ],
)
def test_a_description_that_contradicts_itself_or_the_inputs_is_refused(
    fields: dict[str, object], inputs: list[str] | None, message: str, tmp_path: Path
) -> None:
    path = write_tiny(tmp_path / "model.onnx", tiny_info(**fields), inputs)
    for load in (Classifier, read_info):
        with pytest.raises(ModelMismatch, match=rf"model\.onnx.*{message}"):
            load(path)


def test_inputs_may_stand_in_any_order(tmp_path: Path) -> None:
    write_tiny(tmp_path / "model.onnx", inputs=[RR_INPUT, "beats"])
    windows, rr = _early_and_late(2)
    assert Classifier(tmp_path / "model.onnx").probabilities(windows, rr).argmax(axis=1).tolist() == [2, 0]


def test_what_a_model_says_of_itself_can_be_read_without_making_it_ready(with_rr: Classifier) -> None:
    assert read_info("ptb") == Classifier("ptb").info
    with pytest.raises(FileNotFoundError, match="'none'"):
        read_info("none")


def test_a_model_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(FileNotFoundError, match=r"'none'.*ptb"):
        find_model("none")


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x07"])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelMismatch, match=r"model\.onnx"):
        Classifier(path)


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers() and os.path.exists("/dev/nvidiactl"),
    reason="this machine has CUDA",
)
def test_cuda_without_a_gpu_is_an_error_and_auto_falls_back() -> None:
    with pytest.raises(ValueError, match=r"No CUDA here: .*--provider cpu"):
        Classifier(provider="cuda")
    assert choose_provider("auto") == "cpu"
    assert Classifier(provider="auto").provider == "cpu"
