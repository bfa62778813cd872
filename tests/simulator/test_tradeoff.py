"""The trade-off of the alert policy, and the choice of a network that has not met the person."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from monitor import wire
from monitor.alerts.episode import AlertSettings
from monitor.alerts.registry import make_detectors
from monitor.classify import find_model
from monitor.panel import load_panel
from simulator.alert_score import Published, publish, read_reference
from simulator.folds import Folds
from simulator.records import Record, read_wfdb
from simulator.tradeoff import (
    KNOBS,
    THRESHOLD,
    Curve,
    Point,
    TradeoffSettings,
    Truth,
    count,
    find_truth,
    format_curves,
    make_curves,
    play_variants,
    run_tradeoff,
    share,
    with_threshold,
)
from tests.monitor.synthetic_ecg import make_ecg

RATE_HZ, SECONDS = 250.0, 120.0


def _write(folder: Path, times_s: list[float], symbols: str) -> Path:
    wfdb = pytest.importorskip("wfdb")
    folder.mkdir(exist_ok=True)
    signal = make_ecg(np.array(times_s), SECONDS, RATE_HZ)[:, None] / 1000
    wfdb.wrsamp("made", fs=RATE_HZ, units=["mV"], sig_name=["V1"], p_signal=signal, fmt=["16"], write_dir=str(folder))
    places = np.array([round(time_s * RATE_HZ) for time_s in times_s])
    wfdb.wrann("made", "atr", places, list(symbols), fs=RATE_HZ, write_dir=str(folder))
    return folder / "made"


def _with_early_beats() -> tuple[list[float], str]:
    """Two minutes, every second beat of the second one early: annotated as supraventricular."""
    times_s: list[float] = []
    symbols, time_s = "", 1.0
    while time_s < SECONDS - 2:
        is_early = time_s > 60 and len(times_s) % 2 == 0
        times_s.append(time_s - 0.35 * is_early)
        symbols += "A" if is_early else "N"
        time_s += 0.85
    return times_s, symbols


def _make_folds(folder: Path, people: dict[str, list[str]]) -> Path:
    folder.mkdir(exist_ok=True)
    for fold in people:
        shutil.copy(find_model("nsv"), folder / f"fold{fold}.onnx")
    (folder / "people.json").write_text(json.dumps(people))
    return folder


def _alert(kind: wire.Kind, state: Literal["new", "end"], time_s: float, since_s: float) -> wire.Alert:
    return wire.Alert(
        id=f"{time_s}", episode=f"{since_s}-{kind}", device="0", kind=kind, severity="medium", state=state,
        time_s=time_s, since_s=since_s, seq=1, completed_s=time_s,
    )  # fmt: skip


def _counted(kind: wire.Kind, truth: Truth, *alerts: wire.Alert, hidden_by: tuple[wire.Kind, ...] = ()) -> Point:
    point = Point({"n": 3}, True)
    count(point, kind, Published("made", 3600.0, list(alerts)), truth, {kind, *hidden_by})
    return point


def test_a_record_is_judged_by_the_network_that_has_not_met_its_person(tmp_path: Path) -> None:
    folds = Folds(_make_folds(tmp_path / "nets", {"0": ["mitdb/100"], "1": ["mitdb/101", "cpsc2021/data_8"]}))
    assert folds.find_for(Path("data/mitdb/100")) == tmp_path / "nets" / "fold0.onnx"
    assert folds.find_for(Path("data/mitdb/101.hea")) == tmp_path / "nets" / "fold1.onnx"
    assert folds.find_for(Path("data/cpsc2021/data_8_3")) == tmp_path / "nets" / "fold1.onnx"


def test_a_record_of_somebody_in_no_fold_has_no_network(tmp_path: Path) -> None:
    folds = Folds(_make_folds(tmp_path, {"0": ["mitdb/100"]}))
    assert folds.find_for(Path("mitdb/102")) is None
    assert folds.find_for(Path("svdb/100")) is None


def test_a_folder_without_a_list_of_people_or_a_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"people\.json must say who is held out"):
        Folds(tmp_path)
    _make_folds(tmp_path, {"0": ["mitdb/100"]})
    (tmp_path / "fold0.onnx").unlink()
    with pytest.raises(ValueError, match=r"got no .*fold0\.onnx"):
        Folds(tmp_path)


def test_an_alert_that_overlaps_no_true_event_is_false_however_near_it_is() -> None:
    truth = Truth([(100.0, 110.0)], [(100.0, 110.0)])
    near = _alert("pause", "new", 112.0, 111.0), _alert("pause", "end", 114.0, 111.0)
    over = _alert("pause", "new", 109.0, 108.0), _alert("pause", "end", 114.0, 108.0)
    assert [_counted("pause", truth, *alerts).false for alerts in (near, over)] == [1, 0]


def test_an_event_is_found_by_an_alert_that_hides_its_kind_which_counts_as_no_alert_of_it() -> None:
    truth = Truth([(100.0, 110.0)], [(100.0, 110.0)])
    alert = _alert("asystole", "new", 105.0, 101.0)
    found = _counted("pause", truth, alert, hidden_by=("asystole",))
    assert (found.found, found.alerts) == (1, 0)
    assert _counted("pause", truth, alert).found == 0


def test_truth_of_abnormal_beats_is_three_in_five_and_of_frequent_ones_ten_in_a_minute(tmp_path: Path) -> None:
    path = _write(tmp_path / "mitdb", *_with_early_beats())
    record = read_wfdb(path)
    reference = read_reference(path, record)
    [(begin, end)] = find_truth("supraventricular-ectopy", record, reference).events
    assert 58 < begin < 62
    assert end > 110
    assert find_truth("ventricular-ectopy", record, reference).events == []
    assert len(find_truth("abnormal-beats", record, reference).events) == 1


def test_a_device_among_others_with_limits_of_their_own_has_the_alerts_it_has_alone(tmp_path: Path) -> None:
    record = read_wfdb(_write(tmp_path / "mitdb", *_with_early_beats()))
    panel = load_panel("nsv", "none")
    usual, strict = play_variants(record, panel, [{}, {"supraventricular-ectopy": {"a_minute": 16}}])
    alone = publish(record, panel).alerts
    assert [(one.kind, one.state, one.since_s) for one in usual.alerts] == [
        (one.kind, one.state, one.since_s) for one in alone
    ]
    begun = [
        min(one.time_s for one in played.alerts if one.kind == "supraventricular-ectopy") for played in (usual, strict)
    ]
    assert begun[0] < begun[1]


def test_only_limits_of_kinds_that_hide_nothing_of_each_other_share_a_device() -> None:
    hidden_by = {one.kind: {one.kind, *one.hidden_by} for one in make_detectors(AlertSettings())}
    points = [(curve.knob.kind, point) for curve in make_curves() for point in curve.points]
    limits, devices = share(points, hidden_by)
    assert limits[0] == {}
    assert len(limits) < len(points) / 2
    for own in limits:
        assert not any(a in hidden_by[b] for a in own for b in own if a != b), own
    for (kind, point), device in zip(points, devices, strict=True):
        assert point.is_default or THRESHOLD in point.values or limits[device][kind] == point.values


def test_a_higher_threshold_calls_fewer_beats_abnormal(tmp_path: Path) -> None:
    record = read_wfdb(_write(tmp_path / "mitdb", *_with_early_beats()))
    panel = load_panel("nsv", "none")
    first = [_first_of_abnormal_beats(record, threshold) for threshold in (0.5, 0.9999)]
    assert first[0] > 0
    assert first[1] == 0
    assert panel.info.threshold == with_threshold(panel, None).info.threshold


def _first_of_abnormal_beats(record: Record, threshold: float) -> int:
    [played] = play_variants(record, with_threshold(load_panel("nsv", "none"), threshold), [{}])
    return sum(one.kind in ("abnormal-beats", "bigeminy", "supraventricular-ectopy") for one in played.alerts)


def test_each_limit_has_exactly_one_value_that_is_the_default() -> None:
    for curve in make_curves():
        assert [point.is_default for point in curve.points].count(True) == 1, curve.knob.title


def test_a_value_is_marked_that_another_one_beats() -> None:
    good, bad = Point({"n": 3}, True, 4, 1, 10, 9), Point({"n": 4}, False, 4, 2, 10, 9)
    assert bad.is_worse_than(good)
    assert not good.is_worse_than(bad)
    assert not good.is_worse_than(good)
    lines = list(format_curves([Curve(KNOBS[0], [good, bad])], 3600.0))
    assert [line[:2] for line in lines if "0%" in line] == ["* ", " -"]


def test_all_is_printed_and_drawn_with_who_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    played, unknown = _write(tmp_path / "mitdb", *_with_early_beats()), _write(tmp_path / "other", *_with_early_beats())
    folds = _make_folds(tmp_path / "nets", {"0": [], "1": ["mitdb/made"]})
    run_tradeoff(TradeoffSettings(records=(played, unknown), folds=folds, plot=tmp_path / "plot.svg"))
    printed = capsys.readouterr().out
    assert "made: judged by fold1.onnx, which has not met this person" in printed
    assert "made: left out, since every network may have met this person" in printed
    assert "supraventricular-ectopy: a_minute; 1 true events" in printed
    drawn = (tmp_path / "plot.svg").read_text()
    assert "supraventricular-ectopy: a_minute (1 events)" in drawn
    assert "ventricular-tachycardia: beats" not in drawn


def test_records_that_all_networks_may_have_met_are_an_error(tmp_path: Path) -> None:
    path = _write(tmp_path / "mitdb", *_with_early_beats())
    with pytest.raises(ValueError, match="every network may have met the people of all records"):
        run_tradeoff(TradeoffSettings(records=(path,), folds=_make_folds(tmp_path / "nets", {"0": []})))
