"""The models' word on beats: verdicts for many at a time, and the messages that say so.

A beat's verdict is that of the main model: abnormal is any class but its first. What a shape model says beside it is
told as well, and changes no verdict. Knows the signal path and the models; of devices only their ids, what is
remembered of their wearers, and whether the shape model has a say on them. Knows nothing of when a verdict matters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from monitor import beat, wire
from monitor.alerts.finding import NORMAL, VERDICTS, WITHHELD, Rhythm, make_id
from monitor.class_model import ClassModel
from monitor.classify import Classifier, answered
from monitor.ecg import wearer
from monitor.ecg.batch import Beats, fit_windows
from monitor.ecg.kernels import compiled_exactly
from monitor.ecg.quality import INCOMPLETE, MISSING, NO_ANSWER, NO_RHYTHM, NOISE, REASONS
from monitor.ecg.resample import DELAY_S
from monitor.ecg.segment import PAUSE
from monitor.panel import Panel
from monitor.rhythm import Rhythms, describe
from monitor.table import Table

VENTRICULAR = "V"
"""The class of ANSI/AAMI EC57."""
MIN_TURNED = 25
"""Samples of a window that must be left when a beat that is turned over begins later."""
Ints = npt.NDArray[np.int64]
Floats32 = npt.NDArray[np.float32]

_IS_POOR = np.array([reason is not None for reason in REASONS])
_IS_POOR[[INCOMPLETE, NO_RHYTHM]] = False


@dataclass
class Judged:
    """Beats with their verdicts, and the models that judged; see `monitor.alerts.finding.Beats`."""

    found: Beats
    verdicts: npt.NDArray[np.uint8]
    """(n,) positions in `VERDICTS`."""
    columns: npt.NDArray[np.int64]
    """(n,) positions in the classes of the model; no meaning where withheld."""
    probability: npt.NDArray[np.float64]
    """(n,) of not being normal; no meaning where withheld."""
    ventricular: npt.NDArray[np.float64]
    """(n,) probability of being of the class V, also of beats withheld as noise; 0 of other withheld ones, or where the
    model has no such class."""
    panel: Panel
    shape: npt.NDArray[np.float64]
    """(n,) probability of an abnormal shape, by the shape model; NaN where it has no say."""
    unusual: npt.NDArray[np.bool_]
    """(n,) whether the shape is abnormal, and that is not usual for the wearer."""
    p_wave: npt.NDArray[np.float64]
    """(n, 2) whether there are P waves, see `monitor.ecg.wearer.observe_p_waves`; NaN where that is not known."""
    lies: npt.NDArray[np.uint8]
    """(n,) whether the signal is upside down, see there."""
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
        return self.panel.info.classes

    @property
    def threshold(self) -> float:
        """Probability from which a beat counts as abnormal."""
        return self.panel.info.threshold

    @property
    def shape_threshold(self) -> float:
        """Probability from which a shape counts as abnormal; 1 where there is no shape model."""
        return 1.0 if self.panel.shape is None else self.panel.shape.info.threshold

    @property
    def doubtful(self) -> npt.NDArray[np.uint8]:
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
        return _IS_POOR[self.found.reasons]

    @property
    def outdated(self) -> npt.NDArray[np.bool_]:
        """(n,) whether it was already found that the electrode came off after this beat."""
        return self.found.outdated

    @property
    def known(self) -> npt.NDArray[np.int64]:
        """(n,) number of the sample up to which the signal was known when the beat was found."""
        return self.found.known

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
        model, column, probability = self.panel.main, int(self.columns[i]), float(self.probability[i])
        if self.verdicts[i] == NORMAL and not math.isnan(self.shape[i]) and self.panel.shape is not None:
            model, probability = self.panel.shape, float(self.shape[i])
            column = int(probability >= model.info.threshold)
        return {
            "label": model.info.classes[column],
            "probability": probability,
            "threshold": model.info.threshold,
            "model": model.info.name,
            "model_sha256": model.sha256,
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
            label=None if withheld else self.classes[self.columns[i]],
            probability=None if withheld else float(self.probability[i]),
            shape_probability=None if math.isnan(self.shape[i]) else float(self.shape[i]),
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


def judge(panel: Panel, found: list[Beats], wearers: Table) -> list[Judged]:
    """Verdicts on all beats, with one call of each model.

    Parameters
    ----------
    panel
        The models.
    found
        Beats in order per device. Of those that cannot be judged the reason is filled in.
    wearers
        Of `monitor.ecg.wearer.STATE`, what is remembered of each device's wearer.
    """
    if not found:
        return []
    if panel.class_model is not None:
        for one in found:
            _withhold_cut_off(one)
    p_waves = None
    if panel.class_model is not None:
        asked = [_fit_or_noise(one) for one in found]
        probabilities, p_waves = _ask_class_model(panel.class_model, found, asked, wearers)
    else:
        asked = [(one.reasons == 0).nonzero()[0] for one in found]
        probabilities = _ask(cast(Classifier, panel.main), found, asked)
    finite = answered(probabilities)
    columns, abnormal = panel.main.columns(probabilities), panel.main.abnormal(probabilities)
    judged, begin = [], 0
    for one, rows in zip(found, asked, strict=True):
        judged.append(_withheld(panel, one))
        part, last = slice(begin, begin := begin + rows.size), judged[-1]
        answers = finite[part], columns[part], abnormal[part]
        _spread(rows, *answers, one.reasons, last.verdicts, last.columns, last.probability)
        if p_waves is not None:
            last.p_wave[rows], last.lies[rows] = p_waves[0][part], p_waves[1][part]
        if VENTRICULAR in panel.info.classes:
            of_class = probabilities[part, panel.info.classes.index(VENTRICULAR)]
            last.ventricular[rows] = np.where(finite[part], of_class, 0.0)
    if panel.shape is not None:
        _add_shapes(panel.shape, judged, wearers)
    return judged


def warm_up() -> None:
    """Load the compiled loop, or compile it if that was never done here."""
    rows, unsure, codes = np.zeros(0, np.int64), np.zeros(0, np.bool_), np.zeros(0, np.uint8)
    _spread(rows, unsure, rows, np.zeros(0, np.float32), codes, codes, rows, np.zeros(0))


def _withhold_cut_off(found: Beats) -> None:
    """Withhold beats whose surroundings are not all there."""
    reasons = found.reasons
    reasons[(reasons == 0) & (found.beats["surrounded"] == 0)] = INCOMPLETE
    reasons[(reasons == 0) & ~np.isfinite(found.surroundings).all(axis=1)] = MISSING


def _fit_or_noise(found: Beats) -> Ints:
    """Which beats the class model is asked about: those fit to be judged, and those withheld as noise, if all is there.

    What it says of noise is no verdict, but where a run of ventricular beats has begun, it tells whether it goes on.
    """
    reasons = found.reasons
    noise = (reasons == NOISE) & (found.beats["surrounded"] != 0)
    if noise.any():
        noise &= np.isfinite(found.surroundings).all(axis=1)
    return ((reasons == 0) | noise).nonzero()[0]


def _ask_class_model(
    model: ClassModel, found: list[Beats], asked: list[Ints], wearers: Table
) -> tuple[Floats32, tuple[npt.NDArray[np.float64], npt.NDArray[np.uint8]]]:
    """Let the wearers be observed, and ask for the class of some beats; those that are noise teach nothing.

    Returns its probabilities, and what `wearer.observe_p_waves` says of them.
    """
    windows, rr, rows, fit = [], [], [], []
    for one, which in zip(found, asked, strict=True):
        owners = wearers.find_all([stretch.owner for stretch in one.stretches])
        windows.append(one.surroundings[which])
        rr.append(one.beats["rr"][which])
        rows.append(owners[one.beats["stream"][which]])
        fit.append(one.reasons[which] == 0)
    whose, signals, teaches = _joined(rows), _joined(windows), _joined(fit)
    inputs, context = wearer.observe(wearers.states, whose, signals, _joined(rr), teaches)
    p_waves = wearer.observe_p_waves(wearers.states, whose, signals, inputs, context, teaches)
    return model.probabilities(inputs, context), p_waves


def _ask(classifier: Classifier, found: list[Beats], fit: list[Ints]) -> Floats32:
    """Ask a model of single windows."""
    windows = [fit_windows(one.signals, one.beats["length"], rows) for one, rows in zip(found, fit, strict=True)]
    rr = None
    if classifier.needs_rr:
        rr = _joined([_rr_context(one.beats[rows], one.pace[rows]) for one, rows in zip(found, fit, strict=True)])
    return classifier.probabilities(_joined(windows), rr)


def _add_shapes(shape: Classifier, judged: list[Judged], wearers: Table) -> None:
    """Ask the shape model about the beats that are normal by their class, in leads that it has a say on."""
    asked = []
    for one in judged:
        speaks = np.array([device.shape_speaks for device in one.devices])
        asked.append(np.flatnonzero((one.verdicts == NORMAL) & speaks[one.streams]))
    if not any(rows.size for rows in asked):
        return
    found = [_upright(one) for one in judged]
    answers = shape.abnormal(_ask(shape, found, asked)).astype(np.float64)  # NaN where there is none
    begin = 0
    for one, rows in zip(judged, asked, strict=True):
        part = answers[begin : (begin := begin + rows.size)]
        one.shape[rows] = part
        owners = wearers.find_all(one.devices)[one.streams[rows]]
        one.unusual[rows] = wearer.observe_shapes(wearers.states, owners, part >= shape.info.threshold)


def _upright(judged: Judged) -> Beats:
    """The beats with those turned over that are upside down: their R peak is the main deflection."""
    found, turned = judged.found, np.flatnonzero(judged.lies != wearer.UPRIGHT)
    if not turned.size:
        return found
    signals, beats = found.signals.copy(), found.beats.copy()
    for i in turned:
        late = max(0, int(beats["fiducial"][i] - beats["r_peak"][i]))
        late = late if late < beats["length"][i] - MIN_TURNED else 0
        signals[i, : signals.shape[1] - late] = -found.signals[i, late:]
        beats["length"][i] -= late
    return found._replace(signals=signals, beats=beats)


def _joined(arrays: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _withheld(panel: Panel, found: Beats) -> Judged:
    """Beats without a verdict."""
    n = found.reasons.size
    withheld, nowhere, unlikely = np.full(n, WITHHELD, np.uint8), np.zeros(n, np.int64), np.zeros(n)
    unknown = np.full(n, np.nan), np.zeros(n, np.bool_), np.full((n, 2), np.nan), np.zeros(n, np.uint8)
    return Judged(found, withheld, nowhere, unlikely, np.zeros(n), panel, *unknown)


@compiled_exactly
def _spread(
    asked: Any, finite: Any, columns: Any, abnormal: Any, reasons: Any, verdicts: Any, spread: Any, probability: Any
) -> None:
    """Spread the model's answers over all beats; those that must be withheld stay so."""
    for i in range(asked.size):
        row = asked[i]
        if reasons[row] != 0:
            continue
        if not finite[i]:
            reasons[row] = NO_ANSWER
            continue
        verdicts[row], spread[row], probability[row] = columns[i] > 0, columns[i], abnormal[i]


def _rr_context(beats: npt.NDArray[np.void], pace: npt.NDArray[np.float64]) -> beat.RrContext:
    """(n, 3) RR context of beats whose rhythm is known."""
    before = np.where(beats["rr"] > 0, beats["rr"], np.nan)
    after = np.where(beats["next_rr"] > 0, beats["next_rr"], np.where(beats["next_rr"] == PAUSE, np.inf, np.nan))
    before_s, after_s, median_s = (samples / beat.RATE_HZ * pace for samples in (before, after, beats["median_rr"]))
    return beat.rr_context(before_s, after_s, median_s)
