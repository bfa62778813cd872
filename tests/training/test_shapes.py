"""Recordings cut into windows of the task normal or abnormal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from monitor import beat
from tests.training.test_wearers import make_source
from training import shapes
from training.data import BINARY
from training.shapes import ABNORMAL, MOST, NORMAL, cut, read_shapes
from training.wearers import UNKNOWN, N

NONE = np.zeros(0, np.int64)


def _with_symbols(symbols: dict[int, str]) -> tuple[beat.Windows, list[int]]:
    source = make_source()
    named = tuple(symbols.get(i, "N") for i in range(source.marks.size))
    windows, labels = cut(replace(source, symbols=named), 1)
    return windows, labels.tolist()


def test_beats_of_bundle_branch_block_are_abnormal_and_premature_ones_of_normal_shape_are_left_out() -> None:
    _, all_normal = _with_symbols({})
    _, labels = _with_symbols({20: "L", 21: "R", 30: "V", 40: "A", 41: "/"})
    assert labels.count(ABNORMAL) == 3
    assert len(labels) == len(all_normal) - 2


def test_windows_are_those_of_the_beat_contract() -> None:
    windows, _ = _with_symbols({})
    assert windows.shape[1] == beat.LENGTH
    assert windows.dtype == np.float32
    assert windows.min() == 0
    assert windows.max() == 1
    assert np.median(windows[:, 0]) > 0.9  # it begins at the R peak


def test_upside_down_the_r_peak_is_another_sample() -> None:
    source = replace(make_source(), symbols=("N",) * 60)
    (upright, _), (inverted, _) = cut(source, 1), cut(source, -1)
    mirrored = 1 - upright[5]
    assert np.abs(inverted[5][: mirrored.size] - mirrored).max() > 0.2


def test_of_one_lead_only_so_many_beats_are_taken() -> None:
    source = make_source(beats=3 * MOST)
    whole = replace(source, marks=NONE, labels=NONE, otherwise=N)
    _, labels = cut(whole, 1)
    assert labels.tolist() == [NORMAL] * MOST


def test_only_what_is_known_to_be_normal_counts() -> None:
    source = make_source()
    spans = replace(source, marks=NONE, labels=NONE, rhythms=((0.0, 2500.0, N),), otherwise=UNKNOWN)
    whole = replace(spans, rhythms=(), otherwise=N)
    some, every = cut(spans, 1)[1].size, cut(whole, 1)[1].size
    assert 0 < some < every


def test_a_database_upside_down_is_a_data_set_of_its_own_with_the_same_people(monkeypatch: pytest.MonkeyPatch) -> None:
    made = replace(make_source(), symbols=("N",) * 60)
    monkeypatch.setitem(shapes.WHOLE, "mitdb", lambda _: iter([made]))
    beats = read_shapes([Path("mitdb")])
    assert beats.names() == ["mitdb recordings", "mitdb recordings, inverted"]
    assert set(beats.patients.tolist()) == {"mitdb/1"}
    assert beats.classes == BINARY


def test_folders_without_beats_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(shapes.WHOLE, "mitdb", lambda _: iter([]))
    with pytest.raises(ValueError, match="Recordings: got no beats in mitdb"):
        read_shapes([Path("mitdb")])


def test_clean_seconds_of_healthy_people_are_normal_and_others_are_left_out(tmp_path: Path) -> None:
    signal = make_source().samples_uv
    steps = np.repeat(signal / 5 + 2048, 2)  # 500 Hz
    grades = [(0, steps.size // 2, 1), (steps.size // 2, steps.size, 4)]
    folder = tmp_path / "motion_artefacts"
    folder.mkdir()
    np.savez(folder / "01_01_klud.npz", time=np.arange(steps.size) / 500, adc=steps, grade=np.array(grades))
    beats = read_shapes([folder])
    upright = beats.datasets == "motion_artefacts recordings"
    assert 20 < np.count_nonzero(upright) < 40  # of 60
    assert set(beats.labels.tolist()) == {NORMAL}
    assert set(beats.patients.tolist()) == {"motion_artefacts/01"}
