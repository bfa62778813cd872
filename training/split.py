"""Split beats into train, val and test, or into folds.

Inter-patient (`"patient"`), all beats of a patient are in one part: what a new wearer can expect. Intra-patient
(`"beat"`), beats are split at random regardless of patient: usual in publications, and optimistic. In both, identical
windows are in one part. Knows nothing about files and networks.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import sparse

from monitor import beat
from training.data import Beats, Strings

Ints = npt.NDArray[np.int64]
SplitKind = Literal["patient", "beat"]

Shares = Literal["published", "70/15/15"]
"""How large the parts are; see `split_beats`."""

PARTS = ("train", "val", "test")
EIGHTHS = ("train", "val", "test", *("train",) * 5)
"""Assignment of eight equal folds where no split was published; see `fold_groups` for their order."""
TWENTIETHS = ("train", "val", "test", *("train",) * 4, "val", "test", *("train",) * 4, "val", "test", *("train",) * 5)
"""Assignment of twenty equal folds to parts of 70, 15 and 15 %."""
MIN_PATIENTS = 3
"""One for each part: fewer patients cannot be split."""


def split_kinds(beats: Beats, kind: SplitKind) -> dict[str, SplitKind]:
    """Return how each data set can be split: by patient only where every row identifies its patient."""
    return {
        name: "patient" if kind == "patient" and (beats.patients[beats.datasets == name] != "").all() else "beat"
        for name in beats.names()
    }


def split_beats(beats: Beats, kind: SplitKind, seed: int, shares: Shares = "published") -> Strings:
    """Split beats into train, val and test.

    By patient, a published split is respected: its train rows stay in train; where it has no test rows, its val rows
    are shared between val and test, and where it has no val rows, its train rows between train and val. Without one
    the parts hold 75, 12.5 and 12.5 %. With the shares "70/15/15" published splits are ignored.

    Parameters
    ----------
    beats
        n beats.
    kind
        "patient" or "beat"; a data set that does not identify its patients is split by beat, see `split_kinds`.
    seed
        Random seed.
    shares
        "published" or "70/15/15".

    Returns
    -------
    ndarray
        (n,) "train", "val" or "test".

    Raises
    ------
    ValueError
        A class of a data set has fewer than three patients, or a published split has the same patient, or the same
        window, in two parts.
    """
    groups = group_beats(beats, kind)
    if shares == "70/15/15":
        _check_enough(beats, groups, MIN_PATIENTS)
        return np.array(TWENTIETHS)[fold_groups(groups, strata_of(beats), len(TWENTIETHS), seed)]
    sides = _published(beats, groups) if kind == "patient" else np.full(groups.max() + 1, "")  # (groups,)
    sides_of = {name: set(sides[groups[beats.datasets == name]].tolist()) for name in beats.names()}
    name_of = np.empty(len(sides), beats.datasets.dtype)  # a data set of each group, one with a published side first
    order = np.argsort(beats.given != "", kind="stable")
    name_of[groups[order]] = beats.datasets[order]
    shares_of = [_shares(side, sides_of[name]) for side, name in zip(sides.tolist(), name_of.tolist(), strict=True)]
    _check_enough(beats, groups, MIN_PATIENTS)
    parts = np.full(len(beats), "", dtype="<U5")
    of_group = np.bincount(groups) / np.array([np.count_nonzero(beats.datasets == name) for name in name_of])
    for divided in set(shares_of):
        ours = np.array([one == divided for one in shares_of])
        large = ours & (of_group > 1 / len(divided)) & ("train" in divided)
        if min(_counts(beats, groups, (ours & ~large)[groups])) < MIN_PATIENTS:
            large[:] = False
        parts[large[groups]] = (
            "train"  # a patient who would fill a whole part stays out of val and test, if enough others are left
        )
        rows = np.flatnonzero((ours & ~large)[groups])
        parts[rows] = np.array(divided)[fold_groups(groups[rows], strata_of(beats)[rows], len(divided), seed)]
    return parts


def _shares(side: str, sides: set[str]) -> tuple[str, ...]:
    """Return the equal parts among which to divide one side of a published split."""
    if side == "":
        return EIGHTHS
    if side == "val" and "test" not in sides:
        return ("val", "test")
    if side == "train" and "val" not in sides:
        return ("train", "val", *("train",) * 6)
    return (side,)


def strata_of(beats: Beats) -> Ints:
    """Number the strata: the combination of data set and class, which every part should hold in proportion."""
    names = np.unique(beats.datasets, return_inverse=True)[1]
    return names * len(beats.classes) + beats.labels


def _counts(beats: Beats, groups: Ints, rows: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """Count the groups with normal beats, and those with abnormal ones, among some rows (n,)."""
    normal, abnormal = (len(np.unique(groups[rows & of_class])) for of_class in (beats.labels == 0, beats.labels > 0))
    return normal, abnormal


def _check_enough(beats: Beats, groups: Ints, minimum: int) -> None:
    for name in beats.names():
        counts = _counts(beats, groups, beats.datasets == name)
        for what, count in zip(("normal", "abnormal"), counts, strict=True):
            if count < minimum:
                raise ValueError(
                    f"{name}, {what}: got {count} patients, expected at least {minimum}, to split by patient."
                )


def fold_beats(beats: Beats, kind: SplitKind, folds: int, seed: int) -> Ints:
    """Divide beats into folds of about equal size and class proportions, each data set by itself.

    Parameters
    ----------
    beats
        n beats.
    kind
        See `split_beats`; published splits are ignored.
    folds
        Number of folds.
    seed
        Random seed.

    Returns
    -------
    ndarray
        (n,) fold, from 0.

    Raises
    ------
    ValueError
        A class of a data set has fewer patients than there are folds.
    """
    groups = group_beats(beats, kind)
    _check_enough(beats, groups, folds)
    return fold_groups(groups, strata_of(beats), folds, seed)


def fold_groups(groups: Ints, strata: Ints, folds: int, seed: int) -> Ints:
    """Assign each group to a fold, so that every fold has about the same share of every stratum.

    Groups are assigned by their largest share of any stratum, the largest first, each to the fold that has least of its
    strata; the first of equals. So the largest group is in fold 0, and no fold is empty as long as there are groups.

    Parameters
    ----------
    groups, strata
        (n,) group and stratum of each beat.

    Returns
    -------
    ndarray
        (n,) fold, from 0.
    """
    of_row = np.unique(groups, return_inverse=True)[1]
    counts = np.zeros((of_row.max() + 1, strata.max() + 1))  # (groups, strata)
    np.add.at(counts, (of_row, strata), 1)
    shares = counts / counts.sum(axis=0).clip(min=1)
    # Sizes are jittered, so that the seed decides between groups of similar size.
    jittered = shares.max(axis=1) * np.random.default_rng(seed).uniform(0.7, 1.0, len(shares))
    load = np.zeros((folds, shares.shape[1]))
    fold_of = np.zeros(len(shares), np.int64)
    for group in np.argsort(-jittered):
        # The fold where the sum of squared loads grows least.
        fold = int(np.argmin(load @ shares[group]))
        fold_of[group] = fold
        load[fold] += shares[group]
    return fold_of[of_row]


def _published(beats: Beats, groups: Ints) -> Strings:
    """Return the side of each group (groups,) in the published split of its data set, empty where there is none."""
    sides = np.full(groups.max() + 1, "", dtype="<U5")
    for side in PARTS:
        inside = np.bincount(groups, weights=beats.given == side) > 0
        for group in np.flatnonzero(inside & (sides != "")):
            row = np.flatnonzero(groups == group)[0]
            raise ValueError(
                f"Published split of {beats.datasets[row]}: got {str(beats.patients[row]) or 'a window'!r}, or a copy "
                f"of one of its windows, in {sides[group]} and in {side}, expected it on one side."
            )
        sides[inside] = side
    return sides


def group_beats(beats: Beats, kind: SplitKind) -> Ints:
    """Number the groups of beats that must stay together: equal windows and, by patient, all beats of a patient.

    Returns
    -------
    ndarray
        (n,) group numbers, from 0.
    """
    n = len(beats)
    # Copies may have been written with a different number of digits.
    rounded = np.ascontiguousarray(np.round(beats.windows * 10_000).astype(np.int16))
    copies = np.unique(rounded.view(f"V{2 * beat.LENGTH}").ravel(), return_inverse=True)[1].ravel()
    keys = [copies]
    if kind == "patient":
        unnamed = np.char.add("row ", np.arange(n).astype(np.str_))
        keys.append(np.unique(np.where(beats.patients == "", unnamed, beats.patients), return_inverse=True)[1])
    # Each row is connected to its keys; the groups are the connected components of that graph.
    rows = np.tile(np.arange(n), len(keys))
    columns = np.concatenate([keys[0], *(key + keys[0].max() + 1 for key in keys[1:])]) + n
    nodes = int(columns.max()) + 1
    graph = sparse.coo_matrix((np.ones(len(rows), np.int8), (rows, columns)), shape=(nodes, nodes))
    component = sparse.csgraph.connected_components(graph, directed=False)[1][:n]
    return np.unique(component, return_inverse=True)[1].astype(np.int64)


def hash_rows(beats: Beats, parts: Strings) -> dict[str, str]:
    """SHA-256 of each data set's windows, RR contexts, labels and parts, in the order of the rows."""
    hashes = {}
    for name in beats.names():
        rows = beats.datasets == name
        content = (beats.windows[rows], beats.rr[rows], beats.labels[rows], parts[rows].astype("<U5"))
        hashes[name] = hashlib.sha256(b"".join(column.tobytes() for column in content)).hexdigest()
    return hashes
