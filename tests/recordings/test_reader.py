"""Records as others write them: what is read, what is said of it, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recordings.reader import find_base, read_recording
from tests.recordings.wfdb_writer import RATE_HZ, SECONDS, annotate, beats_s, ecg_uv, write, write_frames


def test_usual_record_is_read_as_it_is_with_nothing_to_note(tmp_path: Path) -> None:
    read = read_recording(write(tmp_path))
    assert (read.name, read.rate_hz, read.lead, read.annotator, read.notes) == ("x", RATE_HZ, "II", "atr", ())
    np.testing.assert_allclose(read.samples_uv, ecg_uv(), atol=1)
    np.testing.assert_allclose([at for at, _ in read.marks], beats_s(), atol=0.5 / RATE_HZ)


@pytest.mark.parametrize("suffix", [".hea", ".dat", ".atr"])
def test_any_file_of_a_record_names_it(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path)
    assert find_base(path) == find_base(path.with_suffix(suffix)) == path


# Offset.


@pytest.mark.parametrize("offset_mv", [33.0, 40.0, -40.0, 300.0, -250.0, 2000.0])
def test_offset_beyond_sixteen_bits_is_taken_off_and_noted(tmp_path: Path, offset_mv: float) -> None:
    gain = 30_000 / (abs(offset_mv) + 2)
    read = read_recording(write(tmp_path, signals=[ecg_uv() / 1000 + offset_mv], gains=[gain]))
    assert abs(np.median(read.samples_uv)) < 1
    assert np.ptp(read.samples_uv) == pytest.approx(np.ptp(ecg_uv()), abs=2000 / gain + 1)
    [note] = read.notes
    assert "offset" in note
    assert f"{offset_mv:.0f}." in note or f"{offset_mv - np.sign(offset_mv):.0f}." in note


@pytest.mark.parametrize("offset_mv", [0.0, 20.0, -30.0])
def test_offset_that_fits_stays(tmp_path: Path, offset_mv: float) -> None:
    read = read_recording(write(tmp_path, signals=[ecg_uv() / 1000 + offset_mv], gains=[900.0]))
    np.testing.assert_allclose(np.median(read.samples_uv), np.median(ecg_uv()) + 1000 * offset_mv, atol=2)
    assert read.notes == ()


# Clock of the annotations, frames.


@pytest.mark.parametrize("resolution_hz", [125.0, 128.5, 360.0, 500.0, 1000.0])
def test_annotations_count_in_their_own_resolution(tmp_path: Path, resolution_hz: float) -> None:
    read = read_recording(write(tmp_path, resolution_hz=resolution_hz))
    np.testing.assert_allclose([at for at, _ in read.marks], beats_s(), atol=0.51 / resolution_hz)


@pytest.mark.parametrize(("frame_hz", "per_frame"), [(15.5, 16), (50.0, 5), (62.5, 4), (250.0, 2), (1.0, 256)])
@pytest.mark.parametrize("annotated_hz", [0.0, 1000.0])
def test_lead_has_its_own_rate_and_every_sample(
    tmp_path: Path, frame_hz: float, per_frame: int, annotated_hz: float
) -> None:
    read = read_recording(write_frames(tmp_path, frame_hz, per_frame, annotated_hz=annotated_hz))
    assert read.rate_hz == frame_hz * per_frame
    expected = ecg_uv(read.rate_hz)[: read.samples_uv.size]
    np.testing.assert_allclose(read.samples_uv, expected, atol=1)
    np.testing.assert_allclose([at for at, _ in read.marks], beats_s()[:-1], atol=0.51 / (annotated_hz or frame_hz))


# Holes.


@pytest.mark.parametrize(
    ("segments", "seconds"),
    [
        (["a 5000", "~ 2500", "b 5000"], [20, -10, 20]),
        (["~ 1000", "a 5000"], [-4, 20]),
        (["a 5000", "~ 250"], [20, -1]),
        (["a 5000", "b 5000"], [20, 20]),
        (["~ 250", "~ 500", "a 5000", "~ 1"], [-1, -2, 20, -0.004]),
    ],
)
def test_empty_segment_is_missing_signal_of_its_length(
    tmp_path: Path, segments: list[str], seconds: list[float]
) -> None:
    for name in "ab":
        write(tmp_path, name, annotator=None)
    frames = sum(int(line.split()[1]) for line in segments)
    (tmp_path / "m.hea").write_text("\n".join([f"m/{len(segments)} 1 250 {frames}", *segments]) + "\n")
    read = read_recording(tmp_path / "m")
    assert read.samples_uv.size == frames
    missing = np.concatenate([np.full(round(abs(s) * RATE_HZ), s < 0) for s in seconds])
    np.testing.assert_array_equal(np.isnan(read.samples_uv), missing)


def test_segments_of_varying_signals_are_searched_for_the_lead_by_its_name(tmp_path: Path) -> None:
    other = np.sin(np.arange(5000) / 40)
    write(tmp_path, "a", signals=[other, ecg_uv() / 1000], names=["RESP", "II"], gains=[900, 900], annotator=None)
    write(tmp_path, "b", signals=[other], names=["RESP"], annotator=None)
    write(tmp_path, "c", annotator=None)
    (tmp_path / "layout.hea").write_text("layout 2 250 0\n~ 0 900/mV 16 0 0 0 0 RESP\n~ 0 900/mV 16 0 0 0 0 II\n")
    (tmp_path / "m.hea").write_text("m/4 2 250 15000\nlayout 0\na 5000\nb 5000\nc 5000\n")
    read = read_recording(tmp_path / "m")
    assert read.lead == "II"
    np.testing.assert_array_equal(np.isnan(read.samples_uv), np.repeat([False, True, False], 5000))
    np.testing.assert_allclose(read.samples_uv[:5000], read.samples_uv[10_000:], atol=2)


def test_record_of_empty_segments_alone_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.hea").write_text("m/1 1 250 250\n~ 250\n")
    with pytest.raises(ValueError, match="only empty segments"):
        read_recording(tmp_path / "m")


# Annotations.


@pytest.mark.parametrize("past_s", [[SECONDS], [25.0, 90.0]])
def test_annotations_past_the_end_are_left_out_and_counted(tmp_path: Path, past_s: list[float]) -> None:
    read = read_recording(write(tmp_path, more_s=past_s))
    assert len(read.marks) == len(beats_s())
    assert read.notes == (f"x: {len(past_s)} annotations lie past the end of the signal and are left out",)


@pytest.mark.parametrize(
    ("there", "chosen"),
    [
        (["qrs"], "qrs"),
        (["ecg"], "ecg"),
        (["wabp"], "wabp"),
        (["qrs", "ecg"], "ecg"),
        (["qrs", "atr", "man"], "atr"),
        (["man", "qrs"], "qrs"),
        (["wabp", "man"], None),
        (["ecgw"], None),
        ([], None),
    ],
)
def test_annotator_is_the_usual_one_or_the_only_one(tmp_path: Path, there: list[str], chosen: str | None) -> None:
    path = write(tmp_path, annotator=None)
    for annotator in there:
        annotate(path, annotator, beats_s().tolist(), RATE_HZ, states=False)
    read = read_recording(path)
    assert read.annotator == chosen
    assert len(read.marks) == (len(beats_s()) if chosen else 0)
    if chosen not in ("atr", None):
        assert read.notes == (f"x: annotations of .{chosen}, for want of .atr",)
    elif len(there) == 2 and chosen is None:
        assert read.notes == ("x: annotations of .man, .wabp: --annotator chooses one",)


def test_annotator_can_be_chosen(tmp_path: Path) -> None:
    path = write(tmp_path)
    annotate(path, "man", beats_s()[:3].tolist(), RATE_HZ, states=False)
    assert len(read_recording(path, annotator="man").marks) == len(read_recording(path, annotator=".man").marks) == 3
    with pytest.raises(ValueError, match="got annotator 'qrs', expected atr or man"):
        read_recording(path, annotator="qrs")


def test_file_of_another_kind_beside_a_record_is_no_annotator(tmp_path: Path) -> None:
    path = write(tmp_path, annotator=None)
    path.with_suffix(".foo").write_bytes(b"\xff\xff\xff")
    read = read_recording(path)
    assert (read.annotator, read.marks) == (None, ())


# Leads and units.


def test_lead_is_the_first_ecg_and_can_be_chosen_by_name_or_number(tmp_path: Path) -> None:
    breath = np.sin(np.arange(5000) / 40)
    path = write(
        tmp_path, signals=[breath, ecg_uv() / 1000], names=["RESP", "II"], units=["mV", "mV"], gains=[900, 900]
    )
    read = read_recording(path)
    assert read.lead == "II"
    assert read.notes == ("x: signal 1 (II) is taken for the ECG; passed over: 0 (RESP)",)
    for lead in ("RESP", "resp", "0"):
        assert read_recording(path, lead).lead == "RESP"
        assert read_recording(path, lead).notes == ()
    with pytest.raises(ValueError, match=r"got lead 'V6', expected 0 \(RESP\), 1 \(II\)"):
        read_recording(path, "V6")


@pytest.mark.parametrize(
    ("unit", "microvolts"),
    [("mV", 1e3), ("mv", 1e3), ("MV", 1e3), ("uV", 1.0), ("uv", 1.0), ("UV", 1.0), ("µV", 1.0), ("μV", 1.0),
     ("V", 1e6), ("v", 1e6), ("nV", 1e-3), ("nv", 1e-3), ("millivolts", 1e3), ("", 1e3)],
)  # fmt: skip
def test_unit_is_understood_however_it_is_written(tmp_path: Path, unit: str, microvolts: float) -> None:
    path = write(tmp_path, signals=[ecg_uv() / 1000], units=[unit])
    assert np.ptp(read_recording(path).samples_uv) == pytest.approx(np.ptp(ecg_uv()) / 1000 * microvolts, rel=0.01)


def test_micro_sign_of_an_old_code_page_is_not_read_as_volts(tmp_path: Path) -> None:
    path = write(tmp_path)
    header = path.with_suffix(".hea")
    header.write_bytes(header.read_text().replace("/mV", "/µV").encode("latin-1"))
    assert np.ptp(read_recording(path).samples_uv) == pytest.approx(np.ptp(ecg_uv()) / 1000, rel=0.01)


@pytest.mark.parametrize("unit", ["NU", "adu", "ADU", "mmHg", "bpm", "mA"])
def test_unit_that_is_no_voltage_is_refused_by_name(tmp_path: Path, unit: str) -> None:
    path = write(tmp_path, units=[unit])
    for lead in (None, "II"):
        with pytest.raises(ValueError, match=f"in '{unit}', expected V, mV, uV or nV"):
            read_recording(path, lead)


# Odd headers, broken files.


@pytest.mark.parametrize(
    ("rate", "gain", "steps_a_mv"),
    [
        ("250", "1000", 1000), ("250/720", "1000(0)/mV", 1000), ("250/720(100)", "1000", 1000), ("250.0", "1000", 1000),
        ("250", "0", 200), ("250", "0(0)/mV", 200), ("250", "", 200), ("", "", 200),
    ],
)  # fmt: skip
def test_header_may_leave_out_or_embellish_what_it_says(
    tmp_path: Path, rate: str, gain: str, steps_a_mv: float
) -> None:
    path = write(tmp_path)
    length = " 5000" if rate else ""
    path.with_suffix(".hea").write_text(f"x 1 {rate}{length}\nx.dat 16 {gain}\n")
    read = read_recording(path)
    assert (read.rate_hz, read.samples_uv.size) == (250.0, 5000)
    assert np.ptp(read.samples_uv) == pytest.approx(np.ptp(ecg_uv()) * 1000 / steps_a_mv, rel=0.01)
    assert ("x: the header states no gain: 200 ADC counts per mV are assumed" in read.notes) == (steps_a_mv == 200)
    assert ("x: the header states no rate: 250 Hz is assumed" in read.notes) == (rate == "")


@pytest.mark.parametrize("rate_hz", [128.5, 130.06, 999.999])
def test_rate_may_be_any_number(tmp_path: Path, rate_hz: float) -> None:
    path = write(tmp_path, annotator=None)
    header = path.with_suffix(".hea")
    header.write_text(header.read_text().replace(" 250 ", f" {rate_hz} "))
    assert read_recording(path).rate_hz == rate_hz


@pytest.mark.parametrize("bytes_left", [0, 1, 1000, 9998])
def test_truncated_signal_file_is_refused_with_both_sizes(tmp_path: Path, bytes_left: int) -> None:
    path = write(tmp_path)
    path.with_suffix(".dat").write_bytes(path.with_suffix(".dat").read_bytes()[:bytes_left])
    with pytest.raises(ValueError, match=f"x.dat is truncated: got {bytes_left} bytes, expected 10000"):
        read_recording(path)
