from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from training import data, split


def toy(patients: list[str], labels: list[int], copies_of: list[int], given_: list[str] | None = None) -> data.Beats:
    """Beats of some patients; rows with the same number in `copies_of` are equal windows."""
    windows = np.zeros((len(labels), 187), np.float32)
    windows[:, 0] = (np.array(copies_of) + 1) / 1000
    n = len(labels)
    return data.Beats(
        windows,
        np.array(labels, np.int64),
        data.BINARY,
        np.array(patients),
        np.full(n, "toy"),
        np.array(given_ if given_ is not None else [""] * n),
        np.full(n, ""),
        np.full((n, 3), np.nan, np.float32),
        pd.DataFrame(index=range(n)),
    )


@settings(suppress_health_check=[HealthCheck.filter_too_much], max_examples=60)
@given(
    rows=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 30)), min_size=40, max_size=80),
    seed=st.integers(0, 99),
    kind=st.sampled_from(["patient", "beat"]),
)
def test_no_patient_and_no_copy_of_a_window_is_in_two_parts(
    rows: list[tuple[int, int]], seed: int, kind: Literal["patient", "beat"]
) -> None:
    # Copies within a class: a window is of class (number mod 2), as is its patient.
    patients = [f"toy/{2 * (patient // 2) + copy % 2}" for patient, copy in rows]
    beats = toy(patients, [copy % 2 for _, copy in rows], [copy for _, copy in rows])
    try:
        parts = split.split_beats(beats, kind, seed)
    except ValueError as error:
        assert "to split by patient" in str(error)  # noqa: PT017 # few connected groups are rightly refused
        return
    keys = [copy for _, copy in rows] if kind == "beat" else patients
    for key in set(keys):
        assert len({part for part, of_row in zip(parts, keys, strict=True) if of_row == key}) == 1
    copies = [copy for _, copy in rows]
    for key in set(copies):
        assert len({part for part, of_row in zip(parts, copies, strict=True) if of_row == key}) == 1


def test_both_classes_are_in_every_part_and_the_seed_decides_which_beats(write_beats: Callable[..., Path]) -> None:
    beats = data.load_beats([write_beats(patients=8)])
    parts = split.split_beats(beats, "patient", 0)
    for part in split.PARTS:
        assert set(beats.labels[parts == part]) == {0, 1}
    np.testing.assert_array_equal(parts, split.split_beats(beats, "patient", 0))
    assert (parts != split.split_beats(beats, "patient", 1)).any()


def test_beat_split_ignores_patients_and_patient_split_needs_them(write_beats: Callable[..., Path]) -> None:
    beats = data.load_beats([write_beats(patients=3, beats=20)])
    parts = split.split_beats(beats, "beat", 0)
    assert len(set(parts[beats.patients == "toy/normal0"])) > 1
    assert split.split_kinds(beats, "patient") == {"toy": "patient"}
    nameless = data.load_beats([write_beats(name="nameless", side=False)])
    assert split.split_kinds(nameless, "patient") == {"nameless": "beat", "toy": "patient"}


def test_patients_larger_than_a_part_stay_in_train() -> None:
    patients = (
        ["big"] * 60 + ["large"] * 40 + [f"p{i}" for i in range(10) for _ in range(8)] + [f"n{i}" for i in range(10)]
    )
    labels = [1] * 180 + [0] * 10
    beats = toy(patients, labels, list(range(190)))
    for seed in range(20):
        parts = split.split_beats(beats, "patient", seed)
        assert set(parts[:100]) == {"train"}
        assert set(parts[100:180]) == {"train", "val", "test"}


def test_few_patients_are_divided_even_if_each_is_larger_than_a_part() -> None:
    patients = [name for name in ("a", "b", "c", "d", "e", "f") for _ in range(20)]
    parts = split.split_beats(toy(patients, [i // 60 for i in range(120)], list(range(120))), "patient", 0)
    assert [set(parts[60 * label :][:60]) for label in (0, 1)] == [{"train", "val", "test"}] * 2


def test_published_split_is_respected_and_its_val_is_shared_with_test() -> None:
    patients = [f"p{i}" for i in range(16)]
    labels = [i % 2 for i in range(16)]
    sides = ["train"] * 8 + ["val"] * 8
    parts = split.split_beats(toy(patients, labels, list(range(16)), sides), "patient", 0)
    assert set(parts[:8]) == {"train"}
    assert sorted(parts[8:]) == ["test"] * 4 + ["val"] * 4


def test_published_split_with_a_patient_on_both_sides_is_refused() -> None:
    beats = toy(["a", "a", "b", "c"], [0, 0, 1, 1], [0, 1, 2, 3], ["train", "val", "train", "val"])
    with pytest.raises(ValueError, match="got 'a', or a copy of one of its windows, in train and in val"):
        split.split_beats(beats, "patient", 0)


def test_published_split_with_a_copy_on_both_sides_is_refused() -> None:
    beats = toy(["a", "b", "c", "d"], [0, 0, 1, 1], [0, 0, 2, 3], ["train", "val", "train", "val"])
    with pytest.raises(ValueError, match="a copy of one of its windows"):
        split.split_beats(beats, "patient", 0)


def test_copy_of_a_published_train_row_in_another_data_set_goes_to_train_with_its_patient() -> None:
    published = toy(
        [f"p{i}" for i in range(12)], [i % 2 for i in range(12)], list(range(12)), ["train"] * 8 + ["val"] * 4
    )
    others = [f"q{i}" for i in range(12)]
    other = replace(toy(others, [i % 2 for i in range(12)], [0, 1, *range(20, 30)]), datasets=np.full(12, "other"))
    both = data.join([published, other])
    for seed in range(10):
        assert set(split.split_beats(both, "patient", seed)[12:14]) == {"train"}


def test_too_few_patients_to_split_are_refused() -> None:
    beats = toy(["a", "b", "c", "d", "e"], [0, 0, 1, 1, 1], list(range(5)))
    with pytest.raises(ValueError, match="toy, normal: got 2 patients, expected at least 3"):
        split.split_beats(beats, "patient", 0)


def test_hash_of_rows_changes_with_a_window_a_label_or_a_part() -> None:
    beats = toy(["a", "b"], [0, 1], [0, 1])
    parts = np.array(["train", "test"])
    before = split.hash_rows(beats, parts)
    assert before == split.hash_rows(toy(["x", "y"], [0, 1], [0, 1]), parts)
    assert before != split.hash_rows(toy(["a", "b"], [0, 1], [0, 2]), parts)
    assert before != split.hash_rows(toy(["a", "b"], [1, 1], [0, 1]), parts)
    assert before != split.hash_rows(beats, np.array(["train", "val"]))


def test_folds_keep_patients_together_and_share_every_class_evenly() -> None:
    rng = np.random.default_rng(0)
    patients = [f"p{i}" for i in rng.integers(0, 40, 2000)]
    labels = [int(patient[1:]) % 2 for patient in patients]
    beats = toy(patients, labels, list(range(2000)))
    fold = split.fold_beats(beats, "patient", 5, 0)
    for patient in set(patients):
        assert len(set(fold[np.array(patients) == patient])) == 1
    for label in (0, 1):
        counts = np.bincount(fold[beats.labels == label], minlength=5)
        assert counts.min() > 0.7 * counts.max()
    assert (fold != split.fold_beats(beats, "patient", 5, 1)).any()


def test_more_folds_than_patients_are_refused() -> None:
    beats = toy(["a", "b", "c", "d", "e", "f"], [0, 0, 0, 0, 1, 1], list(range(6)))
    with pytest.raises(ValueError, match="toy, abnormal: got 2 patients, expected at least 3"):
        split.fold_beats(beats, "patient", 3, 0)


def test_published_test_rows_stay_in_test_and_val_comes_out_of_train() -> None:
    sides = ["train"] * 80 + ["test"] * 20
    beats = toy([f"p{i}" for i in range(100)], [i % 2 for i in range(100)], list(range(100)), sides)
    parts = split.split_beats(beats, "patient", 0)
    assert set(parts[80:]) == {"test"}
    assert sorted(set(parts[:80])) == ["train", "val"]
    assert np.count_nonzero(parts == "val") == pytest.approx(10, abs=4)


def test_real_patients_are_in_one_part_each(ecg_data: Path) -> None:
    beats = data.load_beats([ecg_data / "ptbdb", ecg_data / "ptbxl"])
    assert len(beats) == 932 + 11197 + 10318
    parts = split.split_beats(beats, "patient", 0)
    sides = {part: set(beats.patients[parts == part]) for part in split.PARTS}
    assert not sides["train"] & sides["val"]
    assert not sides["train"] & sides["test"]
    assert not sides["val"] & sides["test"]
    assert set(parts[beats.given == "train"]) == {"train"}
    for name in beats.names():
        for part in split.PARTS:
            assert set(beats.labels[(beats.datasets == name) & (parts == part)]) == {0, 1}
