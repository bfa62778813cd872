"""The model's word on beats: verdicts for many at a time, and the messages that say so.

Knows the signal path and the classifier; nothing of devices but their ids, and nothing of when a verdict matters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from monitor import beat, wire
from monitor.alerts.finding import VERDICTS, WITHHELD, Rhythm, make_id
from monitor.classify import Classifier, answered
from monitor.ecg.batch import Beats, fit_windows
from monitor.ecg.quality import INCOMPLETE, NO_ANSWER, NO_RHYTHM, REASONS
from monitor.ecg.resample import DELAY_S
from monitor.ecg.segment import PAUSE
from monitor.rhythm import Rhythms, describe


@dataclass
class Judged:
    """Beats with their verdicts, and the model that judged; see `monitor.alerts.finding.Beats`."""

    found: Beats
    verdicts: npt.NDArray[np.uint8]
    """(n,) positions in `VERDICTS`."""
    columns: npt.NDArray[np.int64]
    """(n,) positions in the classes of the model; no meaning where withheld."""
    probability: npt.NDArray[np.float64]
    """(n,) of not being normal; no meaning where withheld."""
    classifier: Classifier
    rhythm: Rhythm = field(init=False)
    """What the beats before say; see `follow`."""
    _rhythms: Rhythms = field(init=False)

    def follow(self, rhythms: Rhythms) -> None:
        """Look at the beats before: to be done for all beats once, in order."""
        self._rhythms, self.rhythm = rhythms, rhythms.follow(self)

    @cached_property
    def devices(self) -> Sequence[Any]:
        """The device of each stream."""
        return [stretch.owner for stretch in self.found.stretches]

    @property
    def streams(self) -> npt.NDArray[np.int64]:
        """(n,) positions in `devices`."""
        return self.found.beats["stream"]

    @property
    def time_s(self) -> npt.NDArray[np.float64]:
        """(n,) R peaks, on the devices' clocks."""
        return self.found.time_s

    @cached_property
    def qrs_s(self) -> npt.NDArray[np.float64]:
        """(n,) main deflections of the QRS complexes, on the devices' clocks."""
        found = self.found
        after = found.beats["fiducial"] - found.beats["r_peak"]
        qrs_s: npt.NDArray[np.float64] = found.time_s + after / beat.RATE_HZ * found.pace
        return qrs_s

    @property
    def begun_s(self) -> npt.NDArray[np.float64]:
        """(n,) when the unbroken stretch of packets began that a beat lies in."""
        return np.array([stretch.started_s for stretch in self.found.stretches])[self.streams]

    @property
    def classes(self) -> Sequence[str]:
        """Of the model; the first is normal."""
        return self.classifier.info.classes

    @property
    def threshold(self) -> float:
        """Probability from which a beat counts as abnormal."""
        return self.classifier.info.threshold

    @property
    def doubtful(self) -> npt.NDArray[np.bool_]:
        """(n,) whether beats may be hidden before one that came late."""
        return self.found.doubtful

    @cached_property
    def rr_s(self) -> npt.NDArray[np.float64]:
        """(n,) since the QRS complex before, on the devices' clocks; 0 where that is not known, or long."""
        rr_s: npt.NDArray[np.float64] = self.found.beats["rr"] / beat.RATE_HZ * self.found.pace
        return rr_s

    @cached_property
    def is_poor(self) -> npt.NDArray[np.bool_]:
        """(n,) withheld because the signal itself is bad, or nothing that the model could make sense of."""
        reasons = self.found.reasons
        return (self.verdicts == WITHHELD) & (reasons != INCOMPLETE) & (reasons != NO_RHYTHM)

    @property
    def outdated(self) -> npt.NDArray[np.bool_]:
        """(n,) whether it was already found that the electrode came off after this beat."""
        return self.found.outdated

    @property
    def seq(self) -> npt.NDArray[np.int64]:
        """(n,) sequence number of the packet that completed the beat."""
        return self.found.seq

    @property
    def completed_s(self) -> npt.NDArray[np.float64]:
        """(n,) end of that packet, on the device's clock."""
        return self.found.completed_s

    def describe(self, i: int) -> dict[str, Any]:
        """What an alert says of the beat at `i`: fields of `wire.Alert`."""
        one, info = self.message(i), self.classifier.info
        return {
            "label": one.label,
            "probability": one.probability,
            "threshold": info.threshold,
            "model": info.name,
            "model_sha256": self.classifier.sha256,
            "waveform": self._waveform(i),
        }

    def context(self, i: int) -> dict[str, Any]:
        """What an alert says of the heart at the beat at `i`: fields of `wire.Alert`."""
        device, qrs_s = self.devices[self.streams[i]], float(self.qrs_s[i])
        recent = self._rhythms.recent(device, int(self.rhythm.number[i]), qrs_s, qrs_s)
        return describe(float(self.rhythm.rate_bpm[i]), recent)

    def message(self, i: int) -> wire.Beat:
        """Return the beat at `i` as it is published."""
        found, verdict = self.found, int(self.verdicts[i])
        one, time_s, withheld = found.beats[i], float(found.time_s[i]), verdict == WITHHELD
        device = found.stretches[one["stream"]].owner.id
        rate_bpm = float(self.rhythm.rate_bpm[i])
        return wire.Beat(
            id=make_id(device, time_s),
            device=device,
            r_peak_s=time_s,
            qrs_s=float(self.qrs_s[i]),
            delay_s=int(one["decided"] - one["fiducial"]) / beat.RATE_HZ + DELAY_S,
            verdict=VERDICTS[verdict],
            label=None if withheld else self.classifier.info.classes[self.columns[i]],
            probability=None if withheld else float(self.probability[i]),
            reason=REASONS[found.reasons[i]],
            rr_s=float(self.rr_s[i]) or None,
            heart_rate_bpm=None if math.isnan(rate_bpm) else round(rate_bpm, 1),
            seq=int(found.seq[i]),
            completed_s=float(found.completed_s[i]),
        )

    def _waveform(self, i: int) -> wire.Waveform:
        found = self.found
        resolution_uv: float | None = found.stretches[found.beats["stream"][i]].owner.resolution_uv
        signal = found.signals[i, : found.beats["length"][i]] * (1 if resolution_uv is None else resolution_uv)
        return wire.Waveform(
            start_s=float(found.time_s[i]),
            rate_hz=beat.RATE_HZ,
            unit="step" if resolution_uv is None else "uV",
            samples=np.rint(signal).astype(int).tolist(),
        )


def judge(classifier: Classifier, found: list[Beats]) -> list[Judged]:
    """Verdicts on all beats, with one call of the model."""
    if not found:
        return []
    fit = [np.flatnonzero(one.reasons == 0) for one in found]
    windows = [fit_windows(one.signals, one.beats["length"], rows) for one, rows in zip(found, fit, strict=True)]
    rr = None
    if classifier.needs_rr:
        rr = np.concatenate(
            [_rr_context(one.beats[rows], one.pace[rows]) for one, rows in zip(found, fit, strict=True)]
        )
    probabilities = classifier.probabilities(np.concatenate(windows), rr)
    finite = answered(probabilities)
    columns, abnormal = classifier.columns(probabilities), classifier.abnormal(probabilities)
    judged, begin = [], 0
    for one, rows in zip(found, fit, strict=True):
        part = slice(begin, begin := begin + rows.size)
        sure = finite[part]
        one.reasons[rows[~sure]] = NO_ANSWER
        judged.append(_verdicts(classifier, one, rows[sure], columns[part][sure], abnormal[part][sure]))
    return judged


def _verdicts(
    classifier: Classifier,
    found: Beats,
    fit: npt.NDArray[np.int64],
    columns: npt.NDArray[np.int64],
    abnormal: npt.NDArray[np.float32],
) -> Judged:
    """Spread the model's answers for the beats that were fit to be judged over all beats."""
    n = found.reasons.size
    verdicts, spread, probability = np.full(n, WITHHELD, np.uint8), np.zeros(n, np.int64), np.zeros(n)
    verdicts[fit], spread[fit], probability[fit] = columns > 0, columns, abnormal
    return Judged(found, verdicts, spread, probability, classifier)


def _rr_context(beats: npt.NDArray[np.void], pace: npt.NDArray[np.float64]) -> beat.RrContext:
    """(n, 3) RR context of beats whose rhythm is known."""
    before = np.where(beats["rr"] > 0, beats["rr"], np.nan)
    after = np.where(beats["next_rr"] > 0, beats["next_rr"], np.where(beats["next_rr"] == PAUSE, np.inf, np.nan))
    before_s, after_s, median_s = (samples / beat.RATE_HZ * pace for samples in (before, after, beats["median_rr"]))
    return beat.rr_context(before_s, after_s, median_s)
