"""Model files from elsewhere: adopted so that they answer as they did, or refused in words that say why."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from monitor.__main__ import main
from monitor.beat import LENGTH
from monitor.classify import METADATA_KEY, Classifier, ModelMismatch
from monitor.onnx_file import list_external, set_metadata
from monitor.probe import probe_windows
from monitor.tools.adopt import AdoptSettings, adopt
from monitor.wiring import MAX_BATCH, find_form, to_probabilities
from tests.monitor.foreign_models import expected, write_foreign
from tests.monitor.tiny_model import tiny_info, write_tiny

CLASSES = ("normal", "abnormal")


def adopted(file: Path, classes: tuple[str, ...] = CLASSES, threshold: float = 0.5) -> Classifier:
    out = file.with_name("out.onnx")
    adopt(AdoptSettings(file, classes, threshold, out))
    return Classifier(out)


def answers_as_expected(classifier: Classifier, tolerance: float = 1e-5) -> None:
    windows = np.random.default_rng(1).random((2 * MAX_BATCH + 3, LENGTH), np.float32)
    for n in (0, 1, 2, 31, MAX_BATCH, len(windows)):
        got = classifier.probabilities(windows[:n])
        assert got.shape == (n, 2)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, expected(windows[:n]), atol=tolerance)


@pytest.mark.parametrize(
    ("head", "form"),
    [
        ("probabilities", "probabilities"), ("logits", "logits"), ("log-probabilities", "log-probabilities"),
        ("percent", "percent"), ("one sigmoid", "probabilities"), ("one logit", "logits"),
        ("one of no axis", "probabilities"),
    ],
)  # fmt: skip
def test_answers_of_any_form_become_probabilities(tmp_path: Path, head: str, form: str) -> None:
    classifier = adopted(write_foreign(tmp_path / "x.onnx", head))
    assert classifier.info.output == form
    answers_as_expected(classifier)


@pytest.mark.parametrize(
    "shape",
    [("n", LENGTH), (None, LENGTH), ("unk__12", LENGTH, 1), ("n", 1, LENGTH), ("n", 1, LENGTH, 1), ("n", None),
     (1, LENGTH), (1, LENGTH, 1), (1, 1, LENGTH), (7, LENGTH), (32, 1, LENGTH), (300, LENGTH)],
)  # fmt: skip
@pytest.mark.parametrize("head", ["probabilities", "one logit"])
def test_windows_and_batches_of_any_shape_are_fed(tmp_path: Path, shape: tuple[Any, ...], head: str) -> None:
    answers_as_expected(adopted(write_foreign(tmp_path / "x.onnx", head, shape=shape)))


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 5e-3), ("double", 1e-6)])
@pytest.mark.parametrize("head", ["probabilities", "logits", "one sigmoid", "percent", "log-probabilities"])
def test_other_kinds_of_floats_are_fed(tmp_path: Path, dtype: str, tolerance: float, head: str) -> None:
    classifier = adopted(write_foreign(tmp_path / "x.onnx", head, dtype=dtype))
    assert classifier.info.precision == ("fp16" if dtype == "float16" else "fp32")
    answers_as_expected(classifier, tolerance * (10 if head == "percent" else 1))


@pytest.mark.parametrize(
    ("classes", "file"),
    [
        (CLASSES, {"maps": [0, 1]}),
        (CLASSES, {"maps": [1, 2]}),
        (CLASSES, {"maps": ["normal", "abnormal"]}),
        (CLASSES, {"maps": [0, 1], "labels": "int64"}),
        (CLASSES, {"maps": ["normal", "abnormal"], "labels": ["normal", "abnormal"]}),
        (CLASSES, {"labels": "int64"}),
        (CLASSES, {"labels": ["normal", "abnormal"]}),
        (CLASSES, {"more": ["z"]}),
        (CLASSES, {"more": ["x"]}),
    ],
)
def test_answers_are_found_among_the_outputs(tmp_path: Path, classes: tuple[str, ...], file: dict[str, Any]) -> None:
    answers_as_expected(adopted(write_foreign(tmp_path / "x.onnx", **file), classes))


def test_maps_are_read_by_the_names_of_the_classes_in_any_order(tmp_path: Path) -> None:
    file = write_foreign(tmp_path / "x.onnx", maps=["b", "a"])
    windows = np.random.default_rng(1).random((5, LENGTH), np.float32)
    np.testing.assert_allclose(adopted(file, ("a", "b")).probabilities(windows), expected(windows)[:, ::-1], atol=1e-5)


def export_torch(network: torch.nn.Module, example: torch.Tensor, path: Path) -> None:
    """Export as PyTorch's older exporter does, which needs nothing but onnx and calls itself deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (example,), path, dynamo=False,
            input_names=["ecg"], output_names=["scores"], dynamic_axes={"ecg": {0: "n"}, "scores": {0: "n"}},
        )  # fmt: skip


def test_network_of_pytorch_is_adopted(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv1d(1, 4, 9), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.LazyLinear(2))
    windows = torch.from_numpy(np.random.default_rng(1).random((300, 1, LENGTH), np.float32))
    with torch.no_grad():
        wanted = network(windows).softmax(1).numpy()
    export_torch(network, windows[:2], tmp_path / "x.onnx")
    classifier = adopted(tmp_path / "x.onnx")
    np.testing.assert_allclose(classifier.probabilities(windows[:, 0].numpy()), wanted, atol=1e-5)
    assert classifier.info.network == "pytorch"


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("not a number", "must be finite: got NaN or infinity for 24 of 24 beats"),
        ("infinite", "must be finite"),
        ("softmax over the batch", "depends on the other beats of the batch.*softmax over the batch axis"),
        ("normalised over the batch", "depends on the other beats"),
        ("independent sigmoids", "neither probabilities nor anything that they follow from"),
        ("dropout", "answers differently to the same beats"),
    ],
)
def test_answers_that_make_no_sense_are_refused_and_nothing_is_written(tmp_path: Path, head: str, message: str) -> None:
    file = write_foreign(tmp_path / "x.onnx", head)
    with pytest.raises(ModelMismatch, match=rf"x\.onnx: .*{message}"):
        adopted(file)
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("file", "classes", "message"),
    [
        ({"shape": ("n", 180)}, CLASSES, "expected one 'beats'"),
        ({"shape": ("n", LENGTH, 2)}, CLASSES, "expected one 'beats'"),
        ({"shape": (LENGTH,)}, CLASSES, "expected one 'beats'"),
        ({"shape": ("n", None, None)}, CLASSES, r"shapes \(187, 1\), \(1, 187\), expected one"),
        ({}, ("a", "b", "c"), "expected one 'probabilities', float32, any batch size x 3"),
        ({"head": "logits", "more": ["z"]}, CLASSES, "outputs for the classes normal, abnormal"),
        ({"maps": ["a", "b"]}, CLASSES, "named a, b: got --classes normal,abnormal"),
        ({"maps": [0, 1]}, ("a", "b", "c"), "tells 2 classes apart: got the names of 3"),
        ({"labels": ["abnormal", "normal"]}, CLASSES, "in the order of its columns"),
    ],
)
def test_what_leaves_a_doubt_is_refused(
    tmp_path: Path, file: dict[str, Any], classes: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ModelMismatch, match=message):
        adopted(write_foreign(tmp_path / "x.onnx", **file), classes)


def test_network_that_fails_on_batches_is_refused_in_one_line(tmp_path: Path) -> None:
    class OfOneBeat(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.reshape(1, LENGTH)[:, :2].softmax(1)

    export_torch(OfOneBeat(), torch.zeros(1, LENGTH), tmp_path / "x.onnx")
    with pytest.raises(ModelMismatch, match=r"x\.onnx: cannot judge a batch of 24 beats: .*") as caught:
        adopted(tmp_path / "x.onnx")
    assert "\n" not in str(caught.value)


# Weights in a second file.


def test_weights_in_a_second_file_are_found_from_anywhere_and_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_foreign(tmp_path / "x.onnx", external=True)
    assert list_external(file.read_bytes()) == ["x.onnx.data"]
    (tmp_path / "models").mkdir()
    adopt(AdoptSettings(file, CLASSES, 0.5, tmp_path / "models" / "mine.onnx"))
    file.unlink()
    (tmp_path / "x.onnx.data").unlink()
    for folder, path in ((tmp_path, "models/mine.onnx"), (tmp_path / "models", "mine.onnx")):
        monkeypatch.chdir(folder)
        answers_as_expected(Classifier(path))


def test_checksum_covers_the_weights_in_the_second_file(tmp_path: Path) -> None:
    classifier = adopted(write_foreign(tmp_path / "x.onnx", external=True))
    parts = [(tmp_path / name).read_bytes() for name in ("out.onnx", "x.onnx.data")]
    assert classifier.sha256 == hashlib.sha256(b"".join(parts)).hexdigest()


def test_second_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    file = write_foreign(tmp_path / "x.onnx", external=True)
    (tmp_path / "x.onnx.data").unlink()
    with pytest.raises(ModelMismatch, match=r"x\.onnx\.data, which is not beside it.*one file"):
        adopted(file)


# Metadata.


def test_metadata_are_replaced_and_all_else_stays(tmp_path: Path) -> None:
    file = write_tiny(tmp_path / "x.onnx", tiny_info(context=[], classes=list(CLASSES)))
    before = Classifier(file)
    after = adopted(file, threshold=0.25)
    assert (before.info.name, after.info.name, after.info.threshold) == ("tiny", "x", 0.25)
    windows, _ = probe_windows()
    np.testing.assert_array_equal(before.probabilities(windows), after.probabilities(windows))
    once = set_metadata(file.read_bytes(), METADATA_KEY, "a")
    assert set_metadata(once, METADATA_KEY, "b") == set_metadata(file.read_bytes(), METADATA_KEY, "b")


@pytest.mark.parametrize("head", ["logits", "log-probabilities", "percent", "independent sigmoids", "not a number"])
def test_description_that_promises_probabilities_is_held_to_it(tmp_path: Path, head: str) -> None:
    info = b'{"name":"x","network":"x","contract":"beat/1","rate_hz":125,"length":187,"scaling":"minmax",' \
        b'"classes":["normal","abnormal"],"threshold":0.5,"trained_on":{},"figures":{}}'  # fmt: skip
    file = write_foreign(tmp_path / "x.onnx", head)
    file.write_bytes(set_metadata(file.read_bytes(), METADATA_KEY, info.decode()))
    with pytest.raises(ModelMismatch, match=r"x\.onnx: its answers"):
        Classifier(file)


@pytest.mark.parametrize("n", [2, 5])
def test_form_of_answers_is_told_by_what_they_add_up_to(n: int) -> None:
    logits = np.random.default_rng(0).normal(0, 3, (20, n)).astype(np.float32)
    probabilities = to_probabilities(logits, "logits")
    assert find_form(logits) == "logits"
    assert find_form(probabilities) == "probabilities"
    assert find_form(100 * probabilities) == "percent"
    assert find_form(np.log(probabilities)) == "log-probabilities"
    assert find_form(np.abs(probabilities - 0.1)) is None


# The command.


def test_command_adopts_and_the_model_judges(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_foreign(tmp_path / "my net.onnx", "one logit", shape=("n", LENGTH, 1))
    assert main(["models", "adopt", str(file), "--classes", "normal, abnormal", "--threshold", "0.4"]) == 0
    shown = capsys.readouterr().out
    out = tmp_path / "my net-adopted.onnx"
    assert f"Wrote {out}" in shown
    assert "logits of abnormal" in shown
    assert Classifier(out).info.threshold == 0.4
    (tmp_path / "b.csv").write_text(",".join(["0.5"] * LENGTH) + "\n")
    assert main(["classify", str(tmp_path / "b.csv"), "--model", str(out)]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["adopt"], "expected FILE --classes"),
        (["adopt", "{x}"], "expected FILE --classes"),
        (["adopt", "none.onnx", "--classes", "a,b"], "No model file none.onnx"),
        (["adopt", "{x}", "--classes", "a"], "two or more, all different: got 'a'"),
        (["adopt", "{x}", "--classes", "a,a"], "all different: got 'a,a'"),
        (["adopt", "{x}", "--classes", "a,b", "--threshold", "50"], "0 to 1: got 50"),
        (["adopt", "{x}", "--classes", "a,b", "--output", "{x}"], "is there already"),
        (["adopt", "{text}", "--classes", "a,b"], "cannot be loaded as an ONNX model"),
    ],
)
def test_what_cannot_be_adopted_is_one_line(
    tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"x": str(write_foreign(tmp_path / "x.onnx")), "text": str(tmp_path / "text.onnx")}
    (tmp_path / "text.onnx").write_text("no model")
    assert main(["models", *(word.format(**names) for word in words)]) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert shown.count("\n") == 1


def test_file_without_metadata_is_refused_with_the_command_that_adopts_it(tmp_path: Path) -> None:
    with pytest.raises(ModelMismatch, match=r"models adopt .*x\.onnx --classes normal,abnormal --threshold 0.5"):
        Classifier(write_foreign(tmp_path / "x.onnx"))
