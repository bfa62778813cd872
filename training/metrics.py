"""Metrics of a classifier: labels and probabilities in, numbers out. Knows nothing about networks or files.

Class 0 is normal; every other class counts as abnormal, with the probability 1 - P(class 0).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from training.data import Strings

Figures = dict[str, float]
Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

SPECIFICITY = 0.95
"""At which the sensitivity is reported."""
RESAMPLES = 200
"""Of the bootstrap."""
BINS = 10
"""Of the expected calibration error."""
MACRO = ("N", "S", "V", "F")
"""Classes of the macro-averaged F1 of MIT-BIH; Q is left out, as usual: it is almost absent from AAMI's records."""


def figures(
    labels: Ints, probabilities: Floats, threshold: Floats | float, classes: Sequence[str], records: Strings
) -> Figures:
    """Compute the figures of a model on some beats.

    Parameters
    ----------
    labels
        (n,) class numbers.
    probabilities
        (n, classes).
    threshold
        Probability of not being normal from which a beat counts as abnormal; one for all, or (n,).
    classes
        Their names, the normal one first.
    records
        (n,) the record of each beat; empty where unknown.

    Returns
    -------
    dict
        "beats", "accuracy", "balanced_accuracy", "sensitivity", "specificity", "ppv", "f1", "roc_auc", "pr_auc",
        "brier", "calibration_error", "sensitivity_at_95", "record_auc", all of abnormal against normal. With more
        than two classes also "class_accuracy", "macro_f1", and "sensitivity V", "ppv V", "f1 V" of each class. A
        figure that needs a class that does not occur is NaN.
    """
    return _figures(labels, probabilities, threshold, classes, _numbered(records))


def _figures(
    labels: Ints, probabilities: Floats, threshold: Floats | float, classes: Sequence[str], record: Ints | None
) -> Figures:
    p = abnormal(probabilities)
    true = labels > 0
    predicted = p >= threshold
    found = {"beats": float(len(labels)), **_binary(true, predicted), **_ranked(true, p)}
    found["record_auc"] = float("nan") if record is None else _record_auc(true, p, record)
    if len(classes) > 2:
        found |= _many(labels, predict_classes(probabilities, predicted), classes)
    return found


def _numbered(records: Strings) -> Ints | None:
    """Number of each beat's record; None if some are unknown."""
    names, number = np.unique(records, return_inverse=True)
    return None if "" in names else number.astype(np.int64)


def known(figures: Figures) -> Figures:
    """The figures that are not NaN, which JSON cannot represent."""
    return {name: value for name, value in figures.items() if math.isfinite(value)}


def abnormal(probabilities: Floats) -> Floats:
    """Probability of not being normal: (n, classes) -> (n,)."""
    p: Floats = 1 - probabilities[:, 0]
    return p


def predict_classes(probabilities: Floats, is_abnormal: Flags) -> Ints:
    """Class of each beat (n,): normal, or where `is_abnormal` (n,), the most probable abnormal class."""
    return np.where(is_abnormal, 1 + probabilities[:, 1:].argmax(axis=1), 0)


def _binary(true: Flags, predicted: Flags) -> Figures:
    true_positives, false_positives = _count(predicted & true), _count(predicted & ~true)
    sensitivity = _ratio(true_positives, _count(true))
    specificity = _ratio(_count(~predicted & ~true), _count(~true))
    missed = _count(~predicted & true)
    return {
        "accuracy": _ratio(_count(predicted == true), len(true)),
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "sensitivity": sensitivity,
        "specificity": specificity,
        "ppv": _ratio(true_positives, true_positives + false_positives),
        "f1": _ratio(2 * true_positives, 2 * true_positives + false_positives + missed),
    }


def _ranked(true: Flags, p: Floats) -> Figures:
    return {
        "roc_auc": auc(true, p),
        "pr_auc": average_precision(true, p),
        "brier": float(np.mean((p - true) ** 2)) if len(p) else float("nan"),
        "calibration_error": calibration_error(true, p),
        "sensitivity_at_95": sensitivity_at(true, p, SPECIFICITY),
    }


def _many(labels: Ints, predicted_classes: Ints, classes: Sequence[str]) -> Figures:
    found = {"class_accuracy": _ratio(_count(labels == predicted_classes), len(labels))}
    for number, name in enumerate(classes):
        hits = _count((labels == number) & (predicted_classes == number))
        of_class, predicted = _count(labels == number), _count(predicted_classes == number)
        found[f"sensitivity {name}"] = _ratio(hits, of_class)
        found[f"ppv {name}"] = _ratio(hits, predicted)
        found[f"f1 {name}"] = _ratio(2 * hits, of_class + predicted)
    counted = [found[f"f1 {name}"] for name in classes if name in MACRO]
    found["macro_f1"] = float(np.mean(counted)) if counted else float("nan")
    return found


def _count(rows: Flags) -> int:
    return int(np.count_nonzero(rows))


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")


def auc(true: Flags, p: Floats) -> float:
    """Area under the ROC curve: the chance that an abnormal beat is ranked above a normal one (Mann-Whitney U)."""
    positives, negatives = _count(true), _count(~true)
    ranks = rankdata(p)
    return _ratio(float(ranks[true].sum()) - positives * (positives + 1) / 2, positives * negatives)


def roc_curve(true: Flags, p: Floats) -> tuple[Floats, Floats]:
    """False positive rate and sensitivity at each threshold, from none predicted abnormal to all."""
    hits, false, _ = _cumulated(true, p)
    return false / max(1, _count(~true)), hits / max(1, _count(true))


def pr_curve(true: Flags, p: Floats) -> tuple[Floats, Floats]:
    """Sensitivity and PPV at each threshold."""
    hits, _, predicted = _cumulated(true, p)
    return hits[1:] / max(1, _count(true)), hits[1:] / predicted[1:]


def _cumulated(true: Flags, p: Floats) -> tuple[Floats, Floats, Floats]:
    """True positives, false positives and both, at each threshold, descending; first for none predicted."""
    order = np.argsort(-p, kind="stable")
    last_of_equals = np.append(np.diff(p[order]) != 0, True)
    hits = np.append(0.0, np.cumsum(true[order])[last_of_equals])
    predicted = np.append(0.0, np.flatnonzero(last_of_equals) + 1.0)
    return hits, predicted - hits, predicted


def average_precision(true: Flags, p: Floats) -> float:
    """Area under the precision-recall curve, as the sum of PPV times the increase of sensitivity."""
    if not true.any():
        return float("nan")
    sensitivity, ppv = pr_curve(true, p)
    return float(np.sum(np.diff(sensitivity, prepend=0.0) * ppv))


def sensitivity_at(true: Flags, p: Floats, specificity: float) -> float:
    """Highest sensitivity of any threshold with at least the given specificity."""
    if not true.any() or true.all():
        return float("nan")
    false, sensitivity = roc_curve(true, p)
    return float(sensitivity[false <= 1 - specificity + 1e-12].max())


def calibration(true: Flags, p: Floats) -> tuple[Floats, Floats, Ints]:
    """Mean probability, fraction of abnormal beats and number of beats, in each of ten equal bins of probability."""
    bins = np.minimum((p * BINS).astype(int), BINS - 1)
    n = np.bincount(bins, minlength=BINS)
    with np.errstate(invalid="ignore"):
        return (
            np.bincount(bins, weights=p, minlength=BINS) / n,
            np.bincount(bins, weights=true, minlength=BINS) / n,
            n.astype(np.int64),
        )


def calibration_error(true: Flags, p: Floats) -> float:
    """Expected calibration error: mean absolute difference of the two, weighted by beats (Naeini et al. 2015)."""
    if not len(p):
        return float("nan")
    predicted, observed, n = calibration(true, p)
    return float(np.nansum(np.abs(predicted - observed) * n) / n.sum())


def _record_auc(true: Flags, p: Floats, record: Ints) -> float:
    """ROC-AUC of records, by the mean probability of their beats; NaN unless every record has one class of beats."""
    of_row = np.unique(record, return_inverse=True)[1]
    n = np.bincount(of_row)
    abnormal_fraction = np.bincount(of_row, weights=true) / n
    if not np.isin(abnormal_fraction, [0, 1]).all():
        return float("nan")
    return auc(abnormal_fraction == 1, np.bincount(of_row, weights=p) / n)


def best_threshold(true: Flags, p: Floats) -> float:
    """Threshold of the highest balanced accuracy, halfway between the two probabilities that it separates."""
    order = np.argsort(p, kind="stable")
    sorted_p, is_abnormal = p[order].astype(np.float64), true[order]
    # With the threshold before position i, the beats below it are predicted normal: i = 0..n.
    sensitivity = 1 - np.concatenate([[0], np.cumsum(is_abnormal)]) / max(1, _count(is_abnormal))
    specificity = np.concatenate([[0], np.cumsum(~is_abnormal)]) / max(1, _count(~is_abnormal))
    cuts = np.concatenate([[0.0], (sorted_p[1:] + sorted_p[:-1]) / 2, [1.0]])
    balanced = sensitivity + specificity
    balanced[1:-1][sorted_p[1:] == sorted_p[:-1]] = -1  # equal probabilities cannot be separated
    best = np.flatnonzero(balanced == balanced.max())
    return float(cuts[best[len(best) // 2]])


@dataclass(frozen=True)
class OperatingPoint:
    """An operating point: when a beat counts as abnormal, and as which class."""

    threshold: float
    """Probability of not being normal from which a beat counts as abnormal."""
    offsets: tuple[float, ...]
    """(classes,) to add to the logits."""

    def apply(self, probabilities: Floats) -> Floats:
        """Apply the offsets to probabilities: (n, classes) -> (n, classes)."""
        weighed = probabilities * np.exp(self.offsets)
        moved: Floats = (weighed / weighed.sum(axis=1, keepdims=True)).astype(np.float32)
        return moved


def choose_point(labels: Ints, probabilities: Floats, classes: Sequence[str], patients: Strings) -> OperatingPoint:
    """Return the best operating point on some beats, which must be used neither for training nor for evaluation.

    For two classes: the threshold of the highest balanced accuracy. For more: a threshold of one half, and offsets to
    the logits. They start where they compensate that training samples a class by the square root of its size; those of
    classes that several patients have are then optimised for the highest macro F1, class by class. The offset of a
    class that is mostly one patient's is not optimised: it would fit that patient.

    Parameters
    ----------
    labels, probabilities
        (n,) and (n, classes).
    classes
        Their names, the normal one first.
    patients
        (n,)
    """
    if len(classes) == 2:
        return OperatingPoint(best_threshold(labels > 0, abnormal(probabilities)), (0.0, 0.0))
    counts = np.bincount(labels, minlength=len(classes)).clip(1)
    offsets = np.log(counts / counts[0]) / 2
    tried = [
        number
        for number, name in enumerate(classes)
        if number and name in MACRO and _shared(labels == number, patients)
    ]

    def score(candidate: Floats) -> float:
        moved = OperatingPoint(0.5, tuple(candidate)).apply(probabilities)
        found = _many(labels, predict_classes(moved, abnormal(moved) >= 0.5), classes)
        return float(np.nansum([found[f"f1 {name}"] for name in MACRO]))

    best = score(offsets)
    for _ in range(3):
        for number in tried:
            for value in np.linspace(-4, 4, 33):
                candidate = offsets.copy()
                candidate[number] = value
                if (reached := score(candidate)) > best + 1e-9:
                    best, offsets = reached, candidate
    return OperatingPoint(0.5, tuple(offsets.tolist()))


def _shared(of_class: Flags, patients: Strings) -> bool:
    """Whether no patient has more than half of a class's beats; assumed where the patients are unknown."""
    if not of_class.any():
        return False
    names, counts = np.unique(patients[of_class], return_counts=True)
    return names[0] == "" or bool(counts.max() <= counts.sum() / 2)


def intervals(
    labels: Ints,
    probabilities: Floats,
    threshold: Floats,
    classes: Sequence[str],
    records: Strings,
    patients: Strings,
) -> dict[str, tuple[float, float]]:
    """95 % bootstrap interval of each figure: patients are resampled with replacement, with all their beats.

    Parameters
    ----------
    labels, probabilities, classes, records
        See `figures`.
    threshold
        (n,)
    patients
        (n,); a beat of an unknown patient is resampled by itself.

    Returns
    -------
    dict
        Name of a figure -> 2.5th and 97.5th percentile (Efron and Tibshirani 1993).
    """
    rng = np.random.default_rng(0)
    names = np.where(patients == "", np.char.add("row ", np.arange(len(patients)).astype(np.str_)), patients)
    of_row = np.unique(names, return_inverse=True)[1]
    rows_of = np.split(np.argsort(of_row, kind="stable"), np.cumsum(np.bincount(of_row))[:-1])
    record = _numbered(records)
    drawn: list[Figures] = []
    for _ in range(RESAMPLES):
        chosen = [rows_of[i] for i in rng.integers(0, len(rows_of), len(rows_of))]
        rows = np.concatenate(chosen)
        # A patient who is drawn twice counts as two, with two sets of records.
        draw = np.repeat(np.arange(len(chosen)), [len(one) for one in chosen])
        again = None if record is None else record[rows] + draw * (record.max() + 1)
        drawn.append(_figures(labels[rows], probabilities[rows], threshold[rows], classes, again))
    return {name: _percentiles([one[name] for one in drawn]) for name in drawn[0]}


def _percentiles(values: Sequence[float]) -> tuple[float, float]:
    known = np.array(values)[np.isfinite(values)]
    if not known.size:
        return float("nan"), float("nan")
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)
