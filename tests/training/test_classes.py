from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from export import classes as export_classes
from monitor import beat2
from monitor.class_model import CLASS_MODEL, ClassModel
from monitor.classify import MODELS, ModelInfo
from monitor.wiring import ModelMismatch
from tests.training.test_wearers import make_source
from training import classes
from training.class_network import ClassNetwork
from training.wearers import NOT_S, F, N, S, V, X, cut

WIDTH = len(beat2.CONTEXT)


def make_beats(n: int = 400) -> classes.Beats:
    """Ten people of two databases; S come early, V are inverted."""
    rng = np.random.default_rng(0)
    labels = rng.choice([N, N, N, S, V, F, X, NOT_S], n)
    windows = rng.normal(0, 0.1, (n, 2, beat2.LENGTH))
    windows[:, 1, 45] += 1
    windows[:, 0, 45] += np.where(labels == V, -1, 1)
    context = rng.normal(1, 0.02, (n, WIDTH))
    context[labels == S, 0] -= 0.4
    person = np.array([f"{'mitdb' if i % 2 else 'svdb'}/{i % 10}" for i in range(n)])
    database = np.array([one.partition("/")[0] for one in person])
    kind = np.full(n, "0 up")
    return classes.Beats(windows.astype(np.float16), context.astype(np.float32), labels, database, person, kind, {}, {})


def make_network() -> ClassNetwork:
    torch.manual_seed(0)
    return ClassNetwork(torch.ones(WIDTH), torch.full((WIDTH,), 0.1)).eval()


def make_info(**changes: object) -> ModelInfo:
    people = {"mitdb": 1}
    about = {"figures": {}, "offsets": (0.0, 0.0), "people": people, "beats": people}
    info = export_classes.describe("tiny", about)
    return ModelInfo(**({name: getattr(info, name) for name in info.__struct_fields__} | changes))


def test_nobody_is_in_two_folds() -> None:
    beats = make_beats()
    fold = classes.split(beats)
    for person in np.unique(beats.person):
        assert len(set(fold[beats.person == person].tolist())) == 1
    assert set(fold.tolist()) == set(range(classes.FOLDS))


def test_a_person_with_many_beats_of_a_class_is_not_drawn_in_proportion() -> None:
    beats = make_beats()
    rows = np.flatnonzero((beats.labels == S) & ((beats.person == "svdb/0") | (np.arange(400) < 30)))
    drawn = classes.chances(beats, rows)
    assert drawn.sum() == pytest.approx(1)
    whose = beats.person[rows]
    most = max(np.unique(whose), key=lambda one: np.count_nonzero(whose == one))
    assert drawn[whose == most].sum() < np.mean(whose == most)


def test_a_beat_that_is_not_s_may_be_n_or_v() -> None:
    sure_n, sure_s, sure_v = torch.eye(3)[:, None] * 20
    not_s = torch.tensor([NOT_S])
    assert classes.loss_of(sure_n, not_s) < 0.1
    assert classes.loss_of(sure_v, not_s) < classes.loss_of(sure_s, not_s) / 5


def test_augmented_beats_keep_their_form() -> None:
    beats, noises = make_beats(), torch.ones(3, beat2.LENGTH)
    x, context = torch.from_numpy(beats.windows.astype(np.float32)), torch.from_numpy(beats.context)
    generator = torch.Generator().manual_seed(0)
    windows, about = classes.augment(x, context, torch.from_numpy(beats.labels), noises, generator)
    beat2.check_inputs(windows.numpy(), about.numpy())
    assert not torch.equal(windows, x)


def test_ectopic_beats_stay_as_early_as_they_were() -> None:
    beats = make_beats()
    x, context = torch.zeros(400, 2, beat2.LENGTH), torch.ones(400, WIDTH)
    labels = torch.from_numpy(beats.labels)
    _, about = classes.augment(x, context, labels, torch.ones(3, 120), torch.Generator().manual_seed(0))
    ectopic = (labels == S) | (labels == V)
    assert (about[ectopic, 3] - 1).abs().max() < 0.1
    assert (about[~ectopic, 3] - 1).abs().max() > 0.1


def test_a_beat_is_normal_unless_the_others_together_are_as_likely() -> None:
    logits = np.log(np.array([[0.51, 0.3, 0.19], [0.49, 0.3, 0.21], [0.4, 0.2, 0.4]], np.float32))
    assert classes.predict(logits, (0, 0)).tolist() == [N, S, V]
    assert classes.predict(logits, (-9, -9)).tolist() == [N, N, N]


def test_fusion_beats_are_neither_right_nor_wrong() -> None:
    labels = np.array([N, N, S, V, V, F, F, X])
    figures = classes.score(labels, np.array([N, S, S, V, N, V, N, V]))
    assert figures["Se V"] == 0.5
    assert figures["PPV V"] == 0.5
    assert figures["PPV S"] == 0.5


def test_a_few_steps_teach_what_is_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classes, "STEPS", 60)
    monkeypatch.setattr(classes, "BATCH", 64)
    monkeypatch.setattr(classes, "AVERAGE", 0.8)
    beats = make_beats()
    rows = np.flatnonzero(beats.labels <= V)
    network = classes.train_network(beats, rows, torch.zeros(1, beat2.LENGTH))
    predicted = classes.predict(classes.logits_of(network, beats, rows), (0, 0))
    assert classes.score(beats.labels[rows], predicted)["macro F1"] > 0.8


def test_the_exported_file_answers_as_the_network_does(tmp_path: Path) -> None:
    network, path, beats = make_network(), tmp_path / "tiny.onnx", make_beats()
    export_classes.write_file(network, make_info(), path)
    windows = beats.windows.astype(np.float32)
    assert export_classes.prove(path, network, windows, beats.context) <= export_classes.TOLERANCE


def test_fold_networks_are_written_with_their_offsets_and_whom_they_have_not_met(tmp_path: Path) -> None:
    run, out, beats = tmp_path / "run", tmp_path / "folds", make_beats()
    run.mkdir()
    networks = [make_network() for _ in range(2)]
    for k, network in enumerate(networks):
        torch.save(network.state_dict(), run / f"fold{k}.pt")
    about = {
        "figures": {},
        "people": {"mitdb": 2},
        "beats": {"mitdb": 400},
        "offsets of folds": [[-0.5, 0.25], [0.0, 0.0]],
        "people of folds": [["mitdb/1"], ["mitdb/2"]],
    }
    (run / "classes.json").write_text(json.dumps(about))
    windows, context = beats.windows.astype(np.float32), beats.context
    np.savez(run / "proof.npz", windows=windows, context=context)
    export_classes.export_folds(run, out)
    assert json.loads((out / "people.json").read_text()) == {"0": ["mitdb/1"], "1": ["mitdb/2"]}
    model = ClassModel(out / "fold0.onnx")
    assert model.info.figures == {"offset S": -0.5, "offset V": 0.25}
    networks[0].bias.data = torch.tensor([0.0, -0.5, 0.25])
    with torch.no_grad():
        expected = networks[0](torch.from_numpy(windows), torch.from_numpy(context)).softmax(1).numpy()
    assert np.allclose(model.probabilities(windows, context), expected, atol=1e-5)


def test_a_run_without_fold_networks_is_refused(tmp_path: Path) -> None:
    (tmp_path / "classes.json").write_text("{}")
    with pytest.raises(ValueError, match="got a run without fold networks"):
        export_classes.export_folds(tmp_path, tmp_path / "out")


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"got no classes\.json, expected the run folder of 'ecgwatch train classes'"):
        export_classes.export(tmp_path, "tiny", tmp_path / "out")
    with pytest.raises(ValueError, match=r"got no classes\.json"):
        export_classes.export_folds(tmp_path, tmp_path / "out")


def test_a_file_of_another_network_is_not_proven(tmp_path: Path) -> None:
    network, path, beats = make_network(), tmp_path / "tiny.onnx", make_beats()
    export_classes.write_file(network, make_info(), path)
    network.bias.data += torch.tensor([0.0, 1.0, 0.0])
    with pytest.raises(ValueError, match="differ from PyTorch"):
        export_classes.prove(path, network, beats.windows.astype(np.float32), beats.context)


@pytest.mark.parametrize("change", [{"contract": "beat/1"}, {"length": 187}, {"context": ["rr"]}])
def test_a_file_of_another_contract_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "tiny.onnx"
    export_classes.write_file(make_network(), make_info(**change), path)
    with pytest.raises(ModelMismatch, match=next(iter(change))):
        ClassModel(path)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(ModelMismatch, match="cannot be loaded"):
        ClassModel(path)


def test_the_bundled_model_is_small_and_takes_no_beats_as_well() -> None:
    model = ClassModel()
    assert (MODELS / f"{CLASS_MODEL}.onnx").stat().st_size <= 300_000
    assert model.info.classes == ["N", "S", "V"]
    assert len(model.probabilities(np.zeros((0, 2, 120), np.float32), np.zeros((0, WIDTH), np.float32))) == 0


def test_the_bundled_model_finds_the_early_broad_beats_of_a_person_it_has_not_met() -> None:
    model, found = ClassModel(), cut(make_source(early=(25, 35, 45)), 1)
    predicted = model.columns(model.probabilities(found["inputs"].astype(np.float32), found["context"]))
    assert np.array_equal(predicted == V, found["labels"] == V)
