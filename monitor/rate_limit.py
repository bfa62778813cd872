"""How much one device may send, so that it cannot take the time of all others.

Rules
-----
* A message costs `MESSAGE_S`, and `BYTE_S` for each byte. The signal in it pays for it; time pays back the rest, a
  second each second. Who owes more than `DEBT_S` is refused until time has paid.
* The signal pays only as long as there is not `AHEAD_S` more of it than time has gone by. That is plenty for a device,
  or a broker, that has an outage to catch up with, however fast it does.

So who sends thousands of messages a second is soon refused if there is next to nothing in them, or they are none, and
later if each holds signal. What is refused is not looked at.

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


class Limiter:
    """Tells whether a device may send more."""

    def __init__(self) -> None:
        self._paid_s: dict[str, float] = {}  # when time will have paid what a device owes
        self._ahead_s: dict[str, float] = {}  # when time will have caught up with a device's signal

    def admits(self, device: str, now_s: float) -> bool:
        """Whether a message of the device may be looked at."""
        return not self._paid_s or self._paid_s.get(device, 0.0) <= now_s + DEBT_S

    def charge(self, device: str, size: int, signal_s: float, now_s: float) -> None:
        """Note a message that was looked at.

        Parameters
        ----------
        device
            Whose it was.
        size
            Its bytes.
        signal_s
            How much signal was in it; 0 if it was none.
        now_s
            On a clock that does not run back, and counts from 0 or later.
        """
        cost_s = MESSAGE_S + BYTE_S * size
        if signal_s:
            ahead_s = self._ahead_s.get(device, 0.0)
            if ahead_s < now_s:
                ahead_s = now_s
            if ahead_s + signal_s <= now_s + AHEAD_S:
                self._ahead_s[device] = ahead_s + signal_s
                if cost_s <= signal_s:
                    return
                cost_s -= signal_s
        self._paid_s[device] = max(self._paid_s.get(device, 0.0), now_s) + cost_s

    def forget(self, now_s: float) -> None:
        """Forget those that owe nothing and are not ahead."""
        self._paid_s = {device: paid_s for device, paid_s in self._paid_s.items() if paid_s > now_s}
        self._ahead_s = {device: ahead_s for device, ahead_s in self._ahead_s.items() if ahead_s > now_s}
