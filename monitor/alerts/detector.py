"""The one shape of all detectors.

A `Detector` is a kind of alert with its parameters: what it needs, and what begins something. What it remembers of one
device is a `Tracker`: it observes findings one by one, says what changes, and when there is nothing left to remember.
When an alert ends is its own business. All of it is pure: the same findings give the same alerts, however they come in
batches, and also if the tracker was saved and restored in between.

A device for which nothing is remembered, and whose beats are of no interest, costs no Python per beat.
`EpisodeDetector` is the usual kind: its tracker is an `Episode`, and it only has to say whether a finding speaks for or
against it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from monitor import wire
from monitor.alerts.episode import Episode, Memory, State
from monitor.alerts.finding import GONE, Beats, Finding, Need, SeenBeat

REASONS = {
    GONE: "Nothing has come from the device for long: it is no longer watched.",
    "lead-off": "The electrode is off: nobody can tell whether it goes on.",
}
"""What is said where an alert ends for such a reason; any other is the kind of a graver alert."""


class Change(NamedTuple):
    """An alert begins, goes on or ends."""

    state: State
    since_s: float
    """When the episode began."""
    details: dict[str, Any]
    """Further fields of `wire.Alert`."""

    def because(self, reason: str) -> Change:
        """Return it with a reason that is not the detector's."""
        text = REASONS.get(reason, f"It is part of a graver alert now: {reason}.")
        return self._replace(details=self.details | {"reason": reason, "text": text})


class Tracker(ABC):
    """What a detector remembers of one device."""

    __slots__ = ()

    @property
    @abstractmethod
    def active(self) -> bool:
        """Whether an alert is open."""

    @abstractmethod
    def observe(self, finding: Finding) -> tuple[Sequence[Change], bool]:
        """Take a finding; return what changes, and whether nothing is left to remember.

        A tracker from before the clock was set back ends what is open and is done, without taking the finding: what
        comes after is the next one's.
        """

    @abstractmethod
    def end(self, finding: Finding) -> Change:
        """Return the end of what is open, for a reason that is not the detector's."""

    @abstractmethod
    def hide(self, finding: Finding) -> None:
        """What was open has ended: a graver alert that contains it has begun. Nothing is observed while that lasts."""

    @abstractmethod
    def snapshot(self) -> Any:
        """All that it remembers, in plain types; see `Detector.track`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detector(ABC):
    """One kind of alert, and its parameters."""

    BOUNDS: ClassVar[Mapping[str, tuple[float, float]]] = {}
    """Least and largest value of a parameter beyond which it could not be met, or would mean something else."""
    kind: wire.Kind
    severity: wire.Severity
    needs: frozenset[Need]
    """What its trackers get to observe."""
    hidden_by: frozenset[str] = frozenset()
    """Graver kinds: while one of these is alerted, this one is not, and observes nothing."""
    rank: int = 1
    """Of a device's detectors, those of a lower rank observe a finding first; else those that began first."""

    def select(self, beats: Beats) -> npt.NDArray[np.bool_] | None:
        """(n,) `starts`, for many beats in one go; None if no beat starts anything."""
        return None

    @abstractmethod
    def starts(self, finding: Finding) -> bool:
        """Whether a finding matters even if nothing is remembered."""

    @abstractmethod
    def track(self, snapshot: Any = None) -> Tracker:
        """Return a tracker: a new one, or one that goes on where another was saved.

        Raises
        ------
        msgspec.ValidationError
            The snapshot is not of this detector.
        """


class Sign(Enum):
    """What a finding means to an episode."""

    NOTHING = 0
    """It is not observed."""
    EVENT = 1
    """It speaks for the episode."""
    CALM = 2
    """It speaks against it."""
    NEITHER = 3
    UNKNOWN = 4
    """Nobody can tell what it means: it neither adds to the `m` in a row that end the episode, nor breaks the row."""
    OVER = 5
    """Nobody can tell any more whether it goes on: it ends at once."""


_NOTHING, _EVENT, _CALM, _OVER = Sign.NOTHING, Sign.EVENT, Sign.CALM, Sign.OVER
"""Looked up in the class, they cost more than the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeDetector(Detector):
    """An alert that begins when `n` of the last `m` findings speak for it, and ends when `m` in a row speak against it.

    See `monitor.alerts.episode`.
    """

    n: int = 1
    m: int = 1
    update_s: float = 60.0
    refractory_s: float = 10.0
    text: str = ""
    """What has happened and what to do about it, in plain words, where that is always the same,"""
    over: str = ""
    """and what to say when it is over."""

    @abstractmethod
    def read(self, finding: Finding) -> Sign:
        """What a finding means."""

    def describe(self, episode: Episode, finding: Finding) -> dict[str, Any]:
        """What an alert says besides kind and time: fields of `wire.Alert`."""
        return {"text": self.text if self.read(finding) is Sign.EVENT else self.over}

    def starts(self, finding: Finding) -> bool:
        """See `Detector.starts`."""
        return self.read(finding) is Sign.EVENT

    def track(self, snapshot: Any = None) -> EpisodeTracker:
        """See `Detector.track`."""
        memory = () if snapshot is None else msgspec.convert(snapshot, Memory)
        return EpisodeTracker(self, Episode(self.n, self.m, self.update_s, self.refractory_s, *memory))


class EpisodeTracker(Tracker):
    """The episode of one device."""

    __slots__ = ("_detector", "_episode")

    def __init__(self, detector: EpisodeDetector, episode: Episode) -> None:
        self._detector = detector
        self._episode = episode

    @property
    def active(self) -> bool:
        """See `Tracker.active`."""
        return self._episode.active

    def observe(self, finding: Finding) -> tuple[Sequence[Change], bool]:
        """See `Tracker.observe`."""
        sign, episode = self._detector.read(finding), self._episode
        if sign is _NOTHING:
            return (), False
        if episode.was_set_back(finding.time_s):
            return (self.end(finding),) if episode.active else (), True
        if sign is _OVER:
            return self._give_up(finding), True
        if sign is Sign.UNKNOWN:
            episode.pass_over(finding.time_s)
            return (), episode.is_idle(finding.time_s)
        state = episode.observe(finding.time_s, sign is _EVENT, sign is _CALM)
        is_done = sign is not _EVENT and episode.is_idle(finding.time_s)
        return () if state is None else (self._change(state, finding),), is_done

    def end(self, finding: Finding) -> Change:
        """See `Tracker.end`."""
        return self._change("end", finding)

    def _give_up(self, finding: Finding) -> Sequence[Change]:
        if not self._episode.active or isinstance(finding, SeenBeat):
            return ()
        return (self.end(finding).because(finding.what),)

    def hide(self, finding: Finding) -> None:
        """See `Tracker.hide`."""
        self._episode.stop(finding.time_s)

    def snapshot(self) -> Memory:
        """See `Tracker.snapshot`."""
        return self._episode.memory()

    def _change(self, state: State, finding: Finding) -> Change:
        return Change(state, self._episode.since_s, self._detector.describe(self._episode, finding))
