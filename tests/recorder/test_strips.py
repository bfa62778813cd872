"""The strip of an alert, wherever the alert and its ECG are found; and the report of a device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecgwatch.__main__ import main
from recorder.archive import Archive, Message
from recorder.hand_out import Wanted
from recorder.reporting import make
from recorder.strips import StripSettings, find_alert, make_strip
from tests.recorder.test_archive import NOW_S, make_packets
from tests.recorder.test_hand_out import INFO

BEGIN_S = 1_790_000_000.0


def alert(**fields: Any) -> dict[str, Any]:
    usual = {
        "id": "dev-1-1790000030000-bradycardia-new", "episode": "dev-1-1790000030000-bradycardia", "device": "dev-1",
        "kind": "bradycardia", "severity": "medium", "state": "new", "time_s": BEGIN_S + 30, "since_s": BEGIN_S + 30,
        "text": "Slow", "schema": 2,
    }  # fmt: skip
    return usual | fields


def keep(root: Path, *alerts: dict[str, Any], seconds: float = 60.0) -> None:
    said = [Message("alerts", BEGIN_S, json.dumps(one).encode()) for one in alerts]
    Archive(root).add("dev-1", make_packets(seconds, start_s=BEGIN_S), [INFO, *said], NOW_S)


def settings(tmp_path: Path, text: str) -> StripSettings:
    return StripSettings(text, tmp_path / "x.svg", tmp_path / "record", tmp_path / "state")


def test_alert_is_found_in_the_record_by_its_id_and_by_its_episode(tmp_path: Path) -> None:
    keep(tmp_path / "record", alert(), alert(id="dev-1-1790000040000-bradycardia-end", state="end"))
    for text in ("dev-1-1790000030000-bradycardia-new", "dev-1-1790000030000-bradycardia"):
        assert find_alert(settings(tmp_path, text))["state"] == "new"
    with pytest.raises(ValueError, match="No alert 'dev-1-5'"):
        find_alert(settings(tmp_path, "dev-1-5"))


def test_record_lies_beside_the_states_that_the_configuration_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(tmp_path / "st" / "record", alert())
    (tmp_path / "ecgwatch.toml").write_text('state = "st"')
    config = ["--config", str(tmp_path / "ecgwatch.toml")]
    since = ["--since", "2026-09-01"]
    assert main(["strip", "dev-1-1790000030000-bradycardia", "-o", str(tmp_path / "x.svg"), *config]) == 0
    assert main(["export-ecg", "dev-1", *since, "--format", "csv", "-o", str(tmp_path / "x.csv"), *config]) == 0
    assert (tmp_path / "x.svg").exists()
    assert (tmp_path / "x.csv").exists()
    assert main(["export-ecg", "dev-1", *since, "--state", str(tmp_path / "other"), *config]) == 2
    assert str(tmp_path / "other" / "record") in capsys.readouterr().err


def test_strip_is_cut_out_of_the_record(tmp_path: Path) -> None:
    keep(tmp_path / "record", alert())
    strip = make_strip(alert(), tmp_path / "record")
    expected = 2.0 * np.concatenate([packet.samples for packet in make_packets(60.0)])[250 * 23 : 250 * 33]
    np.testing.assert_array_equal(strip.samples, expected)
    assert strip.event_s == pytest.approx(7.0)


def test_strip_that_the_alert_brings_is_drawn_without_a_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {
        "start_s": BEGIN_S + 22, "rate_hz": 125, "unit": "uV", "samples": list(range(1250)),
        "beats": [{"time_s": BEGIN_S + 25, "label": "V", "verdict": "abnormal"}],
    }  # fmt: skip
    (tmp_path / "alert.json").write_text(json.dumps(alert(strip=own)))
    words = ["strip", str(tmp_path / "alert.json"), "--record", str(tmp_path / "none"), "-o", str(tmp_path / "x.svg")]
    assert main(words) == 0
    assert "x.svg" in capsys.readouterr().out
    strip = make_strip(alert(strip=own), tmp_path)
    assert (strip.event_s, strip.beats, strip.is_scaled) == (8.0, ((3.0, "V"),), True)


def test_beat_in_the_alert_is_drawn_where_nothing_else_is_left(tmp_path: Path) -> None:
    beat = {"start_s": BEGIN_S + 30, "rate_hz": 125.0, "unit": "step", "samples": [1, 2, 3]}
    strip = make_strip(alert(waveform=beat), tmp_path)
    assert (strip.samples.tolist(), strip.is_scaled) == ([1, 2, 3], False)
    with pytest.raises(ValueError, match="Nothing is kept of device dev-1"):
        make_strip(alert(), tmp_path)


@pytest.mark.parametrize("content", ["", "no json", "[1]", '{"id": "x"}'])
def test_file_without_an_alert_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(ValueError, match="got no alert in JSON"):
        find_alert(settings(tmp_path, str(tmp_path / "x.json")))


def test_report_of_a_device_counts_what_was_published(tmp_path: Path) -> None:
    end = alert(id="dev-1-1790000040000-bradycardia-end", state="end", time_s=BEGIN_S + 40)
    keep(tmp_path / "record", alert(), end, alert(kind="new-kind", id="x", episode="y", severity="unheard-of"))
    report = make(Wanted(tmp_path / "record", "dev-1"))
    header, *rows = report.episodes
    assert header == ("from", "for", "severity", "kind", "what")
    assert {(row[3], row[1]) for row in rows} == {("bradycardia", "0:00:10"), ("new-kind", "0:00:30 (to the end)")}
    assert any("Alerts: as the monitor published them" in note for note in report.notes)
    assert any("Beats: found by the model nsv" in note for note in report.notes)


def test_report_is_written_in_both_forms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(tmp_path / "record")
    outputs = [str(tmp_path / name) for name in ("x.html", "x.pdf")]
    words = ["report", "dev-1", "--since", "2020-01-01", "--record", str(tmp_path / "record")]
    assert main([*words, "-o", outputs[0], "-o", outputs[1]]) == 0
    assert capsys.readouterr().out.split() == outputs
