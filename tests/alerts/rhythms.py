"""Whole records with annotated beats (MIT-BIH DS1, svdb), or rhythms alone (vfdb, cudb).

What is true, found, an episode, and calm is that of `ecgwatch score --alerts`; R peaks and classes are those of
`ecgwatch score`. Sinus rhythm is what is annotated "(N", ectopic beats in it included. Fibrillation of the ventricles,
flutter included, that lasts `SHORTEST_S` is told in time if the message about an alert of its kind, or a graver one,
came within `WITHIN_S` of its onset. Where rhythms alone are annotated, an alert of high priority is false if no
ventricular tachycardia or fibrillation, nor asystole, was there from 10 s before it began until it ended.
The bundled class model has met these people but those of cudb; fibrillation of the ventricles was learned from vfdb,
cudb and MIT-BIH 207, with folds too (out of fold: `ecgwatch train vf`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from simulator.alert_score import (
    EARLY_S,
    SINUS,
    Published,
    Reference,
    Tally,
    add,
    episodes_of,
    graver,
    merge,
    overlaps,
    publish,
    read_reference,
)
from simulator.score import Outcome, Score, assess, summarise
from tests.alerts.figures import Figure, rate, share
from tests.alerts.panels import Panels
from tests.alerts.playing import HEART, beats_of, read_records

SHORTEST_S, WITHIN_S = 6.0, 10.0
VF, VT = "ventricular-fibrillation", "ventricular-tachycardia"
LETHAL = ("(VF", "(VFL", "(VFIB", "(VT", "(ASYS")


@dataclass(slots=True)
class Measured:
    """What came of the records of a folder."""

    tally: Tally = field(default_factory=Tally)
    outcomes: list[Outcome] = field(default_factory=list)
    fibrillations: int = 0
    told: int = 0
    """Of these, in time."""
    false: int = 0
    """Alerts of high priority while there was no lethal rhythm."""
    other_s: float = 0.0
    """Time without one."""


def measure_beats(data: Path, panels: Panels, database: str) -> Iterator[Figure]:
    """Figures of records with annotated beats."""
    measured = _play(data, panels, database)
    tally = measured.tally
    yield rate("false alerts of high or medium priority", _false(tally, *HEART), tally.seconds)
    yield rate("false alerts of all priorities but technical", _false(tally, *HEART, "low"), tally.seconds)
    yield share("episodes of 3 abnormal in 5 beats alerted", tally.episodes_alerted, tally.episodes)
    yield share("calm time in an alert", tally.calm_alerting_s, tally.calm_s, "s")
    if SINUS in tally.rhythm_s:
        yield share("sinus-rhythm time in an alert", tally.alerting_s[SINUS], tally.rhythm_s[SINUS], "s")
    yield rate("false alerts of high priority", _false(tally, "high"), tally.seconds)
    yield rate("false asystole", tally.false["high", "asystole"], tally.seconds)
    yield share("ventricular tachycardias of 5 beats or more found", tally.found[VT], tally.events[VT])
    if measured.fibrillations:
        yield share("fibrillation of the ventricles told in time", measured.told, measured.fibrillations)
    yield from _agreement(summarise(database, measured.outcomes))


def measure_rhythms(data: Path, panels: Panels, database: str) -> Iterator[Figure]:
    """Figures of records without annotated beats."""
    measured = _play(data, panels, database)
    yield share("fibrillation of the ventricles told in time", measured.told, measured.fibrillations)
    yield rate("false alerts of high priority", measured.false, measured.other_s)


def _play(data: Path, panels: Panels, database: str) -> Measured:
    measured = Measured()
    for path, record in read_records(data / database):
        panel, began_s = panels.of(database, record.name), time.perf_counter()
        published, reference = publish(record, panel), read_reference(path, record)
        computing_s = time.perf_counter() - began_s
        measured.outcomes.append(assess(record, panel, beats_of(published), published.alerts, computing_s))
        add(measured.tally, published, reference)
        add_lethal(measured, published, reference)
    return measured


def add_lethal(measured: Measured, published: Published, reference: Reference) -> None:
    """Count the fibrillation of a record, and its false alerts of high priority."""
    alerts = episodes_of(published)
    for begin, end in reference.events[VF]:
        if end - begin >= SHORTEST_S:
            own = [one for one in alerts if one.kind in graver(VF) and one.span[1] > begin]
            measured.fibrillations += 1
            measured.told += any(one.known_s <= begin + WITHIN_S for one in own)
    lethal = merge([*reference.events[VF], *(span for name, span in reference.rhythms if name in LETHAL)])
    high = [one.span for one in alerts if one.severity == "high"]
    measured.false += sum(not overlaps((begin - EARLY_S, end), lethal) for begin, end in high)
    measured.other_s += published.seconds - sum(end - begin for begin, end in lethal)


def _false(tally: Tally, *severities: str) -> int:
    return sum(n for (severity, _), n in tally.false.items() if severity in severities)


def _agreement(score: Score) -> Iterator[Figure]:
    """How well beats were found and named."""
    counts = f"{score.reference_beats} beats"
    yield Figure("R peaks within 150 ms, F1", score.f1_percent, counts=counts)
    yield Figure("R peaks within 36 ms, F1", score.f1_36ms_percent, counts=counts)
    if named := score.classes:
        for label in "VS":
            yield Figure(f"{label} sensitivity", named.sensitivity_percent[label])
            yield Figure(f"{label} PPV", named.ppv_percent[label])
            yield Figure(f"{label} F1", named.f1_percent[label])
        yield Figure("macro F1 of N S V", named.macro_f1_percent)
