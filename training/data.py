"""Beat windows from CSV files in the Kaggle layout, and their division into train, val and test.

A data set is a directory with a pair of files, `<name>_normal.csv` and `<name>_abnormal.csv` (plain or .gz): no header,
187 samples of one beat window (see `monitor.beat`), then the label, 0 normal or 1 abnormal. A side file
`<name>_normal_rows.csv` may say, row by row, who the patient is and which side of a published split the row is on.
The module knows nothing of networks.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from monitor import beat

Strings = npt.NDArray[np.str_]
Labels = npt.NDArray[np.int64]
SplitKind = Literal["patient", "beat"]

CLASSES = ["normal", "abnormal"]
PARTS = ("train", "val", "test")
SHARE = 0.15
"""Share of the patients (or of the beats) that goes to val, and again to test."""
FEWEST_GROUPS = 3
"""One for each part: fewer patients of a class cannot be kept apart."""


@dataclass(frozen=True)
class Beats:
    """Labelled beat windows, one row each."""

    windows: beat.Windows
    """(n, 187) float32 in 0..1."""
    labels: Labels
    """(n,) 0 normal, 1 abnormal."""
    patients: Strings
    """(n,) "<data set>/<patient>"; empty where the files do not say."""
    datasets: Strings
    """(n,) name of the data set."""
    given: Strings
    """(n,) "train" or "val" where the data set was published with a split, else empty."""
    notes: tuple[str, ...] = ()
    """What a reader of any figure from these beats must know."""

    def __len__(self) -> int:
        return len(self.labels)

    def names(self) -> list[str]:
        """Names of the data sets, in the order of their rows."""
        return list(dict.fromkeys(self.datasets.tolist()))


def default_directories() -> list[str]:
    """The directory that the environment variable ECGWATCH_DATA names, if it does."""
    named = os.environ.get("ECGWATCH_DATA")
    return [named] if named else []


def load_beats(directories: Sequence[str | Path]) -> Beats:
    """Read every data set in some directories.

    Parameters
    ----------
    directories
        Each holds, itself or in its folders, at least one pair `<name>_normal.csv`, `<name>_abnormal.csv`, plain or
        .gz.

    Raises
    ------
    ValueError
        A directory has no pair, or a file holds something else than labelled beat windows; the message names file,
        row and column, counted from 1.
    """
    if not directories:
        raise ValueError("No data: got no directory, expected --data DIR or the environment variable ECGWATCH_DATA.")
    pairs = [pair for directory in directories for pair in _find_pairs(Path(directory))]
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        raise ValueError(f"Data sets must have different names: got {', '.join(names)}.")
    return _join([_read_file(name, path, label) for name, paths in pairs for label, path in enumerate(paths)])


def _find_pairs(directory: Path) -> list[tuple[str, list[Path]]]:
    """(name, [normal, abnormal]) of each data set in a directory or in its folders."""
    found = [*directory.glob("*_normal.csv*"), *directory.glob("*/*_normal.csv*")]
    stems = sorted({path.with_name(path.name.split("_normal.csv")[0]) for path in found})
    if not stems:
        raise ValueError(f"{directory}: got no *_normal.csv or *_normal.csv.gz, expected a pair with *_abnormal.csv.")
    return [
        (stem.name, [_plain_or_gz(stem.with_name(f"{stem.name}_{of_class}.csv")) for of_class in CLASSES])
        for stem in stems
    ]


def _plain_or_gz(path: Path) -> Path:
    for candidate in (path, path.with_name(f"{path.name}.gz")):
        if candidate.is_file():
            return candidate
    raise ValueError(f"{path}: got no such file, plain or .gz, expected one of a pair.")


def _read_file(name: str, path: Path, label: int) -> Beats:
    windows = beat.read_class(path, label)
    patients, given, notes = _read_side_file(name, path, len(windows))
    labels = np.full(len(windows), label, np.int64)
    return Beats(windows, labels, patients, np.full(len(windows), name), given, notes)


def _read_table(path: Path) -> pd.DataFrame:
    """A side file, every cell as text."""
    try:
        table: pd.DataFrame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except pd.errors.EmptyDataError:
        raise ValueError(f"{path}: got an empty file, expected at least one row.") from None
    except (pd.errors.ParserError, UnicodeDecodeError, EOFError, OSError) as error:
        raise ValueError(f"{path}: got something that is no CSV table: {' '.join(str(error).split())}") from None
    if table.empty:
        raise ValueError(f"{path}: got no rows, expected at least one.")
    return table


def _read_side_file(name: str, path: Path, rows: int) -> tuple[Strings, Strings, tuple[str, ...]]:
    """(patients (rows,), given (rows,), notes) from the file beside a CSV file; empty where there is none."""
    nothing = np.full(rows, "")
    stem = path.name.split(".csv")[0]
    beside = [side for side in (path.with_name(f"{stem}_rows.csv{end}") for end in ("", ".gz")) if side.is_file()]
    if not beside:
        return nothing, nothing, ()
    side = beside[0]
    table = _read_table(side)
    if len(table) != rows:
        raise ValueError(f"{side}: got {len(table)} rows, expected {rows}, one for each row of {path.name}.")
    patients, notes = _patients(name, side, table)
    given = table["split"].to_numpy(np.str_) if "split" in table else nothing
    for row in np.flatnonzero(~np.isin(given, ["", "train", "val"])):
        raise ValueError(f"{side}, row {row + 2}, column split: got {str(given[row])!r}, expected train or val.")
    return patients, given, notes


def _patients(name: str, side: Path, table: pd.DataFrame) -> tuple[Strings, tuple[str, ...]]:
    """Who each row is of: the patient, or the record where the patient is unknown (blank or -1)."""
    patient = table["patient"].to_numpy(np.str_) if "patient" in table else np.full(len(table), "")
    known = ~np.isin(patient, ["", "-1"])
    ids = np.char.add(f"{name}/", patient)
    if known.all():
        return ids, ()
    record_column = next((column for column in ("record", "ecg_id") if column in table), None)
    if record_column is None:
        raise ValueError(f"{side}: got rows without a patient, expected a column record or ecg_id for them.")
    record = np.char.add(f"{name}/record ", table[record_column].to_numpy(np.str_))
    note = (
        f"{side.name}: {np.count_nonzero(~known)} of {len(table)} rows name a record but no patient; "
        "their records are kept apart instead."
    )
    return np.where(known, ids, record), (note,)


def _join(beats: Sequence[Beats]) -> Beats:
    return Beats(
        windows=np.concatenate([one.windows for one in beats]),
        labels=np.concatenate([one.labels for one in beats]),
        patients=np.concatenate([one.patients for one in beats]),
        datasets=np.concatenate([one.datasets for one in beats]),
        given=np.concatenate([one.given for one in beats]),
        notes=tuple(note for one in beats for note in one.notes),
    )


def split_kinds(beats: Beats, kind: SplitKind) -> dict[str, SplitKind]:
    """How each data set can be split: by patient only where every row says who the patient is."""
    return {
        name: "patient" if kind == "patient" and (beats.patients[beats.datasets == name] != "").all() else "beat"
        for name in beats.names()
    }


def split_beats(beats: Beats, kind: SplitKind, seed: int) -> Strings:
    """Divide beats into train, val and test.

    By patient, all beats of a patient are on one side, and a published split is respected: its train rows stay in
    train, its val rows are shared between val and test (so that test too has never met train). By beat, rows are
    drawn at random, whoever they are of. Either way equal windows are on one side, and each class of each data set
    is on every side.

    Parameters
    ----------
    beats
        n beats.
    kind
        "patient" or "beat"; a data set that does not say who its patients are is split by beat, see `split_kinds`.
    seed
        Of the random draw.

    Returns
    -------
    ndarray
        (n,) "train", "val" or "test".

    Raises
    ------
    ValueError
        A class of a data set has fewer than three patients, or a published split has one patient on both sides.
    """
    rng = np.random.default_rng(seed)
    groups = group_beats(beats, kind)  # (n,)
    first = np.unique(groups, return_index=True)[1]  # (groups,) a row of each group
    side_of_group = _published_sides(beats, groups) if kind == "patient" else np.full(len(first), "")
    sizes = np.bincount(groups)
    share = np.bincount(groups, weights=beats.labels) / sizes
    label = (share >= 0.5).astype(int)  # a patient with beats of both classes counts with the more frequent one
    parts_of_group = np.full(len(first), "train", dtype="<U5")
    for name, side, of_class in sorted(set(zip(beats.datasets[first], side_of_group, label, strict=True))):
        members = np.flatnonzero((beats.datasets[first] == name) & (side_of_group == side) & (label == of_class))
        if side != "train":
            parts_of_group[members] = _draw(rng, sizes[members], side == "val", f"{name}, {CLASSES[of_class]}")
    return parts_of_group[groups]


def _published_sides(beats: Beats, groups: npt.NDArray[np.int64]) -> Strings:
    """Side of each group (groups,) in the published split: "train", "val", or empty where there is none."""
    in_train = np.bincount(groups, weights=beats.given == "train") > 0
    in_val = np.bincount(groups, weights=beats.given == "val") > 0
    for group in np.flatnonzero(in_train & in_val):
        row = np.flatnonzero(groups == group)[0]
        raise ValueError(
            f"Published split of {beats.datasets[row]}: got {str(beats.patients[row])!r}, or a copy of one of its "
            "windows, in train and in val, expected it on one side."
        )
    return np.where(in_train, "train", np.where(in_val, "val", ""))


def _draw(rng: np.random.Generator, sizes: npt.NDArray[np.int64], halve: bool, what: str) -> Strings:
    """Part of each of some groups (m,): val and test in the stated share, or half each."""
    share = 0.5 if halve else SHARE
    fewest = 2 if halve else FEWEST_GROUPS
    if len(sizes) < fewest:
        raise ValueError(f"{what}: got {len(sizes)} patients, expected at least {fewest}, to keep them apart.")
    order = rng.permutation(len(sizes))
    parts = np.full(len(sizes), "val" if halve else "train", dtype="<U5")
    count = max(1, round(share * len(sizes)))
    if halve:
        parts[order[:count]] = "test"
        return parts
    # One patient of PTB has 345 of its 771 abnormal beats: who is larger than a whole part stays in train.
    order = order[np.argsort(sizes[order] > share * sizes.sum(), kind="stable")]
    parts[order[:count]], parts[order[count : 2 * count]] = "val", "test"
    return parts


def group_beats(beats: Beats, kind: SplitKind) -> npt.NDArray[np.int64]:
    """Number beats that must stay on one side alike: equal windows and, by patient, all beats of a patient.

    Returns
    -------
    ndarray
        (n,) group numbers, from 0.
    """
    n = len(beats)
    # Copies may have been written with more or fewer digits.
    rounded = np.ascontiguousarray(np.round(beats.windows * 10_000).astype(np.int16))
    copies = np.unique(rounded.view(f"V{2 * beat.LENGTH}").ravel(), return_inverse=True)[1].ravel()
    keys = [copies]
    if kind == "patient":
        unnamed = np.char.add("row ", np.arange(n).astype(np.str_))
        keys.append(np.unique(np.where(beats.patients == "", unnamed, beats.patients), return_inverse=True)[1])
    # Rows are joined to their keys; the groups are the connected parts of that graph.
    rows = np.tile(np.arange(n), len(keys))
    columns = np.concatenate([keys[0], *(key + keys[0].max() + 1 for key in keys[1:])]) + n
    nodes = int(columns.max()) + 1
    graph = sparse.coo_matrix((np.ones(len(rows), np.int8), (rows, columns)), shape=(nodes, nodes))
    component = sparse.csgraph.connected_components(graph, directed=False)[1][:n]
    return np.unique(component, return_inverse=True)[1].astype(np.int64)


def balance(labels: Labels, datasets: Strings, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Row numbers, shuffled, in which each data set has as many beats of either class.

    Every row comes at least once; those of the rarer class are repeated. Only ever call it on the training part.
    """
    chosen = []
    for name in np.unique(datasets):
        rows = [np.flatnonzero((datasets == name) & (labels == of_class)) for of_class in range(len(CLASSES))]
        most = max(len(of_class) for of_class in rows)
        chosen += [np.resize(rng.permutation(of_class), most) for of_class in rows if len(of_class)]
    return rng.permutation(np.concatenate(chosen))


def hash_rows(beats: Beats, parts: Strings) -> dict[str, str]:
    """SHA-256 of each data set's windows, labels and parts, in the order of the rows."""
    hashes = {}
    for name in beats.names():
        rows = beats.datasets == name
        content = (beats.windows[rows], beats.labels[rows], parts[rows].astype("<U5"))
        hashes[name] = hashlib.sha256(b"".join(column.tobytes() for column in content)).hexdigest()
    return hashes
