"""Recordings of a hand-held device that are labelled normal, from CinC 2017: 9 to 61 s in lead I.

Nothing about the heart is to be alerted, and seldom anything about the recording. The bundled class model has met these
people; so has, in part, the network of atrial fibrillation, with folds too (out of fold: `ecgwatch train af`).
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from simulator.alert_score import publish
from simulator.records import Record, read_wfdb
from tests.alerts.figures import Figure, share
from tests.alerts.panels import Panels
from tests.alerts.playing import HEART, begun

DATABASE = "cinc2017"
FOLDERS = (DATABASE, "cinc2017b")


def measure(data: Path, panels: Panels) -> Iterator[Figure]:
    """Play all recordings."""
    recordings, told = 0, Counter[str]()
    for record in (one for name in FOLDERS if (data / name).is_dir() for one in read_normals(data / name)):
        published = publish(record, panels.of(DATABASE, record.name))
        heart = {one.kind for one in begun(published, *HEART)}
        recordings += 1
        told.update([*heart, *(["an alert of high or medium priority"] if heart else [])])
        told.update({f"a {one.severity} alert" for one in begun(published, "technical", "low")})
    for what in ("an alert of high or medium priority", "a technical alert", "a low alert"):
        yield share(f"normal ones with {what}", told.pop(what, 0), recordings)
    yield from (share(f"normal ones with {kind}", n, recordings) for kind, n in told.most_common())


def read_normals(folder: Path) -> Iterator[Record]:
    """Read the recordings that are labelled normal, by name."""
    with (folder / "REFERENCE.csv").open(newline="", encoding="utf-8") as file:
        names = sorted(row[0] for row in csv.reader(file) if row[1] == "N")
    return (read_wfdb(folder / name) for name in names)
