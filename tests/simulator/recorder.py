"""Subscribing to all that is published, and waiting for it."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.subscriber import Subscriber as Recorder

__all__ = ["Recorder", "wait_for"]


def wait_for(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    """Wait until a condition is true, or fail."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not true after {timeout_s:g} s"
        time.sleep(0.01)
