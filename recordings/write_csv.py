"""A CSV file: time, microvolts, annotation. Missing samples have no row; times are seconds since 1970 (UTC)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recordings.export import MISSING, Export, beside

HEADER = "time (s),ecg (uV),annotation\n"
PART = 100_000
"""Rows that are written in one go."""


def write(export: Export, path: Path) -> None:
    """Write a CSV file; see `recordings.export.write`."""
    places = np.flatnonzero(export.steps != MISSING)
    texts = texts_of(export)
    with beside(path) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        file.write(HEADER)
        for begin in range(0, places.size, PART):
            part = places[begin : begin + PART]
            times_s = export.start_s + part / export.rate_hz
            values = np.round(export.steps[part] * export.resolution_uv, 4)
            rows = zip(part.tolist(), times_s.tolist(), values.tolist(), strict=True)
            file.writelines(f"{time_s:.6f},{value:.10g},{texts.get(place, '')}\n" for place, time_s, value in rows)


def texts_of(export: Export) -> dict[int, str]:
    """Annotations by sample, several joined by semicolons; each at the nearest sample that is there."""
    there = np.flatnonzero(export.steps != MISSING)
    texts: dict[int, str] = {}
    if not there.size:
        return texts
    for note in export.notes:
        after = int(np.searchsorted(there, note.time_s * export.rate_hz))
        near = there[max(0, after - 1) : after + 1]
        place = int(near[np.argmin(np.abs(near - note.time_s * export.rate_hz))])
        text = (f"{note.symbol} {note.text}" if note.symbol not in '+"' else note.text).strip().replace(",", " ")
        texts[place] = f"{texts[place]}; {text}" if place in texts else text
    return texts
