"""Messages that are too large for a broker: found out, since brokers only end the connection, if none is announced.

A message is suspected if it was the largest that waited for its confirmation at two brief connections in a row. The
next connection is tried without it and any as large. If that one ends as soon, they were not the reason. If it lives,
the smallest of them is put to the test on it: they are too large only if it ends that connection.

Knows nothing of clients or topics.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    """A message, as far as its size goes."""

    @property
    def size(self) -> int:
        """Bytes."""


M = TypeVar("M", bound=Sized)


class SizeLimit(Generic[M]):
    """The largest message that a broker takes."""

    def __init__(self) -> None:
        self.limit: int | None = None
        """Size from which on messages are too large, once that is known or suspected."""
        self.is_proven = False
        self._largest: int | None = None  # when the last connection ended soon
        self._held: list[M] = []

    def announce(self, limit: int) -> None:
        """Keep to what the broker says of itself."""
        self.limit, self.is_proven = limit, True

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
        """The suspected messages are not too large: return them, to be published again."""
        held, self._held = self._held, []
        self.limit = self._largest = None
        return held

    def take_smallest(self) -> M | None:
        """Return the smallest suspected message, to be put to the test."""
        if not self._held:
            return None
        smallest = min(self._held, key=lambda message: message.size)
        self._held.remove(smallest)
        return smallest

    def convict(self) -> list[M]:
        """A suspected message has ended a connection that lived: they are too large. Return the others."""
        held, self._held = self._held, []
        self.is_proven = True
        return held

    @property
    def is_on_trial(self) -> bool:
        """Whether a size is suspected and not proven."""
        return self.limit is not None and not self.is_proven
