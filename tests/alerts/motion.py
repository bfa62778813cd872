"""Healthy people who rest and move, with a sensor on the chest (K. Kalouskova), and ten minutes of a chest strap.

The beats of healthy people are normal. Withheld are found beats that were not judged, by the grade of artefact where
they lie: 1 is clean, 4 unusable. Whoever runs has a heart rate that is alerted, rightly, but nobody annotated it. The
wearer of the strap has ectopic beats, which nobody annotated either.
The bundled class model has met none of them; the network of atrial fibrillation has met the healthy ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from simulator.records import Record
from tests.alerts.figures import Figure, rate, share
from tests.alerts.panels import Panels
from tests.alerts.playing import HEART, begun, make_record, play
from training import motion

ACTIVITIES = {"klud": "at rest", "chodza": "walking", "ruky": "moving the arms", "drepy": "squatting", "beh": "running"}
"""Word in the files' names -> what it means."""
RATES = ("tachycardia", "extreme-tachycardia")
GRADES = range(1, 5)


def measure(data: Path, panels: Panels) -> Iterator[Figure]:
    """Play all recordings in motion."""
    verdicts, alerts, seconds = Counter[tuple[int, str]](), Counter[tuple[str, bool]](), Counter[str]()
    for path in sorted((data / "motion_artefacts").glob("*.npz")):
        record, grades = read_motion(path)
        published, places = play(record, panels.of("motion_artefacts", record.name))
        activity = ACTIVITIES[path.stem.rpartition("_")[2]]
        seconds[activity] += round(published.seconds)
        alerts.update((activity, alert.kind in RATES) for alert in begun(published, *HEART))
        verdicts.update((int(grades[at]), verdict) for at, verdict in places)
    for grade in GRADES:
        judged = verdicts[grade, "normal"] + verdicts[grade, "abnormal"]
        yield share(f"judged abnormal in grade {grade}", verdicts[grade, "abnormal"], judged, "beats")
        withheld = verdicts[grade, "withheld"]
        yield share(f"withheld in grade {grade}", withheld, withheld + judged, "beats")
    for activity in ACTIVITIES.values():
        other = alerts[activity, False]
        total = other + alerts[activity, True]
        yield rate(f"alerts of high or medium priority, {activity}", total, seconds[activity])
        yield rate(f"the same but for fast heart rates, {activity}", other, seconds[activity])


def read_motion(path: Path) -> tuple[Record, npt.NDArray[np.int64]]:
    """Read samples where the radio delivered them, NaN between; and the grade of each sample, 0 where unknown."""
    signal, stretches = motion.read_motion(path)
    of_sample = np.zeros(signal.size, np.int64)
    for begin, end, grade in stretches:
        of_sample[begin:end] = grade
    return make_record(path.stem, signal, motion.RATE_HZ, "chest", motion.STEP_UV), of_sample


def measure_strap(data: Path, panels: Panels) -> Iterator[Figure]:
    """Play the recording of the chest strap, at the rate of its time stamps."""
    for path in sorted((data / "polar_h10").glob("*.npz")):
        with np.load(path) as stored:
            time_ns, samples_uv = stored["time_ns"], stored["ecg_uV"].astype(np.float64)
        rate_hz = 1e9 * (time_ns.size - 1) / float(time_ns[-1] - time_ns[0])
        record = make_record(path.stem, samples_uv, rate_hz, "chest")
        published, places = play(record, panels.of("polar_h10", record.name))
        verdicts = Counter(verdict for _, verdict in places)
        judged = verdicts["normal"] + verdicts["abnormal"]
        yield share("judged abnormal, ectopic beats among them", verdicts["abnormal"], judged, "beats")
        yield share("withheld", verdicts["withheld"], verdicts.total(), "beats")
        yield rate("alerts of high or medium priority", len(begun(published, *HEART)), published.seconds)
