"""How long to wait before another attempt: longer after each failure, and never the same for two clients.

The wait doubles from `first_s` to `longest_s`. Each is drawn between half of it and the whole ("equal jitter"), so that
clients that lost one broker at the same moment do not come back at the same moment.

Knows nothing of clocks, sleeping, or of what is attempted.
"""

from __future__ import annotations

import random

FIRST_S = 0.5
LONGEST_S = 30.0


class Backoff:
    """Waits between attempts.

    Parameters
    ----------
    first_s
        Upper bound of the first wait.
    longest_s
        Upper bound of any wait.
    rng
        Source of the jitter; seed it for the same waits every time.

    Raises
    ------
    ValueError
        The first wait is not positive, or longer than the longest.
    """

    def __init__(
        self, first_s: float = FIRST_S, longest_s: float = LONGEST_S, rng: random.Random | None = None
    ) -> None:
        if not 0 < first_s <= longest_s:
            raise ValueError(f"The first wait must be positive and at most the longest: got {first_s}, {longest_s}.")
        self._first_s, self._longest_s = first_s, longest_s
        self._rng = rng or random.Random()
        self._bound_s = first_s

    def next_s(self) -> float:
        """Return the seconds to wait before the next attempt; call it once for each failure."""
        bound_s = self._bound_s
        self._bound_s = min(self._longest_s, 2 * bound_s)
        return bound_s * self._rng.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Start over with the shortest wait, after an attempt that succeeded."""
        self._bound_s = self._first_s
