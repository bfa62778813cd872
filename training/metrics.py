"""Figures of a judgement: labels and probabilities in, numbers out. Knows nothing of networks or files.

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
"""At which the sensitivity is told."""
RESAMPLES = 200
"""Of the bootstrap."""
BINS = 10
"""Of the expected calibration error."""
MACRO = ("N", "S", "V", "F")
"""Classes of the macro-averaged F1 of MIT-BIH; Q is left out, as usual: AAMI's records hold next to none."""


def figures(
    labels: Ints, probabilities: Floats, threshold: Floats | float, classes: Sequence[str], records: Strings
) -> Figures:
    """Figures of a model on some beats.

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
        (n,) which record a beat is of; empty where nobody knows.

    Returns
    -------
    dict
        "beats", "accuracy", "balanced_accuracy", "sensitivity", "specificity", "ppv", "f1", "roc_auc", "pr_auc",
        "brier", "calibration_error", "sensitivity_at_95", "record_auc", all of abnormal against normal. With more
        than two classes also "class_accuracy", "macro_f1", and "sensitivity V", "ppv V", "f1 V" of each class. A
        figure that needs a class which is not there is NaN.
    """
    return _figures(labels, probabilities, threshold, classes, _numbered(records))


def _figures(
    labels: Ints, probabilities: Floats, threshold: Floats | float, classes: Sequence[str], record: Ints | None
) -> Figures:
    p = abnormal(probabilities)
    truth = labels > 0
    said = p >= threshold
    found = {"beats": float(len(labels)), **_binary(truth, said), **_ranked(truth, p)}
    found["record_auc"] = float("nan") if record is None else _record_auc(truth, p, record)
    if len(classes) > 2:
        found |= _many(labels, decide(probabilities, said), classes)
    return found


def _numbered(records: Strings) -> Ints | None:
    """Number of each beat's record; None if some are unknown."""
    names, number = np.unique(records, return_inverse=True)
    return None if "" in names else number.astype(np.int64)


def known(figures: Figures) -> Figures:
    """Those that are no NaN, which JSON cannot hold."""
    return {name: value for name, value in figures.items() if math.isfinite(value)}


def abnormal(probabilities: Floats) -> Floats:
    """Probability of not being normal: (n, classes) -> (n,)."""
    p: Floats = 1 - probabilities[:, 0]
    return p


def decide(probabilities: Floats, said: Flags) -> Ints:
    """Class of each beat (n,): normal, or where it was `said` (n,) to be abnormal, the most probable other class."""
    return np.where(said, 1 + probabilities[:, 1:].argmax(axis=1), 0)


def _binary(truth: Flags, said: Flags) -> Figures:
    true_positives, false_positives = _count(said & truth), _count(said & ~truth)
    sensitivity = _ratio(true_positives, _count(truth))
    specificity = _ratio(_count(~said & ~truth), _count(~truth))
    missed = _count(~said & truth)
    return {
        "accuracy": _ratio(_count(said == truth), len(truth)),
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "sensitivity": sensitivity,
        "specificity": specificity,
        "ppv": _ratio(true_positives, true_positives + false_positives),
        "f1": _ratio(2 * true_positives, 2 * true_positives + false_positives + missed),
    }


def _ranked(truth: Flags, p: Floats) -> Figures:
    return {
        "roc_auc": auc(truth, p),
        "pr_auc": average_precision(truth, p),
        "brier": float(np.mean((p - truth) ** 2)) if len(p) else float("nan"),
        "calibration_error": calibration_error(truth, p),
        "sensitivity_at_95": sensitivity_at(truth, p, SPECIFICITY),
    }


def _many(labels: Ints, decided: Ints, classes: Sequence[str]) -> Figures:
    found = {"class_accuracy": _ratio(_count(labels == decided), len(labels))}
    for number, name in enumerate(classes):
        hits = _count((labels == number) & (decided == number))
        of_class, said = _count(labels == number), _count(decided == number)
        found[f"sensitivity {name}"] = _ratio(hits, of_class)
        found[f"ppv {name}"] = _ratio(hits, said)
        found[f"f1 {name}"] = _ratio(2 * hits, of_class + said)
    counted = [found[f"f1 {name}"] for name in classes if name in MACRO]
    found["macro_f1"] = float(np.mean(counted)) if counted else float("nan")
    return found


def _count(rows: Flags) -> int:
    return int(np.count_nonzero(rows))


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")


def auc(truth: Flags, p: Floats) -> float:
    """Area under the ROC curve: the chance that an abnormal beat is ranked above a normal one (Mann-Whitney U)."""
    positives, negatives = _count(truth), _count(~truth)
    ranks = rankdata(p)
    return _ratio(float(ranks[truth].sum()) - positives * (positives + 1) / 2, positives * negatives)


def roc_curve(truth: Flags, p: Floats) -> tuple[Floats, Floats]:
    """False positive rate and sensitivity at each threshold, from none said abnormal to all."""
    hits, false, _ = _cumulated(truth, p)
    return false / max(1, _count(~truth)), hits / max(1, _count(truth))


def pr_curve(truth: Flags, p: Floats) -> tuple[Floats, Floats]:
    """Sensitivity and PPV at each threshold."""
    hits, _, said = _cumulated(truth, p)
    return hits[1:] / max(1, _count(truth)), hits[1:] / said[1:]


def _cumulated(truth: Flags, p: Floats) -> tuple[Floats, Floats, Floats]:
    """True positives, false positives and both, with a cut below each distinct probability; first with none said."""
    order = np.argsort(-p, kind="stable")
    last_of_equals = np.append(np.diff(p[order]) != 0, True)
    hits = np.append(0.0, np.cumsum(truth[order])[last_of_equals])
    said = np.append(0.0, np.flatnonzero(last_of_equals) + 1.0)
    return hits, said - hits, said


def average_precision(truth: Flags, p: Floats) -> float:
    """Area under the precision-recall curve, as the sum of PPV over the steps of the sensitivity."""
    if not truth.any():
        return float("nan")
    sensitivity, ppv = pr_curve(truth, p)
    return float(np.sum(np.diff(sensitivity, prepend=0.0) * ppv))


def sensitivity_at(truth: Flags, p: Floats, specificity: float) -> float:
    """Highest sensitivity of any threshold with at least the given specificity."""
    if not truth.any() or truth.all():
        return float("nan")
    false, sensitivity = roc_curve(truth, p)
    return float(sensitivity[false <= 1 - specificity + 1e-12].max())


def calibration(truth: Flags, p: Floats) -> tuple[Floats, Floats, Ints]:
    """Mean probability, share of abnormal beats and number of beats in each of ten equal bins of the probability."""
    bins = np.minimum((p * BINS).astype(int), BINS - 1)
    n = np.bincount(bins, minlength=BINS)
    with np.errstate(invalid="ignore"):
        return (
            np.bincount(bins, weights=p, minlength=BINS) / n,
            np.bincount(bins, weights=truth, minlength=BINS) / n,
            n.astype(np.int64),
        )


def calibration_error(truth: Flags, p: Floats) -> float:
    """Expected calibration error: mean distance of the two, weighted by the beats (Naeini et al. 2015)."""
    if not len(p):
        return float("nan")
    said, happened, n = calibration(truth, p)
    return float(np.nansum(np.abs(said - happened) * n) / n.sum())


def _record_auc(truth: Flags, p: Floats, record: Ints) -> float:
    """ROC-AUC of records, by the mean probability of their beats; only where all beats of a record are of one class."""
    of_row = np.unique(record, return_inverse=True)[1]
    n = np.bincount(of_row)
    share = np.bincount(of_row, weights=truth) / n
    if not np.isin(share, [0, 1]).all():
        return float("nan")
    return auc(share == 1, np.bincount(of_row, weights=p) / n)


def best_threshold(truth: Flags, p: Floats) -> float:
    """Threshold of the highest balanced accuracy, halfway between the two probabilities it parts."""
    order = np.argsort(p, kind="stable")
    sorted_p, is_abnormal = p[order].astype(np.float64), truth[order]
    # With the cut before position i, those below are said to be normal: i = 0..n.
    sensitivity = 1 - np.concatenate([[0], np.cumsum(is_abnormal)]) / max(1, _count(is_abnormal))
    specificity = np.concatenate([[0], np.cumsum(~is_abnormal)]) / max(1, _count(~is_abnormal))
    cuts = np.concatenate([[0.0], (sorted_p[1:] + sorted_p[:-1]) / 2, [1.0]])
    balanced = sensitivity + specificity
    balanced[1:-1][sorted_p[1:] == sorted_p[:-1]] = -1  # equal probabilities cannot be parted
    best = np.flatnonzero(balanced == balanced.max())
    return float(cuts[best[len(best) // 2]])


@dataclass(frozen=True)
class Point:
    """An operating point: from when on a beat is abnormal, and of which class."""

    threshold: float
    """Probability of not being normal from which a beat counts as abnormal."""
    offsets: tuple[float, ...]
    """(classes,) what to add to the logits."""

    def apply(self, probabilities: Floats) -> Floats:
        """Probabilities with the offsets taken in: (n, classes) -> (n, classes)."""
        weighed = probabilities * np.exp(self.offsets)
        moved: Floats = (weighed / weighed.sum(axis=1, keepdims=True)).astype(np.float32)
        return moved


def choose_point(labels: Ints, probabilities: Floats, classes: Sequence[str], patients: Strings) -> Point:
    """The operating point that is best on some beats, which must be neither trained nor measured on.

    Of two classes: the threshold of the highest balanced accuracy. Of more: a threshold of one half, and offsets to the
    logits. They begin where they undo that training draws a class by the square root of its beats, and those of classes
    that several patients have go on to the highest macro F1, found class by class. A class that is mostly one patient's
    stays: its best offset would be that patient's.

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
        return Point(best_threshold(labels > 0, abnormal(probabilities)), (0.0, 0.0))
    counts = np.bincount(labels, minlength=len(classes)).clip(1)
    offsets = np.log(counts / counts[0]) / 2
    tried = [
        number
        for number, name in enumerate(classes)
        if number and name in MACRO and _shared(labels == number, patients)
    ]

    def score(candidate: Floats) -> float:
        moved = Point(0.5, tuple(candidate)).apply(probabilities)
        found = _many(labels, decide(moved, abnormal(moved) >= 0.5), classes)
        return float(np.nansum([found[f"f1 {name}"] for name in MACRO]))

    best = score(offsets)
    for _ in range(3):
        for number in tried:
            for value in np.linspace(-4, 4, 33):
                candidate = offsets.copy()
                candidate[number] = value
                if (reached := score(candidate)) > best + 1e-9:
                    best, offsets = reached, candidate
    return Point(0.5, tuple(offsets.tolist()))


def _shared(of_class: Flags, patients: Strings) -> bool:
    """Whether no patient has more than half of a class's beats; nobody knows of files without patients, which count."""
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
    """95 % bootstrap interval of each figure: patients are drawn with replacement, with all their beats.

    Parameters
    ----------
    labels, probabilities, classes, records
        See `figures`.
    threshold
        (n,)
    patients
        (n,); a beat of nobody known is drawn for itself.

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
        # A patient who is drawn twice has twice the records.
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
