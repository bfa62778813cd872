"""Beside what one would otherwise write: who is measured, and how it is told."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from monitor.__main__ import main
from monitor.classify import Classifier
from monitor.panel import load_panel
from monitor.tools.bench import versus
from monitor.tools.bench.report import Cost, Ratio, Versus
from monitor.tools.bench.versus import FreeModel, VersusSettings, format_versus, summarise, time_engine, time_models
from tests.monitor.synthetic_ecg import beat_times, make_ecg

ROUNDS = [
    {
        "engine without the model": value / 2,
        "engine": value,
        "sleepecg and PyTorch": 40 * value,
        "sleepecg detection alone": 10 * value + number,
    }
    for number, value in enumerate((10.0, 30.0, 20.0))
]


def compared(missing: list[str] | None = None) -> Versus:
    return Versus(
        devices=100, seconds=60, rival_devices=10, rate_hz=250.0, rounds=3, costs=summarise(ROUNDS),
        versions={"sleepecg": "0.6"}, missing=missing or [],
    )  # fmt: skip


def test_figures_are_medians_over_the_rounds() -> None:
    _, engine, sleepecg, _ = summarise(ROUNDS)
    assert engine == Cost(name="engine", us_per_device_second=20.0, lowest=10.0, highest=30.0, rival=False)
    assert engine.devices_per_core == 50_000
    assert sleepecg.us_per_device_second == 800.0


def test_a_rival_is_compared_with_the_engine_of_the_same_round_and_like_with_like() -> None:
    *_, whole, alone = summarise(ROUNDS)
    assert whole.ahead == Ratio(median=40, lowest=40, highest=40)
    assert alone.ahead is not None
    assert alone.ahead.lowest == 20.0
    assert alone.ahead.median == pytest.approx(20 + 1 / 15)


def test_a_rival_that_failed_in_a_round_is_left_out() -> None:
    rounds = [*ROUNDS, {name: value for name, value in ROUNDS[0].items() if "sleepecg" not in name}]
    assert [cost.name for cost in summarise(rounds)] == ["engine without the model", "engine"]


def test_the_table_says_how_many_times_as_many_devices_the_engine_carries() -> None:
    without, engine, whole, alone = format_versus(compared()).splitlines()[1:5]
    assert " 100,000 " in without
    assert " 50,000 " in engine
    assert whole.endswith("40.0 x (40.0 to 40.0)")
    assert "detection alone" in alone


def test_what_is_missing_is_said_below_the_table() -> None:
    assert "neurokit2 is not measured" in format_versus(compared(["neurokit2 is not measured"])).splitlines()


def test_the_engine_is_timed_with_any_model() -> None:
    classifier = Classifier("ptb", "cpu")
    samples = np.stack([make_ecg(beat_times(20.0, rr), 20.0, 250.0) for rr in (0.7, 0.9)])
    for model in (classifier, FreeModel(classifier)):
        assert time_engine(model, samples, 250.0) > 0  # type: ignore[arg-type]


def test_each_model_is_timed_and_what_a_beat_costs_is_told() -> None:
    assert list(time_models(load_panel())) == ["nsv", "ptb"]
    assert list(time_models(load_panel("mitbih"))) == ["mitbih"]
    told = format_versus(msgspec.structs.replace(compared(), models_us={"nsv": 4.0, "ptb": 6.0}))
    assert "models: 10.0 us a beat in batches of 64: nsv 4.0, ptb 6.0" in told.splitlines()


@pytest.mark.parametrize(("wrong", "told"), [({"rounds": 0}, "round"), ({"rate_hz": 10.0}, "rate")])
def test_settings_that_measure_nothing_are_refused(wrong: dict[str, float], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        VersusSettings(**wrong)  # type: ignore[arg-type]


def test_one_command_compares_with_whatever_is_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(versus, "DEVICES", 4)
    monkeypatch.setattr(versus, "SECONDS", 20)
    assert main(["bench", "--versus", "--json", "--rounds", "1"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert "latency" not in told
    names = {cost["name"] for cost in told["versus"]["costs"]}
    assert {"engine", "engine without the model"} <= names
    assert len(names) > 2 or "pip install 'ecgwatch[versus]'" in told["versus"]["missing"][0]
