"""`python -m tests.alerts` on recordings whose truth is known."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from monitor import wire
from simulator.alert_score import Published, Reference
from simulator.records import Record
from simulator.stream import Played
from tests.alerts import __main__ as command
from tests.alerts import bedside, ec13, motion, rhythms, splices, targets
from tests.alerts.figures import Figure, rate, share
from tests.alerts.panels import Panels
from tests.alerts.playing import make_record, play
from tests.monitor.synthetic_ecg import beat_times, make_ecg
from training.motion import RATE_HZ as MOTION_HZ

RATE_HZ = 250.0


def _alert(kind: str, told_s: float, since_s: float | None = None, severity: str = "high") -> wire.Alert:
    since_s = told_s - 1 if since_s is None else since_s
    return wire.Alert(
        id=f"{told_s}", episode=f"{kind}{since_s}", device="made", kind=kind, severity=severity,  # type: ignore[arg-type]
        state="new", time_s=since_s, since_s=since_s, seq=1, completed_s=told_s,
    )  # fmt: skip


def _end(alert: wire.Alert, time_s: float) -> wire.Alert:
    return wire.Alert(
        id=f"{time_s}", episode=alert.episode, device="made", kind=alert.kind, severity=alert.severity,
        state="end", time_s=time_s, since_s=alert.since_s, seq=2, completed_s=time_s + 1,
    )  # fmt: skip


def _published(*alerts: wire.Alert, seconds: float = 300.0) -> Published:
    return Published("made", seconds, list(alerts))


def _record(seconds: float, symbols: str = "N") -> Record:
    times_s = beat_times(seconds)
    beats = tuple(Played(t, symbols[i % len(symbols)], str(i), 0.8) for i, t in enumerate(times_s.tolist()))
    return Record("made", RATE_HZ, "II", make_ecg(times_s, seconds, RATE_HZ).astype(float), beats)


def test_the_score_of_the_challenge_weighs_a_missed_alarm_five_times() -> None:
    outcomes = bedside.Outcomes({(True, True): 6, (False, False): 3, (False, True): 1, (True, False): 2})
    figures = {one.name: one for one in bedside.figures_of({"Asystole": outcomes})}
    assert figures["score of the challenge"].value == pytest.approx(9 / 20)
    assert figures["true alarms told"].value == 75.0
    assert figures["Asystole: false alarms not told"].counts == "3 of 4"


@pytest.mark.parametrize(
    ("alarm", "kind", "ended_s", "told"),
    [
        ("Asystole", "asystole", None, True),
        ("Asystole", "ventricular-fibrillation", None, True),
        ("Asystole", "bradycardia", None, False),
        ("Bradycardia", "asystole", None, True),
        ("Tachycardia", "tachycardia", 290.0, True),
        ("Tachycardia", "tachycardia", 280.0, False),
    ],
)
def test_an_alarm_is_told_by_an_alert_that_stands_for_it_at_the_end(
    alarm: str, kind: str, ended_s: float | None, told: bool
) -> None:
    alert = _alert(kind, 270.0)
    ends = [] if ended_s is None else [_end(alert, ended_s)]
    assert bedside.is_told(_published(alert, *ends), alarm) is told


def test_a_host_is_the_first_stretch_of_normal_beats_that_is_long_enough() -> None:
    assert splices.find_host(_record(79.0)) is None
    assert splices.find_host(_record(120.0, "NNNNNNNNNNV")) is None
    host = splices.find_host(_record(120.0))
    assert host is not None
    assert (host.before_uv.size, host.after_uv.size) == (60 * RATE_HZ, 20 * RATE_HZ)
    assert host.height_uv == pytest.approx(1000, rel=0.2)


def test_a_heart_that_stops_is_told_and_a_small_one_is_not_told_as_stopped() -> None:
    host = splices.find_host(_record(120.0))
    assert host is not None
    piece = splices.Piece(np.sin(np.arange(5000) * 2 * np.pi * 5 / RATE_HZ) * 300, RATE_HZ)
    ends = splices.make_ends(host, piece, np.random.default_rng(0))
    assert np.ptp(ends["fibrillation"]) == pytest.approx(2 * host.height_uv, rel=0.1)
    assert np.ptp(ends["P waves"]) == pytest.approx(0.1 * host.height_uv, rel=0.4)
    told = {}
    for name in ("flat line", "P waves", "fibrillation", "0.2 times as high"):
        record = make_record("made", np.concatenate([host.before_uv, ends[name]]), RATE_HZ, "II")
        told[name] = splices.kind_told(play(record, Panels().of("made", "made"))[0])
    assert told["flat line"] == told["P waves"] == "asystole"
    assert told["fibrillation"] in ("ventricular-fibrillation", "ventricular-tachycardia")
    assert told["0.2 times as high"] is None


@pytest.mark.parametrize(("told_s", "kind"), [(59.0, None), (60.5, "asystole"), (72.0, "asystole"), (72.5, None)])
def test_a_splice_is_told_within_twelve_seconds(told_s: float, kind: str | None) -> None:
    assert splices.kind_told(_published(_alert("asystole", told_s))) == kind
    assert splices.kind_told(_published(_alert("pause", told_s, severity="medium"))) is None


def test_splices_told_otherwise_than_asked_are_not_hidden() -> None:
    kinds: dict[str, Counter[str | None]] = {
        "flat line": Counter({"asystole": 3, None: 1}),
        "0.1 times as high": Counter({"asystole": 1, "extreme-bradycardia": 1, None: 2}),
    }
    flat, small = splices.figures_of(kinds)
    assert (flat.value, flat.counts) == (75.0, "3 of 4 (3 asystole, 1 not)")
    assert (small.value, small.counts) == (25.0, "1 of 4 (2 not, 1 asystole, 1 extreme-bradycardia)")


@pytest.mark.parametrize(
    ("kind", "told_s", "in_time", "false"),
    [
        ("ventricular-fibrillation", 110.0, 1, 0),
        ("ventricular-fibrillation", 110.5, 0, 0),
        ("ventricular-fibrillation", 98.0, 1, 0),
        ("asystole", 105.0, 1, 0),
        ("ventricular-tachycardia", 105.0, 0, 0),
        ("ventricular-tachycardia", 190.0, 0, 1),
    ],
)
def test_fibrillation_is_told_in_time_and_what_is_told_without_a_lethal_rhythm_is_false(
    kind: str, told_s: float, in_time: int, false: int
) -> None:
    reference = Reference({rhythms.VF: [(100.0, 160.0), (170.0, 175.0)]}, [], [("(N", (0.0, 100.0))])
    measured, alert = rhythms.Measured(), _alert(kind, told_s)
    rhythms.add_lethal(measured, _published(alert, _end(alert, max(told_s, 101.0))), reference)
    assert (measured.fibrillations, measured.told, measured.false) == (1, in_time, false)  # one of 5 s is too short
    assert measured.other_s == pytest.approx(235.0)


def test_tall_t_waves_are_as_asked() -> None:
    signal = ec13.make_tall_t_waves(1.2)
    period = round(0.75 * ec13.T_RATE_HZ)
    beat = signal[:period]
    assert np.argmax(beat[:50]) == 25
    assert beat[:50].max() == pytest.approx(1000)
    assert beat.max() == pytest.approx(1200)
    assert np.flatnonzero(beat > 1)[-1] / ec13.T_RATE_HZ == pytest.approx(0.35, abs=0.005)
    np.testing.assert_allclose(signal[period : 2 * period], beat, atol=1e-6)


def test_the_time_to_an_alarm_is_that_of_the_first_grave_one() -> None:
    alerts = [_alert("extreme-tachycardia", 31.0), _alert("ventricular-tachycardia", 34.0)]
    assert ec13.time_to_alarm(_published(*alerts)) == ("ventricular-tachycardia", 3.5)
    assert ec13.time_to_alarm(_published(alerts[0])) == ("never told", None)


def test_recordings_in_motion_keep_gaps_and_the_grade_of_each_sample(tmp_path: Path) -> None:
    time_s = np.r_[np.arange(1000), np.arange(1100, 2000)] / MOTION_HZ
    counts, grades = np.full(1900, 2058, np.int16), np.array([[0, 1000, 1], [1000, 1900, 4]], np.int32)
    np.savez(tmp_path / "01_01_beh.npz", time=time_s, adc=counts, grade=grades)
    record, of_sample = motion.read_motion(tmp_path / "01_01_beh.npz")
    assert (record.samples_uv[0], record.samples_uv.size) == (50.0, 2000)
    assert np.flatnonzero(np.isnan(record.samples_uv)).tolist() == list(range(1000, 1100))
    assert (of_sample[999], of_sample[1100], of_sample[1998]) == (1, 4, 4)


def test_a_person_is_judged_by_a_model_that_has_not_met_them(tmp_path: Path) -> None:
    (tmp_path / "people.json").write_text(json.dumps({"1": ["mitdb/106"]}))
    (tmp_path / "fold1.onnx").write_bytes(b"")
    panels = Panels(tmp_path)
    assert panels.path_of("mitdb", "106") == tmp_path / "fold1.onnx"
    assert panels.path_of("cinc2015", "a103l") is None  # no class model has met these people
    assert Panels().path_of("mitdb", "106") is None


def test_figures_are_shares_and_rates() -> None:
    assert share("some", 3, 40) == Figure("some", 7.5, "%", "3 of 40")
    assert rate("some", 3, 7200.0) == Figure("some", 1.5, "/h", "3 in 2.0 h")
    assert share("none", 0, 0).value is None


def test_a_figure_that_was_not_measured_misses_its_target() -> None:
    assert targets.is_met((0.0, 3.0), 3.0)
    assert not targets.is_met((0.0, 3.0), 3.1)
    assert not targets.is_met((90.0, np.inf), None)


def test_every_target_belongs_to_a_figure() -> None:
    figures = [Figure("score of the challenge", 0.7), Figure("true alarms told", 95.0)]
    command.check_targets("bedside", figures)
    with pytest.raises(ValueError, match="unknown figures, true alarms told"):
        command.check_targets("bedside", figures[:1])
    assert targets.TARGETS.keys() == command.FAMILIES.keys()


def _write_alarms(folder: Path) -> None:
    """Write two alarms of asystole: a heart that stops, and one that beats on."""
    folder.mkdir()
    stopped, beating = (make_ecg(beat_times(until_s), 60.0, RATE_HZ) for until_s in (50.0, 60.0))
    np.savez(folder / bedside.SIGNALS, one=stopped, two=beating)
    (folder / bedside.TABLE).write_text("record,alarm,true,lead\none,Asystole,1,II\ntwo,Asystole,0,II\n")


def test_the_command_prints_figures_beside_targets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write_alarms(tmp_path / "cinc2015")
    assert command.main([str(tmp_path), "--only", "bedside", "--about"]) == 0
    out = capsys.readouterr().out
    assert "bedside, judged by the bundled models" in out
    assert "weighs five times" in out
    assert "met    score of the challenge                                          1    ≥ 0.7       2 alarms" in out


def test_the_command_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "another").mkdir()
    assert command.main([str(tmp_path)]) == 2
    assert "got no data set, expected a folder of at least one of cinc2015" in capsys.readouterr().err
    _write_alarms(tmp_path / "cinc2015")
    assert command.main([str(tmp_path)]) == 0
    assert "ec13: not measured, for want of ec13" in capsys.readouterr().out
    assert command.main([str(tmp_path), "--only", "ec13"]) == 2
    assert "got no folder ec13, expected it for ec13" in capsys.readouterr().err
