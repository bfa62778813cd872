"""WFDB records and the continuous PTB lead II."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from monitor.wire import NO_SAMPLE
from simulator.devices import record_feed
from simulator.records import read_ptb, read_wfdb
from tests.recordings import wfdb_writer


def test_wfdb_record_is_played_with_its_annotations(ecg_data: Path) -> None:
    record = read_wfdb(ecg_data / "mitdb" / "101")
    assert (record.rate_hz, record.lead, record.samples_uv.size) == (360.0, "MLII", 650_000)
    assert len(record.beats) == 1865
    near = [record.samples_uv[round(one.r_peak_s * 360) - 18 :][:36] for one in record.beats[5:50]]
    assert all(500 < np.ptp(part) < 5000 for part in near)


def test_wfdb_record_ends_and_its_beats_have_symbols(ecg_data: Path) -> None:
    feed = record_feed(read_wfdb(ecg_data / "mitdb" / "208.hea"), 1)
    sent = list(feed.packets())
    assert sum(outgoing.packet.samples.size for outgoing, _ in sent) == 650_000
    labels = [played.label for _, beats in sent for played in beats]
    assert {"N", "V", "F"} <= set(labels)
    assert len(labels) >= len(read_wfdb(ecg_data / "mitdb" / "208").beats) - 2


def test_hole_and_offset_reach_the_device_as_missing_samples_and_a_resolution(tmp_path: Path) -> None:
    for name, offset_mv in (("a", 0.0), ("b", 100.0)):
        wfdb_writer.write(tmp_path, name, signals=[wfdb_writer.ecg_uv() / 1000 + offset_mv], gains=[200.0])
    (tmp_path / "m.hea").write_text("m/3 1 250 10250\na 5000\n~ 250\nb 5000\n")
    record = read_wfdb(tmp_path / "m")
    feed = record_feed(record, 1)
    assert feed.device.profile.resolution_uv == record.resolution_uv > 1
    samples = np.concatenate([outgoing.packet.samples for outgoing, _ in feed.packets()])
    assert np.flatnonzero(samples == NO_SAMPLE).tolist() == list(range(5000, 5250))
    assert np.abs(samples[samples != NO_SAMPLE].astype(int)).max() < 32767


def test_record_without_annotations_is_played_all_the_same(tmp_path: Path) -> None:
    record = read_wfdb(wfdb_writer.write(tmp_path, annotator=None))
    assert (record.annotated, record.beats) == (False, ())
    assert len(list(record_feed(record, 1).packets())) == 20


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"No file .*x\.hea: a record needs"):
        read_wfdb(tmp_path / "x")
    with pytest.raises(ValueError, match="No continuous PTB records"):
        read_ptb(tmp_path)


def test_broken_record_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "x.hea").write_text("nonsense")
    with pytest.raises(ValueError, match="cannot be read as a WFDB record"):
        read_wfdb(tmp_path / "x")


def test_without_wfdb_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "wfdb", None)
    for suffix in (".hea", ".atr"):
        (tmp_path / f"x{suffix}").touch()
    with pytest.raises(ValueError, match=r"pip install 'ecgwatch\[records\]'"):
        read_wfdb(tmp_path / "x")


def test_ptb_tables_that_do_not_fit_are_refused(ecg_data: Path, tmp_path: Path) -> None:
    for path in (ecg_data / "ptbdb").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    table = tmp_path / "ptbdb_normal_rows.csv"
    table.write_text(table.read_text().rsplit("\n", 2)[0] + "\n")
    with pytest.raises(ValueError, match=r"got 931 rows in the .*, expected 932"):
        read_ptb(tmp_path)
