"""Download data sets: Kaggle's heartbeat CSV files through kagglehub, PhysioNet's records through wfdb.

Every download is checked: PhysioNet's files against the SHA-256 sums that PhysioNet publishes with them; Kaggle's, for
which no sums are published, by parsing them as beat windows and counting their rows.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track

from monitor import beat

KAGGLE_HANDLE = "shayanfazeli/heartbeat"
KAGGLE_ROWS = {
    "ptbdb_normal.csv": 4046,
    "ptbdb_abnormal.csv": 10506,
    "mitbih_train.csv": 87554,
    "mitbih_test.csv": 21892,
}
SUMS = "SHA256SUMS.txt"
"""PhysioNet's file of checksums: "<SHA-256> <path>" a line."""
RECORD_FILES = (".hea", ".dat", ".atr", ".xyz")
FILES_AT_ONCE = 8

DownloadKaggle = Callable[[str], str]
"""Name of a file of the Kaggle data set -> path of the downloaded copy."""
DownloadPhysioNet = Callable[[str, Path, Sequence[str]], None]
"""Database, directory, files: download these files of the database into the directory."""

_MISSING = "{} is not installed: pip install 'ecgwatch[fetch]' installs it."

console = Console(stderr=True)


def fetch(source: str, out: Path) -> Path:
    """Download one source into a directory.

    Parameters
    ----------
    source
        "kaggle", or a PhysioNet database such as "ptbdb".
    out
        Directory; created if it does not exist.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    ValueError
        The extra is not installed, there is no network, or the download differs from what is published.
    """
    if source == "kaggle":
        return fetch_kaggle(out, _kagglehub())
    return fetch_physionet(source, out, _wfdb())


def fetch_kaggle(out: Path, download: DownloadKaggle) -> Path:
    """Download and check the PTB pair and the MIT-BIH files of the Kaggle heartbeat data set; see `fetch`."""
    out.mkdir(parents=True, exist_ok=True)
    for name in track(KAGGLE_ROWS, f"kaggle {KAGGLE_HANDLE}", console=console):
        with _one_clear_error(f"Kaggle {KAGGLE_HANDLE}"):
            shutil.copy(download(name), out / name)
        rows = len(beat.read_windows(out / name)[0])
        if rows != KAGGLE_ROWS[name]:
            raise ValueError(f"{out / name}: got {rows} rows, expected {KAGGLE_ROWS[name]}.")
    return out


def fetch_physionet(database: str, out: Path, download: DownloadPhysioNet) -> Path:
    """Download a PhysioNet database's records and check them against its checksums; see `fetch`."""
    out.mkdir(parents=True, exist_ok=True)
    with _one_clear_error(f"PhysioNet {database}"):
        download(database, out, [SUMS])
    sums = read_sums((out / SUMS).read_text())
    files = [name for name in sums if name.endswith(RECORD_FILES)]
    batches = [files[i : i + FILES_AT_ONCE] for i in range(0, len(files), FILES_AT_ONCE)]
    for batch in track(batches, f"physionet {database}", console=console):
        with _one_clear_error(f"PhysioNet {database}"):
            download(database, out, batch)
        for name in batch:
            _check_sum(out / name, sums[name])
    return out


def read_sums(text: str) -> dict[str, str]:
    """Path -> SHA-256, from the lines of a checksum file."""
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    return {name.strip().removeprefix("./"): sha256 for sha256, name in lines}


def _check_sum(path: Path, expected: str) -> None:
    got = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
    if got != expected:
        raise ValueError(f"{path}: got SHA-256 {got}, expected {expected}. Remove it and fetch again.")


@contextlib.contextmanager
def _one_clear_error(what: str) -> Iterator[None]:
    """Turn any error of a download into one sentence; the libraries' own output is suppressed."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    except Exception as error:  # kagglehub, wfdb and their dependencies raise many kinds, few documented
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{what} cannot be reached or read; is there a network? {why}") from None


def _kagglehub() -> DownloadKaggle:
    try:
        import kagglehub
    except ImportError:
        raise ValueError(_MISSING.format("kagglehub")) from None
    return lambda name: str(kagglehub.dataset_download(KAGGLE_HANDLE, path=name))


def _wfdb() -> DownloadPhysioNet:
    try:
        import wfdb
    except ImportError:
        raise ValueError(_MISSING.format("wfdb")) from None
    return lambda database, out, files: wfdb.dl_files(database, str(out), list(files))
