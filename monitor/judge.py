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
from monitor.classify import Classifier
from monitor.ecg import segment, wearer
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
    """(n, 11) see `monitor.ecg.wearer.P_WAVE_NUMBERS`; NaN where that is not known."""
    lies: npt.NDArray[np.uint8]
    """(n,) whether the signal is upside down, see there."""
    rhythm: Rhythm = field(init=False)
    """What the beats before say; see `follow`."""
    _rhythms: Rhythms = field(init=False)

    def follow(self, rhythms: Rhythms) -> None:
        """Look at the beats before: to be done for all beats once, in order."""
        self._rhythms, self.rhythm = rhythms, rhythms.follow(self)

    @property
    def columns_to_fill(self) -> tuple[npt.NDArray[Any], ...]:
        """What the main model's answers are written to; see `_spread`."""
        of_beats = self.verdicts, self.columns, self.probability, self.ventricular, self.p_wave, self.lies
        return self.found.reasons, *of_beats

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

    @property
    def qrs_s(self) -> npt.NDArray[np.float64]:
        """(n,) main deflections of the QRS complexes, on the devices' clocks."""
        return self.found.qrs_s

    @property
    def begun_s(self) -> npt.NDArray[np.float64]:
        """(n,) when the unbroken stretch of packets began that a beat lies in."""
        return self.found.begun_s

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

    @property
    def rr_s(self) -> npt.NDArray[np.float64]:
        """(n,) since the QRS complex before, on the devices' clocks; 0 where that is not known, or long."""
        return self.found.rr_s

    @cached_property
    def is_poor(self) -> npt.NDArray[np.bool_]:
        """(n,) withheld because the signal itself is bad, or nothing that the model could make sense of."""
        return _IS_POOR[self.found.reasons]

    def reason(self, i: int) -> str | None:
        """Why the beat at `i` is withheld; None if it is not."""
        return REASONS[self.found.reasons[i]]

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
            reason=self.reason(i),
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
    is_class_model = panel.class_model is not None
    asked = [_choose(one.reasons, one.beats, one.surroundings, is_class_model) for one in found]
    judged = [_withheld(panel, one) for one in found]
    owners = [wearers.find_all(one.devices) for one in judged] if is_class_model else []
    p_waves = _NO_P_WAVES
    if panel.class_model is not None:
        probabilities, p_waves = _ask_class_model(panel.class_model, found, asked, owners, wearers)
    else:
        probabilities = _ask(cast(Classifier, panel.main), found, asked)
    classes = panel.info.classes
    ventricular = classes.index(VENTRICULAR) if VENTRICULAR in classes else -1
    answers = probabilities, panel.main.columns(probabilities), panel.main.abnormal(probabilities)
    begin = 0
    for one, rows in zip(judged, asked, strict=True):
        _spread(rows, begin, answers, ventricular, p_waves, one.columns_to_fill)
        begin += rows.size
    if panel.shape is not None:
        _add_shapes(panel.shape, judged, owners, wearers)
    return judged


_NO_P_WAVES = np.zeros((0, wearer.TOLD)), np.zeros(0, np.uint8)


def warm_up() -> None:
    """Load the compiled loops, or compile them if that was never done here."""
    nothing, codes = np.zeros(0), np.zeros(0, np.uint8)
    room = segment.make_room(0)
    rows = _choose(codes, room.beats, room.surroundings, True)
    out = codes, codes, np.zeros(0, np.int64), nothing, nothing, np.zeros((0, wearer.TOLD)), codes
    answers = np.zeros((0, 3), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32)
    _spread(rows, 0, answers, -1, _NO_P_WAVES, out)


def _ask_class_model(
    model: ClassModel, found: list[Beats], asked: list[Ints], owners: list[Ints], wearers: Table
) -> tuple[Floats32, tuple[npt.NDArray[np.float64], npt.NDArray[np.uint8]]]:
    """Let the wearers be observed, and ask for the class of some beats; those that are noise teach nothing.

    Returns its probabilities, and what `wearer.observe_p_waves` says of them.
    """
    windows, rr, rows, fit = [], [], [], []
    for one, which, theirs in zip(found, asked, owners, strict=True):
        windows.append(one.surroundings if which.size == len(one.surroundings) else one.surroundings[which])
        rr.append(one.beats["rr"][which])
        rows.append(theirs[one.beats["stream"][which]])
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


def _add_shapes(shape: Classifier, judged: list[Judged], owners: list[Ints], wearers: Table) -> None:
    """Ask the shape model about the beats that are normal by their class, in leads that it has a say on."""
    asked = []
    for one in judged:
        speaks = np.array([device.shape_speaks for device in one.devices])
        asked.append(((one.verdicts == NORMAL) & speaks[one.streams]).nonzero()[0])
    if not any(rows.size for rows in asked):
        return
    found = [_upright(one) for one in judged]
    answers = shape.abnormal(_ask(shape, found, asked)).astype(np.float64)  # NaN where there is none
    begin = 0
    for one, rows, theirs in zip(judged, asked, owners, strict=True):
        part = answers[begin : (begin := begin + rows.size)]
        one.shape[rows] = part
        whose = theirs[one.streams[rows]]
        one.unusual[rows] = wearer.observe_shapes(wearers.states, whose, part >= shape.info.threshold)


def _upright(judged: Judged) -> Beats:
    """The beats with those turned over that are upside down: their R peak is the main deflection."""
    found = judged.found
    if not judged.lies.any():
        return found
    turned = np.flatnonzero(judged.lies != wearer.UPRIGHT)
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
    numbers, codes, nowhere = np.zeros((2, n)), np.zeros(n, np.uint8), np.zeros(n, np.int64)
    shape, p_wave, withheld = np.empty(n), np.empty((n, wearer.TOLD)), np.empty(n, np.uint8)
    withheld.fill(WITHHELD)
    shape.fill(np.nan)
    p_wave.fill(np.nan)
    return Judged(found, withheld, nowhere, numbers[0], numbers[1], panel, shape, np.zeros(n, np.bool_), p_wave, codes)


@compiled_exactly
def _choose(reasons: Any, beats: Any, surroundings: Any, is_class_model: bool) -> Any:
    """Which beats the model is asked about: those fit to be judged, and for a class model those withheld as noise, too.

    What it says of noise is no verdict, but where a run of ventricular beats has begun, it tells whether it goes on.
    Beats whose surroundings, which it looks at, are not all there are withheld.
    """
    asked, n = np.empty(reasons.size, np.int64), 0
    for i in range(reasons.size):
        is_asked = reasons[i] == 0
        if is_class_model and reasons[i] in (0, NOISE):
            is_whole = bool(beats[i].surrounded)
            is_asked = is_whole and bool(np.isfinite(surroundings[i]).all())
            if reasons[i] == 0 and not is_asked:
                reasons[i] = MISSING if is_whole else INCOMPLETE
        if is_asked:
            asked[n] = i
            n += 1
    return asked[:n]


@compiled_exactly
def _spread(asked: Any, begin: int, answers: Any, ventricular: int, p_waves: Any, out: Any) -> None:
    """Spread the models' answers, from one on, over all beats; those that must be withheld stay so.

    A row of answers that is not finite is none.
    """
    probabilities, columns, abnormal = answers
    told, lies = p_waves
    reasons, verdicts, spread, probability, of_class, p_wave, lying = out
    for i in range(asked.size):
        row, k = asked[i], begin + i
        if k < lies.size:
            p_wave[row], lying[row] = told[k], lies[k]
        is_answer = np.isfinite(probabilities[k]).all()
        if is_answer and ventricular >= 0:
            of_class[row] = probabilities[k, ventricular]
        if reasons[row] != 0:
            continue
        if not is_answer:
            reasons[row] = NO_ANSWER
            continue
        verdicts[row], spread[row], probability[row] = columns[k] > 0, columns[k], abnormal[k]


def _rr_context(beats: npt.NDArray[np.void], pace: npt.NDArray[np.float64]) -> beat.RrContext:
    """(n, 3) RR context of beats whose rhythm is known."""
    before = np.where(beats["rr"] > 0, beats["rr"], np.nan)
    after = np.where(beats["next_rr"] > 0, beats["next_rr"], np.where(beats["next_rr"] == PAUSE, np.inf, np.nan))
    before_s, after_s, median_s = (samples / beat.RATE_HZ * pace for samples in (before, after, beats["median_rr"]))
    return beat.rr_context(before_s, after_s, median_s)
