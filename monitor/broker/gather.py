"""How long to wait for more where messages come singly: a turn of the loop costs much the same for one as for five.

Without it, a fleet that is dealt out to more processes costs more for each packet: each process turns as often, for
fewer packets. What is waited for is expected by how fast messages came of late; where they are too rare to come in
time, nothing is waited for. Nothing here reads a clock or knows of connections.
"""

from __future__ import annotations

AIM = 5
"""Messages that a turn is to have."""
LONGEST_S = 0.012
"""The longest that one waits for others: of the 30 ms in which 99 of 100 beats are to be told."""
FOLLOWS = 0.1
"""Share by which the mean time between messages follows what is seen."""
RARE_S = 1.0
"""Messages that are further apart count as so far apart."""


class Gathering:
    """Follows how fast messages come."""

    def __init__(self) -> None:
        self._apart_s = RARE_S
        self._noted_s: float | None = None

    def note(self, came: int, now_s: float) -> None:
        """Take note of how many messages have come since the last time, on a clock that does not run back."""
        if self._noted_s is None:
            self._noted_s = now_s
        if not came:
            return
        apart_s = min(RARE_S, (now_s - self._noted_s) / came)
        self._apart_s += FOLLOWS * (apart_s - self._apart_s)
        self._noted_s = now_s

    def wait_s(self) -> float:
        """Return how long to wait once the first has come, for as many as a turn is to have."""
        if self._apart_s > LONGEST_S:
            return 0.0
        return min((AIM - 1) * self._apart_s, LONGEST_S)
