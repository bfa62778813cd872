"""Loading and running a model file. What the file must hold is tested where it is written, with the export."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from monitor.beat import CONTRACT, LENGTH
from monitor.classify import MAX_BATCH, Classifier, ModelMismatch, bundled_models, choose_provider, find_model


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier()


def test_the_default_model_is_bundled_and_says_what_it_is(classifier: Classifier) -> None:
    assert "ptb" in bundled_models()
    assert classifier.info.name == "ptb"
    assert classifier.info.contract == CONTRACT
    assert classifier.info.classes == ["normal", "abnormal"]


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
