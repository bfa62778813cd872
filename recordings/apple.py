"""The CSV files that Apple's Health app exports of an Apple Watch: lead I, in any language.

Lines of a word and its value, then a sample a line, in microvolts. Words, decimal points and the word for hertz are
those of the phone's language, so the file is known by its values: "512 hertz", "511,422 Hertz", "512 herców" (a number
and a word, beside a time with its zone), a line that ends in "µV". Name and date of birth are skipped over.
"""

from __future__ import annotations

import csv
import re
from datetime import datetime
from pathlib import Path

import numpy as np

from recordings import leads
from recordings.recording import Choices, Recording, make_recording, start_of
from recordings.text import number, read_text

HERTZ = r"hertz|hz|hercios?|herci|hertsi\w*|герц\w*|χερτζ|ヘルツ|赫兹|赫茲|헤르츠|הרץ|هرتز"
_rate = re.compile(rf"(\d+(?:[.,]\d+)?)\s*(?:{HERTZ})\"?$", re.IGNORECASE)
_number_word = re.compile(r"[,;]\s*\"?(\d{3,4}(?:[.,\u066b]\d+)?)\s*[^\W\d_][^\d,;\"]*\"?$")
"""A rate in a language whose word for hertz is not known."""
_moment = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d) ([+-]\d{4})")
_value = re.compile(r"[\"']?[-\u2212+]?\d*(?:[.,]\d+)?(?:[eE][-+]?\d+)?[\"']?,?")
MOST_LINES = 40
"""Before the samples."""


def is_apple(text: str) -> bool:
    """Whether the beginning of a file is that of such an export."""
    lines = [line.strip() for line in text.splitlines()[:MOST_LINES]]
    return _find_rate(lines) is not None and any(map(_unit, lines))


def read_apple(path: Path, choices: Choices) -> Recording:
    """Read an export of the Apple Watch; see `recordings.formats.read`."""
    lines = [line.strip() for line in read_text(path).splitlines()]
    begin = next((i for i, line in enumerate(lines) if _is_sample(line)), len(lines))
    head, rows = lines[:begin], [line for line in lines[begin:] if line]
    stated = _find_rate(head)
    unit = next((ends for line in head if (ends := _unit(line))), None)
    if stated is None or unit is None:
        raise ValueError("got no rate in hertz or no unit before the samples")
    if not rows:
        raise ValueError("got no sample after the header")
    scale = leads.microvolts(choices.unit or unit)
    if scale is None:
        raise ValueError(f"got samples in {choices.unit or unit!r}, expected {leads.EXPECTED_UNITS}")
    samples_uv = scale * np.array([_read_row(row, begin + i) for i, row in enumerate(rows, 1)])
    moment = next((found for line in head if (found := _moment.search(line))), None)
    start_s, notes = (
        (None, []) if moment is None else start_of(datetime.strptime(" ".join(moment.groups()), "%Y-%m-%d %H:%M:%S %z"))
    )
    rate_hz = choices.rate_hz or number(stated.replace("\u066b", "."))
    return make_recording(path.stem, rate_hz, "I", samples_uv, notes, start_s=start_s)


def _find_rate(lines: list[str]) -> str | None:
    """Return the rate as it is written, if one of the lines states it."""
    known = next((found for line in lines if re.search("[,;]", line) and (found := _rate.search(line))), None)
    if known is None and any(_moment.search(line) for line in lines):
        known = next((found for line in lines if (found := _number_word.search(line))), None)
    return None if known is None else known.group(1)


def _unit(line: str) -> str | None:
    """Unit of voltage in which a line ends, such as ``Unit,µV``."""
    fields = re.split("[,;]", line)
    word = fields[-1].strip().strip('"')
    return word if len(fields) > 1 and leads.microvolts(word) is not None else None


def _is_sample(line: str) -> bool:
    return bool(re.search(r"\d", line)) and _value.fullmatch(line) is not None


def _read_row(row: str, line: int) -> float:
    if not _is_sample(row):
        raise ValueError(f"got {row[:40]!r} (sample {line}), expected a number")
    return number(next(csv.reader([row]))[0] if row.startswith('"') else row.rstrip(","))
