"""What is written is read back the same, by the field's own readers: samples, times, units, annotations, holes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pyedflib
import pytest

import recorder.__main__
from recordings import export, formats, write_fhir
from recordings.annotations import Note, Spell
from recordings.export import MISSING, Export, write
from recordings.reader import open_wfdb
from tests.monitor.synthetic_ecg import beat_times, make_ecg

SECONDS = 60.5
START_S = 1_790_000_000.25
BEATS_S = beat_times(SECONDS, 0.8)
LABELS = ["V" if i % 10 == 3 else "N" for i in range(BEATS_S.size)]


def made(rate_hz: float = 250.0, resolution_uv: float = 1.0, lead: str = "II") -> Export:
    steps = make_ecg(BEATS_S, SECONDS, rate_hz).astype(np.int16)
    steps[round(20 * rate_hz) : round(25 * rate_hz)] = MISSING
    steps[:3] = MISSING
    beats = [
        Note(at, label) for at, label in zip(BEATS_S.tolist(), LABELS, strict=True) if not 20 <= at < 25 and at > 0.1
    ]
    alerts = (
        Spell("atrial-fibrillation", 10.0, 30.0, "Irregular rhythm"),
        Spell("lead-off", 40.0, 42.0, "Electrode off"),
        Spell("bigeminy", 50.0, None, ""),
    )
    return Export("dev-1", lead, rate_hz, START_S, steps, resolution_uv, tuple(beats), alerts, ("model tiny",))


KINDS = [(250.0, 1.0), (130.058, 1.0), (512.0, 2.44140625), (125.5, 0.5)]
every_signal = pytest.mark.parametrize(("rate_hz", "resolution_uv"), KINDS)


@every_signal
def test_wfdb_is_read_back_by_wfdb(rate_hz: float, resolution_uv: float, tmp_path: Path) -> None:
    one = made(rate_hz, resolution_uv)
    path = write(one, tmp_path / "x", "wfdb")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["x.atr", "x.dat", "x.hea"]
    with open_wfdb("test") as wfdb:
        record = wfdb.rdrecord(str(path.with_suffix("")))
        steps = wfdb.rdrecord(str(path.with_suffix("")), physical=False).d_signal[:, 0]
        notes = wfdb.rdann(str(path.with_suffix("")), "atr")
    assert (record.fs, record.sig_name, record.units) == (pytest.approx(rate_hz, rel=1e-9), [one.lead], ["mV"])
    assert record.base_datetime.timestamp() == pytest.approx(START_S - _utc_offset(record.base_datetime), abs=1e-3)
    np.testing.assert_array_equal(steps, one.steps)
    np.testing.assert_allclose(1000 * record.p_signal[:, 0], one.samples_uv, rtol=1e-6)
    got = list(zip(notes.sample.tolist(), notes.symbol, [text.rstrip("\0") for text in notes.aux_note], strict=True))
    assert got == [(round(note.time_s * rate_hz), note.symbol, note.text) for note in one.notes]
    assert ("+", "(AFIB") in {(symbol, text) for _, symbol, text in got}


def _utc_offset(moment: object) -> float:
    import datetime

    assert isinstance(moment, datetime.datetime)
    return moment.replace(tzinfo=datetime.UTC).timestamp() - moment.timestamp()


@every_signal
def test_edf_is_read_back_by_two_readers(rate_hz: float, resolution_uv: float, tmp_path: Path) -> None:
    one = made(rate_hz, resolution_uv)
    path = write(one, tmp_path / "x", "edf")
    with pyedflib.EdfReader(str(path)) as file:
        np.testing.assert_allclose(file.getSampleFrequency(0), rate_hz, rtol=2e-7)
        np.testing.assert_array_equal(file.readSignal(0, digital=True)[: one.steps.size], one.steps)
        assert file.getPhysicalDimension(0) == "uV"
        assert file.getPatientName() in ("", "X")
        assert file.getEquipment() == "dev-1"
        onsets, durations, texts = file.readAnnotations()
    got = formats.read(path)
    assert got.rate_hz == pytest.approx(rate_hz, rel=2e-7)
    assert got.start_s == pytest.approx(START_S, abs=1e-3)
    np.testing.assert_allclose(got.samples_uv[: one.steps.size], one.samples_uv, atol=0.01 * resolution_uv)
    assert np.isnan(got.samples_uv[one.steps.size :]).all()
    assert {"N", "V", "atrial-fibrillation: Irregular rhythm", "bigeminy"} <= set(texts)
    beats = [(onset, text) for onset, text in zip(onsets, texts, strict=True) if text in ("N", "V")]
    np.testing.assert_allclose([onset for onset, _ in beats], [note.time_s for note in one.beats], atol=1e-4)
    assert [text for _, text in beats] == [note.symbol for note in one.beats]
    afib = list(texts).index("atrial-fibrillation: Irregular rhythm")
    assert (onsets[afib], durations[afib]) == (10.0, 20.0)


@every_signal
def test_parquet_is_read_back_by_pyarrow(rate_hz: float, resolution_uv: float, tmp_path: Path) -> None:
    one = made(rate_hz, resolution_uv)
    table = pq.read_table(write(one, tmp_path / "x", "parquet"))
    there = np.flatnonzero(one.steps != MISSING)
    np.testing.assert_allclose(table["ecg_uv"].to_numpy(), one.samples_uv[there], rtol=1e-6)
    times_s = table["time"].to_numpy().astype(np.int64) / 1e9
    np.testing.assert_allclose(times_s, START_S + there / rate_hz, atol=1e-6)
    about = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    assert (about["device"], about["lead"], float(about["rate_hz"])) == ("dev-1", "II", rate_hz)
    texts = [text for text in table["annotation"].to_pylist() if text]
    assert sum("V" in text.split("; ") for text in texts) == sum(note.symbol == "V" for note in one.beats)
    assert any("(AFIB" in text for text in texts)


@every_signal
def test_csv_is_read_back_by_pandas_and_by_our_own_reader(rate_hz: float, resolution_uv: float, tmp_path: Path) -> None:
    one = made(rate_hz, resolution_uv)
    path = write(one, tmp_path / "x", "csv")
    table = pd.read_csv(path)
    there = np.flatnonzero(one.steps != MISSING)
    np.testing.assert_allclose(table["time (s)"], START_S + there / rate_hz, atol=2e-6)
    np.testing.assert_allclose(table["ecg (uV)"], one.samples_uv[there], atol=1e-3)
    got = formats.read(path)
    assert got.rate_hz == pytest.approx(rate_hz, rel=1e-5)
    np.testing.assert_allclose(got.samples_uv, one.samples_uv[there[0] : there[-1] + 1], atol=1e-3)


@pytest.mark.parametrize("version", write_fhir.VERSIONS)
def test_fhir_is_valid_and_has_every_sample(version: str, tmp_path: Path) -> None:
    one = made(resolution_uv=2.5)
    write_fhir.write(one, tmp_path / "x.json", version)
    content = (tmp_path / "x.json").read_text()
    bundle = write_fhir._model(version).model_validate_json(content)
    resources = [entry.resource for entry in bundle.entry]
    signals = [one for one in resources if one.component and one.component[0].valueSampledData]
    words = " ".join(signal.component[0].valueSampledData.data for signal in signals).split()
    steps = np.array([MISSING if word == "E" else int(word) for word in words])
    np.testing.assert_array_equal(steps, one.steps)
    assert float(signals[0].component[0].valueSampledData.factor) == 2.5
    assert signals[0].effectivePeriod.start.timestamp() == pytest.approx(START_S, abs=1e-3)
    beats = next(one for one in resources if one.code.text == "Heart beats")
    assert beats.component[1].valueString.split() == [note.symbol for note in one.beats]
    assert {one.code.text for one in resources} >= {"atrial-fibrillation", "lead-off", "bigeminy"}
    assert "patient" not in json.dumps(json.loads(content)).lower()


@pytest.mark.parametrize("name", export.NAMES)
def test_nothing_is_left_of_a_file_that_could_not_be_written(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        write(made(), tmp_path / "x", name)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", export.NAMES)
def test_signal_without_beats_alerts_or_holes_is_written_as_well(name: str, tmp_path: Path) -> None:
    steps = np.arange(1000).astype(np.int16)
    path = write(Export("d", "ECG", 250.0, START_S, steps, 1.0), tmp_path / "x", name)
    assert path.stat().st_size > 0
    if name in ("wfdb", "edf", "csv"):
        np.testing.assert_array_equal(formats.read(path).samples_uv, steps)


def test_edf_of_a_device_whose_clock_is_not_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"dates from 1985 to 2084: got 1970-01-01"):
        write(Export("d", "ECG", 250.0, 0.0, np.zeros(500, np.int16), 1.0), tmp_path / "x", "edf")


@pytest.mark.parametrize("name", ["x.1", "a b"])
def test_a_name_that_no_wfdb_record_has_is_refused_with_what_is_expected(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"got the name '{name}', expected letters, digits, - and _"):
        write(made(), tmp_path / f"{name}.hea", "wfdb")
    assert os.listdir(tmp_path) == []


def test_names_written_twice_are_the_same() -> None:
    assert recorder.__main__.FORMATS == export.NAMES
    with pytest.raises(ValueError, match="got 'doc', expected wfdb, edf"):
        write(made(), Path("x"), "doc")
