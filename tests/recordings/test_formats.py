"""One interface to all formats: what a file holds comes out, and what is wrong with it is one clear error."""

from __future__ import annotations

import dataclasses
import struct
from pathlib import Path

import edfio
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import analysis.__main__
import simulator.__main__
from recordings import formats, polar
from recordings.formats import find_format, read
from recordings.recording import Choices, Recording
from tests.recordings.foreign_files import (
    KINDS,
    Kind,
    ecg_uv,
    make_frames,
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


def test_what_lies_between_the_records_of_a_discontinuous_edf_is_missing(tmp_path: Path) -> None:
    path = write_edf(tmp_path / "x.edf", ecg_uv(256.0), 256.0)
    content = path.read_bytes().replace(b"EDF+C", b"EDF+D")
    for second in reversed(range(10, 24)):  # from the tenth record on three seconds later
        content = content.replace(f"+{second}\x14\x14".encode(), f"+{second + 3}\x14\x14".encode(), 1)
    edf = edfio.read_edf(content)
    records = edf._timekeeping_signal.digital.reshape(24, -1)
    onsets = [float(record.tobytes().partition(b"\x14")[0]) for record in records]
    path.write_bytes(content)
    got = read(path)
    hole = np.isnan(got.samples_uv)
    assert onsets[8:12] == [8, 9, 13, 14]
    assert hole.sum() == hole[2560 : 2560 + 768].sum() == 768
    assert "stay missing" in " ".join(got.notes)


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
    ],
)
def test_columns_units_and_times_are_found_however_they_are_written(head: list[str], row: str, tmp_path: Path) -> None:
    rows = []
    for i, uv in enumerate(SIGNAL):
        s = i / 250
        times = {"i": i, "s": s, "ms": 1e3 * s, "us": 1e6 * s, "ns": 1.7e18 + 1e9 * s}
        values = {**times, "uv": uv, "mv": uv / 1e3, "v": uv / 1e6}
        commas = {f"{name}_comma": f"{values[name]:.3f}".replace(".", ",") for name in ("s", "mv")}
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
