"""How long to wait for more where messages come singly: a turn of the loop costs much the same for one as for three.

Without it, a fleet that is dealt out to more processes costs more for each packet: each process turns as often, for
fewer packets. Messages are read when as many are there as a turn is to have, as far as one can tell by how fast they
came of late; none waits for longer than `LONGEST_S`. What comes during a turn counts: a loop that is busy waits for
nothing. Where messages are too rare to come in time, nothing is waited for. Nothing here reads a clock or knows of
connections.
"""

from __future__ import annotations

AIM = 3
"""Messages that a turn is to have."""
LONGEST_S = 0.012
"""The longest that a message waits for others: of the 30 ms in which 99 of 100 beats are to be told."""
FOLLOWS = 0.1
"""Share by which the mean time between messages follows what is seen."""
RARE_S = 1.0
"""Messages that are further apart count as so far apart."""


class Gathering:
    """Follows how fast messages come."""

    def __init__(self) -> None:
        self._apart_s = RARE_S
        self._read_s: float | None = None  # when messages were last read
        self._came_s: float | None = None  # when some were

    def note(self, came: int, now_s: float) -> None:
        """Take note of how many messages have come since the last time, on a clock that does not run back."""
        self._read_s = now_s
        if self._came_s is None:
            self._came_s = now_s
        if not came:
            return
        apart_s = min(RARE_S, (now_s - self._came_s) / came)
        self._apart_s += FOLLOWS * (apart_s - self._apart_s)
        self._came_s = now_s

    def wait_s(self, now_s: float) -> float:
        """Return how long to wait once a message has come, for as many as a turn is to have."""
        if self._apart_s > LONGEST_S or self._read_s is None:
            return 0.0
        return max(0.0, self._read_s + min(AIM * self._apart_s, LONGEST_S) - now_s)
