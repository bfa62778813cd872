"""Alerts of annotated records against what the annotations say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monitor import wire
from monitor.classify import Classifier
from simulator.alert_score import (
    AlertScoreSettings,
    Published,
    Reference,
    Tally,
    add,
    format_tally,
    graver,
    merge,
    publish,
    read_reference,
    run_alert_score,
    to_json,
)
from simulator.records import Record, read_wfdb
from tests.monitor.synthetic_ecg import beat_times, make_ecg

RATE_HZ = 250.0
SECONDS = 60.0


def _write(directory: Path, times_s: list[float], symbols: str, rhythms: dict[float, str] | None = None) -> Path:
    """Write a record of one lead with beats at these times."""
    wfdb = pytest.importorskip("wfdb")
    signal = make_ecg(np.array(times_s), SECONDS, RATE_HZ) / 1000
    wfdb.wrsamp(
        "made",
        fs=RATE_HZ,
        units=["mV"],
        sig_name=["II"],
        p_signal=signal[:, None],
        fmt=["16"],
        write_dir=str(directory),
    )
    places = [round(time_s * RATE_HZ) for time_s in times_s]
    marks = [(place, symbol, "") for place, symbol in zip(places, symbols, strict=True)]
    marks += [(round(time_s * RATE_HZ), "+", text) for time_s, text in (rhythms or {}).items()]
    marks.sort()
    samples, kinds, texts = zip(*marks, strict=True)
    wfdb.wrann(
        "made", "atr", np.array(samples), list(kinds), aux_note=list(texts), fs=RATE_HZ, write_dir=str(directory)
    )
    return directory / "made"


def _reference(
    directory: Path, times_s: list[float], symbols: str, rhythms: dict[float, str] | None = None
) -> Reference:
    path = _write(directory, times_s, symbols, rhythms)
    return read_reference(path, read_wfdb(path))


def _alert(kind: str, state: str, time_s: float, since_s: float, severity: str = "medium") -> wire.Alert:
    return wire.Alert(
        id=f"{time_s}", episode=f"{since_s}-{kind}", device="made", kind=kind, severity=severity,  # type: ignore[arg-type]
        state=state, time_s=time_s, since_s=since_s, seq=1, completed_s=time_s + 1,  # type: ignore[arg-type]
    )  # fmt: skip


def _tally(reference: Reference, *alerts: wire.Alert) -> Tally:
    tally = Tally()
    add(tally, Published("made", 3600.0, list(alerts)), reference)
    return tally


def _every(rr_s: float, n: int, begin_s: float = 0.5) -> list[float]:
    return [begin_s + rr_s * k for k in range(n)]


def test_pauses_and_asystole_are_long_intervals(tmp_path: Path) -> None:
    times_s = [*_every(0.8, 10), *_every(0.8, 10, 11.2), *_every(0.8, 10, 23.0)]
    events = _reference(tmp_path, times_s, "N" * 30).events
    assert events["pause"] == [pytest.approx((7.7, 11.2)), pytest.approx((18.4, 23.0))]
    assert events["asystole"] == [pytest.approx((18.4, 23.0))]


def test_runs_are_ventricular_beats_in_a_row_that_are_fast(tmp_path: Path) -> None:
    times_s = [
        *_every(0.8, 5),
        *_every(0.4, 6, 5.0),
        *_every(0.8, 5, 9.0),
        *_every(0.4, 3, 14.0),
        *_every(0.8, 6, 16.0),
    ]
    events = _reference(tmp_path, times_s, "NNNNN" + "VVVVVV" + "NNNNN" + "VVV" + "VVVVVV").events
    assert events["ventricular-tachycardia"] == [pytest.approx((5.0, 7.0))]
    assert events["ventricular-run"] == []  # nine in a row, and slow
    times_s = [*_every(0.8, 5), *_every(0.4, 3, 5.0), *_every(0.8, 5, 9.0)]
    assert _reference(tmp_path, times_s, "NNNNN" + "VVV" + "NNNNN").events["ventricular-run"] == [
        pytest.approx((5.0, 5.8))
    ]


def test_rates_are_means_of_eight_intervals(tmp_path: Path) -> None:
    events = _reference(tmp_path, _every(1.5, 12), "N" * 12).events
    assert events["bradycardia"] == [pytest.approx((0.5, 17.0))]
    assert events["extreme-bradycardia"] == events["tachycardia"] == []


def test_fibrillation_has_no_beats_and_is_neither_a_pause_nor_slow(tmp_path: Path) -> None:
    times_s = [*_every(0.8, 20), *_every(0.8, 20, 30.5)]
    events = _reference(tmp_path, times_s, "N" * 40, {1: "(N", 16.0: "(VFL", 30.0: "(N"}).events
    assert events["ventricular-fibrillation"] == [(16.0, 30.0)]
    assert events["asystole"] == events["pause"] == events["bradycardia"] == []


def test_rhythms_last_until_the_next_mark(tmp_path: Path) -> None:
    reference = _reference(tmp_path, _every(0.8, 50), "N" * 50, {1: "(N", 10: "(AFIB", 30: "(N"})
    assert reference.events["atrial-fibrillation"] == [(10.0, 30.0)]
    assert [name for name, _ in reference.rhythms] == ["(N", "(AFIB", "(N"]


@pytest.mark.parametrize(("beats", "spans"), [(3, []), (5, [(4.0, 6.3)])])
def test_a_rhythm_marked_as_tachycardia_is_one_from_five_beats_on(
    tmp_path: Path, beats: int, spans: list[tuple[float, float]]
) -> None:
    times_s = [*_every(0.8, 5), *_every(0.4, beats, 4.3), *_every(0.8, 9, 8.0)]
    symbols = "NNNNN" + "V" * beats + "N" * 9
    events = _reference(tmp_path, times_s, symbols, {1: "(N", 4.0: "(VT", 6.3: "(N"}).events
    assert events["ventricular-tachycardia"] == [pytest.approx(span) for span in spans]


def test_a_rhythm_marked_as_tachycardia_is_one_where_no_beats_are_annotated(tmp_path: Path) -> None:
    events = _reference(tmp_path, [0.5], "N", {1: "(N", 10: "(VT", 12: "(N"}).events
    assert events["ventricular-tachycardia"] == [(10.0, 12.0)]


def test_an_alert_is_true_if_its_kind_or_a_graver_one_was_there() -> None:
    reference = Reference({"asystole": [(100.0, 106.0)]}, [], [])
    tally = _tally(reference, _alert("pause", "new", 105.0, 105.0), _alert("pause", "new", 300.0, 300.0))
    assert (tally.true["medium", "pause"], tally.false["medium", "pause"]) == (1, 1)
    tally = _tally(Reference({"pause": [(100.0, 103.5)]}, [], []), _alert("asystole", "new", 103.0, 103.0))
    assert tally.false["medium", "asystole"] == 1


def test_an_event_is_found_with_its_delay_or_is_missed() -> None:
    reference = Reference({"asystole": [(100.0, 106.0), (500.0, 505.0)]}, [], [])
    alerts = _alert("asystole", "new", 105.0, 104.0), _alert("asystole", "end", 108.0, 104.0)
    tally = _tally(reference, *alerts)
    assert (tally.events["asystole"], tally.found["asystole"]) == (2, 1)
    assert tally.delays_s["asystole"] == [pytest.approx(6.0)]


def test_low_alerts_are_true_by_any_abnormal_beat_and_technical_ones_are_neither_counted_as_heart() -> None:
    reference = Reference({}, [(50.0, 50.6)], [("(N", (0.0, 3600.0))])
    couplet = _alert("couplet", "new", 55.0, 52.0, "low"), _alert("couplet", "end", 88.0, 52.0, "low")
    tally = _tally(reference, *couplet, _alert("gap", "new", 60.0, 60.0, "technical"))
    assert tally.true["low", "couplet"] == 1
    assert tally.alerting_s["(N"] == pytest.approx(36.0)


def test_episodes_are_stretches_with_three_abnormal_of_five_beats(tmp_path: Path) -> None:
    symbols = "NNNNNNNVNVNVNNNNNNNNVNNNVNNN" + "N" * 20
    episodes = _reference(tmp_path, _every(1.0, len(symbols)), symbols).episodes
    assert episodes == [pytest.approx((7.5, 11.5))]  # two in five are none
    near = _reference(tmp_path, _every(0.8, 90), "VVV" + "N" * 30 + "VVV" + "N" * 54).episodes
    assert near == [pytest.approx((0.5, 0.5 + 0.8 * 37))]


@pytest.mark.parametrize(("begin_s", "alerted"), [(95.0, 1), (111.0, 1), (113.0, 0)])
def test_an_episode_is_alerted_by_any_alert_about_the_heart_around_it(begin_s: float, alerted: int) -> None:
    reference = Reference({}, [(99.7, 102.3)], [], [(100.0, 102.0)])
    tally = _tally(
        reference, _alert("couplet", "new", begin_s, begin_s, "low"), _alert("gap", "new", 100.0, 100.0, "technical")
    )
    assert (tally.episodes, tally.episodes_alerted) == (1, alerted)


def test_time_is_calm_far_from_abnormal_beats_events_and_rhythms() -> None:
    rhythms = [("(N", (0.0, 3000.0)), ("(AFIB", (3000.0, 3600.0))]
    reference = Reference({"pause": [(500.0, 504.0)]}, [(5.0, 5.6), (100.0, 100.6)], rhythms)
    assert reference.calm(3600.0) == [pytest.approx(span) for span in [(15.6, 90.0), (110.6, 490.0), (514.0, 2990.0)]]
    alerts = _alert("couplet", "new", 101.0, 101.0, "low"), _alert("couplet", "end", 120.6, 101.0, "low")
    assert _tally(reference, *alerts).calm_alerting_s == pytest.approx(10.0)


def test_neighbouring_stretches_are_joined() -> None:
    assert merge([(5.0, 6.0), (0.0, 1.0), (5.5, 9.0)]) == [(0.0, 1.0), (5.0, 9.0)]
    assert merge([(0.0, 1.0), (3.0, 4.0)], 2.0) == [(0.0, 4.0)]


def test_graver_kinds_stand_before_in_a_chain() -> None:
    assert graver("bradycardia") == ["bradycardia", "extreme-bradycardia"]
    assert "ventricular-tachycardia" in graver("couplet")
    assert graver("atrial-fibrillation") == ["atrial-fibrillation"]


def test_a_heart_that_stops_is_found_and_what_was_published_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    times_s = [*beat_times(25.0).tolist(), *(beat_times(25.0) + 33.0).tolist()]
    path = _write(tmp_path, times_s, "N" * len(times_s))
    run_alert_score(AlertScoreSettings((path,), events=tmp_path / "events"))
    table = capsys.readouterr().out
    assert "asystole                        1      1     0.00" in table
    lines = (tmp_path / "events" / "made.jsonl").read_bytes().splitlines()
    assert json.loads(lines[0]) == {"record": "made", "start_s": 0.0}
    messages = [json.loads(line) for line in lines[1:]]
    alerts = [wire.decode(line, wire.Alert) for line, one in zip(lines[1:], messages, strict=True) if "episode" in one]
    assert [alert.state for alert in alerts if alert.kind == "asystole"] == ["new", "end"]
    assert sum("verdict" in message for message in messages) > 50


def test_figures_for_programs_say_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _write(tmp_path, beat_times(50.0).tolist(), "N" * beat_times(50.0).size)
    run_alert_score(AlertScoreSettings((path,), as_json=True))
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert answer["gross"]["events"]["asystole"] == {"there": 0, "found": 0, "delay_p50_s": None}
    assert [row["record"] for row in answer["records"]] == ["made"]


def test_nothing_to_score_is_an_error_and_no_events_are_a_table() -> None:
    with pytest.raises(ValueError, match="got no record"):
        AlertScoreSettings(())
    tally = Tally(seconds=60.0)
    assert to_json(tally)["alerts"] == []
    assert any(line.startswith("asystole") for line in format_tally(tally))


def test_a_record_without_annotations_is_played_all_the_same() -> None:
    signal = make_ecg(beat_times(30.0), 30.0, RATE_HZ).astype(np.float64)
    published = publish(Record("plain", RATE_HZ, "II", signal, (), annotated=False), Classifier("ptb"))
    assert published.seconds == 30.0
    assert len(published.messages) > 20


@pytest.mark.parametrize("as_json", [False, True])
def test_a_record_without_annotations_is_not_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    times_s = np.arange(0.5, SECONDS, 1.7).tolist()
    path = _write(tmp_path, times_s, "N" * len(times_s))
    path.with_suffix(".atr").unlink()
    run_alert_score(AlertScoreSettings(records=(path,), as_json=as_json))
    shown = capsys.readouterr().out
    if as_json:
        told = json.loads(shown)
        assert (told["records"][0]["annotated"], told["gross"]["alerts"]) == (False, [])
    else:
        assert shown.split() == ["made", "not", "scored,", "for", "want", "of", "annotations"]
