"""What a device's clock shows beside ours, by the stamps of what comes of it.

Rules
-----
* What comes may be late by up to `SLOW_S` by a clock that is right.
* A delay only makes a stamp look older. So a stamp that is further ahead is believed at once; one that is further back
  only once it has stayed so for `STEADY_S`: what a device held back while its connection was away comes faster than
  time goes, and catches up.

Knows no clock: it is told what was shown and when.
"""

from __future__ import annotations

from monitor import wire

SLOW_S, SKEW_S = 60.0, 5.0
"""A clock is wrong beyond the first; changes below the second are none."""
STEADY_S = 20.0


class DeviceClock:
    """The clock of one device."""

    def __init__(self) -> None:
        self.ahead_s = 0.0
        """By how much it is ahead of ours; 0 if they are in step, or if that is not known."""
        self._is_known = False
        self._lower: tuple[float, float] | None = None  # by how much it seems to be ahead, and since when

    def note(self, shown_s: float, now_s: float) -> bool:
        """Note what it showed when something of now came; return whether it is believed to be otherwise than before."""
        ahead_s = shown_s - now_s
        if abs(ahead_s) <= SLOW_S:
            ahead_s = 0.0
        is_first, self._is_known = not self._is_known, True
        if abs(ahead_s - self.ahead_s) <= SKEW_S:
            self._lower = None
            return False
        if not is_first and ahead_s < self.ahead_s and not self._is_steady(ahead_s, now_s):
            return False
        self.ahead_s, self._lower = ahead_s, None
        return True

    def _is_steady(self, ahead_s: float, now_s: float) -> bool:
        """Whether it has seemed to be that far ahead for long."""
        if self._lower is None or abs(ahead_s - self._lower[0]) > SKEW_S:
            self._lower = ahead_s, now_s
        return now_s - self._lower[1] >= STEADY_S


def tells_time(alert: wire.Alert) -> bool:
    """Whether an alert follows from something that its device has just sent, so that it shows the device's clock."""
    return alert.by is None and alert.kind != "device-silent" and alert.reason != "gone"
