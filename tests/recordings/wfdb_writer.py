"""WFDB records of a synthetic ECG, written as other people's software writes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recordings.reader import open_wfdb
from tests.monitor.synthetic_ecg import beat_times, make_ecg

SECONDS, RATE_HZ = 20.0, 250.0


def beats_s(seconds: float = SECONDS) -> npt.NDArray[np.float64]:
    return np.asarray(beat_times(seconds, (0.8,)))


def ecg_uv(rate_hz: float = RATE_HZ, seconds: float = SECONDS) -> npt.NDArray[np.float64]:
    return np.asarray(make_ecg(beats_s(seconds), seconds, rate_hz, 1000.0), np.float64)


def write(
    folder: Path,
    name: str = "x",
    *,
    signals: Sequence[npt.NDArray[np.floating]] | None = None,
    names: Sequence[str] = ("II",),
    units: Sequence[str] = ("mV",),
    gains: Sequence[float] = (1000.0,),
    annotator: str | None = "atr",
    resolution_hz: float | None = None,
    more_s: Sequence[float] = (),
) -> Path:
    """Write a record at 250 Hz, each signal in its own unit, annotated at every beat and at `more_s`."""
    signals = [ecg_uv() / 1000] if signals is None else signals
    folder.mkdir(exist_ok=True)
    with open_wfdb("test") as wfdb:
        wfdb.wrsamp(
            name, RATE_HZ, ["mV"] * len(signals), list(names), np.stack(signals, axis=1),
            fmt=["16"] * len(signals), adc_gain=list(gains), baseline=[0] * len(signals), write_dir=str(folder),
        )  # fmt: skip
    header = (folder / f"{name}.hea").read_bytes().decode()
    for unit in units:  # of each signal in turn
        header = header.replace("/mV", f"/{unit} ".rstrip() if unit else "", 1) if unit != "mV" else header
    (folder / f"{name}.hea").write_bytes(header.encode())
    if annotator is not None:
        annotate(folder / name, annotator, [*beats_s(), *more_s], resolution_hz or RATE_HZ, states=bool(resolution_hz))
    return folder / name


def annotate(path: Path, annotator: str, times_s: Sequence[float], resolution_hz: float, *, states: bool) -> None:
    """Write an annotation file, which states its resolution or leaves it to the record's."""
    places = np.rint(np.asarray(times_s) * resolution_hz).astype(np.int64)
    about: dict[str, Any] = {"fs": resolution_hz} if states else {}
    with open_wfdb("test") as wfdb:
        wfdb.wrann(path.name, annotator, places, symbol=["N"] * places.size, write_dir=str(path.parent), **about)


def write_frames(folder: Path, frame_hz: float, per_frame: int, name: str = "x", annotated_hz: float = 0.0) -> Path:
    """Write a record of frames with several samples of an ECG and one of something slow."""
    rate_hz = frame_hz * per_frame
    frames = int(SECONDS * frame_hz)
    signal = np.rint(ecg_uv(rate_hz)).astype(np.int64)[: frames * per_frame]
    with open_wfdb("test") as wfdb:
        record = wfdb.Record(
            record_name=name, n_sig=2, fs=frame_hz, sig_len=frames, units=["mV", "NU"], sig_name=["ECG", "EDA"],
            fmt=["16", "16"], adc_gain=[1000.0, 1000.0], baseline=[0, 0], adc_res=[16, 16], adc_zero=[0, 0],
            init_value=[0, 0], checksum=[0, 0], block_size=[0, 0], samps_per_frame=[per_frame, 1],
            file_name=[f"{name}.dat"] * 2, skew=[None, None], byte_offset=[None, None],
            e_d_signal=[signal, np.arange(frames)],
        )  # fmt: skip
        record.wrsamp(expanded=True, write_dir=str(folder))
    annotate(folder / name, "atr", beats_s()[:-1].tolist(), annotated_hz or frame_hz, states=bool(annotated_hz))
    return folder / name
