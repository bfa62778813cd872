"""Which signal of a recording is an ECG, by its name and unit.

Knows nothing of files. A name is compared word by word and without regard to case.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

MICROVOLTS = {"v": 1e6, "mv": 1e3, "uv": 1.0, "nv": 1e-3, "volt": 1e6, "millivolt": 1e3, "microvolt": 1.0}
"""Unit in lower case, both micro signs written u -> microvolts. "MV" cannot be megavolts in an ECG."""
CYRILLIC = {"\u043c\u043a\u0432": "uv", "\u043c\u0432": "mv", "\u0432": "v"}
"""Microvolts, millivolts and volts as Russian and its neighbours write them."""
EXPECTED_UNITS = "V, mV, uV or nV"
FILLERS = {"lead", "mod", "modified", "signal", "channel", "ch"}
"""Words that stand beside the name of a lead."""
LEAD = re.compile(
    r"i{1,3}|av[rlf]|v[1-9]r?|v[xyz]"  # standard, right-sided and posterior, Frank
    r"|m?l(i{1,3}|[1-6])|m?v[1-6]|d(i{1,3}|[1-5])|m?cl[1-6]|c[mcs][1-6]"  # modified, ambulatory, bipolar chest leads
    r"|es|as|ai"  # EASI
)
"""Names of ECG leads, in lower case, without what stands between letters and digits."""
OTHERS = {
    "abp", "acc", "accel", "accelerometer", "airflow", "art", "bcg", "bp", "co2", "cvp", "eda", "eeg", "effort", "emg",
    "eog", "flow", "gsr", "gyro", "hr", "icg", "icp", "imp", "light", "marker", "pap", "pcg", "pleth", "position",
    "ppg", "pressure", "pulse", "resp", "respiration", "sao2", "scg", "scr", "sound", "spo2", "temp", "temperature",
    "trigger",
}  # fmt: skip
"""Words that name signals of other kinds, some of them recorded in millivolts as well."""


def microvolts(unit: str) -> float | None:
    """Microvolts in one of a unit; None if it is no unit of voltage."""
    word = unit.strip().lower().replace("\u00b5", "u").replace("\u03bc", "u")
    word = CYRILLIC.get(word, word)
    return MICROVOLTS.get(word, MICROVOLTS.get(word.removesuffix("s")))


def is_ecg(name: str) -> bool:
    """Whether a signal's name is that of an ECG lead."""
    words = [word for word in _words(name) if word not in FILLERS]
    return any(word.startswith(("ecg", "ekg")) for word in words) or LEAD.fullmatch("".join(words)) is not None


def is_other(name: str) -> bool:
    """Whether a signal's name is that of something else than an ECG."""
    return not is_ecg(name) and any(word.rstrip("0123456789") in OTHERS or word in OTHERS for word in _words(name))


def choose_lead(names: Sequence[str], units: Sequence[str]) -> int:
    """Number of the signal to take where nobody chose one.

    The first in volts whose name is that of an ECG lead; else the first in volts whose name is not that of something
    else; else the first in volts.

    Raises
    ------
    ValueError
        There is no signal in volts, or the only one that is named as an ECG is not.
    """
    in_volts = [number for number, unit in enumerate(units) if microvolts(unit) is not None]
    named = [number for number, name in enumerate(names) if is_ecg(name)]
    for number in in_volts:
        if number in named:
            return number
    for number in in_volts:
        if not is_other(names[number]):
            return number
    if in_volts and not named:
        return in_volts[0]
    number = named[0] if named else 0
    raise ValueError(f"got signal {number} ({names[number]}) in {units[number]!r}, expected {EXPECTED_UNITS}")


def find_lead(names: Sequence[str], lead: str) -> int:
    """Number of the signal of a given name, or of a number counted from 0.

    Raises
    ------
    ValueError
        There is none.
    """
    if lead in names:
        return names.index(lead)
    alike = [number for number, name in enumerate(names) if name.lower() == lead.lower()]
    if len(alike) == 1:
        return alike[0]
    if lead.isdecimal() and int(lead) < len(names):
        return int(lead)
    known = ", ".join(f"{number} ({name})" for number, name in enumerate(names))
    raise ValueError(f"got lead {lead!r}, expected {known}")


def note_choice(names: Sequence[str], number: int) -> list[str]:
    """What to note of a signal that was chosen for want of a person's word."""
    taken = f"signal {number} ({names[number]})"
    if number:
        before = ", ".join(f"{i} ({name})" for i, name in enumerate(names[:number]))
        return [f"{taken} is taken for the ECG; passed over: {before}"]
    if is_other(names[number]):
        return [f"{taken} is taken for the ECG, though its name is that of something else"]
    return []


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word]
