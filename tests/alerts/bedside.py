"""Alarms of bedside monitors, from the PhysioNet/CinC Challenge 2015, each judged true or false by experts.

A recording ends with the alarm. It counts as told if an alert of its kind, or one that stands for it (`KINDS`), was on
during the last `LATEST_S`. In the score of the challenge a true alarm that is not told weighs five times.
The bundled class model has not met these people; rules of the engine were made while looking at these recordings.
"""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from simulator.alert_score import Published, episodes_of, publish
from tests.alerts.figures import Figure, share
from tests.alerts.panels import Panels
from tests.alerts.playing import make_record

SIGNALS, TABLE, RATE_HZ = "cinc2015_ecg_250hz_int16_uV.npz", "alarms.csv", 250.0
KINDS = {
    "Asystole": ("asystole", "ventricular-fibrillation"),
    "Bradycardia": ("bradycardia", "extreme-bradycardia", "asystole"),
    "Tachycardia": ("tachycardia", "extreme-tachycardia", "ventricular-tachycardia", "ventricular-fibrillation"),
    "Ventricular_Tachycardia": ("ventricular-tachycardia", "ventricular-fibrillation"),
    "Ventricular_Flutter_Fib": ("ventricular-fibrillation", "ventricular-tachycardia"),
}
"""Alarm of the challenge -> kinds of our alerts."""
LATEST_S = 16.0
MISSED_WEIGHT = 5

Outcomes = Counter[tuple[bool, bool]]
"""Alarms by whether they are true, and whether they were told."""


def measure(data: Path, panels: Panels) -> Iterator[Figure]:
    """Play all recordings."""
    by_kind: dict[str, Outcomes] = defaultdict(Counter)
    folder = data / "cinc2015"
    with (folder / TABLE).open(newline="", encoding="utf-8") as file, np.load(folder / SIGNALS) as signals:
        for row in csv.DictReader(file):
            counts = signals[row["record"]]
            samples_uv = np.where(counts == np.iinfo(np.int16).min, np.nan, counts.astype(np.float64))
            record = make_record(row["record"], samples_uv, RATE_HZ, row["lead"])
            published = publish(record, panels.of("cinc2015", record.name))
            by_kind[row["alarm"]][row["true"] == "1", is_told(published, row["alarm"])] += 1
    yield from figures_of(by_kind)


def is_told(published: Published, alarm: str) -> bool:
    """Whether an alarm of the challenge was told at the end of a recording."""
    from_s = published.seconds - LATEST_S
    return any(one.kind in KINDS[alarm] and one.span[1] >= from_s for one in episodes_of(published))


def figures_of(by_kind: Mapping[str, Outcomes]) -> Iterator[Figure]:
    """Score and shares of all alarms, then shares of each kind."""
    everything = sum(by_kind.values(), Outcomes())
    right = everything[True, True] + everything[False, False]
    weighed = right + everything[False, True] + MISSED_WEIGHT * everything[True, False]
    yield Figure("score of the challenge", right / weighed if weighed else None, "", f"{everything.total()} alarms")
    for prefix, one in {"": everything, **{f"{kind}: ": one for kind, one in by_kind.items()}}.items():
        yield share(f"{prefix}true alarms told", one[True, True], one[True, True] + one[True, False])
        yield share(f"{prefix}false alarms not told", one[False, False], one[False, False] + one[False, True])
