"""Pictures and pages: to scale, self-contained, and without a number that the recording does not hold."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from analysis.examine import examine
from analysis.report import LIMITS, make_report, to_html, write_report
from analysis.strip import INCH_MM, MM_MV, MM_S, Strip, cut_strip, make_figure, save
from analysis.summary import Summary, summarise
from ecgwatch.__main__ import main
from monitor.classify import Classifier
from recordings.recording import Recording, make_recording
from tests.monitor.synthetic_ecg import beat_times, make_ecg
from tests.recordings.foreign_files import ecg_uv, write_wfdb

START_S = 1_790_000_000.0


def _recording(seconds: float = 200.0) -> Recording:
    times_s = np.delete(beat_times(seconds, 0.8), [100])
    signal = make_ecg(times_s, seconds, 250.0).astype(np.float64)
    signal[250 * 150 : 250 * 160] = np.nan
    return make_recording("made", 250.0, "II", signal, ["a note"], start_s=START_S)


@pytest.fixture(scope="module")
def made() -> tuple[Recording, Summary, str]:
    recording = _recording()
    findings = examine(recording, Classifier("ptb"))
    summary = summarise(recording, findings)
    return recording, summary, to_html(make_report(recording, findings, summary, "Device <x>", ["a comment"]))


def test_page_needs_nothing_else(made: tuple[Recording, Summary, str]) -> None:
    page = made[2]
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", page)
    assert "<script" not in page
    assert "Device &lt;x&gt;" in page


def test_limits_stand_before_the_first_figure(made: tuple[Recording, Summary, str]) -> None:
    page = made[2]
    for limit in LIMITS:
        assert 0 < page.index(limit[:40].replace("'", "&#x27;")) < page.index("<table")


def test_figures_on_the_page_are_those_of_the_summary(made: tuple[Recording, Summary, str]) -> None:
    _, summary, page = made
    text = re.sub("<[^>]+>", "|", page)
    facts = dict(re.findall(r"\|\|([A-Z][^|]+)\|\|([^|]+)\|\|", text))
    assert facts["Beats"] == str(summary.beats)
    assert facts["Length"] == "0:03:20, of which 0:03:10 with signal"
    assert summary.mean_bpm is not None
    assert facts["Mean heart rate"].startswith(f"{summary.mean_bpm:.0f} ")
    assert facts["Longest RR interval"].startswith("1.60 s at 14:14:")
    assert "a note" in text
    assert "a comment" in text


@pytest.mark.parametrize("suffix", [".html", ".pdf"])
def test_report_of_a_file_is_written(suffix: str, tmp_path: Path) -> None:
    record = write_wfdb(tmp_path / "record", ecg_uv(250.0), 250.0, 1.0)
    target = tmp_path / f"out{suffix}"
    assert main(["analyse", str(record), "--report", str(target)]) == 0
    content = target.read_bytes()
    assert content.startswith(b"%PDF" if suffix == ".pdf" else b"<!doctype html>")
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_recording_without_a_beat_has_a_report_as_well(tmp_path: Path) -> None:
    recording = make_recording("flat", 250.0, "II", np.zeros(250 * 30), [])
    findings = examine(recording, Classifier("ptb"))
    report = make_report(recording, findings, summarise(recording, findings), "flat")
    for name in ("x.html", "x.pdf"):
        write_report(tmp_path / name, report)
    with pytest.raises(ValueError, match=r"got 'x.doc', expected a name that ends in .html or .pdf"):
        write_report(tmp_path / "x.doc", report)


# Strips.


def test_strip_is_to_scale() -> None:
    strip = cut_strip(_recording(), [(50.0, "N")], 50.0, "title", "said")
    figure = make_figure(strip)
    (axes,) = figure.axes
    width_mm = axes.get_position().width * figure.get_figwidth() * INCH_MM
    height_mm = axes.get_position().height * figure.get_figheight() * INCH_MM
    low, high = axes.get_ylim()
    assert width_mm == pytest.approx(MM_S * strip.seconds)
    assert height_mm == pytest.approx(MM_MV * (high - low))
    assert strip.seconds == 10.0
    assert strip.event_s == pytest.approx(7.0)
    ((at, label),) = strip.beats
    assert label == "N"
    assert at == pytest.approx(7.0)


@pytest.mark.parametrize("event_s", [0.0, 1.0, 155.0, 199.9, 200.0])
def test_strip_at_an_edge_or_in_a_hole_is_drawn(event_s: float, tmp_path: Path) -> None:
    strip = cut_strip(_recording(), [], event_s, "title", "said")
    assert strip.samples.size == 2500
    save(make_figure(strip), tmp_path / "x.png")


@pytest.mark.parametrize(
    "samples", [np.full(1250, np.nan), np.zeros(1250), np.linspace(-32767, 32767, 1250), np.zeros(0), np.ones(1)]
)
@pytest.mark.parametrize("is_scaled", [True, False])
def test_any_signal_is_drawn(samples: np.ndarray, is_scaled: bool, tmp_path: Path) -> None:
    save(make_figure(Strip("t", "s", 125.0, samples, is_scaled)), tmp_path / "x.svg")


@pytest.mark.parametrize("suffix", [".svg", ".png", ".pdf"])
def test_same_strip_is_the_same_file(suffix: str, tmp_path: Path) -> None:
    for name in "ab":
        save(make_figure(cut_strip(_recording(), [], 50.0, "t", "s")), tmp_path / f"{name}{suffix}")
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    with pytest.raises(ValueError, match=r"expected a name that ends in .svg, .png, .pdf"):
        save(make_figure(cut_strip(_recording(), [], 50.0, "t", "s")), tmp_path / "x.gif")
