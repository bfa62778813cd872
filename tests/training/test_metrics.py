from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training import metrics

LABELS = np.array([0, 0, 0, 1, 1])
PROBABILITIES = np.array([0.1, 0.2, 0.7, 0.6, 0.9])


def test_figures_of_a_case_worked_by_hand() -> None:
    assert metrics.figures(LABELS, PROBABILITIES, 0.65) == {
        "beats": 5,
        "accuracy": 3 / 5,
        "balanced_accuracy": pytest.approx((1 / 2 + 2 / 3) / 2),
        "sensitivity": 1 / 2,
        "specificity": 2 / 3,
        "ppv": 1 / 2,
        "f1": 1 / 2,
        "auc": pytest.approx(5 / 6),
    }


def test_beat_at_the_threshold_is_abnormal() -> None:
    assert metrics.figures(LABELS, PROBABILITIES, 0.6)["sensitivity"] == 1


def test_figure_that_needs_a_missing_class_is_nan() -> None:
    row = metrics.figures(np.array([0, 0]), np.array([0.1, 0.2]), 0.5)
    assert math.isnan(row["auc"])
    assert math.isnan(row["sensitivity"])
    assert row["specificity"] == 1


scored = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 10)), min_size=2, max_size=30).filter(
    lambda rows: len({label for label, _ in rows}) == 2
)


@given(scored)
def test_auc_is_the_share_of_pairs_ranked_right(rows: list[tuple[int, int]]) -> None:
    pairs = [(a > b) + (a == b) / 2 for la, a in rows if la for lb, b in rows if not lb]
    labels, scores = (np.array(column) for column in zip(*rows, strict=True))
    assert metrics.auc(labels, scores / 10) == pytest.approx(np.mean(pairs))


@given(scored)
def test_no_threshold_beats_the_best_one(rows: list[tuple[int, int]]) -> None:
    labels, scores = (np.array(column) for column in zip(*rows, strict=True))
    p = scores / 11  # a probability of exactly 1 can be parted from nothing above it
    best = metrics.figures(labels, p, metrics.best_threshold(labels, p))["balanced_accuracy"]
    others = [metrics.figures(labels, p, cut)["balanced_accuracy"] for cut in np.linspace(0, 1, 201)]
    assert best >= max(others) - 1e-12
