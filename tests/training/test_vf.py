"""Learning to tell ventricular fibrillation, from small records that are made up."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from monitor.ecg import vf as live
from recordings.reader import open_wfdb
from tests.monitor.synthetic_ecg import beat_times, make_ecg
from training.__main__ import main
from training.vf import FOLDS, Taught, assess, assign_folds, describe, find_alerts, fit, read

RATE_HZ, ONSET_S, SECONDS = 250, 60.0, 100.0
RECORDS = 10


def _record_uv(seed: int) -> npt.NDArray[np.float64]:
    """An ECG that turns into a wave of its own frequency, which wanders."""
    chance = np.random.default_rng(seed)
    calm = make_ecg(beat_times(ONSET_S, float(chance.uniform(0.6, 1.0))), ONSET_S, RATE_HZ)
    hertz = chance.uniform(3.5, 6.0) + np.cumsum(chance.normal(0, 0.03, round((SECONDS - ONSET_S) * RATE_HZ)))
    wave = chance.uniform(300, 900) * np.sin(2 * np.pi * np.cumsum(hertz) / RATE_HZ)
    return np.concatenate([calm, wave]) + chance.normal(0, 15, round(SECONDS * RATE_HZ))


def _write(folder: Path, name: str, signal_uv: npt.NDArray[np.float64], marks: dict[float, str]) -> None:
    folder.mkdir(exist_ok=True)
    at = np.array([round(time_s * RATE_HZ) for time_s in marks])
    with open_wfdb("test") as wfdb:
        signals = np.stack([signal_uv, -0.5 * signal_uv], axis=1) / 1000
        wfdb.wrsamp(name, RATE_HZ, ["mV"] * 2, ["ECG1", "ECG2"], signals, fmt=["16"] * 2, write_dir=str(folder))
        wfdb.wrann(name, "atr", at, ["+"] * len(at), aux_note=list(marks.values()), write_dir=str(folder), fs=RATE_HZ)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for i in range(RECORDS):
        _write(folder / "vfdb", f"v{i}", _record_uv(i), {0.0: "(N", ONSET_S - 5: "(VT", ONSET_S: "(VF"})
    return folder


@pytest.fixture(scope="module")
def leads(data: Path) -> list[Taught]:
    return read(data)


def test_marks_say_where_fibrillation_is_and_what_teaches_nothing(leads: list[Taught]) -> None:
    first = leads[0]
    assert (first.fibrillation, first.spared) == ([(ONSET_S, SECONDS)], [(ONSET_S - 5, ONSET_S)])
    assert first.hours == pytest.approx((ONSET_S - 5) / 3600, rel=1e-2)
    assert sum(lead.source == "vfdb" for lead in leads) == 2 * RECORDS


def test_windows_across_an_onset_teach_nothing(leads: list[Taught]) -> None:
    alone = describe(leads[:1])
    step_s, window_s = live.STEP / 125, live.STEP * live.STEPS / 125
    begin_s = np.arange(len(live.measure(leads[0].signal))) * step_s
    assert alone.labels.sum() == pytest.approx((begin_s >= ONSET_S).sum(), abs=2)
    assert (~alone.labels).sum() <= (begin_s + window_s <= ONSET_S - 5).sum()


def test_both_classes_count_alike(leads: list[Taught]) -> None:
    windows = describe(leads)
    assert windows.weights[windows.labels].sum() == pytest.approx(windows.weights[~windows.labels].sum())


def test_a_record_is_in_one_fold_with_all_its_leads(leads: list[Taught]) -> None:
    folds = assign_folds(leads)
    assert {*folds.values()} <= {*range(FOLDS)}
    assert len({folds[f"v{i}"] for i in range(RECORDS)}) == min(RECORDS, FOLDS)
    windows = describe([lead for lead in leads if lead.record == "v3"])
    assert len({*windows.folds.tolist()}) == 1


def test_fitted_weights_tell_records_that_they_have_not_met(leads: list[Taught]) -> None:
    windows = describe(leads)
    without = []
    for fold in range(FOLDS):
        kept = windows.folds != fold
        without.append(fit(windows.numbers[kept], windows.labels[kept], windows.weights[kept]))
    tally = assess(leads, without)["vfdb"]
    assert (tally.told, tally.episodes, tally.false) == (RECORDS, RECORDS, 0)
    assert all(delay_s < 10 for delay_s in tally.delays_s)


def test_alerts_where_nothing_is_annotated_are_false(leads: list[Taught]) -> None:
    wave = Taught("wave", "wave", True, leads[0].signal[round((ONSET_S + 2) * 125) :])
    weights = np.append(live.WEIGHTS, live.BIAS)
    assert len(find_alerts(wave.signal)) == 1
    assert find_alerts(wave.signal, weights) == find_alerts(wave.signal)
    assert assess([wave], [weights] * FOLDS)["wave"].false == 1


def test_regression_finds_what_separates() -> None:
    chance = np.random.default_rng(0)
    labels = chance.random(2000) < 0.3
    numbers = chance.normal(0, 1, (2000, 2)) * [1.0, 100.0]
    numbers[labels, 0] += 3
    weights = fit(numbers, labels, np.ones(2000))
    assert weights[0] > 1
    assert abs(weights[1]) < 0.01
    assert ((numbers @ weights[:-1] + weights[-1] > 0) == labels).mean() > 0.9


def test_command_prints_the_weights_and_the_figures(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vf", str(data), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert len(report["weights"]) == len(live.FEATURES)
    assert report["figures"]["vfdb"]["told"] == RECORDS


def test_a_folder_without_fibrillation_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vf", str(tmp_path)]) == 2
    assert "no record in ventricular fibrillation" in capsys.readouterr().err
