"""What is kept, handed out again: laid out by its times, with the beats and alerts that belong to it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from analysis.examine import examine_packets
from ecgwatch.__main__ import main
from monitor import wire
from monitor.classify import Classifier
from recorder.archive import Archive, Kept, Message
from recorder.assemble import assemble, join_packets, spells
from recorder.hand_out import Wanted, moment
from recordings import formats
from tests.recorder.test_archive import NOW_S, make_packets

INFO = Message("info", 0.0, wire.encode(wire.Info(rate_hz=250.0, lead="II", resolution_uv=2.0)))


def _alert(state: str, time_s: float, kind: str = "bradycardia") -> Message:
    payload = (
        f'{{"id": "a-{kind}-{state}", "episode": "e-{kind}", "device": "a", "kind": "{kind}", "severity": "medium", '
        f'"state": "{state}", "time_s": {time_s}, "since_s": {min(time_s, 1010.0)}, "text": "Slow"}}'
    )
    return Message("alerts", time_s, payload.encode())


def test_packets_lie_where_their_times_say_and_gaps_stay_gaps() -> None:
    packets = make_packets(30.0)
    kept = Kept("a", [*packets[20:], *packets[:10]], [INFO])  # ten seconds are missing
    got = assemble(kept)
    assert (got.recording.rate_hz, got.start_s, got.recording.lead) == (250.0, 1000.0, "II")
    expected = 2.0 * np.concatenate([packet.samples for packet in packets]).astype(np.float64)
    expected[2500:5000] = np.nan
    np.testing.assert_array_equal(got.recording.samples_uv, expected)


def test_rate_of_a_device_whose_clock_runs_otherwise_is_that_of_its_clock() -> None:
    packets = [
        wire.Packet(i, 1000.0 + i * 250 / 250.05, 250.0, packet.samples) for i, packet in enumerate(make_packets(60.0))
    ]
    got = assemble(Kept("a", packets, [INFO])).recording
    assert got.rate_hz == pytest.approx(250.05, abs=1e-3)
    assert got.samples_uv.size == 60 * 250


def test_alerts_have_begin_and_end_and_each_comes_once() -> None:
    messages = [INFO, _alert("new", 1010.0), _alert("new", 1010.0), _alert("end", 1020.0), _alert("new", 1025.0, "x")]
    got = assemble(Kept("a", make_packets(), [*messages, Message("alerts", 0.0, b"garbage")]))
    assert [(one.kind, one.begin_s, one.end_s) for one in spells(got)] == [
        ("bradycardia", 10.0, 20.0),
        ("x", 10.0, None),
    ]


def test_device_that_never_said_what_it_sends_is_taken_at_one_microvolt_and_that_is_said() -> None:
    got = assemble(Kept("a", make_packets(), []))
    assert got.resolution_uv == 1.0
    assert any("steps of 1 uV are assumed" in note for note in got.recording.notes)


@pytest.mark.parametrize("name", ["wfdb", "edf", "csv", "parquet", "fhir", "fhir-r4"])
def test_export_writes_the_kept_signal_with_its_beats(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packets = make_packets(40.0, start_s=1_790_000_000.0)
    Archive(tmp_path / "r").add("a", packets, [INFO, _alert("new", 1_790_000_020.0)], NOW_S)
    words = ["export-ecg", "a", "--record", str(tmp_path / "r"), "--since", "2026-09-21T14:13:30", "--format", name]
    assert main([*words, "-o", str(tmp_path / "x")]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path.is_file()
    if name.startswith("fhir"):
        bundle = json.loads(path.read_text())
        [rate] = {
            tuple(sorted(name for name in part["valueSampledData"] if name in ("period", "interval")))
            for one in bundle["entry"]
            for part in one["resource"].get("component", [])
            if "valueSampledData" in part
        }
        assert rate == (("interval",) if name == "fhir" else ("period",))
    if name in ("wfdb", "edf", "csv"):
        got = formats.read(path)
        assert got.samples_uv.size == 30 * 250
        np.testing.assert_allclose(
            got.samples_uv, 2.0 * np.concatenate([one.samples for one in packets[10:]]), atol=0.01
        )
        assert name == "csv" or sum(mark[1][:1] in "NQ" for mark in got.marks) >= 30


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["export-ecg", "nobody"], "Nothing is kept of device nobody"),
        (["export-ecg", "a/b"], "A device id must match"),
        (["export-ecg", "a", "--since", "yesterday"], "expected a time ago such as 24h"),
        (
            ["export-ecg", "a", "--since", "2037-01-01"],
            "of that time: got 1970-01-01T00:16:40 to 1970-01-01T00:17:10 (UTC",
        ),
        (["report", "a", "--since", "2037-01-01"], "No sample of device a is kept of that time: got 1970-01-01"),
        (["export-ecg", "a", "--since", "1h", "--until", "2h"], "The end must come after the begin"),
    ],
)
def test_what_cannot_be_handed_out_is_one_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Archive(tmp_path).add("a", make_packets(), [], NOW_S)
    assert main([*words, "--record", str(tmp_path)]) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert shown.count("\n") == 1


def test_a_device_that_only_said_what_it_is_says_of_which_time_there_is_signal(tmp_path: Path) -> None:
    Archive(tmp_path).add("a", make_packets(), [INFO], NOW_S)
    with pytest.raises(ValueError, match=r"got 1970-01-01T00:16:40 to 1970-01-01T00:17:10"):
        Wanted(tmp_path, "a", since_s=NOW_S).read()


def test_joined_packets_give_the_same_beats_and_alerts(tmp_path: Path) -> None:
    packets = make_packets(60.0, start_s=1_790_000_000.0)
    del packets[20:25], packets[40]
    classifier = Classifier("ptb")
    plain, joined = (examine_packets("a", one, None, classifier) for one in (packets, list(join_packets(packets))))
    assert len(plain.beats) > 50
    assert [(one.id, one.label, one.reason) for one in plain.beats] == [
        (one.id, one.label, one.reason) for one in joined.beats
    ]
    assert [(one.id, one.state) for one in plain.alerts] == [(one.id, one.state) for one in joined.alerts]
    assert sum(one.samples.size for one in join_packets(packets)) == 54 * 250


def test_moments_are_ago_or_dates() -> None:
    assert moment("2h", 10_000.0) == 2800.0
    assert moment("1970-01-01T01:00:00") == moment("1970-01-01T02:00:00+01:00") == 3600.0
