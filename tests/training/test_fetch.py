from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from training import fetch


class FakePhysioNet:
    """A database of two records; what is in `spoiled` arrives damaged."""

    files: ClassVar = {
        "RECORDS": b"a\nb\n",
        "a.hea": b"header",
        "a.dat": b"\x01\x02",
        "sub/b.hea": b"header",
        "sub/b.dat": b"\x03",
    }

    def __init__(self, spoiled: str = "", gone: bool = False) -> None:
        self.spoiled, self.gone = spoiled, gone

    def __call__(self, database: str, out: Path, files: Sequence[str]) -> None:
        if self.gone:
            raise ConnectionError("Name or service not known\nMax retries exceeded")
        print("Downloading files...")
        for name in files:
            path = out / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(self._content(name) + (b"!" if name == self.spoiled else b""))

    def _content(self, name: str) -> bytes:
        if name == fetch.SUMS:
            lines = (f"{hashlib.sha256(content).hexdigest()} {file}" for file, content in self.files.items())
            return "\n".join(lines).encode()
        return self.files[name]


def test_records_of_a_database_are_downloaded_and_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fetch.fetch_physionet("mitdb", tmp_path / "mitdb", FakePhysioNet())
    names = {path.relative_to(tmp_path / "mitdb").as_posix() for path in (tmp_path / "mitdb").rglob("*.*")}
    assert names == {fetch.SUMS, "a.hea", "a.dat", "sub/b.hea", "sub/b.dat"}
    assert "Downloading" not in capsys.readouterr().out


def test_damaged_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.dat: got SHA-256 [0-9a-f]{64}, expected [0-9a-f]{64}"):
        fetch.fetch_physionet("mitdb", tmp_path, FakePhysioNet(spoiled="a.dat"))


def test_missing_network_gives_one_clear_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"^PhysioNet mitdb cannot be reached .*is there a network\? Name or .*exceeded$"
    ):
        fetch.fetch_physionet("mitdb", tmp_path, FakePhysioNet(gone=True))


def kaggle_file(path: Path, rows: int, label: int) -> str:
    row = ",".join(["0.5"] * 187 + [f"{label}.0"])
    path.write_text("\n".join([row] * rows) + "\n")
    return str(path)


def test_kaggle_files_are_downloaded_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "KAGGLE_ROWS", dict.fromkeys(fetch.KAGGLE_ROWS, 5))

    def download(name: str) -> str:
        return kaggle_file(tmp_path / name, fetch.KAGGLE_ROWS[name], int("abnormal" in name))

    out = fetch.fetch_kaggle(tmp_path / "kaggle", download)
    names = ["mitbih_test.csv", "mitbih_train.csv", "ptbdb_abnormal.csv", "ptbdb_normal.csv"]
    assert sorted(path.name for path in out.iterdir()) == names


def test_kaggle_file_of_another_length_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got 3 rows, expected 4046"):
        fetch.fetch_kaggle(tmp_path / "kaggle", lambda name: kaggle_file(tmp_path / name, 3, 0))


@pytest.mark.skipif(importlib.util.find_spec("kagglehub") is not None, reason="kagglehub is installed here")
def test_missing_extra_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"kagglehub is not installed: pip install 'ecgwatch\[fetch\]'"):
        fetch.fetch("kaggle", tmp_path)
