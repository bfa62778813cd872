from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

import export.onnx
from export.__main__ import main
from export.card import model_info
from export.onnx import _proof_contexts, export_network, place_of, proof_windows, prove
from monitor import beat
from monitor.classify import MAX_BATCH, Classifier, ModelMismatch
from tests.export.conftest import random_beats
from training.cost import OPSET
from training.models import NETWORKS, BeatNetwork, probabilities
from training.run import load_run


@pytest.mark.parametrize("five", [False, True])
@pytest.mark.parametrize("net", NETWORKS)
def test_exported_file_gives_the_same_outputs_in_the_monitor_as_in_pytorch(
    write_run: Callable[..., Path], tmp_path: Path, net: str, five: bool
) -> None:
    run, network = load_run(write_run(net, five))
    out, beats = tmp_path / "model.onnx", random_beats(five)
    proof = export_network(network, model_info("ptb", run), out, beats)
    assert proof.difference <= 1e-5
    assert proof.real_beats == len(beats)
    classifier = Classifier(out)
    assert classifier.needs_rr is five
    expected = probabilities(network, beats.windows, beats.rr)
    for n in (0, 1, 2, 3, MAX_BATCH, 300):
        got = classifier.probabilities(beats.windows[:n], beats.rr[:n])
        np.testing.assert_allclose(got, expected[:n], atol=1e-5, rtol=0)
        np.testing.assert_allclose(got.sum(axis=1), 1, atol=1e-6)
    assert out.stat().st_size <= 1_000_000


def test_file_describes_itself(write_run: Callable[..., Path], tmp_path: Path) -> None:
    run, network = load_run(write_run())
    out = tmp_path / "model.onnx"
    export_network(network, model_info("mine", run), out)
    info = Classifier(out).info
    assert (info.name, info.network, info.classes) == ("mine", "cnn", ["normal", "abnormal"])
    assert info.threshold == run.threshold
    assert "0" * 64 in info.trained_on["ptbdb"]
    assert info.figures["test, ptbdb: ROC-AUC"] == 0.875
    assert (info.context, info.precision) == ([], "fp32")


def test_int8_file_is_smaller_nearly_the_same_and_independent_of_the_batch(
    write_run: Callable[..., Path], tmp_path: Path
) -> None:
    run, network = load_run(write_run("compact"))
    beats = random_beats()
    paths = {precision: tmp_path / f"{precision}.onnx" for precision in ("fp32", "int8")}
    export_network(network, model_info("ptb", run), paths["fp32"])
    proof = export_network(network, model_info("ptb", run, "int8"), paths["int8"], beats)
    assert paths["int8"].stat().st_size < 0.6 * paths["fp32"].stat().st_size
    assert 0 < proof.difference < 0.05
    classifier = Classifier(paths["int8"])
    assert classifier.info.precision == "int8"
    together = classifier.probabilities(beats.windows[:100])
    alone = np.concatenate([classifier.probabilities(beats.windows[i : i + 1]) for i in range(100)])
    np.testing.assert_allclose(alone, together, atol=1e-6)


def test_int8_without_real_beats_or_with_too_much_loss_is_refused(
    write_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, network = load_run(write_run("compact"))
    info, out = model_info("ptb", run, "int8"), tmp_path / "model.onnx"
    with pytest.raises(ValueError, match="got no beats, expected real ones"):
        export_network(network, info, out)
    monkeypatch.setattr(export.onnx, "AUC_LOSS", -1.0)
    with pytest.raises(ValueError, match="ROC-AUC lost by int8"):
        export_network(network, info, out, random_beats())
    assert not list(tmp_path.glob("model*"))


def test_file_of_other_classes_than_its_run_or_its_beats_is_refused(
    write_run: Callable[..., Path], tmp_path: Path
) -> None:
    (run, network), (_, five) = load_run(write_run("compact")), load_run(write_run("compact", five=True))
    out = tmp_path / "model.onnx"
    export_network(network, model_info("ptb", run), out)
    with pytest.raises(ValueError, match="2 classes without RR context, expected 5 with it"):
        prove(out, five)
    with pytest.raises(ValueError, match="got beats of"):
        prove(out, network, random_beats(five=True))


def test_graph_is_one_file_without_batch_normalisation_and_of_the_stated_opset(
    write_run: Callable[..., Path], tmp_path: Path
) -> None:
    run, network = load_run(write_run())
    out = tmp_path / "model.onnx"
    export_network(network, model_info("ptb", run), out)
    model = onnx.load(out)
    onnx.checker.check_model(model, full_check=True)
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    assert [opset.version for opset in model.opset_import] == [OPSET]
    assert sorted(path.name for path in tmp_path.glob("model*")) == ["model.onnx"]


@pytest.mark.parametrize(
    ("field", "value"),
    [("contract", "beat/2"), ("rate_hz", 360.0), ("length", 186), ("scaling", "z-score"), ("classes", ["a", "a"])],
)
def test_description_that_contradicts_the_monitor_is_refused_and_leaves_no_file(
    write_run: Callable[..., Path], tmp_path: Path, field: str, value: Any
) -> None:
    run, network = load_run(write_run())
    info = model_info("ptb", run)
    wrong = type(info)(**{**{name: getattr(info, name) for name in info.__struct_fields__}, field: value})
    with pytest.raises(ModelMismatch, match=field):
        export_network(network, wrong, tmp_path / "model.onnx")
    assert not list(tmp_path.glob("model*"))


class WrongOutput(BeatNetwork):
    """Returns a different number of columns than it declares."""

    def __init__(self) -> None:
        super().__init__(1, 0, 2, rr=False, dropout=0)

    def encode(self, windows: torch.Tensor) -> torch.Tensor:
        return windows[:, :1]

    def forward(self, windows: torch.Tensor, rr: torch.Tensor | None = None) -> torch.Tensor:
        return windows[:, :3]


def test_network_with_another_output_is_refused(write_run: Callable[..., Path], tmp_path: Path) -> None:
    run, _ = load_run(write_run())
    with pytest.raises(ModelMismatch, match="expected one 'probabilities'"):
        export_network(WrongOutput(), model_info("ptb", run), tmp_path / "model.onnx")


def test_file_with_different_outputs_is_refused_and_the_old_one_stays(
    write_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, network = load_run(write_run())
    out = tmp_path / "model.onnx"
    export_network(network, model_info("ptb", run), out)
    old = out.read_bytes()
    monkeypatch.setattr(export.onnx, "TOLERANCE", -1.0)
    with pytest.raises(ValueError, match="probabilities differ"):
        export_network(network, model_info("ptb", run), out)
    assert out.read_bytes() == old
    assert [path.name for path in tmp_path.glob("model*")] == ["model.onnx"]


def test_file_too_large_is_refused(
    write_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, network = load_run(write_run())
    monkeypatch.setattr(export.onnx, "MAX_BYTES", 1000)
    with pytest.raises(ValueError, match="expected at most 1000"):
        export_network(network, model_info("ptb", run), tmp_path / "model.onnx")
    assert not list(tmp_path.glob("model*"))


def test_proof_covers_edge_cases_and_many_heart_rates() -> None:
    windows = beat.check_windows(proof_windows())
    assert len(windows) == MAX_BATCH
    lengths = beat.LENGTH - (windows[:, ::-1] > 0).argmax(axis=1)
    assert not windows[0].any()
    assert windows[1].all()
    assert windows[2].tolist() == [1.0] + [0.0] * 186
    assert lengths.min() < 60
    assert lengths.max() >= 186
    assert np.isfinite(_proof_contexts()).all()


def test_verify_accepts_a_file_from_its_run_and_refuses_one_from_another(
    write_run: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, other = write_run("cnn"), write_run("cnn-lstm")
    out = str(tmp_path / "model.onnx")
    assert main(["onnx", str(run), "--out", out]) == 0
    assert main(["verify", out, str(run)]) == 0
    printed = capsys.readouterr().out
    assert "largest difference" in printed
    assert f"SHA-256 {Classifier(out).sha256}, opset {OPSET}" in printed
    assert main(["verify", out, str(other)]) == 2
    assert "probabilities differ" in capsys.readouterr().err
    with pytest.raises(ValueError, match="differ"):
        prove(Path(out), load_run(other)[1])


@pytest.mark.parametrize(
    "words", [["onnx", "/nowhere", "--out", "/nowhere/x.onnx"], ["verify", "/nowhere/x.onnx", "/nowhere"]]
)
def test_failed_command_prints_one_line_and_returns_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "/nowhere" in error
    assert error.count("\n") == 1


HELP = """
import sys, export.__main__
try:
    export.__main__.main(["onnx", "--help"])
except SystemExit:
    print("torch" in sys.modules)
"""


def test_help_does_not_load_torch() -> None:
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_a_model_is_written_beside_its_run_unless_it_is_to_be_bundled(
    write_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, models = write_run(), tmp_path / "models"
    models.mkdir()
    monkeypatch.setattr(export.onnx, "MODELS", models)
    assert main(["onnx", str(run), "--name", "mine"]) == 0
    assert Classifier(run / "mine.onnx").info.name == "mine"
    assert (run / "mine.md").is_file()
    assert not list(models.iterdir())
    assert main(["onnx", str(run), "--bundle", "mine"]) == 0
    assert Classifier(models / "mine.onnx").info.name == "mine"


def test_a_bundled_model_is_replaced_only_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export.onnx, "MODELS", tmp_path)
    bundled = tmp_path / "ptb.onnx"
    bundled.touch()
    with pytest.raises(ValueError, match="is a bundled model: --bundle ptb replaces it"):
        place_of("ptb", tmp_path / "run", bundled)
    assert place_of("ptb", tmp_path / "run", bundle=True) == bundled
    with pytest.raises(ValueError, match=r"must match .* got '\.\./x'"):
        place_of("../x", tmp_path / "run", bundle=True)
