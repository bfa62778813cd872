"""Lead I taken at home with dry hand electrodes (TELE): are artefacts withheld, and what is none judged?

A found beat lies where its main deflection does: in a stretch that the expert called an artefact, in one that only a
program called so, or elsewhere. The bundled class model has met most of these people.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.alerts.figures import Figure, share
from tests.alerts.panels import Panels
from tests.alerts.playing import make_record, play

RATE_HZ = 500.0
WHERE = ("elsewhere", "inside the program's artefacts", "inside the expert's artefacts")


def measure(data: Path, panels: Panels) -> Iterator[Figure]:
    """Play all recordings."""
    verdicts = Counter[tuple[str, bool]]()
    for path in sorted((data / "tele_ecg").glob("*.npz")):
        with np.load(path) as stored:
            record = make_record(path.stem, stored["ecg_uV"].astype(np.float64), RATE_HZ, "I")
            where = np.where(stored["visual_mask"], 2, stored["software_mask"])
        _, places = play(record, panels.of("tele_ecg", record.name))
        verdicts.update((WHERE[where[at]], verdict == "withheld") for at, verdict in places)
    for name in reversed(WHERE):
        found = verdicts[name, True] + verdicts[name, False]
        yield share(f"withheld {name}", verdicts[name, True], found, "beats")
