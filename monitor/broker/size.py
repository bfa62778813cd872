"""Messages that are too large for a broker: found out, since MQTT 3.1.1 brokers only end the connection.

A message is suspected if it was the largest that waited for its confirmation at two brief connections in a row. The
next connection is tried without it and any as large. If that one lives, they were too large; if not, they were not the
reason, and are published again.

Knows nothing of clients or topics.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

M = TypeVar("M")


class SizeLimit(Generic[M]):
    """The largest message that a broker takes."""

    def __init__(self) -> None:
        self.limit: int | None = None
        """Size from which on messages are too large, once that is known or suspected."""
        self.is_proven = False
        self._largest: int | None = None  # when the last connection ended soon
        self._held: list[M] = []

    def admits(self, size: int) -> bool:
        """Whether a message of that size may be published."""
        return self.limit is None or size < self.limit

    def hold(self, message: M) -> None:
        """Keep a message that is not published while its size is suspected."""
        self._held.append(message)

    def ended_soon(self, waiting: Iterable[int]) -> bool:
        """Note a brief connection, and the sizes of the messages that waited; return whether to try without some."""
        largest = max(waiting, default=None)
        suspects = self.limit is None and largest is not None and largest == self._largest
        self._largest = largest
        if suspects:
            self.limit = largest
        return suspects

    def acquit(self) -> list[M]:
        """The connection without the suspected messages ended soon as well: return them, to be published again."""
        held, self._held = self._held, []
        self.limit = self._largest = None
        return held

    def convict(self) -> list[M]:
        """The connection without the suspected messages lives: they are too large. Return them."""
        held, self._held = self._held, []
        self.is_proven = True
        return held

    @property
    def is_on_trial(self) -> bool:
        """Whether a size is suspected and not proven."""
        return self.limit is not None and not self.is_proven
