from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

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


@pytest.mark.parametrize("names", [("X_NORMAL.CSV", "x_abnormal.CSV"), ("X_normal.CSV", "X_ABNORMAL.CSV.GZ")])
def test_endings_may_be_in_upper_case(tmp_path: Path, names: tuple[str, str]) -> None:
    write_pair(tmp_path, [GOOD_NORMAL], [GOOD_ABNORMAL])
    plain = data.load_beats([tmp_path])
    for of_class, name in zip(("normal", "abnormal"), names, strict=True):
        content = (tmp_path / f"x_{of_class}.csv").read_bytes()
        (tmp_path / f"x_{of_class}.csv").unlink()
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("GZ") else content)
    np.testing.assert_array_equal(data.load_beats([tmp_path]).windows, plain.windows)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (GOOD_NORMAL[:-1], "x_abnormal.csv, row 1: got 187 columns, expected 187 samples and the label 1"),
        (changed(9, "x", "1"), "x_abnormal.csv, row 1, column 9: got 'x', expected a sample from 0 to 1"),
        (changed(188, "0", "1"), "x_abnormal.csv, row 1, column 188: got 0, expected the label 1"),
    ],
)
def test_malformed_file_is_refused_by_file_row_and_column(tmp_path: Path, row: list[str], message: str) -> None:
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
        ("patient,split\na,dev\n", "row 2, column split: got 'dev', expected train, val or test"),
        ("diagnosis\nMI\n", "expected a column record or ecg_id"),
    ],
)
def test_side_file_that_does_not_fit_is_refused(tmp_path: Path, side: str, message: str) -> None:
    write_pair(tmp_path, [GOOD_NORMAL], [GOOD_ABNORMAL])
    (tmp_path / "x_normal_rows.csv").write_text(side)
    with pytest.raises(ValueError, match=re.escape(message)):
        data.load_beats([tmp_path])


def test_row_of_unknown_patient_is_split_by_record_and_noted(tmp_path: Path) -> None:
    write_pair(tmp_path, [GOOD_NORMAL] * 3, [GOOD_ABNORMAL])
    (tmp_path / "x_normal_rows.csv").write_text("ecg_id,patient\n7,-1\n7,-1\n8,90\n")
    beats = data.load_beats([tmp_path])
    assert beats.patients.tolist() == ["x/record 7", "x/record 7", "x/90", ""]
    assert "2 of 3 rows name a record but no patient" in beats.notes[0]


def test_data_sets_in_the_folders_of_a_directory_are_found(write_beats: Callable[..., Path], tmp_path: Path) -> None:
    write_beats()
    (tmp_path / "deeper").mkdir()
    write_pair(tmp_path / "deeper", [GOOD_NORMAL], [GOOD_ABNORMAL])
    assert data.load_beats([tmp_path]).names() == ["toy", "x"]


def test_two_data_sets_of_one_name_are_refused(write_beats: Callable[..., Path]) -> None:
    folder = write_beats()
    with pytest.raises(ValueError, match="different names"):
        data.load_beats([folder, folder])


def five(labels: list[str]) -> str:
    return "".join(",".join([*ROW, label]) + "\n" for label in labels)


def test_kaggle_mitbih_files_keep_their_published_sides_and_five_classes(tmp_path: Path) -> None:
    (tmp_path / "mitbih_train.csv").write_text(five(["0.0", "2.0", "4.0"]))
    (tmp_path / "mitbih_test.csv.gz").write_bytes(gzip.compress(five(["3.0"]).encode()))
    beats = data.load_beats([tmp_path])
    assert beats.classes == ("N", "S", "V", "F", "Q")
    assert beats.labels.tolist() == [0, 2, 4, 3]
    assert beats.given.tolist() == ["train", "train", "train", "test"]
    assert not beats.has_rr


def test_kaggle_label_beyond_the_five_classes_is_refused_by_row_and_column(tmp_path: Path) -> None:
    (tmp_path / "mitbih_train.csv").write_text(five(["0", "5"]))
    (tmp_path / "mitbih_test.csv").write_text(five(["0"]))
    with pytest.raises(ValueError, match=r"mitbih_train\.csv, row 2, column 188: got 5, expected 0 to 4"):
        data.load_beats([tmp_path])


def test_data_sets_of_different_classes_are_not_mixed(tmp_path: Path) -> None:
    write_pair(tmp_path, [GOOD_NORMAL], [GOOD_ABNORMAL])
    for name in ("train", "test"):
        (tmp_path / f"mitbih_{name}.csv").write_text(five(["0"]))
    with pytest.raises(ValueError, match=r"got x \(normal abnormal\); mitbih \(N S V F Q\), expected one kind"):
        data.load_beats([tmp_path])
    assert data.load_beats([tmp_path], data.TASKS["mitbih"]).names() == ["mitbih"]
    assert [task.names() for task in data.load_tasks([tmp_path])] == [["x"], ["mitbih"]]


def test_side_files_give_record_diagnosis_age_and_sex(tmp_path: Path) -> None:
    write_pair(tmp_path, [GOOD_NORMAL] * 2, [GOOD_ABNORMAL])
    (tmp_path / "x_normal_rows.csv").write_text("ecg_id,patient\n7,a\n8,b\n")
    (tmp_path / "x_abnormal_rows.csv").write_text("ecg_id,patient,superclasses\n9,c,MI|CD\n")
    (tmp_path / "x_records.csv").write_text("ecg_id,age,sex\n7,61.0,1\n9,,0\n")
    beats = data.load_beats([tmp_path])
    assert beats.records.tolist() == ["x/7", "x/8", "x/9"]
    assert beats.about["sex"].tolist() == ["female", "", "male"]
    assert beats.about["age"].tolist()[0] == 61
    assert beats.about["age"].isna().tolist() == [False, True, True]
    assert beats.about["diagnosis"].tolist() == ["", "", "MI|CD"]


def test_directory_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECGWATCH_DATA", "a")
    assert data.default_directories() == ["a"]
    monkeypatch.delenv("ECGWATCH_DATA")
    assert data.default_directories() == []
