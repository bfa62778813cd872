"""How much one device may send, so that it cannot take the time of all others.

Rules
-----
* A message costs `MESSAGE_S`, and `BYTE_S` for each byte. The signal in it pays for it; time pays back the rest, a
  second each second. A client that owes more than `DEBT_S` is refused until time has paid.
* The signal pays only as long as there is not `AHEAD_S` more of it than time has gone by. That is plenty for a device,
  or a broker, that has an outage to catch up with, however fast it does.

So a client that sends thousands of messages a second is soon refused if there is next to nothing in them, or they are
none, and later if each holds signal. What is refused is not looked at.

Knows nothing of what a message is; its caller has the clock.
"""

from __future__ import annotations

MESSAGE_S = 1 / 200
"""250 messages a second of a single sample each can be paid for; thousands cannot."""
BYTE_S = 1 / 100_000
DEBT_S = 100.0
"""20 000 messages, or 10 MB, of nothing."""
AHEAD_S = 3 * 86400.0
"""A long weekend."""


class Allowance:
    """What one client owes, and how far its signal is ahead of time."""

    __slots__ = ("_ahead_s", "_paid_s")

    def __init__(self) -> None:
        self._paid_s = 0.0  # when time will have paid what it owes
        self._ahead_s = 0.0  # when time will have caught up with its signal

    def admits(self, now_s: float) -> bool:
        """Whether a message may be looked at."""
        return self._paid_s <= now_s + DEBT_S

    def charge(self, size: int, signal_s: float, now_s: float) -> None:
        """Note a message that was looked at.

        Parameters
        ----------
        size
            Its bytes.
        signal_s
            How much signal was in it; 0 if it was none.
        now_s
            On a clock that does not run back, and counts from 0 or later.
        """
        cost_s = MESSAGE_S + BYTE_S * size
        if signal_s:
            ahead_s = self._ahead_s
            if ahead_s < now_s:
                ahead_s = now_s
            if ahead_s + signal_s <= now_s + AHEAD_S:
                self._ahead_s = ahead_s + signal_s
                if cost_s <= signal_s:
                    return
                cost_s -= signal_s
        self._paid_s = max(self._paid_s, now_s) + cost_s

    def is_full(self, now_s: float) -> bool:
        """Whether nothing is owed and the signal is not ahead: as good as a new one."""
        return self._paid_s <= now_s and self._ahead_s <= now_s
