"""When a device's beats become an alert, when it goes on, and when it is over.

One abnormal beat among many is common in healthy people, and a model errs; an alert on each would be switched off
within a day. So an episode begins when `n` of the last `m` beats are abnormal, and is over once `m` in a row are
clearly not: below a lower threshold, so that a rhythm at the edge does not ring and stop and ring again.

Time comes from the beats, and so from a device's clock, which may be set back: what was observed before then says
nothing of how long ago it was. An episode that goes on ends there, so that subscribers do not show it for
ever, and what comes after begins a new one, whose times are of one clock.

Nothing here knows devices, messages or clocks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from monitor.alerts.limits import Limits

State = Literal["new", "update", "end"]
Memory = tuple[bool, float, int, list[float | None], int, float, float, float]
"""What an episode remembers."""
SET_BACK_S = 15.0
"""An observation so long before the latest one says that the clock was set back. What is found at the end of a packet
of 10 s may come before beats from its begin."""


@dataclass(frozen=True, slots=True)
class AlertSettings:
    """When something becomes an alert.

    Raises
    ------
    ValueError
        Numbers that no stream of beats could satisfy.
    """

    n: int = 3
    """Abnormal beats that begin an episode,"""
    m: int = 5
    """among this many judged beats. The same number of calm ones in a row ends it."""
    exit_ratio: float = 0.8
    """A beat is calm when its probability is below this share of the model's threshold."""
    update_s: float = 10.0
    """While an episode lasts, abnormal beats are reported again after this time."""
    refractory_s: float = 30.0
    """After an episode the next of its kind begins no sooner."""
    silent_s: float = 60.0
    """A device from which nothing came for longer counts as silent."""

    limits: Limits = field(default_factory=Limits)
    """Of the detectors that have one."""

    def __post_init__(self) -> None:
        if not 1 <= self.n <= self.m <= 1000:
            raise ValueError(f"An alert needs n of m beats, 1 <= n <= m <= 1000: got {self.n} of {self.m}.")
        if not 0 < self.exit_ratio <= 1:
            raise ValueError(f"The exit ratio must lie above 0 and at most at 1: got {self.exit_ratio}.")
        if not self.silent_s > 0:
            raise ValueError(f"A device must be silent for more than 0 s: got {self.silent_s}.")
        if not (self.update_s >= 0 and self.refractory_s >= 0):
            raise ValueError(
                f"Update and refractory times must be 0 s or more: got {self.update_s} and {self.refractory_s}."
            )


@dataclass(slots=True)
class Episode:
    """One kind of alert of one device: n of m to begin, m calm ones in a row to end."""

    n: int
    m: int
    update_s: float
    refractory_s: float
    active: bool = False
    since_s: float = 0.0
    """When the episode began: the first of the events that made it."""
    count: int = 0
    """Events in the episode so far."""
    _recent: list[float | None] = field(default_factory=list)  # times of events, None for the rest
    _calm: int = 0
    _reported_s: float = 0.0
    _quiet_until_s: float = -1.0
    _latest_s: float = -math.inf

    def was_set_back(self, time_s: float) -> bool:
        """Whether the clock of an observation yet to be made was set back since the latest: it needs a new episode."""
        return time_s < self._latest_s - SET_BACK_S

    def is_idle(self, time_s: float) -> bool:
        """Whether it holds nothing that could matter from now on: as good as a new one."""
        recent = self._recent
        return not self.active and time_s >= self._quiet_until_s and recent.count(None) == len(recent)

    def memory(self) -> Memory:
        """All that it remembers: its arguments after the first four."""
        recent = list(self._recent)
        times = self._reported_s, self._quiet_until_s, self._latest_s
        return self.active, self.since_s, self.count, recent, self._calm, *times

    def observe(self, time_s: float, event: bool, calm: bool) -> State | None:
        """Take one observation; return what there is to report, if anything.

        Parameters
        ----------
        time_s
            When it was made, on the device's clock.
        event
            It speaks for the episode.
        calm
            It speaks against it; an observation may be neither.
        """
        if time_s > self._latest_s:
            self._latest_s = time_s
        self._recent.append(time_s if event else None)
        del self._recent[: -self.m]  # more than one where `m` has been set to less
        self._calm = self._calm + 1 if calm and not event else 0
        if self.active:
            return self._go_on(time_s, event)
        events = [t for t in self._recent if t is not None]
        if event and len(events) >= self.n and time_s >= self._quiet_until_s:
            self.active, self.since_s, self.count, self._reported_s = True, events[0], len(events), time_s
            return "new"
        return None

    def pass_over(self, time_s: float) -> None:
        """Take an observation that means nothing: it counts among the last `m`, and interrupts no calm."""
        self._latest_s = max(self._latest_s, time_s)
        self._recent.append(None)
        del self._recent[: -self.m]

    def stop(self, time_s: float) -> None:
        """End it, whatever was observed."""
        self.active, self._calm = False, 0
        self._recent.clear()
        self._quiet_until_s = time_s + self.refractory_s

    def _go_on(self, time_s: float, event: bool) -> State | None:
        self.count += event
        if self._calm >= self.m:
            self.stop(time_s)
            return "end"
        if event and time_s - self._reported_s >= self.update_s:
            self._reported_s = time_s
            return "update"
        return None
