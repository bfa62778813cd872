"""Loading the Kaggle layout, and finding the next R peak in a window."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest

from simulator.beat_model import BeatModel
from simulator.beats import Beats, find_data, load_beats, next_r_peak

Rows = list[list[str]]


def make_rows(label: int, count: int = 3) -> Rows:
    beats = BeatModel.load().draw("abnormal" if label else "normal", count, seed=1)
    return [[*(f"{value:.6f}" for value in window), f"{label}.0"] for window in beats.windows]


def write(folder: Path, normal: Rows, abnormal: Rows) -> Path:
    for name, rows in (("normal", normal), ("abnormal", abnormal)):
        (folder / f"ptbdb_{name}.csv").write_text("".join(",".join(row) + "\n" for row in rows))
    return folder


def test_rows_come_with_label_source_and_unpadded_length(tmp_path: Path) -> None:
    beats = load_beats(write(tmp_path, make_rows(0), make_rows(1, 2)))
    assert beats.windows.shape == (5, 187)
    assert beats.windows.dtype == np.float32
    assert beats.labels == ("normal",) * 3 + ("abnormal",) * 2
    assert beats.sources[3:] == ("ptbdb_abnormal.csv:1", "ptbdb_abnormal.csv:2")
    assert all(beats.windows[row, beats.lengths[row] - 1] > 0 for row in range(5))
    assert all(not beats.windows[row, beats.lengths[row] :].any() for row in range(5))


def test_gzipped_files_are_read(tmp_path: Path) -> None:
    plain = load_beats(write(tmp_path, make_rows(0), make_rows(1)))
    for path in list(tmp_path.iterdir()):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    packed = load_beats(tmp_path)
    assert np.array_equal(packed.windows, plain.windows)
    assert packed.sources == plain.sources


def change(rows: Rows, row: int, column: int, value: str) -> Rows:
    rows[row][column] = value
    return rows


@pytest.mark.parametrize(
    ("normal", "message"),
    [
        ([row[1:] for row in make_rows(0)], r"row 1, column 187: got|got 187 columns"),
        (change(make_rows(0), 2, 7, "nan"), r"ptbdb_normal.csv, row 3, column 8: got 'nan', expected a sample"),
        (change(make_rows(0), 1, 187, "1"), r"row 2, column 188: got 1, expected the label 0"),
        ([["0"] * 188], r"row 1: got only zeros"),
        ([["1", "0.5"] + ["0"] * 186], r"row 1: got 2 samples, expected at least 30"),
    ],
)  # fmt: skip
def test_bad_file_is_refused_with_file_row_and_column(tmp_path: Path, normal: Rows, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_beats(write(tmp_path, normal, make_rows(1)))


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No PTB files in"):
        find_data(tmp_path)
    with pytest.raises(ValueError, match=r"expected ptbdb_normal\.csv"):
        load_beats(tmp_path)


def test_data_is_found_by_flag_then_by_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ECGWATCH_DATA", raising=False)
    assert find_data(None) is None
    (tmp_path / "ptbdb").mkdir()
    write(tmp_path / "ptbdb", make_rows(0), make_rows(1))
    monkeypatch.setenv("ECGWATCH_DATA", str(tmp_path))
    assert find_data(None) == tmp_path / "ptbdb"
    assert find_data(tmp_path / "ptbdb") == tmp_path / "ptbdb"


def test_class_without_beats_is_refused() -> None:
    beats = BeatModel.load().draw("normal", 2, seed=0)
    with pytest.raises(ValueError, match="No beats of class 'abnormal'"):
        beats.where("abnormal")


def test_next_r_peak_is_where_the_next_row_of_the_record_starts(ecg_data: Path) -> None:
    beats = load_beats(ecg_data / "ptbdb")
    for label, floor in (("normal", 0.99), ("abnormal", 0.88)):
        errors = errors_of_next_r_peak(beats.where(label), ecg_data / "ptbdb" / f"ptbdb_{label}_rows.csv")
        assert np.mean(np.abs(errors) <= 1) >= floor


def errors_of_next_r_peak(beats: Beats, table: Path) -> list[int]:
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    errors = []
    for row in range(len(rows) - 1):
        period = int(rows[row + 1]["start_sample_125hz"]) - int(rows[row]["start_sample_125hz"])
        usual = beats.lengths[row] / 1.2
        if rows[row]["record"] == rows[row + 1]["record"] and 0.76 * usual < period < 1.18 * usual:
            errors.append(next_r_peak(beats.windows[row], int(beats.lengths[row])) - period)
    return errors
