"""Labelled beats from files: beat windows in the Kaggle layout, or annotated WFDB records.

What is recognised in a directory, or in its subfolders:

* `<name>_normal.csv` and `<name>_abnormal.csv`: no header, 187 samples of one beat window (see `monitor.beat`), then
  the label, 0 or 1. A side file `<name>_normal_rows.csv` may give, row by row, the patient, which record the
  row was cut from, the diagnosis, and which side of a published split the row is on; `<name>_records.csv` the age and
  sex of each record's patient;
* `mitbih_train.csv` and `mitbih_test.csv`: the same layout with the labels 0 to 4 of the five AAMI classes;
* WFDB records with annotations (`<record>.hea`, `.dat`, and `.atr`, `.ecg` or `.qrs`), cut by `training.records`.

Every file may be plain or, but for WFDB's, end in .gz. The module knows nothing about splits and networks.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from monitor import beat
from recordings.classes import CLASSES
from recordings.marks import PREFERRED
from training import records

Strings = npt.NDArray[np.str_]
Labels = npt.NDArray[np.int64]

BINARY = ("normal", "abnormal")
"""Classes of the `_normal`, `_abnormal` pairs; the first class of any data set is the one that is not abnormal."""
TASKS = {"ptb": BINARY, "mitbih": CLASSES}
"""Task, which is also the name of its model -> classes."""
KAGGLE_FIVE = {"mitbih_train": "train", "mitbih_test": "test"}
"""File name of the Kaggle MIT-BIH data -> side of its published split."""
SIDES = ("", "train", "val", "test")
SEXES = {"0": "male", "1": "female", "male": "male", "female": "female"}
"""As PTB-XL codes them, and in words."""


@dataclass(frozen=True)
class Beats:
    """Labelled beat windows, one row each."""

    windows: beat.Windows
    """(n, 187) float32 in 0..1."""
    labels: Labels
    """(n,) numbers in `classes`."""
    classes: tuple[str, ...]
    patients: Strings
    """(n,) "<data set>/<patient>"; empty where the files do not name it."""
    datasets: Strings
    """(n,) name of the data set."""
    given: Strings
    """(n,) "train", "val" or "test" where the data set was published with a split, else empty."""
    records: Strings
    """(n,) "<data set>/<record>"; empty where the files do not name it."""
    rr: beat.Windows
    """(n, 3) float32 seconds, the RR context of `monitor.beat.rr_context`; NaN where it is unknown."""
    about: pd.DataFrame
    """n rows: "age" (years, NaN unknown), "sex" and "diagnosis" (empty unknown)."""
    notes: tuple[str, ...] = field(default=())
    """What a reader of figures on these beats must know."""

    def __len__(self) -> int:
        return len(self.labels)

    def names(self) -> list[str]:
        """Names of the data sets, in the order of their rows."""
        return list(dict.fromkeys(self.datasets.tolist()))

    @property
    def has_rr(self) -> bool:
        """Whether every beat has its RR context."""
        return bool(np.isfinite(self.rr).all())


def default_directories() -> list[str]:
    """Return the directory named by the environment variable ECGWATCH_DATA, if it is set."""
    named = os.environ.get("ECGWATCH_DATA")
    return [named] if named else []


def load_tasks(directories: Sequence[str | Path]) -> list[Beats]:
    """Read every data set in some directories, those of the same classes joined into one `Beats`.

    Raises
    ------
    ValueError
        As `load_beats`, but for different classes.
    """
    if not directories:
        raise ValueError("No data: got no directory, expected --data DIR or the environment variable ECGWATCH_DATA.")
    found = [one for directory in directories for one in _read_directory(Path(directory))]
    names = [name for name, _ in found]
    if len(set(names)) != len(names):
        raise ValueError(f"Data sets must have different names: got {', '.join(names)}.")
    kinds = dict.fromkeys(beats.classes for _, beats in found)
    return [join([beats for _, beats in found if beats.classes == kind]) for kind in kinds]


def load_beats(directories: Sequence[str | Path], classes: Sequence[str] | None = None) -> Beats:
    """Read every data set of one kind in some directories.

    Parameters
    ----------
    directories
        Each holds, itself or in its folders, at least one data set.
    classes
        Those of the data sets to take; None: of all, which must then be of one kind.

    Raises
    ------
    ValueError
        A directory has no data set, a file holds something other than labelled beats (the message names file, row and
        column, counted from 1), or the data sets have other classes, or different ones.
    """
    tasks = load_tasks(directories)
    wanted = [one for one in tasks if classes is None or one.classes == tuple(classes)]
    if len(wanted) == 1:
        return wanted[0]
    found = "; ".join(f"{', '.join(one.names())} ({' '.join(one.classes)})" for one in tasks)
    expected = "one kind; choose it by --task" if classes is None else " ".join(classes)
    raise ValueError(f"Classes of the data sets: got {found}, expected {expected}.")


def _read_directory(directory: Path) -> list[tuple[str, Beats]]:
    """(name, beats) of each data set in a directory or in its folders."""
    folders = [directory, *sorted(path for path in directory.glob("*") if path.is_dir())]
    found: list[tuple[str, Beats]] = []
    for folder in folders:
        pairs = (re.fullmatch(r"(.+)_normal\.csv(\.gz)?", path.name, re.IGNORECASE) for path in folder.glob("*"))
        for stem in sorted({pair[1] for pair in pairs if pair}):
            files = [_plain_or_gz(folder, f"{stem}_{of_class}") for of_class in BINARY]
            read = [_read_class_file(stem, path, label) for label, path in enumerate(files)]
            found.append((stem, join(read)))
        if any(beat.find_csv(folder, stem) for stem in KAGGLE_FIVE):
            found.append(("mitbih", join([_read_five(folder, stem) for stem in KAGGLE_FIVE])))
        stems = sorted(path.with_suffix("") for path in folder.glob("*.hea") if _is_annotated(path))
        if stems:
            found.append((folder.resolve().name, _read_records(folder.resolve().name, stems)))
    if not found:
        raise ValueError(
            f"{directory}: got no data set, expected a pair *_normal.csv and *_abnormal.csv, mitbih_train.csv and "
            "mitbih_test.csv (plain or .gz), or WFDB records with .atr, .ecg or .qrs files."
        )
    return found


def _is_annotated(header: Path) -> bool:
    return any(header.with_suffix(f".{annotator}").is_file() for annotator in PREFERRED)


def _plain_or_gz(folder: Path, stem: str) -> Path:
    if (found := beat.find_csv(folder, stem)) is None:
        raise ValueError(f"{folder / stem}.csv: got no such file, plain or .gz, expected one of a pair.")
    return found


def _read_class_file(name: str, path: Path, label: int) -> Beats:
    windows = beat.read_class(path, label)
    n = len(windows)
    side = _read_side_file(path, n)
    patients, notes = _patients(name, path, side)
    given = _column(side, "split", n)
    for row in np.flatnonzero(~np.isin(given, SIDES)):
        raise ValueError(
            f"{_side_of(path)}, row {row + 2}, column split: got {str(given[row])!r}, expected train, val or test."
        )
    record = _record_column(side)
    ids = np.full(n, "") if record is None else np.char.add(f"{name}/", side[record].to_numpy(np.str_))
    about = _about(path.with_name(f"{name}_records.csv"), side, record, n)
    labels = np.full(n, label, np.int64)
    return Beats(windows, labels, BINARY, patients, np.full(n, name), given, ids, _no_rr(n), about, notes)


def _read_five(folder: Path, stem: str) -> Beats:
    """One of the two Kaggle files of MIT-BIH: its patients are unknown."""
    path = _plain_or_gz(folder, stem)
    windows, labels = beat.read_windows(path)
    if labels is None:
        raise ValueError(f"{path}, row 1: got {beat.LENGTH} columns, expected {beat.LENGTH} samples and a label.")
    for row in np.flatnonzero(labels >= len(CLASSES)):
        raise ValueError(f"{path}, row {row + 1}, column {beat.LENGTH + 1}: got {labels[row]}, expected 0 to 4.")
    n = len(windows)
    nobody = np.full(n, "")
    return Beats(
        windows,
        labels,
        CLASSES,
        nobody,
        np.full(n, "mitbih"),
        np.full(n, KAGGLE_FIVE[stem]),
        nobody,
        _no_rr(n),
        _nothing_about(n),
    )


def _read_records(name: str, stems: Sequence[Path]) -> Beats:
    """Annotated WFDB records: each its own record; a patient may have several."""
    cut = [records.read_record(stem) for stem in stems]
    counts = [len(one.labels) for one in cut]

    def each(values: Sequence[str]) -> Strings:
        return np.repeat(np.char.add(f"{name}/", np.array(values, np.str_)), counts)

    about = pd.DataFrame(
        {
            "age": np.repeat([one.age for one in cut], counts),
            "sex": np.repeat([one.sex for one in cut], counts),
            "diagnosis": np.full(sum(counts), ""),
        }
    )
    dropped = sum(one.dropped for one in cut)
    left_out = (f"{name}: {dropped} annotated beats have no whole window and are left out.",) if dropped else ()
    return Beats(
        np.concatenate([one.windows for one in cut]),
        np.concatenate([one.labels for one in cut]),
        CLASSES,
        each([one.patient for one in cut]),
        np.full(sum(counts), name),
        np.full(sum(counts), ""),
        each([one.name for one in cut]),
        np.concatenate([one.rr for one in cut]),
        about,
        (*left_out, *(f"{name}/{note}." for one in cut for note in one.notes)),
    )


def _no_rr(n: int) -> beat.Windows:
    return np.full((n, len(beat.RR_CONTEXT)), np.nan, np.float32)


def _nothing_about(n: int) -> pd.DataFrame:
    return pd.DataFrame({"age": np.full(n, np.nan), "sex": np.full(n, ""), "diagnosis": np.full(n, "")})


def _read_table(path: Path) -> pd.DataFrame:
    """A side file, every cell as text."""
    try:
        table: pd.DataFrame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except pd.errors.EmptyDataError:
        raise ValueError(f"{path}: got an empty file, expected at least one row.") from None
    except (pd.errors.ParserError, UnicodeDecodeError, EOFError, OSError) as error:
        raise ValueError(f"{path}: got something other than a CSV table: {' '.join(str(error).split())}") from None
    if table.empty:
        raise ValueError(f"{path}: got no rows, expected at least one.")
    return table


def _side_of(path: Path) -> Path:
    """The side file of a file of windows, whether it is there or not."""
    stem = f"{re.sub(r'(?i)[.]csv([.]gz)?$', '', path.name)}_rows"
    return beat.find_csv(path.parent, stem) or path.with_name(f"{stem}.csv")


def _read_side_file(path: Path, rows: int) -> pd.DataFrame:
    """Contents of the file beside a CSV file, a row for each of its rows; no columns where there is none."""
    side = _side_of(path)
    if not side.is_file():
        return pd.DataFrame(index=range(rows))
    table = _read_table(side)
    if len(table) != rows:
        raise ValueError(f"{side}: got {len(table)} rows, expected {rows}, one for each row of {path.name}.")
    return table


def _column(table: pd.DataFrame, name: str, rows: int) -> Strings:
    return table[name].to_numpy(np.str_) if name in table else np.full(rows, "")


def _record_column(table: pd.DataFrame) -> str | None:
    return next((column for column in ("record", "ecg_id") if column in table), None)


def _patients(name: str, path: Path, side: pd.DataFrame) -> tuple[Strings, tuple[str, ...]]:
    """Whose beat each row is: the patient, or the record where the patient is unknown (blank or -1)."""
    if side.columns.empty:
        return np.full(len(side), ""), ()
    patient = _column(side, "patient", len(side))
    known = ~np.isin(patient, ["", "-1"])
    ids = np.char.add(f"{name}/", patient)
    if known.all():
        return ids, ()
    column = _record_column(side)
    if column is None:
        raise ValueError(f"{_side_of(path)}: got rows without a patient, expected a column record or ecg_id for them.")
    record = np.char.add(f"{name}/record ", side[column].to_numpy(np.str_))
    note = (
        f"{_side_of(path).name}: {np.count_nonzero(~known)} of {len(side)} rows name a record but no patient; "
        "they are split by record instead."
    )
    return np.where(known, ids, record), (note,)


def _about(path: Path, side: pd.DataFrame, record: str | None, rows: int) -> pd.DataFrame:
    """Age, sex and diagnosis of each row: from its side file, and from the table of records if there is one."""
    about = _nothing_about(rows)
    about["diagnosis"] = _column(side, "diagnosis" if "diagnosis" in side else "superclasses", rows)
    table = _read_table(path) if path.is_file() else pd.DataFrame()
    if record is None or record not in table:
        return about
    known = table.drop_duplicates(record).set_index(record).reindex(side[record])
    if "age" in known:
        about["age"] = pd.to_numeric(known["age"], errors="coerce").to_numpy()
    if "sex" in known:
        about["sex"] = known["sex"].map(SEXES).fillna("").to_numpy(np.str_)
    return about


def join(beats: Sequence[Beats]) -> Beats:
    """Put beats of the same classes together, in order."""
    return Beats(
        windows=np.concatenate([one.windows for one in beats]),
        labels=np.concatenate([one.labels for one in beats]),
        classes=beats[0].classes,
        patients=np.concatenate([one.patients for one in beats]),
        datasets=np.concatenate([one.datasets for one in beats]),
        given=np.concatenate([one.given for one in beats]),
        records=np.concatenate([one.records for one in beats]),
        rr=np.concatenate([one.rr for one in beats]),
        about=pd.concat([one.about for one in beats], ignore_index=True),
        notes=tuple(note for one in beats for note in one.notes),
    )
