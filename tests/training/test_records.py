from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import wfdb
from scipy import signal as filters

from monitor import beat
from recordings.classes import CLASS_OF, CLASSES
from tests.monitor.one_stream import Segmenter
from tests.recordings import wfdb_writer
from training import data, records

RATE_HZ = 360
RR_S = 0.8


def write_record(folder: Path, name: str, times_s: Sequence[float], symbols: str, comment: str = "69 M 1 2 x1") -> Path:
    """Write a record of narrow R peaks with a T wave each, annotated 12 ms after each peak, as a person would."""
    folder.mkdir(exist_ok=True)
    time_s = np.arange(round((times_s[-1] + 3) * RATE_HZ)) / RATE_HZ
    signal = np.zeros(len(time_s))
    for at in times_s:
        signal += np.exp(-0.5 * ((time_s - at) / 0.012) ** 2) + 0.2 * np.exp(-0.5 * ((time_s - at - 0.25) / 0.04) ** 2)
    wfdb.wrsamp(name, RATE_HZ, ["mV"], ["MLII"], signal[:, None], fmt=["16"], comments=[comment], write_dir=str(folder))
    marks = np.array([round((at + 0.012) * RATE_HZ) for at in times_s])
    wfdb.wrann(name, "atr", marks, symbol=list(symbols), write_dir=str(folder))
    return folder / name


def test_record_becomes_windows_that_start_at_their_r_peaks_with_their_rr_context(tmp_path: Path) -> None:
    times = [1 + RR_S * i for i in range(12)]
    times[6] -= 0.3  # comes early, and a pause follows
    cut = records.read_record(write_record(tmp_path, "100", times, "NNNNNNVNNNNN"))
    assert cut.windows.shape == (12, 187)
    assert (cut.windows[:, 0] > 0.98).all()
    assert cut.labels.tolist() == [0] * 6 + [2] + [0] * 5
    assert (cut.age, cut.sex, cut.dropped) == (69, "male", 0)
    np.testing.assert_allclose(cut.rr[6], [0.5, 1.1, 0.8], atol=0.01)
    np.testing.assert_allclose(cut.rr[0], [0.8, 0.8, 0.8], atol=0.01)  # nothing before it: the median stands in
    lengths = beat.LENGTH - (cut.windows[:, ::-1] > 0).argmax(axis=1)
    assert abs(lengths - 1.2 * 0.8 * 125).max() <= 1


def test_pause_counts_for_two_medians_and_is_unknown_to_the_beat_after_it(tmp_path: Path) -> None:
    times = [1 + RR_S * i for i in range(6)] + [9 + RR_S * i for i in range(6)]
    cut = records.read_record(write_record(tmp_path, "100", times, "N" * 12))
    np.testing.assert_allclose(cut.rr[5], [0.8, 1.6, 0.8], atol=0.01)
    np.testing.assert_allclose(cut.rr[6], [0.8, 0.8, 0.8], atol=0.01)


@pytest.mark.parametrize(("symbol", "label"), [("L", 0), ("e", 0), ("A", 1), ("J", 1), ("E", 2), ("F", 3), ("/", 4)])
def test_symbols_become_the_classes_of_the_standard(tmp_path: Path, symbol: str, label: int) -> None:
    times = [1 + RR_S * i for i in range(8)]
    cut = records.read_record(write_record(tmp_path, "100", times, "NNNN" + symbol + "NNN"))
    assert cut.labels[4] == label


def test_annotation_of_noise_is_not_a_beat(tmp_path: Path) -> None:
    times = [1 + RR_S * i for i in range(8)]
    cut = records.read_record(write_record(tmp_path, "100", times, "NNNN~NNN"))
    assert len(cut.labels) == 7


def test_beat_whose_window_passes_the_end_is_counted_as_dropped(tmp_path: Path) -> None:
    stem = write_record(tmp_path, "100", [1 + RR_S * i for i in range(8)], "N" * 8)
    signal = wfdb.rdrecord(str(stem)).p_signal[: round((1 + 7 * RR_S + 0.2) * RATE_HZ)]
    wfdb.wrsamp("100", RATE_HZ, ["mV"], ["MLII"], signal, fmt=["16"], write_dir=str(tmp_path))
    cut = records.read_record(stem)
    assert (len(cut.labels), cut.dropped) == (7, 1)
    assert (np.isnan(cut.age), cut.sex) == (True, "")


def naive_medians(fiducials: Sequence[float]) -> list[float]:
    found: list[float] = []
    for i in range(len(fiducials)):
        pairs = [(b - a, b) for a, b in pairwise(fiducials[: i + 1])]
        recent = [rr for rr, end in pairs if end >= fiducials[i] - 1250]
        chosen = recent if len(recent) >= 3 else [rr for rr, _ in pairs[-3:]]
        chosen = [rr for rr in chosen if rr <= 375]
        found.append(float(np.median(chosen)) if len(chosen) >= 3 else found[-1] if found else np.nan)
    first = next(value for value in found if not np.isnan(value))
    return [first if np.isnan(value) else value for value in found]


@pytest.mark.parametrize("seed", range(5))
def test_median_is_that_of_the_last_ten_seconds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    fiducials = np.cumsum(rng.choice([60.0, 90, 110, 130, 500], 80, p=[0.2, 0.3, 0.3, 0.15, 0.05]))
    np.testing.assert_array_equal(records.median_rr(fiducials), naive_medians(fiducials.tolist()))


def test_folder_of_records_is_a_data_set_of_five_classes_by_patient(tmp_path: Path) -> None:
    times = [1 + RR_S * i for i in range(8)]
    folder = tmp_path / "mitdb"
    for name in ("100", "201", "202"):
        write_record(folder, name, times, "NNNNVNNN")
    beats = data.load_beats([tmp_path])
    assert beats.names() == ["mitdb"]
    assert beats.classes == CLASSES
    assert beats.has_rr
    assert set(beats.patients) == {"mitdb/100", "mitdb/201"}  # 201 and 202 are one person
    assert set(beats.records) == {"mitdb/100", "mitdb/201", "mitdb/202"}


@pytest.mark.parametrize(("frame_hz", "per_frame"), [(50.0, 5), (15.5, 16)])
def test_frames_of_several_samples_are_cut_at_their_true_rate(tmp_path: Path, frame_hz: float, per_frame: int) -> None:
    cut = records.read_record(wfdb_writer.write_frames(tmp_path, frame_hz, per_frame, annotated_hz=1000.0))
    assert len(cut.labels) >= 20
    assert (cut.windows[:, 0] > 0.95).all()
    np.testing.assert_allclose(cut.rr[:, 2], 0.8, atol=0.01)


def test_choices_made_in_reading_are_notes_of_the_data_set(tmp_path: Path) -> None:
    wfdb_writer.write(tmp_path / "set", annotator="ecg")
    assert "set/x: annotations of .ecg, for want of .atr." in data.load_beats([tmp_path]).notes


def test_broken_record_is_refused_by_name(tmp_path: Path) -> None:
    write_record(tmp_path, "100", [1 + RR_S * i for i in range(8)], "N" * 8)
    (tmp_path / "100.dat").write_bytes(b"x")
    with pytest.raises(ValueError, match="100 cannot be read as a WFDB record"):
        data.load_beats([tmp_path])


def test_real_records_are_cut_where_their_beats_are(ecg_data: Path) -> None:
    cut = records.read_record(ecg_data / "mitdb" / "119")
    assert np.bincount(cut.labels, minlength=5).tolist() == [1542, 0, 444, 0, 0]
    early = cut.rr[:, 0] / cut.rr[:, 2]
    assert np.median(early[cut.labels == 2]) < 0.75 < np.median(early[cut.labels == 0])


@pytest.mark.parametrize("name", ["119", "209"])
def test_windows_and_rr_context_are_those_that_the_monitor_cuts_live(ecg_data: Path, name: str) -> None:
    stem = str(ecg_data / "mitdb" / name)
    signal = filters.resample_poly(wfdb.rdrecord(stem).p_signal[:, 0], 25, 72)
    notes = wfdb.rdann(stem, "atr")
    marks = [at for at, symbol in zip(notes.sample, notes.symbol, strict=True) if symbol in CLASS_OF]
    fiducials = np.array(marks) * (beat.RATE_HZ / RATE_HZ)
    windows, rr, kept = records.cut(signal, fiducials)
    alike, same_rr = [], []
    for live in Segmenter(next_rr=True).push(signal.astype(np.float32)):
        row = int(np.argmin(abs(fiducials[kept] - live.fiducial)))
        if abs(fiducials[kept[row]] - live.fiducial) > 18 or live.rr is None or live.next_rr is None:
            continue
        alike.append(abs(beat.fit_window(live.signal) - windows[row])[:60].max() < 0.05)
        context = np.array([live.rr, live.next_rr]) / beat.RATE_HZ
        same_rr.append(abs(context - rr[row, :2]).max() < 0.05)
    assert len(alike) > 0.97 * len(marks)
    assert np.mean(alike) > 0.97
    assert np.mean(same_rr) > 0.97
