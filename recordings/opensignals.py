"""Text files of OpenSignals: what BITalino and biosignalsplux record, in steps of their converters.

The second line is the header, JSON by device: names of the columns, sensors, bits, rate. Steps become microvolts by the
transfer function in the sensor's data sheet: ECG (V) = (ADC / 2^n - 1/2) VCC / G. The column ``nSeq`` counts the
samples, from 0 again after 15 (BITalino) or more: what it leaves out is missing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from recordings import leads
from recordings.recording import Choices, Recording, Signal, make_recording, start_of
from recordings.text import read_text
from recordings.timeline import open_holes

MARK = "# OpenSignals Text File Format"
END = "# EndOfHeader"


class Front(NamedTuple):
    """The ECG sensor of a device."""

    supply_v: float
    gain: float


BITALINO = Front(3.3, 1100)
"""PLUX, "Electrocardiography (ECG) Sensor Data Sheet" for BITalino: VCC 3.3 V, G 1100."""
BIOSIGNALSPLUX = Front(3.0, 1000)
"""PLUX, "Electrocardiography (ECG) Sensor Data Sheet" for biosignalsplux: VCC 3 V, G 1000."""


@dataclass(frozen=True, slots=True)
class _Column:
    """A sensor's column in the file."""

    position: int
    name: str
    """Of the sensor, such as "ECG"; of the channel where that says nothing."""
    bits: int
    device: dict[str, Any]
    first: int
    """Position of the device's first column."""


def read_opensignals(path: Path, choices: Choices) -> Recording:
    """Read the ECG of an OpenSignals file; see `recordings.formats.read`."""
    text = read_text(path)
    head, mark, body = text.partition(END)
    if not mark:
        raise ValueError(f"got no line {END!r}")
    columns = _columns(_header(head))
    column, notes = _choose(columns, choices)
    rows = [line for line in body.splitlines() if line.strip()]
    if not rows:
        raise ValueError("got no row after the header")
    try:
        table = np.loadtxt(rows, usecols=(column.first, column.position), ndmin=2)
    except ValueError as error:
        raise ValueError(f"{error}, expected {len(rows[0].split())} whole numbers") from None
    samples_uv = _microvolts(table[:, 1], column)
    samples_uv, lost = _open_lost(samples_uv, table[:, 0].astype(np.int64), column)
    start_s, told = _start(column.device)
    rate_hz = float(choices.rate_hz or column.device.get("sampling rate", 0))
    return make_recording(path.stem, rate_hz, column.name, samples_uv, [*notes, *lost, *told], start_s=start_s)


def _header(head: str) -> dict[str, dict[str, Any]]:
    line = next((line for line in head.splitlines() if line.lstrip("# ").startswith("{")), "")
    try:
        devices = json.loads(line.lstrip("# "))
    except json.JSONDecodeError:
        raise ValueError("got no header in JSON in the second line") from None
    if not isinstance(devices, dict) or not all(isinstance(one, dict) for one in devices.values()) or not devices:
        raise ValueError("got a header without devices")
    return devices


def _columns(devices: dict[str, dict[str, Any]]) -> list[_Column]:
    """Columns of all sensors; those of several devices follow each other."""
    found, first = [], 0
    for device in devices.values():
        names, sensors = device.get("column", []), device.get("sensor", [])
        labels, bits = device.get("label", names[-len(sensors) :]), device.get("resolution", [])
        if not sensors or len(names) < len(sensors) or len(bits) < len(sensors) or len(labels) < len(sensors):
            raise ValueError("got a header whose columns, sensors and resolutions do not go together")
        begin = first + len(names) - len(sensors)
        for i, sensor in enumerate(sensors):
            name = labels[i] if str(sensor).upper() in ("RAW", "CUSTOM") else str(sensor)
            found.append(_Column(begin + i, str(name), int(bits[len(bits) - len(sensors) + i]), device, first))
        first += len(names)
    return found


def _choose(columns: list[_Column], choices: Choices) -> tuple[_Column, list[str]]:
    names = [column.name for column in columns]
    if choices.lead is not None:
        return columns[leads.find_lead(names, choices.lead)], []
    named = [column for column in columns if column.name.upper().startswith(("ECG", "EKG"))]
    if named:
        return named[0], []
    if len(columns) == 1:
        return columns[0], [f"its only channel ({names[0]}) is taken for the ECG"]
    known = ", ".join(f"{number} ({name})" for number, name in enumerate(names))
    raise ValueError(f"got no sensor named ECG among {known}: --lead chooses one")


def _microvolts(steps: Signal, column: _Column) -> Signal:
    device = str(column.device.get("device", "")).lower()
    front = BITALINO if device.startswith("bitalino") else BIOSIGNALSPLUX
    if steps.max() >= 2**column.bits or steps.min() < 0:
        raise ValueError(f"got steps of {steps.min():g} to {steps.max():g}, expected 0 to {2**column.bits - 1}")
    volts: Signal = (steps / 2**column.bits - 0.5) * front.supply_v / front.gain
    return 1e6 * volts


def _open_lost(samples_uv: Signal, numbers: npt.NDArray[np.int64], column: _Column) -> tuple[Signal, list[str]]:
    """Insert what the column nSeq leaves out, if that counts the samples."""
    if (column.device.get("column") or [""])[0] != "nSeq" or numbers.size < 2:
        return samples_uv, []
    period = 16 if numbers.max() < 16 else 1 << int(numbers.max()).bit_length()
    steps = np.diff(numbers) % period
    if np.count_nonzero(steps == 1) < 0.5 * steps.size:
        return samples_uv, []
    missing = np.where(steps > 1, steps - 1, 0)
    total = int(missing.sum())
    note = [f"{total} samples that its sequence numbers leave out stay missing"] if total else []
    return open_holes(samples_uv, np.arange(1, numbers.size), missing), note


def _start(device: dict[str, Any]) -> tuple[float | None, list[str]]:
    try:
        year, month, day = (int(word) for word in str(device.get("date", "")).split("-"))
        hour, minute, second = str(device.get("time", "")).split(":")
        whole, _, part = second.partition(".")
        return start_of(datetime(year, month, day, int(hour), int(minute), int(whole), int(f"{part:0<6}"[:6])))
    except ValueError:
        return None, []
