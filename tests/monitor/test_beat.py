"""Contract 1: what a beat window is, and the files that hold windows."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from monitor import beat


def test_window_is_187_samples_at_125_hz() -> None:
    assert (beat.LENGTH, beat.RATE_HZ) == (187, 125.0)


def test_window_lasts_one_and_a_fifth_median_rr_intervals() -> None:
    assert beat.window_length(100) == 120
    assert beat.window_length(99.5) == 119


def test_window_is_scaled_to_0_1_and_padded_with_zeros() -> None:
    window = beat.fit_window([300.0, 100.0, 200.0])
    assert window.dtype == np.float32
    assert window[:3].tolist() == [1.0, 0.0, 0.5]
    assert not window[3:].any()


def test_scaling_does_not_depend_on_gain_or_offset() -> None:
    signal = np.random.default_rng(1).normal(size=120)
    np.testing.assert_allclose(beat.fit_window(signal), beat.fit_window(3000 + 250 * signal), atol=1e-6)


def test_what_does_not_fit_is_cut_before_scaling() -> None:
    signal = np.concatenate([np.linspace(0, 1, 187), [99.0]])
    assert beat.fit_window(signal)[-1] == 1.0


def test_flat_signal_becomes_zeros() -> None:
    assert not beat.fit_window(np.full(100, 7.0)).any()


@pytest.mark.parametrize("signal", [[], [[1.0, 2.0]], [1.0, np.nan], [np.inf, 0.0]])
def test_signal_that_is_no_row_of_finite_numbers_is_refused(signal: list[float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        beat.fit_window(signal)


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        (np.zeros((2, 186)), r"shape \(n, 187\): got \(2, 186\)"),
        (np.zeros(187), r"shape \(n, 187\): got \(187,\)"),
        (np.full((1, 187), np.nan), "window 0 holds NaN"),
        (np.full((1, 187), 2.0), "window 0 spans 2 to 2"),
        (np.full((1, 187), "x"), "must be numbers"),
    ],
)
def test_windows_of_another_kind_are_refused(windows: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        beat.check_windows(windows)


def _write(path: Path, rows: Sequence[Sequence[object]]) -> Path:
    text = "".join(",".join(map(str, row)) + "\n" for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["beats.csv", "beats.csv.gz"])
def test_file_with_labels_gives_windows_and_labels(tmp_path: Path, name: str) -> None:
    windows, labels = beat.read_windows(_write(tmp_path / name, [[0.5] * 187 + ["1.0"], [0.25] * 187 + [0]]))
    assert windows.shape == (2, 187)
    assert labels is not None
    assert labels.tolist() == [1, 0]


def test_file_without_labels_gives_none(tmp_path: Path) -> None:
    assert beat.read_windows(_write(tmp_path / "b.csv", [[0.5] * 187]))[1] is None


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "got an empty file"),
        ([[0.5] * 186], "row 1: got 186 columns"),
        ([[0.5] * 189], "row 1: got 189 columns"),
        ([[0.5] * 188, [0.5] * 187], "row 1, column 188: got '0.5', expected the number of a class"),
        ([[0] * 188, [0] * 187], "row 2: got 187 columns, expected 188"),
        ([[0.5] * 187, ["x"] + [0.5] * 186], "row 2, column 1: got 'x'"),
        ([["nan"] + [0.5] * 186], "row 1, column 1: got 'nan'"),
        ([[""] + [0.5] * 186], "row 1, column 1: got ''"),
        ([[0.5] * 186 + [1.01]], "row 1, column 187: got '1.01', expected a sample from 0 to 1"),
        ([[0.5] * 187 + [-1]], "row 1, column 188: got '-1'"),
    ],
)
def test_rows_that_are_no_beats_are_refused_by_row_and_column(
    tmp_path: Path, rows: list[list[object]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        beat.read_windows(_write(tmp_path / "beats.csv", rows))


def test_file_of_one_class_must_carry_its_label(tmp_path: Path) -> None:
    path = _write(tmp_path / "normal.csv", [[0.5] * 187 + [0], [0.5] * 187 + [1]])
    with pytest.raises(ValueError, match="row 2, column 188: got 1, expected the label 0"):
        beat.read_class(path, 0)
    with pytest.raises(ValueError, match="got 187 columns, expected 187 samples and the label 1"):
        beat.read_class(_write(tmp_path / "b.csv", [[0.5] * 187]), 1)


@pytest.mark.parametrize("content", [b"\x1f\x8b broken", b"\xff\xfe\x00", b"\x00" * 10])
def test_file_that_is_no_text_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "beats.csv.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"beats\.csv\.gz"):
        beat.read_windows(path)


ROWS = np.round(np.random.default_rng(0).random((4, 187)), 4)


def _spreadsheet(
    separator: str = ",", point: str = ".", end: str = "\n", heading: Sequence[str] = (), *, labels: bool = True
) -> str:
    rows = [[*(f"{value:.4f}".replace(".", point) for value in row), *(["1"] * labels)] for row in ROWS]
    quoted = [[f'"{cell}"' if separator in cell else cell for cell in row] for row in rows]
    return "".join(separator.join(row) + end for row in ([list(heading)] if heading else []) + quoted)


NUMBERED = [str(i) for i in range(188)]
PANDAS = _spreadsheet(heading=NUMBERED).splitlines()
SPREADSHEETS = {
    "plain": _spreadsheet(),
    "CR LF": _spreadsheet(end="\r\n"),
    "CR": _spreadsheet(end="\r"),
    "empty last line": _spreadsheet() + "\n",
    "empty lines and separators": "\n" + _spreadsheet(end="\n\n") + "," * 187 + "\n \n",
    "semicolons": _spreadsheet(";"),
    "semicolons and decimal commas": _spreadsheet(";", ",", "\r\n"),
    "tabs": _spreadsheet("\t"),
    "tabs and decimal commas": _spreadsheet("\t", ","),
    "quoted decimal commas": _spreadsheet(",", ","),
    "separator at the end": _spreadsheet(end=",\n"),
    "heading of words": _spreadsheet(heading=[f"t{i}" for i in range(187)] + ["label"]),
    "heading of words, semicolons": _spreadsheet(";", ",", heading=[f"sample {i}" for i in range(187)] + ["class"]),
    "heading of numbers": _spreadsheet(heading=NUMBERED),
    "heading of numbers from 1": _spreadsheet(heading=[*(str(i + 1) for i in range(187)), "label"]),
    "numbered rows": "\n".join([f",{PANDAS[0]}", *(f"{i},{row}" for i, row in enumerate(PANDAS[1:]))]) + "\n",
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("kind", SPREADSHEETS)
def test_file_from_a_spreadsheet_is_read(tmp_path: Path, kind: str, encoding: str) -> None:
    path = tmp_path / "beats.csv"
    path.write_bytes(SPREADSHEETS[kind].encode(encoding))
    windows, labels = beat.read_windows(path)
    np.testing.assert_allclose(windows, ROWS, atol=1e-6)
    assert labels is not None
    assert labels.tolist() == [1] * 4


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_file_from_a_spreadsheet_need_not_have_labels(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "beats.csv"
    path.write_text(_spreadsheet(separator, end=f"{separator}\r\n", labels=False), newline="")
    windows, labels = beat.read_windows(path)
    assert (windows.shape, labels) == ((4, 187), None)


@pytest.mark.parametrize("name", ["BEATS.CSV.GZ", "beats.GZ", "beats.csv", "beats.csv.gz"])
def test_gzip_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(_spreadsheet().encode()))
    assert len(beat.read_windows(tmp_path / name)[0]) == 4
    (tmp_path / name).write_text(_spreadsheet())
    assert len(beat.read_windows(tmp_path / name)[0]) == 4


def test_rows_are_counted_as_an_editor_counts_lines(tmp_path: Path) -> None:
    path = tmp_path / "beats.csv"
    path.write_text("\n" + _spreadsheet(heading=NUMBERED) + "\n" + ",".join(["x"] + ["0.5"] * 187))
    with pytest.raises(ValueError, match="row 8, column 1: got 'x'"):
        beat.read_windows(path)


def test_spreadsheet_itself_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "beats.csv").write_bytes(b"PK\x03\x04....")
    with pytest.raises(ValueError, match="spreadsheet or a ZIP file"):
        beat.read_windows(tmp_path / "beats.csv")


@pytest.mark.parametrize("heading", [[], NUMBERED])
def test_file_of_nothing_but_a_heading_or_empty_lines_is_empty(tmp_path: Path, heading: list[str]) -> None:
    (tmp_path / "beats.csv").write_text(",".join(heading) + "\n\n,,,\n")
    with pytest.raises(ValueError, match="got an empty file"):
        beat.read_windows(tmp_path / "beats.csv")


@pytest.mark.parametrize(
    ("there", "found"),
    [
        (["x.csv"], "x.csv"),
        (["X.CSV"], "X.CSV"),
        (["x.CSV.GZ"], "x.CSV.GZ"),
        (["X.CSV.GZ", "x.csv.gz"], "x.csv.gz"),
        (["x.csv.gz", "x.csv"], "x.csv"),
        (["xy.csv", "x.csv.bak", "x.txt"], None),
    ],
)
def test_file_is_found_in_upper_or_lower_case(tmp_path: Path, there: list[str], found: str | None) -> None:
    for name in there:
        (tmp_path / name).touch()
    assert beat.find_csv(tmp_path, "x") == (None if found is None else tmp_path / found)


def test_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.csv"):
        beat.read_windows(tmp_path / "none.csv")


def test_genuine_kaggle_rows_are_read(ecg_data: Path) -> None:
    windows, labels = beat.read_windows(ecg_data / "kaggle_fragments" / "ptbdb_abnormal_first11.csv")
    assert windows.shape == (11, 187)
    assert labels is not None
    assert set(labels.tolist()) == {1}


def _row(previous_s: float, next_s: float, median_s: float) -> list[float]:
    rows = beat.rr_context([previous_s], [next_s], [median_s])
    assert rows.shape == (1, 3)
    assert rows.dtype == np.float32
    return [round(value, 6) for value in rows[0].tolist()]


def test_rr_context_is_previous_next_and_median_in_seconds() -> None:
    assert beat.RR_CONTEXT == ("previous_rr_s", "next_rr_s", "median_rr_s")
    assert _row(0.5, 1.1, 0.8) == [0.5, 1.1, 0.8]
    assert beat.rr_context([0.5, 0.75], [0.75, 0.5], [1.0, 1.25]).tolist() == [[0.5, 0.75, 1.0], [0.75, 0.5, 1.25]]


def test_median_stands_in_for_an_unknown_interval() -> None:
    assert _row(np.nan, 1.1, 0.8) == [0.8, 1.1, 0.8]
    assert _row(0.5, np.nan, 0.8) == [0.5, 0.8, 0.8]


def test_an_interval_counts_for_at_most_two_medians() -> None:
    assert _row(1.7, 1.5, 0.8) == [1.6, 1.5, 0.8]
    assert _row(0.8, 30.0, 0.8) == [0.8, 1.6, 0.8]
    assert _row(np.inf, np.inf, 0.8) == [1.6, 1.6, 0.8]


def test_rr_context_of_no_beats_has_no_rows() -> None:
    assert beat.rr_context([], [], []).shape == (0, 3)


@pytest.mark.parametrize(
    ("intervals", "message"),
    [
        (([0.8], [0.8, 0.8], [0.8]), r"got the shapes \(1,\), \(2,\) and \(1,\), expected one \(n,\)"),
        ((0.8, 0.8, 0.8), r"got the shapes \(\), \(\) and \(\)"),
        (([[0.8]], [[0.8]], [[0.8]]), r"got the shapes \(1, 1\)"),
        (([0.8, 0.8], [0.8, 0.8], [0.8, np.nan]), "Median RR interval of beat 1: got nan s, expected finite"),
        (([0.8], [0.8], [np.inf]), "got inf s, expected finite and more than 0 s"),
        (([0.8], [0.8], [0.0]), "got 0 s, expected finite and more than 0 s"),
        (([0.8, -0.1], [0.8, 0.8], [0.8, 0.8]), "Previous RR interval of beat 1: got -0.1 s, expected 0 s or more"),
        (([0.8], [-np.inf], [0.8]), "Next RR interval of beat 0: got -inf s"),
    ],
)
def test_intervals_that_no_beats_can_have_are_refused(intervals: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        beat.rr_context(*intervals)  # type: ignore[arg-type] # one of them is what must be refused


@pytest.mark.parametrize(
    ("rr", "message"),
    [
        (np.ones((2, 2)), r"shape \(n, 3\): got \(2, 2\)"),
        (np.ones(3), r"shape \(n, 3\): got \(3,\)"),
        ([[0.8, 0.8, 0.8], [0.8, np.nan, 0.8]], r"got \[0.8, nan, 0.8\] for beat 1"),
        ([[0.8, -0.1, 0.8]], "finite and 0 s or more"),
        (np.full((1, 3), "x"), "must be numbers"),
    ],
)
def test_rr_context_of_another_kind_is_refused(rr: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        beat.check_rr(rr)


def test_what_rr_context_makes_passes_its_check() -> None:
    rows = beat.rr_context([np.nan, 0.0], [np.inf, 0.4], [0.8, 0.9])
    assert beat.check_rr(rows.astype(np.float64)).tolist() == rows.tolist()
