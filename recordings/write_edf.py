"""EDF+ by `edfio`: one signal of 16 bits in microvolts, beats and alerts as annotations.

EDF knows no missing sample: holes are filled with the lowest value and annotated "Signal missing" with their duration.
The file must end with a whole data record: what is added at the end is annotated so as well.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from recordings.annotations import Note
from recordings.classes import CLASS_OF
from recordings.export import GAP_TEXT, MISSING, Export, beside


def write(export: Export, path: Path) -> None:
    """Write an EDF+ file; see `recordings.export.write`."""
    try:
        import edfio
    except ImportError:
        raise ValueError("EDF files need the package edfio: pip install 'ecgwatch[records]'.") from None
    per_record, record_s = fit_record(export.rate_hz)
    padding = -export.steps.size % per_record
    steps = np.append(export.steps, np.full(padding, MISSING, np.int16))
    reach_uv = -32768 * export.resolution_uv, 32767 * export.resolution_uv
    signal = edfio.EdfSignal.from_digital(
        steps, per_record / record_s, label=f"ECG {export.lead}"[:16], physical_dimension="uV",
        physical_range=(_short(reach_uv[0]), _short(reach_uv[1])), digital_range=(-32768, 32767),
    )  # fmt: skip
    start = datetime.fromtimestamp(export.start_s, UTC)
    if not 1985 <= start.year <= 2084:
        raise ValueError(f"EDF holds dates from 1985 to 2084: got {start:%Y-%m-%d}.")
    edf = edfio.Edf(
        [signal], recording=edfio.Recording(startdate=start.date(), equipment_code=export.name),
        starttime=start.time(), data_record_duration=record_s, annotations=_annotations(edfio, export, padding),
    )  # fmt: skip
    with beside(path) as draft:
        edf.write(draft)


def fit_record(rate_hz: float) -> tuple[int, float]:
    """Samples in a data record and its seconds, which must fit in 8 characters: exact for whole rates, else to 1e-7."""
    if rate_hz == round(rate_hz):
        return round(rate_hz), 1.0
    candidates = [(count, round(count / rate_hz, 6)) for count in range(round(rate_hz), round(10 * rate_hz))]
    return min(candidates, key=lambda one: abs(one[0] / one[1] / rate_hz - 1))


def _annotations(edfio: Any, export: Export, padding: int) -> list[Any]:
    notes = [edfio.EdfAnnotation(max(0.0, note.time_s), None, _text(note)) for note in export.beats]
    for alert in export.alerts:
        duration_s = None if alert.end_s is None else max(0.0, alert.end_s - alert.begin_s)
        notes.append(
            edfio.EdfAnnotation(max(0.0, alert.begin_s), duration_s, f"{alert.kind}: {alert.text}".rstrip(": "))
        )
    holes = export.holes()
    if padding:
        size = export.steps.size
        joined = holes.pop()[0] if holes and holes[-1][1] == size else size
        holes.append((joined, size + padding))
    notes += [
        edfio.EdfAnnotation(begin / export.rate_hz, (end - begin) / export.rate_hz, GAP_TEXT) for begin, end in holes
    ]
    return notes


def _text(note: Note) -> str:
    return f"{note.symbol} {note.text}".strip() if note.symbol in CLASS_OF else note.text


def _short(value: float) -> float:
    """Value in at most 8 characters."""
    return float(f"{value:.7g}"[:8])
