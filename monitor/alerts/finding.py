"""What detectors observe: beats with their verdicts, and moments at which something else was found.

The engine makes these; detectors know nothing of how. Times are on the device's own clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from monitor import wire

NORMAL, ABNORMAL, WITHHELD = 0, 1, 2
Floats = npt.NDArray[np.float64]
VERDICTS: Final[tuple[wire.Verdict, ...]] = ("normal", "abnormal", "withheld")

Need = Literal["beats", "vf", "no-vf", "lead-off", "no-beats", "gap", "silent", "unusable", "offline", "back"]
"""What a detector may need.

beats
    Every beat of a device for which something is remembered, or whose beats are of interest.
vf, no-vf
    The signal is that of ventricular fibrillation or flutter, each 0.5 s; it is not, once after that, and once that is
    known of a new stream.
lead-off, no-beats, gap
    The electrode came off; no beat was found for a while with the electrode on; packets are missing, or the clock or
    the rate has changed.
silent, unusable, offline
    Nothing came for `AlertSettings.silent_s`; something came, but no packet that could be used; the device's last will,
    or it has left. At the end of its last packet; if none was ever usable, when the first came by the monitor's clock.
back
    A packet comes again after one of these. At its begin.
"""
GONE: Final = "gone"
"""The device was forgotten: all that is open ends, with this reason. No detector has to see to it."""


class Found(Protocol):
    """Something other than a beat was found."""

    @property
    def what(self) -> str:
        """One of `Need`, or `GONE`."""

    @property
    def time_s(self) -> float:
        """When it was."""

    @property
    def seq(self) -> int:
        """Sequence number of the packet by which it is known."""

    @property
    def completed_s(self) -> float:
        """End of that packet."""

    @property
    def silence_s(self) -> float:
        """Since the last beat or the start of the stream, where none was found for a while; else 0."""

    @property
    def is_doubtful(self) -> bool:
        """Whether beats may be hidden where none was found."""


class Moment(Found, Protocol):
    """The same, with what was known of the device then."""

    @property
    def is_fit(self) -> bool:
        """Whether most of the beats before were judged, so that a silence after them means something."""

    def context(self) -> dict[str, Any]:
        """What an alert says of the heart at this moment: fields of `wire.Alert`."""


class Rhythm(NamedTuple):
    """What the beats before each beat, and itself, say of it: arrays of one length."""

    number: Floats
    """How many beats of the device there were with it."""
    interval_s: Floats
    """RR interval before it; NaN where that is not known, one of its beats is of bad signal, or it is long
    and most beats before were not judged or others may be hidden in it."""
    rate_bpm: Floats
    """Heart rate as monitors show it: a mean over the last beats; NaN where not known."""
    steady_bpm: Floats
    """Mean over the last eight RR intervals, or four of a slow heart; NaN where one is not known or long, or beats are
    of bad signal."""
    spread: Floats
    """How many times as long as the shortest of those intervals the longest is; no meaning where the mean is NaN."""
    fibrillation: Floats
    """Log odds of atrial fibrillation, by the RR intervals and by whether there are P waves, where that is known; NaN
    where too few intervals are known."""
    run: Floats
    """Ventricular beats in a row up to this one,"""
    run_bpm: Floats
    """and their mean rate; NaN where there is none, or it is that of the beats before."""
    goes_on: Floats
    """1 while the rate is that of the latest long run, whatever the beats are called since; else 0."""
    ended: Floats
    """How long a run of ventricular beats was that this beat ended; else 0."""
    cycle: Floats
    """2 if it is the last ventricular beat of three in bigeminy, 3 in trigeminy, else 0."""
    ventricular: Floats
    """At a ventricular beat: how many there were in the last minute, as far as they are counted; else 0."""
    supraventricular: Floats
    """The same of supraventricular ones that belong to no steady rate."""
    is_rate: Floats
    """1 where the latest RR intervals are equal: a rate, whatever it was before; else 0."""
    unjudged_s: Floats
    """For how long none of the beats could be judged, as far as that is remembered; 0 where this one was."""


class Beats(Protocol):
    """Beats of any devices with their verdicts: arrays of one length, in order per device."""

    @property
    def devices(self) -> Sequence[Any]:
        """The `monitor.alerts.detection.Device` of each stream."""

    @property
    def streams(self) -> npt.NDArray[np.int64]:
        """(n,) positions in `devices`."""

    @property
    def time_s(self) -> npt.NDArray[np.float64]:
        """(n,) R peaks."""

    @property
    def qrs_s(self) -> npt.NDArray[np.float64]:
        """(n,) main deflections of the QRS complexes: RR intervals lie between them."""

    @property
    def begun_s(self) -> npt.NDArray[np.float64]:
        """(n,) when the unbroken stretch of packets began that a beat lies in."""

    @property
    def rhythm(self) -> Rhythm:
        """What the beats before say."""

    @property
    def verdicts(self) -> npt.NDArray[np.uint8]:
        """(n,) positions in `VERDICTS`."""

    @property
    def columns(self) -> npt.NDArray[np.int64]:
        """(n,) positions in `classes`; no meaning where withheld."""

    @property
    def classes(self) -> Sequence[str]:
        """Of the model; the first is normal."""

    @property
    def probability(self) -> npt.NDArray[np.float64]:
        """(n,) of not being normal; no meaning where withheld."""

    @property
    def ventricular(self) -> npt.NDArray[np.float64]:
        """(n,) probability of being of the class V, also of beats withheld as noise.

        0 of other withheld ones, or where the model has no such class.
        """

    @property
    def threshold(self) -> float:
        """Probability from which a beat counts as abnormal."""

    @property
    def shape(self) -> npt.NDArray[np.float64]:
        """(n,) probability of an abnormal shape, by the shape model; NaN where it has no say."""

    @property
    def shape_threshold(self) -> float:
        """Probability from which a shape counts as abnormal."""

    @property
    def unusual(self) -> npt.NDArray[np.bool_]:
        """(n,) whether the shape is abnormal, and that is not usual for the wearer."""

    @property
    def p_wave(self) -> npt.NDArray[np.float64]:
        """(n, 11) see `monitor.ecg.wearer.P_WAVE_NUMBERS`; NaN where that is not known."""

    @property
    def doubtful(self) -> npt.NDArray[np.uint8]:
        """(n,) not 0 where beats may be hidden before one that came late; see `monitor.ecg.silence.NO_SIGNAL`."""

    @property
    def rr_s(self) -> npt.NDArray[np.float64]:
        """(n,) since the QRS complex before; 0 where that is not known, or long."""

    @property
    def is_poor(self) -> npt.NDArray[np.bool_]:
        """(n,) withheld because the signal itself is bad."""

    @property
    def outdated(self) -> npt.NDArray[np.bool_]:
        """(n,) whether it was already found that the electrode came off after this beat."""

    @property
    def known(self) -> npt.NDArray[np.int64]:
        """(n,) number of the sample up to which the signal was known when the beat was found."""

    @property
    def seq(self) -> npt.NDArray[np.int64]:
        """(n,) sequence number of the packet that completed the beat."""

    @property
    def completed_s(self) -> npt.NDArray[np.float64]:
        """(n,) end of that packet."""

    def reason(self, i: int) -> str | None:
        """Why the beat at `i` is withheld, one of `monitor.ecg.quality.REASONS`; None if it is not."""

    def describe(self, i: int) -> dict[str, Any]:
        """What an alert says of the beat at `i`: fields of `wire.Alert`."""

    def context(self, i: int) -> dict[str, Any]:
        """What an alert says of the heart at the beat at `i`: fields of `wire.Alert`."""


class SeenBeat(NamedTuple):
    """One of many beats."""

    beats: Beats
    i: int
    time_s: float
    verdict: int
    """Position in `VERDICTS`."""

    @property
    def seq(self) -> int:
        """Sequence number of the packet that completed it."""
        return int(self.beats.seq[self.i])

    @property
    def completed_s(self) -> float:
        """End of that packet."""
        return float(self.beats.completed_s[self.i])

    def context(self) -> dict[str, Any]:
        """What an alert says of the heart at this beat: fields of `wire.Alert`."""
        return self.beats.context(self.i)


Finding = SeenBeat | Moment


def make_id(device: str, time_s: float) -> str:
    """Return the id of a moment of a device: its time in milliseconds, so the same however often it is computed."""
    return f"{device}-{round(time_s * 1000)}"
