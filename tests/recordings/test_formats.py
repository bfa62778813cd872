"""One interface to all formats: what a file holds comes out, and what is wrong with it is one clear error."""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import analysis.__main__
import simulator.__main__
from recordings import formats, moments, polar
from recordings.formats import find_format, read
from recordings.recording import Choices, Recording
from tests.recordings.foreign_files import (
    KINDS,
    Kind,
    ecg_uv,
    make_frames,
    write_atc,
    write_bdf,
    write_csv,
    write_edf,
    write_ishne,
    write_wfdb,
)

ids = [f"{kind.name}{kind.ending}" for kind in KINDS]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=ids)
BINARY = [kind for kind in KINDS if kind.name in ("edf", "kardia", "ishne")]


@every_kind
def test_file_is_known_by_what_is_in_it(kind: Kind, tmp_path: Path) -> None:
    path, _ = kind.make(tmp_path)
    assert find_format(path).name == kind.name
    renamed = path.rename(tmp_path / "whatever.bin")
    assert find_format(renamed).name == kind.name


@every_kind
def test_signal_rate_lead_and_start_come_out_as_they_went_in(kind: Kind, tmp_path: Path) -> None:
    path, signal_uv = kind.make(tmp_path)
    got = read(path)
    assert got.rate_hz == pytest.approx(kind.rate_hz, rel=1e-9)
    assert got.lead == kind.lead
    if kind.start_s is not None:
        assert got.start_s == pytest.approx(kind.start_s, abs=1e-3)
    np.testing.assert_allclose(got.samples_uv, signal_uv, atol=0.01 * kind.resolution_uv)


@every_kind
def test_same_signal_as_wfdb_reads_the_same(kind: Kind, tmp_path: Path) -> None:
    path, signal_uv = kind.make(tmp_path)
    yardstick = read(write_wfdb(tmp_path / "yardstick", signal_uv, kind.rate_hz, kind.resolution_uv))
    np.testing.assert_allclose(read(path).samples_uv, yardstick.samples_uv, atol=0.01 * kind.resolution_uv)


@every_kind
def test_no_name_of_a_person_is_handed_on(kind: Kind, tmp_path: Path) -> None:
    path, _ = kind.make(tmp_path)
    got = dataclasses.replace(read(path), samples_uv=np.empty(0))
    assert not {"Jane", "Public", "1952", "12345"} & set(repr(got).replace("'", " ").replace(",", " ").split())


@every_kind
def test_empty_file_is_one_error_that_names_it(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / f"one{kind.ending}"
    path.touch()
    with pytest.raises(ValueError, match="is empty") as error:
        read(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("kind", BINARY, ids=[kind.ending for kind in BINARY])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.999])
def test_truncated_file_is_refused_with_what_is_missing(kind: Kind, share: float, tmp_path: Path) -> None:
    path, _ = kind.make(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"got .* expected") as error:
        read(path)
    assert str(path) in str(error.value)


def _read_or_refuse(path: Path) -> Recording | str:
    try:
        return read(path)
    except ValueError as error:
        return str(error)


@every_kind
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_file_is_read_or_refused_in_one_way(kind: Kind, tmp_path: Path, data: st.DataObject) -> None:
    path, _ = kind.make(tmp_path, seconds=4.0)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, min(1500, len(content) - 1)))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    got = _read_or_refuse(path)
    assert isinstance(got, Recording) or (str(path) in got and "\n" not in got)


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n" + bytes(100), b"PK\x03\x04" + bytes(50), b"hello world\n"])
def test_file_of_no_known_format_is_refused_with_those_that_are(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "strange"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"of no known format: it begins with .*expected ISHNE Holter, AliveCor ATC"):
        read(path)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"No file .*nothing, and no WFDB record"):
        read(tmp_path / "nothing")


def test_huge_files_are_refused_before_they_are_read(tmp_path: Path) -> None:
    ishne = write_ishne(tmp_path / "huge.ecg", ecg_uv(200.0), 200.0)
    content = bytearray(ishne.read_bytes())
    content[14:18] = struct.pack("<i", 2_000_000_000)
    ishne.write_bytes(content)
    with pytest.raises(ValueError, match="got 2000000000 samples, expected at most"):
        read(ishne)
    text = tmp_path / "huge.csv"
    rows = [f"{second + i / 250},{i}" for second in (0, 3e9) for i in range(500)]
    text.write_text("\n".join(["time (s),ECG (uV)", *rows]))
    with pytest.raises(ValueError, match=r"got .* samples, expected at most"):
        read(text)


def test_format_can_be_named(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "x", ecg_uv(250.0), 250.0)
    assert read(path, name="csv").rate_hz == 250.0
    with pytest.raises(ValueError, match="cannot be read as EDF"):
        read(path, name="edf")
    with pytest.raises(ValueError, match="got 'docx', expected ishne, kardia"):
        read(path, name="docx")


def test_names_written_twice_are_the_same() -> None:
    assert analysis.__main__.FORMATS == simulator.__main__.FORMATS == formats.NAMES


# EDF.


def test_annotations_of_edf_come_with_their_times(tmp_path: Path) -> None:
    got = read(write_edf(tmp_path / "x.edf", ecg_uv(256.0), 256.0))
    assert got.marks == ((1.5, "V"), (3.0, "walks"))


@pytest.mark.parametrize(
    ("write", "mark", "rate_hz"), [(write_edf, b"EDF+", 256.0), (write_bdf, b"BDF+", 512.0)], ids=["edf", "bdf"]
)
def test_what_lies_between_the_records_of_a_discontinuous_file_is_missing(
    write: Callable[[Path, Any, float], Path], mark: bytes, rate_hz: float, tmp_path: Path
) -> None:
    path = write(tmp_path / "x.edf", ecg_uv(rate_hz), rate_hz)
    content = path.read_bytes().replace(mark + b"C", mark + b"D")
    for second in reversed(range(10, 24)):  # from the tenth record on three seconds later
        content = content.replace(f"+{second}\x14\x14".encode(), f"+{second + 3}\x14\x14".encode(), 1)
    path.write_bytes(content)
    got = read(path)
    hole = np.isnan(got.samples_uv)
    begin, end = round(10 * rate_hz), round(13 * rate_hz)
    assert hole.sum() == hole[begin:end].sum() == 3 * rate_hz
    np.testing.assert_allclose(got.samples_uv[~hole], ecg_uv(rate_hz), atol=0.6)
    assert "stay missing" in " ".join(got.notes)


# Apple, Kardia, OpenSignals.


@pytest.mark.parametrize(
    ("label", "rate", "unit", "separator"),
    [
        ("Fréquence d\u2019échantillonnage", "512 hertz", "µV", ","),
        ("Frecuencia de muestreo", "511,422 hercios", "μV", ","),
        ("Częstotliwość próbkowania", "512 herców", "µV", ","),
        ("Vzorkovací frekvence", "512 hertzů", "µV", ","),
        ("Näytetaajuus", "512 hertsiä", "µV", ","),
        ("Частота дискретизации", "512 герц", "мкВ", ","),
        ("サンプルレート", "512ヘルツ", "µV", ","),
        ("采样率", "512赫兹", "µV", ","),
        ("معدل العينة", "٥١٢ هرتز", "µV", ","),
        ("अनुकरण", "512 हर्ट्ज़", "µV", ","),
        ("Samplefrequentie", "511,422 hertz", "µV", ";"),
    ],
)
def test_apple_exports_of_other_languages_are_known_by_their_values(
    label: str, rate: str, unit: str, separator: str, tmp_path: Path
) -> None:
    rate_hz = 511.422 if "," in rate else 512.0
    signal_uv = ecg_uv(rate_hz)
    value = f'"{rate}"' if separator == "," and "," in rate else rate
    head = [
        f"Naam{separator}Jane", f'Datum{separator}"5 02 1952"', f"Dag{separator}2026-03-01 12:21:11 -0500",
        f"Klasse{separator}Sinus", f'Gerät{separator}"Watch6,2"', f"{label}{separator}{value}", "", "",
        f"Lead{separator}Lead I", f"Unit{separator}{unit}", "", "",
    ]  # fmt: skip
    comma = "," in rate
    rows = [f"{one:.3f}".replace(".", "," if comma else ".") for one in signal_uv]
    path = tmp_path / "ecg.csv"
    path.write_text("\ufeff" + "\r\n".join([*head, *rows]) + "\r\n", encoding="utf-8")
    assert formats.find_format(path).name == "apple"
    got = read(path)
    assert (got.rate_hz, got.start_s) == (rate_hz, 1_772_385_671.0)
    np.testing.assert_allclose(got.samples_uv, signal_uv, atol=1e-3)


def test_table_with_a_number_and_a_word_is_no_apple_export(tmp_path: Path) -> None:
    path = _table(tmp_path / "x.csv", "rate,512 steps", "time,ecg (uV)", *(f"{i / 250},{i % 50}" for i in range(500)))
    assert formats.find_format(path).name == "csv"


@pytest.mark.parametrize("version", [1, 2, 4])
def test_leads_of_kardia_files_of_any_version_are_found(version: int, tmp_path: Path) -> None:
    signal_uv = np.rint(ecg_uv(300.0))
    path = write_atc(tmp_path / "x.atc", signal_uv, 300.0)
    content = bytearray(path.read_bytes())
    content[8:12] = version.to_bytes(4, "little")
    for block, scale in ((b"ecg2", 2), (b"ecg7", 3), (b"ecgc", 4), (b"avg ", 5)):
        whole = block + (2 * signal_uv.size).to_bytes(4, "little") + (scale * signal_uv).astype("<i2").tobytes()
        content += whole + (sum(whole) & 0xFFFFFFFF).to_bytes(4, "little")
    path.write_bytes(content)
    np.testing.assert_allclose(read(path).samples_uv, signal_uv, atol=0.6)
    for lead, scale in (("II", 2), ("V1", 3), ("V6", 4)):
        np.testing.assert_allclose(read(path, Choices(lead=lead)).samples_uv, 0.5 * scale * signal_uv, atol=0.6)


@pytest.mark.parametrize(
    ("sensor", "more"),
    [
        ("ECGBIT", {"device": "bitalino"}),
        ("RAW", {"device": "bitalino_rev", "label": ["A1", "ECG chest"]}),
        ("ECG", {"device": "biosignalsplux", "column": ["nSeq", "DI", "CH1", "CH2"], "resolution": [1, 16, 16]}),
        ("ECG", {"device": "biosignalsplux", "column": ["nSeq", "DI", "CH1", "CH2"], "resolution": [16, 16]}),
    ],
)
def test_headers_of_opensignals_may_differ(sensor: str, more: dict[str, Any], tmp_path: Path) -> None:
    bits = max(more.get("resolution", [10]))
    step_uv = 1e6 * (3.3 / 1100 if bits == 10 else 3.0 / 1000) / 2**bits
    signal_uv = ecg_uv(1000.0)
    about: dict[str, Any] = {
        "sensor": ["EDA", sensor], "column": ["nSeq", "I1", "I2", "O1", "O2", "A1", "A2"], "time": "19:49:30.350",
        "channels": [1, 2], "date": "2026-1-31", "sampling rate": 1000, "label": ["A1", "A2"],
        "resolution": [4, 1, 1, 1, 1, 10, 10],
    } | more  # fmt: skip
    steps = np.rint(signal_uv / step_uv).astype(int) + 2 ** (bits - 1)
    before = "\t".join(["0"] * (len(about["column"]) - 3))
    rows = [f"{i % 16}\t{before}\t5\t{step}\t" for i, step in enumerate(steps)]
    head = [
        "# OpenSignals Text File Format. Version 1",
        f"# {json.dumps({'00:07:80:3B:46:01': about})}",
        "# EndOfHeader",
    ]
    path = tmp_path / "x.txt"
    path.write_text("\r\n".join([*head, *rows]) + "\r\n")
    np.testing.assert_allclose(read(path).samples_uv, signal_uv, atol=step_uv)


# Polar.


def test_frames_that_were_lost_are_missing_and_repeated_ones_are_not_read_twice(tmp_path: Path) -> None:
    frames = make_frames(ecg_uv(130.0), 130.0)
    path = tmp_path / "frames.txt"
    kept = [*frames[:10], frames[9], *frames[12:]]
    path.write_text("\n".join(frame.hex() for frame in kept))
    got = read(path)
    hole = np.isnan(got.samples_uv)
    assert hole.sum() == hole[730 : 730 + 146].sum() == 146
    np.testing.assert_array_equal(got.samples_uv[~hole], np.delete(ecg_uv(130.0), slice(730, 876)))


def test_time_of_a_frame_is_that_of_its_last_sample() -> None:
    frame = polar.decode_frame(make_frames(ecg_uv(130.0), 130.0)[0])
    assert frame.last_s == pytest.approx(946_684_800 + 599_618_164.814402794 + 72 / 130)
    np.testing.assert_array_equal(frame.samples_uv, ecg_uv(130.0)[:73])


@pytest.mark.parametrize("broken", [b"", b"\0" * 10, b"\0" * 12, b"\2" + b"\0" * 12, b"\0" * 9 + b"\1" + b"\0" * 3])
def test_frame_of_another_kind_is_refused(broken: bytes) -> None:
    with pytest.raises(ValueError, match="expected a frame of ECG"):
        polar.decode_frame(broken)


def test_published_frame_decodes_to_its_published_values() -> None:
    """The example of Polar's specification: time stamp 599618164814402794, and samples in 24 bits, signed."""
    frame = bytes([0x00, 0xEA, 0x54, 0xA2, 0x42, 0x8B, 0x45, 0x52, 0x08, 0x00, 0xFF, 0xFF, 0xFF, 0x10, 0x00, 0x00])
    got = polar.decode_frame(frame)
    assert got.last_s == pytest.approx(946_684_800 + int.from_bytes(frame[1:9], "little") / 1e9)
    assert got.samples_uv.tolist() == [-1, 16]


# Text.


def _table(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


SIGNAL = ecg_uv(250.0)
MV = SIGNAL / 1000


@pytest.mark.parametrize(
    ("head", "row"),
    [
        (["time,ecg"], "{s:.3f},{mv:.3f}"),
        (["Time (s);ECG [mV];RESP"], "{s:.3f};{mv:.3f};0.5"),
        (["Zeit;EKG (mV)"], "{s_comma};{mv_comma}"),
        (["timestamp_ms\tecg_uv\tacc_x"], "{ms:.0f}\t{uv:.0f}\t7"),
        (["'Elapsed time','MLII','V5'", "'hh:mm:ss.mmm','mV','mV'"], "'0:{s:06.3f}',{mv:.3f},0.1"),
        (["timestamp,ecg"], "2026-01-31T10:00:{s:06.3f},{uv:.0f}"),
        (["timestamp,ecg"], "2026-01-31 10:00:{s:06.3f}+01:00,{uv:.0f}"),
        (["# a comment", "unix_time (ns),heart rate,ecg (V)"], "{ns:.0f},60,{v:.6f}"),
        (["index,time_us,value"], "{i},{us:.0f},{uv:.0f}"),
        (["Zeit,EKG (mV)"], '"{s_comma}","{mv_comma}"'),  # a German spreadsheet
        (["sep=;", "Zeit;EKG (mV)"], "{s_comma};{mv_comma}"),
        (["time (ms);ECG (mV)"], '"{ms:.0f}";"{mv_comma}"'),
        ([], "{s:.3f};{mv:.3f}"),
        ([], '"{s_comma}","{mv_comma}"'),
        ([], "{ms:.0f}\t{mv_comma}"),
        (["time;ecg"], "01.02.2026 10:00:{s:06.3f};{mv_comma}"),
        (["time,ecg"], "21/02/2026 10:00:{s:06.3f},{uv:.0f}"),
        (["time,ecg"], "2/21/2026 3:00:{s:06.3f} PM,{uv:.0f}"),
        (["time,ecg"], '"2/21/2026, 3:00:{s:06.3f} p.m.","{uv:.0f}"'),
        (["time;ecg"], "2026/02/21 10:00:{s_two};{mv_comma}"),
        (["time,ecg"], "10:00:{s:06.3f},{uv:.0f}"),
    ],
)
def test_columns_units_and_times_are_found_however_they_are_written(head: list[str], row: str, tmp_path: Path) -> None:
    rows = []
    for i, uv in enumerate(SIGNAL):
        s = i / 250
        times = {"i": i, "s": s, "ms": 1e3 * s, "us": 1e6 * s, "ns": 1.7e18 + 1e9 * s}
        values = {**times, "uv": uv, "mv": uv / 1e3, "v": uv / 1e6}
        commas = {f"{name}_comma": f"{values[name]:.3f}".replace(".", ",") for name in ("s", "mv")}
        commas["s_two"] = f"{s:06.3f}".replace(".", ",")
        rows.append(row.format(**values, **commas))
    got = read(_table(tmp_path / "x.csv", *head, *rows))
    assert got.rate_hz == 250.0
    np.testing.assert_allclose(got.samples_uv, SIGNAL, atol=0.6)


def test_numbers_alone_need_a_rate_and_their_unit_is_guessed_and_said(tmp_path: Path) -> None:
    path = _table(tmp_path / "x.txt", *(f"{value:.3f}" for value in MV))
    with pytest.raises(ValueError, match="expected --rate"):
        read(path)
    got = read(path, Choices(rate_hz=250.0))
    assert any("mV is guessed" in note for note in got.notes)
    np.testing.assert_allclose(got.samples_uv, SIGNAL, atol=0.6)
    told = read(path, Choices(rate_hz=250.0, unit="uV"))
    np.testing.assert_allclose(told.samples_uv, MV, atol=6e-4)


def test_a_stated_unit_that_makes_no_ecg_is_doubted(tmp_path: Path) -> None:
    path = _table(tmp_path / "x.csv", "time,ecg (mV)", *(f"{i / 250:.3f},{uv * 1e4}" for i, uv in enumerate(SIGNAL)))
    assert any("mV in mv: is that its unit?" in note for note in read(path).notes)
    assert not any("its unit" in note for note in read(path, Choices(unit="nV")).notes)


def test_infinite_values_are_missing_and_that_is_said(tmp_path: Path) -> None:
    values = [f"{value}" if i % 100 else "-inf" for i, value in enumerate(SIGNAL)]
    got = read(_table(tmp_path / "x.csv", "time,ecg_uv", *(f"{i / 250:.3f},{text}" for i, text in enumerate(values))))
    assert np.flatnonzero(np.isnan(got.samples_uv)).tolist() == list(range(0, SIGNAL.size, 100))
    assert any(f"{len(range(0, SIGNAL.size, 100))} infinite values" in note for note in got.notes)


def test_times_too_far_apart_for_an_ecg_are_refused_with_their_rate(tmp_path: Path) -> None:
    path = _table(tmp_path / "x.csv", "time,ecg", *(f"{i / 25:.3f},{value}" for i, value in enumerate(SIGNAL[::10])))
    with pytest.raises(ValueError, match="25 a second if they are s: expected 50 to 4000"):
        read(path)


@pytest.mark.parametrize("rate_hz", [0.0, -250.0, 25.0, 1e4, np.nan, np.inf])
def test_a_rate_that_no_ecg_has_cannot_be_chosen(rate_hz: float) -> None:
    with pytest.raises(ValueError, match=r"^Rate: got .* Hz, expected 50 to 4000\.$"):
        Choices(rate_hz=rate_hz)


def test_a_folder_is_no_recording(tmp_path: Path) -> None:
    for path in tmp_path, Path():
        with pytest.raises(ValueError, match="is a folder, expected a file"):
            read(path)


@pytest.mark.parametrize(
    ("first", "second", "start_s", "note"),
    [
        ("2026-02-21T10:00:00.000Z", "2026-02-21T10:00:00.004Z", 1_771_668_000.0, None),
        ("2026-02-21 10:00:00.000+0100", "2026-02-21 10:00:00.004+0100", 1_771_664_400.0, None),
        ("21.02.2026 10:00:00,000", "21.02.2026 10:00:00,004", 1_771_668_000.0, None),
        ("02/21/2026 10:00:00.000 AM", "02/21/2026 10:00:00.004 AM", 1_771_668_000.0, None),
        ("02/21/2026 12:00:00.000 am", "02/21/2026 12:00:00.004 am", 1_771_632_000.0, None),
        ("03/02/2026 10:00:00.000", "03/02/2026 10:00:00.004", 1_770_112_800.0, "begin with the day"),
        ("03/02/2026 10:00:00.000 AM", "03/02/2026 10:00:00.004 AM", 1_772_445_600.0, "begin with the month"),
        ("10:00:00.000", "10:00:00.004", None, None),
        ("125:00:00.000", "125:00:00.004", None, None),
    ],
)
def test_moments_are_read_and_what_is_guessed_of_them_is_said(
    first: str, second: str, start_s: float | None, note: str | None
) -> None:
    times_s, began_s, notes = moments.read_moments([first, second])
    np.testing.assert_allclose(times_s, [0, 0.004], atol=1e-6)
    assert began_s == (None if start_s is None else pytest.approx(start_s, abs=1e-3))
    assert [note in told for told in notes if note] == [True] * (note is not None)


def test_time_of_day_goes_on_after_midnight() -> None:
    times_s, began_s, _ = moments.read_moments(["23:59:59.5", "0:00:00.0", "0:00:00.5"])
    assert (times_s.tolist(), began_s) == ([0.0, 0.5, 1.0], None)


@pytest.mark.parametrize("wrong", ["2026-13-01 10:00:00", "31.02.2026 10:00:00", "soon", "10", "2026-02-21", ""])
def test_what_is_no_moment_is_told_by_its_row(wrong: str) -> None:
    with pytest.raises(IndexError) as error:
        moments.read_moments(["2026-02-21 10:00:00", wrong])
    assert error.value.args == (1,)


def test_column_that_only_counts_is_no_time(tmp_path: Path) -> None:
    path = _table(tmp_path / "x.csv", *(f"{i};{value:.3f}" for i, value in enumerate(MV)))
    with pytest.raises(ValueError, match="--lead chooses one"):
        read(path)
    told = read(_table(tmp_path / "y.csv", *(f"{4 * i};{value:.3f}" for i, value in enumerate(MV))))
    assert told.rate_hz == 250.0
    assert any("column 0, which grows evenly, is taken for the times" in note for note in told.notes)


def test_several_columns_that_could_be_the_ecg_are_not_guessed_among(tmp_path: Path) -> None:
    path = _table(
        tmp_path / "x.csv", "time,a,b", *(f"{i / 250:.3f},{value},{-value}" for i, value in enumerate(SIGNAL))
    )
    with pytest.raises(ValueError, match=r"0 \(time\), 1 \(a\), 2 \(b\): --lead chooses one"):
        read(path)
    np.testing.assert_allclose(read(path, Choices(lead="b")).samples_uv, -SIGNAL)
    np.testing.assert_allclose(read(path, Choices(lead="1")).samples_uv, SIGNAL)


def test_empty_fields_and_times_left_out_are_missing(tmp_path: Path) -> None:
    rows = [
        f"{i / 250:.3f},{'' if 100 <= i < 120 else value}" for i, value in enumerate(SIGNAL) if not 1000 <= i < 1500
    ]
    got = read(_table(tmp_path / "x.csv", "time,ecg (uV)", *rows))
    missing = np.zeros(SIGNAL.size, bool)
    missing[100:120] = missing[1000:1500] = True
    np.testing.assert_array_equal(np.isnan(got.samples_uv), missing)
    np.testing.assert_allclose(got.samples_uv[~missing], SIGNAL[~missing])


@pytest.mark.parametrize(
    ("at", "field", "message"),
    [
        (236, b"many    ", "got 'many' as the number of data records"),
        (244, b"0       ", "got data records of '0' s in its header"),
        (252, b"99  ", "expected a header of 25600|as the number of samples of a signal"),
        (252, b"x   ", "got 'x' as the number of signals"),
    ],
)
def test_a_damaged_header_of_edf_is_one_error_in_words_of_the_header(
    at: int, field: bytes, message: str, tmp_path: Path
) -> None:
    path, _ = next(kind for kind in KINDS if kind.ending == ".edf").make(tmp_path)
    content = bytearray(path.read_bytes())
    content[at : at + len(field)] = field
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read(path)
    assert str(path) in str(error.value)


def test_a_damaged_annotation_of_edf_is_one_error_in_words_of_the_file(tmp_path: Path) -> None:
    path, _ = next(kind for kind in KINDS if kind.ending == ".edf").make(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[:-60] + b"+0\x14\x14\0+1\x14" + b"\xab" * 51 + b"\x14\0")
    with pytest.raises(ValueError, match="got bytes that are no text"):
        read(path)


def test_a_last_line_that_was_cut_off_is_left_out_and_that_is_said(tmp_path: Path) -> None:
    rows = [f"{i / 250:.3f},{value}" for i, value in enumerate(SIGNAL)]
    got = read(_table(tmp_path / "x.csv", "time,ecg (uV)", *rows, "20.0"))
    np.testing.assert_allclose(got.samples_uv, SIGNAL)
    assert any("the last line is cut off, and left out: '20.0'" in note for note in got.notes)


def test_rows_with_more_columns_than_the_others_are_noted(tmp_path: Path) -> None:
    rows = [f"{i / 250:.3f},{value}{',7,8' * (i == 50)}" for i, value in enumerate(SIGNAL)]
    got = read(_table(tmp_path / "x.csv", "time,ecg (uV)", *rows))
    np.testing.assert_allclose(got.samples_uv, SIGNAL)
    assert any("1 row has more columns than the others" in note for note in got.notes)
    got = read(_table(tmp_path / "y.csv", "time,ecg (uV)", *(f"{row}," for row in rows[:50])))
    assert not any("columns" in note for note in got.notes)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            ["time,ecg (uV)", "0.000,1", "0.004,two", "0.008,3"],
            "got 'two' in row 3, column 'ecg .uV.', expected a number",
        ),
        (["time,ecg (uV)", "0.000,1", "0.008,2", "0.004,3"], "got time 0.004000 after 0.008000"),
        (["time,ecg (uV)", "0.000,1", "0.000,2", "0.000,3"], "got one time for all"),
        (["time,ecg (uV)", "0.000,1", "0.004", "0.008,3"], "expected 2 columns|row 3"),
        (["time,ecg (mmHg)", *(f"{i / 250},{i % 50}" for i in range(500))], "mmHg|named as an ECG|spans"),
        (["nothing here"], "expected rows of numbers|no known format"),
    ],
)
def test_what_is_wrong_with_a_table_is_said_with_its_row(rows: list[str], message: str, tmp_path: Path) -> None:
    path = _table(tmp_path / "x.csv", *rows)
    with pytest.raises(ValueError, match=message) as error:
        read(path)
    assert str(path) in str(error.value)
