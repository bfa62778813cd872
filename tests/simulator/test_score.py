"""Scoring the engine on annotated records, and the rules by which beats are matched."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor import wire
from monitor.classify import Classifier
from recordings.reader import open_wfdb
from simulator.__main__ import main
from simulator.records import Record, read_wfdb
from simulator.score import (
    Comparison,
    Outcome,
    Samples,
    compare,
    cut_packets,
    match,
    play_record,
    summarise,
    write_annotations,
)
from simulator.stream import Played
from tests.monitor.synthetic_ecg import beat_times, make_ecg
from tests.monitor.tiny_model import tiny_info, write_tiny
from tests.recordings import wfdb_writer

SECONDS, RATE_HZ = 60.0, 250.0
BEATS = 70
"""In the record that `write_record` writes."""
PLACES = st.lists(st.integers(0, 400), max_size=40).map(lambda places: np.array(sorted(places), np.int64))


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier()


def write_record(
    folder: Path,
    name: str = "x",
    *,
    symbols: str = "N",
    lost_s: tuple[float, float] = (0, 0),
    flat: bool = False,
    rr_s: Sequence[float] = (0.8, 0.9, 0.85),
) -> Path:
    """Write a minute of ECG as II and its mirror as V1; the symbols are repeated, none means no annotations."""
    times = beat_times(SECONDS, rr_s)
    signal = make_ecg(times, SECONDS, RATE_HZ, 0.0 if flat else 1000.0)[:, None] * np.array(
        [0.001, -0.001]
    )  # (n, 2) mV
    signal[round(lost_s[0] * RATE_HZ) : round(lost_s[1] * RATE_HZ)] = np.nan
    if flat:
        signal[:] = 0.0
    places = np.rint(times * RATE_HZ).astype(np.int64)
    folder.mkdir(exist_ok=True)
    with open_wfdb("test") as wfdb:
        wfdb.wrsamp(
            name,
            RATE_HZ,
            ["mV", "mV"],
            ["II", "V1"],
            signal,
            fmt=["16", "16"],
            adc_gain=[1000.0, 1000.0],
            baseline=[0, 0],
            write_dir=str(folder),
        )
        if symbols:
            marks = [symbols[i % len(symbols)] for i in range(places.size)]
            wfdb.wrann(name, "atr", places, symbol=marks, write_dir=str(folder))
    return folder / name


def read_places(path: Path, annotator: str) -> Samples:
    with open_wfdb("test") as wfdb:
        notes = wfdb.rdann(str(path), annotator)
    assert set(notes.symbol) <= {"N"}
    return np.asarray(notes.sample, np.int64)


def score_json(capsys: pytest.CaptureFixture[str], *words: str | Path) -> dict[str, Any]:
    assert main(["score", "--json", *map(str, words)]) == 0
    shown: dict[str, Any] = json.loads(capsys.readouterr().out)
    return shown


def places(*numbers: int) -> Samples:
    return np.array(numbers, np.int64)


def record_of(*reference: int, flutter_s: tuple[tuple[float, float], ...] = ()) -> Record:
    """A record at 100 Hz with beats at these samples."""
    beats = tuple(Played(place / 100, "N", "", 1.0) for place in reference)
    return Record("x", 100.0, "II", np.zeros(10_000), beats, flutter_s)


def outcome_of(matched: int, reference: int, found: int, error: int = 0, rate_hz: float = 100.0) -> Outcome:
    """What would have been made of a record: so many matches, all of them late by `error` samples."""
    comparison = Comparison(reference, found, np.full(matched, error), rate_hz, {})
    return Outcome("II", [], Counter(), 1800.0, 1.0, comparison, None)


# Matching.


def test_nothing_matches_nothing() -> None:
    assert match(places(), places(), 15) == []
    assert match(places(100), places(), 15) == []
    assert match(places(), places(100), 15) == []


def test_a_beat_matches_up_to_the_tolerance_and_no_further() -> None:
    assert match(places(100, 200), places(115, 185), 15) == [(0, 0), (1, 1)]
    assert match(places(100, 200), places(84, 216), 15) == []


def test_a_beat_takes_the_nearest() -> None:
    assert match(places(100), places(90, 98, 103), 15) == [(0, 1)]


def test_of_two_as_near_a_beat_takes_the_first() -> None:
    assert match(places(100), places(95, 105), 15) == [(0, 0)]


def test_two_found_beats_match_one_annotated_beat_once() -> None:
    assert match(places(100), places(99, 101), 15) == [(0, 0)]


def test_one_found_beat_matches_two_annotated_beats_once() -> None:
    assert match(places(95, 105), places(101), 15) == [(0, 0)]


def test_a_beat_that_was_taken_leaves_the_next_nearest() -> None:
    assert match(places(100, 102), places(101, 110), 15) == [(0, 0), (1, 1)]


@given(PLACES, PLACES, st.integers(0, 50))
def test_matching_equals_its_naive_twin(reference: Samples, found: Samples, tolerance: int) -> None:
    free = list(range(found.size))
    expected = []
    for i, place in enumerate(reference.tolist()):
        nearest = min(free, key=lambda j: abs(int(found[j]) - place), default=None)
        if nearest is not None and abs(int(found[nearest]) - place) <= tolerance:
            free.remove(nearest)
            expected.append((i, nearest))
    assert match(reference, found, tolerance) == expected


def test_flutter_is_left_out_on_both_sides() -> None:
    record = record_of(100, 200, 300, 900, flutter_s=((1.5, 3.0), (5.0, math.inf)))
    assert [played.r_peak_s for played in record.beats] == [1.0, 2.0, 3.0, 9.0]
    compared = compare(record, places(101, 149, 150, 222, 300, 301, 950))
    assert (compared.reference, compared.found) == (1, 3)
    assert compared.errors.tolist() == [1]


def test_partners_are_positions_in_all_that_was_annotated_and_found() -> None:
    record = record_of(100, 200, 300, 900, flutter_s=((0.5, 1.5),))
    assert compare(record, places(101, 202, 905, 990)).partners == {1: 1, 2: None, 3: 2}


# Summing up.


def test_figures_are_those_of_the_definition() -> None:
    figures = summarise("x", [outcome_of(matched=80, reference=100, found=90, error=-3)])
    assert figures.sensitivity_percent == 80
    assert figures.ppv_percent == pytest.approx(88.8889)
    assert figures.f1_percent == figures.f1_36ms_percent == pytest.approx(84.2105)
    assert (figures.error_mean_ms, figures.error_sd_ms, figures.error_median_abs_ms) == (-30, 0, 30)
    assert figures.speed == 1800


def test_a_match_may_be_too_far_for_the_tight_figure() -> None:
    figures = summarise("x", [outcome_of(matched=10, reference=10, found=10, error=5)])
    assert (figures.f1_percent, figures.f1_36ms_percent) == (100, 0)


def test_gross_figures_pool_beats_whatever_the_rates() -> None:
    both = [outcome_of(10, 10, 10, 1, 100.0), outcome_of(30, 90, 30, 10, 1000.0)]
    figures = summarise("gross", both)
    assert (figures.reference_beats, figures.found_beats, figures.sensitivity_percent) == (100, 40, 40)
    assert (figures.error_mean_ms, figures.error_sd_ms) == (10, 0)


def test_nothing_found_is_no_error() -> None:
    figures = summarise("x", [outcome_of(0, 10, 0)])
    assert (figures.sensitivity_percent, figures.ppv_percent, figures.f1_percent) == (0, None, 0)
    assert figures.error_mean_ms is figures.delay_p50_s is None


# Playing.


def test_beats_of_a_clean_record_are_found_and_in_time(tmp_path: Path, classifier: Classifier) -> None:
    outcome = play_record(read_wfdb(write_record(tmp_path)), classifier)
    figures = summarise("x", [outcome])
    assert (figures.reference_beats, figures.found_beats, figures.f1_36ms_percent) == (BEATS, BEATS, 100)
    assert figures.error_median_abs_ms is not None
    assert figures.error_median_abs_ms <= 8
    assert figures.delay_p50_s is not None
    assert 0 < figures.delay_p50_s < 1
    assert figures.speed > 60


def test_packets_hold_all_of_the_record_in_microvolts() -> None:
    signal: npt.NDArray[np.float64] = np.array([0.0, 1.4, -1.6, np.nan, 99_999.0] * 50)
    packets = cut_packets(Record("x", 100.0, "V5", signal, ()), 100.0)
    assert [(packet.seq, packet.start_s, packet.samples.size) for packet in packets] == [
        (0, 0, 100),
        (1, 1, 100),
        (2, 2, 50),
    ]
    assert packets[2].samples[:5].tolist() == [0, 1, -2, wire.NO_SAMPLE, 32767]


@pytest.mark.parametrize("rate_hz", [100.0, 130.061, 500.0])
def test_resampled_packets_hold_the_same_signal_at_the_same_times(rate_hz: float) -> None:
    t, f = np.arange(3600) / 360.0, 40.0
    packets = cut_packets(Record("x", 360.0, "II", 1000 * np.sin(2 * np.pi * f * t), ()), rate_hz)
    signal = np.concatenate([packet.samples for packet in packets])
    expected = 1000 * np.sin(2 * np.pi * f * np.arange(signal.size) / rate_hz)
    inside = slice(round(rate_hz), -round(rate_hz))
    assert np.abs(signal - expected)[inside].max() < 10
    assert signal.size == math.ceil(3600 * rate_hz / 360)


@pytest.mark.parametrize("rate_hz", [100.0, 130.061, 360.0, 1000.0])
def test_resampled_record_gives_the_same_places(tmp_path: Path, classifier: Classifier, rate_hz: float) -> None:
    record = read_wfdb(write_record(tmp_path))
    outcome = play_record(record, classifier, rate_hz)
    figures = summarise("x", [outcome])
    assert (figures.found_beats, figures.f1_36ms_percent) == (BEATS, 100)
    assert figures.error_mean_ms == pytest.approx(
        summarise("x", [play_record(record, classifier)]).error_mean_ms, abs=3
    )


def test_missing_samples_reach_the_engine_as_missing(tmp_path: Path, classifier: Classifier) -> None:
    outcome = play_record(read_wfdb(write_record(tmp_path, lost_s=(20.0, 30.0))), classifier)
    assert outcome.alerts["lead-off"] == 1
    assert not [found for found in outcome.beats if 20.5 < found.qrs_s < 29.5]
    assert outcome.comparison is not None
    assert outcome.comparison.reference == BEATS


def test_lead_is_chosen_by_name_or_number(tmp_path: Path) -> None:
    path = write_record(tmp_path)
    assert [read_wfdb(path, lead).lead for lead in (None, "V1", "1", "0")] == ["II", "V1", "V1", "II"]
    assert np.array_equal(read_wfdb(path, "V1").samples_uv, -read_wfdb(path).samples_uv)


def test_flutter_is_read_from_bracket_to_bracket(tmp_path: Path) -> None:
    record = read_wfdb(write_record(tmp_path, symbols="N[NN]N+!"))
    times = beat_times(SECONDS, [0.8, 0.9, 0.85])
    expected = [[times[i + 1], times[i + 4]] for i in range(0, BEATS - 4, 8)]
    assert np.array(record.flutter_s) == pytest.approx(np.array(expected), abs=1 / RATE_HZ)
    assert {played.label for played in record.beats} == {"N"}


def test_flutter_without_an_end_lasts_to_the_end(tmp_path: Path) -> None:
    record = read_wfdb(write_record(tmp_path, symbols="N" * 69 + "["))
    assert [end_s for _, end_s in record.flutter_s] == [math.inf]


# The command.


def test_table_has_a_line_a_record_and_a_gross_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [write_record(tmp_path, name) for name in ("a", "b")]
    assert main(["score", str(paths[0]), f"{paths[1]}.hea"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:3] == ["record", "beats", "found"]
    assert [line.split()[:3] for line in lines[2:5]] == [
        ["a", str(BEATS), str(BEATS)],
        ["b", str(BEATS), str(BEATS)],
        ["gross", str(2 * BEATS), str(2 * BEATS)],
    ]
    assert all(len(line) <= 100 for line in lines)
    assert any(line.startswith("withheld:") for line in lines)
    assert "not a medical device" in lines[-1]


def test_json_has_the_same_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = score_json(capsys, write_record(tmp_path), "--lead", "V1", "--rate", "130")
    assert (shown["lead"], shown["rate_hz"], shown["model"]) == ("V1", 130, "nsv")
    (row,) = shown["records"]
    assert (row["record"], row["lead"], row["seconds"], row["reference_beats"]) == ("x", "V1", 60, BEATS)
    assert row["f1_percent"] > 95
    assert set(shown["gross"]) == set(row)


EARLY_EVERY_FOURTH = (0.8, 0.8, 0.5, 1.1)
"""Seconds from beat to beat: the tiny model calls every fourth beat a V, all others N."""


def test_classes_are_compared_record_by_record_and_pooled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_tiny(tmp_path / "tiny.onnx")
    whole = write_record(tmp_path, "whole", symbols="NLAV", rr_s=EARLY_EVERY_FOURTH)
    holed = write_record(tmp_path, "holed", symbols="NRFN", rr_s=EARLY_EVERY_FOURTH, lost_s=(20, 30))
    bare = write_record(tmp_path, "bare", symbols="")
    shown = score_json(capsys, whole, holed, bare, "--model", model)
    first, second, third = (row["classes"] for row in shown["records"])
    assert third is None
    for row, classes, symbols in zip(shown["records"], (first, second), ("NNSV", "NNFN"), strict=False):
        stand = {name: sum(classes["confusion"][name].values()) for name in "NSVFQ"}
        of_class = {name: stand[name] + classes["withheld"][name] + classes["missed"][name] for name in "NSVFQ"}
        marks = Counter(symbols[i % 4] for i in range(row["reference_beats"]))
        assert of_class == {name: marks[name] for name in "NSVFQ"}
        assert sum(classes["withheld"].values()) <= sum(row["withheld"].values())
        assert sum(classes["missed"].values()) == row["reference_beats"] - row["matched_beats"]
    assert first["confusion"]["S"]["N"] > 10  # every one of them is called N
    assert first["sensitivity_percent"] == {"N": 100, "S": 0, "V": 100, "F": None}
    assert first["ppv_percent"]["V"] == first["abnormal_ppv_percent"] == 100
    assert second["confusion"]["N"]["V"] > 5
    assert second["missed"]["F"] > 1
    assert sum(second["withheld"].values()) > 0
    pooled = shown["gross"]["classes"]
    for name in "NSVFQ":
        for label in "NSVFQ":
            assert pooled["confusion"][name][label] == sum(one["confusion"][name][label] for one in (first, second))
    assert 0 < pooled["macro_f1_percent"] < 100


def test_the_table_of_classes_follows_that_of_r_peaks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, model = write_record(tmp_path, symbols="NNNV", rr_s=EARLY_EVERY_FOURTH), write_tiny(tmp_path / "tiny.onnx")
    assert main(["score", str(path), "--model", str(model)]) == 0
    lines = capsys.readouterr().out.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("class "))
    assert lines[at - 2].startswith("gross")
    assert [line.split()[0] for line in lines[at + 1 : at + 6]] == ["N", "S", "V", "F", "Q"]
    assert lines[at + 3].split()[-3:] == ["100.00", "100.00", "100.00"]
    assert all(len(line) <= 100 for line in lines[at : at + 10])
    assert "not a medical device" in lines[-1]


@pytest.mark.parametrize("classes", [["normal", "abnormal"], ["S", "N", "V", "F", "Q"], ["N", "S", "F", "Q"]])
def test_nothing_is_said_of_classes_that_are_not_those_of_the_annotations(
    classes: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, model = write_record(tmp_path), write_tiny(tmp_path / "other.onnx", tiny_info(classes=classes))
    shown = score_json(capsys, path, "--model", model)
    assert shown["records"][0]["classes"] is shown["gross"]["classes"] is None
    assert main(["score", str(path), "--model", str(model)]) == 0
    assert not {"class", "macro", "abnormal,"} & {
        line.partition(" ")[0] for line in capsys.readouterr().out.splitlines()
    }


def test_a_model_that_waits_for_the_next_beat_finds_the_same_beats(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, tiny = write_record(tmp_path), write_tiny(tmp_path / "tiny.onnx")
    patient, prompt = score_json(capsys, path, "--model", tiny)["gross"], score_json(capsys, path)["gross"]
    for figure in ("found_beats", "f1_36ms_percent", "error_mean_ms", "delay_p99_s", "withheld"):
        assert patient[figure] == prompt[figure]


def test_annotations_are_at_the_rate_of_the_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_record(tmp_path / "in")
    shown = score_json(capsys, path, "--rate", "500", "--annotations", tmp_path / "out")
    found = read_places(tmp_path / "out" / "x", "ecgw")
    reference = read_places(path, "atr")
    assert found.size == BEATS
    assert np.abs(found - reference).max() <= 9
    assert 1000 * np.mean(found - reference) / RATE_HZ == pytest.approx(shown["gross"]["error_mean_ms"], abs=0.001)


def test_record_without_annotations_is_told_and_its_beats_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare, known = write_record(tmp_path, "bare", symbols=""), write_record(tmp_path, "known")
    assert main(["score", str(bare), str(known), "--annotations", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split()[:8] == ["bare", "-", str(BEATS), "-", "-", "-", "-", "-"]
    assert lines[4].split()[:5] == ["gross", str(BEATS), str(2 * BEATS), "100.00", "100.00"]
    assert "not scored, for want of annotations: bare" in lines
    assert read_places(bare, "ecgw").size == BEATS


@pytest.mark.parametrize("offset_mv", [40.0, -300.0])
def test_offset_that_would_clip_costs_no_beat_and_is_noted_once(
    offset_mv: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    signal = 0.001 * make_ecg(beat_times(SECONDS, (0.8,)), SECONDS, RATE_HZ, 1000.0) + offset_mv
    path = wfdb_writer.write(tmp_path, signals=[signal], gains=[100.0], annotator=None)
    wfdb_writer.annotate(path, "qrs", beat_times(SECONDS, (0.8,)).tolist(), RATE_HZ, states=True)
    shown = score_json(capsys, path)["gross"]
    assert shown["f1_percent"] == 100
    assert shown["alerts"] == {}
    assert [note for note in shown["notes"] if "offset" in note] == [f"x: an offset of {offset_mv:.1f} mV is taken off"]
    assert main(["score", str(path)]) == 0
    assert capsys.readouterr().out.count("offset") == 1


def test_signal_that_spans_more_than_sixteen_bits_is_played_more_coarsely(tmp_path: Path) -> None:
    signal = 0.001 * make_ecg(beat_times(SECONDS, (0.8,)), SECONDS, RATE_HZ, 1000.0)
    signal[signal.size // 2 :] += 90.0  # the offset moves
    record = read_wfdb(wfdb_writer.write(tmp_path, signals=[signal], gains=[100.0], annotator=None))
    assert 1 < record.resolution_uv < 3
    assert any("uV per ADC count" in note for note in record.notes)
    sent = np.concatenate([packet.samples for packet in cut_packets(record, RATE_HZ)])
    assert np.abs(sent).max() < 32767


def test_annotator_can_be_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_record(tmp_path)
    wfdb_writer.annotate(path, "man", [1.0, 2.0, 3.0], RATE_HZ, states=False)
    assert score_json(capsys, path, "--annotator", "man")["gross"]["reference_beats"] == 3
    assert main(["score", str(path), "--annotator", "qrs"]) == 2
    assert "got annotator 'qrs', expected atr or man" in capsys.readouterr().err


def test_records_none_of_which_has_annotations_have_no_score(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gross = score_json(capsys, write_record(tmp_path, symbols=""))["gross"]
    assert gross["annotated"] is False
    assert gross["f1_percent"] is gross["sensitivity_percent"] is None
    assert gross["found_beats"] == BEATS


def test_record_without_beats_gives_an_empty_annotation_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_record(tmp_path, flat=True)
    gross = score_json(capsys, path, "--annotations", tmp_path)["gross"]
    assert (gross["found_beats"], gross["sensitivity_percent"], gross["ppv_percent"]) == (0, 0, None)
    assert gross["alerts"] == {"lead-off": 1}
    assert read_places(path, "ecgw").size == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "No file nowhere.hea"),
        (["{x}", "--lead", "V6"], "got lead 'V6', expected 0 (II), 1 (V1)."),
        (["{x}", "--lead", "2"], "got lead '2', expected 0 (II), 1 (V1)."),
        (["{x}", "--rate", "20"], "--rate: got 20 Hz, expected 50 to 4000."),
        (["{x}", "--rate", "nan"], "--rate: got nan Hz"),
        (["{x}", "--model", "nowhere"], "No model 'nowhere'"),
        (["{x}", "{x}.hea", "--annotations", "{out}"], "got x more than once"),
        (["{x}", "--annotations", "{x}.hea"], "File exists"),
        (["{no_signal}"], "no_signal cannot be read as a WFDB record"),
        (["{short}"], "short cannot be read as a WFDB record"),
        (["{nonsense}"], "nonsense cannot be read as a WFDB record"),
        (["{no_rate}"], "no_rate cannot be read as a WFDB record"),
        (["{bad_notes}"], "bad_notes cannot be read as a WFDB record"),
        (["{slow}"], "slow: got 10 Hz, expected 50 to 4000."),
    ],
)  # fmt: skip
def test_error_is_one_line_and_exit_status_2(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = {name: str(write_record(tmp_path, name)) for name in ("x", "no_signal", "short", "no_rate", "bad_notes")}
    (tmp_path / "no_signal.dat").unlink()
    (tmp_path / "short.dat").write_bytes(b"\0" * 1000)
    for name, rate in (("no_rate", "0"), ("slow", "10")):
        (tmp_path / f"{name}.hea").write_text(f"{name} 1 {rate} 15000\nno_rate.dat 16 1000 16 0 0 0 0 II\n")
    (tmp_path / "nonsense.hea").write_text("nonsense")
    (tmp_path / "bad_notes.atr").write_bytes(b"\xff\xff\xff")
    known |= {name: str(tmp_path / name) for name in ("slow", "nonsense", "out")}
    assert main(["score", *(word.format(**known) for word in words)]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("simulator: ")
    assert message in shown
    assert shown.count("\n") == 1


def test_without_wfdb_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_record(tmp_path)
    monkeypatch.setitem(sys.modules, "wfdb", None)
    assert main(["score", str(path)]) == 2
    assert "pip install 'ecgwatch[records]'" in capsys.readouterr().err


# Real ECG.


def test_real_record_is_scored_to_the_sample_as_its_annotation_file(
    ecg_data: Path, tmp_path: Path, classifier: Classifier
) -> None:
    record = read_wfdb(ecg_data / "mitdb" / "207")  # has ventricular flutter
    outcome = play_record(record, classifier)
    write_annotations(record, outcome.beats, tmp_path)
    figures = summarise("207", [outcome])
    assert figures.reference_beats == 1860
    assert len(outcome.beats) > figures.found_beats  # the monitor does find something in flutter
    assert figures.f1_percent is not None
    assert figures.f1_percent > 98.5
    assert compare(record, read_places(tmp_path / "207", "ecgw")).errors.size == figures.matched_beats
