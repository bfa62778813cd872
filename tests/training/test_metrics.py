from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training import metrics

LABELS = np.array([0, 0, 0, 1, 1])
ABNORMAL = np.array([0.1, 0.2, 0.7, 0.6, 0.9])
RECORDS = np.array(["a", "a", "b", "c", "d"])
TWO = ("normal", "abnormal")
FIVE = ("N", "S", "V", "F", "Q")


def columns(p: np.ndarray) -> np.ndarray:
    """Probabilities of two classes from those of the second."""
    return np.stack([1 - p, p], axis=1)


def test_figures_of_a_case_worked_by_hand() -> None:
    assert metrics.figures(LABELS, columns(ABNORMAL), 0.65, TWO, RECORDS) == {
        "beats": 5,
        "accuracy": 3 / 5,
        "balanced_accuracy": pytest.approx((1 / 2 + 2 / 3) / 2),
        "sensitivity": 1 / 2,
        "specificity": 2 / 3,
        "ppv": 1 / 2,
        "f1": 1 / 2,
        "roc_auc": pytest.approx(5 / 6),
        "pr_auc": pytest.approx(0.5 * 1 + 0.5 * 2 / 3),
        "brier": pytest.approx((0.01 + 0.04 + 0.49 + 0.16 + 0.01) / 5),
        "calibration_error": pytest.approx((0.1 + 0.2 + 0.7 + 0.4 + 0.1) / 5),
        "sensitivity_at_95": 0.5,
        "record_auc": pytest.approx(3 / 4),
    }


def test_figures_of_five_classes_worked_by_hand() -> None:
    labels = np.array([0, 0, 1, 2, 2, 3])
    p = np.eye(5)[[0, 2, 1, 2, 0, 2]] * 0.9 + 0.02
    found = metrics.figures(labels, p, 0.5, FIVE, np.full(6, ""))
    assert found["class_accuracy"] == pytest.approx(3 / 6)
    assert found["sensitivity V"] == 1 / 2
    assert found["ppv V"] == pytest.approx(1 / 3)
    assert found["f1 N"] == pytest.approx(2 * 1 / (2 + 2))
    assert found["macro_f1"] == pytest.approx((1 / 2 + 1 + 2 / 5 + 0) / 4)
    assert math.isnan(found["record_auc"])


def test_abnormal_beat_gets_its_most_probable_class_even_below_that_of_normal() -> None:
    p = np.array([[0.45, 0.1, 0.3, 0.1, 0.05]])
    assert metrics.predict_classes(p, np.array([True])).tolist() == [2]
    assert metrics.predict_classes(p, np.array([False])).tolist() == [0]


def test_beat_at_the_threshold_is_abnormal() -> None:
    assert metrics.figures(LABELS, columns(ABNORMAL), 1 - (1 - 0.6), TWO, RECORDS)["sensitivity"] == 1


def test_figure_that_needs_a_missing_class_is_nan() -> None:
    row = metrics.figures(np.array([0, 0]), columns(np.array([0.1, 0.2])), 0.5, TWO, np.array(["a", "b"]))
    for name in ("roc_auc", "pr_auc", "sensitivity", "sensitivity_at_95", "record_auc"):
        assert math.isnan(row[name]), name
    assert row["specificity"] == 1


scored = st.lists(st.tuples(st.booleans(), st.integers(0, 10)), min_size=2, max_size=30).filter(
    lambda rows: len({label for label, _ in rows}) == 2
)


@given(scored)
def test_auc_is_the_fraction_of_pairs_ranked_correctly(rows: list[tuple[bool, int]]) -> None:
    pairs = [(a > b) + (a == b) / 2 for la, a in rows if la for lb, b in rows if not lb]
    true, scores = (np.array(column) for column in zip(*rows, strict=True))
    assert metrics.auc(true, scores / 10) == pytest.approx(np.mean(pairs))
    false, sensitivity = metrics.roc_curve(true, scores / 10)
    area = sum((b - a) * (c + d) / 2 for (a, b), (c, d) in zip(pairwise(false), pairwise(sensitivity), strict=True))
    assert area == pytest.approx(np.mean(pairs))


@given(scored)
def test_average_precision_is_the_mean_ppv_at_each_abnormal_beat(rows: list[tuple[bool, int]]) -> None:
    true, scores = (np.array(column) for column in zip(*rows, strict=True))
    at_each = [true[scores >= score].mean() for score in scores[true]]
    assert metrics.average_precision(true, scores / 10) == pytest.approx(np.mean(at_each))


@given(scored)
def test_no_threshold_beats_the_best_one(rows: list[tuple[bool, int]]) -> None:
    true, scores = (np.array(column) for column in zip(*rows, strict=True))
    p = scores / 11  # no threshold lies above a probability of exactly 1

    def balanced(cut: float) -> float:
        return float(np.mean((p >= cut)[true]) + np.mean((p < cut)[~true]))

    assert balanced(metrics.best_threshold(true, p)) >= max(balanced(cut) for cut in np.linspace(0, 1, 201)) - 1e-12


def test_operating_point_of_five_classes_raises_underpredicted_classes_and_rows_still_sum_to_one() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice(5, 600, p=[0.7, 0.1, 0.1, 0.1, 0])
    logits = rng.normal(0, 1, (600, 5)) + 2.5 * np.eye(5)[labels] - np.array([0, 3, 3, 0, 3])
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    patients = np.where(labels == 3, "a", rng.choice(["a", "b", "c"], 600))
    point = metrics.choose_point(labels, p, FIVE, patients)
    moved = point.apply(p)
    np.testing.assert_allclose(moved.sum(axis=1), 1, atol=1e-6)
    before, after = (metrics.figures(labels, one, 0.5, FIVE, np.full(600, ""))["macro_f1"] for one in (p, moved))
    assert after > before + 0.1
    assert min(point.offsets[1:3]) > 0
    assert point.offsets[3] == pytest.approx(np.log((labels == 3).sum() / (labels == 0).sum()) / 2)  # one patient's


def test_interval_of_few_patients_is_wider_than_that_of_as_many_beats() -> None:
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(20), 50)
    labels = (patients % 2).astype(np.int64)
    p = 1 / (1 + np.exp(-(labels + rng.normal(0, 1, 20)[patients] + rng.normal(0, 0.1, 1000))))
    given_ = (labels, columns(p), np.full(1000, 0.5), TWO, np.full(1000, ""))
    by_patient = metrics.intervals(*given_, patients.astype(np.str_))["roc_auc"]
    by_beat = metrics.intervals(*given_, np.full(1000, ""))["roc_auc"]
    auc = metrics.auc(labels > 0, p)
    assert by_patient[0] < by_beat[0] < auc < by_beat[1] < by_patient[1]


def test_interval_of_records_counts_a_patient_drawn_twice_as_two() -> None:
    patients = np.array(["a", "b", "c", "d"])
    labels = np.array([0, 0, 1, 1])
    p = columns(np.array([0.1, 0.6, 0.5, 0.9]))
    found = metrics.intervals(labels, p, np.full(4, 0.5), TWO, patients, patients)
    assert found["record_auc"] == pytest.approx(found["roc_auc"])
