"""The stages of the signal's way, each for one stream by itself: what `monitor.ecg.batch` does for all at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monitor.beat import Signal
from monitor.ecg import quality, resample, segment

_FIRST = np.zeros(1, np.int64)


class Resampler:
    """Resamples one stream.

    Parameters
    ----------
    rate_hz
        Rate of the input, any float that is allowed on the wire.
    start_s
        Time of the first input sample. Sample `k` of the output lies at ``(first + k) / 125`` seconds.
    """

    def __init__(self, rate_hz: float, start_s: float) -> None:
        self._kernel = resample.design_kernel(rate_hz)
        self.state = np.zeros(1, resample.STATE)
        self.first = resample.begin(self.state[0], rate_hz, start_s)

    def push(self, samples: resample.Steps | Signal) -> Signal:
        """Take the next input samples, return the output samples that are ready now.

        Parameters
        ----------
        samples
            (n,) int16 or float32; `NO_SAMPLE` or NaN where invalid.

        Returns
        -------
        ndarray
            (m,) float32 at 125 Hz, same unit, m >= 0; NaN where it would depend on an invalid sample.
        """
        return resample.resample(self.state, _FIRST, samples, np.array([samples.size]), self._kernel)[0]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A beat whose window is complete. All counts are samples at 125 Hz since the stream began."""

    r_peak: int
    """Where the window begins."""
    fiducial: int
    """The main deflection of the QRS complex."""
    decided: int
    """How many samples had come when the QRS complex was found."""
    rr: int | None
    """Since the fiducial before; None for the first beat after a pause or at the start."""
    next_rr: int | None
    """Until the fiducial after; None if it was not waited for, came too late, or never came."""
    pause_after: bool
    """Whether it was waited for and came too late: all that is known is that the limit was passed."""
    median_rr: float | None
    """Over the last 10 s; None if the rhythm never became known: the beat cannot be judged."""
    signal: Signal
    """(up to 187,) from the R peak on, in the unit of the stream; NaN where samples were missing."""
    complete: bool
    """Whether the window is; a stream that ends leaves the last ones short."""
    surroundings: Signal | None
    """(120,) around the fiducial; None if they were not waited for, or the stream does not have all of them."""


def resample_cut(resampler: Resampler, samples: Signal, sizes: Sequence[int]) -> Signal:
    """Return what a resampler makes of samples that come in parts of these sizes, over and over."""
    parts, at, turn = [], 0, 0
    while at < samples.size:
        part = samples[at : at + sizes[turn % len(sizes)]]
        parts.append(resampler.push(part))
        at, turn = at + part.size, turn + 1
    return np.concatenate(parts)


class Segmenter:
    """Cuts one stream of 125 Hz into heartbeats.

    Parameters
    ----------
    next_rr
        Hand a beat out only when the next one is known, or known to be late.
    surroundings
        Hand it out only when its surroundings are known.
    """

    def __init__(self, next_rr: bool = False, surroundings: bool = False) -> None:
        self.state = np.zeros(1, segment.STATE)
        self._waits = segment.FOR_NEXT * next_rr + segment.FOR_SURROUNDINGS * surroundings
        self._room = segment.make_room(segment.MOST_BEATS)

    def push(self, samples: Signal) -> list[Heartbeat]:
        """Take the next samples, return the beats that are now finished.

        Parameters
        ----------
        samples
            (n,) float32 at 125 Hz, any unit, NaN where there is no valid sample.
        """
        done: list[Heartbeat] = []
        for start in range(0, samples.size, segment.LONGEST):
            part = samples[start : start + segment.LONGEST]
            ends = np.array([part.size])
            _, found = segment.segment(self.state, _FIRST, part, ends, 0, self._waits, self._room)
            done += self._tell(found)
        return done

    def finish(self) -> list[Heartbeat]:
        """The stream has ended: decide on its last second, and return the beats that it left unfinished."""
        return self._tell(segment.finish(self.state, 0, self._waits, self._room))

    def _tell(self, found: int) -> list[Heartbeat]:
        return [_heartbeat(*(array[i] for array in self._room)) for i in range(found)]


def _heartbeat(beat: np.void, signal: Signal, surroundings: Signal) -> Heartbeat:
    return Heartbeat(
        r_peak=int(beat["r_peak"]),
        fiducial=int(beat["fiducial"]),
        decided=int(beat["decided"]),
        rr=int(beat["rr"]) or None,
        next_rr=int(beat["next_rr"]) if beat["next_rr"] > 0 else None,
        pause_after=bool(beat["next_rr"] == segment.PAUSE),
        median_rr=None if math.isnan(beat["median_rr"]) else float(beat["median_rr"]),
        signal=signal[: beat["length"]].copy(),
        complete=bool(beat["complete"]),
        surroundings=surroundings.copy() if beat["surrounded"] else None,
    )


class BeatQuality:
    """Judges one stream, beat by beat."""

    def __init__(self, rate_hz: float = 250.0) -> None:
        self.state = np.zeros(1, quality.STATE)
        self._contact = np.zeros(1, quality.CONTACT)
        quality.begin_contact(self._contact[0], rate_hz)

    def why_unfit(self, signal: Signal) -> str | None:
        """Why a beat must be withheld, or None; every finished beat must pass here, in order.

        Parameters
        ----------
        signal
            (n,) float32 at 125 Hz from the R peak on, in steps of the converter; NaN where samples are missing.
        """
        beats, signals, _ = segment.make_room(1)
        beats["complete"], beats["median_rr"], beats["length"] = 1, 100.0, signal.size
        signals[0, : signal.size] = signal
        [reason], _ = quality.judge(self.state, self._contact, _FIRST, beats, signals, np.zeros(1))
        return quality.REASONS[reason]


class Contact:
    """Watches one stream, at the device's rate, for an electrode that has come off.

    Also remembers where it was clipped.
    """

    def __init__(self, rate_hz: float) -> None:
        self._rows = np.zeros(1, np.int64)
        self.state = np.zeros(1, quality.CONTACT)
        quality.begin_contact(self.state[0], rate_hz)

    def push(self, samples: npt.NDArray[np.int16]) -> list[int]:
        """Take the next samples; return the places in them at which the electrode came to count as off.

        Parameters
        ----------
        samples
            (n,) int16 steps, `NO_SAMPLE` where invalid.
        """
        _, places = quality.watch(self.state, self._rows, samples, np.array([samples.size]))
        return [int(place) for place in places]

    @property
    def is_off(self) -> bool:
        """Whether the electrode counts as off now."""
        return bool(quality.is_off(self.state, slice(None)))

    @property
    def clipped(self) -> list[int]:
        """The latest clipped places, counted in samples since the stream began."""
        return sorted(self.state["clipped"][0, : self.state["count"][0]].tolist())
