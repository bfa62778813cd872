"""Figures of a binary judgement: labels and probabilities in, numbers out. Knows nothing of networks or files."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

Figures = dict[str, float]
Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]


def figures(labels: Ints, probabilities: Floats, threshold: float) -> Figures:
    """Figures of a model on one part.

    Parameters
    ----------
    labels
        (n,) 0 normal, 1 abnormal.
    probabilities
        (n,) probability of being abnormal.
    threshold
        Probability from which a beat counts as abnormal.

    Returns
    -------
    dict
        "beats", "accuracy", "balanced_accuracy", "sensitivity", "specificity", "ppv", "f1", "auc"; a figure that
        needs a class which is not there is NaN.
    """
    said = probabilities >= threshold
    abnormal = labels == 1
    true_positives, false_positives = _count(said & abnormal), _count(said & ~abnormal)
    sensitivity = _ratio(true_positives, _count(abnormal))
    specificity = _ratio(_count(~said & ~abnormal), _count(~abnormal))
    missed = _count(~said & abnormal)
    return {
        "beats": float(len(labels)),
        "accuracy": _ratio(_count(said == abnormal), len(labels)),
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "sensitivity": sensitivity,
        "specificity": specificity,
        "ppv": _ratio(true_positives, true_positives + false_positives),
        "f1": _ratio(2 * true_positives, 2 * true_positives + false_positives + missed),
        "auc": auc(labels, probabilities),
    }


def _count(rows: npt.NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(rows))


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")


def auc(labels: Ints, probabilities: Floats) -> float:
    """Area under the ROC curve: the chance that an abnormal beat is ranked above a normal one (Mann-Whitney U)."""
    abnormal = labels == 1
    positives, negatives = _count(abnormal), _count(~abnormal)
    ranks = rankdata(probabilities)
    return _ratio(float(ranks[abnormal].sum()) - positives * (positives + 1) / 2, positives * negatives)


def best_threshold(labels: Ints, probabilities: Floats) -> float:
    """Threshold of the highest balanced accuracy, halfway between the two probabilities it parts."""
    order = np.argsort(probabilities, kind="stable")
    p, abnormal = probabilities[order].astype(np.float64), labels[order] == 1
    # With the cut before position i, those below are said to be normal: i = 0..n.
    sensitivity = 1 - np.concatenate([[0], np.cumsum(abnormal)]) / max(1, _count(abnormal))
    specificity = np.concatenate([[0], np.cumsum(~abnormal)]) / max(1, _count(~abnormal))
    cuts = np.concatenate([[0.0], (p[1:] + p[:-1]) / 2, [1.0]])
    balanced = sensitivity + specificity
    balanced[1:-1][p[1:] == p[:-1]] = -1  # equal probabilities cannot be parted
    best = np.flatnonzero(balanced == balanced.max())
    return float(cuts[best[len(best) // 2]])
