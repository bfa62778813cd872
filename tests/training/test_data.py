from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from training import data

ROW = ["0.5"] * 186 + ["1"]


def write_pair(folder: Path, normal: list[list[str]], abnormal: list[list[str]]) -> None:
    for name, rows in (("normal", normal), ("abnormal", abnormal)):
        (folder / f"x_{name}.csv").write_text("".join(",".join(row) + "\n" for row in rows))


def changed(column: int, value: str, label: str = "0") -> list[str]:
    row = [*ROW, label]
    row[column - 1] = value
    return row


GOOD_NORMAL, GOOD_ABNORMAL = [*ROW, "0"], [*ROW, "1"]


def test_pair_is_read_as_windows_with_labels(write_beats: Callable[..., Path]) -> None:
    beats = data.load_beats([write_beats(patients=3, beats=2)])
    assert beats.windows.shape == (12, 187)
    assert beats.windows.dtype == np.float32
    assert beats.labels.tolist() == [0] * 6 + [1] * 6
    assert beats.patients[[0, 2, 6]].tolist() == ["toy/normal0", "toy/normal1", "toy/abnormal0"]
    assert beats.names() == ["toy"]


def test_gzipped_file_reads_like_the_plain_one(tmp_path: Path) -> None:
    write_pair(tmp_path, [GOOD_NORMAL], [GOOD_ABNORMAL])
    plain = data.load_beats([tmp_path])
    path = tmp_path / "x_normal.csv"
    (tmp_path / "x_normal.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    np.testing.assert_array_equal(data.load_beats([tmp_path]).windows, plain.windows)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (GOOD_NORMAL[:-1], "x_abnormal.csv, row 1: got 187 columns, expected 187 samples and the label 1"),
        (changed(9, "x", "1"), "x_abnormal.csv, row 1, column 9: got 'x', expected a sample from 0 to 1"),
        (changed(188, "0", "1"), "x_abnormal.csv, row 1, column 188: got 0, expected the label 1"),
    ],
)
def test_file_of_something_else_is_refused_by_file_row_and_column(tmp_path: Path, row: list[str], message: str) -> None:
    write_pair(tmp_path, [GOOD_NORMAL], [row])
    with pytest.raises(ValueError, match=re.escape(message)):
        data.load_beats([tmp_path])


def test_file_without_its_pair_is_refused(tmp_path: Path) -> None:
    write_pair(tmp_path, [GOOD_NORMAL], [GOOD_ABNORMAL])
    (tmp_path / "x_abnormal.csv").unlink()
    with pytest.raises(ValueError, match=r"x_abnormal\.csv: got no such file"):
        data.load_beats([tmp_path])


def test_directory_without_beats_and_no_directory_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a pair"):
        data.load_beats([tmp_path])
    with pytest.raises(ValueError, match=r"--data DIR"):
        data.load_beats([])


@pytest.mark.parametrize(
    ("side", "message"),
    [
        ("patient\na\nb\n", "got 2 rows, expected 1"),
        ("patient,split\na,dev\n", "row 2, column split: got 'dev', expected train or val"),
        ("diagnosis\nMI\n", "expected a column record or ecg_id"),
    ],
)
def test_side_file_that_does_not_fit_is_refused(tmp_path: Path, side: str, message: str) -> None:
    write_pair(tmp_path, [GOOD_NORMAL], [GOOD_ABNORMAL])
    (tmp_path / "x_normal_rows.csv").write_text(side)
    with pytest.raises(ValueError, match=re.escape(message)):
        data.load_beats([tmp_path])


def test_unknown_patient_is_kept_apart_by_record_and_said_so(tmp_path: Path) -> None:
    write_pair(tmp_path, [GOOD_NORMAL] * 3, [GOOD_ABNORMAL])
    (tmp_path / "x_normal_rows.csv").write_text("ecg_id,patient\n7,-1\n7,-1\n8,90\n")
    beats = data.load_beats([tmp_path])
    assert beats.patients.tolist() == ["x/record 7", "x/record 7", "x/90", ""]
    assert "2 of 3 rows name a record but no patient" in beats.notes[0]


def test_data_sets_in_the_folders_of_a_directory_are_found(write_beats: Callable[..., Path], tmp_path: Path) -> None:
    write_beats()
    (tmp_path / "deeper").mkdir()
    write_pair(tmp_path / "deeper", [GOOD_NORMAL], [GOOD_ABNORMAL])
    assert data.load_beats([tmp_path]).names() == ["x", "toy"]


def test_two_data_sets_of_one_name_are_refused(write_beats: Callable[..., Path]) -> None:
    folder = write_beats()
    with pytest.raises(ValueError, match="different names"):
        data.load_beats([folder, folder])


def toy(patients: list[str], labels: list[int], copies_of: list[int], given_: list[str] | None = None) -> data.Beats:
    """Beats of some patients; rows with the same number in `copies_of` are equal windows."""
    windows = np.zeros((len(labels), 187), np.float32)
    windows[:, 0] = (np.array(copies_of) + 1) / 1000
    return data.Beats(
        windows,
        np.array(labels, np.int64),
        np.array(patients),
        np.full(len(labels), "toy"),
        np.array(given_ if given_ is not None else [""] * len(labels)),
    )


@settings(suppress_health_check=[HealthCheck.filter_too_much], max_examples=60)
@given(
    rows=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 30)), min_size=40, max_size=80),
    seed=st.integers(0, 99),
    kind=st.sampled_from(["patient", "beat"]),
)
def test_no_patient_and_no_copy_of_a_window_is_on_two_sides(
    rows: list[tuple[int, int]], seed: int, kind: Literal["patient", "beat"]
) -> None:
    # Copies within a class: a window is of class (number mod 2), as is its patient.
    patients = [f"toy/{2 * (patient // 2) + copy % 2}" for patient, copy in rows]
    beats = toy(patients, [copy % 2 for _, copy in rows], [copy for _, copy in rows])
    try:
        parts = data.split_beats(beats, kind, seed)
    except ValueError as error:
        assert "to keep them apart" in str(error)  # noqa: PT017 # few connected groups are rightly refused
        return
    keys = [copy for _, copy in rows] if kind == "beat" else patients
    for key in set(keys):
        assert len({part for part, of_row in zip(parts, keys, strict=True) if of_row == key}) == 1
    copies = [copy for _, copy in rows]
    for key in set(copies):
        assert len({part for part, of_row in zip(parts, copies, strict=True) if of_row == key}) == 1


def test_both_classes_are_on_every_side_and_the_seed_decides_which(write_beats: Callable[..., Path]) -> None:
    beats = data.load_beats([write_beats(patients=8)])
    parts = data.split_beats(beats, "patient", 0)
    for part in data.PARTS:
        assert set(beats.labels[parts == part]) == {0, 1}
    np.testing.assert_array_equal(parts, data.split_beats(beats, "patient", 0))
    assert (parts != data.split_beats(beats, "patient", 1)).any()


def test_beat_split_ignores_patients_and_patient_split_needs_them(write_beats: Callable[..., Path]) -> None:
    beats = data.load_beats([write_beats(patients=3, beats=20)])
    parts = data.split_beats(beats, "beat", 0)
    assert len(set(parts[beats.patients == "toy/normal0"])) > 1
    assert data.split_kinds(beats, "patient") == {"toy": "patient"}
    nameless = data.load_beats([write_beats(name="nameless", side=False)])
    assert data.split_kinds(nameless, "patient") == {"nameless": "beat", "toy": "patient"}


def test_patient_larger_than_a_part_stays_in_train() -> None:
    patients = ["big"] * 60 + [f"p{i}" for i in range(10) for _ in range(4)] + [f"n{i}" for i in range(10)]
    labels = [1] * 100 + [0] * 10
    beats = toy(patients, labels, list(range(110)))
    for seed in range(20):
        assert set(data.split_beats(beats, "patient", seed)[:60]) == {"train"}


def test_published_split_is_respected_and_its_val_is_shared_with_test() -> None:
    patients = [f"p{i}" for i in range(16)]
    labels = [i % 2 for i in range(16)]
    sides = ["train"] * 8 + ["val"] * 8
    parts = data.split_beats(toy(patients, labels, list(range(16)), sides), "patient", 0)
    assert set(parts[:8]) == {"train"}
    assert sorted(parts[8:]) == ["test"] * 4 + ["val"] * 4


def test_published_split_with_a_patient_on_both_sides_is_refused() -> None:
    beats = toy(["a", "a", "b", "c"], [0, 0, 1, 1], [0, 1, 2, 3], ["train", "val", "train", "val"])
    with pytest.raises(ValueError, match="got 'a', or a copy of one of its windows, in train and in val"):
        data.split_beats(beats, "patient", 0)


def test_published_split_with_a_copy_on_both_sides_is_refused() -> None:
    beats = toy(["a", "b", "c", "d"], [0, 0, 1, 1], [0, 0, 2, 3], ["train", "val", "train", "val"])
    with pytest.raises(ValueError, match="a copy of one of its windows"):
        data.split_beats(beats, "patient", 0)


def test_copy_of_a_published_train_row_in_another_data_set_goes_to_train_with_its_patient() -> None:
    published = toy(
        [f"p{i}" for i in range(12)], [i % 2 for i in range(12)], list(range(12)), ["train"] * 8 + ["val"] * 4
    )
    others = [f"q{i}" for i in range(12)]
    other = replace(toy(others, [i % 2 for i in range(12)], [0, 1, *range(20, 30)]), datasets=np.full(12, "other"))
    both = data.Beats(
        windows=np.concatenate([published.windows, other.windows]),
        labels=np.concatenate([published.labels, other.labels]),
        patients=np.concatenate([published.patients, other.patients]),
        datasets=np.concatenate([published.datasets, other.datasets]),
        given=np.concatenate([published.given, other.given]),
    )
    for seed in range(10):
        assert set(data.split_beats(both, "patient", seed)[12:14]) == {"train"}


def test_too_few_patients_to_keep_apart_are_refused() -> None:
    beats = toy(["a", "b", "c", "d", "e"], [0, 0, 1, 1, 1], list(range(5)))
    with pytest.raises(ValueError, match="toy, normal: got 2 patients, expected at least 3"):
        data.split_beats(beats, "patient", 0)


def test_balancing_repeats_the_rarer_class_of_each_data_set_and_loses_no_row() -> None:
    labels = np.array([0, 1, 1, 1, 1, 0, 0, 0, 1])
    datasets = np.array(["a"] * 5 + ["b"] * 4)
    rows = data.balance(labels, datasets, np.random.default_rng(0))
    assert set(rows) == set(range(9))
    for name, count in (("a", 4), ("b", 3)):
        of_set = labels[rows][datasets[rows] == name]
        assert np.bincount(of_set).tolist() == [count, count]


def test_hash_of_rows_changes_with_a_window_a_label_or_a_part() -> None:
    beats = toy(["a", "b"], [0, 1], [0, 1])
    parts = np.array(["train", "test"])
    before = data.hash_rows(beats, parts)
    assert before == data.hash_rows(toy(["x", "y"], [0, 1], [0, 1]), parts)
    assert before != data.hash_rows(toy(["a", "b"], [0, 1], [0, 2]), parts)
    assert before != data.hash_rows(toy(["a", "b"], [1, 1], [0, 1]), parts)
    assert before != data.hash_rows(beats, np.array(["train", "val"]))


def test_directory_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECGWATCH_DATA", "a")
    assert data.default_directories() == ["a"]
    monkeypatch.delenv("ECGWATCH_DATA")
    assert data.default_directories() == []


def test_real_patients_are_apart(ecg_data: Path) -> None:
    beats = data.load_beats([ecg_data / "ptbdb", ecg_data / "ptbxl"])
    assert len(beats) == 932 + 11197 + 10318
    parts = data.split_beats(beats, "patient", 0)
    sides = {part: set(beats.patients[parts == part]) for part in data.PARTS}
    assert not sides["train"] & sides["val"]
    assert not sides["train"] & sides["test"]
    assert not sides["val"] & sides["test"]
    assert set(parts[beats.given == "train"]) == {"train"}
    for name in beats.names():
        for part in data.PARTS:
            assert set(beats.labels[(beats.datasets == name) & (parts == part)]) == {0, 1}
