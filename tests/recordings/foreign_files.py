"""Files of one signal in every format, as the formats' published descriptions have them; see the readers for the
sources."""

from __future__ import annotations

import binascii
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from recordings.reader import open_wfdb
from tests.monitor.synthetic_ecg import beat_times, make_ecg

SECONDS = 24.0
Signal = npt.NDArray[np.float64]


def ecg_uv(rate_hz: float, seconds: float = SECONDS) -> Signal:
    return np.asarray(make_ecg(beat_times(seconds, (0.8, 0.75, 0.9)), seconds, rate_hz), np.float64)


def write_wfdb(path: Path, signal_uv: Signal, rate_hz: float, resolution_uv: float) -> Path:
    """The yardstick: the signal in its own steps."""
    with open_wfdb("test") as wfdb:
        wfdb.wrsamp(
            path.name, rate_hz, ["mV"], ["ECG"], d_signal=np.rint(signal_uv / resolution_uv).astype(np.int64)[:, None],
            fmt=["16"], adc_gain=[1000 / resolution_uv], baseline=[0], write_dir=str(path.parent),
        )  # fmt: skip
    return path


def write_edf(path: Path, signal_uv: Signal, rate_hz: float, bdf: bool = False) -> Path:
    import edfio

    notes = [edfio.EdfAnnotation(1.5, None, "V"), edfio.EdfAnnotation(3.0, 2.0, "walks")]
    breath = np.sin(np.arange(signal_uv.size) / 100)
    if bdf:
        reach = (-8388.608, 8388.607)
        ecg = edfio.BdfSignal(signal_uv, rate_hz, label="ECG II", physical_dimension="uV", physical_range=reach)
        other = edfio.BdfSignal(breath, rate_hz, label="Resp", physical_dimension="")
        edfio.Bdf([other, ecg], annotations=notes, starttime=datetime(2026, 1, 2, 3, 4, 5).time()).write(path)
    else:
        reach = (-32.768, 32.767)
        ecg_ = edfio.EdfSignal(signal_uv / 1000, rate_hz, label="ECG II", physical_dimension="mV", physical_range=reach)
        other_ = edfio.EdfSignal(breath, rate_hz, label="Resp")
        edfio.Edf([other_, ecg_], annotations=notes, starttime=datetime(2026, 1, 2, 3, 4, 5).time()).write(path)
    return path


def write_bdf(path: Path, signal_uv: Signal, rate_hz: float) -> Path:
    return write_edf(path, signal_uv, rate_hz, bdf=True)


def write_csv(path: Path, signal_uv: Signal, rate_hz: float) -> Path:
    rows = [f"{i / rate_hz:.3f},{value / 1000:.3f}" for i, value in enumerate(signal_uv)]
    path.write_text("\n".join(["time (s),ECG (mV)", *rows]) + "\n")
    return path


def write_sensor_logger(path: Path, signal_uv: Signal, rate_hz: float) -> Path:
    begin_ns = 599_618_164_814_402_794
    rows = [
        f"2026-04-20T14:15:{s % 60:06.3f};{begin_ns + round(1e9 * s)};{1000 * s:.6f};{value:.0f}"
        for s, value in zip(np.arange(signal_uv.size) / rate_hz, signal_uv, strict=True)
    ]
    path.write_text("\n".join(["Phone timestamp;sensor timestamp [ns];timestamp [ms];ecg [uV]", *rows]) + "\n")
    return path


def make_frame(samples_uv: Signal, last_ns: int) -> bytes:
    values = b"".join(int(value).to_bytes(3, "little", signed=True) for value in samples_uv)
    return bytes([0]) + last_ns.to_bytes(8, "little") + bytes([0]) + values


def make_frames(signal_uv: Signal, rate_hz: float, size: int = 73) -> list[bytes]:
    begin_ns = 599_618_164_814_402_794
    parts = [(i, signal_uv[i : i + size]) for i in range(0, signal_uv.size, size)]
    return [make_frame(part, begin_ns + round(1e9 * (i + part.size - 1) / rate_hz)) for i, part in parts]


def write_frames(path: Path, signal_uv: Signal, rate_hz: float) -> Path:
    """As the log of a phone's Bluetooth scanner has them."""
    lines = ["I\t11:04:30.100\tConnected to A0:9E:1A:00:00:00"]
    lines += [
        "A\t11:04:36.231\t\"Notification received from fb005c82-02e7-f387-1cad-8acd2d8df0c8, value: (0x) "
        + "-".join(f"{byte:02X}" for byte in frame) + '"'
        for frame in make_frames(signal_uv, rate_hz)
    ]  # fmt: skip
    path.write_text("\n".join(lines) + "\n")
    return path


def write_apple(path: Path, signal_uv: Signal, rate_hz: float, german: bool = False) -> Path:
    words = (
        ["Name", "Geburtstag", "Aufzeichnungsdatum", "Klassifizierung", "Symptome", "Softwareversion", "Gerät",
         "Messrate", "Ableitung", "Einheit"]
        if german
        else ["Name", "Date of Birth", "Recorded Date", "Classification", "Symptoms", "Software Version", "Device",
              "Sample Rate", "Lead", "Unit"]
    )  # fmt: skip
    rate = f"{rate_hz:g} hertz"
    values = [
        "Jane Public",
        '"5 Feb 1952"',
        "2026-03-01 12:21:11 -0500",
        "Sinus Rhythm",
        "",
        "1.90",
        '"Watch6,2"',
        rate,
    ]
    lines = [f"{word},{value}" for word, value in zip(words, values, strict=False)]
    lines += ["", "", f"{words[8]},{words[8]} I", f"{words[9]},µV", "", "", *(f"{value:.3f}" for value in signal_uv)]
    text = "\n".join(lines) + "\n"
    if german:
        head, _, rows = text.partition("µV\n")
        text = head.replace(rate, rate.replace(".", ",").replace("hertz", "Hertz")) + "µV\n" + rows.replace(".", ",")
    path.write_text(text, encoding="utf-8")
    return path


def write_german_apple(path: Path, signal_uv: Signal, rate_hz: float) -> Path:
    return write_apple(path, signal_uv, rate_hz, german=True)


def write_atc(path: Path, signal_uv: Signal, rate_hz: float) -> Path:
    def block(name: bytes, content: bytes) -> bytes:
        whole = name + struct.pack("<I", len(content)) + content
        return whole + struct.pack("<I", sum(whole) & 0xFFFFFFFF)

    info = b"".join(
        text.ljust(size, b"\0")
        for text, size in [(b"2026-02-01T10:20:30.000+01:00", 32), (b"uuid", 40), (b"phone", 44), (b"Phone 1", 32),
                           (b"app 5.1", 32), (b"KardiaMobile", 32), (b"", 52)]
    )  # fmt: skip
    samples = np.rint(signal_uv / 0.5).astype("<i2").tobytes()
    path.write_bytes(
        b"ALIVE\0\0\0" + struct.pack("<I", 4) + block(b"info", info)
        + block(b"fmt ", struct.pack("<BHHBH", 1, round(rate_hz), 500, 0b00000110, 0)) + block(b"ecg ", samples)
    )  # fmt: skip
    return path


def write_opensignals(path: Path, signal_uv: Signal, rate_hz: float) -> Path:
    header = {
        "20:16:04:12:01:40": {
            "sensor": ["EDA", "ECG"], "device name": "A", "column": ["nSeq", "I1", "I2", "O1", "O2", "A1", "A2"],
            "sync interval": 2, "time": "19:49:30.350", "comments": "", "channels": [1, 2], "date": "2026-1-31", "mode":
            0, "digital IO": [0, 0, 1, 1], "firmware version": "5.1", "device": "bitalino_rev", "position": 0,
            "sampling rate": round(rate_hz), "label": ["A1", "A2"], "resolution": [4, 1, 1, 1, 1, 10, 10],
            "special": [{}, {}],
        }
    }  # fmt: skip
    steps = np.rint(signal_uv / OPENSIGNALS_UV).astype(int) + 512
    rows = [f"{i % 16}\t1\t1\t0\t0\t{300 + i % 7}\t{step}\t" for i, step in enumerate(steps)]
    head = ["# OpenSignals Text File Format", f"# {json.dumps(header)}", "# EndOfHeader"]
    path.write_text("\n".join([*head, *rows]) + "\n")
    return path


OPENSIGNALS_UV = 1e6 * 3.3 / 1100 / 1024
"""Microvolts a step of BITalino's converter."""


def write_ishne(path: Path, signal_uv: Signal, rate_hz: float) -> Path:
    names = b"Jane".ljust(40, b"\0") + b"Public".ljust(40, b"\0") + b"12345".ljust(20, b"\0")
    count = 3
    fixed = (
        struct.pack("<4i", 8, signal_uv.size, 522, 530) + struct.pack("<h", 1) + names + struct.pack("<2h", 2, 1)
        + struct.pack("<12h", 5, 2, 1952, 31, 1, 2026, 1, 2, 2026, 9, 39, 1) + struct.pack("<h", count)
        + struct.pack("<12h", 11, 15, 6, *[-9] * 9) + struct.pack("<12h", *[1] * count, *[-9] * 9)
        + struct.pack("<12h", *[2500] * count, *[-9] * 9) + struct.pack("<h", 0) + b"digital".ljust(40, b"\0")
        + struct.pack("<h", round(rate_hz)) + bytes(80 + 80 + 88)
    )  # fmt: skip
    head = fixed + b"no text\0"
    steps = np.rint(signal_uv / 2.5).astype("<i2")
    samples = np.stack([steps, -steps, steps // 2], axis=1)
    path.write_bytes(b"ISHNE1.0" + struct.pack("<H", binascii.crc_hqx(head, 0xFFFF)) + head + samples.tobytes())
    return path


@dataclass(frozen=True)
class Kind:
    """A format, what it is written by, and what it can hold."""

    name: str
    ending: str
    write: Callable[[Path, Signal, float], Path]
    rate_hz: float
    resolution_uv: float
    lead: str
    start_s: float | None

    def make(self, folder: Path, seconds: float = SECONDS) -> tuple[Path, Signal]:
        """Write the signal; return the file, and the signal as the file can hold it."""
        signal_uv = np.rint(ecg_uv(self.rate_hz, seconds) / self.resolution_uv) * self.resolution_uv
        return self.write(folder / f"one{self.ending}", signal_uv, self.rate_hz), signal_uv


KINDS = (
    Kind("edf", ".edf", write_edf, 256.0, 1.0, "ECG II", None),
    Kind("edf", ".bdf", write_bdf, 512.0, 1.0, "ECG II", None),
    Kind("csv", ".csv", write_csv, 250.0, 1.0, "ECG (mV)", None),
    Kind("polar", ".txt", write_sensor_logger, 130.0, 1.0, "ECG", 946_684_800 + 599_618_164.814402794),
    Kind("polar-frames", ".log", write_frames, 130.0, 1.0, "ECG", 946_684_800 + 599_618_164.814402794),
    Kind("apple", ".csv", write_apple, 512.0, 0.5, "I", 1_772_385_671.0),
    Kind("apple", "_de.csv", write_german_apple, 511.422, 0.5, "I", 1_772_385_671.0),
    Kind("kardia", ".atc", write_atc, 300.0, 0.5, "I", 1_769_937_630.0),
    Kind("opensignals", ".txt", write_opensignals, 1000.0, OPENSIGNALS_UV, "ECG", 1_769_888_970.35),
    Kind("ishne", ".ecg", write_ishne, 200.0, 2.5, "V1", 1_769_852_341.0),
)
