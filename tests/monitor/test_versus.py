"""Beside what one would otherwise write: who is measured, and how it is told."""

from __future__ import annotations

import json

import numpy as np
import pytest

from monitor import versus
from monitor.__main__ import main
from monitor.classify import Classifier
from monitor.versus import Cost, FreeModel, VersusSettings, format_costs, summarise, time_engine
from tests.monitor.ecg import beat_times, make_ecg


def test_figures_are_medians_over_the_rounds() -> None:
    rounds = [{"engine": (value, None), "sleepecg": (40 * value, 10 * value)} for value in (10.0, 30.0, 20.0)]
    engine, sleepecg = summarise(rounds)
    assert engine == Cost("engine", 20.0, 10.0, 30.0, None)
    assert (sleepecg.microseconds, sleepecg.detection) == (800.0, 200.0)
    assert engine.devices == 50_000


def test_the_table_says_how_many_times_as_many_devices_the_engine_carries() -> None:
    text = format_costs([Cost("engine", 20.0, 19.0, 21.0), Cost("sleepecg", 1000.0, 900.0, 1100.0, 300.0)], 250.0)
    engine, sleepecg, detection = text.splitlines()[1:]
    assert " 50000 " in engine
    assert sleepecg.endswith("50.0 x")
    assert "finding the beats alone" in detection
    assert "3333" in detection


def test_the_engine_is_timed_with_any_model() -> None:
    classifier = Classifier("ptb", "cpu")
    samples = np.stack([make_ecg(beat_times(20.0, rr), 20.0, 250.0) for rr in (0.7, 0.9)])
    for model in (classifier, FreeModel(classifier)):
        assert time_engine(model, samples, 250.0) > 0  # type: ignore[arg-type]


@pytest.mark.parametrize(("wrong", "told"), [({"rounds": 0}, "round"), ({"rate_hz": 10.0}, "rate")])
def test_settings_that_measure_nothing_are_refused(wrong: dict[str, float], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        VersusSettings(**wrong)  # type: ignore[arg-type]


def test_one_command_compares_with_whatever_is_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(versus, "DEVICES", 4)
    monkeypatch.setattr(versus, "SECONDS", 20)
    assert main(["bench", "--versus", "--json", "--rounds", "1"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {"engine", "engine without the model"} <= set(told["costs"])
