"""One device whose beats and moments are made up, and detectors that observe them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import msgspec
import numpy as np

from monitor import wire
from monitor.alerts.detection import Detection
from monitor.alerts.detector import Detector, Tracker
from monitor.alerts.finding import ABNORMAL, WITHHELD, Beats, Rhythm
from monitor.ecg.wearer import TOLD
from monitor.rhythm import Rhythms, describe

START_S = 1_700_000_000.0
MOST_BEATS = 50
"""In one part of a stream: 10 s with a refractory time of 0.2 s."""


class Beat(NamedTuple):
    """A beat as detectors see it."""

    after_s: float
    """Since the finding before."""
    verdict: int
    probability: float = 0.0
    is_poor: bool = False
    outdated: bool = False
    label: str = ""
    """Of the model; "N" if the verdict is normal, "V" if it is abnormal, unless given."""
    shape: float = np.nan
    """Probability of an abnormal shape."""
    unusual: bool = False
    ventricular: float = 0.0
    """Probability of class V."""
    p_wave: tuple[float, ...] = (np.nan,) * TOLD
    reason: str = "noise"
    """Of being withheld."""


class Moment(NamedTuple):
    """Something else that was found."""

    after_s: float
    what: str
    is_doubtful: bool = False


Step = Beat | Moment


class Event(NamedTuple):
    what: str
    time_s: float
    seq: int
    completed_s: float
    silence_s: float
    is_doubtful: bool = False


@dataclass(eq=False)
class Device:
    id: str = "a"
    trackers: dict[wire.Kind, Tracker] = field(default_factory=dict)
    detectors: Mapping[wire.Kind, Detector] = field(default_factory=dict)


class FakeBeats:
    """`monitor.alerts.finding.Beats` of one device."""

    classes = ("N", "S", "V")
    threshold = shape_threshold = 0.5
    rhythm: Rhythm

    def __init__(self, device: Device, beats: Sequence[Beat], times_s: Sequence[float]) -> None:
        n = len(beats)
        self.devices = [device]
        self.streams, self.seq = np.zeros(n, np.int64), np.zeros(n, np.int64)
        self.time_s = self.qrs_s = np.array(times_s)
        self.begun_s = self.rr_s = np.zeros(n)
        self.doubtful = np.zeros(n, np.uint8)
        self.completed_s = self.time_s + 1
        self.verdicts = np.array([beat.verdict for beat in beats], np.uint8)
        labels = [beat.label or ("V" if beat.verdict == ABNORMAL else "N") for beat in beats]
        self.columns = np.array([self.classes.index(label) for label in labels])
        self.probability = np.array([beat.probability for beat in beats])
        self.ventricular = np.array([beat.ventricular for beat in beats])
        self.shape = np.array([beat.shape for beat in beats])
        self.p_wave = np.array([beat.p_wave for beat in beats]).reshape(-1, TOLD)
        self.unusual = np.array([beat.unusual for beat in beats], bool)
        self.is_poor = np.array([beat.is_poor for beat in beats])
        self.outdated = np.array([beat.outdated for beat in beats])
        self._reasons = [beat.reason if beat.verdict == WITHHELD else None for beat in beats]

    def reason(self, i: int) -> str | None:
        return self._reasons[i]

    def describe(self, i: int) -> dict[str, Any]:
        return {"label": self.classes[self.columns[i]]}

    def follow(self, rhythms: Rhythms) -> None:
        self._rhythms, self.rhythm = rhythms, rhythms.follow(cast(Beats, self))

    def context(self, i: int) -> dict[str, Any]:
        qrs_s = self.qrs_s[i]
        recent = self._rhythms.recent(self.devices[0], int(self.rhythm.number[i]), qrs_s, qrs_s)
        return describe(self.rhythm.rate_bpm[i], recent)


class Player:
    """Lets detectors observe one device, step by step."""

    def __init__(self, detectors: Sequence[Detector]) -> None:
        self.detectors = detectors
        self.detection = Detection(detectors)
        self.rhythms = Rhythms()
        self.device = Device()
        self.now_s = START_S
        self.alerts: list[wire.Alert] = []

    def play(self, steps: Sequence[Step]) -> list[wire.Alert]:
        """Observe steps, neighbouring beats together; return the alerts."""
        beats: list[Beat] = []
        times_s: list[float] = []
        for step in steps:
            self.now_s += step.after_s
            if isinstance(step, Beat):
                beats.append(step)
                times_s.append(self.now_s)
                continue
            self._follow(beats, times_s)
            beats, times_s = [], []
            silence_s = step.after_s if step.what == "no-beats" else 0.0
            event = Event(step.what, self.now_s, 0, self.now_s, silence_s, step.is_doubtful)
            self.detection.observe(self.device, self.rhythms.observe(self.device, event))
        self._follow(beats, times_s)
        alerts = self.detection.take()
        self.alerts += alerts
        return alerts

    def restart(self) -> None:
        """Go on in another process."""
        snapshots = {kind: tracker.snapshot() for kind, tracker in self.device.trackers.items()}
        saved = msgspec.msgpack.decode(msgspec.msgpack.encode(snapshots))
        before, rhythms = self.rhythms.save(self.device), Rhythms()
        self.detection = Detection(self.detectors)
        self.device = Device(trackers=self.detection.restore(saved))
        rhythms.restore(self.device, before)
        self.rhythms = rhythms

    def _follow(self, beats: Sequence[Beat], times_s: Sequence[float]) -> None:
        for k in range(0, len(beats), MOST_BEATS):
            fake = FakeBeats(self.device, beats[k : k + MOST_BEATS], times_s[k : k + MOST_BEATS])
            fake.follow(self.rhythms)
            self.detection.follow(cast(Beats, fake))
