from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from monitor import beat
from tests.monitor.synthetic_ecg import beat_times, make_ecg
from training import baselines
from training.__main__ import main
from training.baselines import Signal, Streams

RR_S = 0.83


def streams(seconds: float = 30, rate_hz: float = 250.0, devices: int = 2) -> Streams:
    samples = make_ecg(beat_times(seconds, RR_S), seconds, rate_hz)
    return Streams(np.tile(samples / 1000, (devices, 1)), rate_hz)


def highest(signal: Signal, rate_hz: float) -> npt.NDArray[np.int64]:
    """A detector good enough for a synthetic ECG: local maxima above half a millivolt."""
    inside = signal[1:-1]
    return np.flatnonzero((inside > 0.5) & (inside > signal[:-2]) & (inside >= signal[2:])) + 1


def write(path: Path, seconds: float = 30) -> Path:
    samples = make_ecg(beat_times(seconds, RR_S), seconds, 250.0)[None]
    np.savez(path, samples=samples, rate_hz=250.0, resolution_uv=1.0)
    return path


def test_detector_sees_the_last_ten_seconds_once_a_second() -> None:
    seen = list(streams().windows(0))
    assert len(seen) == 21
    assert {window.size for window in seen} == {2500}
    np.testing.assert_array_equal(seen[3], streams().signals[0, 750:3250])


@pytest.mark.parametrize("rate_hz", [125.0, 250.0, 360.0, 512.617])
def test_each_beat_is_classified_once(rate_hz: float) -> None:
    judged: list[beat.Windows] = []

    def judge(window: beat.Windows) -> float:
        judged.append(window)
        return 0.5

    cost = baselines.measure({"fake": highest}, judge, streams(rate_hz=rate_hz, devices=1))["fake"]
    assert cost.device_seconds == 21
    peaks = beat_times(30, RR_S)
    assert cost.beats == np.sum((peaks > 7.5) & (peaks < 28.5))  # 10 s - 1.5 s - 1 s, and 30 s - 1.5 s
    assert len(judged) > cost.beats  # those of the warm-up as well


def test_windows_start_at_the_r_peak_and_are_cut_by_the_rules() -> None:
    [signal, *_] = streams().windows(0)
    peaks = highest(signal, 250.0)
    windows = list(baselines.new_windows(signal, peaks, 250.0))
    length = beat.window_length(float(np.median(np.diff(peaks))) / 2)
    newest = peaks[(peaks >= 250 * 7.5) & (peaks < 250 * 8.5)]
    assert len(windows) == len(newest) > 0
    for window, peak in zip(windows, newest, strict=True):
        expected = beat.fit_window(signal[peak : peak + 2 * length : 2])
        np.testing.assert_allclose(window, expected, atol=1e-6)


def test_single_peak_has_no_window() -> None:
    assert list(baselines.new_windows(np.zeros(2500), np.array([2000]), 250.0)) == []


def test_signal_without_beats_costs_the_detection_alone() -> None:
    def detect_nothing(signal: Signal, rate_hz: float) -> npt.NDArray[np.int64]:
        return np.flatnonzero(np.sort(signal) > 1e9)

    cost = baselines.measure({"none": detect_nothing}, lambda _: 0.0, streams())["none"]
    assert (cost.beats, cost.model_s) == (0, 0.0)
    assert cost.devices_per_core == cost.devices_per_core_detection == pytest.approx(1 / cost.detection_s)


def test_cost_of_detector_and_network_are_measured_separately() -> None:
    def spend(seconds: float) -> None:
        until = time.process_time() + seconds
        while time.process_time() < until:
            pass

    def slow(signal: Signal, rate_hz: float) -> npt.NDArray[np.int64]:
        spend(0.004)
        return highest(signal, rate_hz)

    def judge(_: beat.Windows) -> float:
        spend(0.002)
        return 0.5

    costs = baselines.measure({"slow": slow, "fast": highest}, judge, streams())
    assert costs["slow"].detection_s == pytest.approx(0.004, rel=0.5)
    assert costs["fast"].detection_s < 0.001
    beats_a_second = costs["slow"].beats / costs["slow"].device_seconds
    for cost in costs.values():
        assert cost.model_s == pytest.approx(0.002 * beats_a_second, rel=0.5)
        assert cost.devices_per_core == pytest.approx(1 / (cost.detection_s + cost.model_s))


def test_missing_library_is_one_clear_message_and_the_others_are_found() -> None:
    def missing() -> baselines.Detect:
        raise ModuleNotFoundError("No module named 'sleepecg'")

    found, reasons = baselines.find_baselines({"sleepecg": missing, "own": lambda: highest})
    assert list(found) == ["own"]
    assert reasons == {
        "sleepecg": "sleepecg is not measured (No module named 'sleepecg'): pip install 'ecgwatch[versus]'"
    }


def test_judge_returns_the_probability_of_its_network() -> None:
    judge, again = baselines.make_judge("cnn"), baselines.make_judge("cnn")
    window = beat.fit_window(np.sin(np.arange(120)))
    assert 0 < judge(window) < 1
    assert judge(window) == again(window)


def test_file_of_streams_is_read_in_millivolts(tmp_path: Path) -> None:
    samples = np.arange(30_000, dtype=np.int16).reshape(2, 15_000)
    np.savez(tmp_path / "streams.npz", samples=samples, rate_hz=500.0, resolution_uv=0.5)
    read = baselines.read_streams(tmp_path / "streams.npz")
    assert read.rate_hz == 500.0
    np.testing.assert_allclose(read.signals, samples * 0.0005)


def test_file_without_streams_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "streams.npz"
    for content in (b"", b"PK\x03\x04", b"x,y"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is not a file of streams"):
            baselines.read_streams(path)
    np.savez(path, rate_hz=250.0)
    with pytest.raises(ValueError, match=r"is not a file of streams: .*samples"):
        baselines.read_streams(path)
    np.savez(path, samples=np.zeros((1, 100), np.int16), rate_hz=250.0, resolution_uv=1.0)
    with pytest.raises(ValueError, match=r"at least 15 s long: got \(1, 100\) at 250 Hz"):
        baselines.read_streams(path)


def test_command_prints_a_table_or_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "streams.npz", 20)
    monkeypatch.setattr(baselines, "find_baselines", lambda: ({"own": highest}, {"other": "other is not measured"}))
    assert main(["rivals", str(path)]) == 0
    shown = capsys.readouterr()
    assert "1 devices, 20 s at 250 Hz" in shown.out
    assert "devices per core" in shown.out
    assert shown.err == "other is not measured\n"
    assert main(["rivals", str(path), "--json", "--net", "compact"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["net"], list(report["rivals"]), list(report["missing"])) == ("compact", ["own"], ["other"])
    assert report["rivals"]["own"]["devices_per_core"] > 0


def test_command_without_any_library_is_one_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baselines, "find_baselines", lambda: ({}, {"other": "other is not measured"}))
    assert main(["rivals", str(write(tmp_path / "streams.npz"))]) == 2
    assert capsys.readouterr().err == "training: other is not measured.\n"


@pytest.mark.parametrize("library", list(baselines.LIBRARIES))
def test_library_finds_the_beats_of_a_synthetic_ecg(library: str) -> None:
    found, missing = baselines.find_baselines({library: baselines.LIBRARIES[library]})
    if missing:
        pytest.skip(missing[library])
    cost = baselines.measure(found, baselines.make_judge("cnn"), streams(devices=1))[library]
    assert cost.version
    assert cost.beats == pytest.approx(21 / RR_S, abs=2)
    assert 0 < cost.detection_s < 0.5
    assert 0 < cost.model_s < 0.5
