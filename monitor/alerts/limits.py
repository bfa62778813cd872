"""From where on something is an alert: the limits of all detectors, and where they come from.

An alert must come within 10 s (IEC 60601-2-27, ANSI/AAMI EC13: cardiac standstill, low and high heart rate). Asystole
of 4 s, bradycardia below 40, tachycardia above 140 and ventricular tachycardia from five beats at 100 a minute on are
what experts were asked to judge in the PhysioNet/Computing in Cardiology Challenge 2015 on false alarms (Clifford et
al. 2015). Limits of the heart rate at the bedside are made for people who lie in bed: 50 and 120 a minute are usual.
These are for people who sleep and run with a sensor on, so that the healthy are left alone; set them closer where you
watch the ill.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of the detectors.

    Raises
    ------
    ValueError
        A limit is not above 0, or stands on the wrong side of another.
    """

    asystole_s: float = 4.0
    """No QRS complex for so long, as in Philips HeartStart XL+ and Edan elite V6."""
    pause_s: float = 3.0
    """An RR interval longer than this: a pause by the guideline on bradycardia of ACC, AHA and HRS (2018)."""
    no_beats_s: float = 10.0
    """Signal in which no beat was found for so long, where that need not be the heart."""
    extreme_bradycardia_bpm: float = 30.0
    bradycardia_bpm: float = 40.0
    tachycardia_bpm: float = 140.0
    extreme_tachycardia_bpm: float = 180.0
    ventricular_bpm: float = 100.0
    """Slowest run of ventricular beats that counts as one: slower ones are escape or idioventricular rhythms."""
    ventricular_tachycardia_beats: int = 5
    ventricular_run_beats: int = 3
    ventricular_a_minute: int = 10
    """Ventricular beats a minute; bedside monitors can be set to 1 to 30 (Mindray V series) or 100 (BeneVision N1)."""
    supraventricular_a_minute: int = 10
    fibrillation_odds: float = 1.0
    """Log odds of atrial fibrillation from which a beat speaks for it."""

    def __post_init__(self) -> None:
        for one in fields(self):
            if one.name != "fibrillation_odds" and not getattr(self, one.name) > 0:
                raise ValueError(f"The limit {one.name} must be above 0: got {getattr(self, one.name)}.")
        rates = (
            self.extreme_bradycardia_bpm, self.bradycardia_bpm, self.tachycardia_bpm, self.extreme_tachycardia_bpm,
        )  # fmt: skip
        if sorted(rates) != list(rates):
            raise ValueError(f"Limits of the heart rate must rise from extreme bradycardia on: got {rates}.")
        if self.asystole_s < SHORTEST_SILENCE_S:
            raise ValueError(f"Asystole is told from {SHORTEST_SILENCE_S:g} s on: got {self.asystole_s:g} s.")
        if not self.pause_s <= self.asystole_s <= self.no_beats_s:
            silences = self.pause_s, self.asystole_s, self.no_beats_s
            raise ValueError(f"A pause must not be longer than asystole, nor that than no beats: got {silences}.")
        if not 2 < self.ventricular_run_beats < self.ventricular_tachycardia_beats:
            runs = self.ventricular_run_beats, self.ventricular_tachycardia_beats
            raise ValueError(f"A ventricular run needs 3 beats or more, a tachycardia more than a run: got {runs}.")
        most = max(self.ventricular_a_minute, self.supraventricular_a_minute)
        if most > MOST_A_MINUTE:
            raise ValueError(f"Ectopic beats are counted up to {MOST_A_MINUTE} a minute: got {most}.")


MOST_A_MINUTE = 16
"""Ectopic beats of the last minute are counted up to here."""
SHORTEST_SILENCE_S = 4.0
"""Silence that has not ended is looked at from here on: no limit of it can be shorter."""


def parse_limits(texts: Sequence[str]) -> Limits:
    """Return limits of which some are set, each by a text such as "bradycardia-bpm=45".

    Raises
    ------
    ValueError
        There is no such limit, or its value is none; see `Limits`.
    """
    defaults = _defaults()
    values: dict[str, Any] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in defaults:
            raise ValueError(f"No such limit: got {name!r}, expected one of {', '.join(defaults)}.")
        try:
            values[name.replace("-", "_")] = type(defaults[name])(value)
        except ValueError:
            raise ValueError(f"The limit {name} must be a number, such as {defaults[name]}: got {value!r}.") from None
    return Limits(**values)


def limit_names() -> list[str]:
    """Return the limits that can be set, as `parse_limits` takes them."""
    return list(_defaults())


def _defaults() -> dict[str, Any]:
    standard = Limits()
    return {one.name.replace("_", "-"): getattr(standard, one.name) for one in fields(Limits)}
