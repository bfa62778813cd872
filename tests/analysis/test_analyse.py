"""Recordings of every format through the engine: the same beats, and figures that follow from them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from analysis.analyse import AnalyseSettings, run_analyse
from analysis.examine import examine
from analysis.summary import summarise
from ecgwatch.__main__ import main
from monitor.classify import Classifier
from recordings.formats import read
from recordings.reader import open_wfdb
from recordings.recording import Recording, make_recording
from tests.monitor.synthetic_ecg import beat_times, make_ecg
from tests.recordings.foreign_files import KINDS, Kind, ecg_uv, write_wfdb


@pytest.fixture(scope="session")
def classifier() -> Classifier:
    return Classifier("ptb")


def _recording(signal_uv: np.ndarray, rate_hz: float = 250.0) -> Recording:
    return make_recording("made", rate_hz, "II", np.asarray(signal_uv, np.float64), [])


@pytest.mark.parametrize("kind", KINDS, ids=[f"{kind.name}{kind.ending}" for kind in KINDS])
def test_beats_of_a_file_are_those_of_the_same_signal_as_wfdb(
    kind: Kind, classifier: Classifier, tmp_path: Path
) -> None:
    path, signal_uv = kind.make(tmp_path)
    yardstick = write_wfdb(tmp_path / "yardstick", signal_uv, kind.rate_hz, kind.resolution_uv)
    found, expected = (examine(read(one), classifier) for one in (path, yardstick))
    assert len(expected.beats) >= 25
    assert [(beat.label, beat.verdict) for beat in found.beats] == [(one.label, one.verdict) for one in expected.beats]
    np.testing.assert_allclose(found.qrs_s, expected.qrs_s, atol=1e-6)
    assert [(one.kind, one.state) for one in found.alerts] == [(one.kind, one.state) for one in expected.alerts]


def test_figures_are_those_of_the_signal(classifier: Classifier) -> None:
    times_s = beat_times(130.0, 0.75)
    times_s = np.delete(times_s, [100])  # a pause of two intervals
    recording = _recording(make_ecg(times_s, 130.0, 250.0))
    summary = summarise(recording, examine(recording, classifier))
    assert (summary.seconds, summary.signal_s) == (130.0, 130.0)
    assert abs(summary.beats - times_s.size) <= 2
    assert sum(summary.counts.values()) == summary.beats
    np.testing.assert_allclose(summary.longest_rr_s or (), (1.5, times_s[99]), atol=0.02)
    np.testing.assert_allclose(summary.trend_bpm[:2], [80, 80], atol=1.5)
    assert summary.lowest_bpm is not None
    assert summary.lowest_bpm[1] == 60.0


def test_no_interval_spans_a_hole(classifier: Classifier) -> None:
    signal = make_ecg(beat_times(120.0, 0.8), 120.0, 250.0).astype(np.float64)
    signal[250 * 40 : 250 * 50] = np.nan
    recording = _recording(signal)
    summary = summarise(recording, examine(recording, classifier))
    assert summary.signal_s == 110.0
    assert summary.longest_rr_s is not None
    assert summary.longest_rr_s[0] < 1.0


def test_recording_without_a_beat_has_no_figures_and_no_error(classifier: Classifier) -> None:
    recording = _recording(np.zeros(250 * 30))
    summary = summarise(recording, examine(recording, classifier))
    assert (summary.beats, summary.mean_bpm, summary.longest_rr_s, summary.judged) == (0, None, None, None)


def test_text_names_what_was_found_and_what_was_assumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kind = next(kind for kind in KINDS if kind.name == "polar")
    path, _ = kind.make(tmp_path)
    assert main(["analyse", str(path)]) == 0
    shown = capsys.readouterr().out
    for word in (
        "lead ECG, 130 Hz, 0:00:24",
        "heart rate  mean 7",
        "longest RR  0.9",
        "the rate is taken from the times",
    ):
        assert word in shown
    assert "not a medical device" in shown


def test_json_has_every_beat_and_agrees_with_the_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(kind.make(tmp_path)[0]) for kind in KINDS[:1]]
    assert main(["analyse", "--json", *paths]) == 0
    (found,) = json.loads(capsys.readouterr().out)["files"]
    assert found["lead"] == "ECG II"
    assert len(found["beats"]) == sum(found["counts"].values())
    assert found["seconds"] == 24.0


def test_annotations_are_read_back_by_wfdb_at_the_beats(classifier: Classifier, tmp_path: Path) -> None:
    path = write_wfdb(tmp_path / "record", ecg_uv(250.0), 250.0, 1.0)
    run_analyse(AnalyseSettings(files=(path,), annotations=tmp_path / "found"))
    with open_wfdb("test") as wfdb:
        notes = wfdb.rdann(str(tmp_path / "found" / "record"), "ecgw")
    found = examine(read(path), classifier)
    beats = [at for at, symbol in zip(notes.sample, notes.symbol, strict=True) if symbol in "NQ"]
    np.testing.assert_array_equal(beats, np.rint(found.qrs_s * 250.0))
    assert [path.name for path in (tmp_path / "found").iterdir()] == ["record.ecgw"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing.edf"], "No file nothing.edf"),
        (["a.csv", "b/a.csv", "--annotations", "x"], "got one name twice"),
        (["a.csv", "--model", "nonesuch"], "nonesuch"),
    ],
)
def test_what_cannot_be_analysed_is_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["analyse", *words]) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert shown.count("\n") == 1


def test_a_file_that_cannot_be_read_leaves_the_others_to_be_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = write_wfdb(tmp_path / "good", ecg_uv(250.0), 250.0, 1.0)
    assert main(["analyse", "--json", str(tmp_path / "nothing.edf"), str(good)]) == 1
    told = capsys.readouterr()
    assert len(json.loads(told.out)["files"]) == 1
    assert "nothing.edf" in told.err
    assert told.err.count("\n") == 1


def test_rate_that_is_not_allowed_on_the_wire_is_refused(classifier: Classifier) -> None:
    with pytest.raises(ValueError, match="got 10 Hz, expected 50 to 4000"):
        examine(_recording(np.sin(np.arange(1000.0)), 10.0), classifier)
